//! Reading the header of a safetensors file: eight bytes of length, a JSON object, then the tensors one after another
//! (<https://github.com/huggingface/safetensors#format>).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use memmap2::Mmap;

use crate::guard::files::{GuardError, map_file};

/// Largest header that is read, the limit of the reference implementation.
const HEADER_LIMIT_BYTES: u64 = 100_000_000;

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    /// Name in the file.
    pub key: String,
    /// Number type as the file names it, such as `BF16`.
    pub dtype: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// First byte in the file.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// A safetensors file whose header was checked.
#[derive(Clone, Debug)]
pub struct SafetensorsFile {
    /// The file.
    pub path: PathBuf,
    /// Its tensors in the order of their bytes.
    pub tensors: Vec<TensorEntry>,
    /// The text entries of `__metadata__`.
    pub metadata: BTreeMap<String, String>,
}

/// Why a safetensors file was rejected.
#[derive(Debug, thiserror::Error)]
pub enum SafetensorsError {
    /// It cannot be read.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// Its header does not fit the format.
    #[error("{path} is not a safetensors file: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It ends before its last tensor does.
    #[error("{path} is truncated: tensor {tensor:?} ends at byte {needed_bytes}, the file has {found_bytes}")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The first tensor that is cut.
        tensor: String,
        /// Bytes that the file must have.
        needed_bytes: u64,
        /// Bytes that it has.
        found_bytes: u64,
    },
    /// A wanted tensor is missing, or of another type.
    #[error("{path}: tensor {tensor}: {message}")]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What was expected and found.
        message: String,
    },
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

impl SafetensorsFile {
    /// Reads and checks the header: lengths fit the types and shapes, tensors stand without gaps or overlaps, and the file
    /// is whole.
    pub fn open(path: &Path) -> Result<Self, SafetensorsError> {
        let read = |source| SafetensorsError::Guard(GuardError::Read { path: path.to_path_buf(), source });
        let malformed = |reason: String| SafetensorsError::Malformed { path: path.to_path_buf(), reason };
        let mut file = File::open(path).map_err(read)?;
        let file_bytes = file.metadata().map_err(read)?.len();
        let mut length = [0; 8];
        if file_bytes < 8 {
            return Err(malformed(format!("it has {file_bytes} bytes, less than the 8 of a header length")));
        }
        file.read_exact(&mut length).map_err(read)?;
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > HEADER_LIMIT_BYTES {
            return Err(malformed(format!("its header says {header_bytes} bytes, more than the {HEADER_LIMIT_BYTES} allowed")));
        }
        let data_start = 8 + header_bytes;
        if data_start > file_bytes {
            return Err(malformed(format!("its header ends at byte {data_start}, the file has {file_bytes}")));
        }
        let mut header = Vec::new();
        file.take(header_bytes).read_to_end(&mut header).map_err(read)?;
        let header: Map<String, Value> =
            serde_json::from_slice(&header).map_err(|error| malformed(format!("header: {error}")))?;
        let mut tensors = Vec::with_capacity(header.len());
        let mut metadata = BTreeMap::new();
        for (key, value) in header {
            if key == "__metadata__" {
                metadata = BTreeMap::deserialize(value).map_err(|error| malformed(format!("__metadata__: {error}")))?;
                continue;
            }
            let raw = RawEntry::deserialize(value).map_err(|error| malformed(format!("tensor {key:?}: {error}")))?;
            let [begin, end] = raw.data_offsets;
            let bytes = end.checked_sub(begin).ok_or_else(|| malformed(format!("tensor {key:?} ends before it begins")))?;
            if let Some(expected) = expected_bytes(&raw)
                && bytes != expected
            {
                let RawEntry { dtype, shape, .. } = &raw;
                return Err(malformed(format!("tensor {key:?} has {bytes} bytes, expected {expected} for {dtype} {shape:?}")));
            }
            let offset = data_start.checked_add(begin).ok_or_else(|| malformed(format!("tensor {key:?} has no such offset")))?;
            tensors.push(TensorEntry { key, dtype: raw.dtype, shape: raw.shape, offset, bytes });
        }
        tensors.sort_by_key(|tensor| (tensor.offset, tensor.bytes));
        let mut end = data_start;
        for tensor in &tensors {
            if tensor.offset != end {
                return Err(malformed(format!("tensor {:?} begins at byte {}, expected {end}", tensor.key, tensor.offset)));
            }
            end = end.checked_add(tensor.bytes).ok_or_else(|| malformed(format!("tensor {:?} has no end", tensor.key)))?;
            if end > file_bytes {
                let (path, tensor) = (path.to_path_buf(), tensor.key.clone());
                return Err(SafetensorsError::Truncated { path, tensor, needed_bytes: end, found_bytes: file_bytes });
            }
        }
        if end != file_bytes {
            return Err(malformed(format!("its tensors end at byte {end}, the file has {file_bytes}")));
        }
        Ok(Self { path: path.to_path_buf(), tensors, metadata })
    }
}

