//! The shape of a vision tower, CLIP or SigLIP, read with the defaults of transformers.

use super::ExportError;
use super::config::Config;
use super::encoder::Activation;

/// Kind of a vision tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VisionFamily {
    /// A class token before the patches, and a norm before the layers (`CLIPVisionModel`).
    Clip,
    /// Patches only, with a bias, and no norm before the layers (`SiglipVisionModel`).
    Siglip,
}

/// A vision tower.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct VisionArchitecture {
    pub family: VisionFamily,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    /// Layers of the checkpoint.
    pub layers: usize,
    /// Layers that the selected features need.
    pub used_layers: usize,
    pub heads: usize,
    pub image_size: usize,
    pub patch_size: usize,
    pub activation: Activation,
    pub layer_norm_epsilon: f32,
    /// `vision_feature_layer` as the checkpoint writes it.
    pub feature_layer: i64,
    /// Whether the class token is among the features; false for a tower without one.
    pub keeps_class_token: bool,
}

/// Default sizes of a configuration: those of `CLIPVisionConfig` and `SiglipVisionConfig`, or those that a LLaVA class puts
/// in their place when the checkpoint gives no vision configuration at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VisionDefaults {
    ClipBase,
    /// openai/clip-vit-large-patch14 and -336, by image size in pixels.
    ClipLarge(usize),
    SiglipBase,
    /// google/siglip-so400m-patch14-384, by layers: 27 as published, 26 as `LlavaOnevisionConfig` has it.
    SiglipSo400m(usize),
}

/// Which hidden states become features.
pub(super) struct FeatureSelection<'a> {
    /// The configuration that says so, and its key, for messages.
    pub config: &'a Config,
    pub key: &'a str,
    /// Index into the hidden states: 0 is the input of the first layer, -1 the output of the last, without a final norm.
    pub layer: i64,
    /// `full` or `cls_patch`: nothing is dropped.
    pub keeps_class_token: bool,
}

impl VisionDefaults {
    fn family(self) -> VisionFamily {
        match self {
            Self::ClipBase | Self::ClipLarge(_) => VisionFamily::Clip,
            Self::SiglipBase | Self::SiglipSo400m(_) => VisionFamily::Siglip,
        }
    }

    /// Hidden size, intermediate size, layers, heads, image size, patch size.
    fn sizes(self) -> [usize; 6] {
        match self {
            Self::ClipBase => [768, 3072, 12, 12, 224, 32],
            Self::ClipLarge(image_size) => [1024, 4096, 24, 16, image_size, 14],
            Self::SiglipBase => [768, 3072, 12, 12, 224, 16],
            Self::SiglipSo400m(layers) => [1152, 4304, layers, 16, 384, 14],
        }
    }
}

/// The defaults of a vision configuration that is present, by its `model_type`; `absent` is what an absent one means.
pub(super) fn defaults_of(config: &Config, absent: VisionFamily) -> Result<VisionDefaults, ExportError> {
    let absent = match absent {
        VisionFamily::Clip => "clip_vision_model",
        VisionFamily::Siglip => "siglip_vision_model",
    };
    match config.one_of("model_type", absent, &["clip_vision_model", "siglip_vision_model"])?.as_str() {
        "clip_vision_model" => Ok(VisionDefaults::ClipBase),
        _ => Ok(VisionDefaults::SiglipBase),
    }
}

