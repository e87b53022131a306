//! Whether a GPU's attention computes what the processor's does, tried at load on a small graph of the package's own attention.
//!
//! Packing rests on two things that a kernel may get wrong or refuse: positions that restart in a run, and a bias that decides who
//! sees whom. The same few rows run on the processor in 32 bits and on the provider in its own number type: first as one plain
//! sequence, then as a pack over a prefix, and then two sequences of different lengths side by side, each time in several runs on one
//! cache that is written in place.

use std::ops::Range;

use ort::session::{IoBinding, Session};
use ort::value::{DynTensor, Tensor};

use super::device::Place;
use super::options::EngineOptions;
use super::plan::write_bias;
use super::provider::ProviderOptions;
use super::row_copier::RowCopier;
use super::runtime::Loaded;
use super::session::{runtime_error, small_session};
use super::types::EngineError;
use crate::package::{AttentionProbe, Compute, LanguageModelStage, Manifest, TensorDtype};

/// Rows of the trial's cache.
const CAPACITY: usize = 32;
/// Largest accepted difference, as a share of the largest number. Turning queries and keys rounds them, by 5e-4 in fp16 and 4e-3 in
/// bf16, which moves a score of 5 by about as much a share of 1 and an output by less; a row that is seen or hidden wrongly moves
/// outputs by a tenth and more.
const LIMIT_FP16: f32 = 2e-2;
const LIMIT_BF16: f32 = 5e-2;
/// Sums in another order.
const LIMIT_32_BITS: f32 = 1e-4;

/// What was found: each is well, or the end of a sentence that begins with what was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Findings {
    /// One sequence, and a token after it.
    pub plain: Result<(), String>,
    /// Two questions packed over a prefix, and a token of each after it. Not tried if the first was not well.
    pub packed: Result<(), String>,
    /// Two sequences of different lengths that grow side by side. Not tried if the first was not well.
    pub batched: Result<(), String>,
}

/// What follows from it: why questions run one by one, and why sequences do not decode side by side; `None` if they can.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub not_packed: Option<String>,
    pub not_batched: Option<String>,
}

/// A row of a run.
struct TrialRow {
    /// Says which numbers it has.
    key: usize,
    position: i64,
    visible: Vec<Range<usize>>,
}

/// A run of the trial: one sequence, or a row each of several.
struct TrialRun {
    rows: Vec<TrialRow>,
    /// Rows of each sequence after the run, less one.
    last: Vec<usize>,
    /// Rows of the cache that the bias speaks of.
    total: usize,
}

/// Rows of the prefix that the pack stands on.
const PREFIX: usize = 6;

fn row(position: usize, visible: &[Range<usize>]) -> TrialRow {
    // The last row that it sees is itself.
    let key = visible.last().map_or(0, |range| range.end);
    TrialRow { key, position: position as i64, visible: visible.to_vec() }
}

/// A run of one sequence on top of `past` rows.
fn single(past: usize, rows: Vec<TrialRow>) -> TrialRun {
    let total = past + rows.len();
    TrialRun { rows, last: vec![total.saturating_sub(1)], total }
}

/// One sequence, and a token after it.
fn plain_runs() -> [TrialRun; 2] {
    let rows = (0..PREFIX).map(|index| row(index, std::slice::from_ref(&(0..index + 1))));
    [single(0, rows.collect()), single(PREFIX, vec![row(PREFIX, std::slice::from_ref(&(0..PREFIX + 1)))])]
}

/// Questions of three and of two rows over the prefix, and a token of each.
fn packed_runs() -> [TrialRun; 2] {
    let question =
        |start: usize, rows: usize| (0..rows).map(move |index| row(PREFIX + index, &[0..PREFIX, start..start + index + 1]));
    let suffixes = question(PREFIX, 3).chain(question(PREFIX + 3, 2)).collect();
    let step = vec![
        row(PREFIX + 3, &[0..PREFIX, PREFIX..PREFIX + 3, PREFIX + 5..PREFIX + 6]),
        row(PREFIX + 2, &[0..PREFIX, PREFIX + 3..PREFIX + 5, PREFIX + 6..PREFIX + 7]),
    ];
    [single(PREFIX, suffixes), single(PREFIX + 5, step)]
}

/// A sequence that grows, and beside it one that begins two runs later; until then, its slot runs its first row over and over. The
/// bias speaks of more rows than either has.
fn batched_runs() -> Vec<TrialRun> {
    let run = |step: usize| {
        let lengths = [step, step.saturating_sub(2)];
        let rows = lengths.iter().enumerate().map(|(sequence, &length)| TrialRow {
            key: 100 * (sequence + 1) + length,
            position: length as i64,
            visible: std::iter::once(0..length + 1).collect(),
        });
        TrialRun { rows: rows.collect(), last: lengths.to_vec(), total: 8 }
    };
    (0..5).map(run).collect()
}

