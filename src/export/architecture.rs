//! The shapes of a LLaVA model, read from configuration with the defaults of transformers, and the tensors they imply.

use super::ExportError;
use super::config::Config;

/// Activation of the CLIP feed-forward layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VisionActivation {
    /// x · sigmoid(1.702 x).
    QuickGelu,
    /// The exact (erf) GELU.
    Gelu,
}

/// A CLIP vision tower.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ClipArchitecture {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    /// Layers of the checkpoint.
    pub layers: usize,
    /// Layers that the selected features need.
    pub used_layers: usize,
    pub heads: usize,
    pub image_size: usize,
    pub patch_size: usize,
    pub activation: VisionActivation,
    pub layer_norm_epsilon: f32,
    /// `vision_feature_layer` as the checkpoint writes it.
    pub feature_layer: i64,
    /// Whether the class token is among the features.
    pub keeps_class_token: bool,
}

/// How image features become rows of the language model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProjectorArchitecture {
    /// False for one linear layer, true for linear, GELU, linear.
    pub two_layers: bool,
    pub bias: bool,
}

/// Scaling of the rotary frequencies.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum RotaryScaling {
    None,
    /// Positions are divided by the factor.
    Linear {
        factor: f64,
    },
    /// Frequency bands are scaled apart, as Llama 3.1 does.
    Llama3 {
        factor: f64,
        low_frequency_factor: f64,
        high_frequency_factor: f64,
        original_positions: f64,
    },
}

/// A LLaMA-type language model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LlamaArchitecture {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub layers: usize,
    pub heads: usize,
    pub key_value_heads: usize,
    pub head_size: usize,
    pub vocabulary_size: usize,
    pub maximum_positions: usize,
    pub norm_epsilon: f32,
    pub rotary_base: f64,
    pub rotary_scaling: RotaryScaling,
    pub attention_bias: bool,
    pub feed_forward_bias: bool,
    /// The output head is the embedding table.
    pub tied: bool,
}

/// All three stages.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LlavaArchitecture {
    pub vision: ClipArchitecture,
    pub projector: ProjectorArchitecture,
    pub llm: LlamaArchitecture,
}

/// A tensor that the graphs need, by the name that it has in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequiredTensor {
    pub name: String,
    pub shape: Vec<usize>,
}

/// Default sizes of a CLIP configuration: those of `CLIPVisionConfig`, or those that LLaVA puts in their place when the
/// checkpoint gives no vision configuration at all.
#[derive(Clone, Copy)]
pub(super) enum ClipDefaults {
    Base,
    Large336,
}

impl ClipArchitecture {
    /// Reads a `CLIPVisionConfig`; `feature_layer` and the selection come from LLaVA's own configuration.
    pub fn read(
        config: &Config,
        defaults: ClipDefaults,
        select: &Config,
        layer_key: &str,
        feature_layer: i64,
        keeps_class_token: bool,
    ) -> Result<Self, ExportError> {
        config.one_of("model_type", "clip_vision_model", &["clip_vision_model"])?;
        let [hidden, intermediate, layers, heads, image, patch] = match defaults {
            ClipDefaults::Base => [768, 3072, 12, 12, 224, 32],
            ClipDefaults::Large336 => [1024, 4096, 24, 16, 336, 14],
        };
        let activation = match config.one_of("hidden_act", "quick_gelu", &["quick_gelu", "gelu"])?.as_str() {
            "gelu" => VisionActivation::Gelu,
            _ => VisionActivation::QuickGelu,
        };
        if config.size("num_channels")?.unwrap_or(3) != 3 {
            return Err(config.unsupported("num_channels", "3"));
        }
        let layers = config.positive("num_hidden_layers", layers)?;
        // hidden_states[0] is the input of the first layer, hidden_states[layers] the output of the last.
        let index = if feature_layer < 0 { feature_layer + 1 + layers as i64 } else { feature_layer };
        let used_layers = usize::try_from(index).ok().filter(|&used| used <= layers);
        let range = || format!("-{} to {layers}, as the tower has {layers} layers", layers + 1);
        let vision = Self {
            hidden_size: config.positive("hidden_size", hidden)?,
            intermediate_size: config.positive("intermediate_size", intermediate)?,
            layers,
            used_layers: used_layers.ok_or_else(|| select.invalid(layer_key, &range()))?,
            heads: config.positive("num_attention_heads", heads)?,
            image_size: config.positive("image_size", image)?,
            patch_size: config.positive("patch_size", patch)?,
            activation,
            layer_norm_epsilon: config.number("layer_norm_eps")?.unwrap_or(1e-5) as f32,
            feature_layer,
            keeps_class_token,
        };
        if !vision.hidden_size.is_multiple_of(vision.heads) {
            return Err(config.invalid("num_attention_heads", &format!("a divisor of hidden_size = {}", vision.hidden_size)));
        }
        if vision.patch_size > vision.image_size || vision.image_size > 4096 {
            return Err(config.invalid("image_size", &format!("patch_size = {} to 4096", vision.patch_size)));
        }
        Ok(vision)
    }

