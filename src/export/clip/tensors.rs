//! The tensors of a CLIP checkpoint by canonical name, and the parameter that is no tensor of a graph.

use std::path::Path;

use half::{bf16, f16};

use super::super::ExportError;
use super::super::architecture::RequiredTensor;
use super::super::checkpoint::{CheckedTensors, CheckpointTensors, Role, is_buffer};
use super::super::weights::slice_of;
use crate::guard::files::map_file;

/// Canonical name of the logarithm of the logit scale.
const LOGIT_SCALE: &str = "logit_scale";

/// Reads the headers of a CLIP checkpoint, holds them against what the configuration implies, and reads `logit_scale`.
pub fn read(root: &Path, required: &[RequiredTensor]) -> Result<(CheckedTensors, f64), ExportError> {
    let mut tensors = CheckpointTensors::read_with(root, clip_model_role)?;
    let logit_scale = logit_scale(&mut tensors)?;
    Ok((tensors.check_exactly(required)?, logit_scale))
}

/// Names of a `CLIPModel`. A tower saved by itself has no prefix or its own twice, depending on the version of transformers; the
/// doubled form is accepted here, the bare one is no whole model.
fn clip_model_role(key: &str) -> Role {
    if is_buffer(key) {
        return Role::Ignored;
    }
    let tower = |prefix: &str| {
        let rest = key.strip_prefix(prefix)?;
        Some(rest.strip_prefix(prefix).unwrap_or(rest))
    };
    match (tower("vision_model."), tower("text_model."), key) {
        (Some(rest), _, _) => Role::Weight(format!("vision.{rest}")),
        (_, Some(rest), _) => Role::Weight(format!("text.{rest}")),
        (_, _, "visual_projection.weight" | "text_projection.weight" | LOGIT_SCALE) => Role::Weight(key.to_owned()),
        _ => Role::Unknown,
    }
}

/// The single number of `logit_scale`, exactly.
fn logit_scale(tensors: &mut CheckpointTensors) -> Result<f64, ExportError> {
    let (found, shard) = tensors.take(LOGIT_SCALE, &[])?;
    let map = map_file(&shard.path)?;
    let value = match (slice_of(&map, &shard, &found.entry)?, found.entry.dtype.as_str()) {
        (&[a, b, c, d], "F32") => f64::from(f32::from_le_bytes([a, b, c, d])),
        (&[a, b], "F16") => f16::from_le_bytes([a, b]).to_f64(),
        (&[a, b], "BF16") => bf16::from_le_bytes([a, b]).to_f64(),
        _ => f64::NAN,
    };
    // e^88 is the largest power that 32-bit numbers hold.
    if value.is_finite() && value.abs() <= 88.0 {
        return Ok(value);
    }
    Err(ExportError::Invalid {
        file: shard.path,
        key: format!("tensor {:?}", found.entry.key),
        found: value.to_string(),
        expected: "a logarithm from -88 to 88".to_owned(),
    })
}
