//! Models of one linear layer in each arithmetic, as the export builds it, and a model that reads a large tensor: what the limits of the
//! machine are measured with.

use super::cost::Arithmetic;
use crate::onnx::{Attribute, Dimension, ElementType, GraphBuilder, OnnxError, Value};

/// Weights that share a scale in the measured kernels.
pub(super) const BLOCK: usize = 128;

fn signed(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// Bytes without a pattern, always the same.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8
    };
    (0..count).map(|_| next()).collect()
}

fn floats(count: usize, scale: f32) -> Vec<u8> {
    bytes(count).into_iter().flat_map(|byte| ((f32::from(byte) - 127.5) * scale).to_le_bytes()).collect()
}

/// `x` `[rows, inputs]` to `y` `[rows, outputs]`.
pub(super) fn linear_model(arithmetic: Arithmetic, inputs: usize, outputs: usize) -> Result<Vec<u8>, OnnxError> {
    let mut graph = GraphBuilder::new("linear");
    let rows = Dimension::named("rows");
    let x = graph.input("x", ElementType::Float32, &[rows.clone(), inputs.into()]);
    let y = match arithmetic {
        Arithmetic::Fp32 => {
            let weight = graph.constant("weight", ElementType::Float32, &[outputs, inputs], floats(outputs * inputs, 1e-3));
            graph.op("Gemm", "y", &[&x, &weight], &[("transB", Attribute::Int(1))])
        }
        Arithmetic::Int8 => int8(&mut graph, &x, inputs, outputs),
        Arithmetic::Int8Weights => blocks(&mut graph, &x, inputs, outputs, 8),
        Arithmetic::Int4 => blocks(&mut graph, &x, inputs, outputs, 4),
    };
    graph.output(&y, ElementType::Float32, &[rows, outputs.into()]);
    graph.finish()
}

fn int8(graph: &mut GraphBuilder, x: &Value, inputs: usize, outputs: usize) -> Value {
    let magnitudes = graph.op("Abs", "magnitudes", &[x], &[]);
    let axis = graph.integers("axis", &[-1]);
    let largest = graph.op("ReduceMax", "largest", &[&magnitudes, &axis], &[("keepdims", Attribute::Int(1))]);
    let shares = graph.op("Div", "shares", &[x, &largest], &[]);
    let (step, zero) = (graph.float("step", 1.0 / 127.0), graph.byte("zero", 128));
    let codes = graph.op("QuantizeLinear", "codes", &[&shares, &step, &zero], &[]);
    let weight = graph.constant("weight", ElementType::Int8, &[inputs, outputs], bytes(inputs * outputs));
    let scales = graph.constant("scales", ElementType::Float32, &[outputs], floats(outputs, 1e-3));
    let product = graph.microsoft_op("MatMulIntegerToFloat", "product", &[&codes, &weight, &step, &scales, &zero], &[]);
    graph.op("Mul", "y", &[&product, &largest], &[])
}

fn blocks(graph: &mut GraphBuilder, x: &Value, inputs: usize, outputs: usize, bits: usize) -> Value {
    let count = inputs.div_ceil(BLOCK);
    let block_bytes = BLOCK * bits / 8;
    let codes = graph.constant("codes", ElementType::Uint8, &[outputs, count, block_bytes], bytes(outputs * count * block_bytes));
    let scales = graph.constant("scales", ElementType::Float32, &[outputs * count], floats(outputs * count, 1e-3));
    let attributes = [
        ("K", Attribute::Int(signed(inputs))),
        ("N", Attribute::Int(signed(outputs))),
        ("bits", Attribute::Int(signed(bits))),
        ("block_size", Attribute::Int(signed(BLOCK))),
        ("accuracy_level", Attribute::Int(4)),
    ];
    graph.microsoft_op("MatMulNBits", "y", &[x, &codes, &scales], &attributes)
}

/// `x` `[rows, columns]` to the largest number of each row: every number is read once and hardly anything is done with it.
pub(super) fn reading_model(columns: usize) -> Result<Vec<u8>, OnnxError> {
    let mut graph = GraphBuilder::new("reading");
    let rows = Dimension::named("rows");
    let x = graph.input("x", ElementType::Float32, &[rows.clone(), columns.into()]);
    let axis = graph.integers("axis", &[-1]);
    let y = graph.op("ReduceMax", "y", &[&x, &axis], &[("keepdims", Attribute::Int(0))]);
    graph.output(&y, ElementType::Float32, &[rows]);
    graph.finish()
}
