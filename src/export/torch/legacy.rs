//! The format of before PyTorch 1.6: three small pickles, the pickle of the object, one of the storages' keys, then each
//! storage as its length and its numbers.

use std::collections::BTreeMap;
use std::path::Path;

use super::TorchError;
use super::archive::PICKLE_LIMIT_BYTES;
use super::file::TorchTensor;
use super::machine::{Cursor, Machine, Value};
use super::tensors::state_dictionary;

/// First bytes of every such file: protocol 2 and the magic number as an integer of ten bytes.
pub(super) const BEGINNING: [u8; 14] = [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Reads the tensors of a whole file.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Vec<TorchTensor>, TorchError> {
    let malformed = |reason: String| TorchError::Malformed { path: path.to_path_buf(), reason };
    let limit = usize::try_from(PICKLE_LIMIT_BYTES).unwrap_or(usize::MAX).min(bytes.len());
    let mut cursor = Cursor { bytes: bytes.get(..limit).unwrap_or_default(), position: 0 };
    let mut machine = Machine::new(path);
    // Magic number, protocol version and a description of the machine that wrote the file.
    machine.run(&mut cursor)?;
    machine.run(&mut cursor)?;
    let system = machine.run(&mut cursor)?;
    let little = |&(key, value): &(usize, usize)| matches!((machine.value(key), machine.value(value)), (Value::Text(key), Value::Bool(true)) if key == "little_endian");
    if !matches!(machine.value(system), Value::Dict(entries) if entries.iter().any(little)) {
        return Err(malformed("its numbers are not said to be little endian".to_owned()));
    }
    let root = machine.run(&mut cursor)?;
    let keys = machine.run(&mut cursor)?;
    let Value::List(keys) = machine.value(keys) else {
        return Err(malformed("its list of storages is missing".to_owned()));
    };
    let widths: BTreeMap<&str, u64> = machine
        .values
        .iter()
        .filter_map(|value| match value {
            Value::Storage(storage) => Some((storage.key.as_str(), storage.element.bytes)),
            _ => None,
        })
        .collect();
    let (mut storages, mut position) = (BTreeMap::new(), cursor.position as u64);
    for &key in keys {
        let Value::Text(key) = machine.value(key) else {
            return Err(malformed("a key of its storages is no text".to_owned()));
        };
        let width = widths.get(key.as_str()).copied().ok_or_else(|| malformed(format!("storage {key:?} has no tensor")))?;
        let start = usize::try_from(position).unwrap_or(usize::MAX);
        let length = start.checked_add(8).and_then(|end| bytes.get(start..end)).and_then(|length| length.try_into().ok());
        let count = length.map(i64::from_le_bytes).and_then(|count| u64::try_from(count).ok());
        let size = count.and_then(|count| count.checked_mul(width));
        let end = size.and_then(|size| position.checked_add(8)?.checked_add(size)).filter(|&end| end <= bytes.len() as u64);
        let (Some(size), Some(end)) = (size, end) else {
            return Err(malformed(format!("it is truncated: storage {key:?} ends after the file's {} bytes", bytes.len())));
        };
        storages.insert(key.clone(), (end - size, size));
        position = end;
    }
    state_dictionary(path, &machine, root, &storages)
}
