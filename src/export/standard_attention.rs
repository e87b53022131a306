//! Attention of the language model by standard operators, on the same cache as the fused operator of ONNX Runtime: buffers with room
//! for more rows than there are, into which a run writes its own.
//!
//! New rows are written by `ScatterND`, in place where the engine binds present and past to the same buffer, and `Attention` is given
//! the rows that are in use, by `Slice`. The operator's own past and present would do without either, but they make a new cache of
//! exactly the sequence's length in each run, cannot hold sequences of different lengths, and TensorRT does not take them. Nor is it
//! `TensorScatter` that writes, which is made for just this: TensorRT wants caches of a fixed size from it, and `ScatterND` is known
//! everywhere. What the slices copy, keys and values once more, attention reads anyway.

use super::graphs::{StageBuilder, signed};
use super::language_architecture::LlamaArchitecture;
use crate::onnx::{Attribute, ElementType, Value};

/// What all layers share.
pub(super) struct CacheRows {
    /// Where a run's own rows go: batch, head and row of each, `[batch, key_value_heads, sequence, 3]`.
    places: Value,
    /// Rows in use after the run, `[1]`.
    total: Value,
}

/// The name of the shape of rows with so many heads, `[batch, sequence, heads, head_size]`.
fn heads_shape(heads: usize) -> String {
    format!("shape/heads_{heads}")
}

impl CacheRows {
    /// From the inputs `position_ids` `[batch, sequence]`, `seqlens_k` `[batch]` and `attention_bias` `[batch, 1, sequence, total]`;
    /// `batch` is `[1]`.
    pub fn new(
        stage: &mut StageBuilder<'_>,
        llm: &LlamaArchitecture,
        batch: &Value,
        [positions, lengths, bias]: [&Value; 3],
    ) -> Self {
        let axis = [("axis", Attribute::Int(0))];
        let mut counts = vec![llm.heads, llm.key_value_heads];
        counts.dedup();
        for heads in counts {
            let rest = [-1, signed(heads), signed(llm.head_size)];
            let rest = stage.graph.integers(&format!("shape/rest_{heads}"), &rest);
            stage.graph.op("Concat", &heads_shape(heads), &[batch, &rest], &axis);
        }
        let size = |axis: i64| [("start", Attribute::Int(axis)), ("end", Attribute::Int(axis + 1))];
        let graph = &mut stage.graph;
        let total = graph.op("Shape", "cache/total", &[bias], &size(3));
        let sequence = graph.op("Shape", "shape/sequence", &[positions], &size(1));

        // The rows of a sequence that ends in row l are l - sequence + 1 to l.
        let (zero, one) = (graph.integer("cache/zero", 0), graph.integer("cache/one", 1));
        let count = graph.op("Squeeze", "cache/count", &[&sequence], &[]);
        let end = graph.op("Add", "cache/end", &[&count, &one], &[]);
        let steps = graph.op("Range", "cache/steps", &[&one, &end, &one], &[]);
        let back = graph.op("Sub", "cache/back", &[&steps, &sequence], &[]);
        let to_int64 = [("to", Attribute::Int(i64::from(ElementType::Int64.code())))];
        let last = graph.op("Cast", "cache/last", &[lengths], &to_int64);
        let across = graph.integers("cache/across", &[1]);
        let last = graph.op("Unsqueeze", "cache/last_rows", &[&last, &across], &[]);
        let rows = graph.op("Add", "cache/rows", &[&last, &back], &[]);
        let around = graph.integers("cache/around", &[1, 3]);
        let rows = graph.op("Unsqueeze", "cache/rows_by_head", &[&rows, &around], &[]);

        let batches = graph.op("Squeeze", "cache/batch_count", &[batch], &[]);
        let batches = graph.op("Range", "cache/batches", &[&zero, &batches, &one], &[]);
        let standing = graph.integers("cache/standing", &[-1, 1, 1, 1]);
        let batches = graph.op("Reshape", "cache/batches_by_head", &[&batches, &standing], &[]);
        let numbers = (0..signed(llm.key_value_heads)).flat_map(i64::to_le_bytes).collect();
        let heads = graph.constant("cache/heads", ElementType::Int64, &[1, llm.key_value_heads, 1, 1], numbers);

        let head_count = graph.integers("cache/head_count", &[signed(llm.key_value_heads)]);
        let single = graph.integers("cache/single", &[1]);
        let shape = graph.op("Concat", "cache/shape", &[batch, &head_count, &sequence, &single], &axis);
        let [batches, heads, rows] = [("batch", batches), ("head", heads), ("row", rows)]
            .map(|(name, value)| graph.op("Expand", &format!("cache/places/{name}"), &[&value, &shape], &[]));
        let places = graph.op("Concat", "cache/places", &[&batches, &heads, &rows], &[("axis", Attribute::Int(-1))]);
        Self { places, total }
    }

    /// Attention of one layer over the cache and the run's own rows. Queries, keys and values are `[tokens, heads · head_size]`, not
    /// turned by their positions yet; the result is `[batch, sequence, heads, head_size]`.
    pub fn attend(
        &self,
        stage: &mut StageBuilder<'_>,
        llm: &LlamaArchitecture,
        layer: usize,
        [query, key, value]: [&Value; 3],
        past: &[Value; 2],
        [positions, bias, cosines, sines]: [&Value; 4],
    ) -> Value {
        let name = format!("layers.{layer}");
        let turned = [("perm", Attribute::Ints(vec![0, 2, 1, 3]))];
        let mut by_head = |part: &str, flat: &Value, heads: usize| {
            let shape = stage.graph.value(&heads_shape(heads));
            let rows = stage.graph.op("Reshape", &format!("{name}/{part}/row"), &[flat, &shape], &[]);
            stage.graph.op("Transpose", &format!("{name}/{part}/heads"), &[&rows], &turned)
        };
        let query = by_head("q_proj", query, llm.heads);
        let (key, value) = (by_head("k_proj", key, llm.key_value_heads), by_head("v_proj", value, llm.key_value_heads));
        let mut rotated = |part: &str, heads: &Value| {
            let inputs = [heads, cosines, sines, positions];
            stage.graph.op("RotaryEmbedding", &format!("{name}/{part}/rotated"), &inputs, &[])
        };
        let (query, key) = (rotated("q_proj", &query), rotated("k_proj", &key));
        let [start, axis] = [("cache/start", 0), ("cache/axis", 2)].map(|(name, value)| stage.graph.integers(name, &[value]));
        let [past_key, past_value] = past;
        let mut seen = |part: &str, past: &Value, new: &Value| {
            let present = format!("present.{layer}.{part}");
            let present = stage.graph.op("ScatterND", &present, &[past, &self.places, new], &[]);
            stage.graph.op("Slice", &format!("{name}/{part}"), &[&present, &start, &self.total, &axis], &[])
        };
        let (keys, values) = (seen("key", past_key, &key), seen("value", past_value, &value));
        let attention = format!("{name}/attention");
        let attended = stage.graph.op("Attention", &format!("{attention}/heads"), &[&query, &keys, &values, bias], &[]);
        stage.graph.op("Transpose", &attention, &[&attended], &turned)
    }
}
