//! Two packages stage by stage: which stages are equal, whether the others can be exchanged, and the manifest of a mix.
//!
//! What a stage takes along: the vision encoder its image recipe; the projector its newline row; the language model its token
//! embedding, tokenizer, prompt recipe and stop rules. All that passes between stages are rows, so that this is enough for a mix to
//! be a package like any other.

use std::path::Path;

use super::{Manifest, Package, PackageError, PromptTemplate, Quantisation, TensorLocation};
use crate::guard::files::{contained, map_file, read_capped};
use crate::onnx::{ExternalTensor, LayeredModel, layered_model, model_content};

/// One of the three graphs of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageName {
    /// The vision encoder, with the image recipe.
    Vision,
    /// The projector, with the newline row.
    Projector,
    /// The language model, with the token embedding, the tokenizer and the prompt recipe.
    Llm,
}

impl StageName {
    /// All stages in the order of the flow.
    pub const ALL: [Self; 3] = [Self::Vision, Self::Projector, Self::Llm];

    /// The name used in manifests and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vision => "vision",
            Self::Projector => "projector",
            Self::Llm => "llm",
        }
    }
}

/// Something by which stages of two packages do not fit each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Field of the manifest.
    pub field: &'static str,
    /// Its value in the first package.
    pub base: String,
    /// Its value in the second package.
    pub new: String,
}

/// Largest tokenizer or chat template that is compared, in bytes.
const TEXT_LIMIT_BYTES: u64 = 256 << 20;

/// The graph of a stage, opened at its layers (see [`crate::onnx::layered_model`]); `None` for a stage or a graph without layers that
/// are known.
pub fn layered_stage(package: &Package, stage: StageName, alone: bool) -> Result<Option<LayeredModel>, PackageError> {
    let name = match stage {
        StageName::Vision => &package.manifest.vision.graph,
        StageName::Projector => &package.manifest.projector.graph,
        StageName::Llm => &package.manifest.llm.graph,
    };
    Ok(layered_model(&package.path(name)?, alone)?)
}

/// Why the stages of two packages cannot be exchanged; empty if they can. Rows must be as wide and as many on both sides. Token ids
/// must mean the same, too, which is checked by whoever knows the tokenizers; how many rows the output head is padded to does not
/// matter, as a language model brings its own tokenizer along.
pub fn misfits(base: &Manifest, new: &Manifest) -> Vec<Misfit> {
    let sizes = [
        ("vision.hidden_size", base.vision.hidden_size, new.vision.hidden_size),
        ("vision.tokens_per_image", base.vision.tokens_per_image, new.vision.tokens_per_image),
        ("projector.input_size", base.projector.input_size, new.projector.input_size),
        ("projector.output_size", base.projector.output_size, new.projector.output_size),
        ("llm.hidden_size", base.llm.hidden_size, new.llm.hidden_size),
    ];
    let mut found: Vec<Misfit> = sizes
        .into_iter()
        .filter(|(_, base, new)| base != new)
        .map(|(field, base, new)| Misfit { field, base: base.to_string(), new: new.to_string() })
        .collect();
    if base.image.tiling != new.image.tiling {
        let summary = |manifest: &Manifest| match &manifest.image.tiling {
            None => "none".to_owned(),
            Some(tiling) => format!("{} in grids {:?}", manifest.image.summary(), tiling.pinpoints),
        };
        found.push(Misfit { field: "image.tiling", base: summary(base), new: summary(new) });
    }
    found
}

/// The manifest by which a mix is run: each section from the package that its stage comes from. `files` are the base package's, as
/// a mix has no folder of its own.
pub fn mixed_manifest(base: &Manifest, new: &Manifest, new_stages: &[StageName]) -> Manifest {
    let mut mixed = base.clone();
    for stage in new_stages {
        match stage {
            StageName::Vision => {
                mixed.vision = new.vision.clone();
                mixed.image = new.image.clone();
                mixed.precision.vision = new.precision.vision;
            }
            StageName::Projector => {
                mixed.projector = new.projector.clone();
                mixed.precision.projector = new.precision.projector;
            }
            StageName::Llm => {
                mixed.llm = new.llm.clone();
                mixed.prompt = new.prompt.clone();
                mixed.precision.llm = new.precision.llm;
            }
        }
    }
    mixed.quantisation = Quantisation::mixed(base.quantisation.as_ref(), new.quantisation.as_ref(), new_stages);
    mixed
}

