//! The two graphs (`transformers/models/clip/modeling_clip.py`).

use super::super::ExportError;
use super::super::encoder::Encoder;
use super::super::graphs::{GraphStyle, StageBuilder, signed};
use super::super::weights::WeightPlan;
use super::architecture::{ClipModelArchitecture, Tower};
use crate::onnx::{Attribute, Dimension, ElementType, Value, proto::data_type};
use crate::package::{GraphFlavor, TextPooling};

/// Builds `vision.onnx`: `pixel_values` `[images, 3, size, size]` to `image_embeds` `[images, projection]`, the projected class
/// token after the last norm.
pub fn vision_graph(clip: &ClipModelArchitecture, weights: &WeightPlan, flavor: GraphFlavor) -> Result<Vec<u8>, ExportError> {
    let mut stage = StageBuilder::new("clip-vision", weights, GraphStyle { flavor, compute: None });
    let tower = &clip.vision;
    let (rows, width, patch) = (signed(clip.vision_rows()), signed(tower.hidden_size), signed(clip.patch_size));
    let images = Dimension::named("images");
    let side = || Dimension::Fixed(clip.image_size);
    let pixels = stage.graph.input("pixel_values", ElementType::Float32, &[images.clone(), Dimension::Fixed(3), side(), side()]);

    // Patches by convolution, the class token before them, positions added.
    let kernel = stage.weight("vision.embeddings.patch_embedding.weight");
    let strides = [("strides", Attribute::Ints(vec![patch; 2])), ("kernel_shape", Attribute::Ints(vec![patch; 2]))];
    let grid = stage.graph.op("Conv", "embeddings/patches", &[&pixels, &kernel], &strides);
    let columns = stage.reshape("embeddings/columns", &grid, "shape/columns", &[0, width, rows - 1]);
    let patches = stage.graph.op("Transpose", "embeddings/rows", &[&columns], &[("perm", Attribute::Ints(vec![0, 2, 1]))]);
    let count = dimension(&mut stage, "embeddings/images", &pixels, 0);
    let row = stage.graph.integers("shape/class", &[1, width]);
    let shape = stage.graph.op("Concat", "embeddings/class_shape", &[&count, &row], &[("axis", Attribute::Int(0))]);
    let class = stage.weight("vision.embeddings.class_embedding");
    let class = stage.graph.op("Expand", "embeddings/class", &[&class, &shape], &[]);
    let tokens = stage.graph.op("Concat", "embeddings/tokens", &[&class, &patches], &[("axis", Attribute::Int(1))]);
    let positions = stage.weight("vision.embeddings.position_embedding.weight");
    let embedded = stage.graph.op("Add", "embeddings/positions", &[&tokens, &positions], &[]);

    let flat = stage.reshape("embeddings/flat", &embedded, "shape/flat", &[-1, width]);
    let encoder = encoder(tower, "vision", false);
    let normed = encoder.layer_norm(&mut stage, "pre_layrnorm", &flat, "vision.pre_layrnorm");
    let rows_shape = stage.graph.integers("shape/rows", &[-1, rows, width]);
    let hidden = hidden_states(&mut stage, &encoder, normed, &rows_shape);
    let [start, end, axis] =
        [("slice/start", 0), ("slice/end", 1), ("slice/axis", 1)].map(|(name, value)| stage.graph.integers(name, &[value]));
    let class = stage.graph.op("Slice", "class_row", &[&hidden, &start, &end, &axis], &[]);
    let pooled = stage.reshape("class_row/flat", &class, "shape/flat", &[-1, width]);
    let pooled = encoder.layer_norm(&mut stage, "post_layernorm", &pooled, "vision.post_layernorm");
    let embeds = stage.linear("image_embeds", &pooled, "visual_projection", false);
    stage.graph.output(&embeds, ElementType::Float32, &[images, clip.projection_size.into()]);
    stage.finish()
}

