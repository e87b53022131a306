//! Answers by sample key, in the files that the evaluations of multiple-choice benchmarks write and read.
//!
//! | form | content | key |
//! | --- | --- | --- |
//! | answers by key | JSON object of texts (MMMU's `total_val_output.json`, BLINK's final predictions) | member name |
//! | ScienceQA results | JSON object with the member `outputs`, an object of texts (LLaVA) | member name |
//! | MMMU responses | a folder with a JSON array of `{"id", "response"}`, `output.json`, for each subject | `id` |
//! | BLINK outputs | JSON object of arrays by split, of `{"idx", "prediction"}`; or a folder with such a file for each task | `idx` |
//! | Mantis results | JSON array or JSON Lines of `{"id", "prediction": {"raw_answer"}}` | `id` |
//! | LLaVA-Interleave results | JSON Lines of `{"dataset", "sample_id", "pred_response"}` | `dataset/sample_id` |
//! | table | CSV, TSV or an Excel workbook's first sheet with the column `prediction` and one of `index`, `id`, `question_id`, `idx`, `key` (MMBench) | that column |
//! | NLVR2 predictions | CSV without a header: identifier, answer | first column |
//!
//! Rows of an id and a text under plain names are read for every benchmark whose data are tables (`predictions.rs`).

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::BenchmarkError;
use super::readers::{Id, RowObject, RowPlace, json_array, json_lines, read_text};

/// An answer and the sample it is for.
pub(super) struct KeyedAnswer {
    /// Row of the file, from 1.
    pub row: usize,
    /// The field that names the sample.
    pub field: &'static str,
    /// The sample's key.
    pub key: String,
    /// The answer.
    pub text: String,
    /// The file, where it is one of a folder.
    pub file: Option<PathBuf>,
}

/// What a file holds: its answers and the name of its form.
pub(super) type Keyed = (Vec<KeyedAnswer>, &'static str);

/// Columns of a table that may name the sample, the first one present counts.
const KEY_COLUMNS: [&str; 5] = ["index", "id", "question_id", "idx", "key"];

/// Reads the answers of a file in one of the forms above; `None` if it has another form. `keys` are the benchmark's sample
/// keys.
pub(super) fn read(path: &Path, text: &str, keys: &HashSet<&str>) -> Result<Option<Keyed>, BenchmarkError> {
    read_one(path, text, keys, false)
}

fn read_one(path: &Path, text: &str, keys: &HashSet<&str>, in_folder: bool) -> Result<Option<Keyed>, BenchmarkError> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => return table(path, delimited(path, text, b',')?, keys).map(Some),
        Some("tsv") => return table(path, delimited(path, text, b'\t')?, keys).map(Some),
        _ => {}
    }
    let beginning = text.trim_start();
    if beginning.starts_with('[') {
        let rows: Vec<(usize, &str)> = (1..).zip(json_array(path, text)?.into_iter().map(RawValue::get)).collect();
        return rows_of(path, &rows, in_folder);
    }
    if !beginning.starts_with('{') {
        return Ok(None);
    }
    // A document of one object; several objects, one a line, are no such document.
    if let Ok(Members(members)) = serde_json::from_str(text) {
        if let Some((_, outputs)) = members.iter().find(|(name, _)| name == "outputs") {
            let place = RowPlace { path, row: 1 };
            let Members(outputs) = serde_json::from_str(outputs.get())
                .map_err(|error| place.error("outputs", "an object of texts", error.to_string()))?;
            return Ok(Some((texts(path, &outputs)?, "ScienceQA results")));
        }
        if members.iter().all(|(_, value)| value.get().starts_with('[')) && !members.is_empty() {
            return Ok(Some((splits(path, &members, keys)?, "BLINK outputs")));
        }
        // One line of JSON Lines is an object, too; its members are no samples.
        if members.first().is_some_and(|(name, _)| keys.contains(name.as_str())) {
            return Ok(Some((texts(path, &members)?, "answers by key")));
        }
    }
    let rows: Vec<(usize, &str)> = json_lines(text).collect();
    rows_of(path, &rows, in_folder)
}

