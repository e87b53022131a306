//! What the graph builders share: weights by name, and linear layers in every precision. Other operators that the flavours write
//! differently are in [`super::operators`].

use std::collections::BTreeMap;

use super::ExportError;
use super::quantise::{BlockFormat, Scheme};
use super::weights::{CODES, LinearWeight, SCALES, WeightPlan};
use crate::onnx::{Attribute, Dimension, ElementType, ExternalData, GraphBuilder, Value};
use crate::package::{Compute, GraphFlavor};

/// Largest magnitude of an activation's 8-bit code; codes are unsigned, and 128 is zero.
const LARGEST_CODE: f32 = 127.0;
const ZERO_CODE: u8 = 128;
/// The least that a row of activations is taken to reach: a row of zeros has no scale, and this one gives zeros.
const LEAST_MAGNITUDE: f32 = 1e-30;

/// What a graph is made of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GraphStyle {
    /// Which operators it may have.
    pub flavor: GraphFlavor,
    /// Number type of activations where it is not 32 bits.
    pub compute: Option<Compute>,
}

/// A graph under construction and the weights that it may name.
pub(super) struct StageBuilder<'a> {
    pub graph: GraphBuilder,
    /// Which operators it may have.
    pub flavor: GraphFlavor,
    weights: &'a WeightPlan,
    missing: Option<String>,
    /// Number type of activations where it is not 32 bits.
    compute: Option<Compute>,
    /// Activations in 8 bits, by the value that they were made of: their codes, and what the rows are multiplied by.
    rounded: BTreeMap<String, (Value, Value)>,
}

impl<'a> StageBuilder<'a> {
    pub fn new(name: &str, weights: &'a WeightPlan, style: GraphStyle) -> Self {
        let GraphStyle { flavor, compute } = style;
        let graph = match flavor {
            GraphFlavor::Contrib => GraphBuilder::new(name),
            GraphFlavor::Standard => GraphBuilder::standard(name),
        };
        Self { graph, flavor, weights, missing: None, compute, rounded: BTreeMap::new() }
    }

    /// Number type of activations where it is not 32 bits.
    pub fn compute(&self) -> Option<Compute> {
        self.compute
    }

    /// Builds a part in 32 bits whatever the rest computes in. What goes in must be in 32 bits, and what comes out is.
    pub fn in_32_bits(&mut self, part: impl FnOnce(&mut Self) -> Value) -> Value {
        let compute = self.compute.take();
        let value = part(self);
        self.compute = compute;
        value
    }

    /// Number type of activations.
    pub fn element(&self) -> ElementType {
        match self.compute {
            None => ElementType::Float32,
            Some(Compute::Fp16) => ElementType::Float16,
            Some(Compute::Bf16) => ElementType::Bfloat16,
        }
    }

    /// The same numbers in another type.
    pub fn cast(&mut self, node: &str, input: &Value, to: ElementType) -> Value {
        self.graph.op("Cast", node, &[input], &[("to", Attribute::Int(i64::from(to.code())))])
    }

    /// A value in 32 bits, such as an input of the graph, in the type that the graph computes in.
    pub fn narrowed(&mut self, value: &Value) -> Value {
        match self.compute {
            None => value.clone(),
            Some(_) => self.cast(&format!("{}/narrowed", value.name()), value, self.element()),
        }
    }

    /// Name of the node whose value [`Self::output`] gives out under `name`.
    pub fn before_output(&self, name: &str) -> String {
        if self.compute.is_some() { format!("{name}/narrow") } else { name.to_owned() }
    }

    /// Gives out a value under `name`, in 32 bits. It is that of the node [`Self::before_output`].
    pub fn output(&mut self, name: &str, value: &Value, shape: &[Dimension]) {
        let value = if self.compute.is_some() { self.cast(name, value, ElementType::Float32) } else { value.clone() };
        self.graph.output(&value, ElementType::Float32, shape);
    }

    /// A tensor of the package in the type that the graph computes in. ONNX Runtime converts it once, as it loads the graph.
    pub fn weight(&mut self, name: &str) -> Value {
        let (stored, wanted) = (self.stored(name), self.element());
        let found = self.weights.place(name).map(|place| place.stored.element());
        match found {
            Some(found @ (ElementType::Float32 | ElementType::Float16 | ElementType::Bfloat16)) if found != wanted => {
                let change = if wanted == ElementType::Float32 { "widened" } else { "narrowed" };
                self.cast(&format!("{name}/{change}"), &stored, wanted)
            }
            _ => stored,
        }
    }

    /// A tensor of the package, as a constant in another file.
    fn stored(&mut self, name: &str) -> Value {
        self.stored_as(name, None)
    }

