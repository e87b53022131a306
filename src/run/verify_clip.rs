//! Replays the parity fixture of a CLIP package: what the reference (transformers, fp32, eager) made of some images and texts.
//!
//! `parity.safetensors` has the metadata key `parity`, JSON `{"format": 1, "kind": "clip", "reference": text, "texts": [texts]}`,
//! and the tensors
//!
//! | tensor | type | shape |
//! | --- | --- | --- |
//! | `image_file.{i}` | U8 | bytes of image file i |
//! | `pixel_values` | F32 | `[images, 3, size, size]` |
//! | `image_embeds` | F32 | `[images, width]`, not normalised |
//! | `input_ids.{j}` | I64 | `[tokens]` of text j, beginning and end included, not padded |
//! | `text_embeds` | F32 | `[texts, width]`, not normalised |
//! | `logits_per_image` | F32 | `[images, texts]`, cosines times e^logit_scale |

use std::path::Path;

use ndarray::{Array2, Array4, ArrayD, Dimension};
use serde::{Deserialize, Serialize};

use super::error::RunError;
use super::verify::{FIXTURE, LOGIT_LIMIT, PIXELS_LIMIT, StageDifference, relative_limit, within_one_level};
use crate::engine::{ClipEncoder, normalise};
use crate::package::{ClipPackage, TensorFile};
use crate::prompt::ClipTokenizer;

/// The whole fixture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClipVerifyReport {
    /// Format version, now 1.
    pub format: u32,
    /// `clip`.
    pub kind: &'static str,
    /// Package name.
    pub package: String,
    /// What the reference was.
    pub reference: String,
    /// Whether token ids and ranks are all equal and errors within their limits.
    pub passed: bool,
    /// Images.
    pub images: usize,
    /// Texts.
    pub texts: usize,
    /// Preprocessed pixels, in normalised units.
    pub pixels: StageDifference,
    /// Share of pixel values within one grey level of the reference.
    pub pixels_within_one_level: f64,
    /// Its limit.
    pub pixels_limit: f64,
    /// Texts whose token ids are the reference's.
    pub texts_with_equal_tokens: usize,
    /// Image embeddings from the reference's pixels.
    pub image_embeds: StageDifference,
    /// Text embeddings from the reference's token ids.
    pub text_embeds: StageDifference,
    /// Logits of these embeddings.
    pub logits: StageDifference,
    /// Limit of the largest logit error.
    pub max_logit_error_limit: f64,
    /// Limit of the relative logit error, which takes the place of equal ranks and of the other limit where weights have fewer bits.
    pub relative_logit_error_limit: Option<f64>,
    /// Images that rank the texts, and texts that rank the images, as the reference does; candidates whose reference logits are
    /// closer than twice the limit may change places.
    pub ranks_equal: usize,
    /// Images and texts.
    pub ranks: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    kind: String,
    reference: String,
    texts: Vec<String>,
}

/// Replays the fixture of `package`, or that of the package in the folder `reference`, which is then of the same checkpoint.
pub fn verify_clip_package(
    package: &ClipPackage,
    reference: Option<&Path>,
    tokenizer: &ClipTokenizer,
    encoder: &mut ClipEncoder,
) -> Result<ClipVerifyReport, RunError> {
    let path = reference.unwrap_or(&package.root).join(FIXTURE);
    let fixture = Fixture::open(&path)?;
    let pixel_values: Array4<f32> = fixture.floats("pixel_values")?;
    let images = pixel_values.shape().first().copied().unwrap_or(0);
    let mut own_pixels = Vec::with_capacity(images);
    for image in 0..images {
        let (_, bytes) = fixture.tensor(&format!("image_file.{image}"), "U8")?;
        let pixels = crate::image::decode(bytes)
            .and_then(|decoded| crate::image::preprocess(&decoded, &package.manifest.image))
            .map_err(|error| fixture.broken(format!("image {image}: {error}")))?;
        own_pixels.push(pixels);
    }
    let views: Vec<_> = own_pixels.iter().map(|pixels| pixels.view()).collect();
    let own_pixels = ndarray::concatenate(ndarray::Axis(0), &views)
        .map_err(|error| fixture.broken(format!("images do not stack: {error}")))?;
    let pixels = fixture.difference("pixel_values", &own_pixels, &pixel_values)?;

    let (mut ids, mut equal) = (Vec::new(), 0);
    for (index, text) in fixture.header.texts.iter().enumerate() {
        let reference = fixture.token_ids(index)?;
        equal += usize::from(tokenizer.encode(text)? == reference);
        ids.push(reference);
    }

    let mut rows = Vec::with_capacity(images);
    for image in pixel_values.outer_iter() {
        rows.push(encoder.embed_images(&image.to_owned().insert_axis(ndarray::Axis(0)))?);
    }
    let views: Vec<_> = rows.iter().map(|row| row.view()).collect();
    let own_images =
        ndarray::concatenate(ndarray::Axis(0), &views).map_err(|error| fixture.broken(format!("no image: {error}")))?;
    let own_texts = encoder.embed_texts(&ids)?;
    let image_embeds: Array2<f32> = fixture.floats("image_embeds")?;
    let text_embeds: Array2<f32> = fixture.floats("text_embeds")?;
    let reference_logits: Array2<f32> = fixture.floats("logits_per_image")?;
    let image_difference = fixture.difference("image_embeds", &own_images, &image_embeds)?;
    let text_difference = fixture.difference("text_embeds", &own_texts, &text_embeds)?;
    let no_direction = || RunError::Embedding("an embedding has no direction".to_owned());
    let (own_images, own_texts) =
        (normalise(&own_images).ok_or_else(no_direction)?, normalise(&own_texts).ok_or_else(no_direction)?);
    let scale = (package.manifest.logit_scale as f32).exp();
    let own_logits = own_images.dot(&own_texts.t()) * scale;
    let logits = fixture.difference("logits_per_image", &own_logits, &reference_logits)?;
    let by_image = own_logits.rows().into_iter().zip(reference_logits.rows());
    let by_text = own_logits.columns().into_iter().zip(reference_logits.columns());
    let ranks_equal = by_image.chain(by_text).filter(|(own, reference)| same_order(own.to_vec(), reference.to_vec())).count();

    let pixels_within_one_level = within_one_level(&own_pixels, &pixel_values, package.manifest.image.std);
    let (texts, ranks) = (fixture.header.texts.len(), images + fixture.header.texts.len());
    let precision = package.manifest.precision;
    let relative_logit_error_limit = relative_limit(&[precision.vision, precision.text]);
    let near = match relative_logit_error_limit {
        Some(limit) => logits.relative < limit && logits.max_absolute.is_finite(),
        None => ranks_equal == ranks && logits.max_absolute < LOGIT_LIMIT,
    };
    Ok(ClipVerifyReport {
        format: 1,
        kind: "clip",
        package: package.manifest.name.clone(),
        reference: fixture.header.reference.clone(),
        passed: near && equal == texts && pixels_within_one_level >= PIXELS_LIMIT,
        images,
        texts,
        pixels,
        pixels_within_one_level,
        pixels_limit: PIXELS_LIMIT,
        texts_with_equal_tokens: equal,
        image_embeds: image_difference,
        text_embeds: text_difference,
        logits,
        max_logit_error_limit: LOGIT_LIMIT,
        relative_logit_error_limit,
        ranks_equal,
        ranks,
    })
}

