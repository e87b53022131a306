//! The shapes of a CLIP model, read from configuration with the defaults of transformers (`configuration_clip.py`), and the
//! tensors that they imply.

use super::super::ExportError;
use super::super::architecture::RequiredTensor;
use super::super::config::Config;
use super::super::encoder::Activation;
use crate::package::TextPooling;

/// `eos_token_id` of configurations written before it was corrected (`modeling_clip.py` keeps their way of pooling).
const LEGACY_EOS: usize = 2;

/// What the two towers have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Tower {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub layers: usize,
    pub heads: usize,
    pub activation: Activation,
    pub layer_norm_epsilon: f32,
}

/// A CLIP model.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipModelArchitecture {
    pub vision: Tower,
    pub image_size: usize,
    pub patch_size: usize,
    pub text: Tower,
    pub vocabulary_size: usize,
    pub maximum_tokens: usize,
    pub pooling: TextPooling,
    pub projection_size: usize,
}

impl Tower {
    fn read(config: &Config, model_type: &str, defaults: [usize; 4]) -> Result<Self, ExportError> {
        config.one_of("model_type", model_type, &[model_type])?;
        let [hidden_size, intermediate_size, layers, heads] = defaults;
        let activation = match config.one_of("hidden_act", "quick_gelu", &["quick_gelu", "gelu"])?.as_str() {
            "gelu" => Activation::Gelu,
            _ => Activation::QuickGelu,
        };
        let tower = Self {
            hidden_size: config.positive("hidden_size", hidden_size)?,
            intermediate_size: config.positive("intermediate_size", intermediate_size)?,
            layers: config.positive("num_hidden_layers", layers)?,
            heads: config.positive("num_attention_heads", heads)?,
            activation,
            layer_norm_epsilon: config.number("layer_norm_eps")?.unwrap_or(1e-5) as f32,
        };
        if !tower.hidden_size.is_multiple_of(tower.heads) {
            return Err(config.invalid("num_attention_heads", &format!("a divisor of hidden_size = {}", tower.hidden_size)));
        }
        if tower.layers > 1024 {
            return Err(config.invalid("num_hidden_layers", "1 to 1024"));
        }
        Ok(tower)
    }

    /// Its tensors below `prefix`, matrices before vectors.
    fn add_tensors(&self, prefix: &str, add: &mut dyn FnMut(String, &[usize])) {
        let (width, wide) = (self.hidden_size, self.intermediate_size);
        for layer in 0..self.layers {
            let layer = format!("{prefix}.encoder.layers.{layer}");
            let linears = [
                ("self_attn.q_proj", width, width),
                ("self_attn.k_proj", width, width),
                ("self_attn.v_proj", width, width),
                ("self_attn.out_proj", width, width),
                ("mlp.fc1", wide, width),
                ("mlp.fc2", width, wide),
            ];
            for (part, outputs, inputs) in linears {
                add(format!("{layer}.{part}.weight"), &[outputs, inputs]);
                add(format!("{layer}.{part}.bias"), &[outputs]);
            }
            for norm in ["layer_norm1", "layer_norm2"] {
                add(format!("{layer}.{norm}.weight"), &[width]);
                add(format!("{layer}.{norm}.bias"), &[width]);
            }
        }
    }
}

impl ClipModelArchitecture {
    /// Reads a `CLIPConfig`.
    pub fn read(config: &Config) -> Result<Self, ExportError> {
        config.one_of("model_type", "absent", &["clip"])?;
        let vision_config = nested(config, "vision_config")?;
        let text_config = nested(config, "text_config")?;
        if vision_config.size("num_channels")?.unwrap_or(3) != 3 {
            return Err(vision_config.unsupported("num_channels", "3"));
        }
        let vision = Tower::read(&vision_config, "clip_vision_model", [768, 3072, 12, 12])?;
        let text = Tower::read(&text_config, "clip_text_model", [512, 2048, 12, 8])?;
        let (image_size, patch_size) = (vision_config.positive("image_size", 224)?, vision_config.positive("patch_size", 32)?);
        if patch_size > image_size || image_size > 4096 {
            return Err(vision_config.invalid("image_size", &format!("patch_size = {patch_size} to 4096")));
        }
        let vocabulary_size = text_config.positive("vocab_size", 49_408)?;
        let maximum_tokens = text_config.positive("max_position_embeddings", 77)?;
        if !(2..=1 << 16).contains(&maximum_tokens) {
            return Err(text_config.invalid("max_position_embeddings", "2 to 65536"));
        }
        let pooling = match text_config.size("eos_token_id")?.unwrap_or(49_407) {
            LEGACY_EOS => TextPooling::LargestId,
            eos if eos < vocabulary_size => TextPooling::FirstEos(u32::try_from(eos).unwrap_or(u32::MAX)),
            _ => return Err(text_config.invalid("eos_token_id", &format!("an id below vocab_size = {vocabulary_size}"))),
        };
        let projection_size = config.positive("projection_dim", 512)?;
        Ok(Self { vision, image_size, patch_size, text, vocabulary_size, maximum_tokens, pooling, projection_size })
    }

    /// Patches of an image and its class token.
    pub fn vision_rows(&self) -> usize {
        let side = self.image_size / self.patch_size;
        side * side + 1
    }

    /// Every tensor of the two graphs.
    pub fn required_tensors(&self) -> Vec<RequiredTensor> {
        let mut tensors = Vec::new();
        let mut add = |name: String, shape: &[usize]| tensors.push(RequiredTensor { name, shape: shape.to_vec() });
        let (seen, read) = (self.vision.hidden_size, self.text.hidden_size);
        add("vision.embeddings.class_embedding".to_owned(), &[seen]);
        add("vision.embeddings.patch_embedding.weight".to_owned(), &[seen, 3, self.patch_size, self.patch_size]);
        add("vision.embeddings.position_embedding.weight".to_owned(), &[self.vision_rows(), seen]);
        self.vision.add_tensors("vision", &mut add);
        add("visual_projection.weight".to_owned(), &[self.projection_size, seen]);
        add("text.embeddings.token_embedding.weight".to_owned(), &[self.vocabulary_size, read]);
        add("text.embeddings.position_embedding.weight".to_owned(), &[self.maximum_tokens, read]);
        self.text.add_tensors("text", &mut add);
        add("text_projection.weight".to_owned(), &[self.projection_size, read]);
        for (norm, width) in [("vision.pre_layrnorm", seen), ("vision.post_layernorm", seen), ("text.final_layer_norm", read)] {
            add(format!("{norm}.weight"), &[width]);
            add(format!("{norm}.bias"), &[width]);
        }
        tensors
    }
}

/// The configuration of a tower. Old checkpoints have it a second time under `…_dict`, which transformers puts in the place of
/// the first, its defaults included.
fn nested(config: &Config, key: &str) -> Result<Config, ExportError> {
    if let Some(replacing) = config.object(&format!("{key}_dict"))? {
        return Ok(replacing);
    }
    Ok(config.object(key)?.unwrap_or_else(|| Config::empty(config.file(), &format!("{key}."))))
}
