//! The zip archive that `torch.save` writes since PyTorch 1.6: `NAME/data.pkl` and one stored, uncompressed entry
//! `NAME/data/KEY` for each storage.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use zip::read::ZipReadOptions;
use zip::{CompressionMethod, ZipArchive};

use super::TorchError;
use crate::guard::files::GuardError;

/// Largest pickle inside an archive: it names tensors and has a few hundred bytes for each.
pub(super) const PICKLE_LIMIT_BYTES: u64 = 64 << 20;
/// Most entries; the largest checkpoints have a few thousand storages.
const ENTRY_LIMIT: usize = 100_000;

/// The pickle and the places of the storages.
pub(super) struct Archive {
    pub pickle: Vec<u8>,
    /// First byte in the file and length in bytes, by storage key.
    pub storages: BTreeMap<String, (u64, u64)>,
}

/// Reads the directory of an archive. Compressed, encrypted, overlapping and doubly named entries are refused, as is a
/// local header that says something else than the directory.
pub(super) fn read(path: &Path) -> Result<Archive, TorchError> {
    let malformed = |reason: String| TorchError::Malformed { path: path.to_path_buf(), reason };
    let zip = |error: zip::result::ZipError| malformed(format!("zip archive: {error}"));
    let file = File::open(path).map_err(|source| GuardError::Read { path: path.to_path_buf(), source })?;
    let file_bytes = file.metadata().map_err(|source| GuardError::Read { path: path.to_path_buf(), source })?.len();
    let mut archive = ZipArchive::new(file).map_err(zip)?;
    if archive.len() > ENTRY_LIMIT {
        return Err(malformed(format!("zip archive: {} entries, more than the {ENTRY_LIMIT} allowed", archive.len())));
    }
    if archive.has_overlapping_entries().map_err(zip)? {
        return Err(malformed("zip archive: its entries overlap".to_owned()));
    }
    let (mut storages, mut pickle, mut prefix) = (BTreeMap::new(), None, None);
    for index in 0..archive.len() {
        let options = ZipReadOptions::new().enforce_header_consistency(true);
        let mut entry = archive.by_index_with_options(index, options).map_err(zip)?;
        let name = entry.name().map_err(zip)?.into_owned();
        let (bytes, start) = (entry.size(), entry.data_start());
        if entry.compression() != CompressionMethod::Stored || entry.encrypted() || bytes != entry.compressed_size() {
            return Err(malformed(format!(
                "zip archive: entry {name:?} is compressed or encrypted, which torch.save never does"
            )));
        }
        let Some((folder, rest)) = name.split_once('/') else {
            return Err(malformed(format!("zip archive: entry {name:?} is not in a folder")));
        };
        if *prefix.get_or_insert_with(|| folder.to_owned()) != folder {
            return Err(malformed(format!("zip archive: entry {name:?} is not in the folder of the others")));
        }
        let start = start.ok_or_else(|| malformed(format!("zip archive: entry {name:?} has no place")))?;
        if start.checked_add(bytes).is_none_or(|end| end > file_bytes) {
            return Err(malformed(format!("zip archive: entry {name:?} ends after the file's {file_bytes} bytes")));
        }
        match rest {
            "data.pkl" => {
                if bytes > PICKLE_LIMIT_BYTES {
                    return Err(malformed(format!("data.pkl has {bytes} bytes, more than the {PICKLE_LIMIT_BYTES} allowed")));
                }
                let mut content = Vec::new();
                entry.read_to_end(&mut content).map_err(|error| malformed(format!("data.pkl: {error}")))?;
                pickle = Some(content);
            }
            "byteorder" => {
                let mut order = String::new();
                let read = entry.take(16).read_to_string(&mut order);
                if read.is_err() || order != "little" {
                    return Err(malformed(format!("its numbers are in {order:?} byte order; only little is supported")));
                }
            }
            "constants.pkl" => {
                return Err(malformed("it is a TorchScript program (constants.pkl), not weights".to_owned()));
            }
            _ => {
                if let Some(key) = rest.strip_prefix("data/") {
                    storages.insert(key.to_owned(), (start, bytes));
                }
            }
        }
    }
    let pickle = pickle.ok_or_else(|| malformed("zip archive: it has no data.pkl".to_owned()))?;
    Ok(Archive { pickle, storages })
}
