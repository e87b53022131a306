//! LoRA adapters of PEFT: their configuration, and which weights they change.
//!
//! The rule is that of PEFT's `merge_and_unload` (`tuners/lora/layer.py`): the weight becomes W + (B A) · scaling, the
//! product in 32 bits, the sum rounded to the base's own number type.

use std::collections::BTreeMap;
use std::path::Path;

use super::ExportError;
use super::config::Config;
use super::files::ADAPTER_CONFIG;

/// Files of an adapter's weights, in the order in which PEFT looks for them.
pub(super) const ADAPTER_FILES: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];
/// Files of LLaVA's other trained weights beside an adapter.
pub(super) const OTHER_FILES: [&str; 2] = ["non_lora_trainables.bin", "non_lora_trainables.safetensors"];

/// What an adapter's configuration says about merging.
pub(super) struct AdapterConfig {
    config: Config,
    rank: usize,
    alpha: f64,
    /// Divides by the root of the rank (rsLoRA) instead of the rank.
    root: bool,
    alphas: BTreeMap<String, f64>,
    /// Modules that are replaced whole.
    saved_modules: Vec<String>,
}

impl AdapterConfig {
    /// Reads `adapter_config.json`. Everything that would change the merged weights in another way is refused by name.
    pub fn read(folder: &Path) -> Result<Self, ExportError> {
        let config = Config::read(&folder.join(ADAPTER_CONFIG))?;
        config.one_of("peft_type", "absent", &["LORA"])?;
        config.one_of("bias", "none", &["none"])?;
        for key in ["use_dora", "use_qalora", "lora_bias", "use_bdlora"] {
            if config.get(key).is_some_and(|value| value.as_bool() != Some(false)) {
                return Err(config.unsupported(key, "false"));
            }
        }
        for key in [
            "megatron_config",
            "layer_replication",
            "alora_invocation_tokens",
            "target_parameters",
            "trainable_token_indices",
            "arrow_config",
            "kasa_config",
            "velora_config",
            "monteclora_config",
        ] {
            let empty = config.get(key).is_none_or(|value| value.as_array().is_some_and(Vec::is_empty));
            if !empty {
                return Err(config.unsupported(key, "plain LoRA layers (absent or null)"));
            }
        }
        // These change the base's own weights before training, so that the adapter fits another base than the one given.
        const ALTERING: [&str; 5] = ["pissa", "olora", "loftq", "corda", "lora_ga"];
        if let Some(start) = config.get("init_lora_weights").and_then(|value| value.as_str())
            && ALTERING.iter().any(|method| start.starts_with(method))
        {
            return Err(config.unsupported("init_lora_weights", "true, false, \"gaussian\" or \"eva\""));
        }
        let rank = config.positive("r", 8)?;
        let alpha = config.number("lora_alpha")?.unwrap_or(8.0);
        let mut alphas = BTreeMap::new();
        if let Some(pattern) = config.object("alpha_pattern")? {
            for key in pattern.keys() {
                plain_pattern(&pattern, key)?;
                let alpha = pattern.number(key)?.ok_or_else(|| pattern.invalid(key, "a number"))?;
                alphas.insert(key.to_owned(), alpha);
            }
        }
        if let Some(pattern) = config.object("rank_pattern")? {
            // The ranks themselves are those of the matrices.
            pattern.keys().try_for_each(|key| plain_pattern(&pattern, key))?;
        }
        let root = config.flag("use_rslora")?.unwrap_or(false);
        let invalid = || config.invalid("modules_to_save", "a list of names");
        let saved_modules = match config.get("modules_to_save") {
            None => Vec::new(),
            Some(list) => {
                let names = list.as_array().ok_or_else(invalid)?.iter();
                names.map(|name| name.as_str().map(str::to_owned).ok_or_else(invalid)).collect::<Result<_, _>>()?
            }
        };
        Ok(Self { config: config.clone(), rank, alpha, root, alphas, saved_modules })
    }

    /// The factor of a module's product; `rank` is that of its matrices.
    pub fn scaling(&self, module: &str, rank: usize) -> f32 {
        let ends = |pattern: &str| module == pattern || module.ends_with(&format!(".{pattern}"));
        let alpha = self.alphas.iter().find(|(pattern, _)| ends(pattern)).map_or(self.alpha, |(_, alpha)| *alpha);
        let rank = rank as f64;
        (alpha / if self.root { rank.sqrt() } else { rank }) as f32
    }