/// Whether the candidates stand in the same order, but for those that the reference hardly tells apart.
fn same_order(own: Vec<f32>, reference: Vec<f32>) -> bool {
    let order = |scores: &[f32]| super::ranking::best(ndarray::ArrayView1::from(scores), scores.len());
    let score = |position: &usize| reference.get(*position).copied().map_or(f64::NAN, f64::from);
    order(&own)
        .iter()
        .zip(order(&reference).iter())
        .all(|(own, expected)| own == expected || (score(own) - score(expected)).abs() < 2.0 * LOGIT_LIMIT)
}

/// The fixture file.
struct Fixture<'a> {
    path: &'a Path,
    file: TensorFile,
    header: Header,
}

impl<'a> Fixture<'a> {
    fn open(path: &'a Path) -> Result<Self, RunError> {
        let broken = |message: String| RunError::Parity { path: path.to_path_buf(), message };
        if !path.is_file() {
            return Err(broken("the package has no parity fixture; tests/parity/clip_parity.py shows how one is made".into()));
        }
        let file = TensorFile::open(path).map_err(|error| broken(error.to_string()))?;
        let text = file.metadata().get("parity").ok_or_else(|| broken("metadata key `parity` is missing".into()))?;
        let header: Header = serde_json::from_str(text).map_err(|error| broken(format!("metadata key `parity`: {error}")))?;
        if header.format != 1 || header.kind != "clip" {
            return Err(broken(format!(
                "parity format {} of kind {:?} found, 1 of \"clip\" expected",
                header.format, header.kind
            )));
        }
        Ok(Self { path, file, header })
    }

    fn broken(&self, message: String) -> RunError {
        RunError::Parity { path: self.path.to_path_buf(), message }
    }

    fn tensor(&self, name: &str, dtype: &str) -> Result<(&[usize], &[u8]), RunError> {
        self.file.bytes(name, dtype).map_err(|error| self.broken(error.to_string()))
    }

    fn token_ids(&self, text: usize) -> Result<Vec<u32>, RunError> {
        let name = format!("input_ids.{text}");
        let (_, bytes) = self.tensor(&name, "I64")?;
        let ids = bytes.as_chunks::<8>().0.iter().map(|chunk| i64::from_le_bytes(*chunk));
        ids.map(|id| u32::try_from(id).map_err(|_| self.broken(format!("{name}: {id} is no token id")))).collect()
    }

    fn floats<D: Dimension>(&self, name: &str) -> Result<ndarray::Array<f32, D>, RunError> {
        let (shape, bytes) = self.tensor(name, "F32")?;
        let values = bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
        ArrayD::from_shape_vec(shape.to_vec(), values)
            .and_then(|array| array.into_dimensionality::<D>())
            .map_err(|error| self.broken(format!("{name}: shape {shape:?}: {error}")))
    }

    fn difference<D: Dimension>(
        &self,
        name: &str,
        own: &ndarray::Array<f32, D>,
        reference: &ndarray::Array<f32, D>,
    ) -> Result<StageDifference, RunError> {
        if own.shape() != reference.shape() {
            return Err(self.broken(format!("{name}: shape {:?} expected, {:?} found", own.shape(), reference.shape())));
        }
        Ok(StageDifference::between(own.view(), reference.view()))
    }
}
