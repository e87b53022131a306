//! Replays a package's parity fixture: what the reference (transformers, fp32, eager) made of some images and prompts,
//! stage by stage, against what this program makes of them.
//!
//! Graph stages are fed the reference's own pixels and tokens, so that each stage's error is its own; the greedy tokens
//! are generated freely from our own preprocessing, as a user would get them.
//!
//! Tensors of case `n`, all named `case.{n}.…`:
//!
//! | tensor | type | shape |
//! | --- | --- | --- |
//! | `image_file.{i}` | u8 | bytes of image file `i` |
//! | `pixel_values` | f32 | `[tiles, 3, side, side]`, the tiles of all images in order, each image's whole view first |
//! | `features` | f32 | `[tiles, tokens_per_image, hidden_size]`, the vision tower's selected rows |
//! | `image_embeds` | f32 | `[tiles, tokens_per_image, output_size]`, the projector's rows; of a package that tiles its images |
//! | | | `[1, rows, output_size]`, the rows of all images as they stand in the prompt, merged and with newline rows |
//! | `input_ids` | i64 | the prompt, image rows included |
//! | `logits` | f32 | `[steps, vocabulary_size]` |
//! | `token_ids` | i64 | the greedy answer, a final end-of-sequence token included |

use std::path::Path;

use ndarray::{Array2, Array3, Array4, ArrayView, Dimension};
use serde::{Deserialize, Serialize};

use super::conductor::{PrompterStop, segments};
use super::error::RunError;
use super::images::PreparedImages;
use super::verify_provider::computed_precisions;
use crate::engine::{Engine, ImageGroup, ImageTiles, LoadedEngine, Request};
use crate::package::{Package, Precision, TensorFile};
use crate::prompt::Prompter;

/// Name of the fixture inside a package.
pub(super) const FIXTURE: &str = "parity.safetensors";
/// Largest accepted logit error. fp32 graphs of the same weights differ by rounding order only, about 1e-5 on logits of
/// order 10; 1e-3 is far below any argmax margin that matters and far above that noise.
pub(super) const LOGIT_LIMIT: f64 = 1e-3;
/// Largest accepted logit error of a package whose weights have fewer bits, as the norm of the difference over the reference's: the
/// largest limit of its precisions. Such a package is not the reference, so these say only that nothing is broken: about three times
/// what the small trained packages show, and far below the error of about 1 that a wrong scale or order of numbers makes. Greedy
/// tokens are then counted, but need not be equal. `None` where all is in 32 bits, and for precisions that only other programs write.
pub(super) fn relative_limit(precisions: &[Precision]) -> Option<f64> {
    let limit = |precision: &Precision| match precision {
        Precision::Fp32 => Some(0.0),
        Precision::Fp16 => Some(0.01),
        Precision::Bf16 => Some(0.05),
        Precision::Int8Weights => Some(0.1),
        Precision::Int8 => Some(0.2),
        Precision::Int4 => Some(0.6),
        _ => None,
    };
    let largest = precisions.iter().map(limit).try_fold(0.0, |largest: f64, limit| Some(largest.max(limit?)))?;
    (largest > 0.0).then_some(largest)
}

/// Smallest accepted share of pixel values within one grey level: JPEG decoders may round differently.
pub(super) const PIXELS_LIMIT: f64 = 0.999;
/// Rounding slack when a difference of exactly one grey level is computed from normalised f32 values.
const LEVEL_SLACK: f64 = 1e-5;

/// Difference between a stage's output and the reference's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct StageDifference {
    /// Largest absolute difference.
    pub max_absolute: f64,
    /// Euclidean norm of the difference over that of the reference.
    pub relative: f64,
}

impl StageDifference {
    /// The difference of two arrays of one shape.
    pub(super) fn between<D: Dimension>(own: ArrayView<'_, f32, D>, reference: ArrayView<'_, f32, D>) -> Self {
        let (mut max_absolute, mut squares, mut reference_squares) = (0.0_f64, 0.0, 0.0);
        for (own, reference) in own.iter().zip(reference.iter()) {
            let (own, reference) = (f64::from(*own), f64::from(*reference));
            let difference = (own - reference).abs();
            // A NaN must show as the worst difference, not vanish in a maximum.
            max_absolute = if difference.is_nan() { f64::INFINITY } else { max_absolute.max(difference) };
            squares += difference * difference;
            reference_squares += reference * reference;
        }
        Self { max_absolute, relative: (squares / reference_squares.max(f64::MIN_POSITIVE)).sqrt() }
    }

