//! From pixel tensors to rows that the language model takes: the vision encoder and the projector.

use std::path::Path;
use std::time::Instant;

use ndarray::{Array3, Array4};
use ort::value::{DynValue, TensorElementType, TensorRef};

use super::options::EngineOptions;
use super::runtime::Loaded;
use super::session::{Graph, Port, runtime_error};
use super::types::{EngineError, StageTimings};
use crate::package::{Manifest, ProjectorStage, VisionStage};

/// The first two stages.
pub(super) struct ImageEncoder {
    vision: Graph,
    projector: Graph,
    vision_stage: VisionStage,
    projector_stage: ProjectorStage,
}

impl ImageEncoder {
    /// Loads and checks both graphs.
    pub(super) fn load(runtime: &Loaded, root: &Path, manifest: &Manifest, options: &EngineOptions) -> Result<Self, EngineError> {
        let float = TensorElementType::Float32;
        let (vision_stage, projector_stage) = (manifest.vision.clone(), manifest.projector.clone());
        let vision = Graph::load(runtime, root, &vision_stage.graph, options, true)?;
        let (side, tokens) = (Some(vision_stage.image_size), Some(vision_stage.tokens_per_image));
        vision.expect(
            &[Port::new("pixel_values", float, [None, Some(3), side, side])],
            &[Port::new("features", float, [None, tokens, Some(vision_stage.hidden_size)])],
        )?;
        let projector = Graph::load(runtime, root, &projector_stage.graph, options, true)?;
        projector.expect(
            &[Port::new("features", float, [None, tokens, Some(projector_stage.input_size)])],
            &[Port::new("image_embeds", float, [None, tokens, Some(projector_stage.output_size)])],
        )?;
        if vision_stage.hidden_size != projector_stage.input_size {
            return Err(projector.wrong(format!(
                "takes rows of {}, but the vision encoder gives rows of {}",
                projector_stage.input_size, vision_stage.hidden_size
            )));
        }
        Ok(Self { vision, projector, vision_stage, projector_stage })
    }

    /// Rows that an image of this shape gives, or why the vision encoder cannot take it.
    pub(super) fn rows(&self, image: &Array4<f32>) -> Result<usize, String> {
        let side = self.vision_stage.image_size;
        match *image.shape() {
            [tiles, 3, height, width] if tiles > 0 && height == side && width == side => {
                Ok(tiles * self.vision_stage.tokens_per_image)
            }
            _ => Err(format!("its image has shape {:?}, expected [tiles, 3, {side}, {side}]", image.shape())),
        }
    }

    /// Encodes and projects one image; all its tiles in one run.
    pub(super) fn encode(&mut self, image: &Array4<f32>, timings: &mut StageTimings) -> Result<EncodedImage, EngineError> {
        let started = Instant::now();
        let pixels = image.as_standard_layout();
        let tensor = TensorRef::from_array_view(&pixels).map_err(runtime_error("passing pixels"))?;
        let mut outputs = self
            .vision
            .session
            .run(ort::inputs!["pixel_values" => tensor])
            .map_err(runtime_error("running the vision encoder"))?;
        let features = outputs.remove("features");
        drop(outputs);
        let features = features.ok_or_else(|| self.vision.wrong("gave no `features`"))?;
        timings.vision_ms += milliseconds(started);

        let started = Instant::now();
        let mut outputs =
            self.projector.session.run(ort::inputs!["features" => &features]).map_err(runtime_error("running the projector"))?;
        let image_embeds = outputs.remove("image_embeds");
        drop(outputs);
        let image_embeds = image_embeds.ok_or_else(|| self.projector.wrong("gave no `image_embeds`"))?;
        timings.projector_ms += milliseconds(started);

        let tokens = self.vision_stage.tokens_per_image;
        let tiles = image.shape().first().copied().unwrap_or(0);
        check_shape(&self.vision, "features", &features, [tiles, tokens, self.vision_stage.hidden_size])?;
        check_shape(&self.projector, "image_embeds", &image_embeds, [tiles, tokens, self.projector_stage.output_size])?;
        Ok(EncodedImage { features, image_embeds, width: self.projector_stage.output_size })
    }
}

/// What the first two stages made of one image.
pub(super) struct EncodedImage {
    features: DynValue,
    image_embeds: DynValue,
    width: usize,
}

impl EncodedImage {
    /// The projected rows as one slice, `tiles × tokens` rows of the language model's width.
    pub(super) fn embeds(&self) -> Result<&[f32], EngineError> {
        Ok(self.image_embeds.try_extract_tensor::<f32>().map_err(runtime_error("reading image rows"))?.1)
    }

    /// Width of a projected row.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Copies of the features `[tiles, tokens, hidden]` and of the projected rows `[tiles, tokens, width]`.
    pub(super) fn to_arrays(&self) -> Result<(Array3<f32>, Array3<f32>), EngineError> {
        Ok((to_array(&self.features)?, to_array(&self.image_embeds)?))
    }
}

fn to_array(value: &DynValue) -> Result<Array3<f32>, EngineError> {
    let view = value.try_extract_array::<f32>().map_err(runtime_error("reading image rows"))?;
    view.into_dimensionality()
        .map(|view| view.to_owned())
        .map_err(|error| EngineError::Runtime { doing: "reading image rows".to_owned(), message: error.to_string() })
}

fn check_shape(graph: &Graph, output: &str, value: &DynValue, expected: [usize; 3]) -> Result<(), EngineError> {
    let found: Vec<i64> = value.shape().to_vec();
    let fits = found.len() == 3 && found.iter().zip(expected).all(|(&found, expected)| usize::try_from(found) == Ok(expected));
    if fits { Ok(()) } else { Err(graph.wrong(format!("output `{output}` has shape {found:?}, expected {expected:?}"))) }
}

/// Milliseconds since `started`.
pub(super) fn milliseconds(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e3
}
