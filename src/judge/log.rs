//! `judge.jsonl`: every reply of a judge, one a line, each with its checksum, appended and never changed.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::JudgeError;
use super::reply::Reply;
use crate::guard::files::read_capped;

/// Name of the log in a run directory.
pub const JUDGE_FILE: &str = "judge.jsonl";

/// Largest log that is read.
const LOG_LIMIT_BYTES: u64 = 1 << 30;

/// One reply with what it answers and who gave it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplyRecord {
    /// SHA-256 of the request (see [`ChatRequest::sha256`](super::ChatRequest::sha256)).
    pub request_sha256: String,
    /// Key of the sample.
    pub key: String,
    /// Rule and version of the prompt, such as `mm-vet/1`.
    pub rule: String,
    /// Which prompt of the rule, from 1: some rules ask again when a reply cannot be read.
    pub attempt: usize,
    /// Model that was asked.
    pub model: String,
    /// Endpoint without its secrets, or `local`.
    pub endpoint: String,
    /// Temperature, if one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Longest reply in tokens, if one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// The reply as it came.
    pub reply: Reply,
    /// Requests until the reply came; 0 for one from the cache.
    pub requests: u32,
    /// Whether it came from the cache.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cached: bool,
    /// When it came, RFC 3339 in UTC.
    pub time: String,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    record: &'a RawValue,
    crc32: String,
}

/// Whole records of a log's bytes, and how many bytes end in a whole line. Damaged lines are left out: their questions are
/// asked again.
fn scan(bytes: &[u8]) -> (Vec<ReplyRecord>, usize) {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let lines = bytes.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n');
    let records = lines.filter_map(|line| {
        let line: Line<'_> = serde_json::from_slice(line).ok()?;
        let text = line.record.get();
        (line.crc32 == format!("{:08x}", crc32fast::hash(text.as_bytes()))).then(|| serde_json::from_str(text).ok())?
    });
    (records.collect(), whole)
}

/// The log of a run while it is judged. One process at a time holds it.
pub struct ReplyLog {
    path: PathBuf,
    file: File,
    /// The last reply to each request.
    known: HashMap<String, ReplyRecord>,
}

impl ReplyLog {
    /// Opens the log, creating it empty if need be. An unfinished last line is cut off.
    pub fn open(path: &Path) -> Result<Self, JudgeError> {
        let failed = |doing: &'static str| move |source| JudgeError::Disk { doing, path: path.to_path_buf(), source };
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed("open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JudgeError::Locked { path: path.to_path_buf() }),
            Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
        }
        let bytes = read_capped(path, LOG_LIMIT_BYTES)?;
        let (records, whole) = scan(&bytes);
        if whole < bytes.len() {
            file.set_len(whole as u64).map_err(failed("cut the unfinished last line of"))?;
        }
        let known = records.into_iter().map(|record| (record.request_sha256.clone(), record)).collect();
        Ok(Self { path: path.to_path_buf(), file, known })
    }

    /// The records of a log that nobody needs to write, in file order; none where there is no log.
    pub fn read(path: &Path) -> Result<Vec<ReplyRecord>, JudgeError> {
        if !path.exists() {
            return Ok(Vec::new());
        }
        Ok(scan(&read_capped(path, LOG_LIMIT_BYTES)?).0)
    }

    /// The last reply to a request.
    pub fn reply_to(&self, request_sha256: &str) -> Option<&ReplyRecord> {
        self.known.get(request_sha256)
    }

    /// Appends a reply in one write. When it returns, the reply survives the death of this process.
    pub(super) fn append(&mut self, record: &ReplyRecord) -> Result<(), JudgeError> {
        let failed = |doing: &'static str| {
            let path = self.path.clone();
            move |source| JudgeError::Disk { doing, path, source }
        };
        // A record holds texts and numbers from JSON, which always serialise.
        let text = serde_json::to_string(record).unwrap_or_default();
        let checksum = crc32fast::hash(text.as_bytes());
        let line = format!("{{\"record\":{text},\"crc32\":\"{checksum:08x}\"}}\n");
        self.file.write_all(line.as_bytes()).map_err(failed("append to"))?;
        self.known.insert(record.request_sha256.clone(), record.clone());
        Ok(())
    }

    /// Forces what was appended onto the medium.
    pub fn sync(&self) -> Result<(), JudgeError> {
        self.file.sync_data().map_err(|source| JudgeError::Disk { doing: "sync", path: self.path.clone(), source })
    }
}

impl Drop for ReplyLog {
    fn drop(&mut self) {
        // Closing would not do while a child process still holds a copy of the handle.
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(request: &str, text: &str) -> ReplyRecord {
        ReplyRecord {
            request_sha256: request.to_owned(),
            key: "k".to_owned(),
            rule: "mm-vet/1".to_owned(),
            attempt: 1,
            model: "m".to_owned(),
            endpoint: "local".to_owned(),
            temperature: Some(0.1),
            max_tokens: None,
            reply: Reply { text: text.to_owned(), ..Reply::default() },
            requests: 1,
            cached: false,
            time: "2026-01-01T00:00:00Z".to_owned(),
        }
    }

    #[test]
    fn every_cut_of_the_log_keeps_the_whole_lines_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(JUDGE_FILE);
        let mut log = ReplyLog::open(&path).unwrap();
        assert!(matches!(ReplyLog::open(&path), Err(JudgeError::Locked { .. })));
        for (request, text) in [("a", "8 9\nbecause"), ("b", "é\u{2028}"), ("a", "7 7")] {
            log.append(&record(request, text)).unwrap();
        }
        drop(log);
        let bytes = std::fs::read(&path).unwrap();
        let ends: Vec<usize> = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let whole = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(ReplyLog::read(&path).unwrap().len(), whole, "cut at {cut}");
            let mut log = ReplyLog::open(&path).unwrap();
            log.append(&record("c", "new")).unwrap();
            assert_eq!(ReplyLog::read(&path).unwrap().len(), whole + 1, "cut at {cut}");
        }
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(ReplyLog::open(&path).unwrap().reply_to("a").unwrap().reply.text, "7 7", "the last reply counts");
        let mut damaged = bytes.clone();
        damaged[ends[0] + 30] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(ReplyLog::read(&path).unwrap().len(), 2);
    }
}
