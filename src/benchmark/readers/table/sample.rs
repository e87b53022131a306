//! From a row to a sample.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::super::super::columns::{ColumnPath, ColumnTemplate, Found, missing, plain_text};
use super::super::super::error::BenchmarkError;
use super::super::super::image::{EmbeddedImage, SampleImage};
use super::super::super::prompt::Asked;
use super::super::super::table_spec::{TableReference, TableSpec};
use super::super::super::types::{Conversation, Reference, Sample};
use super::super::Context;
use super::source::{ImageCell, Row};
use super::{reference, text_list};

/// Makes samples of rows.
pub(super) struct SampleMaker<'s> {
    spec: &'s TableSpec,
    /// Whether images are measured.
    measure: bool,
    /// Embedded images by identity: the first place of each stands for all.
    images: HashMap<Arc<str>, Arc<EmbeddedImage>>,
}

/// An image of a row, and its size if it was asked for.
type Measured = (SampleImage, Option<(u32, u32)>);

impl<'s> SampleMaker<'s> {
    /// Makes samples as a specification says.
    pub fn new(spec: &'s TableSpec) -> Self {
        let measure = matches!(spec.reference, TableReference::Region { size: None, .. });
        Self { spec, measure, images: HashMap::new() }
    }

    /// The sample of a row, `category` being that of the row's file.
    pub fn sample(&mut self, context: &mut Context<'_>, category: Option<&str>, row: &Row) -> Result<Sample, BenchmarkError> {
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
