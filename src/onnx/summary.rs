//! Summaries of model files that others wrote: such a graph may hold gigabytes of weights, so the file is mapped and every
//! tensor's bytes are skipped, where [`inspect_file`](super::inspect_file) reads small graphs whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prost::Message;

use super::inspect::{ExternalTensor, TensorPort, port_of};
use super::proto::{DATA_LOCATION_EXTERNAL, OperatorSetIdProto, StringStringEntryProto, ValueInfoProto};
use super::{MICROSOFT_DOMAIN, OnnxError};
use crate::guard::files::{GuardError, map_file};

/// Largest model file: what a protobuf message can hold.
const FILE_LIMIT_BYTES: u64 = 2 << 30;
/// Most nodes in one model, nested graphs and functions included.
const NODE_LIMIT: usize = 1_000_000;
/// Operators that load code or foreign compiled graphs.
const REFUSED_OPERATORS: [&str; 3] = ["EPContext", "PyOp", "PyCustomOp"];
/// Operator domains that ONNX Runtime itself implements.
const KNOWN_DOMAINS: [&str; 5] = ["", "ai.onnx", "ai.onnx.ml", MICROSOFT_DOMAIN, "com.microsoft.nchwc"];

/// What a model file that others wrote says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSummary {
    /// Operator set versions by domain.
    pub opsets: BTreeMap<String, i64>,
    /// Inputs in order, without those that an initializer gives.
    pub inputs: Vec<TensorPort>,
    /// Outputs in order.
    pub outputs: Vec<TensorPort>,
    /// Constants in other files. Where the file says no length, `bytes` is that of the shape, or 0 for a type whose width
    /// is not known here.
    pub external: Vec<ExternalTensor>,
    /// How often each operator occurs, nested graphs and functions included.
    pub operators: BTreeMap<String, usize>,
}

/// `ModelProto` without the bytes of tensors.
#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSetIdProto>,
    #[prost(message, repeated, tag = "25")]
    functions: Vec<Function>,
}

/// `FunctionProto`: a model-local operator.
#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(message, repeated, tag = "7")]
    node: Vec<Node>,
    #[prost(string, optional, tag = "10")]
    domain: Option<String>,
}

/// `GraphProto`.
#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "15")]
    sparse_initializer: Vec<Sparse>,
}

/// `NodeProto`.
#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, optional, tag = "3")]
    name: Option<String>,
    #[prost(string, optional, tag = "4")]
    op_type: Option<String>,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Attribute>,
    #[prost(string, optional, tag = "7")]
    domain: Option<String>,
}

/// `AttributeProto`, as far as it can hold tensors and graphs.
#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(message, optional, tag = "5")]
    t: Option<Tensor>,
    #[prost(message, optional, tag = "6")]
    g: Option<Graph>,
    #[prost(message, repeated, tag = "10")]
    tensors: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<Graph>,
    #[prost(message, optional, tag = "22")]
    sparse_tensor: Option<Sparse>,
    #[prost(message, repeated, tag = "23")]
    sparse_tensors: Vec<Sparse>,
}

/// `TensorProto` without its bytes.
#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, optional, tag = "2")]
    data_type: Option<i32>,
    #[prost(string, optional, tag = "8")]
    name: Option<String>,
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<StringStringEntryProto>,
    #[prost(int32, optional, tag = "14")]
    data_location: Option<i32>,
}

/// `SparseTensorProto`.
#[derive(Clone, PartialEq, Message)]
struct Sparse {
    #[prost(message, optional, tag = "1")]
    values: Option<Tensor>,
    #[prost(message, optional, tag = "2")]
    indices: Option<Tensor>,
}

/// Summarises a model file of at most 2 GiB without touching its weights. Refused are operators that embed code, and
/// operator domains that neither ONNX Runtime nor the model itself defines.
pub fn summarise_file(path: &Path) -> Result<ModelSummary, OnnxError> {
    let length = std::fs::metadata(path).map_err(|source| GuardError::Read { path: path.to_path_buf(), source })?.len();
    if length > FILE_LIMIT_BYTES {
        return Err(GuardError::TooLarge { path: path.to_path_buf(), limit_bytes: FILE_LIMIT_BYTES }.into());
    }
    if length == 0 {
        return Err(OnnxError::NotAModel { path: path.to_path_buf(), reason: "it is empty".to_owned() });
    }
    summarise_model(path, &map_file(path)?)
}

