//! Asking samples, and summing up what goes into the linear layers of each stage meanwhile.
//!
//! Every sample is first answered as a run answers it. Then its prompt and the tokens of its own answer that a run feeds back go
//! through the graphs once more, which sum their inputs up themselves. Layers whose matrices do not fit into the memory budget
//! together are looked at one pass after another, each over all samples; a pass ends at its last layer.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};

use super::CalibrationError;
use super::gram_file::{GramFile, GramPlace};
use crate::benchmark::{Benchmark, ImageStore, SampleImage};
use crate::engine::{Engine, EngineOptions, ImageGroup, ImageTiles, InputSums, OrtEngine, Request, Segment, StatisticsProbe};
use crate::package::{Package, Precision, StageName, Tap, tapped_stage, taps_of_stage};
use crate::prompt::Prompter;
use crate::run::{Plan, PlannedGroup, PreparedImages, PrompterStop, sample_segments};

/// Most memory for what the vision encoder made of images, which the passes over the language model take again.
const IMAGE_MEMORY_BYTES: usize = 1 << 30;

/// What to collect, and on what.
pub struct Collection<'a> {
    /// The benchmark.
    pub benchmark: &'a Benchmark,
    /// What is asked.
    pub plan: &'a Plan,
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
    /// Whether the inputs of this layer are wanted, and whether with `XᵀX`: given the stage and the weight's name.
    pub wanted: &'a dyn Fn(StageName, &str) -> Option<bool>,
    /// Matrices that are held in memory together, in bytes; the runtime holds as many again.
    pub gram_memory_bytes: u64,
    /// File for the matrices; made if any is wanted.
    pub gram_file: &'a Path,
    /// Set from a signal handler to end the work.
    pub stop: &'a AtomicBool,
    /// Told how many of all prompts are done, each pass counted.
    pub progress: &'a dyn Fn(usize, usize),
}

/// What went into some linear layers: those whose input is the same value.
#[derive(Clone, Debug, PartialEq)]
pub struct CalibrationInput {
    /// Names of their weights.
    pub weights: Vec<String>,
    /// Rows.
    pub rows: u64,
    /// Largest magnitude of each of the inputs.
    pub absolute_maximum: Vec<f32>,
    /// Mean square of each of the inputs.
    pub mean_square: Vec<f32>,
    /// `XᵀX / rows`, `[inputs, inputs]`.
    pub gram: Option<GramPlace>,
}

/// The sums of a collection.
#[derive(Clone, Debug, PartialEq)]
pub struct Collected {
    /// In the order of the flow.
    pub inputs: Vec<CalibrationInput>,
    /// Samples that were asked.
    pub samples: usize,
    /// SHA-256, hexadecimal, of the chosen samples' keys, each ended by a line feed.
    pub keys_sha256: String,
    /// What is wrong with samples that were left out, the first few.
    pub left_out: Vec<String>,
}

/// A group of samples with what is to go through the language model.
struct AskedGroup<'a> {
    images: &'a [SampleImage],
    prompts: Vec<Vec<Segment>>,
}

/// The layers of a stage that are looked at together.
struct Pass {
    stage: StageName,
    taps: Vec<(Tap, bool)>,
}

