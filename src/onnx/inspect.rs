//! Header inspection: what a model file asks for, without ONNX Runtime and without touching its weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use prost::Message;

use super::proto::{
    DATA_LOCATION_EXTERNAL, DimensionValue, GraphProto, ModelProto, SparseTensorProto, TensorProto, ValueInfoProto, data_type,
};
use super::{Dimension, MICROSOFT_DOMAIN, OnnxError};
use crate::guard::files::read_capped;

/// Largest model file that is read: weights stand outside, so a graph is kilobytes.
pub(super) const MODEL_LIMIT_BYTES: u64 = 64 << 20;
/// Most nodes in one model, nested graphs included; the largest LLaVA graph has a few thousand.
const NODE_LIMIT: usize = 200_000;
/// Operators of allowed domains that load code or foreign compiled graphs.
const REFUSED_OPERATORS: [&str; 3] = ["EPContext", "PyOp", "PyCustomOp"];

/// An input or output of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorPort {
    /// Name.
    pub name: String,
    /// Number type as `TensorProto.DataType` numbers it, see [`super::proto::data_type`].
    pub element: i32,
    /// Shape; a dimension without size or name has an empty name.
    pub shape: Vec<Dimension>,
}

/// A constant whose bytes stand in another file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalTensor {
    /// Name of the constant.
    pub name: String,
    /// File name relative to the model.
    pub file: String,
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// What a model file says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelHeader {
    /// Operator set versions by domain.
    pub opsets: BTreeMap<String, i64>,
    /// Inputs in order.
    pub inputs: Vec<TensorPort>,
    /// Outputs in order.
    pub outputs: Vec<TensorPort>,
    /// Constants in other files.
    pub external: Vec<ExternalTensor>,
    /// Nodes, nested graphs included.
    pub nodes: usize,
    /// Operators, nested graphs included: `Gemm`, or `com.microsoft.QuickGelu` of another set than the standard one.
    pub operators: BTreeSet<String>,
}

/// Reads the header of a model file of at most 64 MiB and refuses what a package may not contain: operator domains
/// other than the standard one and `com.microsoft`, functions, training graphs, sparse or duplicated external data, and
/// operators that embed code.
pub fn inspect_file(path: &Path) -> Result<ModelHeader, OnnxError> {
    inspect_model(path, &read_capped(path, MODEL_LIMIT_BYTES)?)
}

/// [`inspect_file`] of bytes in memory; `path` is only for messages.
pub fn inspect_model(path: &Path, bytes: &[u8]) -> Result<ModelHeader, OnnxError> {
    let not_a_model = |reason: String| OnnxError::NotAModel { path: path.to_path_buf(), reason };
    let model = ModelProto::decode(bytes).map_err(|error| not_a_model(error.to_string()))?;
    let graph = model.graph.as_ref().ok_or_else(|| not_a_model("it has no graph".to_owned()))?;
    let mut walk = Walk { path, nodes: 0, external: Vec::new(), operators: BTreeSet::new() };
    if !model.functions.is_empty() {
        return Err(walk.refused("functions", model.functions.len(), "none"));
    }
    if !model.training_info.is_empty() {
        return Err(walk.refused("training_info", model.training_info.len(), "none"));
    }
    let mut opsets = BTreeMap::new();
    for opset in &model.opset_import {
        let domain = opset.domain.clone().unwrap_or_default();
        walk.check_domain("opset_import", &domain)?;
        opsets.insert(domain, opset.version.unwrap_or_default());
    }
    walk.graph(graph)?;
    Ok(ModelHeader {
        opsets,
        inputs: graph.input.iter().map(|value| port_of(path, value)).collect::<Result<_, _>>()?,
        outputs: graph.output.iter().map(|value| port_of(path, value)).collect::<Result<_, _>>()?,
        nodes: walk.nodes,
        external: walk.external,
        operators: walk.operators,
    })
}

struct Walk<'a> {
    path: &'a Path,
    nodes: usize,
    external: Vec<ExternalTensor>,
    operators: BTreeSet<String>,
}

