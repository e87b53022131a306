//! Packages that are damaged in one stage on purpose, made of a shipped checkpoint.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};

use llava_gauge::export::{ExportOptions, export};
use llava_gauge::stats::Generator;

use super::common::root;
use super::export_support::{Tensor, read_tensors, write_tensors};

/// What is done to the weights of a checkpoint.
#[derive(Clone, Copy, Debug)]
pub enum Damage {
    /// Nothing.
    None,
    /// Gaussian noise on the projector's matrices, in units of each matrix's own spread.
    ProjectorNoise(f64),
    /// The language model's linear layers in four bits, symmetric, with one scale for a whole matrix. (With a scale for each block of
    /// 32 numbers, as is usual, the shipped checkpoint loses 0.2 points, which 200 questions cannot show.)
    LlmInt4,
    /// A vision tower drawn from another seed: matrices of the same spread, norms 1, biases 0.
    VisionReseeded,
    /// A little noise on every matrix of all stages, as after some more steps of training.
    Jitter(f64),
    /// Noise on the matrices of one layer: of the vision tower, or of the language model.
    Layer(&'static str, usize, f64),
}

fn normal(generator: &mut Generator) -> f64 {
    // Box and Muller 1958; 1 − u keeps the logarithm away from 0.
    let radius = (-2.0 * (1.0 - generator.uniform()).ln()).sqrt();
    radius * (std::f64::consts::TAU * generator.uniform()).cos()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    assert_eq!(tensor.dtype, "F32");
    tensor.data.chunks_exact(4).map(|bytes| f64::from(f32::from_le_bytes(bytes.try_into().unwrap()))).collect()
}

fn spread(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

fn damaged(values: &[f64], tensor: &Tensor, damage: Damage, generator: &mut Generator) -> Option<Vec<f64>> {
    let (name, matrix) = (tensor.name.as_str(), tensor.shape.len() > 1);
    let noisy = |strength: f64, generator: &mut Generator| {
        let scale = strength * spread(values);
        Some(values.iter().map(|value| value + scale * normal(generator)).collect())
    };
    match damage {
        Damage::ProjectorNoise(strength) if matrix && name.starts_with("multi_modal_projector") => noisy(strength, generator),
        Damage::Jitter(strength) if matrix => noisy(strength, generator),
        Damage::Layer(stage, layer, strength)
            if matrix && name.starts_with(stage) && name.contains(&format!("layers.{layer}.")) =>
        {
            noisy(strength, generator)
        }
        Damage::LlmInt4 if name.contains(".layers.") && name.ends_with("proj.weight") && name.starts_with("language_model") => {
            let step = values.iter().fold(0.0_f64, |largest, value| largest.max(value.abs())) / 7.0;
            Some(values.iter().map(|value| (value / step).round() * step).collect())
        }
        Damage::VisionReseeded if name.starts_with("vision_tower") => {
            let scale = spread(values);
            let drawn = matrix || name.ends_with("class_embedding");
            let constant = if name.contains("norm") && name.ends_with("weight") { 1.0 } else { 0.0 };
            Some(values.iter().map(|_| if drawn { scale * normal(generator) } else { constant }).collect())
        }
        _ => None,
    }
}

/// Exports the shipped checkpoint `pico-llava-1.5` with these damages, one after another, as the package `name` below `folder`.
pub fn package_with(folder: &Path, name: &str, damages: &[Damage]) -> PathBuf {
    let (checkpoint, package) = (folder.join(format!("{name}-checkpoint")), folder.join(name));
    fs::create_dir_all(&checkpoint).unwrap();
    let shipped = root().join("exports/pico-llava-1.5");
    for entry in fs::read_dir(&shipped).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let made =
            file.ends_with(".onnx") || ["package.toml", "weights.safetensors", "parity.safetensors"].contains(&file.as_str());
        if !made {
            fs::copy(shipped.join(&file), checkpoint.join(&file)).unwrap();
        }
    }
    let path = checkpoint.join("model.safetensors");
    let mut tensors = read_tensors(&path);
    let mut generator = Generator::new(20_240_229);
    for damage in damages {
        let mut changed = 0;
        for tensor in &mut tensors {
            let values = numbers(tensor);
            if let Some(values) = damaged(&values, tensor, *damage, &mut generator) {
                tensor.data = values.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect();
                changed += 1;
            }
        }
        assert!(changed > 0 || matches!(damage, Damage::None), "{damage:?} changed no tensor");
    }
    fs::remove_file(&path).unwrap();
    write_tensors(&path, &tensors);
    export(&ExportOptions::new(&checkpoint, &package)).unwrap_or_else(|error| panic!("{name}: {error}"));
    package
}
