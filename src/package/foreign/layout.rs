//! Which layout a folder has, where its three graphs are, and whether all that they name is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::manifest::Precision;
use super::super::{MANIFEST_FILE, PackageError};
use super::genai::{CONFIG_FILE, GenaiConfig};
use super::interface::{Names, interface};
use super::transformers_js::{self, GRAPHS, VARIANTS};
use super::{ForeignGraphs, ForeignLayout, GraphSizes, PortType};
use crate::guard::files::{GuardError, contained, read_capped};
use crate::onnx::{ModelSummary, summarise_file};

/// Largest `config.json` that is read.
const CONFIG_LIMIT_BYTES: u64 = 16 << 20;
/// Names of mobius's graphs, in the order vision, embedding, decoder.
const MOBIUS_GRAPHS: [&str; 3] = ["vision_encoder", "embedding", "decoder"];

/// A graph of a foreign package.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphFile {
    /// Name below the package folder.
    pub name: String,
    /// Precision of its weights, by the file's suffix or by what the graph holds.
    pub precision: Precision,
    /// What its header says.
    pub summary: ModelSummary,
}

/// A folder whose layout, files and graph interfaces were checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignFolder {
    /// The folder.
    pub root: PathBuf,
    /// Interfaces of its graphs.
    pub graphs: ForeignGraphs,
    /// Sizes that the graphs fix.
    pub sizes: GraphSizes,
    /// The vision graph.
    pub vision: GraphFile,
    /// The embedding graph.
    pub embedding: GraphFile,
    /// The decoder graph.
    pub decoder: GraphFile,
    /// Graphs and their external data, sorted, by name below the folder.
    pub files: Vec<String>,
    /// Longest sequence that `genai_config.json` promises (`model.context_length`).
    pub context_length: Option<usize>,
}

/// Whether a folder without `package.toml` has graphs in it: then [`recognise`] says which layout it has, or what is
/// missing.
pub fn is_foreign(root: &Path) -> bool {
    if root.join(MANIFEST_FILE).exists() {
        return false;
    }
    root.join(CONFIG_FILE).is_file()
        || MOBIUS_GRAPHS.iter().any(|name| mobius_file(root, name).is_some())
        || !graph_names(root).is_empty()
        || !graph_names(&root.join("onnx")).is_empty()
}

/// Recognises a folder: its layout by its files, then its graphs by their headers. `variant` asks for a precision where the
/// layout has several.
pub fn recognise(root: &Path, variant: Option<&str>) -> Result<ForeignFolder, PackageError> {
    let found = find(root, variant)?;
    let mut files = BTreeSet::new();
    let mut graphs = Vec::with_capacity(3);
    for (name, precision) in found.graphs {
        let path = contained(root, &name)?;
        let summary = summarise_file(&path)?;
        check_external(root, &name, &path, &summary, &mut files)?;
        files.insert(name.clone());
        graphs.push(GraphFile { name, precision: precision.unwrap_or(Precision::Fp32), summary });
    }
    let Ok([mut vision, mut embedding, mut decoder]) = <[GraphFile; 3]>::try_from(graphs) else {
        return Err(field(root, "graphs", "not three", "vision, embedding and decoder"));
    };
    let (graphs, sizes) = interface(root, found.layout, found.choice, found.names, [&vision, &embedding, &decoder])?;
    if found.layout != ForeignLayout::TransformersJs {
        // No suffix says it, so what the graphs take and hold does.
        vision.precision = precision_of(&vision.summary, graphs.vision.image_features.dtype);
        embedding.precision = precision_of(&embedding.summary, graphs.embedding.inputs_embeds.dtype);
        let cache = graphs.decoder.cache.as_ref().map(|cache| cache.dtype);
        decoder.precision = precision_of(&decoder.summary, cache.unwrap_or(graphs.decoder.inputs_embeds.dtype));
    }
    Ok(ForeignFolder {
        root: root.to_path_buf(),
        graphs,
        sizes,
        vision,
        embedding,
        decoder,
        files: files.into_iter().collect(),
        context_length: found.context_length,
    })
}

/// Where the three graphs are.
struct Found {
    layout: ForeignLayout,
    /// Vision, embedding, decoder: file name and, where the name tells it, precision.
    graphs: [(String, Option<Precision>); 3],
    choice: String,
    names: Names,
    context_length: Option<usize>,
}

