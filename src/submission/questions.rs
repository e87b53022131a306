//! The questions that a submission must answer, in their order: read from the official file.

use std::path::Path;

use serde_json::Value;

use super::error::SubmissionError;
use crate::benchmark::SubmissionFormat;
use crate::guard::files::read_text_capped;

/// Cap on a file of questions; VQAv2's test questions have 34 MB.
const QUESTIONS_LIMIT_BYTES: u64 = 1 << 30;

/// The member of a row that identifies it, for formats whose submissions follow a file of questions.
pub(super) fn id_field(format: SubmissionFormat) -> Option<&'static str> {
    match format {
        SubmissionFormat::Vqa | SubmissionFormat::StVqa | SubmissionFormat::SeedBench => Some("question_id"),
        SubmissionFormat::Docvqa => Some("questionId"),
        SubmissionFormat::Vizwiz => Some("image"),
        SubmissionFormat::Gqa => Some("questionId"),
        _ => None,
    }
}

/// Ids in file order, each once. The file is a JSON list of rows, an object with such a list as `questions` or `data`, an object
/// of rows by id (GQA), or JSON Lines (LLaVA's question files).
pub(super) fn ids(path: &Path, field: &str) -> Result<Vec<String>, SubmissionError> {
    let text = read_text_capped(path, QUESTIONS_LIMIT_BYTES)?;
    let wrong = |row: Option<usize>, expected: String, found: String| SubmissionError::Questions {
        path: path.to_path_buf(),
        row,
        expected,
        found,
    };
    let rows = match serde_json::from_str::<Value>(&text) {
        Ok(Value::Array(rows)) => rows,
        Ok(Value::Object(mut object)) => match object.remove("questions").or_else(|| object.remove("data")) {
            Some(Value::Array(rows)) => rows,
            Some(other) => return Err(wrong(None, "a list of questions".to_owned(), kind(&other).to_owned())),
            None if object.values().all(Value::is_object) && !object.is_empty() => {
                return Ok(object.into_iter().map(|(id, _)| id).collect());
            }
            // A file of one JSON line.
            None => vec![Value::Object(object)],
        },
        Ok(other) => return Err(wrong(None, "questions".to_owned(), kind(&other).to_owned())),
        Err(whole) => {
            let mut rows = Vec::new();
            for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                let row = serde_json::from_str(line).map_err(|error| {
                    let found = if rows.is_empty() { whole.to_string() } else { error.to_string() };
                    wrong(Some(index + 1), "JSON, or JSON Lines".to_owned(), found)
                })?;
                rows.push(row);
            }
            rows
        }
    };
    let mut ids = Vec::with_capacity(rows.len());
    let mut seen = std::collections::HashSet::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        let id = match row.get(field) {
            Some(Value::String(id)) => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            Some(other) => return Err(wrong(Some(index + 1), format!("an id as `{field}`"), kind(other).to_owned())),
            None => return Err(wrong(Some(index + 1), format!("a row with `{field}`"), format!("{} without it", kind(row)))),
        };
        if !seen.insert(id.clone()) {
            return Err(wrong(Some(index + 1), "each question once".to_owned(), format!("{id} again")));
        }
        ids.push(id);
    }
    if ids.is_empty() {
        return Err(wrong(None, "questions".to_owned(), "none".to_owned()));
    }
    Ok(ids)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
