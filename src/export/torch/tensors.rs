//! From the values of a pickle to tensors with places in the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::TorchError;
use super::file::TorchTensor;
use super::machine::{Id, Machine, RawTensor, Value};

/// The tensors of a state dictionary. `storages` holds first byte and length in bytes of every storage by its key.
pub(super) fn state_dictionary(
    path: &Path,
    machine: &Machine<'_>,
    root: Id,
    storages: &BTreeMap<String, (u64, u64)>,
) -> Result<Vec<TorchTensor>, TorchError> {
    let malformed = |reason: String| TorchError::Malformed { path: path.to_path_buf(), reason };
    let Value::Dict(entries) = machine.value(root) else {
        return Err(malformed("it holds no dictionary of tensors".to_owned()));
    };
    let (mut tensors, mut seen) = (Vec::with_capacity(entries.len()), BTreeSet::new());
    for &(key, value) in entries {
        let Value::Text(key) = machine.value(key) else {
            return Err(malformed("a key of its dictionary is no text".to_owned()));
        };
        let refused = |reason: String| TorchError::Tensor { path: path.to_path_buf(), tensor: key.clone(), reason };
        if !seen.insert(key.as_str()) {
            return Err(refused("stands twice in the dictionary".to_owned()));
        }
        let Value::Tensor(raw) = machine.value(value) else {
            let kind = match machine.value(value) {
                Value::Dict(_) => "a dictionary (a training state?), where a tensor should stand",
                _ => "no tensor",
            };
            return Err(refused(format!("is {kind}")));
        };
        tensors.push(placed(key, raw, storages).map_err(refused)?);
    }
    Ok(tensors)
}

/// Checks a view against its storage. The error says what does not fit.
fn placed(key: &str, raw: &RawTensor, storages: &BTreeMap<String, (u64, u64)>) -> Result<TorchTensor, String> {
    let storage = &raw.storage;
    let &(start, bytes) = storages.get(&storage.key).ok_or_else(|| format!("its storage {:?} is missing", storage.key))?;
    let width = storage.element.bytes;
    if storage.count.checked_mul(width) != Some(bytes) {
        return Err(format!("its storage {:?} has {bytes} bytes, expected {} numbers of {width}", storage.key, storage.count));
    }
    let overflow = || format!("its sizes {:?} and strides {:?} overflow", raw.shape, raw.strides);
    let count = raw.shape.iter().try_fold(1_u64, |count, &size| count.checked_mul(size)).ok_or_else(overflow)?;
    if count > 0 {
        let steps = raw
            .shape
            .iter()
            .zip(&raw.strides)
            .try_fold(raw.offset, |last, (&size, &stride)| last.checked_add((size.checked_sub(1)?).checked_mul(stride)?));
        let last = steps.ok_or_else(overflow)?;
        if last >= storage.count {
            return Err(format!(
                "its sizes {:?}, strides {:?} and offset {} reach number {last}, its storage has {}",
                raw.shape, raw.strides, raw.offset, storage.count
            ));
        }
    }
    if raw.offset > storage.count {
        return Err(format!("its offset {} is beyond its storage of {} numbers", raw.offset, storage.count));
    }
    // A view can repeat its storage: more numbers than the file has would be made of nothing.
    if count > storage.count {
        return Err(format!("its {count} numbers are a view of only {}", storage.count));
    }
    let sizes = |sizes: &[u64]| sizes.iter().map(|&size| usize::try_from(size).ok()).collect::<Option<Vec<usize>>>();
    let (shape, strides) = sizes(&raw.shape).zip(sizes(&raw.strides)).ok_or_else(overflow)?;
    let offset = raw.offset.checked_mul(width).and_then(|offset| offset.checked_add(start)).ok_or_else(overflow)?;
    let bytes = count.checked_mul(width).ok_or_else(overflow)?;
    let strides = (!contiguous(&shape, &strides)).then_some(strides);
    Ok(TorchTensor { key: key.to_owned(), dtype: storage.element.name, shape, offset, bytes, strides })
}

/// Whether the numbers stand one after another in row-major order. The stride of a dimension of size 1 means nothing.
fn contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1_usize;
    for (&size, &stride) in shape.iter().zip(strides).rev() {
        if size == 0 {
            return true;
        }
        if size != 1 && stride != expected {
            return false;
        }
        expected = expected.saturating_mul(size);
    }
    true
}
