//! The two encoders of a CLIP package.

use std::time::Instant;

use ndarray::{Array2, Array4};
use ort::value::{TensorElementType, TensorRef};

use super::options::EngineOptions;
use super::runtime::{self, RuntimeInfo};
use super::session::{Graph, Port, runtime_error};
use super::types::EngineError;
use crate::package::ClipPackage;

/// Most texts of one run of the text encoder; bounds the memory of its hidden rows.
const TEXTS_AT_ONCE: usize = 64;

/// A loaded CLIP package.
pub struct ClipEncoder {
    vision: Graph,
    text: Graph,
    image_size: usize,
    vocabulary_size: usize,
    maximum_tokens: usize,
    projection_size: usize,
    runtime: RuntimeInfo,
    load_ms: f64,
}

impl ClipEncoder {
    /// Loads a package, with ONNX Runtime loaded first if it is not yet.
    pub fn load(package: &ClipPackage, options: &EngineOptions) -> Result<Self, EngineError> {
        let started = Instant::now();
        let (root, manifest) = (package.root.as_path(), &package.manifest);
        let loaded = runtime::load(&options.runtime(), &mut |_| {})?;
        let float = TensorElementType::Float32;
        let (side, width) = (Some(manifest.vision.image_size), Some(manifest.projection_size));
        let vision = Graph::load_measured(loaded, root, &manifest.vision.graph, options, true)?;
        vision.expect(
            &[Port::new("pixel_values", float, [None, Some(3), side, side])],
            &[Port::new("image_embeds", float, [None, width])],
        )?;
        let text = Graph::load_measured(loaded, root, &manifest.text.graph, options, false)?;
        text.expect(
            &[Port::new("input_ids", TensorElementType::Int64, [None, None])],
            &[Port::new("text_embeds", float, [None, width])],
        )?;
        let mut encoder = Self {
            vision,
            text,
            image_size: manifest.vision.image_size,
            vocabulary_size: manifest.text.vocabulary_size,
            maximum_tokens: manifest.text.maximum_tokens,
            projection_size: manifest.projection_size,
            runtime: loaded.info.clone(),
            load_ms: 0.0,
        };
        encoder.prove_placement(options)?;
        encoder.load_ms = started.elapsed().as_secs_f64() * 1e3;
        Ok(encoder)
    }

    /// Pixels of a side of the images that it takes.
    pub(super) fn image_size(&self) -> usize {
        self.image_size
    }

    /// The image encoder's graph and the text encoder's.
    pub(super) fn graphs(&self) -> [&Graph; 2] {
        [&self.vision, &self.text]
    }

    /// The image encoder's graph and the text encoder's.
    pub(super) fn graphs_mut(&mut self) -> [&mut Graph; 2] {
        [&mut self.vision, &mut self.text]
    }

    /// The library in use.
    pub fn runtime(&self) -> &RuntimeInfo {
        &self.runtime
    }

    /// Milliseconds that loading took, the runtime included if it was not loaded yet.
    pub fn load_ms(&self) -> f64 {
        self.load_ms
    }

    /// Embeddings `[images, projection]` of preprocessed pixels `[images, 3, size, size]`, as the graph gives them (not
    /// normalised).
    pub fn embed_images(&mut self, pixels: &Array4<f32>) -> Result<Array2<f32>, EngineError> {
        let side = self.image_size;
        match *pixels.shape() {
            [images, 3, height, width] if images > 0 && height == side && width == side => {}
            _ => {
                let message = format!("its image has shape {:?}, expected [images, 3, {side}, {side}]", pixels.shape());
                return Err(EngineError::Request { index: 0, message });
            }
        }
        let pixels = pixels.as_standard_layout();
        let tensor = TensorRef::from_array_view(&pixels).map_err(runtime_error("passing pixels"))?;
        let outputs = self
            .vision
            .session
            .run(ort::inputs!["pixel_values" => tensor])
            .map_err(runtime_error("running the image encoder"))?;
        let embeds = outputs.get("image_embeds").map(|value| value.try_extract_array::<f32>());
        let embeds = embeds.transpose().map_err(runtime_error("reading image embeddings"))?;
        rows(embeds, pixels.shape().first().copied().unwrap_or(0), self.projection_size)
            .map_err(|message| EngineError::Graph { graph: self.vision.path.clone(), message })
    }

