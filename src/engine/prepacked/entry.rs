//! One entry on disk: `graph.onnx`, `weights.bin` and `entry.json`, which says what the other two must be.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::key::Key;
use crate::guard::files::read_capped;
use crate::package::external_extent;

/// The optimised graph.
pub(super) const GRAPH_FILE: &str = "graph.onnx";
/// Its weights, packed ones included.
pub(super) const WEIGHTS_FILE: &str = "weights.bin";
/// What the others must be.
pub(super) const ENTRY_FILE: &str = "entry.json";

/// Largest optimised graph, as for graphs of packages.
const GRAPH_LIMIT_BYTES: u64 = 256 << 20;
const ENTRY_LIMIT_BYTES: u64 = 1 << 16;

/// Places of `weights.bin` that are read at each use, and how much of each: cheap, and enough to see a file that lost its contents
/// or was never written whole. A single changed byte elsewhere is not seen; a program that changes one changes the time, too.
const SAMPLES: u64 = 64;
const SAMPLE_BYTES: u64 = 4096;

/// `entry.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// SHA-256 of the key.
    pub key: String,
    /// Folder of the package, for people.
    pub package: String,
    /// Name of the graph in it, for people.
    pub graph: String,
    /// Version of ONNX Runtime, for people.
    pub runtime: String,
    /// Processor, for people.
    pub processor: String,
    /// SHA-256 of `graph.onnx`.
    graph_sha256: String,
    /// Length of `weights.bin`; absent where the graph has no weights of any size.
    weight_bytes: Option<u64>,
    /// When `weights.bin` was written, in nanoseconds since 1970.
    weights_modified_ns: u64,
    /// CRC-32 of the places that are looked at.
    weights_sample_crc32: u32,
}

impl Entry {
    /// Describes what was written to `folder` and writes it down. What ends before the graph's last weight is refused: a full disk
    /// need not be an error to whoever writes.
    pub(super) fn write(folder: &Path, key: &Key, package: &Path, graph: &str) -> Result<(), String> {
        let bytes = read_capped(&folder.join(GRAPH_FILE), GRAPH_LIMIT_BYTES).map_err(|error| error.to_string())?;
        let extent = external_extent(Path::new(GRAPH_FILE), &bytes).map_err(|error| error.to_string())?;
        if let Some(other) = extent.files.iter().find(|file| *file != WEIGHTS_FILE) {
            return Err(format!("the saved graph reads {other:?}, expected {WEIGHTS_FILE}"));
        }
        let weights = Weights::look(&folder.join(WEIGHTS_FILE))?;
        let found = weights.as_ref().map_or(0, |weights| weights.bytes);
        if extent.end_bytes > found {
            return Err(format!("{WEIGHTS_FILE} has {found} bytes, expected {}", extent.end_bytes));
        }
        let entry = Self {
            key: key.sha256.clone(),
            package: package.canonicalize().unwrap_or_else(|_| package.to_path_buf()).to_string_lossy().into_owned(),
            graph: graph.to_owned(),
            runtime: key.runtime.clone(),
            processor: key.processor.clone(),
            graph_sha256: sha256(&bytes),
            weight_bytes: weights.as_ref().map(|weights| weights.bytes),
            weights_modified_ns: weights.as_ref().map_or(0, |weights| weights.modified_ns),
            weights_sample_crc32: weights.as_ref().map_or(0, |weights| weights.sample_crc32),
        };
        // After a power failure a file may have its length and not its contents; what the entry vouches for comes first.
        let sync = |path: &Path| File::options().append(true).open(path)?.sync_all();
        for name in [Some(GRAPH_FILE), weights.as_ref().map(|_| WEIGHTS_FILE)].into_iter().flatten() {
            let path = folder.join(name);
            sync(&path).map_err(|error| format!("cannot sync {}: {error}", path.display()))?;
        }
        let text = serde_json::to_vec_pretty(&entry).map_err(|error| error.to_string())?;
        let path = folder.join(ENTRY_FILE);
        let write = || {
            let mut file = File::create(&path)?;
            std::io::Write::write_all(&mut file, &text)?;
            file.sync_all()
        };
        write().map_err(|error| format!("cannot write {}: {error}", path.display()))
    }

    /// Reads `entry.json`.
    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        let path = folder.join(ENTRY_FILE);
        let text = read_capped(&path, ENTRY_LIMIT_BYTES).map_err(|error| error.to_string())?;
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The graph of an entry that is what was written for this key.
    pub(super) fn check(folder: &Path, key: &Key, graph: &str) -> Result<Vec<u8>, String> {
        let entry = Self::read(folder)?;
        let differs = |what: &str, found: &str, expected: &str| Err(format!("{what} is {found}, expected {expected}"));
        if entry.key != key.sha256 || entry.graph != graph {
            return differs("its key", &entry.key, &key.sha256);
        }
        let bytes = read_capped(&folder.join(GRAPH_FILE), GRAPH_LIMIT_BYTES).map_err(|error| error.to_string())?;
        let found = sha256(&bytes);
        if found != entry.graph_sha256 {
            return differs("the SHA-256 of its graph", &found, &entry.graph_sha256);
        }
        let weights = Weights::look(&folder.join(WEIGHTS_FILE))?;
        let described = |bytes, modified, crc| format!("{bytes:?} bytes of {modified} with CRC-32 {crc:08x}");
        let found = weights.map_or_else(
            || described(None, 0, 0),
            |weights| described(Some(weights.bytes), weights.modified_ns, weights.sample_crc32),
        );
        let expected = described(entry.weight_bytes, entry.weights_modified_ns, entry.weights_sample_crc32);
        if found != expected {
            return differs(WEIGHTS_FILE, &found, &expected);
        }
        Ok(bytes)
    }

    /// Marks an entry as used now.
    pub(super) fn touch(folder: &Path) {
        // A cache that cannot be written to still serves; its entries then look unused.
        let file = File::options().append(true).open(folder.join(ENTRY_FILE));
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
    }
}

/// What is known of `weights.bin` without reading it all.
struct Weights {
    bytes: u64,
    modified_ns: u64,
    sample_crc32: u32,
}

impl Weights {
    /// `None` if there is no such file.
    fn look(path: &Path) -> Result<Option<Self>, String> {
        let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let metadata = file.metadata().map_err(failed)?;
        let bytes = metadata.len();
        let since = metadata.modified().map_err(failed)?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = Vec::new();
        let last = bytes.saturating_sub(SAMPLE_BYTES);
        for place in 0..SAMPLES {
            file.seek(SeekFrom::Start((u128::from(last) * u128::from(place) / u128::from(SAMPLES - 1)) as u64))
                .map_err(failed)?;
            buffer.clear();
            file.by_ref().take(SAMPLE_BYTES).read_to_end(&mut buffer).map_err(failed)?;
            hasher.update(&buffer);
        }
        let modified_ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        Ok(Some(Self { bytes, modified_ns, sample_crc32: hasher.finalize() }))
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
