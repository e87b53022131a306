//! The numbers of a random checkpoint: a pure function of seed, tensor name and place, so that any part can be made anywhere, in
//! any order, on any number of threads.
//!
//! Each number comes from one 64-bit output of splitmix64 (Steele, Lea and Flood, *Fast splittable pseudorandom number
//! generators*, 2014) at the place's counter: the sum of its four 16-bit parts, brought to mean 0 and variance 1. By the Irwin-Hall
//! distribution that is normal up to a kurtosis of 2.7 instead of 3, and never beyond 3.47.

use half::{bf16, f16};

use super::super::ExportError;
use super::super::config::Config;

/// Number type of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberType {
    /// 32-bit floating point.
    Fp32,
    /// 16-bit IEEE floating point.
    Fp16,
    /// bfloat16.
    Bf16,
}

impl NumberType {
    /// The name on the command line and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Bf16 => "bf16",
        }
    }

    /// The name in a safetensors header.
    pub(super) fn stored_name(self) -> &'static str {
        match self {
            Self::Fp32 => "F32",
            Self::Fp16 => "F16",
            Self::Bf16 => "BF16",
        }
    }

    /// The name in `config.json`.
    pub(super) fn config_name(self) -> &'static str {
        match self {
            Self::Fp32 => "float32",
            Self::Fp16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// Bytes of one number.
    pub(super) fn bytes(self) -> u64 {
        match self {
            Self::Fp32 => 4,
            Self::Fp16 | Self::Bf16 => 2,
        }
    }

    /// What a configuration says, under its new or its old key.
    pub(super) fn of_config(config: &Config) -> Result<Self, ExportError> {
        let key = if config.get("dtype").is_some() { "dtype" } else { "torch_dtype" };
        Ok(match config.one_of(key, "float32", &["float32", "float16", "bfloat16"])?.as_str() {
            "float16" => Self::Fp16,
            "bfloat16" => Self::Bf16,
            _ => Self::Fp32,
        })
    }
}

/// How the numbers of a tensor are spread.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fill {
    /// Mean.
    pub mean: f32,
    /// Standard deviation.
    pub deviation: f32,
    /// Factor on the columns of outlier channels.
    pub channels: Option<(Vec<usize>, f32)>,
    /// One number that is what it is: row, column, value.
    pub single: Option<(usize, usize, f32)>,
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The counter that a tensor's numbers begin at: FNV-1a of its name, mixed with the seed.
pub(super) fn stream_of(seed: u64, name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    mix(mix(seed.wrapping_add(GOLDEN)) ^ hash)
}

/// The standard number at a place.
fn standard(stream: u64, place: u64) -> f32 {
    let bits = mix(stream.wrapping_add(place.wrapping_add(1).wrapping_mul(GOLDEN)));
    let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
    // Mean 4 · 65535 / 2; variance 4 · (65536² − 1) / 12, whose root is 37837.2…
    (sum as f32 - 131_070.0) * (1.0 / 37_837.227)
}

/// Writes the numbers from `first` on as bytes, as many as `bytes` holds; `columns` is the length of a row.
pub(super) fn write(fill: &Fill, stream: u64, first: u64, columns: usize, number_type: NumberType, bytes: &mut [u8]) {
    let width = columns.max(1) as u64;
    let value = |place: u64| {
        let value = fill.mean + fill.deviation * standard(stream, place);
        match &fill.channels {
            Some((channels, factor)) if channels.contains(&((place % width) as usize)) => value * factor,
            _ => value,
        }
    };
    match number_type {
        NumberType::Fp32 => {
            for (place, target) in (first..).zip(bytes.as_chunks_mut::<4>().0) {
                *target = value(place).to_le_bytes();
            }
        }
        NumberType::Fp16 => {
            for (place, target) in (first..).zip(bytes.as_chunks_mut::<2>().0) {
                *target = f16::from_f32(value(place)).to_le_bytes();
            }
        }
        NumberType::Bf16 => {
            for (place, target) in (first..).zip(bytes.as_chunks_mut::<2>().0) {
                *target = bf16::from_f32(value(place)).to_le_bytes();
            }
        }
    }
    let Some((row, column, single)) = fill.single else { return };
    let size = number_type.bytes();
    let start = (row as u64 * width + column as u64).checked_sub(first).map(|place| place.saturating_mul(size) as usize);
    let Some(target) = start.and_then(|start| bytes.get_mut(start..start.saturating_add(size as usize))) else { return };
    match number_type {
        NumberType::Fp32 => target.copy_from_slice(&single.to_le_bytes()),
        NumberType::Fp16 => target.copy_from_slice(&f16::from_f32(single).to_le_bytes()),
        NumberType::Bf16 => target.copy_from_slice(&bf16::from_f32(single).to_le_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill() -> Fill {
        Fill { mean: 0.0, deviation: 1.0, channels: None, single: None }
    }

    fn numbers(fill: &Fill, first: u64, count: usize, columns: usize) -> Vec<f32> {
        let mut bytes = vec![0; 4 * count];
        write(fill, stream_of(1, "a"), first, columns, NumberType::Fp32, &mut bytes);
        bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    /// 100,000 numbers: the mean is within 5 standard errors (0.016) of 0, the variance within 2 % of 1, neighbours are not
    /// correlated (5 standard errors), and another name or seed gives other numbers.
    #[test]
    fn numbers_are_standard_and_do_not_hang_together() {
        let found = numbers(&fill(), 0, 100_000, 10);
        let count = found.len() as f32;
        let mean = found.iter().sum::<f32>() / count;
        let variance = found.iter().map(|value| value * value).sum::<f32>() / count;
        let neighbours = found.windows(2).map(|pair| pair[0] * pair[1]).sum::<f32>() / count;
        assert!(
            mean.abs() < 0.016 && (variance - 1.0).abs() < 0.02 && neighbours.abs() < 0.016,
            "{mean} {variance} {neighbours}"
        );
        assert!(found.iter().all(|value| value.abs() < 3.47));
        assert_ne!(stream_of(1, "a"), stream_of(1, "b"));
        assert_ne!(stream_of(1, "a"), stream_of(2, "a"));
    }

    #[test]
    fn any_part_can_be_made_alone() {
        let outliers = Fill { channels: Some((vec![3], 30.0)), single: Some((2, 1, 300.0)), ..fill() };
        let whole = numbers(&outliers, 0, 40, 10);
        assert_eq!(numbers(&outliers, 17, 10, 10), whole[17..27]);
        assert_eq!(whole[21], 300.0);
        let plain = numbers(&fill(), 0, 40, 10);
        for (place, (found, plain)) in whole.iter().zip(&plain).enumerate() {
            let expected = if place == 21 {
                300.0
            } else if place % 10 == 3 {
                plain * 30.0
            } else {
                *plain
            };
            assert_eq!(*found, expected, "place {place}");
        }
    }
}
