//! Which files of a repository an export needs.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::HubError;
use super::name::is_plain_file;
use crate::guard::files::read_capped;

/// Largest index of shards.
const INDEX_LIMIT_BYTES: u64 = 16 << 20;
/// Whole weights in the order of preference; the second of each pair lists shards.
const WHOLE: [[&str; 2]; 2] =
    [["model.safetensors", "model.safetensors.index.json"], ["pytorch_model.bin", "pytorch_model.bin.index.json"]];
/// Weights of adapters and projectors, the first of each list that is there.
const PARTS: [&[&str]; 3] = [
    &["adapter_model.safetensors", "adapter_model.bin"],
    &["non_lora_trainables.bin", "non_lora_trainables.safetensors"],
    &["mm_projector.bin", "mm_projector.safetensors"],
];

/// Configuration, tokenizer and indices: everything small at the top of a repository.
pub(super) fn small_files(listed: &[String]) -> Vec<String> {
    let wanted = |name: &&String| {
        let ending = [".json", ".jinja"].iter().any(|ending| name.ends_with(ending));
        is_plain_file(name) && (ending || matches!(name.as_str(), "tokenizer.model" | "merges.txt" | "vocab.txt"))
    };
    listed.iter().filter(wanted).cloned().collect()
}

/// The weight files; indices stand in `snapshot` already.
pub(super) fn weight_files(listed: &[String], snapshot: &Path) -> Result<Vec<String>, HubError> {
    let has = |name: &str| listed.iter().any(|listed| listed == name);
    let mut wanted = BTreeSet::new();
    for [single, index] in WHOLE {
        if has(single) {
            wanted.insert(single.to_owned());
            break;
        }
        if has(index) {
            wanted.extend(shards(&snapshot.join(index))?);
            break;
        }
    }
    if wanted.is_empty() || has("adapter_config.json") {
        wanted.extend(PARTS.iter().filter_map(|names| names.iter().find(|name| has(name))).map(|name| (*name).to_owned()));
    }
    Ok(wanted.into_iter().collect())
}

/// The files that an index lists.
fn shards(index: &Path) -> Result<BTreeSet<String>, HubError> {
    let wrong = |reason: &str| HubError::Cache { path: index.to_path_buf(), reason: reason.to_owned() };
    let value: Value =
        serde_json::from_slice(&read_capped(index, INDEX_LIMIT_BYTES)?).map_err(|error| wrong(&error.to_string()))?;
    let map = value.get("weight_map").and_then(Value::as_object).ok_or_else(|| wrong("it has no weight_map"))?;
    let name = |value: &Value| value.as_str().filter(|name| is_plain_file(name)).map(str::to_owned);
    map.values().map(|value| name(value).ok_or_else(|| wrong("its weight_map names something that is no file"))).collect()
}
