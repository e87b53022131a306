//! What an optimised model that ONNX Runtime saved reads from its data file.

use std::collections::BTreeSet;
use std::path::Path;

use prost::Message;

use super::OnnxError;
use super::proto::{DATA_LOCATION_EXTERNAL, GraphProto, ModelProto, TensorProto};

/// The files that a model reads constants from, and how far into them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExternalExtent {
    /// File names relative to the model.
    pub files: BTreeSet<String>,
    /// End of the last byte that is read of any of them.
    pub end_bytes: u64,
}

/// The external data of a model, weights that ONNX Runtime stored in packed form included; `path` is only for messages. Unlike
/// [`inspect_model`](super::inspect_model) this takes any operator domain, because an optimised model has some of its own.
///
/// A packed weight stands in an entry `prepacked_<n>` of a tensor's external data: a key, and then `|offset;length;…` for each of its
/// buffers.
pub fn external_extent(path: &Path, bytes: &[u8]) -> Result<ExternalExtent, OnnxError> {
    let not_a_model = |reason: String| OnnxError::NotAModel { path: path.to_path_buf(), reason };
    let model = ModelProto::decode(bytes).map_err(|error| not_a_model(error.to_string()))?;
    let mut extent = ExternalExtent::default();
    match &model.graph {
        Some(graph) => of_graph(graph, &mut extent).map_err(not_a_model)?,
        None => return Err(not_a_model("it has no graph".to_owned())),
    }
    Ok(extent)
}

fn of_graph(graph: &GraphProto, extent: &mut ExternalExtent) -> Result<(), String> {
    graph.initializer.iter().try_for_each(|tensor| of_tensor(tensor, extent))?;
    for attribute in graph.node.iter().flat_map(|node| &node.attribute) {
        attribute.t.iter().chain(&attribute.tensors).try_for_each(|tensor| of_tensor(tensor, extent))?;
        attribute.g.iter().chain(&attribute.graphs).try_for_each(|graph| of_graph(graph, extent))?;
    }
    Ok(())
}

fn of_tensor(tensor: &TensorProto, extent: &mut ExternalExtent) -> Result<(), String> {
    if tensor.data_location != Some(DATA_LOCATION_EXTERNAL) {
        return Ok(());
    }
    let (mut offset, mut length) = (0, None);
    let number =
        |text: &str| text.trim().parse::<u64>().map_err(|_| format!("external data at {text:?}, expected a whole number"));
    for entry in &tensor.external_data {
        let value = entry.value.as_deref().unwrap_or_default();
        match entry.key.as_deref().unwrap_or_default() {
            "location" => _ = extent.files.insert(value.to_owned()),
            "offset" => offset = number(value)?,
            "length" => length = Some(number(value)?),
            key if key.starts_with("prepacked_") => {
                for buffer in value.split('|').skip(1) {
                    let mut parts = buffer.split(';');
                    let start = number(parts.next().unwrap_or_default())?;
                    let bytes = number(parts.next().unwrap_or_default())?;
                    extent.end_bytes = extent.end_bytes.max(start.saturating_add(bytes));
                }
            }
            _ => {}
        }
    }
    let length = length.ok_or_else(|| "external data without a length".to_owned())?;
    extent.end_bytes = extent.end_bytes.max(u64::saturating_add(offset, length));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::proto::StringStringEntryProto;
    use super::*;

    fn model(entries: &[(&str, &str)]) -> Vec<u8> {
        let entry = |(key, value): &(&str, &str)| StringStringEntryProto {
            key: Some((*key).to_owned()),
            value: Some((*value).to_owned()),
        };
        let tensor = TensorProto {
            data_location: Some(DATA_LOCATION_EXTERNAL),
            external_data: entries.iter().map(entry).collect(),
            ..TensorProto::default()
        };
        let graph = GraphProto { initializer: vec![tensor], ..GraphProto::default() };
        ModelProto { graph: Some(graph), ..ModelProto::default() }.encode_to_vec()
    }

    #[test]
    fn packed_weights_count_as_far_as_they_reach() {
        let path = Path::new("graph.onnx");
        let plain = [("location", "weights.bin"), ("offset", "100"), ("length", "50")];
        let extent = external_extent(path, &model(&plain)).unwrap();
        assert_eq!((extent.files, extent.end_bytes), (BTreeSet::from(["weights.bin".to_owned()]), 150));
        let packed = [plain.as_slice(), &[("prepacked_0", "Gemm+17|4096;64;0|8192;10;0")]].concat();
        assert_eq!(external_extent(path, &model(&packed)).unwrap().end_bytes, 8202);
        for wrong in
            [[("location", "w"), ("offset", "x"), ("length", "1")], [("location", "w"), ("offset", "1"), ("prepacked_0", "k")]]
        {
            assert!(external_extent(path, &model(&wrong)).is_err(), "{wrong:?}");
        }
        assert!(external_extent(path, b"nonsense").is_err());
    }
}