    /// The larger of both in each of the two measures. An error that is no number is the largest.
    pub(super) fn worse(self, other: Self) -> Self {
        let larger = |left: f64, right: f64| if left.is_nan() || right.is_nan() { f64::NAN } else { left.max(right) };
        Self { max_absolute: larger(self.max_absolute, other.max_absolute), relative: larger(self.relative, other.relative) }
    }
}

/// One case of the fixture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CaseReport {
    /// Name of the case.
    pub name: String,
    /// Preprocessed pixels, in normalised units.
    pub pixels: StageDifference,
    /// Share of pixel values within one grey level of the reference.
    pub pixels_within_one_level: f64,
    /// Vision features from the reference's pixels; `None` where the projector is inside the vision graph.
    pub features: Option<StageDifference>,
    /// Projected rows from the reference's pixels, merged where images are tiled.
    pub image_embeds: StageDifference,
    /// Logits of every step, the reference's tokens given.
    pub logits: StageDifference,
    /// Whether the prompt's token ids are the reference's.
    pub prompt_tokens_equal: bool,
    /// Tokens of the reference's greedy answer.
    pub tokens: usize,
    /// How many of them our own greedy answer repeats, position by position.
    pub tokens_equal: usize,
}

/// The whole fixture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VerifyReport {
    /// Format version, now 1.
    pub format: u32,
    /// Package name.
    pub package: String,
    /// What the reference was.
    pub reference: String,
    /// Whether tokens and prompts are all equal and errors within their limits.
    pub passed: bool,
    /// Tokens of all reference answers.
    pub tokens: usize,
    /// How many were repeated.
    pub tokens_equal: usize,
    /// Largest logit error of any case.
    pub max_logit_error: f64,
    /// Its limit.
    pub max_logit_error_limit: f64,
    /// Largest relative logit error of any case.
    pub relative_logit_error: f64,
    /// Its limit, which takes the place of equal tokens and of the other limit where weights have fewer bits.
    pub relative_logit_error_limit: Option<f64>,
    /// Smallest share of pixel values within one grey level of any case.
    pub pixels_within_one_level: f64,
    /// Its limit.
    pub pixels_limit: f64,
    /// Case by case.
    pub cases: Vec<CaseReport>,
}

#[derive(Deserialize)]
struct FixtureHeader {
    format: u32,
    reference: String,
    cases: Vec<FixtureCase>,
}

#[derive(Deserialize)]
struct FixtureCase {
    name: String,
    prompt: String,
    max_new_tokens: usize,
    images: usize,
}

/// Replays the fixture of `package`, or that of the package in the folder `reference`, which is then of the same checkpoint.
pub fn verify_package(
    package: &Package,
    reference: Option<&Path>,
    prompter: &Prompter,
    engine: &mut LoadedEngine,
) -> Result<VerifyReport, RunError> {
    let path = reference.unwrap_or(&package.root).join(FIXTURE);
    let fixture = Fixture::open(&path)?;
    let mut cases = Vec::with_capacity(fixture.header.cases.len());
    for index in 0..fixture.header.cases.len() {
        cases.push(verify_case(&fixture, index, package, prompter, engine)?);
    }
    let tokens = cases.iter().map(|case| case.tokens).sum();
    let tokens_equal = cases.iter().map(|case| case.tokens_equal).sum();
    let max_logit_error = cases.iter().map(|case| case.logits.max_absolute).fold(0.0, f64::max);
    let relative_logit_error = cases.iter().map(|case| case.logits.relative).fold(0.0, f64::max);
    let pixels_within_one_level = cases.iter().map(|case| case.pixels_within_one_level).fold(1.0, f64::min);
    let precision = package.manifest.precision;
    let mut precisions = vec![precision.vision, precision.projector, precision.llm];
    precisions.extend(package.manifest.quantisation.iter().flat_map(|record| record.parts().map(|(_, part)| part.scheme)));
    precisions.extend(package.manifest.quantisation.iter().filter_map(|record| record.embedding));
    precisions.extend(computed_precisions(&engine.options().provider));
    let relative_logit_error_limit = relative_limit(&precisions);
    let near = match relative_logit_error_limit {
        // Written so that an error that is no number does not pass.
        Some(limit) => relative_logit_error < limit && max_logit_error.is_finite(),
        None => tokens == tokens_equal && max_logit_error < LOGIT_LIMIT,
    };
    Ok(VerifyReport {
        format: 1,
        package: package.manifest.name.clone(),
        passed: near && cases.iter().all(|case| case.prompt_tokens_equal) && pixels_within_one_level >= PIXELS_LIMIT,
        reference: fixture.header.reference.clone(),
        tokens,
        tokens_equal,
        max_logit_error,
        max_logit_error_limit: LOGIT_LIMIT,
        relative_logit_error,
        relative_logit_error_limit,
        pixels_within_one_level,
        pixels_limit: PIXELS_LIMIT,
        cases,
    })
}

