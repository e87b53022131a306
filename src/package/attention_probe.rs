//! A graph of nothing but one layer's attention, with which an engine tries what a provider makes of it.

use super::manifest::{Compute, LanguageModelStage};
use crate::onnx::{Attribute, Dimension, ElementType, GraphBuilder, OnnxError, Value};

/// Rows of the rotary tables: positions that the graph knows.
const POSITIONS: usize = 64;
/// Most heads of keys and values; more of the same would say nothing new.
const KEY_VALUE_HEADS: usize = 2;

/// The attention of a language model, as small as it can be: the number type, the size of a head and how many heads of queries share
/// one of keys, by which kernels are chosen, are the model's.
///
/// Inputs are those of the language model's own attention: `query`, `key` and `value` f32 `[batch, sequence, heads · head_size]`,
/// `position_ids`, `attention_bias`, `seqlens_k`, `total_sequence_length`, and `past_key` and `past_value`
/// `[batch, key_value_heads, capacity, head_size]`, in 16 bits where it computes so. Outputs: `attended` f32 like `query`,
/// `present_key` and `present_value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttentionProbe {
    /// The model file.
    pub bytes: Vec<u8>,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub key_value_heads: usize,
    /// Numbers of a head.
    pub head_size: usize,
}

impl AttentionProbe {
    /// Builds the graph, in this number type (`None`: 32 bits) whatever the stage's is.
    pub fn new(stage: &LanguageModelStage, compute: Option<Compute>) -> Result<Self, OnnxError> {
        let key_value_heads = stage.key_value_heads.clamp(1, KEY_VALUE_HEADS);
        let heads = key_value_heads * (stage.attention_heads / stage.key_value_heads.max(1)).max(1);
        let head_size = stage.head_size;
        let mut graph = GraphBuilder::new("attention-probe");
        let named = Dimension::named;
        let (batch, sequence) = (named("batch"), named("sequence"));
        let rows = |heads: usize| [batch.clone(), sequence.clone(), (heads * head_size).into()];
        let element = match compute {
            None => ElementType::Float32,
            Some(Compute::Fp16) => ElementType::Float16,
            Some(Compute::Bf16) => ElementType::Bfloat16,
        };
        let inputs = [("query", heads), ("key", key_value_heads), ("value", key_value_heads)];
        let [query, key, value] = inputs.map(|(name, heads)| graph.input(name, ElementType::Float32, &rows(heads)));
        let positions = graph.input("position_ids", ElementType::Int64, &[batch.clone(), sequence.clone()]);
        let bias_shape = [batch.clone(), Dimension::Fixed(1), sequence.clone(), named("total")];
        let bias = graph.input("attention_bias", ElementType::Float32, &bias_shape);
        let lengths = graph.input("seqlens_k", ElementType::Int32, std::slice::from_ref(&batch));
        let total = graph.input("total_sequence_length", ElementType::Int32, &[]);
        let cache = [batch.clone(), key_value_heads.into(), named("capacity"), head_size.into()];
        let [past_key, past_value] = ["past_key", "past_value"].map(|name| graph.input(name, element, &cache));

        // Angles as every rotary table has them; which they are does not matter, as long as positions differ.
        let half = head_size / 2;
        let angle = |place: usize| {
            let (position, frequency) = (place / half.max(1), place % half.max(1));
            position as f64 / 10_000_f64.powf(frequency as f64 / half.max(1) as f64)
        };
        let mut table = |name: &str, of: fn(f64) -> f64| {
            let bytes = (0..POSITIONS * half).flat_map(|place| (of(angle(place)) as f32).to_le_bytes()).collect();
            let table = graph.constant(name, ElementType::Float32, &[POSITIONS, half], bytes);
            narrowed(&mut graph, &table, compute)
        };
        let (cosines, sines) = (table("cosines", f64::cos), table("sines", f64::sin));
        let lowest = match compute {
            None => f32::MIN,
            Some(compute) => compute.lowest(),
        };
        let lowest = graph.float("lowest", lowest);
        let bias = graph.op("Max", "bias", &[&bias, &lowest], &[]);
        let [query, key, value, bias] = [query, key, value, bias].map(|value| narrowed(&mut graph, &value, compute));
        let mut rotated =
            |name: &str, value: &Value| graph.microsoft_op("RotaryEmbedding", name, &[value, &positions, &cosines, &sines], &[]);
        let (query, key) = (rotated("query/rotated", &query), rotated("key/rotated", &key));
        let absent = Value::absent();
        let signed = |size: usize| Attribute::Int(i64::try_from(size).unwrap_or(i64::MAX));
        let attended = if compute.is_some() { "attended/narrow" } else { "attended" };
        graph.microsoft_op_with_outputs(
            "GroupQueryAttention",
            "attention",
            &[&query, &key, &value, &past_key, &past_value, &lengths, &total, &absent, &absent, &absent, &bias],
            &[attended, "present_key", "present_value"],
            &[("num_heads", signed(heads)), ("kv_num_heads", signed(key_value_heads)), ("do_rotary", Attribute::Int(0))],
        );
        let mut given = graph.value(attended);
        if compute.is_some() {
            given = cast(&mut graph, "attended", &given, ElementType::Float32);
        }
        graph.output(&given, ElementType::Float32, &rows(heads));
        for name in ["present_key", "present_value"] {
            let present = graph.value(name);
            graph.output(&present, element, &cache);
        }
        Ok(Self { bytes: graph.finish()?, heads, key_value_heads, head_size })
    }
}

fn cast(graph: &mut GraphBuilder, node: &str, value: &Value, to: ElementType) -> Value {
    graph.op("Cast", node, &[value], &[("to", Attribute::Int(i64::from(to.code())))])
}

fn narrowed(graph: &mut GraphBuilder, value: &Value, compute: Option<Compute>) -> Value {
    let node = format!("{}/narrowed", value.name());
    match compute {
        None => value.clone(),
        Some(Compute::Fp16) => cast(graph, &node, value, ElementType::Float16),
        Some(Compute::Bf16) => cast(graph, &node, value, ElementType::Bfloat16),
    }
}
