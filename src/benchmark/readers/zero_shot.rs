//! Zero-shot classification: pictures with their classes, class names, and templates, as CLIP_benchmark has them.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::super::error::BenchmarkError;
use super::super::image::SampleImage;
use super::super::pattern::ClassTemplate;
use super::super::spec::DataFormat;
use super::super::task::ClassSet;
use super::super::types::{Conversation, Reference, Sample};
use super::Context;
use super::rows::{RowPlace, json_lines, read_data_file};
use super::table::pictures;
use super::texts_digest;

/// A row, before its class is looked up.
struct Row {
    /// Row or line of the file, from 1.
    number: usize,
    image: String,
    /// The picture, where it lies in the data file.
    picture: Option<SampleImage>,
    label: Option<String>,
    class_index: Option<usize>,
}

pub(super) fn read(context: &mut Context<'_>) -> Result<(Vec<Sample>, ClassSet), BenchmarkError> {
    let DataFormat::ZeroShot { labels, class_names, templates, set, template_set, rows } = &context.spec.data.format else {
        return Ok((Vec::new(), ClassSet::new(Vec::new(), Vec::new())));
    };
    let classes = class_set(context, class_names, templates, set.as_deref(), template_set.as_deref().or(set.as_deref()))?;
    let path = context.file(labels)?;
    let name = labels.to_ascii_lowercase();
    let found = if name.ends_with(".parquet") {
        parquet_rows(context.root, labels)?
    } else if name.ends_with(".csv") {
        csv_rows(&path, &read_data_file(&path)?)?
    } else {
        json_rows(&path, &read_data_file(&path)?)?
    };
    context.check_rows(&path, rows, found.len())?;
    let by_name = by_name(&classes);
    let prompt = prompt(&classes);
    let mut samples = Vec::with_capacity(found.len());
    let mut taken: HashMap<String, usize> = HashMap::with_capacity(found.len());
    for row in found {
        let place = RowPlace { path: &path, row: row.number };
        if let Some(earlier) = taken.insert(row.image.clone(), row.number) {
            return Err(place.error("image", "each image once", format!("{:?} again, first in row {earlier}", row.image)));
        }
        let class = class_of(&place, &row, &classes, &by_name, class_names)?;
        let label = classes.labels.get(class).cloned().unwrap_or_default();
        samples.push(Sample {
            conversation: Conversation::default(),
            images: vec![match row.picture {
                Some(picture) => picture,
                None => context.image(&place, "image", &row.image)?,
            }],
            key: row.image.clone(),
            cluster: row.image,
            question: format!("Which of {} classes?", classes.labels.len()),
            prompt: prompt.clone(),
            reference: Reference::Class { label: label.clone(), classes: classes.labels.len() },
            category: Some(label),
        });
    }
    Ok((samples, classes))
}

/// Class names and templates, each a list or a member of an object of lists.
fn class_set(
    context: &Context<'_>,
    class_names: &str,
    templates: &str,
    set: Option<&str>,
    template_set: Option<&str>,
) -> Result<ClassSet, BenchmarkError> {
    let names = texts(&context.file(class_names)?, "class names", set)?;
    let path = context.file(templates)?;
    let mut parsed = Vec::new();
    for (index, text) in texts(&path, "templates", template_set)?.iter().enumerate() {
        let template = ClassTemplate::parse(text).map_err(|message| {
            let place = RowPlace { path: &path, row: index + 1 };
            place.error(template_set.unwrap_or("-"), "a text with {c}", message)
        })?;
        parsed.push(template);
    }
    Ok(ClassSet::new(names, parsed))
}

/// A list of texts, which must not be empty.
fn texts(path: &Path, what: &str, member: Option<&str>) -> Result<Vec<String>, BenchmarkError> {
    let wrong = |expected: String, found: String| BenchmarkError::File { path: path.to_path_buf(), expected, found };
    let text = read_data_file(path)?;
    let root: Value = serde_json::from_str(&text).map_err(|error| wrong("JSON".to_owned(), error.to_string()))?;
    let list = match (member, &root) {
        (None, Value::Array(list)) => list,
        (None, Value::Object(sets)) => {
            let sets: Vec<&String> = sets.keys().take(12).collect();
            return Err(wrong(
                format!("a list of {what}, or one of several picked by `set` in the benchmark's TOML file"),
                format!("an object with {sets:?}"),
            ));
        }
        (Some(member), Value::Object(sets)) => match sets.get(member) {
            Some(Value::Array(list)) => list,
            Some(_) => return Err(wrong(format!("a list of {what} under {member:?}"), "something else".to_owned())),
            None => {
                let sets: Vec<&String> = sets.keys().take(12).collect();
                return Err(wrong(format!("{what} under {member:?}"), format!("only {sets:?} and others")));
            }
        },
        (Some(member), _) => return Err(wrong(format!("an object with {member:?}"), "no object".to_owned())),
        (None, _) => return Err(wrong(format!("a list of {what}"), "something else".to_owned())),
    };
    let texts: Option<Vec<String>> = list.iter().map(|text| text.as_str().map(str::to_owned)).collect();
    match texts {
        Some(texts) if !texts.is_empty() && texts.iter().all(|text| !text.trim().is_empty()) => Ok(texts),
        Some(_) => Err(wrong(format!("at least one of the {what}, and no empty text"), format!("{} texts", list.len()))),
        None => Err(wrong(format!("{what} that are texts"), "something else among them".to_owned())),
    }
}

