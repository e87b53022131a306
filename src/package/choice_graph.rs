//! A graph that chooses tokens from logits where these are, so that a number for each row leaves a GPU and not a vocabulary.

use crate::onnx::{Attribute, Dimension, ElementType, GraphBuilder, OnnxError, SMALL_GRAPH_OPSET};

/// Builds the graph. Inputs: `logits` f32 `[rows, vocabulary]`, and `targets` i64 `[targets, 2]`, a row and a token each. Outputs:
/// `token` f32 `[rows, 1]`, the place of the largest logit, the lowest where several are equal; `largest` f32 `[rows, 1]`, that
/// logit; `log_sum` f32 `[rows, 1]`, `log Σ exp(logit − largest)`, which is no number where a logit of the row is not finite;
/// and `chosen` f32 `[targets]`, the targets' logits.
///
/// The place is looked for by comparing, as the tie-break of `ArgMax` and `TopK` is not the same everywhere; it is exact in 32 bits up
/// to 2^24 tokens.
pub fn choice_graph(vocabulary: usize) -> Result<Vec<u8>, OnnxError> {
    let mut graph = GraphBuilder::of_opset("choice", SMALL_GRAPH_OPSET);
    let float = ElementType::Float32;
    let rows = || Dimension::named("rows");
    let logits = graph.input("logits", float, &[rows(), vocabulary.into()]);
    let targets = graph.input("targets", ElementType::Int64, &[Dimension::named("targets"), Dimension::Fixed(2)]);
    let last = graph.integers("last", &[-1]);
    let kept = [("keepdims", Attribute::Int(1))];
    let largest = graph.op("ReduceMax", "largest", &[&logits, &last], &kept);
    let shares = graph.op("Sub", "shifted", &[&logits, &largest], &[]);
    let shares = graph.op("Exp", "shares", &[&shares], &[]);
    let sum = graph.op("ReduceSum", "sum", &[&shares, &last], &kept);
    let log = graph.op("Log", "log", &[&sum], &[]);
    // What is added is zero; of a row with negative infinity it is no number.
    let least = graph.op("ReduceMin", "least", &[&logits, &last], &kept);
    let doubt = graph.op("Sub", "doubt", &[&least, &least], &[]);
    let log_sum = graph.op("Add", "log_sum", &[&log, &doubt], &[]);
    let places = (0..vocabulary).flat_map(|place| (place as f32).to_le_bytes()).collect();
    let places = graph.constant("places", float, &[1, vocabulary], places);
    let beyond = graph.float("beyond", vocabulary as f32);
    let found = graph.op("Equal", "found", &[&logits, &largest], &[]);
    let found = graph.op("Where", "found_places", &[&found, &places, &beyond], &[]);
    let token = graph.op("ReduceMin", "token", &[&found, &last], &kept);
    let chosen = graph.op("GatherND", "chosen", &[&logits, &targets], &[]);
    for value in [&token, &largest, &log_sum] {
        graph.output(value, float, &[rows(), Dimension::Fixed(1)]);
    }
    graph.output(&chosen, float, &[Dimension::named("targets")]);
    graph.finish()
}
