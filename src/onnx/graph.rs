//! A small graph builder. Names are the caller's, so the same calls always give the same bytes.

use std::collections::HashSet;

use prost::Message;

use super::proto::{
    AttributeProto, DATA_LOCATION_EXTERNAL, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
    attribute_type, data_type,
};
use super::{
    IR_VERSION, MICROSOFT_DOMAIN, MICROSOFT_OPSET, OnnxError, STANDARD_FLAVOR_IR_VERSION, STANDARD_FLAVOR_OPSET, STANDARD_OPSET,
};

/// Number type of a graph value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// 32-bit floating point.
    Float32,
    /// 16-bit floating point.
    Float16,
    /// bfloat16.
    Bfloat16,
    /// 4-bit signed integer, two in a byte, the first in the low half.
    Int4,
    /// 8-bit signed integer.
    Int8,
    /// 8-bit unsigned integer.
    Uint8,
    /// 32-bit integer.
    Int32,
    /// 64-bit integer.
    Int64,
}

impl ElementType {
    /// The number that models know the type by.
    pub fn code(self) -> i32 {
        match self {
            Self::Float32 => data_type::FLOAT,
            Self::Float16 => data_type::FLOAT16,
            Self::Bfloat16 => data_type::BFLOAT16,
            Self::Int4 => data_type::INT4,
            Self::Int8 => data_type::INT8,
            Self::Uint8 => data_type::UINT8,
            Self::Int32 => data_type::INT32,
            Self::Int64 => data_type::INT64,
        }
    }
}

/// One dimension of an input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// A known size.
    Fixed(usize),
    /// A size known only when the graph runs.
    Named(String),
}

impl Dimension {
    /// A named dimension.
    pub fn named(name: &str) -> Self {
        Self::Named(name.to_owned())
    }
}

impl From<usize> for Dimension {
    fn from(size: usize) -> Self {
        Self::Fixed(size)
    }
}

/// A value inside a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value(String);

impl Value {
    /// Stands for an optional input that is not given.
    pub fn absent() -> Self {
        Self(String::new())
    }

    /// Name in the graph.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// An attribute of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// A whole number.
    Int(i64),
    /// Whole numbers.
    Ints(Vec<i64>),
    /// A 32-bit floating-point number.
    Float(f32),
    /// A text.
    Text(String),
}

/// The place of a tensor's bytes in a file beside the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalData {
    /// File name relative to the model file.
    pub file: String,
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// Builds one model, node by node, in topological order.
pub struct GraphBuilder {
    name: String,
    graph: GraphProto,
    taken: HashSet<String>,
    duplicate: Option<String>,
    /// Whether there are standard operators alone.
    standard: bool,
    /// Version of the standard operators, where it is another one than usual.
    opset: Option<i64>,
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new(name: &str) -> Self {
        let graph = GraphProto { name: Some(name.to_owned()), ..GraphProto::default() };
        Self { name: name.to_owned(), graph, taken: HashSet::new(), duplicate: None, standard: false, opset: None }
    }

    /// An empty graph for standard operators alone, of this version of their set, which is no later than the usual one.
    pub fn of_opset(name: &str, opset: i64) -> Self {
        Self { opset: Some(opset), ..Self::new(name) }
    }

    /// An empty graph for standard operators alone, of a later version of their set.
    pub fn standard(name: &str) -> Self {
        Self { standard: true, ..Self::new(name) }
    }

    fn claim(&mut self, name: &str) -> Value {
        if !self.taken.insert(name.to_owned()) && self.duplicate.is_none() {
            self.duplicate = Some(name.to_owned());
        }
        Value(name.to_owned())
    }

    /// Declares an input.
    pub fn input(&mut self, name: &str, element: ElementType, shape: &[Dimension]) -> Value {
        self.graph.input.push(value_info(name, element, shape));
        self.claim(name)
    }

    /// Declares a value that a node gave as an output.
    pub fn output(&mut self, value: &Value, element: ElementType, shape: &[Dimension]) {
        self.graph.output.push(value_info(value.name(), element, shape));
    }