fn verify_case(
    fixture: &Fixture<'_>,
    index: usize,
    package: &Package,
    prompter: &Prompter,
    engine: &mut LoadedEngine,
) -> Result<CaseReport, RunError> {
    let case = &fixture.header.cases[index];
    let reference_pixels: Array4<f32> = fixture.floats(index, "pixel_values")?;
    let reference_ids = fixture.integers(index, "input_ids")?;
    let reference_tokens: Vec<u32> = fixture
        .integers(index, "token_ids")?
        .into_iter()
        .map(|id| u32::try_from(id).map_err(|_| fixture.broken(format!("case {index}: token id {id} is negative"))))
        .collect::<Result<_, _>>()?;

    let files: Vec<&[u8]> =
        (0..case.images).map(|image| fixture.bytes(index, &format!("image_file.{image}"))).collect::<Result<_, _>>()?;
    let own = PreparedImages::decode(files.into_iter(), &package.manifest)
        .map_err(|error| fixture.broken(format!("case {index} ({}): {error}", case.name)))?;
    let own_views: Vec<_> = own.images.iter().map(|image| image.pixels.view()).collect();
    let own_stack = ndarray::concatenate(ndarray::Axis(0), &own_views)
        .map_err(|error| fixture.broken(format!("case {index}: images do not stack: {error}")))?;
    let pixels = fixture.difference(index, "pixel_values", own_stack.view(), reference_pixels.view())?;

    let tokenized = prompter.tokenize(&case.prompt)?;
    let own_id = package.manifest.prompt.image_token_id.map_or(-200, i64::from);
    let (own_ids, _) = tokenized.expanded_ids(&own.rows, own_id)?;

    let stop = PrompterStop { prompter };
    let request = || Request { segments: segments(&tokenized.pieces), max_new_tokens: case.max_new_tokens.max(1), stop: &stop };
    // Equal in number to our own tiles, or the comparison of pixels above had failed.
    let mut first = 0;
    let given: Vec<ImageTiles> = own
        .images
        .iter()
        .map(|image| {
            let tiles = first..first + image.pixels.len_of(ndarray::Axis(0));
            first = tiles.end;
            let pixels = reference_pixels.slice(ndarray::s![tiles, .., .., ..]).to_owned();
            ImageTiles { pixels, width: image.width, height: image.height }
        })
        .collect();
    let trace = engine.trace_single(&given, &request(), Some(&reference_tokens))?;
    let features = match &package.manifest.foreign {
        None => {
            let features: Array3<f32> = fixture.floats(index, "features")?;
            Some(fixture.difference(index, "features", trace.features.view(), features.view())?)
        }
        Some(_) => None,
    };
    let image_embeds: Array3<f32> = fixture.floats(index, "image_embeds")?;
    let own_embeds = match package.manifest.image.tiling {
        Some(_) => trace.image_rows.view().insert_axis(ndarray::Axis(0)),
        None => trace.image_embeds.view(),
    };
    let logits: Array2<f32> = fixture.floats(index, "logits")?;

    let answer = engine.answer(&ImageGroup { images: &own.images, requests: &[request()] })?;
    let generated: &[u32] = match answer.answers.first() {
        Some(Ok(generation)) => &generation.token_ids,
        _ => &[],
    };
    // The reference keeps its final end-of-sequence token; an answer that ended there too repeats it.
    let ended = matches!(answer.answers.first(), Some(Ok(generation))
        if generation.stop_reason == crate::engine::StopReason::EndOfSequence);
    let repeated = reference_tokens.iter().enumerate().filter(|&(position, id)| match generated.get(position) {
        Some(own) => own == id,
        None => ended && position == generated.len() && package.manifest.prompt.eos_token_ids.contains(id),
    });
    Ok(CaseReport {
        name: case.name.clone(),
        pixels,
        pixels_within_one_level: within_one_level(&own_stack, &reference_pixels, package.manifest.image.std),
        features,
        image_embeds: fixture.difference(index, "image_embeds", own_embeds, image_embeds.view())?,
        logits: fixture.difference(index, "logits", trace.logits.view(), logits.view())?,
        prompt_tokens_equal: own_ids == reference_ids,
        tokens: reference_tokens.len(),
        tokens_equal: if generated.len() > reference_tokens.len() { 0 } else { repeated.count() },
    })
}

