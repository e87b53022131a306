//! The folder of a graph's engines and timings: one for everything that an engine depends on, so that none is ever used for another
//! package, other settings, other versions or another GPU.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use sha2::{Digest, Sha256};

use super::super::device::Devices;
use super::super::register::GraphSource;
use super::profile::Profile;
use crate::engine::runtime::RuntimeInfo;
use crate::guard::files::read_capped;
use crate::package::MANIFEST_FILE;

/// Rises when engines are made in another way.
const KEY_FORMAT: &str = "llava-gauge tensorrt 1";

/// Largest manifest that is read.
const MANIFEST_LIMIT_BYTES: u64 = 1 << 20;

/// Variables that change which GPU is meant or how it computes.
const VARIABLES: [&str; 3] = ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_TF32_OVERRIDE"];

/// The file in which a folder says what it is for.
const ABOUT_FILE: &str = "about.txt";

/// Everything that an engine depends on, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine::provider) struct CacheParts(pub Vec<(&'static str, String)>);

impl CacheParts {
    /// The package by the SHA-256 of its manifest, which names the contents of all its files; the graph by name and SHA-256; settings
    /// and shapes; versions; and the GPUs.
    pub(super) fn of(
        graph: &GraphSource<'_>,
        settings: &[(&'static str, String)],
        profile: &Profile,
        runtime: &RuntimeInfo,
        tensorrt_version: &str,
        devices: &Devices,
    ) -> Result<Self, String> {
        let manifest = graph.root.join(MANIFEST_FILE);
        let manifest = read_capped(&manifest, MANIFEST_LIMIT_BYTES).map_err(|error| error.to_string())?;
        let settings: Vec<String> = settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let variables: Vec<String> =
            VARIABLES.iter().filter_map(|name| Some(format!("{name}={}", std::env::var_os(name)?.to_string_lossy()))).collect();
        Ok(Self(vec![
            ("format", KEY_FORMAT.to_owned()),
            ("package", sha256(&manifest)),
            ("graph", format!("{} {}", graph.name, sha256(graph.bytes))),
            ("settings", settings.join(" ")),
            ("shapes", format!("{} to {}, best at {}", profile.minimum, profile.maximum, profile.optimum)),
            ("runtime", format!("{} {}", runtime.version, runtime.sha256)),
            ("tensorrt", tensorrt_version.to_owned()),
            ("driver", devices.driver_version.clone().unwrap_or_else(|| "unknown".to_owned())),
            ("gpus", devices.models.join(", ")),
            ("environment", variables.join(" ")),
        ]))
    }
}

/// SHA-256 of a text of parts, each with its length, so that no two lists of parts give the same text; hexadecimal.
pub(in crate::engine::provider) fn cache_key(parts: &CacheParts) -> String {
    let mut key = Sha256::new();
    for (name, value) in &parts.0 {
        for text in [name.as_bytes(), value.as_bytes()] {
            key.update((text.len() as u64).to_le_bytes());
            key.update(text);
        }
    }
    hexadecimal(&key.finalize())
}

/// The folder of these parts in a cache, made if it is not there, with a file that says in words what it is for.
pub(super) fn folder(cache: &Path, parts: &CacheParts) -> Result<String, String> {
    let key = cache_key(parts);
    let folder = cache.join(key.get(..32).unwrap_or(&key));
    let failed = |error: std::io::Error| format!("cannot write {}: {error}", folder.display());
    std::fs::create_dir_all(&folder).map_err(failed)?;
    let about = folder.join(ABOUT_FILE);
    if !about.exists() {
        let lines: Vec<String> = parts.0.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        std::fs::write(&about, lines.concat()).map_err(failed)?;
    }
    let whole = folder.canonicalize().map_err(failed)?;
    whole.to_str().map(str::to_owned).ok_or_else(|| format!("the name of {} is not Unicode", whole.display()))
}

/// `llava-gauge/tensorrt` in the user's cache folder.
pub fn default_cache() -> Result<PathBuf, String> {
    let strategy = etcetera::choose_base_strategy().map_err(|error| error.to_string())?;
    Ok(strategy.cache_dir().join("llava-gauge").join("tensorrt"))
}

fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
