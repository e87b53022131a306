//! The language model graph (`modeling_llama.py`, `modeling_mistral.py` and `modeling_qwen2.py` of transformers, which differ
//! in biases and defaults). A run is one sequence of packed tokens, or one token each of several sequences (the fused kernel of
//! attention takes a batch on top of a past only so). A sliding window is not in the graph: the engine writes it into the
//! attention bias.

use super::ExportError;
use super::graphs::{GraphStyle, StageBuilder, signed};
use super::language_architecture::LlamaArchitecture;
use super::standard_attention::CacheRows;
use super::weights::WeightPlan;
use crate::onnx::{Attribute, Dimension, ElementType, Value};
use crate::package::GraphFlavor;

/// Name of the cosine table.
pub(super) const COSINES: &str = "llm.rotary.cos";
/// Name of the sine table.
pub(super) const SINES: &str = "llm.rotary.sin";

/// The inputs that all layers share.
struct Inputs {
    positions: Value,
    bias: Value,
    lengths: Value,
    total: Value,
    rows: Value,
    cosines: Value,
    sines: Value,
    /// In graphs of standard operators alone: where new rows go.
    cache: Option<CacheRows>,
}

/// Builds `llm.onnx`, whose inputs and outputs `LanguageModelStage` describes.
pub(super) fn llm_graph(llm: &LlamaArchitecture, weights: &WeightPlan, style: GraphStyle) -> Result<Vec<u8>, ExportError> {
    let mut stage = StageBuilder::new("llm", weights, style);
    let named = Dimension::named;
    let (tokens, batch, sequence) = (named("tokens"), named("batch"), named("sequence"));
    let graph = &mut stage.graph;
    let embeds = graph.input("inputs_embeds", ElementType::Float32, &[tokens, llm.hidden_size.into()]);
    let positions = graph.input("position_ids", ElementType::Int64, &[batch.clone(), sequence.clone()]);
    let bias_shape = [batch.clone(), Dimension::Fixed(1), sequence, named("total")];
    let bias = graph.input("attention_bias", ElementType::Float32, &bias_shape);
    let lengths = graph.input("seqlens_k", ElementType::Int32, &[batch]);
    let total = graph.input("total_sequence_length", ElementType::Int32, &[]);
    let rows = graph.input("logit_rows", ElementType::Int64, &[named("rows")]);
    let past = cache_inputs(&mut stage, llm);
    let first = [("start", Attribute::Int(0)), ("end", Attribute::Int(1))];
    let batch = stage.graph.op("Shape", "shape/batch", &[&positions], &first);
    let (cosines, sines) = (stage.weight(COSINES), stage.weight(SINES));
    let seen = bias.clone();
    let (embeds, bias) = (stage.narrowed(&embeds), narrow_bias(&mut stage, bias));
    let cache = match style.flavor {
        GraphFlavor::Contrib => {
            row_shapes(&mut stage, llm, &batch);
            None
        }
        GraphFlavor::Standard => Some(CacheRows::new(&mut stage, llm, &batch, [&positions, &lengths, &seen])),
    };
    let inputs = Inputs { positions, bias, lengths, total, rows, cosines, sines, cache };

    let scale = stage.weight("llm.layers.0.input_layernorm.weight");
    let mut normed = stage.rms_norm("layers.0/input_layernorm", &embeds, &scale, llm.norm_epsilon);
    let mut residual = embeds;
    for (layer, past) in past.iter().enumerate() {
        (normed, residual) = decoder_layer(&mut stage, llm, &inputs, layer, past, &normed, &residual);
    }
    let head = stage.head();
    let logits = stage.linear(&stage.before_output("logits"), &normed, head, false);
    stage.output("logits", &logits, &[named("rows"), llm.vocabulary_size.into()]);
    for layer in 0..llm.layers {
        for part in ["key", "value"] {
            let present = stage.graph.value(&format!("present.{layer}.{part}"));
            stage.graph.output(&present, stage.element(), &cache_shape(llm));
        }
    }
    stage.finish()
}

