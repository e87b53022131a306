//! The shapes of a LLaVA model, and the tensors that they imply.

use super::language_architecture::LlamaArchitecture;
use super::vision_architecture::{VisionArchitecture, VisionFamily};

/// How image features become rows of the language model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProjectorKind {
    /// Features are the rows.
    Identity,
    /// One linear layer.
    Linear,
    /// This many linear layers with GELU between them.
    Mlp(usize),
}

impl ProjectorKind {
    /// The name that LLaVA gives it in `mm_projector_type`.
    pub fn name(self) -> String {
        match self {
            Self::Identity => "identity".to_owned(),
            Self::Linear => "linear".to_owned(),
            Self::Mlp(layers) => format!("mlp{layers}x_gelu"),
        }
    }

    /// Linear layers.
    pub fn layers(self) -> usize {
        match self {
            Self::Identity => 0,
            Self::Linear => 1,
            Self::Mlp(layers) => layers,
        }
    }
}

/// The projector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProjectorArchitecture {
    pub kind: ProjectorKind,
    pub bias: bool,
    /// Whether there is a learned row that ends lines of tiles.
    pub newline: bool,
}

/// All three stages.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LlavaArchitecture {
    pub vision: VisionArchitecture,
    pub projector: ProjectorArchitecture,
    pub llm: LlamaArchitecture,
}

/// A tensor that the graphs need, by the name that it has in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequiredTensor {
    pub name: String,
    pub shape: Vec<usize>,
}

impl LlavaArchitecture {
    /// Every tensor of the three stages, in graph order. The embedding table is last but for the output head, which is
    /// absent when it is tied.
    pub fn required_tensors(&self) -> Vec<RequiredTensor> {
        let mut tensors = Vec::new();
        let mut add = |name: String, shape: &[usize]| tensors.push(RequiredTensor { name, shape: shape.to_vec() });
        let vision = &self.vision;
        let (width, wide) = (vision.hidden_size, vision.intermediate_size);
        let clip = vision.family == VisionFamily::Clip;
        if clip {
            add("vision.embeddings.class_embedding".to_owned(), &[width]);
        }
        add("vision.embeddings.patch_embedding.weight".to_owned(), &[width, 3, vision.patch_size, vision.patch_size]);
        if !clip {
            add("vision.embeddings.patch_embedding.bias".to_owned(), &[width]);
        }
        add("vision.embeddings.position_embedding.weight".to_owned(), &[vision.rows(), width]);
        let mut linear = |name: String, outputs: usize, inputs: usize, bias: bool| {
            add(format!("{name}.weight"), &[outputs, inputs]);
            if bias {
                add(format!("{name}.bias"), &[outputs]);
            }
        };
        for layer in 0..vision.used_layers {
            let prefix = format!("vision.encoder.layers.{layer}");
            for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                linear(format!("{prefix}.self_attn.{part}"), width, width, true);
            }
            linear(format!("{prefix}.mlp.fc1"), wide, width, true);
            linear(format!("{prefix}.mlp.fc2"), width, wide, true);
        }
        let llm = &self.llm;
        for layer in 1..=self.projector.kind.layers() {
            let inputs = if layer == 1 { width } else { llm.hidden_size };
            linear(format!("projector.linear_{layer}"), llm.hidden_size, inputs, self.projector.bias);
        }
        for layer in 0..llm.layers {
            let prefix = format!("llm.layers.{layer}");
            let (queries, keys) = (llm.heads * llm.head_size, llm.key_value_heads * llm.head_size);
            linear(format!("{prefix}.self_attn.q_proj"), queries, llm.hidden_size, llm.query_key_value_bias);
            linear(format!("{prefix}.self_attn.k_proj"), keys, llm.hidden_size, llm.query_key_value_bias);
            linear(format!("{prefix}.self_attn.v_proj"), keys, llm.hidden_size, llm.query_key_value_bias);
            linear(format!("{prefix}.self_attn.o_proj"), llm.hidden_size, queries, llm.attention_output_bias);
            linear(format!("{prefix}.mlp.gate_proj"), llm.intermediate_size, llm.hidden_size, llm.feed_forward_bias);
            linear(format!("{prefix}.mlp.up_proj"), llm.intermediate_size, llm.hidden_size, llm.feed_forward_bias);
            linear(format!("{prefix}.mlp.down_proj"), llm.hidden_size, llm.intermediate_size, llm.feed_forward_bias);
        }
        let mut norms = if clip { vec!["vision.pre_layrnorm".to_owned()] } else { Vec::new() };
        for layer in 0..vision.used_layers {
            norms.push(format!("vision.encoder.layers.{layer}.layer_norm1"));
            norms.push(format!("vision.encoder.layers.{layer}.layer_norm2"));
        }
        for norm in norms {
            add(format!("{norm}.weight"), &[width]);
            add(format!("{norm}.bias"), &[width]);
        }
        for layer in 0..llm.layers {
            add(format!("llm.layers.{layer}.input_layernorm.weight"), &[llm.hidden_size]);
            add(format!("llm.layers.{layer}.post_attention_layernorm.weight"), &[llm.hidden_size]);
        }
        add("llm.norm.weight".to_owned(), &[llm.hidden_size]);
        if self.projector.newline {
            add(IMAGE_NEWLINE.to_owned(), &[llm.hidden_size]);
        }
        add(EMBEDDING.to_owned(), &[llm.vocabulary_size, llm.hidden_size]);
        if !llm.tied {
            add(OUTPUT_HEAD.to_owned(), &[llm.vocabulary_size, llm.hidden_size]);
        }
        tensors
    }
}

/// Canonical name of the token embedding table.
pub(super) const EMBEDDING: &str = "llm.embed_tokens.weight";
/// Canonical name of the learned row that ends lines of tiles.
pub(super) const IMAGE_NEWLINE: &str = "projector.image_newline";
/// Canonical name of the output head.
pub(super) const OUTPUT_HEAD: &str = "llm.lm_head.weight";
