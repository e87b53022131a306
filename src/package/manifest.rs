//! The manifest, `package.toml`: what a package contains, where it came from, and what its graphs expect.

use serde::{Deserialize, Serialize};

use super::foreign::ForeignGraphs;
use super::quantisation::Quantisation;
use super::recipe::{ImageRecipe, PromptRecipe};

/// Number type of a stage's weights and arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point.
    Fp32,
    /// 16-bit IEEE floating point.
    Fp16,
    /// bfloat16.
    Bf16,
    /// 8-bit weights and activations: each row of activations with a scale of its own as the graph runs, each output's weights
    /// with theirs. In packages of transformers.js' layout: 8-bit signed integers (`_int8`).
    Int8,
    /// 8-bit weights in blocks with a scale each.
    #[serde(rename = "int8-weights")]
    Int8Weights,
    /// 4-bit weights in blocks with a scale each.
    Int4,
    /// 8-bit weights and activations, quantised as the graph runs (`_quantized` of transformers.js). This and the
    /// following only in packages that other programs wrote.
    Q8,
    /// 8-bit unsigned integers.
    Uint8,
    /// 4-bit weights.
    Q4,
    /// 4-bit weights of bitsandbytes' kinds.
    Bnb4,
    /// 4-bit weights, 16-bit arithmetic.
    Q4f16,
    /// 2-bit weights.
    Q2,
    /// 2-bit weights, 16-bit arithmetic.
    Q2f16,
    /// 1-bit weights.
    Q1,
    /// 1-bit weights, 16-bit arithmetic.
    Q1f16,
}

impl Precision {
    /// The name used in manifests, run records and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Bf16 => "bf16",
            Self::Q8 => "q8",
            Self::Int8 => "int8",
            Self::Int8Weights => "int8-weights",
            Self::Int4 => "int4",
            Self::Uint8 => "uint8",
            Self::Q4 => "q4",
            Self::Bnb4 => "bnb4",
            Self::Q4f16 => "q4f16",
            Self::Q2 => "q2",
            Self::Q2f16 => "q2f16",
            Self::Q1 => "q1",
            Self::Q1f16 => "q1f16",
        }
    }
}

/// Precision of each of the three stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagePrecision {
    /// The CLIP vision encoder.
    pub vision: Precision,
    /// The projector.
    pub projector: Precision,
    /// The language model.
    pub llm: Precision,
}

/// Which family of key names and configuration a checkpoint uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceFormat {
    /// `LlavaForConditionalGeneration`, `LlavaNextForConditionalGeneration` or `LlavaOnevisionForConditionalGeneration` of
    /// transformers.
    HuggingFace,
    /// `LlavaLlamaForCausalLM` and its siblings of the original LLaVA and LLaVA-NeXT repositories.
    Original,
}

/// Where a package came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Checkpoint format.
    pub format: SourceFormat,
    /// `model_type` of the checkpoint's `config.json`.
    pub model_type: String,
    /// Version of LLaVA as far as the checkpoint tells it: `v0`, `v1`, `1.5`, `NeXT`, `OneVision`, `Interleave`, `Med v1.0` or
    /// `Med v1.5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Number type of the checkpoint's own tensors, as safetensors names it (`F32`, `F16`, `BF16`), the commonest one.
    pub checkpoint_dtype: String,
}

/// Number type of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TensorDtype {
    /// 32-bit floating point, little endian.
    F32,
    /// 16-bit IEEE floating point, little endian.
    F16,
    /// bfloat16, little endian.
    Bf16,
    /// 8-bit signed integers, which a scale for each row belongs to.
    I8,
}

/// Number type in which a stage computes, where it is not 32 bits: of activations, and in the language model of keys and values
/// too. Inputs and outputs stay in 32 bits, but for the key-value cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    /// 16-bit IEEE floating point.
    Fp16,
    /// bfloat16.
    Bf16,
}

impl Compute {
    /// The name used in manifests and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fp16 => "fp16",
            Self::Bf16 => "bf16",
        }
    }

    /// The lowest number.
    pub fn lowest(self) -> f32 {
        match self {
            Self::Fp16 => half::f16::MIN.to_f32(),
            Self::Bf16 => half::bf16::MIN.to_f32(),
        }
    }

    /// The number type.
    pub fn dtype(self) -> TensorDtype {
        match self {
            Self::Fp16 => TensorDtype::F16,
            Self::Bf16 => TensorDtype::Bf16,
        }
    }
}

/// A tensor's place in a file of the package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorLocation {
    /// File name inside the package.
    pub file: String,
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// Number type.
    pub dtype: TensorDtype,
    /// Shape.
    pub shape: Vec<usize>,
}

/// The vision graph: input `pixel_values` f32 `[images, 3, height, width]`, output `features` f32
/// `[images, tokens_per_image, hidden_size]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisionStage {
    /// Graph file name inside the package.
    pub graph: String,
    /// Side of the square input in pixels.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Width of a feature row.
    pub hidden_size: usize,
    /// Rows that one image gives after selection.
    pub tokens_per_image: usize,
    /// `vision_feature_layer` / `mm_vision_select_layer` of the checkpoint.
    pub feature_layer: i64,
    /// `patch` (class token dropped), `cls_patch` (kept) or `full` (the tower has none).
    pub feature_select: String,
    /// Number type of activations; 32 bits if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute: Option<Compute>,
}

