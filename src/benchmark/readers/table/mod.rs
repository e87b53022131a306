//! Tables: rows of named columns, in JSON, JSON Lines, CSV, TSV or parquet files, made into samples as the benchmark's TOML file
//! says.
//!
//! Rows are read one after another, and images that lie in the files are left there: a sample only knows where its image is. A
//! row that cannot be made into a sample is reported and left out; a file that is not what it should be ends the reading.

mod delimited;
mod fetch;
mod files;
mod join;
mod json;
mod parquet;
mod reference;
mod source;
mod text_images;
mod text_list;

pub use fetch::ImageStore;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::super::columns::{ColumnPath, ColumnTemplate, Found, missing, plain_text};
use super::super::error::BenchmarkError;
use super::super::image::{EmbeddedImage, SampleImage};
use super::super::prompt::Asked;
use super::super::table_spec::{TableReference, TableSpec};
use super::super::types::{Conversation, Reference, Sample};
use super::rows::RowPlace;
use super::{BrokenRow, Context, check_rows};
use crate::guard::files::GuardError;
use join::Joined;
use source::{FileKind, ImageCell, Row, Wanted};

/// A short cell may be the index of an earlier row that has the picture (VLMEvalKit).
const LONGEST_INDEX_BYTES: usize = 64;

/// Opens a data file; the message of one that does not exist says what it is.
fn open(path: &Path) -> Result<File, BenchmarkError> {
    match File::open(path) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(BenchmarkError::File {
            path: path.to_path_buf(),
            expected: "a data file of the benchmark".to_owned(),
            found: "no such file".to_owned(),
        }),
        Err(source) => Err(GuardError::Read { path: path.to_path_buf(), source }.into()),
    }
}

/// The files below a folder that a name or pattern stands for; none if there is none.
pub(in crate::benchmark) fn found_files(root: &Path, pattern: &str) -> Result<Vec<PathBuf>, BenchmarkError> {
    files::found(root, pattern)
}

/// Whether two names are of files of the same kind.
pub(in crate::benchmark) fn same_kind(one: &str, other: &str) -> bool {
    let kind = |name: &str| FileKind::of(Path::new(name)).ok();
    kind(one).is_some() && kind(one) == kind(other)
}

/// A row of a parquet file that is about one picture.
pub(super) struct PictureRow {
    pub file: Arc<Path>,
    /// From 1.
    pub number: usize,
    pub columns: Map<String, Value>,
    /// What the picture is called: its path, `filename`, or its row.
    pub name: String,
    pub image: SampleImage,
}

impl PictureRow {
    /// For errors.
    pub fn place(&self) -> RowPlace<'_> {
        RowPlace { path: &self.file, row: self.number }
    }
}

/// Reads rows with the column `image` from parquet files.
pub(super) fn pictures(
    root: &Path,
    pattern: &str,
    each: &mut dyn FnMut(PictureRow) -> Result<(), BenchmarkError>,
) -> Result<(), BenchmarkError> {
    const IMAGE: &str = "image";
    let wanted =
        Wanted { required: vec![IMAGE.to_owned()], image_columns: vec![IMAGE.to_owned()], hash: false, ..Wanted::default() };
    let mut number = 0_u64;
    for file in files::matching(root, pattern)? {
        source::stream(&file, None, &wanted, &mut |row| {
            let row = row?;
            number += 1;
            let Some(cell) = row.cells_of(IMAGE).first().cloned().flatten() else {
                return Err(row.place().error(IMAGE, "a picture", "nothing"));
            };
            let path = row.columns.get(IMAGE).and_then(|image| image.get("path")).and_then(Value::as_str);
            let named = path.or_else(|| row.columns.get("filename").and_then(Value::as_str)).filter(|name| !name.is_empty());
            let name = named.map_or_else(|| format!("row {number}"), str::to_owned);
            let image = EmbeddedImage {
                identity: format!("{}#{}", cell.file.display(), cell.row).into(),
                file: cell.file,
                row: cell.row,
                offset_bytes: cell.offset_bytes,
                column: cell.column,
                index: cell.index,
            };
            each(PictureRow {
                file: row.file,
                number: row.number,
                columns: row.columns,
                name,
                image: SampleImage::Embedded(Arc::new(image)),
            })
        })?;
    }
    Ok(())
}

/// How many rows are looked at for the columns of a file whose rows need not have the same.
const ROWS_FOR_COLUMNS: usize = 1000;

