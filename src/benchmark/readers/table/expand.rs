//! From a row of a file to the rows that become samples: joined, taken apart and filtered.

use std::collections::HashMap;

use serde_json::Value;

use super::super::super::columns::{Found, missing, plain_text};
use super::super::super::error::BenchmarkError;
use super::super::super::table_spec::TableSpec;
use super::join::Joined;
use super::source::{ImageCells, Row};
use super::text_list;

/// A short cell may be the index of an earlier row that has the picture (VLMEvalKit).
const LONGEST_INDEX_BYTES: usize = 64;

/// A row whose image cells name an earlier row by its `index` gets the pictures of that row (VLMEvalKit).
pub(super) fn with_earlier_images(spec: &TableSpec, by_index: &mut HashMap<String, Vec<ImageCells>>, mut row: Row) -> Row {
    let Some(index) = row.columns.get("index").and_then(|value| plain_text(value).ok().flatten()) else { return row };
    if !row.cells.is_empty() {
        by_index.insert(index, row.cells.clone());
        return row;
    }
    for column in spec.image_columns() {
        let Some(Value::String(text)) = row.columns.get(column) else { continue };
        let earlier = Some(text.trim()).filter(|text| text.len() <= LONGEST_INDEX_BYTES).and_then(|text| by_index.get(text));
        if let Some(cells) = earlier.and_then(|cells| cells.iter().find(|cells| &*cells.column == column)) {
            row.cells.push(cells.clone());
            row.columns.insert(column.to_owned(), Value::Null);
        }
    }
    row
}

/// The rows that become samples: joined, taken apart and filtered.
pub(super) fn expand(spec: &TableSpec, joins: &[Joined<'_>], mut row: Row) -> Result<Vec<Row>, BenchmarkError> {
    if spec.absent_is_empty {
        for column in spec.columns() {
            if !row.columns.contains_key(column) {
                row.columns.insert(column.to_owned(), Value::Null);
            }
        }
    }
    if !wanted_values(spec, &row, false)? {
        return Ok(Vec::new());
    }
    for join in joins {
        if !join.add(&mut row)? {
            return Ok(Vec::new());
        }
    }
    let rows = if spec.explode.is_empty() { vec![row] } else { exploded(spec, row)? };
    let mut kept = Vec::with_capacity(rows.len());
    for row in rows {
        if wanted_values(spec, &row, true)? && has_values(spec, &row) {
            kept.push(row);
        }
    }
    Ok(kept)
}

/// Whether the columns of `where` have wanted values. `joined` says whether columns of other files are there; before, one that
/// is missing may still come.
fn wanted_values(spec: &TableSpec, row: &Row, joined: bool) -> Result<bool, BenchmarkError> {
    for (path, wanted) in &spec.filters {
        match path.find(&row.columns) {
            None if joined => return Err(row.place().error(path.text(), "a value", missing(path, &row.columns))),
            None | Some(Found::Many(_)) => {}
            Some(Found::One(value)) => {
                // A list is taken apart later.
                if !joined && value.is_array() {
                    continue;
                }
                let text = plain_text(value).map_err(|found| row.place().error(path.text(), "a text or a number", found))?;
                let text = text.unwrap_or_default();
                if !wanted.iter().any(|wanted| wanted == text.trim()) {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

/// Whether the columns of `having` have values.
fn has_values(spec: &TableSpec, row: &Row) -> bool {
    spec.having.iter().all(|column| {
        let embedded = row.cells_of(column).iter().any(Option::is_some);
        embedded
            || match row.columns.get(column) {
                None | Some(Value::Null) => false,
                Some(Value::String(text)) => !text.trim().is_empty(),
                Some(Value::Array(elements)) => !elements.is_empty(),
                Some(Value::Object(members)) => members.values().any(|value| !value.is_null()),
                Some(_) => true,
            }
    })
}

/// Takes list columns apart: one row for each place in them.
fn exploded(spec: &TableSpec, row: Row) -> Result<Vec<Row>, BenchmarkError> {
    let mut lists: Vec<(&str, Vec<Value>)> = Vec::new();
    for column in &spec.explode {
        let wrong = |found: String| row.place().error(column, "a list", found);
        let list = match row.columns.get(column) {
            None => return Err(wrong("no such column".to_owned())),
            Some(Value::Array(elements)) => elements.clone(),
            Some(Value::Null) => Vec::new(),
            Some(Value::String(text)) => text_list::parse(text).ok_or_else(|| wrong(format!("{text:?}")))?,
            Some(_) => return Err(wrong("something else".to_owned())),
        };
        if let Some((first, elements)) = lists.first()
            && elements.len() != list.len()
        {
            let expected = format!("as many elements as in {first:?}, {}", elements.len());
            return Err(row.place().error(column, expected, list.len().to_string()));
        }
        lists.push((column, list));
    }
    let count = lists.first().map_or(0, |(_, elements)| elements.len());
    let mut rows = Vec::with_capacity(count);
    for index in 0..count {
        let mut part = row.clone();
        part.columns.insert("@index".to_owned(), Value::from(index));
        for (column, elements) in &lists {
            part.columns.insert((*column).to_owned(), elements.get(index).cloned().unwrap_or_default());
        }
        for cells in part.cells.iter_mut().filter(|cells| spec.explode.iter().any(|column| **column == *cells.column)) {
            cells.images = vec![cells.images.get(index).cloned().flatten()];
        }
        rows.push(part);
    }
    Ok(rows)
}
