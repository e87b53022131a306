//! The few file operations that durability rests on, behind a trait so that tests can make any one of them fail.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::StoreError;

/// The operations.
pub(super) trait Disk: Send {
    /// Creates a folder and its parents.
    fn create_directory(&mut self, path: &Path) -> io::Result<()>;
    /// Opens a log for appending, creating it empty if need be.
    fn open_log(&mut self, path: &Path) -> io::Result<File>;
    /// Writes a whole new file and brings it to the disk.
    fn write_file(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Renames a file over another, atomically.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Brings the names in a folder to the disk.
    fn sync_directory(&mut self, path: &Path) -> io::Result<()>;
    /// Appends bytes to a log.
    fn append(&mut self, log: &mut File, bytes: &[u8]) -> io::Result<()>;
    /// Brings a log's bytes to the disk.
    fn sync(&mut self, log: &File) -> io::Result<()>;
    /// Cuts a log to `length_bytes`.
    fn truncate(&mut self, log: &File, length_bytes: u64) -> io::Result<()>;
}

/// The operating system's.
pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn create_directory(&mut self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn open_log(&mut self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).append(true).create(true).open(path)
    }

    fn write_file(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        // Only Unix lets a folder be opened and synced; elsewhere the rename itself is all there is.
        if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
    }

    fn append(&mut self, log: &mut File, bytes: &[u8]) -> io::Result<()> {
        log.write_all(bytes)?;
        log.flush()
    }

    fn sync(&mut self, log: &File) -> io::Result<()> {
        log.sync_data()
    }

    fn truncate(&mut self, log: &File, length_bytes: u64) -> io::Result<()> {
        log.set_len(length_bytes)
    }
}

/// Turns an error of the operating system into ours.
pub(super) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_path_buf();
    move |source| StoreError::Disk { doing, path, source }
}

/// Replaces `path` in one step: a reader sees the old bytes or the new ones, never a part, even after a power failure.
pub(super) fn replace_file(disk: &mut dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = PathBuf::from(name);
    disk.write_file(&temporary, bytes).map_err(failed("write", &temporary))?;
    disk.rename(&temporary, path).map_err(failed("replace", path))?;
    let directory = path.parent().unwrap_or(Path::new("."));
    disk.sync_directory(directory).map_err(failed("sync", directory))
}
