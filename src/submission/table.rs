//! MMBench's table: the official columns with the predictions among them, as LLaVA's `convert_mmbench_for_submission.py` has
//! pandas write it.

use std::collections::HashMap;
use std::path::Path;

use super::error::SubmissionError;
use super::files::{Submission, answered};
use super::workbook::{Cell, workbook};
use crate::store::{Run, SampleRecord};

/// Columns that the converter drops.
const DROPPED: [&str; 6] = ["hint", "category", "source", "image", "comment", "l2-category"];
/// Where it puts the predictions, from 0.
const PREDICTION_COLUMN: usize = 6;
/// What pandas reads as nothing (`read_table`, pandas 2 and 3).
const NOTHING: [&str; 19] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null",
];
/// Most rows of a table; the largest has 6,718.
const ROW_LIMIT: usize = 1 << 20;

/// The workbook of a run. Images are read over, so that memory holds the texts alone.
pub(super) fn mmbench(run: &Run, path: &Path, allow_missing: bool) -> Result<Submission, SubmissionError> {
    let wrong = |row: Option<usize>, expected: &str, found: String| SubmissionError::Questions {
        path: path.to_path_buf(),
        row,
        expected: expected.to_owned(),
        found,
    };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(b'\t')
        .flexible(true)
        .from_path(path)
        .map_err(|error| wrong(None, "a table of tab-separated values", error.to_string()))?;
    let headers = reader.headers().map_err(|error| wrong(None, "a line of column names", error.to_string()))?.clone();
    let Some(index_column) = headers.iter().position(|name| name == "index") else {
        let names: Vec<&str> = headers.iter().take(12).collect();
        return Err(wrong(None, "a column `index`", names.join(", ")));
    };
    let kept: Vec<usize> =
        headers.iter().enumerate().filter(|(_, name)| !DROPPED.contains(name)).map(|(column, _)| column).collect();
    let mut by_key: HashMap<&str, &SampleRecord> = run.records.iter().map(|record| (record.key.as_str(), record)).collect();
    let mut columns: Vec<Vec<Option<String>>> = vec![Vec::new(); kept.len()];
    let (mut predictions, mut unasked, mut empty) = (Vec::new(), 0, 0);
    for (row, record) in reader.records().enumerate() {
        let record = record.map_err(|error| wrong(Some(row + 1), "tab-separated values", error.to_string()))?;
        if row >= ROW_LIMIT || record.len() != headers.len() {
            let found = format!("{} of them in row {}", record.len(), row + 1);
            return Err(wrong(Some(row + 1), &format!("{} values, at most {ROW_LIMIT} rows", headers.len()), found));
        }
        let index = record.get(index_column).unwrap_or_default();
        let asked = by_key.remove(index);
        unasked += usize::from(asked.is_none());
        let answer = asked.and_then(answered);
        empty += usize::from(answer.is_none());
        predictions.push(answer.map(|record| record.text.clone()));
        for (values, &column) in columns.iter_mut().zip(&kept) {
            let value = record.get(column).unwrap_or_default();
            values.push((!NOTHING.contains(&value)).then(|| value.to_owned()));
        }
    }
    if let Some(record) = run.records.iter().find(|record| by_key.contains_key(record.key.as_str())) {
        return Err(SubmissionError::Sample {
            run: run.directory.clone(),
            key: record.key.clone(),
            expected: format!("an `index` of {}", path.display()),
            found: format!("{} that it does not have", by_key.len()),
        });
    }
    if unasked > 0 && !allow_missing {
        let message = format!("{unasked} questions of {} were not asked", path.display());
        return Err(SubmissionError::Incomplete { run: run.directory.clone(), message });
    }

    let mut names: Vec<&str> = kept.iter().filter_map(|&column| headers.get(column)).collect();
    let mut cells: Vec<Vec<Cell>> = columns.into_iter().map(typed).collect();
    let place = PREDICTION_COLUMN.min(names.len());
    names.insert(place, "prediction");
    let entries = predictions.len();
    cells.insert(place, predictions.into_iter().map(prediction).collect());
    let mut columns: Vec<_> = cells.into_iter().map(Vec::into_iter).collect();
    let mut rows: Vec<Vec<Cell>> = vec![names.into_iter().map(|name| Cell::Text(name.to_owned())).collect()];
    for _ in 0..entries {
        rows.push(columns.iter_mut().map(|column| column.next().unwrap_or(Cell::Nothing)).collect());
    }
    Ok(Submission { bytes: workbook(&rows).map_err(SubmissionError::Workbook)?, entries, empty })
}

/// An empty answer is an empty cell.
fn prediction(text: Option<String>) -> Cell {
    text.filter(|text| !text.is_empty()).map_or(Cell::Nothing, Cell::Text)
}

/// A column as pandas types it: numbers if every value is one.
fn typed(column: Vec<Option<String>>) -> Vec<Cell> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    let numeric = column.iter().flatten().all(|text| number(text).is_some());
    let cell = |text: String| match number(&text) {
        Some(number) if numeric => Cell::Number(number),
        _ => Cell::Text(text),
    };
    column.into_iter().map(|value| value.map_or(Cell::Nothing, cell)).collect()
}