/// Bytes of a tensor by type and shape; `None` for a type whose width is not known here. An overflow matches no length.
fn expected_bytes(raw: &RawEntry) -> Option<u64> {
    let width = match raw.dtype.as_str() {
        "F64" | "I64" | "U64" => 8,
        "F32" | "I32" | "U32" => 4,
        "F16" | "BF16" | "I16" | "U16" => 2,
        "I8" | "U8" | "BOOL" | "F8_E4M3" | "F8_E5M2" => 1,
        _ => return None,
    };
    Some(raw.shape.iter().try_fold(width, |bytes: u64, &size| bytes.checked_mul(size as u64)).unwrap_or(u64::MAX))
}

/// A safetensors file with its bytes mapped.
#[derive(Debug)]
pub struct TensorFile {
    header: SafetensorsFile,
    map: Mmap,
}

impl TensorFile {
    /// Opens and checks the file.
    pub fn open(path: &Path) -> Result<Self, SafetensorsError> {
        Ok(Self { header: SafetensorsFile::open(path)?, map: map_file(path)? })
    }

    /// The text entries of `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.header.metadata
    }

    /// Shape and bytes of a tensor that must have this type, as safetensors names it.
    pub fn bytes(&self, key: &str, dtype: &str) -> Result<(&[usize], &[u8]), SafetensorsError> {
        let wrong =
            |message: String| SafetensorsError::Tensor { path: self.header.path.clone(), tensor: key.to_owned(), message };
        let entry = self.header.tensors.iter().find(|entry| entry.key == key).ok_or_else(|| wrong("missing".to_owned()))?;
        if entry.dtype != dtype {
            return Err(wrong(format!("{dtype} expected, {} found", entry.dtype)));
        }
        let bytes = usize::try_from(entry.offset).ok().and_then(|start| {
            let end = start.checked_add(usize::try_from(entry.bytes).ok()?)?;
            self.map.get(start..end)
        });
        Ok((&entry.shape, bytes.ok_or_else(|| wrong("the file became shorter while it was read".to_owned()))?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(header: &str, data: &[u8]) -> Result<SafetensorsFile, SafetensorsError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat();
        std::fs::write(file.path(), bytes).unwrap();
        SafetensorsFile::open(file.path())
    }

    #[test]
    fn headers_that_do_not_add_up_are_refused() {
        let good =
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[],"data_offsets":[8,10]}}"#;
        let file = read(good, &[0; 10]).unwrap();
        assert_eq!(file.tensors.iter().map(|tensor| tensor.bytes).collect::<Vec<_>>(), [8, 2]);
        let cases = [
            (good, 9, "truncated"),
            (good, 11, "end at byte"),
            (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4, "expected 8 for F32 [2]"),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, 4, "ends before it begins"),
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8, "begins at byte"),
            (r#"{"a":{"dtype":"I8","shape":[18446744073709551615,2],"data_offsets":[0,1]}}"#, 1, "expected 18446744073709551615"),
            (r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4, "tensor \"a\""),
            (r#"{"a":{"shape":[1],"data_offsets":[0,4]}}"#, 4, "dtype"),
            (r#"[1]"#, 0, "header"),
            (r#"{"a":{"dtype":"F9","shape":[1],"data_offsets":[0,18446744073709551615]}}"#, 4, "no end"),
        ];
        for (header, length, part) in cases {
            let message = read(header, &vec![0; length]).unwrap_err().to_string();
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        for bytes in [&b"abc"[..], &u64::MAX.to_le_bytes(), &100_u64.to_le_bytes()] {
            std::fs::write(file.path(), bytes).unwrap();
            assert!(matches!(SafetensorsFile::open(file.path()), Err(SafetensorsError::Malformed { .. })));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(header in ".{0,200}", data in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&header, &data);
        }
    }
}
