//! Reading what goes into the linear layers of a graph: sums over the rows of each input, computed by the graph itself.
//!
//! Layers that share an input share its sums. What does not lead to a wanted sum is taken out of the graph, so that looking at early
//! layers does not pay for the later ones, and no activation leaves the runtime.

use std::collections::HashSet;
use std::path::Path;

use prost::Message;

use super::OnnxError;
use super::inspect::{MODEL_LIMIT_BYTES, inspect_model};
use super::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto,
    ValueInfoProto, attribute_type, data_type,
};
use crate::guard::files::read_capped;

/// A value that goes into one or several linear layers, f32 `[rows, width]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tap {
    /// Name of the value in the graph.
    pub value: String,
    /// Names of the weights `[outputs, width]` that multiply it, in the order of the graph.
    pub weights: Vec<String>,
    /// Numbers in a row.
    pub width: usize,
}

/// Names of the outputs that hold the sums over the rows of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapOutputs {
    /// Shape of the value, i64 `[2]`.
    pub shape: String,
    /// Largest magnitude of each column, f32 `[width]`.
    pub absolute_maximum: String,
    /// Sum of squares of each column, f32 `[width]`.
    pub square_sum: String,
    /// `XᵀX`, f32 `[width, width]`, if it was asked for.
    pub gram: Option<String>,
}

/// A model whose outputs are nothing but such sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TappedModel {
    /// The model file; its weights are where they were.
    pub bytes: Vec<u8>,
    /// The sums, in the order in which they were asked for.
    pub outputs: Vec<TapOutputs>,
    /// Inputs that the model still reads.
    pub inputs: Vec<String>,
}

fn read(path: &Path) -> Result<ModelProto, OnnxError> {
    let bytes = read_capped(path, MODEL_LIMIT_BYTES)?;
    inspect_model(path, &bytes)?;
    ModelProto::decode(bytes.as_slice())
        .map_err(|error| OnnxError::NotAModel { path: path.to_path_buf(), reason: error.to_string() })
}

/// The inputs of all linear layers of a model that this program wrote in 32 bits, in the order of the graph: of every
/// `Gemm transB=1` whose second input is a constant.
pub fn taps(path: &Path) -> Result<Vec<Tap>, OnnxError> {
    let model = read(path)?;
    Ok(model.graph.as_ref().map(taps_of).unwrap_or_default())
}

fn taps_of(graph: &GraphProto) -> Vec<Tap> {
    let mut found: Vec<Tap> = Vec::new();
    for node in &graph.node {
        let transposed = node.attribute.iter().any(|one| one.name.as_deref() == Some("transB") && one.i == Some(1));
        let ("Gemm", true, [value, weight, ..]) =
            (node.op_type.as_deref().unwrap_or_default(), transposed, node.input.as_slice())
        else {
            continue;
        };
        let constant = graph.initializer.iter().find(|tensor| tensor.name.as_ref() == Some(weight));
        let width = match constant.map(|tensor| (tensor.data_type, tensor.dims.as_slice())) {
            Some((Some(data_type::FLOAT), [_, width])) => usize::try_from(*width).unwrap_or(0),
            _ => continue,
        };
        match found.iter_mut().find(|tap| tap.value == *value) {
            Some(tap) if tap.width == width => tap.weights.push(weight.clone()),
            Some(_) => {}
            None => found.push(Tap { value: value.clone(), weights: vec![weight.clone()], width }),
        }
    }
    found
}

/// Reads a model and makes it give the sums of these values, each with `XᵀX` where the flag says so, and nothing else.
pub fn tapped_model(path: &Path, taps: &[(&Tap, bool)]) -> Result<TappedModel, OnnxError> {
    let mut model = read(path)?;
    let Some(graph) = &mut model.graph else {
        return Err(OnnxError::NotAModel { path: path.to_path_buf(), reason: "it has no graph".to_owned() });
    };
    keep_what_leads_to(graph, taps);
    graph.output.clear();
    let axis = "calibration/axis";
    graph.initializer.push(TensorProto {
        dims: vec![1],
        data_type: Some(data_type::INT64),
        name: Some(axis.to_owned()),
        raw_data: Some(0_i64.to_le_bytes().to_vec()),
        ..TensorProto::default()
    });
    let mut outputs = Vec::with_capacity(taps.len());
    for (index, (tap, with_gram)) in taps.iter().enumerate() {
        let name = |what: &str| format!("calibration/{index}/{what}");
        let value = tap.value.as_str();
        let named = TapOutputs {
            shape: name("shape"),
            absolute_maximum: name("absolute_maximum"),
            square_sum: name("square_sum"),
            gram: with_gram.then(|| name("gram")),
        };
        let magnitudes = name("magnitudes");
        let dropped = || [integer("keepdims", 0)].to_vec();
        graph.node.push(node("Shape", &[value], &named.shape, Vec::new()));
        graph.node.push(node("Abs", &[value], &magnitudes, Vec::new()));
        graph.node.push(node("ReduceMax", &[&magnitudes, axis], &named.absolute_maximum, dropped()));
        graph.node.push(node("ReduceSumSquare", &[value, axis], &named.square_sum, dropped()));
        if let Some(gram) = &named.gram {
            graph.node.push(node("Gemm", &[value, value], gram, vec![integer("transA", 1)]));
            graph.output.push(port(gram, data_type::FLOAT, 2));
        }
        graph.output.push(port(&named.shape, data_type::INT64, 1));
        graph.output.push(port(&named.absolute_maximum, data_type::FLOAT, 1));
        graph.output.push(port(&named.square_sum, data_type::FLOAT, 1));
        outputs.push(named);
    }
    let inputs = graph.input.iter().filter_map(|input| input.name.clone()).collect();
    Ok(TappedModel { bytes: model.encode_to_vec(), outputs, inputs })
}

