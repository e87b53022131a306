//! The local cache: `models--ORG--NAME/{refs,snapshots,blobs}`, the layout of the Python library `huggingface_hub`.
//! A snapshot is a folder of links into `blobs`.

use std::path::{Path, PathBuf};

use super::name::{is_commit, is_revision};
use super::{HubError, HubName};
use crate::guard::files::read_text_capped;
use crate::guard::hub_cache;

/// Longest content of a file below `refs`: a commit has 40 characters.
const REFERENCE_LIMIT_BYTES: u64 = 1024;
/// Most files of a snapshot.
const FILE_LIMIT: usize = 10_000;
/// Deepest folder of a snapshot.
const DEPTH_LIMIT: usize = 8;

/// A cache folder.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache at a folder.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The cache that the environment names: `HF_HUB_CACHE`, else `hub` in `HF_HOME`, else in `~/.cache/huggingface`.
    /// `variable` reads a variable; empty ones count as unset.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        Ok(Self { root: hub_cache::root(variable).ok_or(HubError::NoCache)? })
    }

    /// The cache's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Folder of a repository.
    pub(super) fn repository(&self, name: &HubName) -> PathBuf {
        self.root.join(name.folder())
    }

    /// The snapshot of a checkpoint. No network, and nothing is written. Every file of it was checked to lie inside the
    /// repository's folder.
    pub fn find(&self, name: &HubName) -> Result<PathBuf, HubError> {
        let repository = self.repository(name);
        let absent = |looked_for: PathBuf| HubError::NotCached { name: name.to_string(), looked_for };
        if !repository.is_dir() {
            return Err(absent(repository));
        }
        let reference = repository.join("refs").join(name.revision());
        let commit = if reference.is_file() {
            inside(&repository, &reference)?;
            let text = read_text_capped(&reference, REFERENCE_LIMIT_BYTES)?;
            let commit = text.trim();
            if commit.contains('/') || !is_revision(commit) {
                let reason = format!("{commit:?} is not a commit");
                return Err(HubError::Cache { path: reference, reason });
            }
            commit.to_owned()
        } else if is_commit(name.revision()) {
            name.revision().to_owned()
        } else {
            return Err(absent(reference));
        };
        let snapshot = repository.join("snapshots").join(commit);
        if !snapshot.is_dir() {
            return Err(absent(snapshot));
        }
        check_snapshot(&repository, &snapshot)?;
        Ok(snapshot)
    }
}

/// Checks a folder that was given by path, if it is a snapshot of a cache.
pub fn check_snapshot_path(folder: &Path) -> Result<(), HubError> {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let repository = absolute.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "snapshots"));
    let repository = repository.and_then(Path::parent);
    let named = |folder: &&Path| folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("models--"));
    match repository.filter(named) {
        Some(repository) if absolute.is_dir() => check_snapshot(repository, &absolute),
        _ => Ok(()),
    }
}

/// Follows every link of a snapshot and refuses those that leave the repository.
fn check_snapshot(repository: &Path, snapshot: &Path) -> Result<(), HubError> {
    inside(repository, snapshot)?;
    let (mut folders, mut count) = (vec![(snapshot.to_path_buf(), 0)], 0);
    while let Some((folder, depth)) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(io("read", &folder))?;
        for entry in entries {
            let entry = entry.map_err(io("read", &folder))?;
            count += 1;
            if count > FILE_LIMIT || depth > DEPTH_LIMIT {
                let reason = format!("more than {FILE_LIMIT} files or {DEPTH_LIMIT} folders deep, which no checkpoint has");
                return Err(HubError::Cache { path: snapshot.to_path_buf(), reason });
            }
            let path = entry.path();
            inside(repository, &path)?;
            // A link to a folder was followed by no more than its own check; snapshots have none.
            if entry.file_type().map_err(io("read", &path))?.is_dir() {
                folders.push((path, depth + 1));
            }
        }
    }
    Ok(())
}

/// Refuses a path whose real place is not below the repository's real place.
fn inside(repository: &Path, path: &Path) -> Result<(), HubError> {
    let root = repository.canonicalize().map_err(io("read", repository))?;
    match path.canonicalize() {
        Ok(real) if real.starts_with(&root) => Ok(()),
        Ok(target) => Err(HubError::Escapes { link: path.to_path_buf(), target, repository: repository.to_path_buf() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(HubError::BrokenLink { link: path.to_path_buf() }),
        Err(error) => Err(io("read", path)(error)),
    }
}

/// The error of an operation on a file.
pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> HubError {
    move |source| HubError::Io { action, path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_the_cache_as_for_the_python_library() {
        let at = |variables: &[(&str, &str)]| {
            let value = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            Cache::from_environment(value).unwrap().root
        };
        assert_eq!(at(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/h")]), Path::new("/c"));
        assert_eq!(at(&[("HF_HUB_CACHE", ""), ("HF_HOME", "/h")]), Path::new("/h/hub"));
        assert_eq!(at(&[("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert!(at(&[]).ends_with(".cache/huggingface/hub"));
    }
}