/// [`summarise_file`] of bytes in memory; `path` is only for messages.
pub fn summarise_model(path: &Path, bytes: &[u8]) -> Result<ModelSummary, OnnxError> {
    let not_a_model = |reason: String| OnnxError::NotAModel { path: path.to_path_buf(), reason };
    let model = Model::decode(bytes).map_err(|error| not_a_model(error.to_string()))?;
    let graph = model.graph.as_ref().ok_or_else(|| not_a_model("it has no graph".to_owned()))?;
    let own_domains = model.functions.iter().map(|function| function.domain.clone().unwrap_or_default()).collect();
    let mut walk = Walk { path, own_domains, nodes: 0, external: Vec::new(), operators: BTreeMap::new() };
    for function in &model.functions {
        walk.nodes(&function.node)?;
    }
    walk.graph(graph)?;
    let given: BTreeSet<&str> = graph.initializer.iter().filter_map(|tensor| tensor.name.as_deref()).collect();
    let inputs = graph.input.iter().filter(|value| !given.contains(value.name.as_deref().unwrap_or_default()));
    Ok(ModelSummary {
        opsets: model
            .opset_import
            .iter()
            .map(|opset| (opset.domain.clone().unwrap_or_default(), opset.version.unwrap_or_default()))
            .collect(),
        inputs: inputs.map(|value| port_of(path, value)).collect::<Result<_, _>>()?,
        outputs: graph.output.iter().map(|value| port_of(path, value)).collect::<Result<_, _>>()?,
        external: walk.external,
        operators: walk.operators,
    })
}

struct Walk<'a> {
    path: &'a Path,
    own_domains: BTreeSet<String>,
    nodes: usize,
    external: Vec<ExternalTensor>,
    operators: BTreeMap<String, usize>,
}

impl Walk<'_> {
    fn refused(&self, what: String, found: impl ToString, expected: &str) -> OnnxError {
        OnnxError::Refused { path: self.path.to_path_buf(), what, found: found.to_string(), expected: expected.to_owned() }
    }

    fn graph(&mut self, graph: &Graph) -> Result<(), OnnxError> {
        graph.initializer.iter().try_for_each(|tensor| self.tensor(tensor))?;
        graph.sparse_initializer.iter().try_for_each(|sparse| self.sparse(sparse))?;
        self.nodes(&graph.node)
    }

    fn nodes(&mut self, nodes: &[Node]) -> Result<(), OnnxError> {
        for node in nodes {
            self.nodes += 1;
            if self.nodes > NODE_LIMIT {
                return Err(self.refused("number of nodes".to_owned(), self.nodes, "at most 1000000"));
            }
            let name = node.name.as_deref().unwrap_or_default();
            let domain = node.domain.as_deref().unwrap_or_default();
            if !KNOWN_DOMAINS.contains(&domain) && !self.own_domains.contains(domain) {
                let what = format!("operator domain of node {name:?}");
                return Err(self.refused(what, format!("{domain:?}"), "one that ONNX Runtime implements"));
            }
            let operator = node.op_type.as_deref().unwrap_or_default();
            if REFUSED_OPERATORS.contains(&operator) {
                return Err(self.refused(format!("operator of node {name:?}"), operator, "one that embeds no code"));
            }
            *self.operators.entry(operator.to_owned()).or_default() += 1;
            for attribute in &node.attribute {
                attribute.t.iter().chain(&attribute.tensors).try_for_each(|tensor| self.tensor(tensor))?;
                attribute.g.iter().chain(&attribute.graphs).try_for_each(|graph| self.graph(graph))?;
                attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors).try_for_each(|sparse| self.sparse(sparse))?;
            }
        }
        Ok(())
    }

    fn sparse(&mut self, sparse: &Sparse) -> Result<(), OnnxError> {
        sparse.values.iter().chain(&sparse.indices).try_for_each(|tensor| self.tensor(tensor))
    }

    fn tensor(&mut self, tensor: &Tensor) -> Result<(), OnnxError> {
        if tensor.data_location != Some(DATA_LOCATION_EXTERNAL) {
            return Ok(());
        }
        let name = tensor.name.clone().unwrap_or_default();
        let what = |field: &str| format!("external_data.{field} of {name:?}");
        let entry = |field: &str| {
            let found = tensor.external_data.iter().find(|entry| entry.key.as_deref() == Some(field));
            found.map(|entry| entry.value.clone().unwrap_or_default())
        };
        let number = |field: &str, default: u64| match entry(field) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| self.refused(what(field), format!("{text:?}"), "a whole number")),
        };
        let file = entry("location").ok_or_else(|| self.refused(what("location"), "missing", "a file name"))?;
        let (offset, bytes) = (number("offset", 0)?, number("length", shape_bytes(tensor).unwrap_or(0))?);
        self.external.push(ExternalTensor { name, file, offset, bytes });
        Ok(())
    }
}