    /// The same; where a type and a shape are given, its bytes are read as these say.
    fn stored_as(&mut self, name: &str, read_as: Option<(ElementType, [usize; 2])>) -> Value {
        let Some(place) = self.weights.place(name) else {
            self.missing.get_or_insert_with(|| name.to_owned());
            return Value::absent();
        };
        let data = ExternalData { file: place.file.clone(), offset: place.offset, bytes: place.bytes };
        match read_as {
            None => self.graph.external(name, place.stored.element(), &place.shape, &data),
            Some((element, shape)) => self.graph.external(name, element, &shape, &data),
        }
    }

    /// Name of the output head's weight without `.weight`.
    pub fn head(&self) -> &'static str {
        self.weights.head()
    }

    /// `x · Wᵀ + b` on `[rows, inputs]`, with the weight `[outputs, inputs]` as checkpoints store it, in the precision that the plan
    /// has for it. The last node is named `node`.
    pub fn linear(&mut self, node: &str, input: &Value, weight: &str, bias: bool) -> Value {
        let Some(layer) = self.weights.linear(weight) else {
            self.missing.get_or_insert_with(|| format!("{weight}.weight"));
            return Value::absent();
        };
        let bias = bias.then(|| format!("{weight}.bias"));
        match layer.scheme {
            // The processor's kernels multiply in 32 bits, so that without `compute` weights in 16 bits are widened.
            Scheme::Fp32 | Scheme::Fp16 | Scheme::Bf16 => {
                let matrix = self.weight(&layer.name);
                self.gemm(node, input, matrix, bias)
            }
            Scheme::Int8 => self.integers(node, input, &layer, bias),
            Scheme::Blocks(format) if format.signed => self.restored(node, input, &layer, format, bias),
            Scheme::Blocks(format) => self.blocks(node, input, &layer, format, bias),
        }
    }

    fn gemm(&mut self, node: &str, input: &Value, matrix: Value, bias: Option<String>) -> Value {
        let bias = bias.map(|bias| self.weight(&bias));
        let inputs: Vec<&Value> = [input, &matrix].into_iter().chain(&bias).collect();
        self.graph.op("Gemm", node, &inputs, &[("transB", Attribute::Int(1))])
    }

    /// Weights in blocks: the operator scales them itself.
    fn blocks(&mut self, node: &str, input: &Value, layer: &LinearWeight, format: BlockFormat, bias: Option<String>) -> Value {
        let [outputs, inputs] = layer.shape;
        let codes = self.weight(&format!("{}{CODES}", layer.name));
        let scales = self.weight(&format!("{}{SCALES}", layer.name));
        let bias = bias.map(|bias| self.weight(&bias));
        // Without zero points, the middle code is zero; the order of inputs is theirs.
        let absent = Value::absent();
        let mut operands = vec![input, &codes, &scales];
        if let Some(bias) = &bias {
            operands.extend([&absent, &absent, bias]);
        }
        let attributes = [
            ("K", Attribute::Int(signed(inputs))),
            ("N", Attribute::Int(signed(outputs))),
            ("bits", Attribute::Int(i64::from(format.bits))),
            ("block_size", Attribute::Int(signed(format.block_size))),
            ("accuracy_level", Attribute::Int(i64::from(format.accuracy_level))),
        ];
        self.graph.microsoft_op("MatMulNBits", node, &operands, &attributes)
    }

    /// Weights in blocks, by standard operators: scaled first, then multiplied. The bytes stand as `MatMulNBits` has them, so that
    /// both flavours lay out a file alike; only codes are signed and scales positive here.
    fn restored(&mut self, node: &str, input: &Value, layer: &LinearWeight, format: BlockFormat, bias: Option<String>) -> Value {
        let [outputs, inputs] = layer.shape;
        let (blocks, width) = (format.blocks(inputs), format.blocks(inputs) * format.block_size);
        let element = if format.bits == 4 { ElementType::Int4 } else { ElementType::Int8 };
        let codes = self.stored_as(&format!("{}{CODES}", layer.name), Some((element, [outputs, width])));
        let scales = self.stored_as(&format!("{}{SCALES}", layer.name), Some((ElementType::Float32, [outputs, blocks])));
        let scales = self.narrowed(&scales);
        let attributes = [("axis", Attribute::Int(1)), ("block_size", Attribute::Int(signed(format.block_size)))];
        let name = format!("{}/restored", layer.name);
        let mut matrix = self.graph.op("DequantizeLinear", &name, &[&codes, &scales], &attributes);
        if width > inputs {
            // The last block is partly filled.
            let [start, axis] =
                [("blocks/start", 0), ("blocks/axis", 1)].map(|(name, value)| self.graph.integers(name, &[value]));
            let end = self.graph.integers(&format!("blocks/end_{inputs}"), &[signed(inputs)]);
            matrix = self.graph.op("Slice", &format!("{name}/used"), &[&matrix, &start, &end, &axis], &[]);
        }
        self.gemm(node, input, matrix, bias)
    }

    /// Weights and activations in 8 bits, multiplied in integers: `y = (xq · Wq) ⊙ sw ⊙ max|x| / 127 + b`.
    ///
    /// Weights are signed, activations unsigned. On x86 without VNNI, ONNX Runtime's kernel for this pair adds products in 16 bits
    /// and saturates; `session.x64quantprecision`, which the engine sets, makes it take unsigned weights there, with the same sums as
    /// exact integers. So results are the same on every processor, and where there is VNNI the fast kernel runs. Unsigned weights in
    /// the file would be exact everywhere, too, but have no VNNI kernel; both signed has no fast one at all before AVX-VNNI-INT8; and
    /// 7-bit weights, exact and fast everywhere, have twice the error.
    fn integers(&mut self, node: &str, input: &Value, layer: &LinearWeight, bias: Option<String>) -> Value {
        let (rounded, largest) = self.rounded(input);
        let codes = self.weight(&format!("{}{CODES}", layer.name));
        let scales = self.weight(&format!("{}{SCALES}", layer.name));
        let (one, zero) = (self.graph.float("int8/step", 1.0 / LARGEST_CODE), self.graph.byte("int8/zero", ZERO_CODE));
        let product = format!("{node}/product");
        let product = match self.flavor {
            GraphFlavor::Contrib => {
                self.graph.microsoft_op("MatMulIntegerToFloat", &product, &[&rounded, &codes, &one, &scales, &zero], &[])
            }
            GraphFlavor::Standard => {
                let sums = self.graph.op("MatMulInteger", &format!("{product}/sums"), &[&rounded, &codes, &zero], &[]);
                let to = [("to", Attribute::Int(i64::from(ElementType::Float32.code())))];
                let sums = self.graph.op("Cast", &format!("{product}/wide"), &[&sums], &to);
                let steps = self.graph.op("Mul", &format!("{product}/steps"), &[&sums, &one], &[]);
                self.graph.op("Mul", &product, &[&steps, &scales], &[])
            }
        };
        let Some(bias) = bias else { return self.graph.op("Mul", node, &[&product, &largest], &[]) };
        let scaled = self.graph.op("Mul", &format!("{node}/scaled"), &[&product, &largest], &[]);
        let bias = self.weight(&bias);
        self.graph.op("Add", node, &[&scaled, &bias], &[])
    }

    /// The rows of a value in 8 bits, each by its own largest magnitude, and these magnitudes `[rows, 1]`. Layers with the same input
    /// share them.
    ///
    /// One scale for a whole tensor would not do: the huge activation of a language model's first token takes the scale of all other
    /// tokens with it.
    fn rounded(&mut self, input: &Value) -> (Value, Value) {
        if let Some(known) = self.rounded.get(input.name()) {
            return known.clone();
        }
        let node = |part: &str| format!("{}/int8/{part}", input.name());
        let graph = &mut self.graph;
        let magnitudes = graph.op("Abs", &node("magnitudes"), &[input], &[]);
        let axis = graph.integers("int8/axis", &[-1]);
        let keep = [("keepdims", Attribute::Int(1))];
        let largest = graph.op("ReduceMax", &node("largest"), &[&magnitudes, &axis], &keep);
        let least = graph.float("int8/least", LEAST_MAGNITUDE);
        let largest = graph.op("Max", &node("magnitude"), &[&largest, &least], &[]);
        let shares = graph.op("Div", &node("shares"), &[input, &largest], &[]);
        let (step, zero) = (graph.float("int8/step", 1.0 / LARGEST_CODE), graph.byte("int8/zero", ZERO_CODE));
        let codes = graph.op("QuantizeLinear", &node("codes"), &[&shares, &step, &zero], &[]);
        self.rounded.insert(input.name().to_owned(), (codes.clone(), largest.clone()));
        (codes, largest)
    }

    /// Another view of the same numbers; `0` keeps a dimension, `-1` is the rest. `shape_name` names the constant, which
    /// equal shapes share.
    pub fn reshape(&mut self, node: &str, input: &Value, shape_name: &str, shape: &[i64]) -> Value {
        let shape = self.graph.integers(shape_name, shape);
        self.graph.op("Reshape", node, &[input, &shape], &[])
    }

    /// The model file.
    pub fn finish(self) -> Result<Vec<u8>, ExportError> {
        if let Some(tensor) = self.missing {
            return Err(ExportError::MissingTensor {
                checkpoint: "graph".into(),
                tensor,
                shape: Vec::new(),
                hint: ": the graph names a tensor that the architecture does not list".to_owned(),
            });
        }
        Ok(self.graph.finish()?)
    }
}

/// A size as a dimension of a reshape.
pub(super) fn signed(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
