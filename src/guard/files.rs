//! Reading files that are not ours: capped, contained, and mapped in one audited place.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The operating system refused.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The file is larger than its reader allows.
    #[error("{path} is larger than the {limit_bytes} bytes allowed for this kind of file")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The cap in bytes.
        limit_bytes: u64,
    },
    /// A name inside a package or data set points outside of it.
    #[error("{name:?} is not a plain path below {root}")]
    Escapes {
        /// The folder that must contain it.
        root: PathBuf,
        /// The offending name.
        name: String,
    },
}

/// Reads a whole file of at most `limit_bytes`. The cap holds even if the file grows while it is read.
pub fn read_capped(path: &Path, limit_bytes: u64) -> Result<Vec<u8>, GuardError> {
    let read = |source| GuardError::Read { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(read)?;
    let mut bytes = Vec::new();
    file.take(limit_bytes + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > limit_bytes {
        return Err(GuardError::TooLarge { path: path.to_path_buf(), limit_bytes });
    }
    Ok(bytes)
}

/// Reads a text file of at most `limit_bytes`; it must be UTF-8.
pub fn read_text_capped(path: &Path, limit_bytes: u64) -> Result<String, GuardError> {
    String::from_utf8(read_capped(path, limit_bytes)?).map_err(|error| GuardError::Read {
        path: path.to_path_buf(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, error),
    })
}

/// Joins `name` to `root` if it is a relative path without `..` and, where the file exists, if no symbolic link leads
/// out of `root`. A snapshot in a Hugging Face cache is made of links into the `blobs` folder of its own repository, and
/// these are followed.
pub fn contained(root: &Path, name: &str) -> Result<PathBuf, GuardError> {
    let escapes = || GuardError::Escapes { root: root.to_path_buf(), name: name.to_owned() };
    let relative = Path::new(name);
    let plain = !name.is_empty() && relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain {
        return Err(escapes());
    }
    let joined = root.join(relative);
    if let (Ok(real_root), Ok(real)) = (root.canonicalize(), joined.canonicalize())
        && !real.starts_with(&real_root)
        && !blobs_of(&real_root).is_some_and(|blobs| real.starts_with(blobs))
    {
        return Err(escapes());
    }
    Ok(joined)
}

/// `models--ORG--NAME/blobs` for a folder at or below `models--ORG--NAME/snapshots/REVISION`, and the same of a data set.
fn blobs_of(folder: &Path) -> Option<PathBuf> {
    let snapshots = folder.ancestors().skip(1).find(|parent| parent.file_name().is_some_and(|name| name == "snapshots"))?;
    let repository = snapshots.parent()?;
    let name = repository.file_name()?.to_string_lossy();
    let named = ["models--", "datasets--"].iter().any(|kind| name.starts_with(kind));
    named.then(|| repository.join("blobs"))
}

/// Maps a file into memory, read-only.
#[expect(
    unsafe_code,
    reason = "memory maps are unsafe by nature: another process could change the file under us; \
                                weights are too large to copy, and a change can only alter numbers, never memory safety \
                                of the fixed-size reads made from them"
)]
pub fn map_file(path: &Path) -> Result<Mmap, GuardError> {
    let read = |source| GuardError::Read { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(read)?;
    // SAFETY: the map is read-only and every access is bounds-checked against its length.
    unsafe { Mmap::map(&file) }.map_err(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_root_are_refused() {
        let root = tempfile::tempdir().unwrap();
        for name in ["../x", "/etc/passwd", "a/../../x", ""] {
            assert!(matches!(contained(root.path(), name), Err(GuardError::Escapes { .. })), "{name}");
        }
        assert_eq!(contained(root.path(), "a/b.json").unwrap(), root.path().join("a/b.json"));
    }

    #[cfg(unix)]
    #[test]
    fn links_that_leave_the_root_are_refused() {
        let outside = tempfile::NamedTempFile::new().unwrap();
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
        assert!(matches!(contained(root.path(), "link"), Err(GuardError::Escapes { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn a_snapshot_of_a_cache_may_link_into_its_own_blobs() {
        let cache = tempfile::tempdir().unwrap();
        let repository = cache.path().join("models--org--name");
        let snapshot = repository.join("snapshots/abc");
        for folder in [&snapshot.join("onnx"), &repository.join("blobs"), &cache.path().join("models--org--other/blobs")] {
            std::fs::create_dir_all(folder).unwrap();
        }
        for blob in ["models--org--name/blobs/1", "models--org--other/blobs/1"] {
            std::fs::write(cache.path().join(blob), "x").unwrap();
        }
        std::os::unix::fs::symlink("../../blobs/1", snapshot.join("own")).unwrap();
        std::os::unix::fs::symlink("../../../blobs/1", snapshot.join("onnx/own")).unwrap();
        std::os::unix::fs::symlink("../../../models--org--other/blobs/1", snapshot.join("other")).unwrap();
        assert!(contained(&snapshot, "own").is_ok());
        assert!(contained(&snapshot, "onnx/own").is_ok());
        assert!(contained(&snapshot.join("onnx"), "own").is_ok());
        assert!(matches!(contained(&snapshot, "other"), Err(GuardError::Escapes { .. })));
    }

    #[test]
    fn a_file_over_its_cap_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [0_u8; 11]).unwrap();
        assert!(matches!(read_capped(file.path(), 10), Err(GuardError::TooLarge { .. })));
        assert_eq!(read_capped(file.path(), 11).unwrap().len(), 11);
    }
}
