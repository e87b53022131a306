//! Packages that other programs wrote: recognising their layouts by files, and their graphs' interfaces by introspection.
//!
//! | layout | files |
//! | --- | --- |
//! | transformers.js, Optimum | `onnx/{vision_encoder,embed_tokens,decoder_model_merged}{SUFFIX}.onnx` |
//! | onnxruntime-genai | `genai_config.json`, which names three graphs |
//! | mobius | `vision_encoder`, `embedding`, `decoder`, each `NAME.onnx` or `NAME/model.onnx` |
//!
//! Nothing is loaded: graphs are mapped and their weights skipped. What a checkpoint's configuration says beside them is
//! read by `export`, which makes the manifest.

mod genai;
mod interface;
mod layout;
mod names;
mod transformers_js;

use serde::{Deserialize, Serialize};

pub use layout::{ForeignFolder, GraphFile, is_foreign, recognise};
pub use names::layer_name;

/// Who lays a package out like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForeignLayout {
    /// transformers.js, and before it Optimum's merged decoders.
    #[serde(rename = "transformers.js")]
    TransformersJs,
    /// onnxruntime-genai.
    #[serde(rename = "onnxruntime-genai")]
    Genai,
    /// mobius.
    Mobius,
}

impl ForeignLayout {
    /// The name used in manifests and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TransformersJs => "transformers.js",
            Self::Genai => "onnxruntime-genai",
            Self::Mobius => "mobius",
        }
    }
}

/// Number type of a graph's input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortType {
    /// 32-bit floating point.
    F32,
    /// 16-bit IEEE floating point.
    F16,
    /// bfloat16.
    Bf16,
    /// 64-bit integer.
    I64,
    /// 32-bit integer.
    I32,
    /// Truth value.
    Bool,
}

/// An input or output that the engine feeds or reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its name in the graph.
    pub name: String,
    /// Number type.
    pub dtype: PortType,
}

/// The vision graph, projector inside: pixels `[images, 3, height, width]` → rows of the language model's width,
/// `[images, tokens, hidden_size]` or `[images · tokens, hidden_size]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisionInterface {
    /// The pixels.
    pub pixel_values: Port,
    /// The projected rows.
    pub image_features: Port,
}

/// The token embedding graph: ids `[1, tokens]` → rows `[1, tokens, hidden_size]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingInterface {
    /// Graph file name inside the package.
    pub graph: String,
    /// The ids.
    pub input_ids: Port,
    /// The rows.
    pub inputs_embeds: Port,
    /// Where the graph itself puts image rows in the places of the image token; `None` where the caller does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_features: Option<MergedFeatures>,
}

/// Image rows that an embedding graph takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MergedFeatures {
    /// The input.
    pub port: Port,
    /// 2 for `[rows, hidden_size]`, 3 for `[images, rows, hidden_size]`.
    pub rank: usize,
}

/// The decoder graph. Rows come as `[batch, new, hidden_size]`, keys and values as
/// `[batch, key_value_heads, past, head_size]`, logits as `[batch, new or 1, vocabulary_size]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderInterface {
    /// The rows.
    pub inputs_embeds: Port,
    /// The logits.
    pub logits: Port,
    /// Whether the graph gives logits of the last row alone.
    pub last_row_only: bool,
    /// 1 for each cached and new row that counts, 0 for padding: `[batch, past + new]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_mask: Option<Port>,
    /// Added to attention scores: `[batch, 1, new, past + new]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_bias: Option<Port>,
    /// Positions `[batch, new]`; without it the graph derives them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position_ids: Option<Port>,
    /// `[1]`: whether the cached rows count (merged graphs of Optimum hold one graph for each case).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_cache_branch: Option<Port>,
    /// Scalar: how many rows at the end get logits, 0 for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logits_to_keep: Option<Port>,
    /// Keys and values of earlier rows; `None` where the graph has no memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheInterface>,
    /// Whether attention is ONNX Runtime's grouped-query operator, whose limits decide what can share a run.
    pub grouped_query_attention: bool,
    /// Whether the graph quantises numbers as it runs, by the range of all rows of the run: then what shares a run with a
    /// row changes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dynamic_quantisation: bool,
}

/// Names of the cache's inputs and outputs; `%d` stands for the layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheInterface {
    /// Input with the keys.
    pub past_key: String,
    /// Input with the values.
    pub past_value: String,
    /// Output with the keys.
    pub present_key: String,
    /// Output with the values.
    pub present_value: String,
    /// Number type of both.
    pub dtype: PortType,
    /// `past_present_share_buffer` of an onnxruntime-genai package: its own runner writes into one buffer. This program
    /// gives the graph the exact past instead, which the operator takes as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared_buffer: bool,
}

/// What the engine has to know of a package that another program wrote, beyond the stages of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForeignGraphs {
    /// Its layout.
    pub layout: ForeignLayout,
    /// Which of several sets of files was taken and why, for people.
    pub choice: String,
    /// The vision graph's interface; the file is that of the vision stage.
    pub vision: VisionInterface,
    /// The embedding graph.
    pub embedding: EmbeddingInterface,
    /// The decoder graph's interface; the file is that of the language model stage.
    pub decoder: DecoderInterface,
}

/// Sizes that the graphs fix, to be held against the configuration; `None` where a graph leaves one open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GraphSizes {
    /// Height and width of the pixels.
    pub image: Option<[usize; 2]>,
    /// Rows that the vision graph gives for one image.
    pub tokens_per_image: Option<usize>,
    /// Width of a row.
    pub hidden_size: Option<usize>,
    /// Decoder layers with a cache.
    pub layers: Option<usize>,
    /// Key and value heads.
    pub key_value_heads: Option<usize>,
    /// Width of a head.
    pub head_size: Option<usize>,
    /// Rows of the logits.
    pub vocabulary_size: Option<usize>,
}

/// How the questions of an image can share work in a graph that another program wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheScheme {
    /// One shared prefix, all suffixes packed into one run behind it, all answers decoded together.
    PackedTree,
    /// One shared prefix; each suffix on the same cached prefix; answers decoded in a batch where the graph can.
    SharedPrefix,
    /// Every question on its own.
    OneByOne,
}

impl CacheScheme {
    /// The name used in run records: `packed-tree`, `shared-prefix` or `one-by-one`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PackedTree => "packed-tree",
            Self::SharedPrefix => "shared-prefix",
            Self::OneByOne => "one-by-one",
        }
    }
}

impl DecoderInterface {
    /// What the interface allows and why; loading proves it on a few tokens and falls back where it does not hold.
    pub fn scheme(&self) -> (CacheScheme, &'static str) {
        if self.cache.is_none() {
            (CacheScheme::OneByOne, "the decoder graph has no past_key_values")
        } else if self.dynamic_quantisation {
            let reason = "the decoder graph quantises by the range of all rows of a run, so that questions sharing one would \
                          change each other's answers";
            (CacheScheme::OneByOne, reason)
        } else if self.attention_bias.is_some() && self.position_ids.is_some() && !self.last_row_only {
            (CacheScheme::PackedTree, "the decoder graph takes position_ids and attention_bias")
        } else if self.grouped_query_attention {
            (CacheScheme::SharedPrefix, "the decoder graph takes past_key_values and attention_mask (grouped-query attention)")
        } else {
            (CacheScheme::SharedPrefix, "the decoder graph takes past_key_values and attention_mask")
        }
    }
}
