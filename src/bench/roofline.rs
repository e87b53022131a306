//! The limits of the machine, measured through the same runtime at the shapes of a package, and how near each test comes to them.

use serde::Serialize;

use super::cost::{Arithmetic, Cost, decode_cost, image_cost, packed_cost, prefill_cost};
use super::kernels::{BLOCK, linear_model, reading_model};
use super::measure::{CANDIDATE_TOKENS, CANDIDATES, SUFFIX_TOKENS, SYSTEM_TOKENS, picture};
use super::plan::Test;
use super::{BenchError, BenchResult, summarise};
use crate::engine::{EngineOptions, MeasuredModel};
use crate::export::StageShapes;
use crate::package::{GraphFlavor, Manifest, Precision, Quantisation, WeightQuantisation};

/// The speed of one kernel on one shape.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limit {
    /// Arithmetic by name.
    pub arithmetic: &'static str,
    /// Rows, inputs and outputs.
    pub shape: [usize; 3],
    /// Billions of operations a second, the best of several runs.
    pub giga_operations_per_second: f64,
}

/// What the machine can do.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Roofline {
    /// Kernels.
    pub limits: Vec<Limit>,
    /// Billions of bytes read a second.
    pub read_gigabytes_per_second: f64,
    /// How near each series comes: one for each series of the result for which costs can be counted.
    pub shares: Vec<Share>,
}

/// How near a series comes to the limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    /// Index of the package.
    pub package: usize,
    /// The test by name.
    pub test: String,
    /// Billions of operations.
    pub giga_operations: f64,
    /// The shortest time that the limits allow.
    pub floor_ms: f64,
    /// The part of it that is bound by reading memory, from 0 to 1.
    pub memory_bound: f64,
    /// That time as a share of the measured median.
    pub share: f64,
}

/// Fewest and most runs of a kernel, and the milliseconds that are enough.
const RUNS: (usize, usize) = (3, 30);
const ENOUGH_MS: f64 = 400.0;
/// Numbers of the tensor that is read: 256 MiB, well beyond any cache.
const READ_ROWS: usize = 4_096;
const READ_COLUMNS: usize = 16_384;

/// What a part reads less than stays in the caches from one run to the next, and does not count as read from memory: more than the
/// last level of most processors.
const CACHED_BYTES: f64 = (64_u64 << 20) as f64;

/// Numbers from -1 to 1 without a pattern.
fn numbers(count: usize) -> Vec<f32> {
    (0..count as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
}

/// The shortest of several runs, the first left out.
fn best_ms(model: &mut MeasuredModel) -> Result<f64, BenchError> {
    model.run()?;
    let (mut best, mut spent) = (f64::INFINITY, 0.0);
    for run in 0..RUNS.1 {
        let elapsed = model.run()?;
        (best, spent) = (best.min(elapsed), spent + elapsed);
        if run + 1 >= RUNS.0 && spent > ENOUGH_MS {
            break;
        }
    }
    Ok(best)
}

/// Measures kernels at the shapes of the stages, with a prefill of `rows` rows, in each arithmetic, and reading.
pub fn measure_limits(
    shapes: &StageShapes,
    rows: usize,
    arithmetics: &[Arithmetic],
    options: &EngineOptions,
) -> Result<Roofline, BenchError> {
    let (vision, llm) = (&shapes.vision, &shapes.llm);
    let sizes = [[vision.rows, vision.width, vision.wide], [rows, llm.hidden, llm.wide], [rows, llm.wide, llm.hidden]];
    let mut limits = Vec::new();
    for &arithmetic in arithmetics {
        for shape in sizes {
            let [rows, inputs, outputs] = shape;
            let model = linear_model(arithmetic, inputs, outputs)?;
            let mut model = MeasuredModel::load(options, &model, &[rows, inputs], numbers(rows * inputs))?;
            let operations = 2.0 * shape.map(|size| size as f64).iter().product::<f64>();
            let giga_operations_per_second = operations / best_ms(&mut model)? / 1e6;
            limits.push(Limit { arithmetic: arithmetic.as_str(), shape, giga_operations_per_second });
        }
    }
    let reading = reading_model(READ_COLUMNS)?;
    let mut reading = MeasuredModel::load(options, &reading, &[READ_ROWS, READ_COLUMNS], numbers(READ_ROWS * READ_COLUMNS))?;
    let bytes = (READ_ROWS * READ_COLUMNS * 4) as f64;
    let read_gigabytes_per_second = bytes / best_ms(&mut reading)? / 1e6;
    Ok(Roofline { limits, read_gigabytes_per_second, shares: Vec::new() })
}

/// Arithmetic and block size of vision, projector, language model and head.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Kinds([(Arithmetic, usize); 4]);

impl Kinds {
    fn of(manifest: &Manifest) -> Self {
        let standard = manifest.llm.flavor == GraphFlavor::Standard.as_str();
        let kind = |precision: Precision, record: Option<&WeightQuantisation>| {
            let arithmetic = match precision {
                Precision::Int8 => Arithmetic::Int8,
                // Standard operators widen blocks before they multiply.
                Precision::Int8Weights | Precision::Int4 if standard => Arithmetic::Fp32,
                Precision::Int8Weights => Arithmetic::Int8Weights,
                Precision::Int4 => Arithmetic::Int4,
                _ => Arithmetic::Fp32,
            };
            (arithmetic, record.and_then(|record| record.block_size).unwrap_or(BLOCK))
        };
        let none = Quantisation::default();
        let record = manifest.quantisation.as_ref().unwrap_or(&none);
        let head = record.head.as_ref().map_or(Precision::Fp32, |head| head.scheme);
        Self([
            kind(manifest.precision.vision, record.vision.as_ref()),
            kind(manifest.precision.projector, record.projector.as_ref()),
            kind(manifest.precision.llm, record.llm.as_ref()),
            kind(head, record.head.as_ref()),
        ])
    }
}

/// The arithmetics that some packages are multiplied in, 32 bits always among them.
pub fn arithmetics<'a>(manifests: impl Iterator<Item = &'a Manifest>) -> Vec<Arithmetic> {
    let mut all = vec![Arithmetic::Fp32];
    all.extend(manifests.flat_map(|manifest| Kinds::of(manifest).0.map(|(arithmetic, _)| arithmetic)));
    all.sort_unstable();
    all.dedup();
    all
}

