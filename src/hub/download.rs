//! Fetching a checkpoint into the cache: each file under the name of its entity tag in `blobs`, complete and checked or not
//! at all, with a link in `snapshots`; the reference last, so that an interrupted download is not taken for a whole one.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::cache::io;
use super::client::{FileInformation, Listing};
use super::name::{is_commit, is_plain_file};
use super::wanted::{small_files, weight_files};
use super::{Cache, HubError, HubName, Remote};

/// Attempts that bring nothing before giving up.
const ATTEMPT_LIMIT: u32 = 5;
/// Wait before the second attempt; doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// How far a download is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownloadProgress {
    /// Another process is fetching the same file.
    Waiting {
        /// The file.
        file: String,
    },
    /// Bytes of a file are there.
    Fetching {
        /// The file.
        file: String,
        /// Bytes of it that are there.
        done_bytes: u64,
        /// Its length in bytes.
        total_bytes: u64,
    },
}

/// Fetches what an export needs of a checkpoint and the cache does not have, and gives the snapshot's folder.
pub fn download(
    cache: &Cache,
    remote: &Remote,
    name: &HubName,
    progress: &mut dyn FnMut(DownloadProgress),
) -> Result<PathBuf, HubError> {
    let Listing { commit, files } = remote.list(name)?;
    let repository = cache.repository(name);
    let snapshot = repository.join("snapshots").join(&commit);
    let fetch = Fetch { cache, remote, name, commit: &commit, repository: &repository, snapshot: &snapshot };
    for folder in [&repository.join("blobs"), &snapshot] {
        fs::create_dir_all(folder).map_err(io("create", folder))?;
    }
    for file in small_files(&files) {
        fetch.file(&file, progress)?;
    }
    for file in weight_files(&files, &snapshot)? {
        if !files.contains(&file) {
            let reason = format!("an index lists {file:?}, which the repository does not have");
            return Err(HubError::Answer { what: name.to_string(), reason });
        }
        fetch.file(&file, progress)?;
    }
    if !is_commit(name.revision()) {
        let reference = repository.join("refs").join(name.revision());
        if let Some(folder) = reference.parent() {
            fs::create_dir_all(folder).map_err(io("create", folder))?;
        }
        let partial = partial(&repository);
        fs::write(&partial, &commit).map_err(io("write", &partial))?;
        fs::rename(&partial, &reference).map_err(io("write", &reference))?;
    }
    cache.find(name)
}

/// One repository at one commit.
struct Fetch<'a> {
    cache: &'a Cache,
    remote: &'a Remote,
    name: &'a HubName,
    commit: &'a str,
    repository: &'a Path,
    snapshot: &'a Path,
}

impl Fetch<'_> {
    /// Fetches a file unless the cache has it.
    fn file(&self, file: &str, progress: &mut dyn FnMut(DownloadProgress)) -> Result<(), HubError> {
        if !is_plain_file(file) {
            return Err(HubError::Answer { what: self.name.to_string(), reason: format!("{file:?} is not the name of a file") });
        }
        let link = self.snapshot.join(file);
        if link.is_file() {
            return Ok(());
        }
        let information = retried(|| self.remote.information(self.name, self.commit, file))?;
        let blob = self.repository.join("blobs").join(&information.etag);
        let _lock = self.lock(file, &information.etag, progress)?;
        if !blob.is_file() {
            let partial = self.repository.join("blobs").join(format!("{}.incomplete", information.etag));
            let fetched = self.fetch(file, &information, &partial, progress);
            fetched.and_then(|()| check(file, &information, &partial)).inspect_err(|error| {
                // What is wrong now would still be wrong next time; what is only incomplete is continued.
                if matches!(error, HubError::Size { .. } | HubError::Hash { .. }) {
                    let _ = fs::remove_file(&partial);
                }
            })?;
            fs::rename(&partial, &blob).map_err(io("write", &blob))?;
        }
        self.place(&information.etag, &blob, &link)
    }

    /// Takes the lock of a blob, the same one that the Python library takes.
    fn lock(&self, file: &str, etag: &str, progress: &mut dyn FnMut(DownloadProgress)) -> Result<File, HubError> {
        let folder = self.cache.root().join(".locks").join(self.name.folder());
        fs::create_dir_all(&folder).map_err(io("create", &folder))?;
        let path = folder.join(format!("{etag}.lock"));
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io("create", &path))?;
        if lock.try_lock().is_err() {
            progress(DownloadProgress::Waiting { file: file.to_owned() });
            lock.lock().map_err(io("lock", &path))?;
        }
        Ok(lock)
    }

    /// Brings a partial file to its whole length, in as many connections as it takes.
    fn fetch(
        &self,
        file: &str,
        information: &FileInformation,
        partial: &Path,
        progress: &mut dyn FnMut(DownloadProgress),
    ) -> Result<(), HubError> {
        let mut out = OpenOptions::new().create(true).append(true).open(partial).map_err(io("create", partial))?;
        let (total, mut failures) = (information.bytes, 0);
        loop {
            let mut done = out.metadata().map_err(io("read", partial))?.len();
            if done > total {
                out.set_len(0).map_err(io("write", partial))?;
                done = 0;
            }
            progress(DownloadProgress::Fetching { file: file.to_owned(), done_bytes: done, total_bytes: total });
            if done == total {
                return out.sync_all().map_err(io("write", partial));
            }
            let before = done;
            let error = match self.remote.content(self.name, self.commit, file, done, total) {
                Err(error) => error,
                Ok(mut content) => {
                    if content.start != done {
                        out.set_len(content.start).map_err(io("write", partial))?;
                        done = content.start;
                    }
                    let mut tell = |done_bytes| {
                        progress(DownloadProgress::Fetching { file: file.to_owned(), done_bytes, total_bytes: total });
                    };
                    match copy(&mut content.reader, &mut out, &mut done, total, &mut tell) {
                        Err(CopyError::Write(error)) => return Err(io("write", partial)(error)),
                        Err(CopyError::TooLong) => {
                            return Err(HubError::Size { file: file.to_owned(), expected: total, found: done });
                        }
                        Err(CopyError::Read(error)) => HubError::Transport { what: file.to_owned(), reason: error.to_string() },
                        Ok(()) => {
                            let reason = format!("the connection ended after {done} of {total} bytes");
                            HubError::Transport { what: file.to_owned(), reason }
                        }
                    }
                }
            };
            if done == total {
                continue;
            }
            failures = if done > before { 1 } else { failures + 1 };
            wait_or_give_up(error, failures)?;
        }
    }

    /// A link in the snapshot, or a copy where the system has no links.
    fn place(&self, etag: &str, blob: &Path, link: &Path) -> Result<(), HubError> {
        let partial = partial(self.repository);
        // A killed process of the same number may have left its own, and a copy through a link would write over the blob.
        let _ = fs::remove_file(&partial);
        #[cfg(unix)]
        let linked = std::os::unix::fs::symlink(Path::new("../../blobs").join(etag), &partial).is_ok();
        #[cfg(not(unix))]
        let linked = etag.is_empty();
        if !linked {
            fs::copy(blob, &partial).map_err(io("write", &partial))?;
        }
        fs::rename(&partial, link).map_err(io("write", link))
    }
}