    /// Embeddings `[texts, projection]` of token ids, in their order, as the graph gives them (not normalised).
    ///
    /// Texts of one length run together, so that none is padded: what a text gives does not depend on longer ones.
    pub fn embed_texts(&mut self, texts: &[Vec<u32>]) -> Result<Array2<f32>, EngineError> {
        for (index, text) in texts.iter().enumerate() {
            if let Some(message) = self.malformed(text) {
                return Err(EngineError::Request { index, message });
            }
        }
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&index| texts.get(index).map_or(0, Vec::len));
        let mut embeds = Array2::zeros((texts.len(), self.projection_size));
        let same_length = |a: &usize, b: &usize| texts.get(*a).map(Vec::len) == texts.get(*b).map(Vec::len);
        for alike in order.chunk_by(same_length) {
            for batch in alike.chunks(TEXTS_AT_ONCE) {
                let members: Vec<&Vec<u32>> = batch.iter().filter_map(|&index| texts.get(index)).collect();
                let found = self.embed_batch(&members)?;
                for (&index, row) in batch.iter().zip(found.rows()) {
                    embeds.row_mut(index).assign(&row);
                }
            }
        }
        Ok(embeds)
    }

    fn malformed(&self, text: &[u32]) -> Option<String> {
        if text.is_empty() || text.len() > self.maximum_tokens {
            return Some(format!("its text has {} tokens, expected 1 to {}", text.len(), self.maximum_tokens));
        }
        let bad = text.iter().find(|&&token| token as usize >= self.vocabulary_size)?;
        Some(format!("token {bad} is beyond the vocabulary of {}", self.vocabulary_size))
    }

    /// Texts of one length.
    fn embed_batch(&mut self, texts: &[&Vec<u32>]) -> Result<Array2<f32>, EngineError> {
        let length = texts.first().map_or(0, |text| text.len());
        let ids: Vec<i64> = texts.iter().flat_map(|text| text.iter().map(|&id| i64::from(id))).collect();
        let ids = Array2::from_shape_vec((texts.len(), length), ids)
            .map_err(|error| EngineError::Request { index: 0, message: error.to_string() })?;
        let tensor = TensorRef::from_array_view(&ids).map_err(runtime_error("passing token ids"))?;
        let outputs =
            self.text.session.run(ort::inputs!["input_ids" => tensor]).map_err(runtime_error("running the text encoder"))?;
        let embeds = outputs.get("text_embeds").map(|value| value.try_extract_array::<f32>());
        let embeds = embeds.transpose().map_err(runtime_error("reading text embeddings"))?;
        rows(embeds, texts.len(), self.projection_size)
            .map_err(|message| EngineError::Graph { graph: self.text.path.clone(), message })
    }
}

/// A graph's output as rows of the promised shape.
fn rows(output: Option<ndarray::ArrayViewD<'_, f32>>, count: usize, width: usize) -> Result<Array2<f32>, String> {
    let Some(output) = output else { return Err("gave no embeddings".to_owned()) };
    let found = output.shape().to_vec();
    match output.into_dimensionality::<ndarray::Ix2>() {
        Ok(rows) if rows.dim() == (count, width) => Ok(rows.to_owned()),
        _ => Err(format!("its embeddings have shape {found:?}, expected [{count}, {width}]")),
    }
}

/// Each row divided by its Euclidean norm. `None` if a row is zero or not finite: it has no direction to compare.
pub fn normalise(rows: &Array2<f32>) -> Option<Array2<f32>> {
    let mut normalised = rows.clone();
    for mut row in normalised.rows_mut() {
        let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        if !(norm.is_finite() && norm > 0.0) {
            return None;
        }
        row.mapv_inplace(|value| value / norm);
    }
    Some(normalised)
}