/// Collects what goes into the linear layers of an fp32 package of this program.
pub fn collect(package: &Package, options: &EngineOptions, collection: &Collection<'_>) -> Result<Collected, CalibrationError> {
    let benchmark = collection.benchmark;
    check_benchmark(benchmark)?;
    let passes = passes(package, collection)?;
    let prompter = Prompter::open(package)?;
    let options = EngineOptions { prepack: false, ..options.clone() };
    let mut engine = OrtEngine::load(package, &options)?;
    engine.remember_images(IMAGE_MEMORY_BYTES);

    let samples = collection.plan.samples();
    let mut meter = Meter { collection, done: 0, total: samples * (1 + passes.len()) };
    let mut left_out = Vec::new();
    let mut groups = Vec::with_capacity(collection.plan.groups.len());
    for group in &collection.plan.groups {
        meter.step(0)?;
        groups.push(ask(package, &mut engine, &prompter, collection, group, &mut left_out)?);
        meter.step(group.samples.len())?;
    }
    let asked = groups.iter().map(|group| group.prompts.len()).sum();
    if asked == 0 {
        let reason = left_out.into_iter().next().unwrap_or_else(|| "no sample was selected".to_owned());
        return Err(CalibrationError::NothingUsable { benchmark: benchmark.spec.name.clone(), samples, reason });
    }
    meter.total = samples + asked * passes.len();

    let any_gram = passes.iter().any(|pass| pass.taps.iter().any(|(_, gram)| *gram));
    let mut file = if any_gram { Some(GramFile::create(collection.gram_file)?) } else { None };
    let mut inputs = Vec::new();
    for pass in passes {
        let sums = run_pass(package, &mut engine, &options, &pass, &groups, &mut meter)?;
        for ((tap, _), sums) in pass.taps.into_iter().zip(sums) {
            let gram = match (&mut file, sums.gram.is_empty()) {
                (Some(file), false) => Some(file.append(&sums.gram, sums.rows)?),
                _ => None,
            };
            inputs.push(finished(tap, sums, gram));
        }
    }
    if let Some(file) = file {
        file.finish()?;
    }
    let mut keys = Sha256::new();
    for sample in collection.plan.sample_indices().filter_map(|index| benchmark.samples.get(index)) {
        keys.update(sample.key.as_bytes());
        keys.update(b"\n");
    }
    let keys_sha256 = keys.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Collected { inputs, samples: asked, keys_sha256, left_out })
}

/// Refuses benchmarks that have no questions for a LLaVA package.
pub(super) fn check_benchmark(benchmark: &Benchmark) -> Result<(), CalibrationError> {
    let reason = if benchmark.spec.only_scores() {
        "only scores answers that were made elsewhere"
    } else if benchmark.spec.compares_embeddings() {
        "compares embeddings of CLIP and has no questions"
    } else {
        return Ok(());
    };
    Err(CalibrationError::Unsuitable { benchmark: benchmark.spec.name.clone(), reason })
}

/// Which layers are looked at in which pass.
fn passes(package: &Package, collection: &Collection<'_>) -> Result<Vec<Pass>, CalibrationError> {
    let manifest = &package.manifest;
    if let Some(foreign) = &manifest.foreign {
        return Err(CalibrationError::Foreign { package: manifest.name.clone(), layout: foreign.layout.as_str().to_owned() });
    }
    let mut passes = Vec::new();
    for stage in StageName::ALL {
        let precision = match stage {
            StageName::Vision => manifest.precision.vision,
            StageName::Projector => manifest.precision.projector,
            StageName::Llm => manifest.precision.llm,
        };
        let mut wanted = Vec::new();
        for tap in taps_of_stage(package, stage)? {
            let of_weights: Vec<bool> = tap.weights.iter().filter_map(|weight| (collection.wanted)(stage, weight)).collect();
            if !of_weights.is_empty() {
                wanted.push((tap, of_weights.contains(&true)));
            }
        }
        if precision != Precision::Fp32 {
            let (package, precision) = (manifest.name.clone(), precision.as_str().to_owned());
            return Err(CalibrationError::Precision { package, stage: stage.as_str(), precision });
        }
        let mut used_bytes = 0;
        let mut pass = Pass { stage, taps: Vec::new() };
        for (tap, gram) in wanted {
            let bytes = if gram { 4 * (tap.width as u64).pow(2) } else { 0 };
            if used_bytes + bytes > collection.gram_memory_bytes && !pass.taps.is_empty() {
                passes.push(std::mem::replace(&mut pass, Pass { stage, taps: Vec::new() }));
                used_bytes = 0;
            }
            used_bytes += bytes;
            pass.taps.push((tap, gram));
        }
        if !pass.taps.is_empty() {
            passes.push(pass);
        }
    }
    Ok(passes)
}

