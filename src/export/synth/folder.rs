//! The output folder: made under another name beside its place, and renamed when it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::SynthError;

/// Held while a checkpoint is made.
const LOCK: &str = ".llava-gauge-synth.lock";

/// A folder in the making; what is not committed goes with it.
pub(super) struct PartialFolder {
    path: PathBuf,
    target: PathBuf,
    lock: Option<File>,
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> SynthError {
    move |source| SynthError::Io { action, path: path.to_path_buf(), source }
}

impl PartialFolder {
    /// Makes the folder; what a killed process left of the same one is replaced.
    pub fn open(target: &Path) -> Result<Self, SynthError> {
        let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).ok_or_else(|| SynthError::Io {
            action: "create",
            path: target.to_path_buf(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidInput, "it has no name"),
        })?;
        let path = target.with_file_name(format!(".llava-gauge-partial-{name}"));
        fs::create_dir_all(&path).map_err(io("create", &path))?;
        let lock_path = path.join(LOCK);
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path).map_err(io("create", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(SynthError::Busy { folder: target.to_path_buf() }),
            Err(fs::TryLockError::Error(error)) => return Err(io("lock", &lock_path)(error)),
        }
        let partial = Self { path, target: target.to_path_buf(), lock: Some(lock) };
        for entry in fs::read_dir(&partial.path).map_err(io("read", &partial.path))? {
            let left = entry.map_err(io("read", &partial.path))?.path();
            if left.file_name().is_some_and(|name| name != LOCK) {
                fs::remove_file(&left).map_err(io("remove", &left))?;
            }
        }
        Ok(partial)
    }

    /// Where it stands for now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file of known content.
    pub fn write_small(&self, name: &str, bytes: &[u8]) -> Result<(), SynthError> {
        self.write(name, |out| out.write_all(bytes))
    }

    /// A file, written by `write` and on the disk when this returns.
    pub fn write(&self, name: &str, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<(), SynthError> {
        let path = self.path.join(name);
        let file = File::create(&path).map_err(io("create", &path))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        write(&mut out).and_then(|()| out.flush()).and_then(|()| out.get_ref().sync_all()).map_err(io("write", &path))
    }

    /// Gives the folder its name, unless something has taken the place meanwhile.
    pub fn commit(mut self) -> Result<(), SynthError> {
        if self.target.symlink_metadata().is_ok() {
            return Err(SynthError::Exists { folder: self.target.clone() });
        }
        let lock = self.path.join(LOCK);
        fs::remove_file(&lock).map_err(io("remove", &lock))?;
        fs::rename(&self.path, &self.target).map_err(io("create", &self.target))?;
        self.lock = None;
        Ok(())
    }
}

impl Drop for PartialFolder {
    fn drop(&mut self) {
        if self.lock.take().is_some() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
