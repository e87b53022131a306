//! A CLIP package: an image graph and a text graph whose outputs are compared.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::Digest;

use super::contents::{Contents, port};
use super::flavor::GraphFlavor;
use super::kind::{CLIP, PackageKind};
use super::manifest::{FORMAT, MANIFEST_FILE, Precision};
use super::open::{MANIFEST_LIMIT_BYTES, PLAIN_NAME, check_format, hexadecimal, is_plain_name};
use super::quantisation::Quantisation;
use super::{FileRecord, ImageRecipe, PackageError};
use crate::guard::files::read_text_capped;
use crate::onnx::{Dimension, proto::data_type};

/// Precision of the two stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipPrecision {
    /// The image encoder.
    pub vision: Precision,
    /// The text encoder.
    pub text: Precision,
}

/// Where a CLIP package came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipSource {
    /// `model_type` of the checkpoint's `config.json`.
    pub model_type: String,
    /// Number type of the checkpoint's own tensors, the commonest one.
    pub checkpoint_dtype: String,
}

/// The image graph: input `pixel_values` f32 `[images, 3, image_size, image_size]`, output `image_embeds` f32
/// `[images, projection_size]`, not normalised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipVisionStage {
    /// Graph file name inside the package.
    pub graph: String,
    /// Side of the square input in pixels.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Transformer layers.
    pub layers: usize,
    /// Width of a hidden row.
    pub hidden_size: usize,
}

/// Which row of a text stands for the whole text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TextPooling {
    /// The first of the largest token ids, where the configuration has the wrong `eos_token_id = 2` of old checkpoints.
    LargestId,
    /// The first end-of-sequence token, whose id this is.
    FirstEos(u32),
}

/// The text graph: input `input_ids` i64 `[texts, tokens]`, texts of one length without padding; output `text_embeds` f32
/// `[texts, projection_size]`, not normalised. Its attention is causal, so that padding behind a text would change nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipTextStage {
    /// Graph file name inside the package.
    pub graph: String,
    /// Transformer layers.
    pub layers: usize,
    /// Width of a hidden row.
    pub hidden_size: usize,
    /// Rows of the token embedding table.
    pub vocabulary_size: usize,
    /// Longest text in tokens, beginning and end included; longer ones are cut.
    pub maximum_tokens: usize,
    /// Which row the graph takes.
    pub pooling: TextPooling,
}

/// The manifest of a CLIP package, stored as `package.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipManifest {
    /// Format version of this file, now 1.
    pub format: u32,
    /// `clip`.
    pub kind: String,
    /// Short name, shown in tables; the package folder's name at export.
    pub name: String,
    /// Program and version that exported it.
    pub exporter: String,
    /// Width of an embedding.
    pub projection_size: usize,
    /// The checkpoint's parameter `logit_scale`: the natural logarithm of what cosines are multiplied by.
    pub logit_scale: f64,
    /// Operators of both graphs; `contrib` where it is not named.
    #[serde(default, skip_serializing_if = "GraphFlavor::is_contrib")]
    pub flavor: GraphFlavor,
    /// Where it came from.
    pub source: ClipSource,
    /// Precision of each stage.
    pub precision: ClipPrecision,
    /// How weights in fewer than 32 bits were made; absent where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantisation: Option<Quantisation>,
    /// The image encoder.
    pub vision: ClipVisionStage,
    /// The text encoder.
    pub text: ClipTextStage,
    /// Image preprocessing.
    pub image: ImageRecipe,
    /// Every file that belongs to the package, sorted by name; `package.toml` itself excluded.
    pub files: Vec<FileRecord>,
}

impl ClipManifest {
    /// `kind` of every CLIP manifest.
    pub const KIND: &'static str = CLIP;

