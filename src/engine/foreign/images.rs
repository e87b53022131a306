//! The vision graph, projector inside.

use std::time::Instant;

use ndarray::Array4;

use super::super::session::{Graph, runtime_error};
use super::super::types::{EngineError, StageTimings};
use super::super::vision::milliseconds;
use super::values::{floats, shape, widened};
use crate::package::VisionStage;
use crate::package::foreign::VisionInterface;

/// The vision encoder.
pub(super) struct Vision {
    graph: Graph,
    interface: VisionInterface,
    stage: VisionStage,
    width: usize,
}

/// The rows that one image gives, `[rows, hidden_size]`.
pub(super) type ImageRows = Vec<f32>;

impl Vision {
    /// `width` is that of a row of the language model.
    pub fn new(graph: Graph, interface: VisionInterface, stage: VisionStage, width: usize) -> Self {
        Self { graph, interface, stage, width }
    }

    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    pub fn graph_mut(&mut self) -> &mut Graph {
        &mut self.graph
    }

    /// Rows that an image of this shape gives, or why the graph cannot take it.
    pub fn rows(&self, image: &Array4<f32>) -> Result<usize, String> {
        let side = self.stage.image_size;
        match *image.shape() {
            [1, 3, height, width] if height == side && width == side => Ok(self.stage.tokens_per_image),
            _ => Err(format!("its image has shape {:?}, expected [1, 3, {side}, {side}]", image.shape())),
        }
    }

    /// Encodes one image. The projector's time is in the vision encoder's, as it is in the same graph.
    pub fn encode(&mut self, image: &Array4<f32>, timings: &mut StageTimings) -> Result<ImageRows, EngineError> {
        let started = Instant::now();
        let pixels = image.as_standard_layout().iter().copied().collect();
        let pixels = floats(self.interface.pixel_values.dtype, image.shape(), pixels)?;
        let mut outputs = self
            .graph
            .session
            .run(vec![(self.interface.pixel_values.name.as_str(), pixels)])
            .map_err(runtime_error("running the vision encoder"))?;
        let features = outputs.remove(&self.interface.image_features.name);
        drop(outputs);
        let name = &self.interface.image_features.name;
        let features = features.ok_or_else(|| self.graph.wrong(format!("gave no `{name}`")))?;
        let (tokens, width) = (self.stage.tokens_per_image, self.width);
        let found = shape(&features);
        if found != [1, tokens, width] && found != [tokens, width] {
            let expected = format!("[1, {tokens}, {width}], as image and patch size in config.json say");
            return Err(self.graph.wrong(format!("output `{name}` has shape {found:?}, expected {expected}")));
        }
        let rows = widened(&features, self.interface.image_features.dtype, 0, tokens * width)?;
        timings.vision_ms += milliseconds(started);
        rows.ok_or_else(|| self.graph.wrong(format!("gave no `{name}`")))
    }
}