/// A name for what becomes a file of the repository by renaming. Every use has its own, within this process too: whoever renames
/// last wins, and all write the same. It lies outside the snapshots, which others read at any time.
fn partial(repository: &Path) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    repository.join(format!(".llava-gauge-partial-{}-{number}", std::process::id()))
}

enum CopyError {
    Read(std::io::Error),
    Write(std::io::Error),
    /// More came than was announced.
    TooLong,
}

/// Appends what comes; `done` counts all bytes of the file.
fn copy(reader: &mut dyn Read, out: &mut File, done: &mut u64, total: u64, tell: &mut dyn FnMut(u64)) -> Result<(), CopyError> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        out.write_all(buffer.get(..count).unwrap_or_default()).map_err(CopyError::Write)?;
        *done += count as u64;
        if *done > total {
            return Err(CopyError::TooLong);
        }
        tell(*done);
    }
}

/// Repeats a request that may succeed later.
fn retried<T>(mut request: impl FnMut() -> Result<T, HubError>) -> Result<T, HubError> {
    let mut failures = 0;
    loop {
        match request() {
            Ok(value) => return Ok(value),
            Err(error) => {
                failures += 1;
                wait_or_give_up(error, failures)?;
            }
        }
    }
}

/// Waits before another attempt, or gives the error back: a broken connection or a server's own failure may pass, a refusal
/// does not.
fn wait_or_give_up(error: HubError, failures: u32) -> Result<(), HubError> {
    let passing = match &error {
        HubError::Transport { .. } => true,
        HubError::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
        _ => false,
    };
    if !passing || failures >= ATTEMPT_LIMIT {
        return Err(error);
    }
    std::thread::sleep(FIRST_WAIT.saturating_mul(1 << failures.min(8)));
    Ok(())
}

/// Compares a whole file with its entity tag: SHA-256 for large files, git's hash (SHA-1 of a header and the content) for
/// small ones. Other tags, as mirrors may give, are names only.
fn check(file: &str, information: &FileInformation, path: &Path) -> Result<(), HubError> {
    let etag = &information.etag;
    let hexadecimal = etag.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (kind, found) = match etag.len() {
        64 if hexadecimal => ("SHA-256", hash::<Sha256>(path, b"")?),
        40 if hexadecimal => ("git hash", hash::<Sha1>(path, format!("blob {}\0", information.bytes).as_bytes())?),
        _ => return Ok(()),
    };
    if found == etag.to_ascii_lowercase() {
        return Ok(());
    }
    Err(HubError::Hash { file: file.to_owned(), kind, expected: etag.clone(), found })
}

fn hash<D: Digest>(path: &Path, beginning: &[u8]) -> Result<String, HubError> {
    let mut source = File::open(path).map_err(io("read", path))?;
    let (mut hasher, mut buffer) = (D::new(), vec![0; 1 << 20]);
    hasher.update(beginning);
    loop {
        let count = source.read(&mut buffer).map_err(io("read", path))?;
        if count == 0 {
            return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
}