impl Walk<'_> {
    fn refused(&self, what: impl Into<String>, found: impl ToString, expected: &str) -> OnnxError {
        OnnxError::Refused {
            path: self.path.to_path_buf(),
            what: what.into(),
            found: found.to_string(),
            expected: expected.to_owned(),
        }
    }

    fn check_domain(&self, what: &str, domain: &str) -> Result<(), OnnxError> {
        match domain {
            "" | "ai.onnx" | MICROSOFT_DOMAIN => Ok(()),
            _ => Err(self.refused(format!("operator domain of {what}"), format!("{domain:?}"), "\"\" or \"com.microsoft\"")),
        }
    }

    fn graph(&mut self, graph: &GraphProto) -> Result<(), OnnxError> {
        for tensor in &graph.initializer {
            self.tensor(tensor)?;
        }
        for sparse in &graph.sparse_initializer {
            self.sparse(sparse)?;
        }
        for node in &graph.node {
            self.nodes += 1;
            if self.nodes > NODE_LIMIT {
                return Err(self.refused("number of nodes", self.nodes, "at most 200000"));
            }
            let name = node.name.as_deref().unwrap_or_default();
            self.check_domain(&format!("node {name:?}"), node.domain.as_deref().unwrap_or_default())?;
            let operator = node.op_type.as_deref().unwrap_or_default();
            if REFUSED_OPERATORS.contains(&operator) {
                return Err(self.refused(format!("operator of node {name:?}"), operator, "one that embeds no code"));
            }
            self.operators.insert(match node.domain.as_deref() {
                None | Some("" | "ai.onnx") => operator.to_owned(),
                Some(domain) => format!("{domain}.{operator}"),
            });
            for attribute in &node.attribute {
                attribute.t.iter().chain(&attribute.tensors).try_for_each(|tensor| self.tensor(tensor))?;
                attribute.g.iter().chain(&attribute.graphs).try_for_each(|graph| self.graph(graph))?;
                attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors).try_for_each(|sparse| self.sparse(sparse))?;
            }
        }
        Ok(())
    }

    fn sparse(&mut self, sparse: &SparseTensorProto) -> Result<(), OnnxError> {
        sparse.values.iter().chain(&sparse.indices).try_for_each(|tensor| self.tensor(tensor))
    }

    fn tensor(&mut self, tensor: &TensorProto) -> Result<(), OnnxError> {
        let external = tensor.data_location == Some(DATA_LOCATION_EXTERNAL);
        if !external && tensor.external_data.is_empty() {
            return Ok(());
        }
        let name = tensor.name.clone().unwrap_or_default();
        let what = |field: &str| format!("external_data.{field} of {name:?}");
        if !external {
            return Err(self.refused(what("location"), "given for a tensor inside the model", "none"));
        }
        let mut entries = BTreeMap::new();
        for entry in &tensor.external_data {
            let key = entry.key.as_deref().unwrap_or_default();
            if entries.insert(key, entry.value.as_deref().unwrap_or_default()).is_some() {
                return Err(self.refused(what(key), "given twice", "given once"));
            }
        }
        let number = |field: &str| -> Result<u64, OnnxError> {
            let text = entries.get(field).copied().unwrap_or("missing");
            text.parse().map_err(|_| self.refused(what(field), format!("{text:?}"), "a whole number"))
        };
        let file = entries.get("location").copied().unwrap_or_default().to_owned();
        let (offset, bytes) = (number("offset")?, number("length")?);
        if let Some(expected) = tensor_bytes(tensor)
            && bytes != expected
        {
            return Err(self.refused(what("length"), bytes, &format!("{expected} for the shape {:?}", tensor.dims)));
        }
        self.external.push(ExternalTensor { name, file, offset, bytes });
        Ok(())
    }
}

/// Bytes that a tensor of this type and shape takes; `None` for types that the graphs do not use.
fn tensor_bytes(tensor: &TensorProto) -> Option<u64> {
    let width = match tensor.data_type? {
        data_type::FLOAT | data_type::INT32 => 4,
        data_type::INT64 => 8,
        data_type::FLOAT16 | data_type::BFLOAT16 => 2,
        data_type::INT8 | data_type::UINT8 | data_type::INT4 => 1,
        _ => return None,
    };
    // A negative or overflowing shape matches no length.
    let size = |bytes: u64, &dim: &i64| u64::try_from(dim).ok().and_then(|dim| bytes.checked_mul(dim));
    let bytes = tensor.dims.iter().try_fold(width, size).unwrap_or(u64::MAX);
    Some(if tensor.data_type == Some(data_type::INT4) { bytes.div_ceil(2) } else { bytes })
}

