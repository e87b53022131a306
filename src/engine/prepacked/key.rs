//! Everything that a packed graph depends on.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::Source;
use crate::engine::runtime::RuntimeInfo;
use crate::engine::runtime::doctor::processor_identity;
use crate::guard::files::{contained, read_capped};
use crate::package::{MANIFEST_FILE, external_tensors};

/// Rises when entries are made in another way.
const KEY_FORMAT: &str = "llava-gauge prepacked 1";

/// The session options that a packed graph depends on, as `session::builder_at` and this module set them. Threads and memory
/// patterns are not among them: they change no graph and no weight.
const SESSION_OPTIONS: &str = "optimisation all; deterministic compute; inline below 1024";

/// Largest manifest that is read.
const MANIFEST_LIMIT_BYTES: u64 = 1 << 20;

/// What an entry was made of and for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// SHA-256, hexadecimal, over all of it.
    pub sha256: String,
    /// Bytes of the weights that the graph reads.
    pub weight_bytes: u64,
    /// The processor, for people.
    pub processor: String,
    /// The runtime, for people.
    pub runtime: String,
}

impl Key {
    /// The key of a graph: the graph itself, the package's manifest (which names the contents of every file by its SHA-256), and of
    /// each file of weights its place, length, time of change and number in the file system, because their contents are
    /// not read; the ONNX Runtime library by its SHA-256; and the processor with its instruction sets.
    pub(super) fn of(runtime: &RuntimeInfo, source: &Source<'_>) -> Result<Self, String> {
        let processor = processor_identity();
        let mut key = Sha256::new();
        let mut part = |name: &str, bytes: &[u8]| {
            for text in [name.as_bytes(), bytes] {
                key.update((text.len() as u64).to_le_bytes());
                key.update(text);
            }
        };
        part("format", KEY_FORMAT.as_bytes());
        part("options", SESSION_OPTIONS.as_bytes());
        part("runtime", format!("{} {} {}", runtime.version, runtime.build, runtime.sha256).as_bytes());
        part("processor", processor.as_bytes());
        part("graph", source.bytes);
        let manifest = source.root.join(MANIFEST_FILE);
        if manifest.is_file() {
            part("manifest", &read_capped(&manifest, MANIFEST_LIMIT_BYTES).map_err(|error| error.to_string())?);
        }
        let tensors = external_tensors(Path::new(source.name), source.bytes).map_err(|error| error.to_string())?;
        let mut files: Vec<&str> = tensors.iter().map(|tensor| tensor.file.as_str()).collect();
        files.sort_unstable();
        files.dedup();
        for file in files {
            let path = contained(source.root, file).map_err(|error| error.to_string())?;
            part(file, stamp(&path)?.as_bytes());
        }
        let sha256 = key.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let weight_bytes = tensors.iter().map(|tensor| tensor.bytes).fold(0, u64::saturating_add);
        Ok(Self { sha256, weight_bytes, processor, runtime: runtime.version.clone() })
    }

    /// The name of its folder in the cache.
    pub(super) fn folder_name(&self) -> &str {
        self.sha256.get(..32).unwrap_or(&self.sha256)
    }

    /// Room that an entry needs: the weights as they are, and once more packed.
    pub(super) fn needed_bytes(&self) -> u64 {
        self.weight_bytes.saturating_mul(2)
    }
}

/// A file without its contents: whatever writes to it or puts another in its place changes one of these.
fn stamp(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    // Links are followed, so that a checkpoint that was fetched anew is another file.
    let real: PathBuf = path.canonicalize().map_err(failed)?;
    let metadata = std::fs::metadata(&real).map_err(failed)?;
    let modified = metadata.modified().map_err(failed)?;
    let modified_ns = modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    Ok(format!("{} {} {modified_ns} {}", real.display(), metadata.len(), file_number(&metadata)))
}

/// Device and number in the file system, where it has such.
#[cfg(unix)]
fn file_number(metadata: &std::fs::Metadata) -> String {
    use std::os::unix::fs::MetadataExt;
    format!("{} {}", metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn file_number(_: &std::fs::Metadata) -> String {
    String::new()
}
