//! The sample log: one line is `{"record":{…},"crc32":"xxxxxxxx"}`, the checksum over the exact bytes of the record's text.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{SampleRecord, StoreError};
use crate::benchmark::Reference;

/// Something that a reader met in a log and left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogNote {
    /// The log ends in a line without its end: a write that was cut short and never acknowledged.
    TornTail {
        /// Its length in bytes.
        bytes: usize,
    },
    /// A whole line whose checksum or content is wrong. Only this record is lost.
    DamagedLine {
        /// Line number, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A second record of the same sample; the first one counts.
    DuplicateKey {
        /// Line number, from 1.
        line: usize,
        /// The sample's key.
        key: String,
    },
}

impl fmt::Display for LogNote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TornTail { bytes } => write!(formatter, "the last {bytes} bytes are an unfinished line"),
            Self::DamagedLine { line, reason } => write!(formatter, "line {line} is damaged and was left out: {reason}"),
            Self::DuplicateKey { line, key } => {
                write!(formatter, "line {line} repeats sample {key:?}; the first record counts")
            }
        }
    }
}

/// One line as it stands. Unknown fields are ignored, so that later programs may add some.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    record: &'a RawValue,
    #[serde(borrow)]
    crc32: std::borrow::Cow<'a, str>,
}

/// Appends a record's line to `out`.
pub(super) fn encode(record: &SampleRecord, out: &mut Vec<u8>) -> Result<(), StoreError> {
    let unstorable = |message: String| StoreError::Unstorable { key: record.key.clone(), message };
    // JSON has no NaN: serde would write null, and the acknowledged record could not be read again.
    if let Some(field) = non_finite_field(record) {
        return Err(unstorable(format!("{field} is not a finite number")));
    }
    let text = serde_json::to_string(record).map_err(|error| unstorable(error.to_string()))?;
    let checksum = crc32fast::hash(text.as_bytes());
    out.extend_from_slice(b"{\"record\":");
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(format!(",\"crc32\":\"{checksum:08x}\"}}\n").as_bytes());
    Ok(())
}

/// The first number of a record that JSON cannot hold.
fn non_finite_field(record: &SampleRecord) -> Option<String> {
    let group = &record.timings.group;
    let named = [
        ("log_probability", record.log_probability),
        ("score", record.score.unwrap_or_default()),
        ("timings.ttft_ms", record.timings.ttft_ms),
        ("timings.tpot_ms", record.timings.tpot_ms.unwrap_or_default()),
        ("timings.group.image_ms", group.image_ms),
        ("timings.group.vision_ms", group.vision_ms),
        ("timings.group.projector_ms", group.projector_ms),
        ("timings.group.prefill_ms", group.prefill_ms),
        ("timings.group.decode_ms", group.decode_ms),
        ("timings.group.image_wait_ms", group.image_wait_ms.unwrap_or_default()),
        ("timings.group.harness_ms", group.harness_ms.unwrap_or_default()),
    ];
    if let Some((name, _)) = named.iter().find(|(_, value)| !value.is_finite()) {
        return Some((*name).to_owned());
    }
    let bad = |value: &crate::benchmark::Contribution| !(value.numerator.is_finite() && value.denominator.is_finite());
    if let Some((metric, _)) = record.contributions.iter().find(|(_, value)| bad(value)) {
        return Some(format!("contributions.{metric}"));
    }
    match &record.reference {
        Reference::Region { region, .. } if ![region.x1, region.y1, region.x2, region.y2].iter().all(|edge| edge.is_finite()) => {
            Some("reference.region".to_owned())
        }
        _ => None,
    }
}

pub(super) fn decode(line: &[u8]) -> Result<SampleRecord, String> {
    let text = std::str::from_utf8(line).map_err(|error| error.to_string())?;
    let line: Line<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let checksum = format!("{:08x}", crc32fast::hash(line.record.get().as_bytes()));
    if line.crc32 != checksum {
        return Err(format!("checksum: expected {}, found {checksum}", line.crc32));
    }
    serde_json::from_str(line.record.get()).map_err(|error| error.to_string())
}

/// What a log holds.
pub(super) struct Scan {
    /// Whole records in file order, the first of each key.
    pub records: Vec<SampleRecord>,
    /// What was left out.
    pub notes: Vec<LogNote>,
    /// Bytes up to the end of the last whole line.
    pub whole_bytes: usize,
}

/// Reads a log. Any bytes are accepted; what is not a whole, checksummed record is noted and left out.
pub(super) fn scan(bytes: &[u8]) -> Scan {
    let whole_bytes = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let (whole, tail) = bytes.split_at(whole_bytes);
    let mut records: Vec<SampleRecord> = Vec::new();
    let mut notes = Vec::new();
    let mut keys = HashSet::new();
    for (index, line) in whole.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        match decode(line) {
            Ok(record) if keys.insert(record.key.clone()) => records.push(record),
            Ok(record) => notes.push(LogNote::DuplicateKey { line: number, key: record.key }),
            Err(reason) => notes.push(LogNote::DamagedLine { line: number, reason }),
        }
    }
    if !tail.is_empty() {
        notes.push(LogNote::TornTail { bytes: tail.len() });
    }
    Scan { records, notes, whole_bytes }
}

/// A record as JSON without its timings: equal for equal runs, whenever and however often interrupted.
pub fn canonical_without_timings(record: &SampleRecord) -> String {
    // A record serialises always: its keys are strings and it has no maps of other keys.
    let mut value = serde_json::to_value(record).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.shift_remove("timings");
    }
    value.to_string()
}
