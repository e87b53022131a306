//! The vision graph: a CLIP or SigLIP tower up to the selected layer (`modeling_clip.py` and `modeling_siglip.py` of
//! transformers).

use super::ExportError;
use super::encoder::Encoder;
use super::graphs::{GraphStyle, StageBuilder, signed};
use super::vision_architecture::{VisionArchitecture, VisionFamily};
use super::weights::WeightPlan;
use crate::onnx::{Attribute, Dimension, ElementType, Value};

/// Builds `vision.onnx`: `pixel_values` `[images, 3, size, size]` to `features` `[images, tokens, hidden]`, the hidden
/// states of the selected layer. No later layer and no final norm are in the graph, as nothing looks at them.
pub(super) fn vision_graph(vision: &VisionArchitecture, weights: &WeightPlan, style: GraphStyle) -> Result<Vec<u8>, ExportError> {
    let mut stage = StageBuilder::new("vision", weights, style);
    let (rows, width) = (vision.rows(), vision.hidden_size);
    let images = Dimension::named("images");
    let size = Dimension::Fixed(vision.image_size);
    let pixels =
        stage.graph.input("pixel_values", ElementType::Float32, &[images.clone(), Dimension::Fixed(3), size.clone(), size]);
    // A small share of the work, and CUDA has no convolution in bf16 in this version of the operator set.
    let embedded = stage.in_32_bits(|stage| embeddings(stage, vision, &pixels));
    let embedded = stage.narrowed(&embedded);
    let flat = stage.reshape("embeddings/flat", &embedded, "shape/flat", &[-1, signed(width)]);
    let shape = [-1, signed(rows), signed(width)];
    let encoder = Encoder {
        tower: "vision",
        layers: vision.used_layers,
        width,
        heads: vision.heads,
        activation: vision.activation,
        layer_norm_epsilon: vision.layer_norm_epsilon,
        causal: false,
    };
    let hidden = match vision.family {
        VisionFamily::Clip => encoder.layer_norm(&mut stage, "pre_layrnorm", &flat, "vision.pre_layrnorm"),
        VisionFamily::Siglip => flat,
    };
    let hidden = encoder.add(&mut stage, hidden, |stage, node, flat| stage.reshape(node, flat, "shape/rows", &shape));
    let keeps_all = vision.tokens() == rows;
    let name = stage.before_output("features");
    let shaped = stage.reshape(if keeps_all { &name } else { "hidden_states" }, &hidden, "shape/rows", &shape);
    let features = if keeps_all {
        shaped
    } else {
        let [start, end, axis] = [("slice/start", 1), ("slice/end", i64::MAX), ("slice/axis", 1)]
            .map(|(name, value)| stage.graph.integers(name, &[value]));
        stage.graph.op("Slice", &name, &[&shaped, &start, &end, &axis], &[])
    };
    stage.output("features", &features, &[images, vision.tokens().into(), width.into()]);
    stage.finish()
}

/// Patches by convolution, the class token of CLIP before them, positions added: `[images, rows, width]`.
fn embeddings(stage: &mut StageBuilder<'_>, vision: &VisionArchitecture, pixels: &Value) -> Value {
    let patch = signed(vision.patch_size);
    let kernel = stage.weight("vision.embeddings.patch_embedding.weight");
    let strides = [("strides", Attribute::Ints(vec![patch; 2])), ("kernel_shape", Attribute::Ints(vec![patch; 2]))];
    let grid = match vision.family {
        VisionFamily::Clip => stage.graph.op("Conv", "embeddings/patches", &[pixels, &kernel], &strides),
        VisionFamily::Siglip => {
            let bias = stage.weight("vision.embeddings.patch_embedding.bias");
            stage.graph.op("Conv", "embeddings/patches", &[pixels, &kernel, &bias], &strides)
        }
    };
    let columns =
        stage.reshape("embeddings/columns", &grid, "shape/columns", &[0, signed(vision.hidden_size), signed(vision.patches())]);
    let patches = stage.graph.op("Transpose", "embeddings/rows", &[&columns], &[("perm", Attribute::Ints(vec![0, 2, 1]))]);
    if vision.family == VisionFamily::Siglip {
        let positions = stage.weight("vision.embeddings.position_embedding.weight");
        return stage.graph.op("Add", "embeddings/positions", &[&patches, &positions], &[]);
    }
    let first = [("start", Attribute::Int(0)), ("end", Attribute::Int(1))];
    let images = stage.graph.op("Shape", "embeddings/images", &[pixels], &first);
    let row = stage.graph.integers("shape/class", &[1, signed(vision.hidden_size)]);
    let shape = stage.graph.op("Concat", "embeddings/class_shape", &[&images, &row], &[("axis", Attribute::Int(0))]);
    let class = stage.weight("vision.embeddings.class_embedding");
    let class = stage.graph.op("Expand", "embeddings/class", &[&class, &shape], &[]);
    let tokens = stage.graph.op("Concat", "embeddings/tokens", &[&class, &patches], &[("axis", Attribute::Int(1))]);
    let positions = stage.weight("vision.embeddings.position_embedding.weight");
    stage.graph.op("Add", "embeddings/positions", &[&tokens, &positions], &[])
}