/// Takes out the nodes, constants and inputs on which none of the values depends.
fn keep_what_leads_to(graph: &mut GraphProto, taps: &[(&Tap, bool)]) {
    let mut wanted: HashSet<String> = taps.iter().map(|(tap, _)| tap.value.clone()).collect();
    // Nodes stand in topological order, so that one pass from the end sees every reader before what it reads.
    let mut kept: Vec<NodeProto> = Vec::new();
    for node in graph.node.drain(..).rev() {
        if node.output.iter().any(|output| !output.is_empty() && wanted.contains(output)) {
            wanted.extend(node.input.iter().filter(|input| !input.is_empty()).cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
    let is_wanted = |name: &Option<String>| name.as_ref().is_some_and(|name| wanted.contains(name));
    graph.initializer.retain(|tensor| is_wanted(&tensor.name));
    graph.input.retain(|input| is_wanted(&input.name));
}

fn node(op_type: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|&input| input.to_owned()).collect(),
        output: vec![output.to_owned()],
        name: Some(output.to_owned()),
        op_type: Some(op_type.to_owned()),
        attribute,
        domain: None,
    }
}

fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(attribute_type::INT), i: Some(value), ..AttributeProto::default() }
}

/// An output of unknown sizes.
fn port(name: &str, element: i32, axes: usize) -> ValueInfoProto {
    let shape = TensorShapeProto { dim: vec![DimensionProto { value: None }; axes] };
    let tensor_type = TensorTypeProto { elem_type: Some(element), shape: Some(shape) };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped(graph: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("exports/pico-llava-1.5").join(graph)
    }

    #[test]
    fn layers_that_share_an_input_share_a_tap() {
        let found = taps(&shipped("llm.onnx")).unwrap();
        // Per layer: q/k/v, o, gate/up, down; then the head.
        assert_eq!(found.len(), 4 * 4 + 1);
        let names = |tap: &Tap| tap.weights.iter().map(|name| name.rsplit('.').nth(1).unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&found[0]), ["q_proj", "k_proj", "v_proj"]);
        assert_eq!(names(&found[1]), ["o_proj"]);
        assert_eq!(names(&found[2]), ["gate_proj", "up_proj"]);
        assert_eq!(names(&found[3]), ["down_proj"]);
        assert_eq!([found[0].width, found[3].width], [128, 352]);
        assert_eq!(taps(&shipped("vision.onnx")).unwrap().len(), 4 * 4);
        assert_eq!(taps(&shipped("projector.onnx")).unwrap().len(), 2);
    }

    #[test]
    fn what_no_sum_needs_is_taken_out() {
        let path = shipped("llm.onnx");
        let all = taps(&path).unwrap();
        let first = tapped_model(&path, &[(&all[0], true)]).unwrap();
        let model = ModelProto::decode(first.bytes.as_slice()).unwrap();
        let graph = model.graph.unwrap();
        // The first norm, then the five nodes of the sums.
        assert_eq!(graph.node.len(), 1 + 5);
        assert_eq!(first.inputs, ["inputs_embeds"]);
        assert_eq!(graph.output.len(), 4);
        let last = tapped_model(&path, &[(&all[0], false), (&all[16], false)]).unwrap();
        assert_eq!(last.outputs.len(), 2);
        assert!(last.outputs.iter().all(|outputs| outputs.gram.is_none()));
        assert!(last.inputs.iter().any(|input| input == "logit_rows"));
        let graph = ModelProto::decode(last.bytes.as_slice()).unwrap().graph.unwrap();
        let has = |name: &str| graph.initializer.iter().any(|tensor| tensor.name.as_deref() == Some(name));
        assert!(has("llm.layers.3.mlp.down_proj.weight") && !has(all[16].weights[0].as_str()));
    }
}