/// Reads a folder of files in these forms: every `.json` file in it, or every `output.json` of its subfolders; `None` if there
/// are none, or they have another form.
pub(super) fn read_folder(folder: &Path, keys: &HashSet<&str>) -> Result<Option<Keyed>, BenchmarkError> {
    let unreadable = |error: std::io::Error| BenchmarkError::File {
        path: folder.to_path_buf(),
        expected: "a readable folder".to_owned(),
        found: error.to_string(),
    };
    let (mut beside, mut below) = (Vec::new(), Vec::new());
    for entry in folder.read_dir().map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() && path.join("output.json").is_file() {
            below.push(path.join("output.json"));
        } else if path.extension().is_some_and(|extension| extension == "json") {
            beside.push(path);
        }
    }
    let mut files = if below.is_empty() { beside } else { below };
    files.sort();
    let mut all = Vec::new();
    let mut form = None;
    for file in files {
        let Some((answers, its_form)) = read_one(&file, &read_text(&file)?, keys, true)? else { return Ok(None) };
        if let Some(form) = form.filter(|form| *form != its_form) {
            return Err(BenchmarkError::File {
                path: file,
                expected: format!("{form}, as in the files before"),
                found: its_form.to_owned(),
            });
        }
        form = Some(its_form);
        all.extend(answers.into_iter().map(|answer| KeyedAnswer { file: Some(file.clone()), ..answer }));
    }
    Ok(form.map(|form| (all, form)))
}

/// The members of an object in order; a repeated one is kept twice, so that it is found out.
struct Members<'t>(Vec<(String, &'t RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// Texts by key.
fn texts(path: &Path, members: &[(String, &RawValue)]) -> Result<Vec<KeyedAnswer>, BenchmarkError> {
    let answer = |(row, (key, value)): (usize, &(String, &RawValue))| {
        let text: Result<String, _> = serde_json::from_str(value.get());
        match text {
            Ok(text) => Ok(KeyedAnswer { row, field: "-", key: key.clone(), text, file: None }),
            Err(_) => Err(RowPlace { path, row }.error(key, "a text", value.get().chars().take(80).collect::<String>())),
        }
    };
    (1..).zip(members).map(answer).collect()
}

/// Arrays of rows by split; splits of other samples than the benchmark's are left out.
fn splits(path: &Path, members: &[(String, &RawValue)], keys: &HashSet<&str>) -> Result<Vec<KeyedAnswer>, BenchmarkError> {
    let mut all = Vec::new();
    for (name, rows) in members {
        let mut answers = Vec::new();
        for (index, raw) in json_array(path, rows.get())?.into_iter().enumerate() {
            let place = RowPlace { path, row: index + 1 };
            let object = place.object(raw.get())?;
            answers.push(KeyedAnswer {
                row: index + 1,
                field: "idx",
                key: object.field("idx")?,
                text: object.field("prediction")?,
                file: None,
            });
        }
        let known = answers.iter().filter(|answer| keys.contains(answer.key.as_str())).count();
        if known > 0 || members.len() == 1 {
            all.append(&mut answers);
        } else {
            tracing::debug!("{}: the split {name} has no sample of the benchmark", path.display());
        }
    }
    Ok(all)
}

/// Mantis keeps the raw answer beside what it was understood as.
#[derive(Deserialize)]
struct MantisPrediction {
    raw_answer: String,
}

