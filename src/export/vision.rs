//! The vision graph: a CLIP or SigLIP tower up to the selected layer (`modeling_clip.py` and `modeling_siglip.py` of
//! transformers).

use super::ExportError;
use super::graphs::{StageBuilder, signed};
use super::vision_architecture::{VisionActivation, VisionArchitecture, VisionFamily};
use super::weights::WeightPlan;
use crate::onnx::{Attribute, Dimension, ElementType, Value};

/// Builds `vision.onnx`: `pixel_values` `[images, 3, size, size]` to `features` `[images, tokens, hidden]`, the hidden
/// states of the selected layer. No later layer and no final norm are in the graph, as nothing looks at them.
pub(super) fn vision_graph(vision: &VisionArchitecture, weights: &WeightPlan) -> Result<Vec<u8>, ExportError> {
    let mut stage = StageBuilder::new("vision", weights);
    let (rows, width) = (vision.rows(), vision.hidden_size);
    let images = Dimension::named("images");
    let size = Dimension::Fixed(vision.image_size);
    let pixels =
        stage.graph.input("pixel_values", ElementType::Float32, &[images.clone(), Dimension::Fixed(3), size.clone(), size]);
    let embedded = embeddings(&mut stage, vision, &pixels);
    let flat = stage.reshape("embeddings/flat", &embedded, "shape/flat", &[-1, signed(width)]);
    let mut hidden = match vision.family {
        VisionFamily::Clip => layer_norm(&mut stage, "pre_layrnorm", &flat, "vision.pre_layrnorm", vision),
        VisionFamily::Siglip => flat,
    };
    if vision.used_layers > 0 {
        hidden = layers(&mut stage, vision, hidden);
    }
    let keeps_all = vision.tokens() == rows;
    let shaped = stage.reshape(
        if keeps_all { "features" } else { "hidden_states" },
        &hidden,
        "shape/rows",
        &[-1, signed(rows), signed(width)],
    );
    let features = if keeps_all {
        shaped
    } else {
        let [start, end, axis] = [("slice/start", 1), ("slice/end", i64::MAX), ("slice/axis", 1)]
            .map(|(name, value)| stage.graph.integers(name, &[value]));
        stage.graph.op("Slice", "features", &[&shaped, &start, &end, &axis], &[])
    };
    let shape = [images, vision.tokens().into(), width.into()];
    stage.graph.output(&features, ElementType::Float32, &shape);
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

/// The transformer layers on `[images · rows, width]`. Each norm is fused with the addition before it.
fn layers(stage: &mut StageBuilder<'_>, vision: &VisionArchitecture, mut residual: Value) -> Value {
    let (rows, width) = (signed(vision.rows()), signed(vision.hidden_size));
    let mut normed = layer_norm(stage, "layers.0/layer_norm1", &residual, "vision.encoder.layers.0.layer_norm1", vision);
    for layer in 0..vision.used_layers {
        let (node, weight) = (format!("layers.{layer}"), format!("vision.encoder.layers.{layer}"));
        let mut heads = |part: &str| {
            let flat = stage.linear(&format!("{node}/{part}"), &normed, &format!("{weight}.self_attn.{part}"), true);
            stage.reshape(&format!("{node}/{part}/rows"), &flat, "shape/rows", &[-1, rows, width])
        };
        let (query, key, value) = (heads("q_proj"), heads("k_proj"), heads("v_proj"));
        let count = [("num_heads", Attribute::Int(signed(vision.heads)))];
        let attended =
            stage.graph.microsoft_op("MultiHeadAttention", &format!("{node}/attention"), &[&query, &key, &value], &count);
        let attended = stage.reshape(&format!("{node}/attention/flat"), &attended, "shape/flat", &[-1, width]);
        let attended = stage.linear(&format!("{node}/out_proj"), &attended, &format!("{weight}.self_attn.out_proj"), true);
        let (second, sum) =
            add_and_norm(stage, &format!("{node}/layer_norm2"), &attended, &residual, &format!("{weight}.layer_norm2"), vision);
        let wide = stage.linear(&format!("{node}/fc1"), &second, &format!("{weight}.mlp.fc1"), true);
        let active = match vision.activation {
            VisionActivation::QuickGelu => {
                let alpha = [("alpha", Attribute::Float(1.702))];
                stage.graph.microsoft_op("QuickGelu", &format!("{node}/activation"), &[&wide], &alpha)
            }
            VisionActivation::Gelu => stage.graph.op("Gelu", &format!("{node}/activation"), &[&wide], &[]),
            VisionActivation::GeluTanh => {
                let tanh = [("approximate", Attribute::Text("tanh".to_owned()))];
                stage.graph.op("Gelu", &format!("{node}/activation"), &[&wide], &tanh)
            }
        };
        let narrow = stage.linear(&format!("{node}/fc2"), &active, &format!("{weight}.mlp.fc2"), true);
        if layer + 1 == vision.used_layers {
            return stage.graph.op("Add", "last_hidden_state", &[&narrow, &sum], &[]);
        }
        let next = layer + 1;
        let norm = format!("vision.encoder.layers.{next}.layer_norm1");
        (normed, residual) = add_and_norm(stage, &format!("layers.{next}/layer_norm1"), &narrow, &sum, &norm, vision);
    }
    residual
}

fn layer_norm(stage: &mut StageBuilder<'_>, node: &str, input: &Value, weight: &str, vision: &VisionArchitecture) -> Value {
    let (scale, shift) = (stage.weight(&format!("{weight}.weight")), stage.weight(&format!("{weight}.bias")));
    let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(vision.layer_norm_epsilon))];
    stage.graph.op("LayerNormalization", node, &[input, &scale, &shift], &attributes)
}

/// The norm of `input + skip`, and the sum itself.
fn add_and_norm(
    stage: &mut StageBuilder<'_>,
    node: &str,
    input: &Value,
    skip: &Value,
    weight: &str,
    vision: &VisionArchitecture,
) -> (Value, Value) {
    let (scale, shift) = (stage.weight(&format!("{weight}.weight")), stage.weight(&format!("{weight}.bias")));
    let (inputs, sum) = ([input, skip, &scale, &shift], format!("{node}/sum"));
    let epsilon = [("epsilon", Attribute::Float(vision.layer_norm_epsilon))];
    stage.graph.microsoft_op_with_outputs("SkipLayerNormalization", node, &inputs, &[node, "", "", &sum], &epsilon);
    (stage.graph.value(node), stage.graph.value(&sum))
}
