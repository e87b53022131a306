//! The language model graph (`modeling_llama.py`, `modeling_mistral.py` and `modeling_qwen2.py` of transformers, which differ
//! in biases and defaults). A run is one sequence of packed tokens, or one token each of several sequences (the kernel of
//! attention takes a batch on top of a past only so). A sliding window is not in the graph: the engine writes it into the
//! attention bias.

use super::ExportError;
use super::graphs::{StageBuilder, signed};
use super::language_architecture::LlamaArchitecture;
use super::weights::WeightPlan;
use crate::onnx::{Attribute, Dimension, ElementType, Value};
use crate::package::Compute;

/// Name of the cosine table.
pub(super) const COSINES: &str = "llm.rotary.cos";
/// Name of the sine table.
pub(super) const SINES: &str = "llm.rotary.sin";

/// The inputs that all layers share.
struct Inputs {
    /// `[batch]` as a vector of one number, for the shapes that the attention kernel wants.
    batch: Value,
    positions: Value,
    bias: Value,
    lengths: Value,
    total: Value,
    rows: Value,
    cosines: Value,
    sines: Value,
}

/// Builds `llm.onnx`, whose inputs and outputs `LanguageModelStage` describes.
pub(super) fn llm_graph(
    llm: &LlamaArchitecture,
    weights: &WeightPlan,
    compute: Option<Compute>,
) -> Result<Vec<u8>, ExportError> {
    let mut stage = StageBuilder::computing("llm", weights, compute);
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
    let (embeds, bias) = (stage.narrowed(&embeds), narrow_bias(&mut stage, bias));
    let inputs = Inputs { batch, positions, bias, lengths, total, rows, cosines, sines };

    // Shapes that all layers share: queries, keys and values as `[batch, sequence, width]`.
    let mut widths = vec![llm.heads * llm.head_size, llm.key_value_heads * llm.head_size];
    widths.dedup();
    for width in widths {
        let rest = stage.graph.integers(&format!("shape/rest_{width}"), &[-1, signed(width)]);
        let axis = [("axis", Attribute::Int(0))];
        stage.graph.op("Concat", &row_shape(width), &[&inputs.batch, &rest], &axis);
    }

    let scale = stage.weight("llm.layers.0.input_layernorm.weight");
    // ONNX Runtime knows this operator in the standard domain, though no standard has it.
    let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(llm.norm_epsilon))];
    let mut normed = stage.graph.op("SimplifiedLayerNormalization", "layers.0/input_layernorm", &[&embeds, &scale], &attributes);
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
    let mut heads = |part: &str, count: usize| {
        let bias = llm.query_key_value_bias;
        let flat = stage.linear(&format!("{node}/{part}"), normed, &format!("{weight}.self_attn.{part}"), bias);
        let shape = stage.graph.value(&row_shape(count * llm.head_size));
        stage.graph.op("Reshape", &format!("{node}/{part}/row"), &[&flat, &shape], &[])
    };
    let mut query = heads("q_proj", llm.heads);
    let (mut key, value) = (heads("k_proj", llm.key_value_heads), heads("v_proj", llm.key_value_heads));
    let absent = Value::absent();
    let (mut cosines, mut sines, mut positions) = (&inputs.cosines, &inputs.sines, &inputs.positions);
    // Kernels of GPUs may take it for granted that positions count up from the first, which they do not do in a pack.
    let inside = stage.compute().is_none();
    if !inside {
        query = rotated(stage, &format!("{node}/q_proj/rotated"), &query, inputs);
        key = rotated(stage, &format!("{node}/k_proj/rotated"), &key, inputs);
        (cosines, sines, positions) = (&absent, &absent, &absent);
    }
    let [past_key, past_value] = past;
    let attention = format!("{node}/attention");
    stage.graph.microsoft_op_with_outputs(
        "GroupQueryAttention",
        &attention,
        &[
            &query,
            &key,
            &value,
            past_key,
            past_value,
            &inputs.lengths,
            &inputs.total,
            cosines,
            sines,
            positions,
            &inputs.bias,
        ],
        &[&attention, &format!("present.{layer}.key"), &format!("present.{layer}.value")],
        &[
            ("num_heads", Attribute::Int(signed(llm.heads))),
            ("kv_num_heads", Attribute::Int(signed(llm.key_value_heads))),
            ("do_rotary", Attribute::Int(i64::from(inside))),
        ],
    );
    let attended = stage.graph.value(&attention);
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
    // QuickGelu with alpha 1 is SiLU.
    let alpha = [("alpha", Attribute::Float(1.0))];
    let gate = stage.graph.microsoft_op("QuickGelu", &format!("{node}/silu"), &[&gate], &alpha);
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
    let (epsilon, sum) = ([("epsilon", Attribute::Float(llm.norm_epsilon))], format!("{node}/sum"));
    let inputs = [input, skip, &scale];
    stage.graph.microsoft_op_with_outputs("SkipSimplifiedLayerNormalization", node, &inputs, &[node, "", "", &sum], &epsilon);
    (stage.graph.value(node), stage.graph.value(&sum))
}
