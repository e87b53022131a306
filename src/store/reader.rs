//! Reading run directories; nothing here writes.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::log::{LogNote, scan};
use super::{
    FORMAT, HEADER_FILE, HEADER_LIMIT_BYTES, JudgeIdentity, LOG_FILE, LOG_LIMIT_BYTES, RunHeader, SampleRecord, Scores,
    StoreError,
};
use crate::guard::files::{read_capped, read_text_capped};

/// A run as it stands on disk, finished or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its directory.
    pub directory: PathBuf,
    /// Its header.
    pub header: RunHeader,
    /// Its records in file order, the first of each key.
    pub records: Vec<SampleRecord>,
    /// Whether every planned sample has a record.
    pub complete: bool,
    /// What the log holds beside them.
    pub notes: Vec<LogNote>,
    /// Who judged the answers, if anybody did.
    pub judge: Option<JudgeIdentity>,
}

impl Run {
    /// Reads a run directory, with the scores of `scores.json` where there is one. A torn tail, damaged lines and repeated keys
    /// are noted, not errors; a run that another process writes right now can be read.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let mut run = Self::open_log(directory)?;
        if let Some(scores) = Scores::read(directory)? {
            scores.apply(&mut run);
        }
        Ok(run)
    }

    /// Reads a run directory as its log has it, scores from elsewhere aside.
    pub fn open_log(directory: &Path) -> Result<Self, StoreError> {
        let header = read_header(directory)?;
        let log = directory.join(LOG_FILE);
        // The header is written after the log was created, so a missing log is a file that somebody removed.
        let scanned = scan(&read_capped(&log, LOG_LIMIT_BYTES)?);
        let complete = scanned.records.len() >= header.benchmark.samples;
        Ok(Self {
            directory: directory.to_path_buf(),
            header,
            records: scanned.records,
            complete,
            notes: scanned.notes,
            judge: None,
        })
    }
}

/// Only the part that every format has.
#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

/// Reads the header of a run directory alone.
pub fn read_header(directory: &Path) -> Result<RunHeader, StoreError> {
    let path = directory.join(HEADER_FILE);
    let text = read_text_capped(&path, HEADER_LIMIT_BYTES)?;
    let invalid = |error: serde_json::Error| StoreError::Header { path: path.clone(), message: error.to_string() };
    let AnyFormat { format } = serde_json::from_str(&text).map_err(invalid)?;
    if format != FORMAT {
        return Err(StoreError::Format { path, expected: FORMAT, found: format });
    }
    serde_json::from_str(&text).map_err(invalid)
}

/// Finds run directories at or below each path, in the order of the paths and sorted by name below each. Symbolic links
/// below a path are not followed, so there are no loops; a path itself may be a link. A run found twice counts once. A path
/// without any run is an error.
pub fn discover(paths: &[PathBuf]) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for path in paths {
        let mut any = false;
        let mut waiting = vec![path.clone()];
        while let Some(directory) = waiting.pop() {
            if directory.join(HEADER_FILE).is_file() {
                any = true;
                let real = directory.canonicalize().unwrap_or_else(|_| directory.clone());
                if seen.insert(real) {
                    found.push(directory);
                }
                continue;
            }
            let mut below = subdirectories(&directory)?;
            // The stack gives the last one first.
            below.sort_by(|left, right| right.cmp(left));
            waiting.extend(below);
        }
        if !any {
            return Err(StoreError::NoRuns { path: path.clone() });
        }
    }
    Ok(found)
}

fn subdirectories(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let failed = |source| StoreError::Disk { doing: "list", path: directory.to_path_buf(), source };
    let mut below = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // `file_type` does not follow links.
        if entry.file_type().map_err(failed)?.is_dir() {
            below.push(entry.path());
        }
    }
    Ok(below)
}
