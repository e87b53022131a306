//! The tensors of a CLIP checkpoint by canonical name, and the parameter that is no tensor of a graph.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};

use super::super::ExportError;
use super::super::architecture::RequiredTensor;
use super::super::checkpoint::{CheckedTensors, CheckpointTensors, FoundTensor, Role};
use crate::guard::files::map_file;
use crate::package::SourceFormat;

/// Canonical name of the logarithm of the logit scale.
const LOGIT_SCALE: &str = "logit_scale";

/// Reads the headers of a CLIP checkpoint, checks that it has exactly the tensors that its configuration implies, and reads
/// `logit_scale`.
pub fn read(root: &Path, required: &[RequiredTensor]) -> Result<(CheckedTensors, f64), ExportError> {
    let mut found = CheckpointTensors::new(root, SourceFormat::HuggingFace);
    found.add_folder(root, clip_model_role, str::to_owned)?;
    let scale = take(root, &mut found, LOGIT_SCALE, &[])?;
    let logit_scale = logit_scale(&found, &scale)?;
    let mut checked = BTreeMap::new();
    for RequiredTensor { name, shape } in required {
        checked.insert(name.clone(), take(root, &mut found, name, shape)?);
    }
    refuse_left(&found)?;
    Ok((CheckedTensors { shards: found.shards, tensors: checked }, logit_scale))
}

/// Names of a `CLIPModel`. A tower saved by itself has no prefix or its own twice, depending on the version of transformers; the
/// doubled form is accepted here, the bare one is no whole model. Old versions saved the numbers of positions, too.
fn clip_model_role(key: &str) -> Role {
    if key.ends_with("position_ids") {
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

/// Takes out a tensor that must be there, with this shape.
fn take(root: &Path, tensors: &mut CheckpointTensors, name: &str, shape: &[usize]) -> Result<FoundTensor, ExportError> {
    let Some(found) = tensors.tensors.remove(name) else {
        let tensor = match name.split_once('.') {
            Some((tower @ ("vision" | "text"), rest)) => format!("\"{tower}_model.{rest}\""),
            _ => format!("{name:?}"),
        };
        let (checkpoint, shape) = (root.to_path_buf(), shape.to_vec());
        return Err(ExportError::MissingTensor { checkpoint, tensor, shape, hint: String::new() });
    };
    tensors.check_tensor(&found, shape)?;
    Ok(found)
}

/// Refuses tensors that nothing explains.
fn refuse_left(tensors: &CheckpointTensors) -> Result<(), ExportError> {
    let mut left: Vec<&FoundTensor> = tensors.tensors.values().chain(&tensors.unknown).collect();
    left.sort_by(|a, b| a.entry.key.cmp(&b.entry.key));
    match left.split_first() {
        None => Ok(()),
        Some((first, rest)) => Err(ExportError::UnexpectedTensor {
            path: tensors.path_of(first),
            tensor: first.entry.key.clone(),
            shape: first.entry.shape.clone(),
            others: if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) },
        }),
    }
}

/// The single number of `logit_scale`, exactly.
fn logit_scale(tensors: &CheckpointTensors, found: &FoundTensor) -> Result<f64, ExportError> {
    let path = tensors.path_of(found);
    let map = map_file(&path)?;
    let start = usize::try_from(found.entry.offset).unwrap_or(usize::MAX);
    let bytes = map.get(start..).unwrap_or_default();
    let value = match (bytes, found.entry.dtype.as_str()) {
        (&[a, b, c, d, ..], "F32") => f64::from(f32::from_le_bytes([a, b, c, d])),
        (&[a, b, ..], "F16") => f16::from_le_bytes([a, b]).to_f64(),
        (&[a, b, ..], "BF16") => bf16::from_le_bytes([a, b]).to_f64(),
        // The file became shorter since its header was read.
        _ => f64::NAN,
    };
    // e^88 is the largest power that 32-bit numbers hold.
    if value.is_finite() && value.abs() <= 88.0 {
        return Ok(value);
    }
    Err(ExportError::Invalid {
        file: path,
        key: format!("tensor {:?}", found.entry.key),
        found: value.to_string(),
        expected: "a logarithm from -88 to 88".to_owned(),
    })
}