/// A number from -4 to 4 that 16 bits hold exactly, without a pattern.
fn number(place: usize) -> f32 {
    let mixed = (place as u32).wrapping_add(1).wrapping_mul(2_654_435_761) >> 16;
    (mixed % 129) as f32 / 16.0 - 4.0
}

/// The graph on a provider, with its cache.
struct Trial {
    probe: AttentionProbe,
    session: Session,
    binding: IoBinding,
    place: Place,
    /// Sequences.
    batch: usize,
    /// Keeps the buffers that are bound.
    _cache: Vec<DynTensor>,
}

const DOING: &str = "trying the attention of the language model";

fn failed<R>(error: ort::Error<R>) -> EngineError {
    runtime_error(DOING)(error)
}

impl Trial {
    fn new(
        runtime: &Loaded,
        stage: &LanguageModelStage,
        compute: Option<Compute>,
        options: &EngineOptions,
        batch: usize,
    ) -> Result<Self, EngineError> {
        let probe = AttentionProbe::new(stage, compute)
            .map_err(|error| EngineError::Runtime { doing: DOING.to_owned(), message: error.to_string() })?;
        let session = small_session(runtime, options, "the graph that tries attention", &probe.bytes)?;
        let place = Place::of(&options.provider);
        let mut binding = session.create_binding().map_err(failed)?;
        let dtype = compute.map_or(TensorDtype::F32, Compute::dtype);
        let mut cache = Vec::with_capacity(2);
        // The processor's memory is given out as zeros.
        let tiny = LanguageModelStage { key_value_heads: probe.key_value_heads, compute, ..stage.clone() };
        let mut copier = if place.is_gpu() { RowCopier::new(runtime, &tiny, options).ok() } else { None };
        for part in ["key", "value"] {
            let shape = [batch, probe.key_value_heads, CAPACITY, probe.head_size];
            let mut buffer = place.tensor(&session, dtype, &shape).map_err(failed)?;
            if let Some(copier) = &mut copier {
                copier.clear(&mut buffer, shape)?;
            }
            binding.bind_input(format!("past_{part}"), &buffer).map_err(failed)?;
            binding.bind_output(format!("present_{part}"), &mut buffer).map_err(failed)?;
            cache.push(buffer);
        }
        Ok(Self { probe, session, binding, place, batch, _cache: cache })
    }

    /// Runs some rows and gives what they attended to, `[rows, heads · head_size]`.
    fn run(&mut self, run: &TrialRun) -> Result<Vec<f32>, EngineError> {
        let (batch, total) = (self.batch, run.total);
        let rows = run.rows.len() / batch.max(1);
        let widths = [self.probe.heads, self.probe.key_value_heads, self.probe.key_value_heads];
        for (part, (name, heads)) in ["query", "key", "value"].into_iter().zip(widths).enumerate() {
            let width = heads * self.probe.head_size;
            let of = |row: &TrialRow| {
                let first = (3 * row.key + part) * width;
                (first..first + width).map(number).collect::<Vec<f32>>()
            };
            let values: Vec<f32> = run.rows.iter().flat_map(of).collect();
            let value = Tensor::from_array(([batch, rows, width], values)).map_err(failed)?;
            self.binding.bind_input(name, &value).map_err(failed)?;
        }
        let positions: Vec<i64> = run.rows.iter().map(|row| row.position).collect();
        let mut bias = vec![0.0; run.rows.len() * total];
        for (bias, row) in bias.chunks_exact_mut(total.max(1)).zip(&run.rows) {
            write_bias(bias, &row.visible);
        }
        // A few rows.
        let count = i32::try_from(total).unwrap_or(i32::MAX);
        let positions = Tensor::from_array(([batch, rows], positions)).map_err(failed)?;
        let bias = Tensor::from_array(([batch, 1, rows, total], bias)).map_err(failed)?;
        let last = run.last.iter().map(|&last| i32::try_from(last).unwrap_or(i32::MAX)).collect::<Vec<i32>>();
        let lengths = Tensor::from_array(([batch], last)).map_err(failed)?;
        let count = Tensor::from_array(([0_usize; 0], vec![count])).map_err(failed)?;
        self.binding.bind_input("position_ids", &positions).map_err(failed)?;
        self.binding.bind_input("attention_bias", &bias).map_err(failed)?;
        self.binding.bind_input("seqlens_k", &lengths).map_err(failed)?;
        self.binding.bind_input("total_sequence_length", &count).map_err(failed)?;
        let shape = [batch, rows, self.probe.heads * self.probe.head_size];
        let mut attended = Place::HOST.tensor(&self.session, TensorDtype::F32, &shape).map_err(failed)?;
        self.binding.bind_output("attended", &mut attended).map_err(failed)?;
        if self.place.is_gpu() {
            self.binding.synchronize_inputs().map_err(failed)?;
        }
        drop(self.session.run_binding(&self.binding).map_err(failed)?);
        Ok(attended.try_extract_tensor::<f32>().map_err(failed)?.1.to_vec())
    }
}