/// The columns of a file; of JSON the members of its first rows.
pub(in crate::benchmark) fn column_names(path: &Path) -> Result<Vec<String>, BenchmarkError> {
    if FileKind::of(path)? == FileKind::Parquet {
        return parquet::column_names(path);
    }
    let mut names: Vec<String> = Vec::new();
    let mut rows = 0;
    let enough = || BenchmarkError::File { path: path.to_path_buf(), expected: String::new(), found: String::new() };
    let read = source::stream(path, None, &Wanted::default(), &mut |row| {
        for name in row.iter().flat_map(|row| row.columns.keys()) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        rows += 1;
        if rows < ROWS_FOR_COLUMNS { Ok(()) } else { Err(enough()) }
    });
    match read {
        Err(_) if rows >= ROWS_FOR_COLUMNS => Ok(names),
        Err(error) => Err(error),
        Ok(()) => Ok(names),
    }
}

/// Reads all samples of a table.
pub(super) fn read(context: &mut Context<'_>, spec: &TableSpec) -> Result<Vec<Sample>, BenchmarkError> {
    let mut samples = Vec::new();
    let mut taken: HashMap<String, usize> = HashMap::new();
    let mut broken = Vec::new();
    for_each(context, spec, &mut |sample| {
        match sample {
            Ok((sample, place_row, file)) => match taken.get(&sample.key) {
                Some(earlier) => broken.push(BrokenRow {
                    message: BenchmarkError::Row {
                        path: file.to_path_buf(),
                        row: place_row,
                        field: spec.key.text().to_owned(),
                        expected: "each sample once".to_owned(),
                        found: format!("{:?} again, first in row {earlier}", sample.key),
                    }
                    .to_string(),
                }),
                None => {
                    taken.insert(sample.key.clone(), place_row);
                    samples.push(sample);
                }
            },
            Err(row) => broken.push(row),
        }
        Ok(())
    })?;
    context.broken.append(&mut broken);
    Ok(samples)
}

/// Reads samples one after another and keeps none; gives the number of broken rows. Whether keys are unique is not looked at.
pub(super) fn visit(context: &mut Context<'_>, spec: &TableSpec, each: &mut dyn FnMut(Sample)) -> Result<usize, BenchmarkError> {
    let mut broken = 0;
    for_each(context, spec, &mut |sample| {
        match sample {
            Ok((sample, ..)) => each(sample),
            Err(_) => broken += 1,
        }
        Ok(())
    })?;
    Ok(broken)
}

/// What is told of a row that was taken: the sample with the number of its row and its file, or why there is none.
type Told<'t> = dyn FnMut(Result<(Sample, usize, Arc<Path>), BrokenRow>) -> Result<(), BenchmarkError> + 't;

/// Reads samples one after another. Nothing is kept but one entry for each different embedded image.
fn for_each(context: &mut Context<'_>, spec: &TableSpec, told: &mut Told<'_>) -> Result<(), BenchmarkError> {
    let root = context.root;
    let wanted = Wanted {
        columns: None,
        required: Vec::new(),
        image_columns: spec.image_columns().into_iter().map(str::to_owned).collect(),
        hash: spec.image_id.is_none(),
        measure: matches!(spec.reference, TableReference::Region { size: None, .. }),
    };
    let joins = spec.joins.iter().map(|join| Joined::read(join, root, &wanted)).collect::<Result<Vec<_>, _>>()?;
    let in_file = |names: Vec<&str>| names.into_iter().filter(|name| !name.starts_with('@')).map(str::to_owned).collect();
    let wanted = Wanted {
        columns: Some(in_file(spec.columns())),
        // With a join, any column may come from there.
        required: if joins.is_empty() && !spec.absent_is_empty { in_file(spec.required_columns()) } else { Vec::new() },
        ..wanted
    };
    let mut maker = SampleMaker { spec, measure: wanted.measure, images: HashMap::new() };
    let mut by_index: HashMap<String, Vec<source::ImageCells>> = HashMap::new();
    let (mut total, mut read) = (0, 0_u64);
    for files in &spec.files {
        let mut taken = 0;
        let mut last = None;
        for file in files::matching(root, &files.pattern)? {
            source::stream(&file, spec.member.as_deref(), &wanted, &mut |row| {
                // Counted over all files, so that it is the same however the rows are divided.
                read += 1;
                let rows = row.and_then(|mut row| {
                    row.columns.insert("@row".to_owned(), Value::from(read));
                    if let Some(category) = &files.category {
                        row.columns.insert("@category".to_owned(), Value::from(category.as_str()));
                    }
                    let row = with_earlier_images(spec, &mut by_index, row);
                    expand(spec, &joins, row)
                });
                let rows = match rows {
                    Ok(rows) => rows,
                    Err(error) => {
                        taken += 1;
                        return told(Err(BrokenRow::new(error)?));
                    }
                };
                for row in rows {
                    taken += 1;
                    match maker.sample(context, files.category.as_deref(), &row) {
                        Ok(sample) => told(Ok((sample, row.number, Arc::clone(&row.file))))?,
                        Err(error) => told(Err(BrokenRow::new(error)?))?,
                    }
                }
                Ok(())
            })?;
            last = Some(file);
        }
        total += taken;
        if let Some(file) = last.filter(|_| !files.rows.is_empty()) {
            check_rows(&file, &files.rows, taken)?;
        }
    }
    let first = spec.files.first().map_or_else(|| root.to_path_buf(), |files| root.join(&files.pattern));
    check_rows(&first, &spec.rows, total)
}

