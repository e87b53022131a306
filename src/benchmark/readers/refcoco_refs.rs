//! RefCOCO, RefCOCO+ and RefCOCOg as released: a pickle of references, and a JSON file with the boxes and the sizes of the images.

use std::collections::HashMap;
use std::path::Path;

use super::super::error::BenchmarkError;
use super::super::spec::{RefcocoFiles, RegionTask};
use super::super::types::{PixelBox, Sample};
use super::Context;
use super::refcoco::{Region, ask, region};
use super::rows::{Id, RowPlace, json_member, read_data_file};
use crate::guard::pickle::{Pickle, Value};

/// A box and the size of its image in pixels.
type Instance = (PixelBox, u32, u32);

/// Samples in the order of the splits and, within a split, of the file. Sentences in the pickle's `sent` form, which is
/// MiniGPT-4's, too; keys are those of MiniGPT-4's files if these keep that order.
pub(super) fn read(context: &mut Context<'_>, files: &RefcocoFiles, task: RegionTask) -> Result<Vec<Sample>, BenchmarkError> {
    let path = context.file(&files.refs)?;
    if !path.exists() {
        return Err(BenchmarkError::File {
            path,
            expected: "a data file of the benchmark".to_owned(),
            found: "no such file".to_owned(),
        });
    }
    let pickle = Pickle::read(&path).map_err(|error| BenchmarkError::Pickle(Box::new(error)))?;
    let instances = instances(&context.file(&files.instances)?)?;
    let Value::List(references) = pickle.root() else {
        let (expected, found) = ("a list of references".to_owned(), pickle.root().kind().to_owned());
        return Err(BenchmarkError::File { path, expected, found });
    };
    let mut by_split: HashMap<&str, Vec<Region>> = HashMap::new();
    for (index, &reference) in references.iter().enumerate() {
        let row = Row { place: RowPlace { path: &path, row: index + 1 }, pickle: &pickle, value: pickle.value(reference) };
        let split = row.text("split")?;
        let Some(split) = files.keep_splits.iter().find(|kept| *kept == split) else { continue };
        let region = row.region(split, &instances)?;
        by_split.entry(split).or_default().push(region);
    }
    let mut samples = Vec::new();
    for split in &files.keep_splits {
        let regions = by_split.remove(split.as_str()).unwrap_or_default();
        if regions.is_empty() {
            let (expected, found) = (format!("references of the split {split:?}"), "none".to_owned());
            return Err(BenchmarkError::File { path, expected, found });
        }
        ask(context, &path, &regions, task, &mut samples)?;
    }
    if task == RegionTask::Find {
        context.check_rows(&path, &files.rows, samples.len())?;
    }
    Ok(samples)
}

/// Boxes by the number of their annotation: `{"images": [{"id", "width", "height"}], "annotations": [{"id", "image_id", "bbox"}]}`.
fn instances(path: &Path) -> Result<HashMap<String, Instance>, BenchmarkError> {
    let text = read_data_file(path)?;
    let mut sizes: HashMap<String, (u32, u32)> = HashMap::new();
    for (index, raw) in json_member(path, &text, "images")?.iter().enumerate() {
        let place = RowPlace { path, row: index + 1 };
        let object = place.object(raw.get())?;
        let Id(id) = object.field("id")?;
        sizes.insert(id, (object.field("width")?, object.field("height")?));
    }
    let mut instances = HashMap::new();
    for (index, raw) in json_member(path, &text, "annotations")?.iter().enumerate() {
        let place = RowPlace { path, row: index + 1 };
        let object = place.object(raw.get())?;
        let (Id(id), Id(image)) = (object.field("id")?, object.field("image_id")?);
        let &(width, height) =
            sizes.get(&image).ok_or_else(|| place.error("image_id", "one of the file's `images`", format!("{image:?}")))?;
        let region = region(&place, "bbox", object.field("bbox")?, width, height)?;
        instances.insert(id, (region, width, height));
    }
    Ok(instances)
}

/// A reference in the pickle.
struct Row<'a> {
    place: RowPlace<'a>,
    pickle: &'a Pickle,
    value: &'a Value,
}

impl<'a> Row<'a> {
    fn region(&self, split: &str, instances: &HashMap<String, Instance>) -> Result<Region, BenchmarkError> {
        let annotation = match self.member("ann_id")? {
            Value::Integer(id) => id.to_string(),
            other => return Err(self.wrong("ann_id", "an integer", other)),
        };
        let &(region, width, height) = instances
            .get(&annotation)
            .ok_or_else(|| self.place.error("ann_id", "an annotation of the file of instances", annotation.clone()))?;
        let file = self.text("file_name")?;
        let img_id = file.strip_suffix(".jpg").unwrap_or(file).to_owned();
        let sentences = match self.member("sentences")? {
            Value::List(sentences) if !sentences.is_empty() => sentences,
            Value::List(_) => return Err(self.place.error("sentences", "at least one sentence", "none")),
            other => return Err(self.wrong("sentences", "a list", other)),
        };
        let sentences = sentences.iter().map(|&sentence| match self.pickle.member(self.pickle.value(sentence), "sent") {
            Some(Value::Text(text)) => Ok(text.clone()),
            Some(other) => Err(self.wrong("sentences.sent", "a text", other)),
            None => Err(self.place.error("sentences.sent", "a text", "a sentence without it")),
        });
        let sentences = sentences.collect::<Result<_, _>>()?;
        Ok(Region { row: self.place.row, split: split.to_owned(), img_id, sentences, region, width, height })
    }

    fn member(&self, name: &str) -> Result<&'a Value, BenchmarkError> {
        let found = || format!("{} without it", self.value.kind());
        self.pickle.member(self.value, name).ok_or_else(|| self.place.error(name, "a value", found()))
    }

    fn text(&self, name: &str) -> Result<&'a str, BenchmarkError> {
        match self.member(name)? {
            Value::Text(text) => Ok(text),
            other => Err(self.wrong(name, "a text", other)),
        }
    }

    fn wrong(&self, field: &str, expected: &str, found: &Value) -> BenchmarkError {
        self.place.error(field, expected, found.kind())
    }
}
