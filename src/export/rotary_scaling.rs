//! Base and scaling of the rotary embedding, from the keys of old and new versions of transformers
//! (`transformers/modeling_rope_utils.py`).

use serde_json::Value;

use super::ExportError;
use super::config::Config;

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
    /// Frequencies between two numbers of rotations are blended, the others scaled or kept.
    Yarn {
        factor: f64,
        /// Rotations within the original length above which a frequency is kept, and below which it is scaled.
        fast_rotations: f64,
        slow_rotations: f64,
        original_positions: f64,
        /// Whether the bounds of the blend are rounded outwards to whole dimensions.
        truncate: bool,
        /// Cosines and sines are multiplied by this.
        attention_factor: f64,
    },
    /// Each frequency has a divisor of its own. transformers takes another set of divisors for sequences longer than the
    /// original length, for all of their positions at once; here is only the set for sequences up to it.
    LongRope {
        /// One per frequency, `short_factor`.
        divisors: Vec<f32>,
        /// Longest sequence in tokens for which they hold.
        original_positions: usize,
        /// Cosines and sines are multiplied by this.
        attention_factor: f64,
    },
}

/// Base and scaling; `positions` is `max_position_embeddings` and `head_size` the width of a head.
pub(super) fn read_rotary(config: &Config, positions: usize, head_size: usize) -> Result<(f64, RotaryScaling), ExportError> {
    let whole = |config: &Config| -> Result<(), ExportError> {
        match config.number("partial_rotary_factor")?.unwrap_or(1.0) {
            1.0 => Ok(()),
            _ => Err(config.unsupported("partial_rotary_factor", "1")),
        }
    };
    whole(config)?;
    let base = config.number("rope_theta")?;
    // As transformers: the old key counts first, unless it is empty.
    let old = config.object("rope_scaling")?.filter(|scaling| scaling.keys().next().is_some());
    let parameters = match old {
        Some(parameters) => Some(parameters),
        None => config.object("rope_parameters")?,
    };
    let positive_base = |config: &Config, base: f64| match base > 0.0 {
        true => Ok(base),
        false => Err(config.invalid("rope_theta", "a positive number")),
    };
    let Some(parameters) = parameters else {
        return Ok((positive_base(config, base.unwrap_or(10_000.0))?, RotaryScaling::None));
    };
    whole(&parameters)?;
    let base = positive_base(&parameters, parameters.number("rope_theta")?.or(base).unwrap_or(10_000.0))?;
    let key = if parameters.get("rope_type").is_some() { "rope_type" } else { "type" };
    let reader = Reader { config, parameters: &parameters, positions, head_size };
    let supported = ["default", "linear", "llama3", "yarn", "longrope"];
    let scaling = match parameters.one_of(key, "default", &supported)?.as_str() {
        "linear" => RotaryScaling::Linear { factor: reader.positive("factor")? },
        "llama3" => RotaryScaling::Llama3 {
            factor: reader.positive("factor")?,
            low_frequency_factor: reader.positive("low_freq_factor")?,
            high_frequency_factor: reader.positive("high_freq_factor")?,
            original_positions: reader.original_positions()? as f64,
        },
        "yarn" => reader.yarn(base)?,
        "longrope" => reader.long_rope()?,
        _ => RotaryScaling::None,
    };
    Ok((base, scaling))
}

struct Reader<'a> {
    config: &'a Config,
    parameters: &'a Config,
    positions: usize,
    head_size: usize,
}

impl Reader<'_> {
    fn positive(&self, key: &str) -> Result<f64, ExportError> {
        self.optional(key)?.ok_or_else(|| self.parameters.invalid(key, "a positive number"))
    }

    fn optional(&self, key: &str) -> Result<Option<f64>, ExportError> {
        match self.parameters.number(key)? {
            Some(value) if value <= 0.0 => Err(self.parameters.invalid(key, "a positive number")),
            value => Ok(value),
        }
    }

    /// The length before scaling: a key of the model's own, of the parameters, or the model's length.
    fn original_positions(&self) -> Result<usize, ExportError> {
        let key = "original_max_position_embeddings";
        let own = if self.config.get(key).is_some() { self.config } else { self.parameters };
        own.positive(key, self.positions)
    }

    /// `factor`, or the ratio of the lengths where it is absent.
    fn factor(&self, original_positions: usize) -> Result<f64, ExportError> {
        Ok(self.optional("factor")?.unwrap_or(self.positions as f64 / original_positions as f64))
    }

    fn yarn(&self, base: f64) -> Result<RotaryScaling, ExportError> {
        if base == 1.0 {
            return Err(self.parameters.invalid("rope_theta", "a number other than 1"));
        }
        let original_positions = self.original_positions()?;
        let factor = self.factor(original_positions)?;
        let scale = |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
        let attention_factor = match self.optional("attention_factor")? {
            Some(given) => given,
            None => match (self.parameters.number("mscale")?, self.parameters.number("mscale_all_dim")?) {
                (Some(one), Some(all)) if one != 0.0 && all != 0.0 => scale(one) / scale(all),
                _ => scale(1.0),
            },
        };
        // Zero counts as absent, as Python's `or` has it.
        let rotations = |key: &str, default: f64| -> Result<f64, ExportError> {
            Ok(self.parameters.number(key)?.filter(|&value| value != 0.0).unwrap_or(default))
        };
        let (fast_rotations, slow_rotations) = (rotations("beta_fast", 32.0)?, rotations("beta_slow", 1.0)?);
        for (key, value) in [("beta_fast", fast_rotations), ("beta_slow", slow_rotations)] {
            if value <= 0.0 {
                return Err(self.parameters.invalid(key, "a positive number"));
            }
        }
        Ok(RotaryScaling::Yarn {
            factor,
            fast_rotations,
            slow_rotations,
            original_positions: original_positions as f64,
            truncate: self.parameters.flag("truncate")?.unwrap_or(true),
            attention_factor,
        })
    }

    fn long_rope(&self) -> Result<RotaryScaling, ExportError> {
        let key = "short_factor";
        let wanted = self.head_size / 2;
        let expected = || format!("{wanted} positive numbers, one per frequency");
        let list = self.parameters.get(key).and_then(Value::as_array);
        let list = list.ok_or_else(|| self.parameters.invalid(key, &expected()))?;
        let divisor = |value: &Value| value.as_f64().map(|value| value as f32).filter(|value| *value > 0.0 && value.is_finite());
        let divisors: Vec<f32> = list.iter().filter_map(divisor).collect();
        if divisors.len() != wanted || list.len() != wanted {
            return Err(self.parameters.invalid(key, &expected()));
        }
        let original_positions = self.original_positions()?;
        let factor = self.factor(original_positions)?;
        let attention_factor = match self.optional("attention_factor")? {
            Some(given) => given,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / (original_positions as f64).ln()).sqrt(),
        };
        if !attention_factor.is_finite() {
            return Err(self.parameters.invalid("original_max_position_embeddings", "a length of at least 2"));
        }
        Ok(RotaryScaling::LongRope { divisors, original_positions, attention_factor })
    }
}