/// A row whose image cells name an earlier row by its `index` gets the pictures of that row (VLMEvalKit).
fn with_earlier_images(spec: &TableSpec, by_index: &mut HashMap<String, Vec<source::ImageCells>>, mut row: Row) -> Row {
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
fn expand(spec: &TableSpec, joins: &[Joined<'_>], mut row: Row) -> Result<Vec<Row>, BenchmarkError> {
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

/// Makes samples of rows.
struct SampleMaker<'s> {
    spec: &'s TableSpec,
    /// Whether images are measured.
    measure: bool,
    /// Embedded images by identity: the first place of each stands for all.
    images: HashMap<Arc<str>, Arc<EmbeddedImage>>,
}

/// An image of a row, and its size if it was asked for.
type Measured = (SampleImage, Option<(u32, u32)>);

impl SampleMaker<'_> {
    fn sample(&mut self, context: &mut Context<'_>, category: Option<&str>, row: &Row) -> Result<Sample, BenchmarkError> {
        let spec = self.spec;
        let place = row.place();
        let text = |template: &ColumnTemplate| {
            template.fill(&row.columns).map_err(|(field, found)| place.error(&field, "a text or a number", found))
        };
        let needed = |template: &ColumnTemplate| {
            text(template)?.ok_or_else(|| place.error(template.text(), "a text or a number", "nothing"))
        };
        let optional = |template: &Option<ColumnTemplate>| match template {
            Some(template) => text(template),
            None => Ok(None),
        };
        let key = needed(&spec.key)?;
        let question = needed(&spec.question)?;
        let images = self.images(context, row)?;
        let size = images.first().and_then(|(_, size)| *size);
        let reference = reference::reference(&spec.reference, row, size)?;
        let images: Vec<SampleImage> = images.into_iter().map(|(image, _)| image).collect();
        let category = match optional(&spec.category)? {
            Some(category) => Some(category),
            None => category.map(str::to_owned),
        };
        let cluster = match &spec.cluster {
            Some(cluster) => needed(cluster)?,
            None if images.is_empty() => key.clone(),
            None => images.iter().map(|image| name_of(image, context.root)).collect::<Vec<_>>().join("|"),
        };
        let ocr_tokens = match &spec.ocr_tokens {
            Some(path) if context.spec.prompt.wants_ocr_tokens() => tokens(row, path)?,
            _ => Vec::new(),
        };
        let options = match &reference {
            Reference::Choice { options, .. } => options.as_slice(),
            _ => &[],
        };
        let hint = optional(&spec.context)?.filter(|hint| !hint.trim().is_empty());
        let asked = context.spec.prompt.ask(&Asked {
            question: &question,
            context: hint.as_deref(),
            options,
            ocr_tokens: &ocr_tokens,
            images: images.len(),
        });
        let images_at_marks = asked.image_order.is_some();
        let images = match asked.image_order {
            Some(order) => order.into_iter().filter_map(|image| images.get(image).cloned()).collect(),
            None => images,
        };
        Ok(Sample {
            key,
            cluster,
            images,
            question,
            prompt: asked.text,
            conversation: Conversation { earlier: Vec::new(), images_at_marks },
            reference,
            category,
        })
    }

    /// The images of a row in order. What is null or empty is skipped.
    fn images(&mut self, context: &mut Context<'_>, row: &Row) -> Result<Vec<Measured>, BenchmarkError> {
        let spec = self.spec;
        let mut images = Vec::new();
        for template in &spec.images {
            let column = template.whole().filter(|path| path.is_plain() || path.is_each_of_column());
            let Some(path) = column else {
                let name = template.fill(&row.columns);
                let name = name.map_err(|(field, found)| row.place().error(&field, "the name of an image", found))?;
                if let Some(name) = name {
                    images.push(self.file(context, row, template.text(), &name)?);
                }
                continue;
            };
            let cells = row.cells_of(path.column());
            let names = file_names(row, path)?;
            for place in 0..cells.len().max(names.len()) {
                match (cells.get(place).cloned().flatten(), names.get(place).cloned().flatten()) {
                    (Some(cell), _) => images.push(self.embedded(row, &cell, images.len())?),
                    (None, Some(name)) => images.push(self.file(context, row, path.text(), &name)?),
                    (None, None) => {}
                }
            }
        }
        Ok(images)
    }

    fn file(&self, context: &mut Context<'_>, row: &Row, field: &str, name: &str) -> Result<Measured, BenchmarkError> {
        let path = context.image_file(&row.place(), field, name)?;
        let size = if self.measure { Some(measure_file(row, field, &path)?) } else { None };
        Ok((SampleImage::File(path), size))
    }

    fn embedded(&mut self, row: &Row, cell: &ImageCell, place: usize) -> Result<Measured, BenchmarkError> {
        let identity: Arc<str> = match (&self.spec.image_id, &cell.sha256) {
            (Some(template), _) => {
                let id = template.fill(&row.columns);
                let id = id.map_err(|(field, found)| row.place().error(&field, "an image id", found))?;
                let id = id.ok_or_else(|| row.place().error(template.text(), "an image id", "nothing"))?;
                // The id says which images a row has; the second of them is another picture.
                if place == 0 { id.into() } else { format!("{id}#{place}").into() }
            }
            (None, Some(sha256)) => Arc::clone(sha256),
            (None, None) => format!("{}#{}/{}/{:?}", cell.file.display(), cell.row, cell.column, cell.index).into(),
        };
        let image = self.images.entry(identity).or_insert_with_key(|identity| {
            Arc::new(EmbeddedImage {
                file: Arc::clone(&cell.file),
                row: cell.row,
                offset_bytes: cell.offset_bytes,
                column: Arc::clone(&cell.column),
                index: cell.index,
                identity: Arc::clone(identity),
            })
        });
        Ok((SampleImage::Embedded(Arc::clone(image)), cell.size))
    }
}

/// What stands for an image in a cluster: its name, or the beginning of its hash.
fn name_of(image: &SampleImage, root: &Path) -> String {
    match image {
        SampleImage::File(_) => image.text(root),
        SampleImage::Embedded(image) => image.identity.chars().take(32).collect(),
    }
}

/// The names of image files in a column: a text, a struct with `path`, a list of either, or the text of a list.
fn file_names(row: &Row, path: &ColumnPath) -> Result<Vec<Option<String>>, BenchmarkError> {
    let wrong = |found: String| row.place().error(path.text(), "an image or the name of one", found);
    let name = |value: &Value| match value {
        Value::Null => Ok(None),
        Value::Object(members) => match members.get("path") {
            Some(Value::String(name)) => Ok(Some(name.clone())),
            Some(Value::Null) | None => Ok(None),
            Some(_) => Err(wrong("a path that is no text".to_owned())),
        },
        value => plain_text(value).map_err(&wrong),
    };
    let Some(value) = row.columns.get(path.column()) else {
        return Err(wrong(missing(path, &row.columns)));
    };
    let names: Vec<Option<String>> = match value {
        Value::Array(elements) => elements.iter().map(name).collect::<Result<_, _>>()?,
        Value::String(text) => match text_list::parse_texts(text) {
            Some(names) => names.into_iter().map(Some).collect(),
            None => vec![Some(text.clone())],
        },
        value => vec![name(value)?],
    };
    Ok(names.into_iter().map(|name| name.filter(|name| !name.trim().is_empty())).collect())
}

fn measure_file(row: &Row, field: &str, path: &Path) -> Result<(u32, u32), BenchmarkError> {
    let reader = image::ImageReader::open(path).and_then(|reader| reader.with_guessed_format());
    let size =
        reader.map_err(|error| error.to_string()).and_then(|reader| reader.into_dimensions().map_err(|error| error.to_string()));
    size.map_err(|error| row.place().error(field, "an image to measure", format!("{}: {error}", path.display())))
}

/// A list of OCR tokens.
fn tokens(row: &Row, path: &ColumnPath) -> Result<Vec<String>, BenchmarkError> {
    let wrong = |found: String| row.place().error(path.text(), "a list of texts", found);
    let text = |value: &Value| plain_text(value).map_err(&wrong).map(Option::unwrap_or_default);
    match path.find(&row.columns) {
        None => Err(wrong(missing(path, &row.columns))),
        Some(Found::Many(values)) => values.into_iter().map(text).collect(),
        Some(Found::One(Value::Array(values))) => values.iter().map(text).collect(),
        Some(Found::One(Value::Null)) => Ok(Vec::new()),
        Some(Found::One(Value::String(tokens))) => match text_list::parse(tokens) {
            Some(values) => values.iter().map(text).collect(),
            None => Err(wrong(format!("{tokens:?}"))),
        },
        Some(Found::One(_)) => Err(wrong("something else".to_owned())),
    }
}
