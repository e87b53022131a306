//! Reading a run while another process writes it: only what was added since the last look.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::disk::failed;
use super::log::decode;
use super::reader::read_header;
use super::{LOG_FILE, LOG_LIMIT_BYTES, RunHeader, SampleRecord, StoreError};

/// Bytes of a log that are read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Longest line of a log that is kept in memory; a longer one is damaged.
const LONGEST_LINE_BYTES: usize = 64 << 20;

/// What came of a look.
#[derive(Clone, Debug, PartialEq)]
pub struct Followed {
    /// The run was begun anew, or another run stands in its place: forget what was read before.
    pub restarted: bool,
    /// New whole records, in the order of the log.
    pub records: Vec<SampleRecord>,
}

/// Follows the log of one run. It takes no lock and writes nothing, so that a writer never waits for it.
pub struct RunFollower {
    directory: PathBuf,
    header: RunHeader,
    offset_bytes: u64,
    keys: HashSet<String>,
    damaged: usize,
    modified: Option<SystemTime>,
}

impl RunFollower {
    /// Reads the header of a run; its log is read by [`follow`](Self::follow).
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            directory: directory.to_path_buf(),
            header: read_header(directory)?,
            offset_bytes: 0,
            keys: HashSet::new(),
            damaged: 0,
            modified: None,
        })
    }

    /// The run's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The run's header.
    pub fn header(&self) -> &RunHeader {
        &self.header
    }

    /// Damaged lines met so far.
    pub fn damaged(&self) -> usize {
        self.damaged
    }

    /// When the log was last written, as of the last look.
    pub fn modified(&self) -> Option<SystemTime> {
        self.modified
    }

    /// Reads what was added to the log. A line without its end is not yet there: it is read again at the next look. Repeated
    /// keys and damaged lines are left out, as every reader does.
    pub fn follow(&mut self) -> Result<Followed, StoreError> {
        let path = self.directory.join(LOG_FILE);
        let header = read_header(&self.directory)?;
        // Opening a pipe would wait for its writer.
        if !std::fs::metadata(&path).map_err(failed("inspect", &path))?.is_file() {
            let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is no regular file");
            return Err(failed("open", &path)(source));
        }
        let mut log = File::open(&path).map_err(failed("open", &path))?;
        let facts = log.metadata().map_err(failed("inspect", &path))?;
        if facts.len() > LOG_LIMIT_BYTES {
            return Err(StoreError::LogFull { path, limit_bytes: LOG_LIMIT_BYTES });
        }
        let restarted = header != self.header || facts.len() < self.offset_bytes;
        if restarted {
            self.offset_bytes = 0;
            self.keys.clear();
            self.damaged = 0;
        }
        self.header = header;
        self.modified = facts.modified().ok();
        let mut records = Vec::new();
        log.seek(SeekFrom::Start(self.offset_bytes)).map_err(failed("read", &path))?;
        let mut waiting: Vec<u8> = Vec::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut too_long = false;
        loop {
            let count = log.read(&mut chunk).map_err(failed("read", &path))?;
            let Some(new) = chunk.get(..count).filter(|new| !new.is_empty()) else { break };
            for part in new.split_inclusive(|byte| *byte == b'\n') {
                let ends = part.last() == Some(&b'\n');
                if waiting.len() + part.len() > LONGEST_LINE_BYTES {
                    too_long = true;
                    self.offset_bytes += waiting.len() as u64;
                    waiting.clear();
                }
                waiting.extend_from_slice(part);
                if !ends {
                    continue;
                }
                self.offset_bytes += waiting.len() as u64;
                match decode(&waiting) {
                    Ok(record) if !too_long => {
                        if self.keys.insert(record.key.clone()) {
                            records.push(record);
                        }
                    }
                    _ => self.damaged += 1,
                }
                too_long = false;
                waiting.clear();
            }
        }
        Ok(Followed { restarted, records })
    }
}