/// An input or output as its declaration says; `path` is only for messages.
pub(super) fn port_of(path: &Path, value: &ValueInfoProto) -> Result<TensorPort, OnnxError> {
    let refused = |what: String, found: String, expected: &str| OnnxError::Refused {
        path: path.to_path_buf(),
        what,
        found,
        expected: expected.to_owned(),
    };
    let name = value.name.clone().unwrap_or_default();
    let tensor = value.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let tensor = tensor.ok_or_else(|| refused(format!("type of {name:?}"), "not a tensor".to_owned(), "a tensor"))?;
    let dims = tensor.shape.iter().flat_map(|shape| &shape.dim);
    let shape = dims
        .map(|dim| match &dim.value {
            Some(DimensionValue::DimValue(size)) => usize::try_from(*size)
                .map(Dimension::Fixed)
                .map_err(|_| refused(format!("shape of {name:?}"), size.to_string(), "sizes that are not negative")),
            Some(DimensionValue::DimParam(symbol)) => Ok(Dimension::Named(symbol.clone())),
            None => Ok(Dimension::Named(String::new())),
        })
        .collect::<Result<_, _>>()?;
    Ok(TensorPort { name, element: tensor.elem_type.unwrap_or_default(), shape })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::proto::{AttributeProto, NodeProto};
    use super::super::{Attribute, ElementType, ExternalData, GraphBuilder, MICROSOFT_OPSET, STANDARD_OPSET};
    use super::*;

    fn small_graph() -> GraphBuilder {
        let mut graph = GraphBuilder::new("small");
        let rows = graph.input("rows", ElementType::Float32, &[Dimension::named("n"), 3.into()]);
        let data = ExternalData { file: "w.safetensors".to_owned(), offset: 96, bytes: 24 };
        let weight = graph.external("weight", ElementType::Float32, &[2, 3], &data);
        let product = graph.op("Gemm", "product", &[&rows, &weight], &[("transB", Attribute::Int(1))]);
        graph.output(&product, ElementType::Float32, &[Dimension::named("n"), 2.into()]);
        graph
    }

    #[test]
    fn what_was_built_is_what_is_read() {
        let bytes = small_graph().finish().unwrap();
        assert_eq!(bytes, small_graph().finish().unwrap());
        let header = inspect_model(Path::new("small.onnx"), &bytes).unwrap();
        let opsets = [(String::new(), STANDARD_OPSET), (MICROSOFT_DOMAIN.to_owned(), MICROSOFT_OPSET)];
        assert_eq!(header.opsets, BTreeMap::from(opsets));
        let port = |name: &str, width| TensorPort {
            name: name.to_owned(),
            element: data_type::FLOAT,
            shape: vec![Dimension::named("n"), Dimension::Fixed(width)],
        };
        assert_eq!((header.inputs, header.outputs, header.nodes), (vec![port("rows", 3)], vec![port("product", 2)], 1));
        let (name, file) = ("weight".to_owned(), "w.safetensors".to_owned());
        assert_eq!(header.external, [ExternalTensor { name, file, offset: 96, bytes: 24 }]);
    }

    #[test]
    fn a_name_is_given_once() {
        let mut graph = small_graph();
        graph.integers("shape", &[1, -1]);
        graph.integers("shape", &[1, -1]);
        graph.integers("product", &[1]);
        assert!(matches!(graph.finish(), Err(OnnxError::DuplicateName { name, .. }) if name == "product"));
    }

    #[test]
    fn nested_graphs_are_looked_into() {
        let mut model = ModelProto::decode(small_graph().finish().unwrap().as_slice()).unwrap();
        let mut inner = model.graph.clone().unwrap();
        inner.node[0].domain = Some("org.example".to_owned());
        let attribute = AttributeProto { g: Some(inner), ..AttributeProto::default() };
        let node = NodeProto { op_type: Some("If".to_owned()), attribute: vec![attribute], ..NodeProto::default() };
        model.graph.as_mut().unwrap().node.push(node);
        let message = inspect_model(Path::new("small.onnx"), &model.encode_to_vec()).unwrap_err().to_string();
        assert!(message.contains("small.onnx") && message.contains("org.example"), "{message}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = inspect_model(Path::new("x.onnx"), &bytes);
        }

        #[test]
        fn no_changed_byte_makes_it_panic(place in any::<prop::sample::Index>(), value in any::<u8>()) {
            let mut bytes = small_graph().finish().unwrap();
            let place = place.index(bytes.len());
            bytes[place] = value;
            let _ = inspect_model(Path::new("x.onnx"), &bytes);
        }
    }
}
