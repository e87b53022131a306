//! A file of `torch.save`, of either format.

use std::path::Path;

use super::machine::{Cursor, Machine};
use super::tensors::state_dictionary;
use super::{TorchError, archive, legacy};
use crate::guard::files::map_file;

/// A tensor with its place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::export) struct TorchTensor {
    pub key: String,
    /// Number type as safetensors names it.
    pub dtype: &'static str,
    pub shape: Vec<usize>,
    /// First byte of the first number in the file.
    pub offset: u64,
    /// Length in bytes of all its numbers.
    pub bytes: u64,
    /// Steps between neighbours along each dimension in numbers, unless the numbers stand in row-major order.
    pub strides: Option<Vec<usize>>,
}

/// A file of `torch.save` whose pickle was read.
#[derive(Clone, Debug)]
pub(in crate::export) struct TorchFile {
    pub tensors: Vec<TorchTensor>,
}

impl TorchFile {
    /// Reads the dictionary of tensors of a file, without its numbers.
    pub fn open(path: &Path) -> Result<Self, TorchError> {
        let malformed = |reason: &str| TorchError::Malformed { path: path.to_path_buf(), reason: reason.to_owned() };
        let length = std::fs::metadata(path)
            .map_err(|source| crate::guard::files::GuardError::Read { path: path.to_path_buf(), source })?
            .len();
        if length == 0 {
            return Err(malformed("it is empty"));
        }
        let map = map_file(path)?;
        let tensors = if map.starts_with(b"PK\x03\x04") {
            let archive = archive::read(path)?;
            let mut machine = Machine::new(path);
            let root = machine.run(&mut Cursor { bytes: &archive.pickle, position: 0 })?;
            state_dictionary(path, &machine, root, &archive.storages)?
        } else if map.starts_with(&legacy::BEGINNING) {
            legacy::read(path, &map)?
        } else if map.starts_with(b"version https://git-lfs") {
            return Err(malformed("it is a git-lfs pointer; fetch the true file with `git lfs pull`"));
        } else {
            // A bare pickle is no file of torch.save, but what it asks for says more than that.
            let limit = map.len().min(1 << 20);
            let mut machine = Machine::new(path);
            return match machine.run(&mut Cursor { bytes: map.get(..limit).unwrap_or_default(), position: 0 }) {
                Err(refused @ TorchError::Refused { .. }) if map.starts_with(&[0x80]) => Err(refused),
                _ => Err(malformed("neither its zip archive nor its older format")),
            };
        };
        Ok(Self { tensors })
    }
}
