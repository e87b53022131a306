//! Rotary tables, computed in the order and precision of transformers' `LlamaRotaryEmbedding`: every step is rounded to
//! 32 bits, so that angles at high positions are the same numbers.

use super::architecture::{LlamaArchitecture, RotaryScaling};

/// Cosines and sines `[maximum_positions, head_size / 2]`, row by row.
pub(super) fn rotary_tables(llm: &LlamaArchitecture) -> (Vec<f32>, Vec<f32>) {
    let frequencies = inverse_frequencies(llm);
    let angles = (0..llm.maximum_positions).flat_map(|position| frequencies.iter().map(move |inverse| position as f32 * inverse));
    // Functions of 64 bits, rounded once, are the closest that 32-bit libraries can come to each other.
    angles.map(|angle| (f64::from(angle).cos() as f32, f64::from(angle).sin() as f32)).unzip()
}

/// `1 / base^(2i / head_size)`, then the scaling (`transformers/modeling_rope_utils.py`).
fn inverse_frequencies(llm: &LlamaArchitecture) -> Vec<f32> {
    let plain = (0..llm.head_size).step_by(2).map(|index| {
        let exponent = index as f32 / llm.head_size as f32;
        1.0 / (llm.rotary_base.powf(f64::from(exponent)) as f32)
    });
    match llm.rotary_scaling {
        RotaryScaling::None => plain.collect(),
        RotaryScaling::Linear { factor } => plain.map(|inverse| inverse / factor as f32).collect(),
        RotaryScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, original_positions } => plain
            .map(|inverse| {
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
            })
            .collect(),
    }
}