fn find(root: &Path, variant: Option<&str>) -> Result<Found, PackageError> {
    if root.join(CONFIG_FILE).is_file() {
        refuse_variant(root, variant)?;
        return find_genai(root);
    }
    for (folder, prefix) in [(root.join("onnx"), "onnx/"), (root.to_path_buf(), "")] {
        let decoders = transformers_js::available(&folder, GRAPHS[2]);
        let others = GRAPHS.iter().take(2).any(|graph| !transformers_js::available(&folder, graph).is_empty());
        // A lone `vision_encoder.onnx` may be mobius's.
        if !decoders.is_empty() || (others && !transformers_js::available(&folder, GRAPHS[1]).is_empty()) {
            return find_transformers_js(root, &folder, prefix, variant);
        }
    }
    refuse_variant(root, variant)?;
    if MOBIUS_GRAPHS.iter().any(|name| mobius_file(root, name).is_some()) {
        return find_mobius(root);
    }
    let mut names = graph_names(&root.join("onnx"));
    names.extend(graph_names(root));
    Err(field(
        root,
        "graphs",
        names.join(", "),
        "a vision encoder, an embedding and a decoder in the layout of transformers.js, onnxruntime-genai or mobius; a \
         language model alone cannot answer questions about images",
    ))
}

fn find_transformers_js(root: &Path, folder: &Path, prefix: &str, variant: Option<&str>) -> Result<Found, PackageError> {
    let config: Option<Value> = match read_capped(&root.join("config.json"), CONFIG_LIMIT_BYTES) {
        // Whoever reads the configuration itself says what is wrong with it.
        Ok(bytes) => serde_json::from_slice(&bytes).ok(),
        Err(_) => None,
    };
    let (variants, choice) = transformers_js::choose(root, folder, variant, config.as_ref())?;
    let mut graphs = [const { (String::new(), None) }; 3];
    for ((slot, graph), variant) in graphs.iter_mut().zip(GRAPHS).zip(&variants) {
        let name = transformers_js::file_name(graph, variant).unwrap_or_default();
        *slot = (format!("{prefix}{name}"), precision_named(variant));
    }
    let (layout, names) = (ForeignLayout::TransformersJs, Names::usual());
    Ok(Found { layout, graphs, choice, names, context_length: None })
}

fn find_genai(root: &Path) -> Result<Found, PackageError> {
    let config = GenaiConfig::read(root)?;
    config.check()?;
    let mut graphs = [const { (String::new(), None) }; 3];
    for (slot, block) in graphs.iter_mut().zip(["vision", "embedding", "decoder"]) {
        let name = config.file(block)?;
        let path = contained(root, name)?;
        if !path.is_file() {
            return Err(config.wrong(&["model", block, "filename"], "a file of the package"));
        }
        *slot = (name.to_owned(), None);
    }
    let choice = format!("the graphs that {CONFIG_FILE} names");
    let context_length = config.size(&["model", "context_length"])?;
    Ok(Found { layout: ForeignLayout::Genai, graphs, choice, names: Names::from_genai(&config)?, context_length })
}

fn find_mobius(root: &Path) -> Result<Found, PackageError> {
    let mut graphs = [const { (String::new(), None) }; 3];
    for (slot, name) in graphs.iter_mut().zip(MOBIUS_GRAPHS) {
        let file = mobius_file(root, name);
        let expected = format!("{name}.onnx or {name}/model.onnx, beside the other graphs");
        *slot = (file.ok_or_else(|| field(root, &format!("graph {name}"), "missing", expected))?, None);
    }
    let choice = "the only graphs".to_owned();
    Ok(Found { layout: ForeignLayout::Mobius, graphs, choice, names: Names::usual(), context_length: None })
}

/// A graph of mobius's layout, as a file or in a folder of its own.
fn mobius_file(root: &Path, name: &str) -> Option<String> {
    [format!("{name}.onnx"), format!("{name}/model.onnx")].into_iter().find(|file| root.join(file).is_file())
}

