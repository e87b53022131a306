//! Reading the header of a safetensors file: eight bytes of length, a JSON object, then the tensors one after another
//! (<https://github.com/huggingface/safetensors#format>).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::ExportError;
use crate::guard::files::GuardError;

/// Largest header that is read, the limit of the reference implementation.
const HEADER_LIMIT_BYTES: u64 = 100_000_000;

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TensorEntry {
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
pub(super) struct SafetensorsFile {
    /// The file.
    pub path: PathBuf,
    /// Its tensors in the order of their bytes.
    pub tensors: Vec<TensorEntry>,
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
    pub fn open(path: &Path) -> Result<Self, ExportError> {
        let read = |source| ExportError::Guard(GuardError::Read { path: path.to_path_buf(), source });
        let malformed = |reason: String| ExportError::Safetensors { path: path.to_path_buf(), reason };
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
        for (key, value) in header {
            if key == "__metadata__" {
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
        tensors.sort_by(|a, b| (a.offset, a.bytes).cmp(&(b.offset, b.bytes)));
        let mut end = data_start;
        for tensor in &tensors {
            if tensor.offset != end {
                return Err(malformed(format!("tensor {:?} begins at byte {}, expected {end}", tensor.key, tensor.offset)));
            }
            end = end.checked_add(tensor.bytes).ok_or_else(|| malformed(format!("tensor {:?} has no end", tensor.key)))?;
            if end > file_bytes {
                let (path, tensor) = (path.to_path_buf(), tensor.key.clone());
                return Err(ExportError::Truncated { path, tensor, needed_bytes: end, found_bytes: file_bytes });
            }
        }
        if end != file_bytes {
            return Err(malformed(format!("its tensors end at byte {end}, the file has {file_bytes}")));
        }
        Ok(Self { path: path.to_path_buf(), tensors })
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
