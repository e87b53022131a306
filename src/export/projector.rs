//! The projector graph: from vision features to rows of the language model.

use super::ExportError;
use super::architecture::{LlavaArchitecture, ProjectorKind};
use super::graphs::{StageBuilder, signed};
use super::weights::WeightPlan;
use crate::onnx::{Dimension, ElementType};
use crate::package::GraphFlavor;

/// Builds `projector.onnx`: `features` `[images, tokens, inputs]` to `image_embeds` `[images, tokens, outputs]`, by one
/// linear layer (`linear`), several with exact GELU between them (`mlpNx_gelu`), or as they are (`identity`).
pub(super) fn projector_graph(
    architecture: &LlavaArchitecture,
    weights: &WeightPlan,
    flavor: GraphFlavor,
) -> Result<Vec<u8>, ExportError> {
    let (inputs, outputs) = (architecture.vision.hidden_size, architecture.llm.hidden_size);
    let bias = architecture.projector.bias;
    let mut stage = StageBuilder::new("projector", weights, flavor);
    let rows = [Dimension::named("images"), Dimension::named("tokens")];
    let shape = |width: usize| [&rows[..], &[Dimension::Fixed(width)]].concat();
    let features = stage.graph.input("features", ElementType::Float32, &shape(inputs));
    if architecture.projector.kind == ProjectorKind::Identity {
        let embeds = stage.graph.op("Identity", "image_embeds", &[&features], &[]);
        stage.graph.output(&embeds, ElementType::Float32, &shape(outputs));
        return stage.finish();
    }
    let flat = stage.reshape("flat", &features, "shape/flat", &[-1, signed(inputs)]);
    let mut hidden = stage.linear("linear_1", &flat, "projector.linear_1", bias);
    for layer in 2..=architecture.projector.kind.layers() {
        let node = if layer == 2 { "activation".to_owned() } else { format!("activation_{}", layer - 1) };
        hidden = stage.graph.op("Gelu", &node, &[&hidden], &[]);
        hidden = stage.linear(&format!("linear_{layer}"), &hidden, &format!("projector.linear_{layer}"), bias);
    }
    // The number of images and rows stands only in the input.
    let counts = [("start", crate::onnx::Attribute::Int(0)), ("end", crate::onnx::Attribute::Int(2))];
    let counts = stage.graph.op("Shape", "counts", &[&features], &counts);
    let width = stage.graph.integers("shape/width", &[signed(outputs)]);
    let target = stage.graph.op("Concat", "target", &[&counts, &width], &[("axis", crate::onnx::Attribute::Int(0))]);
    let embeds = stage.graph.op("Reshape", "image_embeds", &[&hidden, &target], &[]);
    stage.graph.output(&embeds, ElementType::Float32, &shape(outputs));
    stage.finish()
}