/// Rows of objects in a form that names the sample; `None` for rows of another form.
fn rows_of(path: &Path, rows: &[(usize, &str)], in_folder: bool) -> Result<Option<Keyed>, BenchmarkError> {
    let Some((row, first)) = rows.first().copied() else { return Ok(None) };
    let Ok(first) = (RowPlace { path, row }).object(first).map(|object| {
        let has = |names: &[&str]| names.iter().all(|name| object.has(name));
        if has(&["dataset", "sample_id", "pred_response"]) {
            Some("LLaVA-Interleave results")
        } else if has(&["id", "response"]) && in_folder {
            Some("MMMU responses")
        } else if has(&["id", "prediction"]) && object.field::<MantisPrediction>("prediction").is_ok() {
            Some("Mantis results")
        } else {
            None
        }
    }) else {
        return Ok(None);
    };
    let Some(form) = first else { return Ok(None) };
    let mut answers = Vec::with_capacity(rows.len());
    for (row, raw) in rows {
        let place = RowPlace { path, row: *row };
        let object: RowObject<'_, '_> = place.object(raw)?;
        let id = |name: &str| object.field::<Id>(name).map(|Id(id)| id);
        let (field, key, text) = match form {
            "LLaVA-Interleave results" => {
                let key = format!("{}/{}", object.field::<String>("dataset")?, id("sample_id")?);
                ("sample_id", key, object.field("pred_response")?)
            }
            "MMMU responses" => ("id", id("id")?, object.field("response")?),
            _ => ("id", id("id")?, object.field::<MantisPrediction>("prediction")?.raw_answer),
        };
        answers.push(KeyedAnswer { row: *row, field, key, text, file: None });
    }
    Ok(Some((answers, form)))
}

/// The rows of a CSV or TSV file with their numbers.
fn delimited(path: &Path, text: &str, delimiter: u8) -> Result<Vec<(usize, Vec<String>)>, BenchmarkError> {
    let text = text.trim_start_matches('\u{feff}');
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).flexible(true).from_reader(text.as_bytes());
    let row = |(index, record): (usize, Result<csv::StringRecord, csv::Error>)| match record {
        Ok(record) => Ok((index + 1, record.iter().map(str::to_owned).collect())),
        Err(error) => Err(RowPlace { path, row: index + 1 }.error("-", "a row of cells", error.to_string())),
    };
    reader.records().enumerate().map(row).collect()
}

/// Rows of cells, with a header or as NLVR2 has them. An empty cell is an empty answer.
fn table(path: &Path, rows: Vec<(usize, Vec<String>)>, keys: &HashSet<&str>) -> Result<Keyed, BenchmarkError> {
    let mut answers = Vec::new();
    let mut columns: Option<(&'static str, usize, usize)> = None;
    for (index, (row, cells)) in rows.into_iter().enumerate() {
        let place = RowPlace { path, row };
        if index == 0 && !cells.first().is_some_and(|first| keys.contains(first.as_str())) {
            let at = |name: &str| cells.iter().position(|cell| cell.trim() == name);
            let key = KEY_COLUMNS.into_iter().find_map(|name| Some((name, at(name)?)));
            match (key, at("prediction")) {
                (Some((field, key)), Some(prediction)) => columns = Some((field, key, prediction)),
                _ => {
                    let expected = format!("the columns `prediction` and one of {}", KEY_COLUMNS.join(", "));
                    return Err(place.error("-", expected, format!("{cells:?}")));
                }
            }
            continue;
        }
        let (field, key, prediction) = columns.unwrap_or(("identifier", 0, 1));
        let cell = |at: usize, name: &str| {
            cells.get(at).ok_or_else(|| place.error(name, "a cell", format!("a row of {} cells", cells.len())))
        };
        let text = match cell(prediction, "prediction") {
            Ok(text) => text.clone(),
            // A workbook's row ends with its last cell that is not empty.
            Err(_) if is_workbook(path) => String::new(),
            Err(error) => return Err(error),
        };
        answers.push(KeyedAnswer { row, field, key: cell(key, field)?.trim().to_owned(), text, file: None });
    }
    Ok((answers, if columns.is_some() { "table" } else { "NLVR2 predictions" }))
}

/// Whether a file is an Excel workbook.
pub(super) fn is_workbook(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "xlsx")
}

/// Reads the answers of an Excel workbook.
pub(super) fn read_workbook(path: &Path, keys: &HashSet<&str>) -> Result<Keyed, BenchmarkError> {
    table(path, super::spreadsheet::rows(path)?, keys)
}