impl VisionArchitecture {
    /// Reads a `CLIPVisionConfig` or `SiglipVisionConfig`; which features are taken comes from LLaVA's own configuration.
    pub fn read(config: &Config, defaults: VisionDefaults, selection: &FeatureSelection<'_>) -> Result<Self, ExportError> {
        let family = defaults.family();
        let [hidden, intermediate, layers, heads, image, patch] = defaults.sizes();
        let (activation, epsilon) = match family {
            VisionFamily::Clip => ("quick_gelu", 1e-5),
            VisionFamily::Siglip => ("gelu_pytorch_tanh", 1e-6),
        };
        let activation = match config.one_of("hidden_act", activation, &["quick_gelu", "gelu", "gelu_pytorch_tanh"])?.as_str() {
            "gelu" => Activation::Gelu,
            "gelu_pytorch_tanh" => Activation::GeluTanh,
            _ => Activation::QuickGelu,
        };
        if config.size("num_channels")?.unwrap_or(3) != 3 {
            return Err(config.unsupported("num_channels", "3"));
        }
        let layers = config.positive("num_hidden_layers", layers)?;
        // hidden_states[0] is the input of the first layer, hidden_states[layers] the output of the last.
        let feature_layer = selection.layer;
        let index = if feature_layer < 0 { feature_layer + 1 + layers as i64 } else { feature_layer };
        let used_layers = usize::try_from(index).ok().filter(|&used| used <= layers);
        let range = || format!("-{} to {layers}, as the tower has {layers} layers", layers + 1);
        let vision = Self {
            family,
            hidden_size: config.positive("hidden_size", hidden)?,
            intermediate_size: config.positive("intermediate_size", intermediate)?,
            layers,
            used_layers: used_layers.ok_or_else(|| selection.config.invalid(selection.key, &range()))?,
            heads: config.positive("num_attention_heads", heads)?,
            image_size: config.positive("image_size", image)?,
            patch_size: config.positive("patch_size", patch)?,
            activation,
            layer_norm_epsilon: config.number("layer_norm_eps")?.unwrap_or(epsilon) as f32,
            feature_layer,
            keeps_class_token: selection.keeps_class_token && family == VisionFamily::Clip,
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

    /// Rows of one image inside the tower: its patches, and the class token if it has one.
    pub fn rows(&self) -> usize {
        self.patches() + usize::from(self.family == VisionFamily::Clip)
    }

    /// Feature rows of one image.
    pub fn tokens(&self) -> usize {
        self.patches() + usize::from(self.keeps_class_token)
    }

    /// The selection by its name in a manifest: `patch`, `cls_patch` or `full`.
    pub fn feature_select(&self) -> &'static str {
        match (self.family, self.keeps_class_token) {
            (VisionFamily::Siglip, _) => "full",
            (VisionFamily::Clip, true) => "cls_patch",
            (VisionFamily::Clip, false) => "patch",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn absent_keys_have_the_defaults_of_transformers() {
        let empty = Config::empty(Path::new("config.json"), "");
        let read = |defaults, layer| {
            let selection = FeatureSelection { config: &empty, key: "vision_feature_layer", layer, keeps_class_token: false };
            VisionArchitecture::read(&empty, defaults, &selection)
        };
        let vision = read(VisionDefaults::ClipLarge(336), -2).unwrap();
        assert_eq!((vision.hidden_size, vision.layers, vision.used_layers, vision.tokens()), (1024, 24, 23, 576));
        assert_eq!(read(VisionDefaults::ClipLarge(224), -2).unwrap().tokens(), 256);
        let base = read(VisionDefaults::ClipBase, -1).unwrap();
        assert_eq!((base.hidden_size, base.image_size, base.patch_size, base.used_layers), (768, 224, 32, 12));
        assert_eq!((base.activation, base.layer_norm_epsilon), (Activation::QuickGelu, 1e-5));
        assert_eq!(read(VisionDefaults::ClipBase, 0).unwrap().used_layers, 0);
        assert_eq!(read(VisionDefaults::ClipBase, 12).unwrap().used_layers, 12);
        assert_eq!(read(VisionDefaults::ClipBase, -13).unwrap().used_layers, 0);
        assert!(read(VisionDefaults::ClipBase, 13).is_err() && read(VisionDefaults::ClipBase, -14).is_err());
        let siglip = read(VisionDefaults::SiglipSo400m(27), -2).unwrap();
        assert_eq!((siglip.hidden_size, siglip.used_layers, siglip.rows(), siglip.tokens()), (1152, 26, 729, 729));
        assert_eq!((siglip.activation, siglip.layer_norm_epsilon), (Activation::GeluTanh, 1e-6));
    }
}
