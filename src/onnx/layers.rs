//! Opening a transformer graph of this program at its layers: hidden states as outputs, and as inputs.
//!
//! The graphs fuse the sum that ends a layer with the norm that begins the next one. The sum is the hidden state; where a layer is to
//! start from a given state instead, a norm of its own takes the place of the fused one's. In graphs of standard operators the sum is
//! a node by itself, and whatever reads it reads the given state.

use std::path::Path;

use prost::Message;

use super::inspect::{MODEL_LIMIT_BYTES, inspect_model};
use super::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, TensorShapeProto, TensorTypeProto, TypeProto,
    ValueInfoProto, attribute_type, data_type,
};
use super::{MICROSOFT_DOMAIN, OnnxError};
use crate::guard::files::read_capped;

/// A model whose hidden states can be read, and where it was asked for, given.
#[derive(Clone, Debug, PartialEq)]
pub struct LayeredModel {
    /// The model file; its weights are where they were.
    pub bytes: Vec<u8>,
    /// Names of the outputs that are the hidden states after each layer, f32 `[rows, width]`.
    pub states: Vec<String>,
    /// Names of the inputs that take the hidden state before the second layer, the third, and so on, f32 `[rows, width]`; empty where
    /// the layers follow each other as they do in the model.
    pub given: Vec<String>,
}

/// The end of a layer and the beginning of the next.
struct Boundary {
    /// The sum: the hidden state.
    state: String,
    /// The node that gives the sum and its norm, where they are one.
    fused: Option<Fused>,
}

/// A node that is the sum and its norm.
struct Fused {
    /// Its place.
    node: usize,
    /// The norm.
    normed: String,
}

/// Reads a model of this program and opens it at its layers. With `alone`, every layer but the first takes its hidden state from an
/// input of its own, so that no layer sees what the ones before it did. `None` if the graph has no layers that are named as this
/// program names them.
pub fn layered_model(path: &Path, alone: bool) -> Result<Option<LayeredModel>, OnnxError> {
    let bytes = read_capped(path, MODEL_LIMIT_BYTES)?;
    inspect_model(path, &bytes)?;
    let mut model = ModelProto::decode(bytes.as_slice())
        .map_err(|error| OnnxError::NotAModel { path: path.to_path_buf(), reason: error.to_string() })?;
    let Some(graph) = &mut model.graph else { return Ok(None) };
    let boundaries = boundaries(graph);
    let Some(last) = last_state(graph) else { return Ok(None) };
    let mut given = Vec::new();
    if alone {
        let mut norms = Vec::with_capacity(boundaries.len());
        for (index, boundary) in boundaries.iter().enumerate() {
            let name = format!("given.{}", index + 1);
            if let Some(fused) = &boundary.fused {
                let Some(norm) = norm_of_given(graph, fused, &name) else { return Ok(None) };
                norms.push(norm);
            }
            let fused = boundary.fused.as_ref();
            for (place, node) in graph.node.iter_mut().enumerate() {
                // The fused node goes on to make the state from what its own layer did.
                if fused.is_some_and(|fused| fused.node == place) {
                    continue;
                }
                for input in &mut node.input {
                    if *input == boundary.state {
                        input.clone_from(&name);
                    } else if fused.is_some_and(|fused| *input == fused.normed) {
                        *input = format!("{name}/normed");
                    }
                }
            }
            graph.input.push(rows_port(&name));
            given.push(name);
        }
        graph.node.splice(0..0, norms);
    }
    let states: Vec<String> = boundaries.into_iter().map(|boundary| boundary.state).chain([last]).collect();
    graph.output.extend(states.iter().map(|state| rows_port(state)));
    Ok(Some(LayeredModel { bytes: model.encode_to_vec(), states, given }))
}

/// Where each layer but the last ends, in order.
fn boundaries(graph: &GraphProto) -> Vec<Boundary> {
    let mut found = Vec::new();
    loop {
        let layer = found.len() + 1;
        let names = [format!("layers.{layer}/input_layernorm"), format!("layers.{layer}/layer_norm1")];
        let place = graph.node.iter().position(|node| names.iter().any(|name| node.name.as_ref() == Some(name)));
        let Some((place, node)) = place.and_then(|place| Some((place, graph.node.get(place)?))) else { return found };
        let boundary = match state_of(node) {
            Some((state, true)) => Boundary { state, fused: None },
            Some((state, false)) => {
                let Some(normed) = node.output.first() else { return found };
                Boundary { state, fused: Some(Fused { node: place, normed: normed.clone() }) }
            }
            None => return found,
        };
        found.push(boundary);
    }
}

/// The hidden state after the last layer.
fn last_state(graph: &GraphProto) -> Option<String> {
    let named = |name: &str| graph.node.iter().find(|node| node.name.as_deref() == Some(name));
    match named("last_hidden_state") {
        Some(node) => node.output.first().cloned(),
        None => state_of(named("norm")?).map(|(state, _)| state),
    }
}

/// The sum that a norm is of, and whether another node gives it.
fn state_of(norm: &NodeProto) -> Option<(String, bool)> {
    match norm.op_type.as_deref() {
        Some("RMSNormalization" | "LayerNormalization") => Some((norm.input.first()?.clone(), true)),
        _ => Some((norm.output.get(3)?.clone(), false)),
    }
}

/// The norm that begins a layer, of the input `name`.
fn norm_of_given(graph: &GraphProto, fused: &Fused, name: &str) -> Option<NodeProto> {
    let fused = graph.node.get(fused.node)?;
    // The norm without its skip is an operator that ONNX Runtime knows in the standard domain.
    let operator = match (fused.domain.as_deref(), fused.op_type.as_deref()) {
        (Some(MICROSOFT_DOMAIN), Some("SkipSimplifiedLayerNormalization")) => "SimplifiedLayerNormalization",
        (Some(MICROSOFT_DOMAIN), Some("SkipLayerNormalization")) => "LayerNormalization",
        _ => return None,
    };
    let axis = AttributeProto {
        name: Some("axis".to_owned()),
        r#type: Some(attribute_type::INT),
        i: Some(-1),
        ..AttributeProto::default()
    };
    let epsilon = fused.attribute.iter().find(|attribute| attribute.name.as_deref() == Some("epsilon"))?;
    Some(NodeProto {
        input: [name.to_owned()].into_iter().chain(fused.input.get(2..)?.iter().cloned()).collect(),
        output: vec![format!("{name}/normed")],
        name: Some(format!("{name}/norm")),
        op_type: Some(operator.to_owned()),
        attribute: vec![axis, epsilon.clone()],
        domain: None,
    })
}

/// An input or output of f32 `[rows, width]`, sizes untold.
fn rows_port(name: &str) -> ValueInfoProto {
    let shape = TensorShapeProto { dim: vec![DimensionProto { value: None }; 2] };
    let tensor_type = TensorTypeProto { elem_type: Some(data_type::FLOAT), shape: Some(shape) };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}