/// The projector graph: input `features` f32 `[images, tokens, input_size]`, output `image_embeds` f32
/// `[images, tokens, output_size]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectorStage {
    /// Graph file name inside the package.
    pub graph: String,
    /// `linear`, `mlpNx_gelu` (N linear layers with GELU between them) or `identity`.
    pub kind: String,
    /// Width of its input rows.
    pub input_size: usize,
    /// Width of its output rows, the language model's hidden size.
    pub output_size: usize,
    /// Number type of activations; 32 bits if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute: Option<Compute>,
    /// The learned row `image_newline` `[output_size]` that ends lines of tiles, where the checkpoint has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_newline: Option<TensorLocation>,
}

/// The language model graph. A run is one sequence of packed tokens (batch 1), or one token each of several sequences
/// (sequence 1); `tokens` is batch × sequence. Graphs that were exported before the second was possible have a batch of 1
/// in their input shapes.
///
/// | input | type | shape |
/// | --- | --- | --- |
/// | `inputs_embeds` | f32 | `[tokens, hidden_size]` |
/// | `position_ids` | i64 | `[batch, sequence]` |
/// | `attention_bias` | f32 | `[batch, 1, sequence, total]`, 0 where a token may look, a large negative number elsewhere |
/// | `seqlens_k` | i32 | `[batch]` = each sequence's own total − 1 |
/// | `total_sequence_length` | i32 | `[]` = total, past included; of several sequences at least the longest's |
/// | `logit_rows` | i64 | `[rows]`, indices into `tokens` for which logits are wanted |
/// | `past_key_values.{layer}.key` / `.value` | f32, or as `compute` says | `[batch, key_value_heads, capacity, head_size]` |
///
/// Outputs: `logits` f32 `[rows, vocabulary_size]`, `present.{layer}.key` / `.value` shaped like the past; bound to the
/// same buffers, they are written in place.
///
/// What a sequence of several has behind its own end up to `total` must be hidden by the bias and finite: graphs of the `contrib`
/// flavour do not read it, but those of the `standard` one do. These take `total` from the bias and not from
/// `total_sequence_length`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageModelStage {
    /// Graph file name inside the package.
    pub graph: String,
    /// Operator flavour of all three graphs, `contrib` or `standard` (see [`GraphFlavor`](super::GraphFlavor)); in a package that
    /// another program wrote, its layout.
    pub flavor: String,
    /// Width of a token row.
    pub hidden_size: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub attention_heads: usize,
    /// Key and value heads.
    pub key_value_heads: usize,
    /// Width of a head.
    pub head_size: usize,
    /// Rows of the logits.
    pub vocabulary_size: usize,
    /// Rows of the rotary tables: the longest sequence that the graph can run, in tokens.
    pub maximum_positions: usize,
    /// A token sees only this many positions, itself included (Mistral); `None` sees all. The engine writes it into the
    /// attention bias by position, because in a packed run positions and cache rows differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sliding_window: Option<usize>,
    /// Number type of activations and of the key-value cache; 32 bits if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute: Option<Compute>,
    /// The token embedding table `[vocabulary, hidden_size]`, looked up by the engine outside the graph. In a package that
    /// another program wrote it stands inside the graph that `file` names, and `bytes` is 0.
    pub embedding: TensorLocation,
    /// What the rows of an 8-bit embedding table are multiplied by, f32 `[vocabulary]`; only there for such a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_scales: Option<TensorLocation>,
}

/// One file of a package, pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Name inside the package.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

/// The manifest of a package, stored as `package.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format version of this file, now 1.
    pub format: u32,
    /// Short name, shown in tables; the package folder's name at export.
    pub name: String,
    /// Program and version that exported it.
    pub exporter: String,
    /// Where it came from.
    pub source: Source,
    /// Precision of each stage.
    pub precision: StagePrecision,
    /// How weights in fewer than 32 bits were made; absent where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantisation: Option<Quantisation>,
    /// The CLIP vision encoder.
    pub vision: VisionStage,
    /// The projector.
    pub projector: ProjectorStage,
    /// The language model.
    pub llm: LanguageModelStage,
    /// Image preprocessing.
    pub image: ImageRecipe,
    /// Prompt and stop rules.
    pub prompt: PromptRecipe,
    /// Interfaces of graphs that another program wrote; absent in our own packages. Such a manifest is made each time the
    /// folder is opened and never stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign: Option<ForeignGraphs>,
    /// Every file that belongs to the package, sorted by name; `package.toml` itself excluded.
    pub files: Vec<FileRecord>,
}

/// Name of the manifest inside a package.
pub const MANIFEST_FILE: &str = "package.toml";
/// Format version that this program writes and reads.
pub const FORMAT: u32 = 1;

impl LanguageModelStage {
    /// Number type of keys and values.
    pub fn cache_dtype(&self) -> TensorDtype {
        self.compute.map_or(TensorDtype::F32, Compute::dtype)
    }
}

impl TensorDtype {
    /// Bytes of one number.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::I8 => 1,
        }
    }
}

impl Manifest {
    /// The canonical text: always the same bytes for the same manifest.
    pub fn to_text(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// Reads a manifest text; unknown fields are errors.
    pub fn from_text(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// SHA-256 of the canonical text in lower-case hexadecimal: the identity of the package.
    pub fn identity(&self) -> Result<String, toml::ser::Error> {
        Ok(super::open::hexadecimal(&<sha2::Sha256 as sha2::Digest>::digest(self.to_text()?.as_bytes())))
    }
}
