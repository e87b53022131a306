//! Images with reference captions, in the files of COCO, NoCaps, Flickr30k and TextCaps, and as Karpathy split them. One sample
//! an image.

use std::collections::HashMap;
use std::path::Path;

use serde_json::value::RawValue;

use super::super::error::BenchmarkError;
use super::super::spec::{CaptionFiles, CaptionLayout};
use super::super::types::{Conversation, Reference, Sample};
use super::Context;
use super::rows::{Id, RowPlace, has_member, json_member, read_data_file};

/// An image with what was said of it.
struct Captioned {
    /// Row of the image, from 1.
    row: usize,
    /// Its number or name: key and cluster.
    id: String,
    /// What the pattern of the image's file name holds.
    image: String,
    category: Option<String>,
    captions: Vec<String>,
}

pub(super) fn read(context: &mut Context<'_>, files: &CaptionFiles) -> Result<Vec<Sample>, BenchmarkError> {
    let path = context.file(&files.captions)?;
    let text = read_data_file(&path)?;
    let images = match files.layout {
        CaptionLayout::Coco => coco(&path, &text, files.withheld)?,
        CaptionLayout::Karpathy => karpathy(&path, &text, &files.keep_splits)?,
        CaptionLayout::Textcaps => textcaps(&path, &text, files.withheld)?,
        CaptionLayout::Flickr30kToken => flickr30k_token(&path, &text)?,
    };
    context.check_rows(&path, &files.rows, images.len())?;
    let prompt = context.spec.prompt.render(&files.question, &[]);
    let mut taken: HashMap<&str, usize> = HashMap::with_capacity(images.len());
    let mut samples = Vec::with_capacity(images.len());
    for image in &images {
        let place = RowPlace { path: &path, row: image.row };
        if let Some(earlier) = taken.insert(&image.id, image.row) {
            return Err(place.error("-", "each image once", format!("{:?} again, first in row {earlier}", image.id)));
        }
        let reference = match image.captions.as_slice() {
            [] if files.withheld => Reference::Withheld,
            [] => return Err(place.error("-", "at least one caption of each image", format!("none of {:?}", image.id))),
            _ if files.withheld => return Err(place.error("-", "no captions, which are withheld", "some")),
            captions => Reference::Answers { answers: captions.to_vec() },
        };
        samples.push(Sample {
            key: image.id.clone(),
            cluster: image.id.clone(),
            images: vec![context.image(&place, "image", &image.image)?],
            question: files.question.clone(),
            prompt: prompt.clone(),
            conversation: Conversation::default(),
            reference,
            category: image.category.clone(),
        });
    }
    Ok(samples)
}

/// `{"images": [{"id", "file_name", "domain"?}], "annotations": [{"image_id", "caption"}]}`: COCO, and NoCaps, whose images have a
/// domain, which is the category. Without annotations where captions are withheld.
fn coco(path: &Path, text: &str, withheld: bool) -> Result<Vec<Captioned>, BenchmarkError> {
    let mut images = Vec::new();
    let mut by_id: HashMap<String, usize> = HashMap::new();
    for (index, raw) in json_member(path, text, "images")?.iter().enumerate() {
        let place = RowPlace { path, row: index + 1 };
        let object = place.object(raw.get())?;
        let Id(id) = object.field("id")?;
        by_id.entry(id.clone()).or_insert(index);
        let (image, category) = (object.field("file_name")?, object.optional("domain")?);
        images.push(Captioned { row: index + 1, id, image, category, captions: vec![] });
    }
    let annotations: Vec<&RawValue> =
        if withheld && !has_member(path, text, "annotations")? { vec![] } else { json_member(path, text, "annotations")? };
    for (index, raw) in annotations.iter().enumerate() {
        let place = RowPlace { path, row: index + 1 };
        let object = place.object(raw.get())?;
        let Id(id) = object.field("image_id")?;
        let image = by_id.get(&id).and_then(|&image| images.get_mut(image));
        let image = image.ok_or_else(|| place.error("image_id", "one of the file's `images`", format!("{id:?}")))?;
        image.captions.push(object.field("caption")?);
    }
    Ok(images)
}

/// `{"images": [{"filename", "cocoid"?, "split", "sentences": [{"raw"}]}]}`. COCO's images go by their number, as in COCO's own
/// file; others by their file name.
fn karpathy(path: &Path, text: &str, splits: &[String]) -> Result<Vec<Captioned>, BenchmarkError> {
    let mut images = Vec::new();
    for (index, raw) in json_member(path, text, "images")?.iter().enumerate() {
        let place = RowPlace { path, row: index + 1 };
        let object = place.object(raw.get())?;
        let split: String = object.field("split")?;
        if !splits.is_empty() && !splits.contains(&split) {
            continue;
        }
        let image: String = object.field("filename")?;
        let id = object.optional("cocoid")?.map_or_else(|| image.clone(), |Id(id)| id);
        let sentences: Vec<Box<RawValue>> = object.field("sentences")?;
        let captions = sentences.iter().map(|sentence| place.object(sentence.get())?.field("raw")).collect::<Result<_, _>>()?;
        images.push(Captioned { row: index + 1, id, image, category: None, captions });
    }
    Ok(images)
}

/// `{"data": [{"image_id", "caption_str"}]}`: a row a caption; without captions in the test split.
fn textcaps(path: &Path, text: &str, withheld: bool) -> Result<Vec<Captioned>, BenchmarkError> {
    let mut images: Vec<Captioned> = Vec::new();
    let mut by_id: HashMap<String, usize> = HashMap::new();
    for (index, raw) in json_member(path, text, "data")?.iter().enumerate() {
        let place = RowPlace { path, row: index + 1 };
        let object = place.object(raw.get())?;
        let Id(id) = object.field("image_id")?;
        let number = *by_id.entry(id.clone()).or_insert(images.len());
        if number == images.len() {
            images.push(Captioned { row: index + 1, image: id.clone(), id, category: None, captions: vec![] });
        }
        if withheld && !object.has("caption_str") {
            continue;
        }
        if let Some(image) = images.get_mut(number) {
            image.captions.push(object.field("caption_str")?);
        }
    }
    Ok(images)
}

/// Lines of an image's file name, `#`, the number of the caption, a tab and the caption.
fn flickr30k_token(path: &Path, text: &str) -> Result<Vec<Captioned>, BenchmarkError> {
    let mut images: Vec<Captioned> = Vec::new();
    let mut by_id: HashMap<String, usize> = HashMap::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = RowPlace { path, row: index + 1 };
        let parts = line.split_once('\t').and_then(|(name, caption)| {
            let (image, number) = name.rsplit_once('#')?;
            number.parse::<u32>().is_ok().then_some((image, caption))
        });
        let Some((image, caption)) = parts else {
            let short: String = line.chars().take(80).collect();
            return Err(place.error("-", "<image>#<number>, a tab and a caption", format!("{short:?}")));
        };
        let number = *by_id.entry(image.to_owned()).or_insert(images.len());
        if number == images.len() {
            let (image, id) = (image.to_owned(), image.to_owned());
            images.push(Captioned { row: index + 1, image, id, category: None, captions: vec![] });
        }
        if let Some(image) = images.get_mut(number) {
            image.captions.push(caption.trim().to_owned());
        }
    }
    Ok(images)
}