/// Builds `text.onnx`: `input_ids` `[texts, tokens]` to `text_embeds` `[texts, projection]`, the projected row of the
/// end-of-sequence token. The last norm is applied to that row alone, as it looks at each row for itself.
pub fn text_graph(clip: &ClipModelArchitecture, weights: &WeightPlan, flavor: GraphFlavor) -> Result<Vec<u8>, ExportError> {
    let mut stage = StageBuilder::new("clip-text", weights, GraphStyle { flavor, compute: None });
    let tower = &clip.text;
    let width = signed(tower.hidden_size);
    let (texts, tokens) = (Dimension::named("texts"), Dimension::named("tokens"));
    let ids = stage.graph.input("input_ids", ElementType::Int64, &[texts.clone(), tokens]);

    let table = stage.weight("text.embeddings.token_embedding.weight");
    let embedded = stage.graph.op("Gather", "embeddings/tokens", &[&table, &ids], &[]);
    let positions = stage.weight("text.embeddings.position_embedding.weight");
    let length = dimension(&mut stage, "embeddings/length", &ids, 1);
    let [start, axis] = [("slice/start", 0), ("slice/axis", 0)].map(|(name, value)| stage.graph.integers(name, &[value]));
    let positions = stage.graph.op("Slice", "embeddings/used_positions", &[&positions, &start, &length, &axis], &[]);
    let embedded = stage.graph.op("Add", "embeddings/positions", &[&embedded, &positions], &[]);

    let flat = stage.reshape("embeddings/flat", &embedded, "shape/flat", &[-1, width]);
    let shape = stage.graph.op("Shape", "embeddings/shape", &[&embedded], &[]);
    let encoder = encoder(tower, "text", true);
    let hidden = hidden_states(&mut stage, &encoder, flat, &shape);
    let place = pooled_place(&mut stage, &ids, clip.pooling);
    let pooled = stage.graph.op("GatherND", "pooled", &[&hidden, &place], &[("batch_dims", Attribute::Int(1))]);
    let pooled = encoder.layer_norm(&mut stage, "final_layer_norm", &pooled, "text.final_layer_norm");
    let embeds = stage.linear("text_embeds", &pooled, "text_projection", false);
    stage.graph.output(&embeds, ElementType::Float32, &[texts, clip.projection_size.into()]);
    stage.finish()
}

/// The place of the row that stands for each text, `[texts, 1]`: the first of the largest, or of the end-of-sequence ids.
fn pooled_place(stage: &mut StageBuilder<'_>, ids: &Value, pooling: TextPooling) -> Value {
    let to_int32 = [("to", Attribute::Int(i64::from(data_type::INT32)))];
    let ranked = match pooling {
        TextPooling::LargestId => stage.graph.op("Cast", "pooling/ids", &[ids], &to_int32),
        TextPooling::FirstEos(eos) => {
            let eos = stage.graph.integers("pooling/eos", &[i64::from(eos)]);
            let equal = stage.graph.op("Equal", "pooling/is_eos", &[ids, &eos], &[]);
            stage.graph.op("Cast", "pooling/marks", &[&equal], &to_int32)
        }
    };
    let attributes = [("axis", Attribute::Int(1)), ("keepdims", Attribute::Int(1)), ("select_last_index", Attribute::Int(0))];
    stage.graph.op("ArgMax", "pooling/place", &[&ranked], &attributes)
}

/// One size of a value's shape, `[1]`.
fn dimension(stage: &mut StageBuilder<'_>, node: &str, value: &Value, axis: i64) -> Value {
    stage.graph.op("Shape", node, &[value], &[("start", Attribute::Int(axis)), ("end", Attribute::Int(axis + 1))])
}

/// The layers of a tower.
fn encoder<'a>(tower: &Tower, name: &'a str, causal: bool) -> Encoder<'a> {
    Encoder {
        tower: name,
        layers: tower.layers,
        width: tower.hidden_size,
        heads: tower.heads,
        activation: tower.activation,
        layer_norm_epsilon: tower.layer_norm_epsilon,
        causal,
    }
}

/// The layers on `[batch · rows, width]`, giving `[batch, rows, width]`, the shape that `rows_shape` holds.
fn hidden_states(stage: &mut StageBuilder<'_>, encoder: &Encoder<'_>, flat: Value, rows_shape: &Value) -> Value {
    let rows = |stage: &mut StageBuilder<'_>, node: &str, flat: &Value| stage.graph.op("Reshape", node, &[flat, rows_shape], &[]);
    let residual = encoder.add(stage, flat, rows);
    rows(stage, "last_hidden_state/rows", &residual)
}