    /// A constant whose bytes stand in another file.
    pub fn external(&mut self, name: &str, element: ElementType, shape: &[usize], data: &ExternalData) -> Value {
        let entry = |key: &str, value: String| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) };
        self.graph.initializer.push(TensorProto {
            dims: signed(shape),
            data_type: Some(element.code()),
            name: Some(name.to_owned()),
            external_data: vec![
                entry("location", data.file.clone()),
                entry("offset", data.offset.to_string()),
                entry("length", data.bytes.to_string()),
            ],
            data_location: Some(DATA_LOCATION_EXTERNAL),
            ..TensorProto::default()
        });
        self.claim(name)
    }

    /// A vector of 64-bit integers inside the model; the same name and numbers may be asked for again.
    pub fn integers(&mut self, name: &str, values: &[i64]) -> Value {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, ElementType::Int64, &[values.len()], bytes)
    }

    /// A single 64-bit integer inside the model, without dimensions; may be asked for again.
    pub fn integer(&mut self, name: &str, value: i64) -> Value {
        self.constant(name, ElementType::Int64, &[], value.to_le_bytes().to_vec())
    }

    /// A single 32-bit floating-point number inside the model, without dimensions; may be asked for again.
    pub fn float(&mut self, name: &str, value: f32) -> Value {
        self.constant(name, ElementType::Float32, &[], value.to_le_bytes().to_vec())
    }

    /// A single byte inside the model, without dimensions; may be asked for again.
    pub fn byte(&mut self, name: &str, value: u8) -> Value {
        self.constant(name, ElementType::Uint8, &[], vec![value])
    }

    /// A constant whose bytes stand inside the model; may be asked for again with the same content.
    pub fn constant(&mut self, name: &str, element: ElementType, shape: &[usize], bytes: Vec<u8>) -> Value {
        let tensor = TensorProto {
            dims: signed(shape),
            data_type: Some(element.code()),
            name: Some(name.to_owned()),
            raw_data: Some(bytes),
            ..TensorProto::default()
        };
        if self.graph.initializer.contains(&tensor) {
            return Value(name.to_owned());
        }
        self.graph.initializer.push(tensor);
        self.claim(name)
    }

    /// A standard operator with one output, which is named like the node.
    pub fn op(&mut self, op_type: &str, name: &str, inputs: &[&Value], attributes: &[(&str, Attribute)]) -> Value {
        let output = self.claim(name);
        self.node("", op_type, name, inputs, &[&output], attributes);
        output
    }

    /// An operator of ONNX Runtime's own set with one output, which is named like the node.
    pub fn microsoft_op(&mut self, op_type: &str, name: &str, inputs: &[&Value], attributes: &[(&str, Attribute)]) -> Value {
        let output = self.claim(name);
        self.node(MICROSOFT_DOMAIN, op_type, name, inputs, &[&output], attributes);
        output
    }

    /// An operator of ONNX Runtime's own set with the outputs named here; an empty name is an output that is not wanted. [`GraphBuilder::value`] gives the others.
    pub fn microsoft_op_with_outputs(
        &mut self,
        op_type: &str,
        name: &str,
        inputs: &[&Value],
        outputs: &[&str],
        attributes: &[(&str, Attribute)],
    ) {
        let outputs: Vec<Value> =
            outputs.iter().map(|output| if output.is_empty() { Value::absent() } else { self.claim(output) }).collect();
        self.node(MICROSOFT_DOMAIN, op_type, name, inputs, &outputs.iter().collect::<Vec<_>>(), attributes);
    }

    /// A value that stands in the graph under this name.
    pub fn value(&self, name: &str) -> Value {
        Value(name.to_owned())
    }

    fn node(
        &mut self,
        domain: &str,
        op_type: &str,
        name: &str,
        inputs: &[&Value],
        outputs: &[&Value],
        attributes: &[(&str, Attribute)],
    ) {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|value| value.0.clone()).collect(),
            output: outputs.iter().map(|value| value.0.clone()).collect(),
            name: Some(name.to_owned()),
            op_type: Some(op_type.to_owned()),
            attribute: attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
            domain: (!domain.is_empty()).then(|| domain.to_owned()),
        });
    }

    /// The finished model file.
    pub fn finish(self) -> Result<Vec<u8>, OnnxError> {
        if let Some(name) = self.duplicate {
            return Err(OnnxError::DuplicateName { graph: self.name, name });
        }
        let opset = |domain: &str, version| OperatorSetIdProto { domain: Some(domain.to_owned()), version: Some(version) };
        let (ir_version, opset_import) = if let Some(version) = self.opset {
            (IR_VERSION, vec![opset("", version)])
        } else if self.standard {
            (STANDARD_FLAVOR_IR_VERSION, vec![opset("", STANDARD_FLAVOR_OPSET)])
        } else {
            (IR_VERSION, vec![opset("", STANDARD_OPSET), opset(MICROSOFT_DOMAIN, MICROSOFT_OPSET)])
        };
        let model = ModelProto {
            ir_version: Some(ir_version),
            producer_name: Some(env!("CARGO_PKG_NAME").to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            graph: Some(self.graph),
            opset_import,
            ..ModelProto::default()
        };
        Ok(model.encode_to_vec())
    }
}

fn signed(shape: &[usize]) -> Vec<i64> {
    // A dimension that does not fit cannot come from a file that was checked against its own length.
    shape.iter().map(|&size| i64::try_from(size).unwrap_or(i64::MAX)).collect()
}

fn value_info(name: &str, element: ElementType, shape: &[Dimension]) -> ValueInfoProto {
    let dim = shape
        .iter()
        .map(|dimension| DimensionProto {
            value: Some(match dimension {
                Dimension::Fixed(size) => DimensionValue::DimValue(i64::try_from(*size).unwrap_or(i64::MAX)),
                Dimension::Named(name) => DimensionValue::DimParam(name.clone()),
            }),
        })
        .collect();
    let tensor_type = TensorTypeProto { elem_type: Some(element.code()), shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

fn attribute(name: &str, value: &Attribute) -> AttributeProto {
    let mut proto = AttributeProto { name: Some(name.to_owned()), ..AttributeProto::default() };
    match value {
        Attribute::Int(value) => (proto.r#type, proto.i) = (Some(attribute_type::INT), Some(*value)),
        Attribute::Ints(values) => (proto.r#type, proto.ints) = (Some(attribute_type::INTS), values.clone()),
        Attribute::Float(value) => (proto.r#type, proto.f) = (Some(attribute_type::FLOAT), Some(*value)),
        Attribute::Text(value) => (proto.r#type, proto.s) = (Some(attribute_type::STRING), Some(value.clone().into_bytes())),
    }
    proto
}