    /// Refuses matrices of another rank than the configuration's, unless `rank_pattern` speaks of the module.
    pub fn check_rank(&self, module: &str, found: usize) -> Result<(), ExportError> {
        let pattern = self.config.object("rank_pattern")?;
        let named = pattern.as_ref().and_then(|pattern| {
            let key = pattern.keys().find(|key| module == *key || module.ends_with(&format!(".{key}")))?;
            Some((key.to_owned(), pattern))
        });
        let (expected, key) = match named {
            Some((key, pattern)) => (pattern.positive(&key, self.rank)?, format!("rank_pattern.{key}")),
            None => (self.rank, "r".to_owned()),
        };
        if expected == found {
            return Ok(());
        }
        Err(ExportError::Invalid {
            file: self.config.file().to_path_buf(),
            key,
            found: expected.to_string(),
            expected: format!("{found}, the rank of the matrices of {module:?}"),
        })
    }

    /// Whether a module's weights are replaced whole (`modules_to_save`).
    pub fn replaces(&self, module: &str) -> bool {
        self.saved_modules.iter().any(|name| module == name || module.ends_with(&format!(".{name}")))
    }
}

/// PEFT reads the keys of its patterns as regular expressions; only plain endings of names are supported.
fn plain_pattern(pattern: &Config, key: &str) -> Result<(), ExportError> {
    let plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '.');
    if key.chars().all(plain) { Ok(()) } else { Err(pattern.unsupported(key, "names without regular expressions")) }
}

/// What a tensor of an adapter is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AdapterTensor {
    /// A, `[rank, inputs]`, of a module.
    Down(String),
    /// B, `[outputs, rank]`, of a module.
    Up(String),
    /// Another tensor, by its name in the base.
    Whole(String),
}

/// Reads a key of an adapter file: `base_model.model.MODULE.lora_A.weight`, with or without the adapter's name.
pub(super) fn adapter_tensor(key: &str) -> AdapterTensor {
    let name = key.strip_prefix("base_model.model.").unwrap_or(key);
    for (mark, kind) in [(".lora_A.", AdapterTensor::Down as fn(String) -> AdapterTensor), (".lora_B.", AdapterTensor::Up)] {
        if let Some((module, rest)) = name.split_once(mark)
            && matches!(rest, "weight" | "default.weight")
        {
            return kind(module.to_owned());
        }
    }
    AdapterTensor::Whole(name.replace(".modules_to_save.default.", ".").replace(".modules_to_save.", "."))
}

/// Names of `non_lora_trainables.bin` as `load_pretrained_model` of LLaVA's `model/builder.py` reads them: without
/// `base_model.`, and then, if any name begins with `model.model.`, without one `model.`.
pub(super) fn plain_names<'a>(keys: impl Iterator<Item = &'a str> + Clone) -> BTreeMap<String, String> {
    let short = |key: &'a str| key.strip_prefix("base_model.").unwrap_or(key);
    let doubled = keys.clone().any(|key| short(key).starts_with("model.model."));
    let plain = |key: &'a str| match short(key).strip_prefix("model.") {
        Some(rest) if doubled => rest.to_owned(),
        _ => short(key).to_owned(),
    };
    keys.map(|key| (key.to_owned(), plain(key))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_the_wrappers_of_peft() {
        let plain = |keys: &[&str]| plain_names(keys.iter().copied()).into_values().collect::<Vec<_>>();
        let wrapped = ["base_model.model.model.mm_projector.0.weight", "base_model.model.model.mm_projector.0.bias"];
        assert_eq!(plain(&wrapped), ["model.mm_projector.0.bias", "model.mm_projector.0.weight"]);
        assert_eq!(plain(&["model.mm_projector.weight"]), ["model.mm_projector.weight"]);
        assert_eq!(
            plain(&["base_model.model.lm_head.weight", "base_model.model.model.norm.weight"]),
            ["lm_head.weight", "model.norm.weight"]
        );
    }

    #[test]
    fn keys_of_adapters_are_read() {
        let module = "model.layers.0.self_attn.q_proj".to_owned();
        let key = |rest: &str| format!("base_model.model.model.layers.0.self_attn.q_proj.{rest}");
        assert_eq!(adapter_tensor(&key("lora_A.weight")), AdapterTensor::Down(module.clone()));
        assert_eq!(adapter_tensor(&key("lora_B.default.weight")), AdapterTensor::Up(module));
        let saved = adapter_tensor("base_model.model.lm_head.modules_to_save.weight");
        assert_eq!(saved, AdapterTensor::Whole("lm_head.weight".to_owned()));
    }
}
