//! A cache of graphs as ONNX Runtime has optimised them, with their weights packed for this processor.
//!
//! Packing the weights is nearly all of a load, and the packed copy is private memory. ONNX Runtime can write it to a file once and
//! map it from then on: a load then takes a fraction of the time, and processes share the pages. The files belong to one
//! build of ONNX Runtime on one kind of processor, so that they are a cache and never a part of a package.
//!
//! An entry is trusted only if everything that could change it is as it was (see [`key`]) and its own files are what was written
//! (see [`entry`]); anything else is made anew. Whatever goes wrong with the cache, the graph is loaded without it.

mod entry;
mod key;
mod room;
#[cfg(test)]
mod tests;

use std::fs::{File, TryLockError};
use std::path::Path;

use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

pub use self::room::{CachedGraph, cached_graphs, clear_cache, default_cache};

use self::entry::{Entry, GRAPH_FILE, WEIGHTS_FILE};
use self::key::Key;
use super::options::EngineOptions;
use super::runtime::Loaded;
use super::session::{builder_at, suited};

/// Most that all entries of a cache may take. The least recently used ones make room; a graph that needs more is not kept.
pub const CACHE_LIMIT_BYTES: u64 = 64 << 30;

/// Smaller constants stay in the graph file, where shapes are computed from them.
const INLINE_LIMIT_BYTES: &str = "1024";

/// A graph of a package, about to be loaded.
pub(super) struct Source<'a> {
    /// The package folder.
    pub root: &'a Path,
    /// The graph's name in it.
    pub name: &'a str,
    /// The graph.
    pub bytes: &'a [u8],
    /// Whether every run will have the same shapes.
    pub fixed_shapes: bool,
}

/// A session of the graph whose packed weights lie in the folder `cache`, where they are put first if need be. `None` if that did
/// not work, which is told at log level: the graph is then to be loaded as if there were no cache.
pub(super) fn session(runtime: &Loaded, cache: &Path, source: &Source<'_>, options: &EngineOptions) -> Option<Session> {
    match find_or_make(runtime, cache, source, options) {
        Ok(found) => found,
        Err(message) => {
            tracing::warn!("{} is loaded without the prepacked cache {}: {message}", source.name, cache.display());
            None
        }
    }
}

fn find_or_make(runtime: &Loaded, cache: &Path, source: &Source<'_>, options: &EngineOptions) -> Result<Option<Session>, String> {
    let key = Key::of(&runtime.info, source)?;
    let folder = cache.join(key.folder_name());
    if let Some(session) = open(runtime, &folder, &key, source, options) {
        return Ok(Some(session));
    }
    let failed = |doing: &str, path: &Path, error: std::io::Error| format!("cannot {doing} {}: {error}", path.display());
    std::fs::create_dir_all(cache).map_err(|error| failed("create", cache, error))?;
    let lock_path = cache.join(format!("{}.lock", key.folder_name()));
    let options_of_lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
    let lock = options_of_lock.map_err(|error| failed("write", &lock_path, error))?;
    match lock.try_lock() {
        Ok(()) => {}
        // Whoever holds it is making the entry. Packing for oneself takes no longer than waiting.
        Err(TryLockError::WouldBlock) => {
            tracing::info!("another process is putting {} into the prepacked cache", source.name);
            return Ok(None);
        }
        Err(TryLockError::Error(error)) => return Err(failed("lock", &lock_path, error)),
    }
    // It may have been made between looking and locking.
    if let Some(session) = open(runtime, &folder, &key, source, options) {
        return Ok(Some(session));
    }
    room::make_room(cache, key.needed_bytes(), CACHE_LIMIT_BYTES)?;
    let work = cache.join(format!("{}{}", room::WORK_PREFIX, key.folder_name()));
    // Under the lock, whatever lies there was left by a process that died.
    let made = make(runtime, &work, &folder, &key, source, options);
    if made.is_err() {
        let _ = std::fs::remove_dir_all(&work);
    }
    made?;
    match open(runtime, &folder, &key, source, options) {
        Some(session) => Ok(Some(session)),
        None => Err(format!("what was just written to {} cannot be used", folder.display())),
    }
}

/// The session of an entry, if there is one that can be trusted.
fn open(runtime: &Loaded, folder: &Path, key: &Key, source: &Source<'_>, options: &EngineOptions) -> Option<Session> {
    if !folder.is_dir() {
        return None;
    }
    let opened = Entry::check(folder, key, source.name).and_then(|graph| {
        let folder_name = folder.canonicalize().ok().and_then(|path| path.to_str().map(str::to_owned));
        let folder_name = folder_name.ok_or_else(|| "its folder's name is not Unicode".to_owned())?;
        let load = || -> ort::Result<Session> {
            // What was saved is optimised already; optimising it again would only take time.
            suited(builder_at(runtime, options, source.fixed_shapes, GraphOptimizationLevel::Disable)?, &graph)?
                .with_config_entry("session.model_external_initializers_file_folder_path", &folder_name)?
                .commit_from_memory(&graph)
        };
        load().map_err(|error| error.message().to_owned())
    });
    match opened {
        Ok(session) => {
            Entry::touch(folder);
            Some(session)
        }
        Err(message) => {
            tracing::info!("the entry {} of the prepacked cache is made anew: {message}", folder.display());
            None
        }
    }
}

/// Makes an entry in the folder `work` and moves it to `folder` when it is whole.
fn make(
    runtime: &Loaded,
    work: &Path,
    folder: &Path,
    key: &Key,
    source: &Source<'_>,
    options: &EngineOptions,
) -> Result<(), String> {
    let failed = |doing: &str, path: &Path, error: std::io::Error| format!("cannot {doing} {}: {error}", path.display());
    for path in [work, folder] {
        if path.exists() {
            std::fs::remove_dir_all(path).map_err(|error| failed("remove", path, error))?;
        }
    }
    std::fs::create_dir(work).map_err(|error| failed("create", work, error))?;
    let root = source.root.canonicalize().map_err(|error| failed("read", source.root, error))?;
    let root = root.to_str().ok_or_else(|| format!("the name of {} is not Unicode", root.display()))?;
    let save = || -> ort::Result<Session> {
        suited(builder_at(runtime, options, source.fixed_shapes, GraphOptimizationLevel::Level3)?, source.bytes)?
            // It would warn that the result is for this machine only, which the key says.
            .with_log_level(ort::logging::LogLevel::Error)?
            .with_config_entry("session.model_external_initializers_file_folder_path", root)?
            .with_optimized_model_path(work.join(GRAPH_FILE))?
            .with_config_entry("session.optimized_model_external_initializers_file_name", WEIGHTS_FILE)?
            .with_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", INLINE_LIMIT_BYTES)?
            .with_config_entry("session.save_external_prepacked_constant_initializers", "1")?
            .commit_from_memory(source.bytes)
    };
    drop(save().map_err(|error| format!("ONNX Runtime cannot save it: {}", error.message()))?);
    Entry::write(work, key, source.root, source.name)?;
    std::fs::rename(work, folder).map_err(|error| failed("move the new entry to", folder, error))
}