/// Classes by name; `None` for a name that stands more than once.
fn by_name(classes: &ClassSet) -> HashMap<&str, Option<usize>> {
    let mut by_name: HashMap<&str, Option<usize>> = HashMap::new();
    for (index, name) in classes.names.iter().enumerate() {
        by_name.entry(name).and_modify(|known| *known = None).or_insert(Some(index));
    }
    by_name
}

fn class_of(
    place: &RowPlace<'_>,
    row: &Row,
    classes: &ClassSet,
    by_name: &HashMap<&str, Option<usize>>,
    class_names: &str,
) -> Result<usize, BenchmarkError> {
    match (&row.label, row.class_index) {
        (Some(label), None) => match by_name.get(label.as_str()) {
            Some(Some(index)) => Ok(*index),
            Some(None) => Err(place.error(
                "label",
                "a name that only one class has (or `class_index`)",
                format!("{label:?}, more than once"),
            )),
            None => Err(place.error("label", format!("one of the class names of {class_names}"), format!("{label:?}"))),
        },
        (None, Some(index)) if index < classes.labels.len() => Ok(index),
        (None, Some(index)) => {
            Err(place.error("class_index", format!("0 to {}", classes.labels.len().saturating_sub(1)), index.to_string()))
        }
        (Some(_), Some(_)) => Err(place.error("label", "either `label` or `class_index`", "both")),
        (None, None) => Err(place.error("label", "either `label` or `class_index`", "neither")),
    }
}

fn json_rows(path: &Path, text: &str) -> Result<Vec<Row>, BenchmarkError> {
    let read = |(line, raw): (usize, &str)| {
        let place = RowPlace { path, row: line };
        let object = place.object(raw)?;
        Ok(Row {
            number: line,
            image: object.field("image")?,
            picture: None,
            label: object.optional("label")?,
            class_index: object.optional("class_index")?,
        })
    };
    json_lines(text).map(read).collect()
}

/// Rows of pictures with `label`, a class name or the number of a class from 0.
fn parquet_rows(root: &Path, pattern: &str) -> Result<Vec<Row>, BenchmarkError> {
    let mut rows = Vec::new();
    pictures(root, pattern, &mut |picture| {
        let place = picture.place();
        let class = picture.columns.get("label").or_else(|| picture.columns.get("class_index"));
        let (label, class_index) = match class {
            Some(Value::String(label)) => (Some(label.clone()), None),
            Some(Value::Number(number)) => {
                let index = number.as_u64().and_then(|index| usize::try_from(index).ok());
                (None, Some(index.ok_or_else(|| place.error("label", "the number of a class from 0", number.to_string()))?))
            }
            _ => return Err(place.error("label", "a class name or the number of a class from 0", "neither")),
        };
        rows.push(Row { number: picture.number, image: picture.name, picture: Some(picture.image), label, class_index });
        Ok(())
    })?;
    Ok(rows)
}

fn csv_rows(path: &Path, text: &str) -> Result<Vec<Row>, BenchmarkError> {
    let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
    let wrong = |row: usize, error: csv::Error| RowPlace { path, row }.error("-", "a CSV row", error.to_string());
    let header = reader.headers().map_err(|error| wrong(1, error))?.clone();
    let column = |name: &str| header.iter().position(|column| column.trim() == name);
    let (image, label, class_index) = (column("image"), column("label"), column("class_index"));
    let Some(image) = image.filter(|_| label.is_some() || class_index.is_some()) else {
        let found = format!("{:?}", header.iter().collect::<Vec<_>>());
        return Err(RowPlace { path, row: 1 }.error("-", "a header with `image` and `label` or `class_index`", found));
    };
    let mut rows = Vec::new();
    for (index, record) in reader.records().enumerate() {
        // The header is row 1.
        let number = index + 2;
        let record = record.map_err(|error| wrong(number, error))?;
        let cell = |column: Option<usize>| column.and_then(|column| record.get(column)).filter(|cell| !cell.is_empty());
        let place = RowPlace { path, row: number };
        let class_index = match cell(class_index) {
            None => None,
            Some(cell) => {
                let number =
                    cell.trim().parse().map_err(|_| place.error("class_index", "a whole number", format!("{cell:?}")))?;
                Some(number)
            }
        };
        let Some(image) = cell(Some(image)) else { return Err(place.error("image", "a file name", "nothing")) };
        rows.push(Row { number, image: image.to_owned(), picture: None, label: cell(label).map(str::to_owned), class_index });
    }
    Ok(rows)
}

/// What stands for the prompt of a sample: it pins class names and templates, so that two runs compare only if both agree.
fn prompt(classes: &ClassSet) -> String {
    let templates = classes.templates.iter().map(ClassTemplate::text);
    let digest = texts_digest(classes.names.iter().map(String::as_str).chain(templates));
    let first = classes.templates.first().map(ClassTemplate::text).unwrap_or_default();
    format!("{} classes × {} templates, first {first:?} (SHA-256 {digest}…)", classes.names.len(), classes.templates.len())
}
