//! The shapes of a package's stages, as its configuration tells them: what costs are counted from.

use std::path::Path;

use super::ExportError;
use super::families::Checkpoint;
use super::files::CheckpointFiles;

/// Sizes of the three stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageShapes {
    /// The vision tower.
    pub vision: VisionShape,
    /// Inputs and outputs of each linear layer of the projector.
    pub projector: Vec<[usize; 2]>,
    /// The language model.
    pub llm: LanguageShape,
}

/// Sizes of a vision tower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisionShape {
    /// Layers that are in the graph.
    pub layers: usize,
    /// Hidden size.
    pub width: usize,
    /// Size of the feed-forward layers.
    pub wide: usize,
    /// Rows of one image inside the tower, a class token included.
    pub rows: usize,
    /// Patches of one image.
    pub patches: usize,
    /// Numbers in a patch, colours included.
    pub patch_numbers: usize,
    /// Rows that one image gives to the projector.
    pub tokens: usize,
}

/// Sizes of a LLaMA-type language model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanguageShape {
    /// Layers.
    pub layers: usize,
    /// Hidden size.
    pub hidden: usize,
    /// Size of the feed-forward layers.
    pub wide: usize,
    /// Query heads times the size of a head.
    pub queries: usize,
    /// Key-value heads times the size of a head.
    pub keys: usize,
    /// Outputs of the head.
    pub vocabulary: usize,
}

/// Reads the shapes of a checkpoint or package folder from its configuration alone.
pub fn stage_shapes(root: &Path) -> Result<StageShapes, ExportError> {
    let tower = root.join("vision_tower");
    let tower = tower.join("config.json").is_file().then_some(tower);
    let checkpoint = Checkpoint::read(&CheckpointFiles::configuration_only(root), tower.as_deref())?;
    let (vision, llm) = (&checkpoint.architecture.vision, &checkpoint.architecture.llm);
    let projector = (1..=checkpoint.architecture.projector.kind.layers())
        .map(|layer| [if layer == 1 { vision.hidden_size } else { llm.hidden_size }, llm.hidden_size]);
    Ok(StageShapes {
        vision: VisionShape {
            layers: vision.used_layers,
            width: vision.hidden_size,
            wide: vision.intermediate_size,
            rows: vision.rows(),
            patches: vision.patches(),
            patch_numbers: 3 * vision.patch_size * vision.patch_size,
            tokens: vision.tokens(),
        },
        projector: projector.collect(),
        llm: LanguageShape {
            layers: llm.layers,
            hidden: llm.hidden_size,
            wide: llm.intermediate_size,
            queries: llm.heads * llm.head_size,
            keys: llm.key_value_heads * llm.head_size,
            vocabulary: llm.vocabulary_size,
        },
    })
}
