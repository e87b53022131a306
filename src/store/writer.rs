//! Writing a run directory so that every acknowledged record survives.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::disk::{Disk, RealDisk, failed, replace_file};
use super::log::{LogNote, encode, scan};
use super::reader::read_header;
use super::{
    FORMAT, HEADER_FILE, HeaderDifference, LOG_FILE, LOG_LIMIT_BYTES, RunHeader, SUMMARY_FILE, SampleRecord, StoreError,
};
use crate::guard::files::read_capped;

/// How long acknowledged records may wait to be forced onto the medium. Records survive the death of the process as soon as
/// `append` returns; a power failure can cost those of the last second. Forcing each group would cost more than scoring it
/// on slow disks and gain nothing against `kill -9`.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// Header fields that may change between the parts of an interrupted run, because they cannot change an answer or because
/// an answer is not expected to depend on them.
const RESUMABLE: [&str; 14] = [
    "started",
    "tag",
    "commit",
    "model.weight_bytes",
    "benchmark.title",
    "benchmark.data_root",
    "benchmark.data",
    "settings.scheduling_reason",
    "environment.platform",
    "environment.processor",
    "environment.physical_cores",
    "environment.memory_bytes",
    "memory",
    "execution",
];

/// The only writer of a run directory. It holds a lock on the sample log until it is dropped; the operating system lets go
/// of it when the process dies.
pub struct RunWriter {
    disk: Box<dyn Disk>,
    directory: PathBuf,
    log_path: PathBuf,
    log: File,
    header: RunHeader,
    keys: HashSet<String>,
    notes: Vec<LogNote>,
    /// Length of the log up to the last acknowledged record, in bytes.
    length_bytes: u64,
    last_sync: Option<Instant>,
    unsynced: bool,
    broken: bool,
}

impl RunWriter {
    /// Starts a run in `directory`, or continues the one that is there, and gives the records that it already holds.
    ///
    /// A directory that holds another run is refused: headers must agree in all but the time of the start, where the data
    /// lies, and the machine. An unfinished last line is cut off; damaged lines are left in place and out of the records, so
    /// that their samples run again.
    pub fn open_or_resume(directory: &Path, header: &RunHeader) -> Result<(Self, Vec<SampleRecord>), StoreError> {
        Self::open_with(Box::new(RealDisk), directory, header)
    }

    pub(super) fn open_with(
        mut disk: Box<dyn Disk>,
        directory: &Path,
        header: &RunHeader,
    ) -> Result<(Self, Vec<SampleRecord>), StoreError> {
        let header_path = directory.join(HEADER_FILE);
        let log_path = directory.join(LOG_FILE);
        if header.format != FORMAT {
            return Err(StoreError::Format { path: header_path, expected: FORMAT, found: header.format });
        }
        disk.create_directory(directory).map_err(failed("create", directory))?;
        // The log comes first because it carries the lock; without a header beside it, an empty log is not yet a run.
        let log = disk.open_log(&log_path).map_err(failed("open", &log_path))?;
        match log.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { path: log_path }),
            Err(TryLockError::Error(source)) => return Err(failed("lock", &log_path)(source)),
        }
        let length_bytes = log.metadata().map_err(failed("inspect", &log_path))?.len();
        let stored = if header_path.exists() {
            let stored = read_header(directory)?;
            let differences = header_differences(&stored, header);
            if !differences.is_empty() {
                return Err(StoreError::OtherRun { path: header_path, differences });
            }
            stored
        } else if length_bytes > 0 {
            return Err(StoreError::HeaderMissing { path: log_path });
        } else {
            create_header(disk.as_mut(), &header_path, header)?;
            header.clone()
        };
        let scanned = scan(&read_capped(&log_path, LOG_LIMIT_BYTES)?);
        let whole_bytes = scanned.whole_bytes as u64;
        if whole_bytes < length_bytes {
            disk.truncate(&log, whole_bytes).map_err(failed("cut the unfinished last line of", &log_path))?;
            disk.sync(&log).map_err(failed("sync", &log_path))?;
        }
        let keys = scanned.records.iter().map(|record| record.key.clone()).collect();
        let writer = Self {
            disk,
            directory: directory.to_path_buf(),
            log_path,
            log,
            header: stored,
            keys,
            notes: scanned.notes,
            length_bytes: whole_bytes,
            last_sync: None,
            unsynced: false,
            broken: false,
        };
        Ok((writer, scanned.records))
    }

    #[cfg(test)]
    pub(super) fn disk_for_test(&mut self, disk: Box<dyn Disk>) {
        self.disk = disk;
    }

    /// The header on disk: for a continued run, the one it was started with.
    pub fn header(&self) -> &RunHeader {
        &self.header
    }

    /// What recovery met in the log.
    pub fn notes(&self) -> &[LogNote] {
        &self.notes
    }

    /// Appends the records of one image group in one write. When it returns, they survive the death of this process; a power
    /// failure can cost the last second's. When it fails, none of them is in the log and the same call may be made again.
    pub fn append(&mut self, records: &[SampleRecord]) -> Result<(), StoreError> {
        if self.broken {
            return Err(StoreError::Broken { path: self.log_path.clone() });
        }
        let mut bytes = Vec::new();
        let mut added = HashSet::new();
        for record in records {
            if self.keys.contains(&record.key) || !added.insert(record.key.clone()) {
                return Err(StoreError::DuplicateKey { path: self.log_path.clone(), key: record.key.clone() });
            }
            encode(record, &mut bytes)?;
        }
        let length_bytes = self.length_bytes + bytes.len() as u64;
        if length_bytes > LOG_LIMIT_BYTES {
            return Err(StoreError::LogFull { path: self.log_path.clone(), limit_bytes: LOG_LIMIT_BYTES });
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.write_and_sync(&bytes) {
            // A part of a group must not stay: cut the log back, and give up on it if even that fails.
            self.broken = self.disk.truncate(&self.log, self.length_bytes).is_err();
            return Err(error);
        }
        self.length_bytes = length_bytes;
        self.keys.extend(added);
        Ok(())
    }

    fn write_and_sync(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.disk.append(&mut self.log, bytes).map_err(failed("append to", &self.log_path))?;
        self.unsynced = true;
        if self.last_sync.is_none_or(|last| last.elapsed() >= SYNC_INTERVAL) {
            self.sync()?;
        }
        Ok(())
    }

    /// Forces everything acknowledged onto the medium. Called by `append` at most once a second and by `finish`; call it at a
    /// clean interruption.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        if self.unsynced {
            self.disk.sync(&self.log).map_err(failed("sync", &self.log_path))?;
            self.unsynced = false;
        }
        self.last_sync = Some(Instant::now());
        Ok(())
    }

    /// Ends the run: forces the log onto the medium and writes `summary.json` with these bytes, atomically. It may be called
    /// again on a continued run, with the new summary.
    pub fn finish(mut self, summary: &[u8]) -> Result<(), StoreError> {
        if self.broken {
            return Err(StoreError::Broken { path: self.log_path.clone() });
        }
        self.sync()?;
        let path = self.directory.join(SUMMARY_FILE);
        replace_file(self.disk.as_mut(), &path, summary)
    }
}