impl Roofline {
    /// The fastest kernel of an arithmetic, in operations a millisecond.
    fn peak(&self, arithmetic: Arithmetic) -> f64 {
        let found = self.limits.iter().filter(|limit| limit.arithmetic == arithmetic.as_str());
        found.map(|limit| limit.giga_operations_per_second).fold(f64::NAN, f64::max) * 1e6
    }

    /// The shortest time of a part, and how much of it memory alone would take.
    fn floor(&self, cost: &Cost, linear: (Arithmetic, usize), head: (Arithmetic, usize)) -> Floor {
        let mut compute_ms = cost.linear / self.peak(linear.0) + cost.attention / self.peak(Arithmetic::Fp32);
        if cost.head > 0.0 {
            compute_ms += cost.head / self.peak(head.0);
        }
        let bytes = cost.linear_weights * linear.0.weight_bytes(linear.1)
            + cost.head_weights * head.0.weight_bytes(head.1)
            + cost.cache_bytes;
        let memory_ms = if bytes > CACHED_BYTES { bytes / (self.read_gigabytes_per_second * 1e6) } else { 0.0 };
        let ms = compute_ms.max(memory_ms);
        Floor { ms, memory_ms: if memory_ms > compute_ms { ms } else { 0.0 }, operations: cost.operations() }
    }

    fn floor_of(&self, test: &Test, shapes: &StageShapes, manifest: &Manifest) -> Result<Floor, BenchError> {
        let Kinds([vision, projector, llm, head]) = Kinds::of(manifest);
        let (encoder_cost, projector_cost) = image_cost(shapes);
        let (tiles, image_rows) = picture(manifest)?;
        let image = || {
            let once = self.floor(&encoder_cost, vision, head).plus(self.floor(&projector_cost, projector, head));
            once.times(tiles as f64)
        };
        let language = |cost: Cost| self.floor(&cost, llm, head);
        let model = &shapes.llm;
        let prefix = SYSTEM_TOKENS + image_rows;
        Ok(match *test {
            Test::Image => image(),
            Test::Prefill { tokens } => language(prefill_cost(model, 0, tokens, 1)),
            Test::Decode { tokens, depth, rows } => {
                let steps = (0..tokens).map(|step| language(decode_cost(model, depth + step + 1, rows)));
                steps.fold(Floor::default(), Floor::plus)
            }
            Test::Questions { questions, new_tokens } => {
                let prompt = if questions == 1 {
                    language(prefill_cost(model, 0, prefix + SUFFIX_TOKENS, 1))
                } else {
                    let suffixes = packed_cost(model, prefix, SUFFIX_TOKENS, questions, questions);
                    language(prefill_cost(model, 0, prefix, 1)).plus(language(suffixes))
                };
                let seen = prefix + SUFFIX_TOKENS;
                let steps = (1..new_tokens).map(|step| language(decode_cost(model, seen + step, questions)));
                steps.fold(image().plus(prompt), Floor::plus)
            }
            Test::Score { questions } => {
                let own = SUFFIX_TOKENS + CANDIDATES * (CANDIDATE_TOKENS - 1);
                let logits = questions * (1 + CANDIDATES * (CANDIDATE_TOKENS - 1));
                let suffixes = packed_cost(model, prefix, own, questions, logits);
                image().plus(language(prefill_cost(model, 0, prefix, 1))).plus(language(suffixes))
            }
        })
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Floor {
    ms: f64,
    memory_ms: f64,
    operations: f64,
}

impl Floor {
    fn plus(self, other: Self) -> Self {
        Self {
            ms: self.ms + other.ms,
            memory_ms: self.memory_ms + other.memory_ms,
            operations: self.operations + other.operations,
        }
    }

    fn times(self, factor: f64) -> Self {
        Self { ms: self.ms * factor, memory_ms: self.memory_ms * factor, operations: self.operations * factor }
    }
}

/// How near each series of some packages comes to the limits; `packages` gives shapes and manifest by index.
pub fn shares(
    roofline: &Roofline,
    result: &BenchResult,
    packages: &[Option<(StageShapes, Manifest)>],
) -> Result<Vec<Share>, BenchError> {
    let mut all = Vec::new();
    for series in &result.series {
        let Some(Some((shapes, manifest))) = packages.get(series.package) else { continue };
        let Some(summary) = summarise(&series.test, &series.samples_ms) else { continue };
        let floor = roofline.floor_of(&series.test, shapes, manifest)?;
        all.push(Share {
            package: series.package,
            test: series.test.name(),
            giga_operations: floor.operations / 1e9,
            floor_ms: floor.ms,
            memory_bound: floor.memory_ms / floor.ms,
            share: floor.ms / summary.median_ms,
        });
    }
    Ok(all)
}
