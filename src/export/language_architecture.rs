//! The shape of a LLaMA-type language model, read with the defaults of transformers: LLaMA (Vicuna, LLaMA-2, LLaMA-3, Yi),
//! Mistral and Qwen2 (Qwen1.5).

use super::ExportError;
use super::config::Config;
use super::rotary_scaling::{RotaryScaling, read_rotary};

/// Whose configuration and biases a language model has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LanguageFamily {
    Llama,
    Mistral,
    Qwen2,
}

impl LanguageFamily {
    /// `model_type` values of transformers that are understood.
    pub const MODEL_TYPES: [&str; 3] = ["llama", "mistral", "qwen2"];

    /// The family of one of [`Self::MODEL_TYPES`]; LLaMA for any other text.
    pub fn of(model_type: &str) -> Self {
        match model_type {
            "mistral" => Self::Mistral,
            "qwen2" => Self::Qwen2,
            _ => Self::Llama,
        }
    }

    /// Intermediate size, vocabulary size, `max_position_embeddings`; the other defaults are equal or depend on others.
    fn defaults(self) -> [usize; 3] {
        match self {
            Self::Llama => [11008, 32000, 2048],
            Self::Mistral => [14336, 32000, 131_072],
            Self::Qwen2 => [22016, 151_936, 32768],
        }
    }

    /// `num_key_value_heads` where the key is absent; `null` means as many as query heads everywhere.
    fn key_value_heads(self, heads: usize) -> usize {
        match self {
            Self::Llama => heads,
            Self::Mistral => 8,
            Self::Qwen2 => 32,
        }
    }
}

/// A LLaMA-type language model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LlamaArchitecture {
    pub family: LanguageFamily,
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
    /// Biases of the query, key and value layers.
    pub query_key_value_bias: bool,
    /// Bias of the layer after attention.
    pub attention_output_bias: bool,
    pub feed_forward_bias: bool,
    /// A token sees only this many positions, itself included.
    pub sliding_window: Option<usize>,
    /// The output head is the embedding table.
    pub tied: bool,
}

/// ONNX Runtime's GroupQueryAttention applies rotary embeddings in blocks of this many numbers of a head.
const HEAD_SIZE_MULTIPLE: usize = 16;

/// Most positions, each a row of the rotary tables; those of the longest published models are about as many.
const POSITION_LIMIT: usize = 1 << 20;