/// Has the samples of a group answered, and gives what a run feeds the language model: each prompt and its own answer but the last
/// token, after which nothing is asked.
fn ask<'a>(
    package: &Package,
    engine: &mut OrtEngine,
    prompter: &Prompter,
    collection: &Collection<'a>,
    group: &'a PlannedGroup,
    left_out: &mut Vec<String>,
) -> Result<AskedGroup<'a>, CalibrationError> {
    let mut asked = AskedGroup { images: &group.images, prompts: Vec::new() };
    let prepared = match PreparedImages::of_group(&group.images, &ImageStore::default(), &package.manifest) {
        Ok(prepared) => prepared,
        Err(message) => {
            left_out.extend(group.samples.iter().map(|_| message.clone()));
            return Ok(asked);
        }
    };
    let stop = PrompterStop { prompter };
    let mut requests = Vec::with_capacity(group.samples.len());
    for sample in group.samples.iter().filter_map(|&index| collection.benchmark.samples.get(index)) {
        match sample_segments(prompter, sample) {
            Ok(segments) => requests.push(Request { segments, max_new_tokens: collection.max_new_tokens, stop: &stop }),
            Err(error) => left_out.push(format!("{}: {error}", sample.key)),
        }
    }
    let answer = engine.answer(&ImageGroup { images: &prepared.images, requests: &requests })?;
    for (request, answer) in requests.into_iter().zip(answer.answers) {
        match answer {
            Ok(generation) => {
                let mut segments = request.segments;
                let fed = generation.token_ids.split_last().map(|(_, fed)| fed.to_vec()).unwrap_or_default();
                segments.push(Segment::Tokens(fed));
                asked.prompts.push(segments);
            }
            Err(failure) => left_out.push(failure.to_string()),
        }
    }
    Ok(asked)
}

/// One pass over all samples.
fn run_pass(
    package: &Package,
    engine: &mut OrtEngine,
    options: &EngineOptions,
    pass: &Pass,
    groups: &[AskedGroup<'_>],
    meter: &mut Meter<'_>,
) -> Result<Vec<InputSums>, CalibrationError> {
    let taps: Vec<(&Tap, bool)> = pass.taps.iter().map(|(tap, gram)| (tap, *gram)).collect();
    let model = tapped_stage(package, pass.stage, &taps)?;
    let mut probe = StatisticsProbe::load(package, pass.stage, model, options)?;
    let store = ImageStore::default();
    for group in groups.iter().filter(|group| !group.prompts.is_empty()) {
        meter.step(0)?;
        let images = match PreparedImages::of_group(group.images, &store, &package.manifest) {
            Ok(prepared) => prepared.images,
            // It could be read a moment ago.
            Err(message) => {
                let (benchmark, samples) = (meter.collection.benchmark.spec.name.clone(), group.prompts.len());
                return Err(CalibrationError::NothingUsable { benchmark, samples, reason: message });
            }
        };
        match pass.stage {
            StageName::Vision => images.iter().try_for_each(|image| probe.vision(image.pixels.view()))?,
            StageName::Projector => project(engine, &mut probe, &images)?,
            StageName::Llm => {
                for prompt in &group.prompts {
                    probe.language(&engine.embedded_prompt(&images, prompt)?)?;
                }
            }
        }
        meter.step(group.prompts.len())?;
    }
    Ok(probe.finish())
}

fn project(engine: &mut OrtEngine, probe: &mut StatisticsProbe, images: &[ImageTiles]) -> Result<(), CalibrationError> {
    if !images.is_empty() {
        probe.projector(&engine.image_stages(images)?.features)?;
    }
    Ok(())
}

fn finished(tap: Tap, sums: InputSums, gram: Option<GramPlace>) -> CalibrationInput {
    let rows = sums.rows.max(1) as f64;
    CalibrationInput {
        weights: tap.weights,
        rows: sums.rows,
        absolute_maximum: sums.absolute_maximum,
        mean_square: sums.square_sum.into_iter().map(|sum| (sum / rows) as f32).collect(),
        gram,
    }
}

/// Counts prompts, and ends the work when the stop signal came.
struct Meter<'a> {
    collection: &'a Collection<'a>,
    done: usize,
    total: usize,
}

impl Meter<'_> {
    fn step(&mut self, prompts: usize) -> Result<(), CalibrationError> {
        if self.collection.stop.load(Ordering::Relaxed) {
            return Err(CalibrationError::Interrupted);
        }
        self.done += prompts;
        if prompts > 0 {
            (self.collection.progress)(self.done, self.total);
        }
        Ok(())
    }
}