    /// Patches of one image.
    pub fn patches(&self) -> usize {
        let side = self.image_size / self.patch_size;
        side * side
    }

    /// Feature rows of one image.
    pub fn tokens(&self) -> usize {
        self.patches() + usize::from(self.keeps_class_token)
    }
}

impl LlamaArchitecture {
    /// Reads a `LlamaConfig`, whose defaults hold where keys are absent.
    pub fn read(config: &Config, tied: bool) -> Result<Self, ExportError> {
        config.one_of("hidden_act", "silu", &["silu"])?;
        config.refuse_present("sliding_window", "attention over the whole context (no sliding_window)")?;
        let hidden_size = config.positive("hidden_size", 4096)?;
        let heads = config.positive("num_attention_heads", 32)?;
        let (rotary_base, rotary_scaling) = read_rotary(config)?;
        let positions = config.positive("max_position_embeddings", 2048)?;
        let llm = Self {
            hidden_size,
            intermediate_size: config.positive("intermediate_size", 11008)?,
            layers: config.positive("num_hidden_layers", 32)?,
            heads,
            key_value_heads: config.positive("num_key_value_heads", heads)?,
            head_size: config.positive("head_dim", (hidden_size / heads).max(1))?,
            vocabulary_size: config.positive("vocab_size", 32000)?,
            // Long-context Vicuna keeps the original length in max_position_embeddings and says the true one here.
            maximum_positions: positions.max(config.positive("max_sequence_length", 1)?),
            norm_epsilon: config.number("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            rotary_base,
            rotary_scaling,
            attention_bias: config.flag("attention_bias")?.unwrap_or(false),
            feed_forward_bias: config.flag("mlp_bias")?.unwrap_or(false),
            tied,
        };
        if config.get("head_dim").is_none() && !hidden_size.is_multiple_of(heads) {
            return Err(config.invalid("num_attention_heads", &format!("a divisor of hidden_size = {hidden_size}")));
        }
        if !heads.is_multiple_of(llm.key_value_heads) {
            return Err(config.invalid("num_key_value_heads", &format!("a divisor of num_attention_heads = {heads}")));
        }
        if !llm.head_size.is_multiple_of(HEAD_SIZE_MULTIPLE) {
            let found = llm.head_size;
            let supported = format!("heads whose size (here {found}) is a multiple of {HEAD_SIZE_MULTIPLE}, for ONNX Runtime");
            let key = if config.get("head_dim").is_some() { "head_dim" } else { "num_attention_heads" };
            return Err(config.unsupported(key, &supported));
        }
        if llm.layers > 1024 {
            return Err(config.invalid("num_hidden_layers", "1 to 1024"));
        }
        Ok(llm)
    }
}

/// ONNX Runtime's GroupQueryAttention applies rotary embeddings in blocks of this many numbers of a head.
const HEAD_SIZE_MULTIPLE: usize = 16;

/// Base and scaling of the rotary embedding, from the keys of old (`rope_theta`, `rope_scaling`) and new
/// (`rope_parameters`) versions of transformers.
fn read_rotary(config: &Config) -> Result<(f64, RotaryScaling), ExportError> {
    let base = config.number("rope_theta")?;
    let parameters = match config.object("rope_parameters")? {
        Some(parameters) => Some(parameters),
        None => config.object("rope_scaling")?,
    };
    let Some(parameters) = parameters else {
        return Ok((base.unwrap_or(10_000.0), RotaryScaling::None));
    };
    let base = parameters.number("rope_theta")?.or(base).unwrap_or(10_000.0);
    if base <= 0.0 {
        return Err(parameters.invalid("rope_theta", "a positive number"));
    }
    if parameters.number("partial_rotary_factor")?.unwrap_or(1.0) != 1.0 {
        return Err(parameters.unsupported("partial_rotary_factor", "1"));
    }
    let key = if parameters.get("rope_type").is_some() { "rope_type" } else { "type" };
    let positive = |key: &str| -> Result<f64, ExportError> {
        let value = parameters.number(key)?.filter(|&value| value > 0.0);
        value.ok_or_else(|| parameters.invalid(key, "a positive number"))
    };
    let scaling = match parameters.one_of(key, "default", &["default", "linear", "llama3"])?.as_str() {
        "linear" => RotaryScaling::Linear { factor: positive("factor")? },
        "llama3" => RotaryScaling::Llama3 {
            factor: positive("factor")?,
            low_frequency_factor: positive("low_freq_factor")?,
            high_frequency_factor: positive("high_freq_factor")?,
            original_positions: positive("original_max_position_embeddings")?,
        },
        _ => RotaryScaling::None,
    };
    Ok((base, scaling))
}

impl LlavaArchitecture {
    /// Every tensor of the three stages, in graph order. The embedding table is last but for the output head, which is
    /// absent when it is tied.
    pub fn required_tensors(&self) -> Vec<RequiredTensor> {
        let mut tensors = Vec::new();
        let mut add = |name: String, shape: &[usize]| tensors.push(RequiredTensor { name, shape: shape.to_vec() });
        let vision = &self.vision;
        let (width, wide) = (vision.hidden_size, vision.intermediate_size);
        add("vision.embeddings.class_embedding".to_owned(), &[width]);
        add("vision.embeddings.patch_embedding.weight".to_owned(), &[width, 3, vision.patch_size, vision.patch_size]);
        add("vision.embeddings.position_embedding.weight".to_owned(), &[vision.patches() + 1, width]);
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
        linear("projector.linear_1".to_owned(), llm.hidden_size, width, self.projector.bias);
        if self.projector.two_layers {
            linear("projector.linear_2".to_owned(), llm.hidden_size, llm.hidden_size, self.projector.bias);
        }
        for layer in 0..llm.layers {
            let prefix = format!("llm.layers.{layer}");
            let (queries, keys) = (llm.heads * llm.head_size, llm.key_value_heads * llm.head_size);
            linear(format!("{prefix}.self_attn.q_proj"), queries, llm.hidden_size, llm.attention_bias);
            linear(format!("{prefix}.self_attn.k_proj"), keys, llm.hidden_size, llm.attention_bias);
            linear(format!("{prefix}.self_attn.v_proj"), keys, llm.hidden_size, llm.attention_bias);
            linear(format!("{prefix}.self_attn.o_proj"), llm.hidden_size, queries, llm.attention_bias);
            linear(format!("{prefix}.mlp.gate_proj"), llm.intermediate_size, llm.hidden_size, llm.feed_forward_bias);
            linear(format!("{prefix}.mlp.up_proj"), llm.intermediate_size, llm.hidden_size, llm.feed_forward_bias);
            linear(format!("{prefix}.mlp.down_proj"), llm.hidden_size, llm.intermediate_size, llm.feed_forward_bias);
        }
        let mut norms = vec!["vision.pre_layrnorm".to_owned()];
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
        add(EMBEDDING.to_owned(), &[llm.vocabulary_size, llm.hidden_size]);
        if !llm.tied {
            add(OUTPUT_HEAD.to_owned(), &[llm.vocabulary_size, llm.hidden_size]);
        }
        tensors
    }
}

/// Canonical name of the token embedding table.
pub(super) const EMBEDDING: &str = "llm.embed_tokens.weight";
/// Canonical name of the output head.
pub(super) const OUTPUT_HEAD: &str = "llm.lm_head.weight";