/// Bytes of a tensor by type and shape; `None` for a type whose width is not known here, or a shape that cannot be.
fn shape_bytes(tensor: &Tensor) -> Option<u64> {
    let width = match tensor.data_type? {
        // FLOAT, INT32, UINT32
        1 | 6 | 12 => 4,
        // INT64, DOUBLE, UINT64
        7 | 11 | 13 => 8,
        // UINT16, INT16, FLOAT16, BFLOAT16
        4 | 5 | 10 | 16 => 2,
        // UINT8, INT8, BOOL
        2 | 3 | 9 => 1,
        _ => return None,
    };
    tensor.dims.iter().try_fold(width, |bytes: u64, &dim| bytes.checked_mul(u64::try_from(dim).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::proto::{GraphProto, ModelProto, NodeProto, TensorProto, data_type};
    use super::super::{Dimension, ElementType, ExternalData, GraphBuilder};
    use super::*;

    fn graph_bytes() -> Vec<u8> {
        let mut graph = GraphBuilder::new("small");
        let rows = graph.input("rows", ElementType::Float32, &[Dimension::named("n"), 3.into()]);
        let data = ExternalData { file: "w.onnx_data".to_owned(), offset: 96, bytes: 24 };
        let weight = graph.external("weight", ElementType::Float32, &[2, 3], &data);
        let product = graph.op("Gemm", "product", &[&rows, &weight], &[]);
        graph.output(&product, ElementType::Float32, &[Dimension::named("n"), 2.into()]);
        graph.finish().unwrap()
    }

    #[test]
    fn weights_inside_are_skipped_and_outside_are_listed() {
        let mut model = ModelProto::decode(graph_bytes().as_slice()).unwrap();
        let inside = TensorProto {
            dims: vec![4],
            data_type: Some(data_type::FLOAT),
            name: Some("inside".to_owned()),
            raw_data: Some(vec![0; 16]),
            ..TensorProto::default()
        };
        let graph = model.graph.as_mut().unwrap();
        graph.initializer.push(inside);
        // Before IR version 4 an initializer had to be an input, too.
        let mut copy = graph.input[0].clone();
        copy.name = Some("inside".to_owned());
        graph.input.push(copy);
        let summary = summarise_model(Path::new("x.onnx"), &model.encode_to_vec()).unwrap();
        assert_eq!(summary.inputs.iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), ["rows"]);
        assert_eq!(summary.external.len(), 1);
        assert_eq!((summary.external[0].offset, summary.external[0].bytes), (96, 24));
        assert_eq!(summary.operators, BTreeMap::from([("Gemm".to_owned(), 1)]));
    }

    #[test]
    fn operators_of_nobody_are_refused() {
        for (domain, operator, part) in [("org.example", "Add", "org.example"), ("com.microsoft", "EPContext", "EPContext")] {
            let node = NodeProto { domain: Some(domain.to_owned()), op_type: Some(operator.to_owned()), ..NodeProto::default() };
            let graph = GraphProto { node: vec![node], ..GraphProto::default() };
            let model = ModelProto { graph: Some(graph), ..ModelProto::default() };
            let message = summarise_model(Path::new("x.onnx"), &model.encode_to_vec()).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    proptest! {
        #[test]
        fn no_changed_byte_makes_it_panic(place in any::<prop::sample::Index>(), value in any::<u8>()) {
            let mut bytes = graph_bytes();
            let place = place.index(bytes.len());
            bytes[place] = value;
            let _ = summarise_model(Path::new("x.onnx"), &bytes);
        }
    }
}
