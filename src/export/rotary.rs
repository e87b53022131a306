//! Rotary tables, computed in the order and precision of transformers' `LlamaRotaryEmbedding`: every step is rounded to
//! 32 bits, so that angles at high positions are the same numbers.

use super::language_architecture::LlamaArchitecture;
use super::rotary_scaling::RotaryScaling;

/// Cosines and sines `[maximum_positions, head_size / 2]`, row by row.
pub(super) fn rotary_tables(llm: &LlamaArchitecture) -> (Vec<f32>, Vec<f32>) {
    let frequencies = inverse_frequencies(llm);
    let factor = attention_factor(&llm.rotary_scaling);
    let angles = (0..llm.maximum_positions).flat_map(|position| frequencies.iter().map(move |inverse| position as f32 * inverse));
    // Functions of 64 bits, rounded once, are the closest that 32-bit libraries can come to each other.
    angles.map(|angle| (f64::from(angle).cos() as f32 * factor, f64::from(angle).sin() as f32 * factor)).unzip()
}

/// What cosines and sines are multiplied by, and with them queries and keys.
fn attention_factor(scaling: &RotaryScaling) -> f32 {
    match scaling {
        RotaryScaling::None | RotaryScaling::Linear { .. } | RotaryScaling::Llama3 { .. } => 1.0,
        RotaryScaling::Yarn { attention_factor, .. } | RotaryScaling::LongRope { attention_factor, .. } => {
            *attention_factor as f32
        }
    }
}

/// `1 / base^(2i / head_size)`, then the scaling (`transformers/modeling_rope_utils.py`).
fn inverse_frequencies(llm: &LlamaArchitecture) -> Vec<f32> {
    let powers = (0..llm.head_size).step_by(2).map(|index| {
        let exponent = index as f32 / llm.head_size as f32;
        llm.rotary_base.powf(f64::from(exponent)) as f32
    });
    let scaling = &llm.rotary_scaling;
    match scaling {
        RotaryScaling::None => powers.map(|power| 1.0 / power).collect(),
        RotaryScaling::Linear { factor } => powers.map(|power| 1.0 / power / *factor as f32).collect(),
        RotaryScaling::Llama3 { .. } => powers.map(|power| llama3(scaling, 1.0 / power)).collect(),
        RotaryScaling::Yarn { factor, .. } => {
            let ramp = yarn_ramp(llm);
            let blend = |(power, ramp): (f32, f32)| {
                // `kept` is `1 - ramp`, and the other weight is computed back from it.
                let kept = 1.0 - ramp;
                1.0 / (*factor as f32 * power) * (1.0 - kept) + 1.0 / power * kept
            };
            powers.zip(ramp).map(blend).collect()
        }
        RotaryScaling::LongRope { divisors, .. } => {
            powers.zip(divisors).map(|(power, divisor)| 1.0 / (divisor * power)).collect()
        }
    }
}

fn llama3(scaling: &RotaryScaling, inverse: f32) -> f32 {
    let RotaryScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, original_positions } = *scaling else {
        return inverse;
    };
    let wavelength = (2.0 * std::f64::consts::PI) as f32 / inverse;
    let (low, high) = (original_positions / low_frequency_factor, original_positions / high_frequency_factor);
    if f64::from(wavelength) > low {
        return inverse / factor as f32;
    }
    if f64::from(wavelength) < high {
        return inverse;
    }
    let span = (high_frequency_factor - low_frequency_factor) as f32;
    let smooth = (original_positions as f32 / wavelength - low_frequency_factor as f32) / span;
    (1.0 - smooth) * inverse / factor as f32 + smooth * inverse
}

/// How far each frequency is on the way from kept (0) to scaled (1).
fn yarn_ramp(llm: &LlamaArchitecture) -> Vec<f32> {
    let RotaryScaling::Yarn { fast_rotations, slow_rotations, original_positions, truncate, .. } = llm.rotary_scaling else {
        return Vec::new();
    };
    let size = llm.head_size as f64;
    // The dimension whose frequency turns this often within the original length.
    let dimension = |rotations: f64| {
        size * (original_positions / (rotations * 2.0 * std::f64::consts::PI)).ln() / (2.0 * llm.rotary_base.ln())
    };
    let (mut low, mut high) = (dimension(fast_rotations), dimension(slow_rotations));
    if truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    let (low, mut high) = (low.max(0.0), high.min(size - 1.0));
    if low == high {
        high += 0.001;
    }
    (0..llm.head_size / 2).map(|index| ((index as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::config::Config;
    use super::super::language_architecture::LanguageFamily;
    use super::*;

    /// `tests/fixtures/export/rotary.json` is what `LlamaRotaryEmbedding` of transformers computes.
    #[test]
    fn tables_equal_those_of_transformers() {
        let golden = include_str!("../../tests/fixtures/export/rotary.json");
        let golden: Value = serde_json::from_str(golden).unwrap();
        let positions: Vec<usize> = serde_json::from_value(golden["positions"].clone()).unwrap();
        for (name, table) in golden["tables"].as_object().unwrap() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("config.json");
            let config = json!({
                "hidden_size": table["head_dim"], "num_attention_heads": 1, "max_position_embeddings": 4096,
                "rope_parameters": table["parameters"],
            });
            std::fs::write(&path, config.to_string()).unwrap();
            let llm = LlamaArchitecture::read(&Config::read(&path).unwrap(), LanguageFamily::Llama, false).unwrap();
            let (cosines, sines) = rotary_tables(&llm);
            let half = llm.head_size / 2;
            let rows = llm.maximum_positions;
            assert!(rows == 4096 || name.starts_with("longrope"), "{name}: {rows}");
            assert_eq!((cosines.len(), sines.len()), (rows * half, rows * half));
            for (found, key) in [(cosines, "cosines"), (sines, "sines")] {
                let expected: Vec<Vec<f32>> = serde_json::from_value(table[key].clone()).unwrap();
                assert!(expected.len() >= 3 && (expected.len() < positions.len()) == name.starts_with("longrope"));
                for (&position, expected) in positions.iter().zip(expected) {
                    let row = &found[position * half..(position + 1) * half];
                    for (found, expected) in row.iter().zip(expected) {
                        // One unit in the last place of an inverse frequency turns position 4095 by up to 2.4e-4.
                        let tolerance = (1e-7 + 6e-8 * position as f32) * attention_factor(&llm.rotary_scaling);
                        assert!((found - expected).abs() <= tolerance, "{name} {key} at {position}: {found} {expected}");
                    }
                }
            }
        }
    }
}