fn refuse_variant(root: &Path, variant: Option<&str>) -> Result<(), PackageError> {
    match variant {
        None => Ok(()),
        Some(name) => {
            let expected = "absent: only the transformers.js layout has several precisions in one folder";
            Err(field(root, "--variant", format!("{name:?}"), expected))
        }
    }
}

fn field(root: &Path, field: &str, found: impl Into<String>, expected: impl Into<String>) -> PackageError {
    PackageError::Field { path: root.to_path_buf(), field: field.to_owned(), found: found.into(), expected: expected.into() }
}

/// Names of the model files directly in a folder, sorted.
fn graph_names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".onnx"))
        .take(64)
        .collect();
    names.sort();
    names
}

fn precision_named(variant: &str) -> Option<Precision> {
    VARIANTS.iter().find(|(name, _)| *name == variant).and_then(|(name, _)| match *name {
        "fp32" => Some(Precision::Fp32),
        "fp16" => Some(Precision::Fp16),
        "q8" => Some(Precision::Q8),
        "int8" => Some(Precision::Int8),
        "uint8" => Some(Precision::Uint8),
        "q4" => Some(Precision::Q4),
        "bnb4" => Some(Precision::Bnb4),
        "q4f16" => Some(Precision::Q4f16),
        "q2" => Some(Precision::Q2),
        "q2f16" => Some(Precision::Q2f16),
        "q1" => Some(Precision::Q1),
        "q1f16" => Some(Precision::Q1f16),
        _ => None,
    })
}

/// The precision of a graph whose file name does not tell it: that of its interface, unless it holds quantised weights.
fn precision_of(summary: &ModelSummary, dtype: PortType) -> Precision {
    let has = |operator: &str| summary.operators.contains_key(operator);
    match dtype {
        _ if has("MatMulNBits") && dtype == PortType::F16 => Precision::Q4f16,
        _ if has("MatMulNBits") => Precision::Q4,
        _ if has("MatMulBnb4") => Precision::Bnb4,
        _ if ["MatMulInteger", "DynamicQuantizeMatMul", "QLinearMatMul"].iter().any(|name| has(name)) => Precision::Q8,
        PortType::F16 => Precision::Fp16,
        PortType::Bf16 => Precision::Bf16,
        _ => Precision::Fp32,
    }
}

/// Every file that a graph names must lie below the graph's own folder, as ONNX Runtime asks as well, and reach as far as
/// its last tensor.
fn check_external(
    root: &Path,
    graph: &str,
    path: &Path,
    summary: &ModelSummary,
    files: &mut BTreeSet<String>,
) -> Result<(), PackageError> {
    let folder = graph.rsplit_once('/').map_or("", |(folder, _)| folder);
    let base = if folder.is_empty() { root.to_path_buf() } else { root.join(folder) };
    let mut known: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
    for tensor in &summary.external {
        let refuse = |what: &str, found: String, expected: String| PackageError::Field {
            path: path.to_path_buf(),
            field: format!("external_data.{what} of {:?}", tensor.name),
            found,
            expected,
        };
        let length = match known.get(tensor.file.as_str()) {
            Some(length) => *length,
            None => {
                let below = format!("a plain path below {}", base.display());
                let escapes = || refuse("location", format!("{:?}", tensor.file), below);
                let name = if folder.is_empty() { tensor.file.clone() } else { format!("{folder}/{}", tensor.file) };
                contained(&base, &tensor.file).map_err(|_| escapes())?;
                let file = contained(root, &name)?;
                let metadata = std::fs::metadata(&file).ok().filter(std::fs::Metadata::is_file);
                let missing = || refuse("location", format!("{:?}, which is not there", tensor.file), "a file".to_owned());
                let length = metadata.ok_or_else(missing)?.len();
                files.insert(name);
                known.insert(tensor.file.as_str(), length);
                length
            }
        };
        if tensor.offset.checked_add(tensor.bytes).is_none_or(|end| end > length) {
            let found = format!("{} + {}", tensor.offset, tensor.bytes);
            return Err(refuse("offset", found, format!("inside the {length} bytes of {:?}", tensor.file)));
        }
    }
    // An empty name would make the folder itself a file of the package.
    if files.contains("") {
        return Err(GuardError::Escapes { root: root.to_path_buf(), name: String::new() }.into());
    }
    Ok(())
}
