//! The output folder: what is written into it appears whole or not at all, and nothing of another's is replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::ExportError;
use crate::package::{FileRecord, MANIFEST_FILE, Manifest, sha256_of_file};

/// Prefix of files that are not whole yet.
const PARTIAL: &str = ".llava-gauge-partial-";
/// Held while an export writes into the folder.
const LOCK: &str = ".llava-gauge-export.lock";

/// An output folder with files waiting under temporary names.
pub(super) struct OutputFolder {
    root: PathBuf,
    lock: Option<File>,
    /// Files whose temporary name still has to become the true one.
    pending: Vec<String>,
    records: Vec<FileRecord>,
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ExportError {
    move |source| ExportError::Io { action, path: path.to_path_buf(), source }
}

impl OutputFolder {
    /// Makes the folder if need be and takes it for this export.
    pub fn open(root: &Path) -> Result<Self, ExportError> {
        fs::create_dir_all(root).map_err(io("create", root))?;
        let path = root.join(LOCK);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io("create", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(ExportError::Busy { folder: root.to_path_buf() }),
            Err(fs::TryLockError::Error(error)) => return Err(io("lock", &path)(error)),
        }
        Ok(Self { root: root.to_path_buf(), lock: Some(lock), pending: Vec::new(), records: Vec::new() })
    }

    fn partial(&self, name: &str) -> PathBuf {
        self.root.join(format!("{PARTIAL}{name}"))
    }

    /// A new file; `write` gets it under its temporary name.
    pub fn write(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<std::io::Result<()>, ExportError>,
    ) -> Result<(), ExportError> {
        let path = self.partial(name);
        self.pending.push(name.to_owned());
        remove_if_present(&path)?;
        let file = File::create(&path).map_err(io("create", &path))?;
        let mut out = Hashing { out: BufWriter::with_capacity(1 << 20, file), hasher: Sha256::new(), bytes: 0 };
        write(&mut out)?.map_err(io("write", &path))?;
        out.out.flush().map_err(io("write", &path))?;
        out.out.get_ref().sync_all().map_err(io("write", &path))?;
        let sha256 = out.hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        self.records.push(FileRecord { name: name.to_owned(), bytes: out.bytes, sha256 });
        Ok(())
    }

    /// A file of the checkpoint: left where it is if it stands in the folder already, else hard-linked, else copied.
    pub fn place(&mut self, name: &str, source: &Path, link: bool) -> Result<(), ExportError> {
        let real = source.canonicalize().map_err(io("read", source))?;
        let target = self.root.join(name);
        if target.canonicalize().is_ok_and(|target| target == real) {
            if target.is_symlink() {
                return Err(ExportError::LinkedWeights { path: target });
            }
            return self.record(name, &target);
        }
        let partial = self.partial(name);
        self.pending.push(name.to_owned());
        remove_if_present(&partial)?;
        // A hard link fails across file systems, and where the system forbids links to files of other users.
        if !(link && fs::hard_link(&real, &partial).is_ok()) {
            fs::copy(&real, &partial).map_err(io("copy", source))?;
        }
        self.record(name, &partial)
    }

    fn record(&mut self, name: &str, path: &Path) -> Result<(), ExportError> {
        let bytes = fs::metadata(path).map_err(io("read", path))?.len();
        self.records.push(FileRecord { name: name.to_owned(), bytes, sha256: sha256_of_file(path)? });
        Ok(())
    }

    /// All files of the package so far, sorted.
    pub fn records(&self) -> Vec<FileRecord> {
        let mut records = self.records.clone();
        records.sort_by(|a, b| a.name.cmp(&b.name));
        records
    }

    /// The manifest that stands in the folder, as far as it can be read.
    pub fn existing_manifest(root: &Path) -> Option<Manifest> {
        let text = crate::guard::files::read_text_capped(&root.join(MANIFEST_FILE), 1 << 20).ok()?;
        Manifest::from_text(&text).ok()
    }

    /// Gives every file its true name, the manifest last. Refuses to replace a file that differs, unless `force` is set
    /// and the file is not a checkpoint's weights.
    pub fn commit(mut self, manifest: &str, force: bool) -> Result<(), ExportError> {
        let mut kept = Vec::new();
        for name in &self.pending {
            let target = self.root.join(name);
            if target.symlink_metadata().is_err() {
                continue;
            }
            let record = self.records.iter().find(|record| record.name == *name);
            let same = |record: &FileRecord| -> Result<bool, ExportError> {
                let length = fs::metadata(&target).map_err(io("read", &target))?.len();
                Ok(length == record.bytes && sha256_of_file(&target)? == record.sha256)
            };
            if let Some(record) = record
                && target.is_file()
                && same(record)?
            {
                kept.push(name.clone());
                continue;
            }
            let weights =
                [".safetensors", ".bin"].iter().any(|ending| name.ends_with(ending)) && name != super::weights::WEIGHTS_FILE;
            if weights || !force {
                let hint = if weights { "; remove it, or export to another folder" } else { "; give --force to replace it" };
                return Err(ExportError::Exists { path: target, hint: hint.to_owned() });
            }
        }
        let path = self.root.join(MANIFEST_FILE);
        let found = fs::read(&path);
        let unlike = match &found {
            Ok(found) => found != manifest.as_bytes(),
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        };
        if unlike && !force {
            return Err(ExportError::Exists { path, hint: "; give --force to replace the package".to_owned() });
        }
        if unlike && found.is_ok() {
            // While its files are replaced there is no package rather than a mixed one.
            fs::remove_file(&path).map_err(io("replace", &path))?;
        }
        for name in std::mem::take(&mut self.pending) {
            let (partial, target) = (self.partial(&name), self.root.join(&name));
            if kept.contains(&name) {
                // Not renamed: renaming one hard link of a file over another does nothing and would leave both.
                remove_if_present(&partial)?;
            } else {
                fs::rename(&partial, &target).map_err(io("write", &target))?;
            }
        }
        let partial = self.partial(MANIFEST_FILE);
        let mut file = File::create(&partial).map_err(io("create", &partial))?;
        file.write_all(manifest.as_bytes()).and_then(|()| file.sync_all()).map_err(io("write", &partial))?;
        fs::rename(&partial, &path).map_err(io("write", &path))
    }
}

impl Drop for OutputFolder {
    /// Whatever did not become part of a package goes.
    fn drop(&mut self) {
        for name in &self.pending {
            let _ = fs::remove_file(self.partial(name));
        }
        let _ = fs::remove_file(self.partial(MANIFEST_FILE));
        if self.lock.take().is_some() {
            let _ = fs::remove_file(self.root.join(LOCK));
            // Only if this export made it: a folder with files stays.
            let _ = fs::remove_dir(&self.root);
        }
    }
}

fn remove_if_present(path: &Path) -> Result<(), ExportError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("replace", path)(error)),
        _ => Ok(()),
    }
}

/// Counts and hashes what passes through.
struct Hashing {
    out: BufWriter<File>,
    hasher: Sha256,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
