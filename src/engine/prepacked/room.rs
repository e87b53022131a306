//! The cache as a whole: what is in it, making room, emptying it.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use etcetera::BaseStrategy;
use serde::Serialize;

use super::entry::{ENTRY_FILE, Entry};

/// Begins the names of folders in which entries are made.
pub(super) const WORK_PREFIX: &str = "making-";

/// An entry of the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CachedGraph {
    /// Its folder.
    pub folder: PathBuf,
    /// Folder of the package that it was made of.
    pub package: String,
    /// Name of the graph in the package.
    pub graph: String,
    /// Version of ONNX Runtime that it was made with.
    pub runtime: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// When it was last used, in seconds since 1970.
    pub used_unix_s: u64,
}

/// `llava-gauge/prepacked` in the user's cache folder; an error if the user has none.
pub fn default_cache() -> Result<PathBuf, String> {
    let strategy = etcetera::choose_base_strategy().map_err(|error| error.to_string())?;
    Ok(strategy.cache_dir().join("llava-gauge").join("prepacked"))
}

/// The entries of a cache, the most recently used first; none if there is no such folder.
pub fn cached_graphs(cache: &Path) -> Vec<CachedGraph> {
    let mut found: Vec<CachedGraph> = folders(cache).into_iter().filter_map(cached_graph).collect();
    found.sort_by(|left, right| right.used_unix_s.cmp(&left.used_unix_s).then_with(|| left.folder.cmp(&right.folder)));
    found
}

/// Removes every entry of a cache, and what processes that died have left; other files in its folder stay. Gives the number of
/// entries and their bytes.
pub fn clear_cache(cache: &Path) -> Result<(usize, u64), String> {
    let entries = cached_graphs(cache);
    for entry in &entries {
        remove(&entry.folder)?;
    }
    for folder in folders(cache).iter().filter(|folder| is_work(folder)) {
        remove(folder)?;
    }
    Ok((entries.len(), entries.iter().map(|entry| entry.bytes).sum()))
}

/// Removes the least recently used entries until `needed` more bytes keep within `limit`.
pub(super) fn make_room(cache: &Path, needed: u64, limit: u64) -> Result<(), String> {
    if needed > limit {
        return Err(format!("it needs {needed} bytes, more than the {limit} that a cache may have"));
    }
    let mut entries = cached_graphs(cache);
    let mut held: u64 = entries.iter().map(|entry| entry.bytes).sum();
    while held.saturating_add(needed) > limit
        && let Some(oldest) = entries.pop()
    {
        // Who has mapped its files keeps them until the end.
        remove(&oldest.folder)?;
        held -= oldest.bytes;
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<(), String> {
    std::fs::remove_dir_all(folder).map_err(|error| format!("cannot remove {}: {error}", folder.display()))
}

fn is_work(folder: &Path) -> bool {
    folder.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(WORK_PREFIX))
}

/// The folders of a cache that are its own: named by a key, and perhaps still in the making.
fn folders(cache: &Path) -> Vec<PathBuf> {
    let is_own = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let key = name.strip_prefix(WORK_PREFIX).unwrap_or(name);
        key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit()) && !path.is_symlink() && path.is_dir()
    };
    let entries = std::fs::read_dir(cache).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(is_own).collect()
}

fn cached_graph(folder: PathBuf) -> Option<CachedGraph> {
    if is_work(&folder) {
        return None;
    }
    let bytes = std::fs::read_dir(&folder).ok()?.flatten().filter_map(|file| Some(file.metadata().ok()?.len())).sum();
    let used =
        std::fs::metadata(folder.join(ENTRY_FILE)).and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let used_unix_s = used.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // A damaged entry is one of the cache's own all the same.
    let (package, graph, runtime) = match Entry::read(&folder) {
        Ok(entry) => (entry.package, entry.graph, entry.runtime),
        Err(message) => (message, String::new(), String::new()),
    };
    Some(CachedGraph { folder, package, graph, runtime, bytes, used_unix_s })
}