/// Writes `summary.json` of a finished run anew, atomically: its answers were scored again.
pub fn write_summary(directory: &Path, summary: &[u8]) -> Result<(), StoreError> {
    replace_file(&mut RealDisk, &directory.join(SUMMARY_FILE), summary)
}

impl Drop for RunWriter {
    fn drop(&mut self) {
        // Best effort: both errors leave nothing to do, and acknowledged records are already safe from this process's end.
        let _ = self.sync();
        // Closing would not do while a child process that was forked off meanwhile still holds a copy of the handle.
        let _ = self.log.unlock();
    }
}

fn create_header(disk: &mut dyn Disk, path: &Path, header: &RunHeader) -> Result<(), StoreError> {
    let mut bytes = serde_json::to_vec_pretty(header)
        .map_err(|error| StoreError::Header { path: path.to_path_buf(), message: error.to_string() })?;
    bytes.push(b'\n');
    replace_file(disk, path, &bytes)?;
    // The run's folder is new too: its name must last as its files do.
    match path.parent().and_then(Path::parent) {
        Some(above) if !above.as_os_str().is_empty() => disk.sync_directory(above).map_err(failed("sync", above)),
        _ => Ok(()),
    }
}

/// Every field in which two headers differ, those aside that a continued run may change.
fn header_differences(stored: &RunHeader, new: &RunHeader) -> Vec<HeaderDifference> {
    let mut differences = Vec::new();
    // A header serialises always; were it not so, both would be null and equal.
    let value = |header| serde_json::to_value(header).unwrap_or_default();
    walk("", &value(stored), &value(new), &mut differences);
    differences
}

fn walk(path: &str, stored: &Value, new: &Value, differences: &mut Vec<HeaderDifference>) {
    if let (Value::Object(stored), Value::Object(new)) = (stored, new) {
        let added = new.keys().filter(|key| !stored.contains_key(*key));
        for key in stored.keys().chain(added) {
            let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let get = |fields: &serde_json::Map<String, Value>| fields.get(key).cloned().unwrap_or_default();
            walk(&below, &get(stored), &get(new), differences);
        }
    } else if stored != new && !RESUMABLE.contains(&path) && !path.starts_with("memory.") {
        let (field, expected, found) = (path.to_owned(), stored.to_string(), new.to_string());
        differences.push(HeaderDifference { field, expected, found });
    }
}