impl LlamaArchitecture {
    /// Reads a `LlamaConfig`, `MistralConfig` or `Qwen2Config`, whose defaults hold where keys are absent.
    pub fn read(config: &Config, family: LanguageFamily, tied: bool) -> Result<Self, ExportError> {
        config.one_of("hidden_act", "silu", &["silu"])?;
        let [intermediate, vocabulary, positions] = family.defaults();
        let hidden_size = config.positive("hidden_size", 4096)?;
        let heads = config.positive("num_attention_heads", 32)?;
        let head_size = config.positive("head_dim", (hidden_size / heads).max(1))?;
        let positions = config.positive("max_position_embeddings", positions)?;
        let (rotary_base, rotary_scaling) = read_rotary(config, positions, head_size)?;
        let layers = config.positive("num_hidden_layers", 32)?;
        let key = "num_key_value_heads";
        let key_value_heads = if config.is_null(key) { heads } else { family.key_value_heads(heads) };
        let llama_flag = |key: &str| match family {
            LanguageFamily::Llama => config.flag(key).map(|flag| flag.unwrap_or(false)),
            LanguageFamily::Mistral | LanguageFamily::Qwen2 => Ok(false),
        };
        let attention_bias = llama_flag("attention_bias")?;
        // Long-context Vicuna keeps the original length in max_position_embeddings and says the true one here.
        let mut maximum_positions = positions.max(config.positive("max_sequence_length", 1)?);
        if let RotaryScaling::LongRope { original_positions, .. } = rotary_scaling {
            // Beyond them all positions would turn by other angles.
            maximum_positions = maximum_positions.min(original_positions);
        }
        let llm = Self {
            family,
            hidden_size,
            intermediate_size: config.positive("intermediate_size", intermediate)?,
            layers,
            heads,
            key_value_heads: config.positive(key, key_value_heads)?,
            head_size,
            vocabulary_size: config.positive("vocab_size", vocabulary)?,
            maximum_positions,
            norm_epsilon: config.number("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            rotary_base,
            rotary_scaling,
            query_key_value_bias: attention_bias || family == LanguageFamily::Qwen2,
            attention_output_bias: attention_bias,
            feed_forward_bias: llama_flag("mlp_bias")?,
            sliding_window: sliding_window(config, family, layers)?,
            tied,
        };
        if config.get("head_dim").is_none() && !hidden_size.is_multiple_of(heads) {
            return Err(config.invalid("num_attention_heads", &format!("a divisor of hidden_size = {hidden_size}")));
        }
        if !heads.is_multiple_of(llm.key_value_heads) {
            return Err(config.invalid(key, &format!("a divisor of num_attention_heads = {heads}")));
        }
        if !llm.head_size.is_multiple_of(HEAD_SIZE_MULTIPLE) {
            let found = llm.head_size;
            let supported = format!("heads whose size (here {found}) is a multiple of {HEAD_SIZE_MULTIPLE}, for ONNX Runtime");
            let key = if config.get("head_dim").is_some() { "head_dim" } else { "num_attention_heads" };
            return Err(config.unsupported(key, &supported));
        }
        if llm.maximum_positions > POSITION_LIMIT {
            return Err(config.invalid("max_position_embeddings", &format!("1 to {POSITION_LIMIT}")));
        }
        if llm.layers > 1024 {
            return Err(config.invalid("num_hidden_layers", "1 to 1024"));
        }
        Ok(llm)
    }
}

/// The window that all layers share. Layers of two kinds would need two attention biases.
fn sliding_window(config: &Config, family: LanguageFamily, layers: usize) -> Result<Option<usize>, ExportError> {
    let key = "sliding_window";
    // The key counts where it is absent (4096), and `null` says that there is no window.
    let window = || -> Result<Option<usize>, ExportError> {
        if config.is_null(key) { Ok(None) } else { config.positive(key, 4096).map(Some) }
    };
    match family {
        LanguageFamily::Llama => {
            config.refuse_present(key, "attention over the whole context (no sliding_window)")?;
            Ok(None)
        }
        LanguageFamily::Mistral => {
            config.refuse_present("layer_types", "layers that are all alike (no layer_types)")?;
            window()
        }
        LanguageFamily::Qwen2 => {
            let window = if config.flag("use_sliding_window")?.unwrap_or(false) { window()? } else { None };
            let sliding = match config.get("layer_types") {
                None => {
                    let full = config.size("max_window_layers")?.unwrap_or(28).min(layers);
                    if window.is_some() { layers - full } else { 0 }
                }
                Some(list) => {
                    let names: Option<Vec<&str>> =
                        list.as_array().map(|list| list.iter().filter_map(serde_json::Value::as_str).collect());
                    let known = |name: &&str| matches!(*name, "full_attention" | "sliding_attention");
                    let names = names.filter(|names| names.len() == layers && names.iter().all(known));
                    let expected = || format!("{layers} times full_attention or sliding_attention");
                    let names = names.ok_or_else(|| config.invalid("layer_types", &expected()))?;
                    names.iter().filter(|name| **name == "sliding_attention").count()
                }
            };
            match (sliding, window) {
                (0, _) => Ok(None),
                (count, Some(window)) if count == layers => Ok(Some(window)),
                _ => {
                    Err(config
                        .unsupported("use_sliding_window", "false, or the same window in all layers (max_window_layers = 0)"))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(family: LanguageFamily, keys: Value) -> Result<LlamaArchitecture, ExportError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, keys.to_string()).unwrap();
        LlamaArchitecture::read(&Config::read(&path).unwrap(), family, false)
    }

    /// The text configuration of llava-hf/llava-1.5-7b-hf has four keys; all else are `LlamaConfig`'s defaults.
    #[test]
    fn absent_keys_have_the_defaults_of_transformers() {
        let keys = json!({"model_type": "llama", "max_position_embeddings": 4096, "rms_norm_eps": 1e-05, "vocab_size": 32064});
        let llm = read(LanguageFamily::Llama, keys).unwrap();
        assert_eq!((llm.hidden_size, llm.intermediate_size, llm.layers, llm.vocabulary_size), (4096, 11008, 32, 32064));
        assert_eq!((llm.heads, llm.key_value_heads, llm.head_size, llm.maximum_positions), (32, 32, 128, 4096));
        assert_eq!((llm.norm_epsilon, llm.rotary_base, llm.rotary_scaling), (1e-5, 10_000.0, RotaryScaling::None));
        assert_eq!((llm.query_key_value_bias, llm.attention_output_bias, llm.sliding_window), (false, false, None));

        let mistral = read(LanguageFamily::Mistral, json!({})).unwrap();
        assert_eq!((mistral.intermediate_size, mistral.key_value_heads, mistral.maximum_positions), (14336, 8, 131_072));
        assert_eq!((mistral.sliding_window, mistral.vocabulary_size), (Some(4096), 32000));
        let v1_6 = read(LanguageFamily::Mistral, json!({"sliding_window": null, "num_key_value_heads": null})).unwrap();
        assert_eq!((v1_6.sliding_window, v1_6.key_value_heads), (None, 32));

        let qwen = read(LanguageFamily::Qwen2, json!({})).unwrap();
        assert_eq!((qwen.intermediate_size, qwen.key_value_heads, qwen.maximum_positions), (22016, 32, 32768));
        assert_eq!((qwen.query_key_value_bias, qwen.attention_output_bias, qwen.feed_forward_bias), (true, false, false));
        assert_eq!(qwen.sliding_window, None, "use_sliding_window is false by default");
    }

    #[test]
    fn windows_of_qwen_are_all_or_nothing() {
        let window = |keys: Value| read(LanguageFamily::Qwen2, keys).map(|llm| llm.sliding_window);
        let on = |full: usize| window(json!({"use_sliding_window": true, "sliding_window": 64, "max_window_layers": full}));
        assert_eq!(on(32).unwrap(), None);
        assert_eq!(on(0).unwrap(), Some(64));
        let message = on(28).unwrap_err().to_string();
        assert!(message.contains("use_sliding_window = true is not supported"), "{message}");
        let kinds = |kinds: &[&str]| window(json!({"num_hidden_layers": 2, "layer_types": kinds, "use_sliding_window": true}));
        assert_eq!(kinds(&["full_attention", "full_attention"]).unwrap(), None);
        assert_eq!(kinds(&["sliding_attention", "sliding_attention"]).unwrap(), Some(4096));
        assert!(kinds(&["full_attention", "sliding_attention"]).is_err() && kinds(&["full_attention"]).is_err());
        assert!(read(LanguageFamily::Llama, json!({"sliding_window": 128})).is_err());
        assert!(read(LanguageFamily::Mistral, json!({"sliding_window": 0})).is_err());
    }

    #[test]
    fn rotary_scalings_are_read_as_transformers_reads_them() {
        let scaling = |keys: Value| read(LanguageFamily::Llama, keys).map(|llm| (llm.rotary_scaling, llm.maximum_positions));
        let refused = |keys: Value| scaling(keys).unwrap_err().to_string();
        let message = refused(json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}}));
        assert!(message.contains("rope_scaling.type = \"dynamic\" is not supported"), "{message}");
        assert!(refused(json!({"partial_rotary_factor": 0.5})).contains("partial_rotary_factor = 0.5"));
        assert!(refused(json!({"rope_parameters": {"rope_type": "yarn", "factor": -1}})).contains("rope_parameters.factor"));
        // The old key counts first; the model's length stands in for an absent original length.
        let both = json!({
            "rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4},
            "rope_parameters": {"rope_type": "linear", "factor": 2}, "max_position_embeddings": 640,
        });
        assert!(matches!(scaling(both).unwrap().0, RotaryScaling::Llama3 { original_positions: 640.0, .. }));
        let long = |divisors: usize| {
            json!({
                "hidden_size": 64, "num_attention_heads": 2, "max_position_embeddings": 512, "original_max_position_embeddings": 128,
                "rope_scaling": {"type": "longrope", "short_factor": vec![1.5; divisors], "long_factor": vec![4.0; divisors]},
            })
        };
        let (found, positions) = scaling(long(16)).unwrap();
        assert_eq!(positions, 128, "the short factors hold up to the original length");
        // sqrt(1 + ln 4 / ln 128)
        assert!(matches!(found, RotaryScaling::LongRope { attention_factor, .. } if (attention_factor - 1.133_893).abs() < 1e-6));
        assert!(refused(long(15)).contains("short_factor"));
    }
}