/// Share of values whose difference is at most one of 255 grey levels. Tensors are `[images, 3, height, width]`.
pub(super) fn within_one_level(own: &Array4<f32>, reference: &Array4<f32>, std: Option<[f64; 3]>) -> f64 {
    let std = std.unwrap_or([1.0; 3]);
    let mut within = 0_usize;
    for ((_, channel, _, _), own) in own
        .indexed_iter()
        .map(|(position, value)| (position, f64::from(*value)))
        .zip(reference)
        .map(|((position, own), reference)| (position, (own - f64::from(*reference)).abs()))
    {
        within += usize::from(own * std.get(channel).copied().unwrap_or(1.0) <= 1.0 / 255.0 + LEVEL_SLACK);
    }
    within as f64 / reference.len().max(1) as f64
}

/// The fixture file.
pub(super) struct Fixture<'a> {
    path: &'a Path,
    file: TensorFile,
    header: FixtureHeader,
}

impl<'a> Fixture<'a> {
    pub(super) fn open(path: &'a Path) -> Result<Self, RunError> {
        let broken = |message: String| RunError::Parity { path: path.to_path_buf(), message };
        if !path.is_file() {
            return Err(broken("the folder has no parity fixture; --reference names another package of the same checkpoint that has one, and exports/pico/dump_parity.py shows how one is made".into()));
        }
        let file = TensorFile::open(path).map_err(|error| broken(error.to_string()))?;
        let text = file.metadata().get("parity").ok_or_else(|| broken("metadata key `parity` is missing".into()))?;
        let header: FixtureHeader =
            serde_json::from_str(text).map_err(|error| broken(format!("metadata key `parity`: {error}")))?;
        if header.format != 1 {
            return Err(broken(format!("parity format {} found, 1 expected", header.format)));
        }
        Ok(Self { path, file, header })
    }

    /// The prompt of each case, its number of images, and the longest answer in tokens.
    pub(super) fn prompts(&self) -> impl Iterator<Item = (&str, usize, usize)> {
        self.header.cases.iter().map(|case| (case.prompt.as_str(), case.images, case.max_new_tokens))
    }

    pub(super) fn broken(&self, message: String) -> RunError {
        RunError::Parity { path: self.path.to_path_buf(), message }
    }

    pub(super) fn bytes(&self, case: usize, name: &str) -> Result<&[u8], RunError> {
        let key = format!("case.{case}.{name}");
        self.file.bytes(&key, "U8").map(|(_, bytes)| bytes).map_err(|error| self.broken(error.to_string()))
    }

    fn integers(&self, case: usize, name: &str) -> Result<Vec<i64>, RunError> {
        let key = format!("case.{case}.{name}");
        let (_, bytes) = self.file.bytes(&key, "I64").map_err(|error| self.broken(error.to_string()))?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|chunk| i64::from_le_bytes(*chunk)).collect())
    }

    fn floats<D: Dimension>(&self, case: usize, name: &str) -> Result<ndarray::Array<f32, D>, RunError> {
        let key = format!("case.{case}.{name}");
        let (shape, bytes) = self.file.bytes(&key, "F32").map_err(|error| self.broken(error.to_string()))?;
        let values = bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
        ndarray::ArrayD::from_shape_vec(shape.to_vec(), values)
            .and_then(|array| array.into_dimensionality::<D>())
            .map_err(|error| self.broken(format!("{key}: shape {shape:?}: {error}")))
    }

    fn difference<D: Dimension>(
        &self,
        case: usize,
        stage: &str,
        own: ArrayView<'_, f32, D>,
        reference: ArrayView<'_, f32, D>,
    ) -> Result<StageDifference, RunError> {
        if own.shape() != reference.shape() {
            return Err(self.broken(format!(
                "case {case}, {stage}: shape {:?} expected, {:?} found",
                reference.shape(),
                own.shape()
            )));
        }
        Ok(StageDifference::between(own, reference))
    }
}