/// Shapes that all layers share: queries, keys and values as `[batch, sequence, width]`. `batch` is `[1]`.
fn row_shapes(stage: &mut StageBuilder<'_>, llm: &LlamaArchitecture, batch: &Value) {
    let mut widths = vec![llm.heads * llm.head_size, llm.key_value_heads * llm.head_size];
    widths.dedup();
    for width in widths {
        let rest = stage.graph.integers(&format!("shape/rest_{width}"), &[-1, signed(width)]);
        let axis = [("axis", Attribute::Int(0))];
        stage.graph.op("Concat", &row_shape(width), &[batch, &rest], &axis);
    }
}

/// The name of the shape of rows of this width.
fn row_shape(width: usize) -> String {
    format!("shape/row_{width}")
}

fn cache_shape(llm: &LlamaArchitecture) -> [Dimension; 4] {
    [Dimension::named("batch"), llm.key_value_heads.into(), Dimension::named("capacity"), llm.head_size.into()]
}

fn cache_inputs(stage: &mut StageBuilder<'_>, llm: &LlamaArchitecture) -> Vec<[Value; 2]> {
    let element = stage.element();
    let mut input = |name: String| stage.graph.input(&name, element, &cache_shape(llm));
    (0..llm.layers).map(|layer| ["key", "value"].map(|part| input(format!("past_key_values.{layer}.{part}")))).collect()
}

/// The attention bias in the type of the scores. What hides a position is the lowest number of 32 bits, which has no counterpart in
/// fewer: it becomes the lowest of theirs, and no infinity, which kernels may turn into a NaN.
fn narrow_bias(stage: &mut StageBuilder<'_>, bias: Value) -> Value {
    let Some(compute) = stage.compute() else { return bias };
    let lowest = stage.graph.float("attention_bias/lowest", compute.lowest());
    let raised = stage.graph.op("Max", "attention_bias/raised", &[&bias, &lowest], &[]);
    let element = stage.element();
    stage.cast("attention_bias/narrowed", &raised, element)
}

/// One layer: gives the normed input of the next one (or of the output head) and the running sum. In the last layer only
/// the rows whose logits are wanted go on after attention, as nothing looks at the others.
fn decoder_layer(
    stage: &mut StageBuilder<'_>,
    llm: &LlamaArchitecture,
    inputs: &Inputs,
    layer: usize,
    past: &[Value; 2],
    normed: &Value,
    residual: &Value,
) -> (Value, Value) {
    let (node, weight) = (format!("layers.{layer}"), format!("llm.layers.{layer}"));
    let attended = match &inputs.cache {
        None => fused_attention(stage, llm, inputs, layer, past, normed),
        Some(cache) => {
            let rows = ["q_proj", "k_proj", "v_proj"].map(|part| projected(stage, llm, layer, part, normed));
            let shared = [&inputs.positions, &inputs.bias, &inputs.cosines, &inputs.sines];
            cache.attend(stage, llm, layer, rows.each_ref(), past, shared)
        }
    };
    let width = signed(llm.heads * llm.head_size);
    let mut attended = stage.reshape(&format!("{node}/attention/flat"), &attended, "shape/flat", &[-1, width]);
    let mut residual = residual.clone();
    let last = layer + 1 == llm.layers;
    if last {
        let mut gather = |name: &str, value: &Value| stage.graph.op("Gather", name, &[value, &inputs.rows], &[]);
        attended = gather("attended_rows", &attended);
        residual = gather("residual_rows", &residual);
    }
    let bias = llm.attention_output_bias;
    let attended = stage.linear(&format!("{node}/o_proj"), &attended, &format!("{weight}.self_attn.o_proj"), bias);
    let norm = format!("{weight}.post_attention_layernorm.weight");
    let (normed, residual) = add_and_norm(stage, llm, &format!("{node}/post_attention_layernorm"), &attended, &residual, &norm);
    let mut wide =
        |part: &str| stage.linear(&format!("{node}/{part}"), &normed, &format!("{weight}.mlp.{part}"), llm.feed_forward_bias);
    let (gate, up) = (wide("gate_proj"), wide("up_proj"));
    let gate = stage.sigmoid_unit(&format!("{node}/silu"), &gate, 1.0);
    let gated = stage.graph.op("Mul", &format!("{node}/gated"), &[&gate, &up], &[]);
    let narrow = stage.linear(&format!("{node}/down_proj"), &gated, &format!("{weight}.mlp.down_proj"), llm.feed_forward_bias);
    let (node, norm) = if last {
        ("norm".to_owned(), "llm.norm.weight".to_owned())
    } else {
        let next = layer + 1;
        (format!("layers.{next}/input_layernorm"), format!("llm.layers.{next}.input_layernorm.weight"))
    };
    add_and_norm(stage, llm, &node, &narrow, &residual, &norm)
}