/// What differs between the same stage of two of our own packages, such as `weights` or `image recipe`; empty if nothing does.
/// Weights are compared by their bytes, wherever they lie, and not by recorded hashes.
pub fn changes_of_stage(base: &Package, new: &Package, stage: StageName) -> Result<Vec<&'static str>, PackageError> {
    let mut changes = Vec::new();
    let (left, right) = (&base.manifest, &new.manifest);
    let graph = |manifest: &Manifest| match stage {
        StageName::Vision => manifest.vision.graph.clone(),
        StageName::Projector => manifest.projector.graph.clone(),
        StageName::Llm => manifest.llm.graph.clone(),
    };
    let [base_model, new_model] = [(base, graph(left)), (new, graph(right))]
        .map(|(package, name)| package.path(&name).and_then(|path| model_content(&path).map_err(PackageError::from)));
    let (base_model, new_model) = (base_model?, new_model?);
    if base_model.graph != new_model.graph {
        changes.push("graph");
    }
    let mut same_weights = base_model.external.len() == new_model.external.len();
    for (left, right) in base_model.external.iter().zip(&new_model.external) {
        same_weights =
            same_weights && left.name == right.name && same_bytes((&base.root, &place(left)), (&new.root, &place(right)))?;
    }
    match stage {
        StageName::Vision => {
            let without_names = |manifest: &Manifest| {
                let mut recipe = (manifest.vision.clone(), manifest.image.clone());
                recipe.0.graph.clear();
                recipe.1.origin.clear();
                recipe
            };
            let (left, right) = (without_names(left), without_names(right));
            if left.1 != right.1 {
                changes.push("image recipe");
            }
            if left.0 != right.0 && !changes.contains(&"graph") {
                changes.push("selected features");
            }
        }
        StageName::Projector => {
            same_weights = same_weights
                && same_tensor(base, left.projector.image_newline.as_ref(), new, right.projector.image_newline.as_ref())?;
        }
        StageName::Llm => {
            same_weights = same_weights && same_tensor(base, Some(&left.llm.embedding), new, Some(&right.llm.embedding))?;
            let scales = (left.llm.embedding_scales.as_ref(), right.llm.embedding_scales.as_ref());
            same_weights = same_weights && same_tensor(base, scales.0, new, scales.1)?;
            if left.llm.sliding_window != right.llm.sliding_window || left.llm.maximum_positions != right.llm.maximum_positions {
                changes.push("positions");
            }
            if !same_file(base, "tokenizer.json", new, "tokenizer.json")? {
                changes.push("tokenizer");
            }
            if !same_prompts(base, new)? {
                changes.push("prompt recipe");
            }
        }
    }
    if !same_weights {
        changes.insert(usize::from(changes.first() == Some(&"graph")), "weights");
    }
    Ok(changes)
}

/// Whether both packages frame a prompt alike, whatever their template files are called.
fn same_prompts(base: &Package, new: &Package) -> Result<bool, PackageError> {
    let (left, right) = (&base.manifest.prompt, &new.manifest.prompt);
    let same_template = match (&left.template, &right.template) {
        (PromptTemplate::ChatTemplate(left), PromptTemplate::ChatTemplate(right)) => same_file(base, left, new, right)?,
        (left, right) => left == right,
    };
    let mut other = right.clone();
    other.template = left.template.clone();
    Ok(same_template && *left == other)
}

fn same_file(base: &Package, left: &str, new: &Package, right: &str) -> Result<bool, PackageError> {
    let read =
        |package: &Package, name: &str| Ok::<_, PackageError>(read_capped(&contained(&package.root, name)?, TEXT_LIMIT_BYTES)?);
    Ok(read(base, left)? == read(new, right)?)
}

fn same_tensor(
    base: &Package,
    left: Option<&TensorLocation>,
    new: &Package,
    right: Option<&TensorLocation>,
) -> Result<bool, PackageError> {
    match (left, right) {
        (None, None) => Ok(true),
        (Some(left), Some(right)) => {
            let same_kind = left.dtype == right.dtype && left.shape == right.shape;
            let range = |tensor: &TensorLocation| (tensor.file.clone(), tensor.offset, tensor.bytes);
            Ok(same_kind && same_bytes((&base.root, &range(left)), (&new.root, &range(right)))?)
        }
        _ => Ok(false),
    }
}

/// File name, first byte and length.
type Place = (String, u64, u64);

fn place(tensor: &ExternalTensor) -> Place {
    (tensor.file.clone(), tensor.offset, tensor.bytes)
}

/// Whether the same bytes stand in both places. Bytes beyond the end of a file are equal to none.
fn same_bytes(base: (&Path, &Place), new: (&Path, &Place)) -> Result<bool, PackageError> {
    if base.1.2 != new.1.2 {
        return Ok(false);
    }
    let paths = (contained(base.0, &base.1.0)?, contained(new.0, &new.1.0)?);
    if base.1.1 == new.1.1 && paths.0.canonicalize().ok().is_some_and(|path| paths.1.canonicalize().ok() == Some(path)) {
        return Ok(true);
    }
    let (left, right) = (map_file(&paths.0)?, map_file(&paths.1)?);
    let range = |(_, offset, bytes): &Place| {
        let start = usize::try_from(*offset).ok()?;
        Some(start..start.checked_add(usize::try_from(*bytes).ok()?)?)
    };
    let left = range(base.1).and_then(|range| left.get(range));
    let right = range(new.1).and_then(|range| right.get(range));
    Ok(left.is_some() && left == right)
}
