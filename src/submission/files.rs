//! From the records of a run to the bytes of a file.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::answers::{self, Row};
use super::error::SubmissionError;
use super::{python_json, questions, table};
use crate::benchmark::SubmissionFormat;
use crate::store::{Run, SampleRecord};

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub struct SubmissionRequest<'a> {
    /// The server's format.
    pub format: SubmissionFormat,
    /// The official file of questions, which the submission then follows: its order, and an entry for each of its questions.
    pub questions: Option<&'a Path>,
    /// Whether questions without an answer are submitted as empty answers.
    pub allow_missing: bool,
}

/// A submission file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Its contents.
    pub bytes: Vec<u8>,
    /// Entries.
    pub entries: usize,
    /// Entries without an answer of the run.
    pub empty: usize,
}

/// Makes the submission file of a run.
pub fn make(run: &Run, request: &SubmissionRequest<'_>) -> Result<Submission, SubmissionError> {
    let format = request.format;
    check_complete(run, request)?;
    // The server's rule may read on where the run's own had read enough.
    if let Some(record) = run.records.iter().find(|record| record.stop_reason == "decided") {
        return Err(SubmissionError::Sample {
            run: run.directory.clone(),
            key: record.key.clone(),
            expected: "a whole answer".to_owned(),
            found: format!("{:?}, which ended as soon as it decided its score (stop_when_decided)", record.text),
        });
    }
    if format == SubmissionFormat::Mmbench {
        let Some(questions) = request.questions else {
            let needs = "the official table (mmbench_*.tsv), whose columns the server wants back";
            return Err(SubmissionError::NeedsQuestions { format: format.as_str(), needs });
        };
        return table::mmbench(run, questions, request.allow_missing);
    }
    let ids = match (request.questions, questions::id_field(format)) {
        (None, _) => None,
        (Some(path), Some(field)) => Some((path, questions::ids(path, field)?)),
        (Some(_), None) => return Err(SubmissionError::NoQuestions { format: format.as_str() }),
    };
    let rows = match &ids {
        None => run.records.iter().map(|record| Row { id: &record.key, record: answered(record) }).collect(),
        Some((path, ids)) => follow(run, path, ids, request)?,
    };
    let empty = rows.iter().filter(|row| row.record.is_none()).count();
    let refuse = |id: &str, expected: &str| SubmissionError::Sample {
        run: run.directory.clone(),
        key: id.to_owned(),
        expected: expected.to_owned(),
        found: id.to_owned(),
    };
    let entry = |row: &Row<'_>| answers::entry(format, row).map_err(|expected| refuse(row.id, expected));
    let text = match format {
        SubmissionFormat::SeedBench => {
            let mut lines = String::new();
            for row in &rows {
                lines.push_str(&python_json::dumps(&entry(row)?, None));
                lines.push('\n');
            }
            lines
        }
        SubmissionFormat::Mmmu => {
            let mut entries = Map::new();
            for row in &rows {
                entries.insert(row.id.to_owned(), entry(row)?);
            }
            python_json::dumps(&Value::Object(entries), None)
        }
        SubmissionFormat::MmVet => {
            let mut entries = Map::new();
            for row in &rows {
                entries.insert(answers::mm_vet_id(row.id), entry(row)?);
            }
            python_json::dumps(&Value::Object(entries), Some(2))
        }
        SubmissionFormat::Scienceqa => {
            let results = answers::scienceqa(&rows).map_err(|(id, expected)| refuse(&id, expected))?;
            python_json::dumps(&results, Some(2))
        }
        _ => {
            let entries = rows.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
            let indent = (format == SubmissionFormat::Captions).then_some(4);
            python_json::dumps(&Value::Array(entries), indent)
        }
    };
    Ok(Submission { bytes: text.into_bytes(), entries: rows.len(), empty })
}

/// A record that is an answer.
pub(super) fn answered(record: &SampleRecord) -> Option<&SampleRecord> {
    record.failure.is_none().then_some(record)
}

/// Refuses a run that was limited, is unfinished, or has failed samples.
fn check_complete(run: &Run, request: &SubmissionRequest<'_>) -> Result<(), SubmissionError> {
    if request.allow_missing {
        return Ok(());
    }
    let benchmark = &run.header.benchmark;
    let failed = run.records.iter().filter(|record| record.failure.is_some()).count();
    let mut missing = Vec::new();
    if benchmark.samples < benchmark.samples_available {
        missing.push(format!("only {} of the {} questions were selected", benchmark.samples, benchmark.samples_available));
    }
    if run.records.len() < benchmark.samples {
        missing.push(format!("{} of {} questions have no record yet", benchmark.samples - run.records.len(), benchmark.samples));
    }
    if failed > 0 {
        missing.push(format!("{failed} of {} questions failed", benchmark.samples));
    }
    let broken = benchmark.data.as_ref().map_or(0, |data| data.broken_rows);
    if broken > 0 {
        missing.push(format!("{broken} rows of the data could not be read and were not asked"));
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(SubmissionError::Incomplete { run: run.directory.clone(), message: missing.join(", ") })
}

/// The rows that the file of questions asks for. A VQAv2 run answers test-dev, which is a part of the test questions that its
/// file must have, so that the others are empty there as LLaVA's converter writes them; elsewhere a question without a record is
/// missing.
fn follow<'a>(
    run: &'a Run,
    path: &Path,
    ids: &'a [String],
    request: &SubmissionRequest<'_>,
) -> Result<Vec<Row<'a>>, SubmissionError> {
    let mut by_key: HashMap<&str, &SampleRecord> = run.records.iter().map(|record| (record.key.as_str(), record)).collect();
    let rows: Vec<(Row<'_>, bool)> = ids
        .iter()
        .map(|id| {
            let record = by_key.remove(id.as_str());
            (Row { id, record: record.and_then(answered) }, record.is_some())
        })
        .collect();
    if let Some(record) = run.records.iter().find(|record| by_key.contains_key(record.key.as_str())) {
        return Err(SubmissionError::Sample {
            run: run.directory.clone(),
            key: record.key.clone(),
            expected: format!("a question of {}", path.display()),
            found: format!("{} that it does not have", by_key.len()),
        });
    }
    let unasked = rows.iter().filter(|(_, asked)| !asked).count();
    if unasked > 0 && request.format != SubmissionFormat::Vqa && !request.allow_missing {
        let message = format!("{unasked} questions of {} were not asked", path.display());
        return Err(SubmissionError::Incomplete { run: run.directory.clone(), message });
    }
    Ok(rows.into_iter().map(|(row, _)| row).collect())
}