/// The largest difference as a share of the largest number expected; infinite where a number is not one.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    if found.len() != expected.len() || found.iter().any(|value| !value.is_finite()) {
        return f32::INFINITY;
    }
    let largest = expected.iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    found.iter().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max) / largest
}

fn limit(compute: Option<Compute>) -> f32 {
    match compute {
        None => LIMIT_32_BITS,
        Some(Compute::Fp16) => LIMIT_FP16,
        Some(Compute::Bf16) => LIMIT_BF16,
    }
}

/// Tries the attention of a language model under `options` against the processor.
pub(super) fn examine(runtime: &Loaded, stage: &LanguageModelStage, options: &EngineOptions) -> Result<Findings, EngineError> {
    let host = EngineOptions { provider: ProviderOptions::default(), ..options.clone() };
    let pair = |batch: usize| -> Result<Pair, EngineError> {
        let reference = Trial::new(runtime, stage, None, &host, batch)?;
        Ok(Pair { reference, subject: Trial::new(runtime, stage, stage.compute, options, batch), limit: limit(stage.compute) })
    };
    let mut alone = pair(1)?;
    let plain = alone.agree(&plain_runs())?;
    if plain.is_err() {
        return Ok(Findings { plain, packed: Ok(()), batched: Ok(()) });
    }
    Ok(Findings { plain, packed: alone.agree(&packed_runs())?, batched: pair(2)?.agree(&batched_runs())? })
}

/// The processor and the provider, side by side.
struct Pair {
    reference: Trial,
    subject: Result<Trial, EngineError>,
    limit: f32,
}

impl Pair {
    /// Whether both say the same of some runs, or how not.
    fn agree(&mut self, runs: &[TrialRun]) -> Result<Result<(), String>, EngineError> {
        let limit = self.limit;
        for run in runs {
            let expected = self.reference.run(run)?;
            let found = match &mut self.subject {
                Ok(subject) => subject.run(run),
                Err(error) => return Ok(Err(format!("cannot be run ({})", first_line(&error.to_string())))),
            };
            match found.map(|found| difference(&found, &expected)) {
                Ok(off) if off <= limit => {}
                Ok(off) => {
                    return Ok(Err(format!("gives other numbers than the processor (off by {off:.0e}, limit {limit:.0e})")));
                }
                Err(error) => return Ok(Err(format!("fails ({})", first_line(&error.to_string())))),
            }
        }
        Ok(Ok(()))
    }
}

/// Tries the attention of a package where that is needed: the fused operator on a GPU. An error if it cannot be used at all.
pub(super) fn verdict(runtime: &Loaded, manifest: &Manifest, options: &EngineOptions) -> Result<Verdict, EngineError> {
    let provider = options.provider.provider;
    if !provider.is_gpu() || manifest.llm.flavor != "contrib" {
        return Ok(Verdict::default());
    }
    let findings = examine(runtime, &manifest.llm, options)?;
    decide(&findings, &manifest.llm, provider.as_str())
        .map_err(|reason| EngineError::Provider { provider: provider.as_str(), reason })
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    // ONNX Runtime names source files and the node first; what it has to say comes last.
    let line = line.rsplit_once("Status Message: ").map_or(line, |(_, message)| message);
    line.chars().take(200).collect()
}