    /// The canonical text: always the same bytes for the same manifest.
    pub fn to_text(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// Reads a manifest text; unknown fields are errors.
    pub fn from_text(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

/// A CLIP package that was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipPackage {
    /// The folder.
    pub root: PathBuf,
    /// Its manifest.
    pub manifest: ClipManifest,
    /// SHA-256 of the canonical manifest text in lower-case hexadecimal, which stands for the whole package.
    pub identity: String,
}

impl ClipPackage {
    /// Opens a package folder and checks it as [`Package::open`](super::Package::open) does; a LLaVA package is refused.
    pub fn open(root: &Path) -> Result<Self, PackageError> {
        let path = root.join(MANIFEST_FILE);
        if !path.is_file() {
            return Err(PackageError::NoManifest { root: root.to_path_buf() });
        }
        let wrong = |reason: String| PackageError::Manifest { path: path.clone(), reason };
        let text = read_text_capped(&path, MANIFEST_LIMIT_BYTES)?;
        check_format(&path, &text)?;
        PackageKind::Clip.expect(root, &text)?;
        let manifest = ClipManifest::from_text(&text).map_err(|error| wrong(error.to_string()))?;
        let canonical = manifest.to_text().map_err(|error| wrong(error.to_string()))?;
        let identity = hexadecimal(&sha2::Sha256::digest(canonical.as_bytes()));
        let package = Self { root: root.to_path_buf(), manifest, identity };
        package.check()?;
        Ok(package)
    }

    /// Reads every file and compares its SHA-256 with the manifest.
    pub fn verify_hashes(&self) -> Result<(), PackageError> {
        self.contents().verify_hashes()
    }

    fn contents(&self) -> Contents<'_> {
        Contents { root: &self.root, files: &self.manifest.files }
    }

    fn check(&self) -> Result<(), PackageError> {
        let (manifest, contents) = (&self.manifest, self.contents());
        if manifest.format != FORMAT {
            return Err(contents.field("format", manifest.format, FORMAT.to_string()));
        }
        if !is_plain_name(&manifest.name) {
            return Err(contents.field("name", format!("{:?}", manifest.name), PLAIN_NAME));
        }
        contents.check_files()?;
        let (vision, text) = (&manifest.vision, &manifest.text);
        let ranges = [
            ("projection_size", manifest.projection_size, 1 << 20),
            ("vision.image_size", vision.image_size, 4096),
            ("vision.patch_size", vision.patch_size, 4096),
            ("vision.layers", vision.layers, 1024),
            ("vision.hidden_size", vision.hidden_size, 1 << 20),
            ("text.layers", text.layers, 1024),
            ("text.hidden_size", text.hidden_size, 1 << 20),
            ("text.vocabulary_size", text.vocabulary_size, 1 << 22),
            ("text.maximum_tokens", text.maximum_tokens, 1 << 16),
        ];
        if let Some((field, value, limit)) = ranges.into_iter().find(|(_, value, limit)| *value == 0 || value > limit) {
            return Err(contents.field(field, value, format!("1 to {limit}")));
        }
        // e^88 is the largest power that 32-bit numbers hold.
        if !manifest.logit_scale.is_finite() || manifest.logit_scale.abs() > 88.0 {
            return Err(contents.field("logit_scale", manifest.logit_scale, "a logarithm from -88 to 88"));
        }
        let stages = [("vision", manifest.precision.vision), ("text", manifest.precision.text)];
        if let Some((field, found, expected)) = manifest.quantisation.as_ref().and_then(|record| record.fault(&stages)) {
            return Err(contents.field(field, found, expected));
        }
        contents.record("tokenizer", "tokenizer.json")?;
        contents.check_flavor(manifest.flavor, &[&vision.graph, &text.graph])?;
        let named = Dimension::named;
        let f32_port = |name: &str, shape: Vec<Dimension>| port(name, data_type::FLOAT, shape);
        let side = || Dimension::Fixed(vision.image_size);
        contents.check_graph(
            &vision.graph,
            &[f32_port("pixel_values", vec![named("images"), 3.into(), side(), side()])],
            &[f32_port("image_embeds", vec![named("images"), manifest.projection_size.into()])],
        )?;
        contents.check_graph(
            &text.graph,
            &[port("input_ids", data_type::INT64, vec![named("texts"), named("tokens")])],
            &[f32_port("text_embeds", vec![named("texts"), manifest.projection_size.into()])],
        )
    }
}