/// Queries, keys or values of a layer, `[tokens, width]`.
fn projected(stage: &mut StageBuilder<'_>, llm: &LlamaArchitecture, layer: usize, part: &str, normed: &Value) -> Value {
    let weight = format!("llm.layers.{layer}.self_attn.{part}");
    stage.linear(&format!("layers.{layer}/{part}"), normed, &weight, llm.query_key_value_bias)
}

/// Attention of a layer by the fused operator of ONNX Runtime, which turns queries and keys and writes the cache, too.
fn fused_attention(
    stage: &mut StageBuilder<'_>,
    llm: &LlamaArchitecture,
    inputs: &Inputs,
    layer: usize,
    past: &[Value; 2],
    normed: &Value,
) -> Value {
    let mut rows = |part: &str, count: usize| {
        let flat = projected(stage, llm, layer, part, normed);
        let shape = stage.graph.value(&row_shape(count * llm.head_size));
        stage.graph.op("Reshape", &format!("layers.{layer}/{part}/row"), &[&flat, &shape], &[])
    };
    let mut query = rows("q_proj", llm.heads);
    let (mut key, value) = (rows("k_proj", llm.key_value_heads), rows("v_proj", llm.key_value_heads));
    let absent = Value::absent();
    let (mut cosines, mut sines, mut positions) = (&inputs.cosines, &inputs.sines, &inputs.positions);
    // Kernels of GPUs may take it for granted that positions count up from the first, which they do not do in a pack.
    let inside = stage.compute().is_none();
    if !inside {
        query = rotated(stage, &format!("layers.{layer}/q_proj/rotated"), &query, inputs);
        key = rotated(stage, &format!("layers.{layer}/k_proj/rotated"), &key, inputs);
        (cosines, sines, positions) = (&absent, &absent, &absent);
    }
    let [past_key, past_value] = past;
    let attention = format!("layers.{layer}/attention");
    stage.graph.microsoft_op_with_outputs(
        "GroupQueryAttention",
        &attention,
        &[&query, &key, &value, past_key, past_value, &inputs.lengths, &inputs.total, cosines, sines, positions, &inputs.bias],
        &[&attention, &format!("present.{layer}.key"), &format!("present.{layer}.value")],
        &[
            ("num_heads", Attribute::Int(signed(llm.heads))),
            ("kv_num_heads", Attribute::Int(signed(llm.key_value_heads))),
            ("do_rotary", Attribute::Int(i64::from(inside))),
        ],
    );
    stage.graph.value(&attention)
}

/// Queries or keys `[batch, sequence, width]` turned by their positions.
fn rotated(stage: &mut StageBuilder<'_>, node: &str, rows: &Value, inputs: &Inputs) -> Value {
    stage.graph.microsoft_op("RotaryEmbedding", node, &[rows, &inputs.positions, &inputs.cosines, &inputs.sines], &[])
}

/// The norm of `input + skip`, and the sum itself.
fn add_and_norm(
    stage: &mut StageBuilder<'_>,
    llm: &LlamaArchitecture,
    node: &str,
    input: &Value,
    skip: &Value,
    weight: &str,
) -> (Value, Value) {
    let scale = stage.weight(weight);
    stage.add_and_rms_norm(node, [input, skip], &scale, llm.norm_epsilon)
}
