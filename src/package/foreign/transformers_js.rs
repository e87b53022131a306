//! File names of the transformers.js layout: three graphs, each in one or more precisions, told apart by a suffix.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::super::PackageError;

/// Precisions and their suffixes as transformers.js names them, in the order in which a processor without other advice
/// should take them: full precision first, then what is exact to its stored weights, then the quantised ones.
pub(super) const VARIANTS: [(&str, &str); 12] = [
    ("fp32", ""),
    ("fp16", "_fp16"),
    ("q8", "_quantized"),
    ("int8", "_int8"),
    ("uint8", "_uint8"),
    ("q4", "_q4"),
    ("bnb4", "_bnb4"),
    ("q4f16", "_q4f16"),
    ("q2", "_q2"),
    ("q2f16", "_q2f16"),
    ("q1", "_q1"),
    ("q1f16", "_q1f16"),
];

/// The graphs' base names, in the order vision, embedding, decoder.
pub(super) const GRAPHS: [&str; 3] = ["vision_encoder", "embed_tokens", "decoder_model_merged"];

/// Precisions that a graph has, in the order of [`VARIANTS`].
pub(super) fn available(folder: &Path, graph: &str) -> Vec<&'static str> {
    let there = |suffix: &str| folder.join(format!("{graph}{suffix}.onnx")).is_file();
    VARIANTS.iter().filter(|(_, suffix)| there(suffix)).map(|(name, _)| *name).collect()
}

/// The file name of a graph in a precision.
pub(super) fn file_name(graph: &str, variant: &str) -> Option<String> {
    let (_, suffix) = VARIANTS.iter().find(|(name, _)| *name == variant)?;
    Some(format!("{graph}{suffix}.onnx"))
}

/// `transformers.js_config.dtype` of `config.json`: what its publisher runs each graph in.
pub(super) fn published(config: Option<&Value>) -> BTreeMap<&'static str, String> {
    let mut published = BTreeMap::new();
    let dtype = config.and_then(|config| config.get("transformers.js_config")).and_then(|settings| settings.get("dtype"));
    for graph in GRAPHS {
        let found = match dtype {
            Some(Value::String(name)) => Some(name.as_str()),
            Some(Value::Object(by_graph)) => by_graph.get(graph).and_then(Value::as_str),
            _ => None,
        };
        if let Some(name) = found.filter(|name| VARIANTS.iter().any(|(known, _)| known == name)) {
            published.insert(graph, name.to_owned());
        }
    }
    published
}

/// The precision of each graph, and why.
pub(super) fn choose(
    root: &Path,
    folder: &Path,
    wanted: Option<&str>,
    config: Option<&Value>,
) -> Result<([String; 3], String), PackageError> {
    let sets = GRAPHS.map(|graph| available(folder, graph));
    for (graph, set) in GRAPHS.iter().zip(&sets) {
        if set.is_empty() {
            return Err(PackageError::Field {
                path: folder.to_path_buf(),
                field: format!("graph {graph}"),
                found: "missing".to_owned(),
                expected: format!("{graph}.onnx, or one with a precision's suffix such as {graph}_fp16.onnx"),
            });
        }
    }
    let listing: Vec<String> = GRAPHS.iter().zip(&sets).map(|(graph, set)| format!("{graph}: {}", set.join(" "))).collect();
    let listing = listing.join("; ");
    if let Some(wanted) = wanted {
        let chosen = asked_for(root, wanted, &sets, &listing)?;
        return Ok((chosen, format!("{wanted}, as asked for; there are {listing}")));
    }
    let common = VARIANTS.iter().map(|(name, _)| *name).find(|name| sets.iter().all(|set| set.contains(name)));
    if let Some(name) = common {
        let only = sets.iter().all(|set| set.len() == 1);
        let why = if only { "the only one".to_owned() } else { format!("the most exact that all graphs have; {listing}") };
        return Ok(([name; 3].map(str::to_owned), format!("{name}, {why}")));
    }
    let published = published(config);
    let mut chosen = [const { String::new() }; 3];
    for ((slot, graph), set) in chosen.iter_mut().zip(GRAPHS).zip(&sets) {
        let advised = published.get(graph).filter(|name| set.contains(&name.as_str()));
        *slot = advised.cloned().or_else(|| set.first().map(|name| (*name).to_owned())).unwrap_or_default();
    }
    let why = if published.is_empty() { "the most exact of each" } else { "as config.json's transformers.js_config advises" };
    Ok((chosen.clone(), format!("{}, {why}; {listing}", chosen.join("/"))))
}

/// `q4`, or `embed_tokens=fp16,decoder_model_merged=q4` with the most exact of the rest.
fn asked_for(root: &Path, wanted: &str, sets: &[Vec<&'static str>; 3], listing: &str) -> Result<[String; 3], PackageError> {
    let refuse = |found: &str| PackageError::Field {
        path: root.to_path_buf(),
        field: "--variant".to_owned(),
        found: format!("{found:?}"),
        expected: format!("a precision that the graphs have ({listing}), or GRAPH=PRECISION,…"),
    };
    let mut chosen = [const { String::new() }; 3];
    if !wanted.contains('=') {
        for (slot, set) in chosen.iter_mut().zip(sets) {
            *slot = set.iter().find(|name| **name == wanted).ok_or_else(|| refuse(wanted))?.to_string();
        }
        return Ok(chosen);
    }
    let mut by_graph = BTreeMap::new();
    for part in wanted.split(',') {
        let (graph, name) = part.split_once('=').ok_or_else(|| refuse(part))?;
        if !GRAPHS.contains(&graph) || by_graph.insert(graph, name).is_some() {
            return Err(refuse(part));
        }
    }
    for ((slot, graph), set) in chosen.iter_mut().zip(GRAPHS).zip(sets) {
        *slot = match by_graph.get(graph) {
            Some(name) => set.iter().find(|have| *have == name).ok_or_else(|| refuse(name))?.to_string(),
            None => set.first().map(|name| (*name).to_owned()).unwrap_or_default(),
        };
    }
    Ok(chosen)
}
