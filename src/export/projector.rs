//! The projector graph: from vision features to rows of the language model.

use super::ExportError;
use super::architecture::{LlavaArchitecture, ProjectorKind};
use super::graphs::{GraphStyle, StageBuilder, signed};
use super::weights::WeightPlan;
use crate::onnx::{Attribute, Dimension, ElementType};

/// Builds `projector.onnx`: `features` `[images, tokens, inputs]` to `image_embeds` `[images, tokens, outputs]`, by one
/// linear layer (`linear`), several with exact GELU between them (`mlpNx_gelu`), or as they are (`identity`).
pub(super) fn projector_graph(
    architecture: &LlavaArchitecture,
    weights: &WeightPlan,
    style: GraphStyle,
) -> Result<Vec<u8>, ExportError> {
    let (inputs, outputs) = (architecture.vision.hidden_size, architecture.llm.hidden_size);
    let bias = architecture.projector.bias;
    let mut stage = StageBuilder::new("projector", weights, style);
    let rows = [Dimension::named("images"), Dimension::named("tokens")];
    let shape = |width: usize| [&rows[..], &[Dimension::Fixed(width)]].concat();
    let features = stage.graph.input("features", ElementType::Float32, &shape(inputs));
    if architecture.projector.kind == ProjectorKind::Identity {
        let embeds = stage.graph.op("Identity", "image_embeds", &[&features], &[]);
        stage.graph.output(&embeds, ElementType::Float32, &shape(outputs));
        return stage.finish();
    }
    let narrow = stage.narrowed(&features);
    let flat = stage.reshape("flat", &narrow, "shape/flat", &[-1, signed(inputs)]);
    let mut hidden = stage.linear("linear_1", &flat, "projector.linear_1", bias);
    for layer in 2..=architecture.projector.kind.layers() {
        let node = if layer == 2 { "activation".to_owned() } else { format!("activation_{}", layer - 1) };
        hidden = stage.graph.op("Gelu", &node, &[&hidden], &[]);
        hidden = stage.linear(&format!("linear_{layer}"), &hidden, &format!("projector.linear_{layer}"), bias);
    }
    // The number of images and rows stands only in the input.
    let counts = [("start", Attribute::Int(0)), ("end", Attribute::Int(2))];
    let counts = stage.graph.op("Shape", "counts", &[&features], &counts);
    let width = stage.graph.integers("shape/width", &[signed(outputs)]);
    let target = stage.graph.op("Concat", "target", &[&counts, &width], &[("axis", Attribute::Int(0))]);
    let embeds = stage.before_output("image_embeds");
    let embeds = stage.graph.op("Reshape", &embeds, &[&hidden, &target], &[]);
    stage.output("image_embeds", &embeds, &shape(outputs));
    stage.finish()
}
