//! Graphs that work on a key-value cache where it is: on a GPU, nothing else can.

use super::manifest::{Compute, LanguageModelStage};
use crate::onnx::{Dimension, ElementType, GraphBuilder, OnnxError, SMALL_GRAPH_OPSET};

/// The graphs for the cache of a language model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheGraphs {
    /// Copies rows from `source` to `target`, both `[slots, key_value_heads, rows, head_size]` of any slots and rows: those at the
    /// places `from` to the places `to`, i64 `[key_value_heads, copied, 3]`, a slot, a head and a row each. `copied` is the target
    /// with these rows, written in place where both are bound to one buffer.
    pub copy: Vec<u8>,
    /// Gives `zeros` of a `shape` i64 `[4]`.
    pub zeros: Vec<u8>,
}

impl CacheGraphs {
    /// Builds both.
    pub fn new(stage: &LanguageModelStage) -> Result<Self, OnnxError> {
        let element = match stage.compute {
            None => ElementType::Float32,
            Some(Compute::Fp16) => ElementType::Float16,
            Some(Compute::Bf16) => ElementType::Bfloat16,
        };
        let cache = |slots: &str, rows: &str| -> [Dimension; 4] {
            [Dimension::named(slots), stage.key_value_heads.into(), Dimension::named(rows), stage.head_size.into()]
        };
        let places = [stage.key_value_heads.into(), Dimension::named("copied"), Dimension::Fixed(3)];
        let mut graph = GraphBuilder::of_opset("copy-rows", SMALL_GRAPH_OPSET);
        let source = graph.input("source", element, &cache("source_slots", "source_rows"));
        let from = graph.input("from", ElementType::Int64, &places);
        let target = graph.input("target", element, &cache("target_slots", "target_rows"));
        let to = graph.input("to", ElementType::Int64, &places);
        let rows = graph.op("GatherND", "rows", &[&source, &from], &[]);
        let copied = graph.op("ScatterND", "copied", &[&target, &to, &rows], &[]);
        graph.output(&copied, element, &cache("target_slots", "target_rows"));
        let copy = graph.finish()?;

        let mut graph = GraphBuilder::of_opset("zeros", SMALL_GRAPH_OPSET);
        let shape = graph.input("shape", ElementType::Int64, &[Dimension::Fixed(4)]);
        // All bits of zero are zero in any type.
        let zero = graph.constant("zero", element, &[], vec![0; if stage.compute.is_some() { 2 } else { 4 }]);
        let zeros = graph.op("Expand", "zeros", &[&zero, &shape], &[]);
        graph.output(&zeros, element, &cache("slots", "rows"));
        Ok(Self { copy, zeros: graph.finish()? })
    }
}