/// What follows, or why the package cannot be used on this provider at all.
pub(super) fn decide(findings: &Findings, stage: &LanguageModelStage, provider: &str) -> Result<Verdict, String> {
    let compute = stage.compute.map_or("fp32", Compute::as_str);
    if let Err(what) = &findings.plain {
        return Err(format!(
            "its grouped-query attention in {compute} {what} on {provider}, tried on a small graph at load: export the checkpoint with \
             --flavor standard, or run this package with --provider cpu"
        ));
    }
    let told = |what: &Result<(), String>, kind: &str, follows: &str| {
        what.as_ref().err().map(|what| {
            format!(
                "{kind} {what} on {provider}, tried at load, and a plain sequence is well: {follows}; a package that was exported with \
                 --flavor standard may do better"
            )
        })
    };
    Ok(Verdict {
        not_packed: told(&findings.packed, "a pack of questions", "each question runs alone"),
        not_batched: told(&findings.batched, "a batch of sequences", "questions of different images do not decode together"),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::runtime;
    use super::*;
    use crate::package::Package;

    fn stage(heads: usize, key_value_heads: usize, head_size: usize, compute: Option<Compute>) -> LanguageModelStage {
        let package = Package::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engine/tiny")).unwrap();
        LanguageModelStage { attention_heads: heads, key_value_heads, head_size, compute, ..package.manifest.llm }
    }

    fn loaded() -> &'static Loaded {
        runtime::load(&Default::default(), &mut |_| {}).unwrap()
    }

    #[test]
    fn the_processor_agrees_with_itself_in_16_bits() {
        for (heads, key_value_heads, head_size) in [(2, 1, 16), (14, 2, 64), (32, 32, 128), (32, 8, 128)] {
            for compute in [None, Some(Compute::Fp16)] {
                let stage = stage(heads, key_value_heads, head_size, compute);
                let findings = examine(loaded(), &stage, &EngineOptions::default()).unwrap();
                let well = Findings { plain: Ok(()), packed: Ok(()), batched: Ok(()) };
                assert_eq!(findings, well, "{heads} {key_value_heads} {head_size} {compute:?}");
                assert_eq!(decide(&findings, &stage, "cuda"), Ok(Verdict::default()));
            }
        }
    }

    /// The limits would be worth nothing if an ignored bias, or positions that count on, stayed within them.
    #[test]
    fn a_kernel_that_ignores_the_bias_or_the_positions_is_found() {
        let stage = stage(14, 2, 64, Some(Compute::Fp16));
        let options = EngineOptions::default();
        let mut reference = Trial::new(loaded(), &stage, None, &options, 1).unwrap();
        let mut subject = Trial::new(loaded(), &stage, stage.compute, &options, 1).unwrap();
        let mut off = |spoil: &dyn Fn(&mut TrialRow, usize)| {
            let [prefix, _] = plain_runs();
            let mut worst = 0.0_f32;
            for (index, mut run) in [prefix].into_iter().chain(packed_runs()).enumerate() {
                let expected = reference.run(&run).unwrap();
                let past = run.total - run.rows.len();
                if index > 0 {
                    run.rows.iter_mut().enumerate().for_each(|(row, spoiled)| spoil(spoiled, past + row));
                }
                worst = worst.max(difference(&subject.run(&run).unwrap(), &expected));
            }
            worst
        };
        assert!(off(&|_, _| {}) <= LIMIT_FP16);
        let ignored_bias = off(&|row, place| row.visible = std::iter::once(0..place + 1).collect());
        let counted_on = off(&|row, place| row.position = place as i64);
        assert!(ignored_bias > 2.0 * LIMIT_BF16, "{ignored_bias}");
        assert!(counted_on > 2.0 * LIMIT_BF16, "{counted_on}");
    }

    #[test]
    fn a_number_that_is_none_is_a_difference() {
        assert_eq!(difference(&[1.0, f32::NAN], &[1.0, 2.0]), f32::INFINITY);
        assert_eq!(difference(&[1.0], &[1.0, 2.0]), f32::INFINITY);
        assert_eq!(difference(&[1.0, 1.5], &[1.0, 2.0]), 0.25);
    }

    #[test]
    fn what_was_found_decides() {
        let stage = stage(32, 32, 128, Some(Compute::Fp16));
        let bad = || Err("fails (attention_bias is not supported)".to_owned());
        let refused = decide(&Findings { plain: bad(), packed: Ok(()), batched: Ok(()) }, &stage, "cuda").unwrap_err();
        for part in ["in fp16 fails (attention_bias is not supported) on cuda", "--flavor standard", "--provider cpu"] {
            assert!(refused.contains(part), "{refused}");
        }
        let one = decide(&Findings { plain: Ok(()), packed: bad(), batched: Ok(()) }, &stage, "cuda").unwrap();
        let other = decide(&Findings { plain: Ok(()), packed: Ok(()), batched: bad() }, &stage, "cuda").unwrap();
        assert_eq!((&one.not_batched, &other.not_packed), (&None, &None));
        for (reason, follows) in [(one.not_packed, "each question runs alone"), (other.not_batched, "do not decode together")] {
            let reason = reason.unwrap();
            for part in ["fails (attention_bias is not supported) on cuda", follows, "--flavor standard"] {
                assert!(reason.contains(part), "{reason}");
            }
        }
    }

    /// A graph that the provider cannot even load is a finding and no error: bf16 has no kernels on a processor.
    #[test]
    fn a_graph_that_cannot_be_loaded_is_a_finding() {
        let stage = stage(2, 1, 16, Some(Compute::Bf16));
        let findings = examine(loaded(), &stage, &EngineOptions::default()).unwrap();
        let text = findings.plain.unwrap_err();
        assert!(text.starts_with("cannot be run ("), "{text}");
    }
}
