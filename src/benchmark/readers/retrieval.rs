//! Retrieval: images with their captions. Every image looks for its captions, every caption for its image.

use std::collections::HashMap;

use serde_json::Value;

use super::super::error::BenchmarkError;
use super::super::image::SampleImage;
use super::super::task::{CandidateSet, Query, told_apart};
use super::super::types::{Conversation, Reference, RetrievalDirection, Sample};
use super::Context;
use super::rows::{RowPlace, json_lines, read_data_file};
use super::table::pictures;
use super::texts_digest;

pub(super) fn read(
    context: &mut Context<'_>,
    captions: &str,
    rows: &[usize],
) -> Result<(Vec<Sample>, CandidateSet), BenchmarkError> {
    let path = context.file(captions)?;
    let mut set =
        CandidateSet { captions: vec![], caption_labels: vec![], images: vec![], image_labels: vec![], queries: vec![] };
    // Positions of each image's captions.
    let mut captions_of: Vec<std::ops::Range<usize>> = Vec::new();
    let mut taken: HashMap<String, usize> = HashMap::new();
    let mut add = |place: &RowPlace<'_>, image: String, file: SampleImage, captions: Vec<String>| {
        let line = place.row;
        if let Some(earlier) = taken.insert(image.clone(), line) {
            return Err(place.error("image", "each image once", format!("{image:?} again, first in row {earlier}")));
        }
        if captions.is_empty() || captions.iter().any(|caption| caption.trim().is_empty()) {
            let found = if captions.is_empty() { "no caption" } else { "an empty one" };
            return Err(place.error("captions", "at least one caption, none of them empty", found));
        }
        set.images.push(file);
        set.image_labels.push(image);
        captions_of.push(set.captions.len()..set.captions.len() + captions.len());
        set.captions.extend(captions);
        Ok(())
    };
    if captions.to_ascii_lowercase().ends_with(".parquet") {
        pictures(context.root, captions, &mut |picture| {
            let place = picture.place();
            let found = ["captions", "caption"].iter().find_map(|name| picture.columns.get(*name));
            let texts = match found {
                Some(Value::Array(texts)) => texts.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
                Some(Value::String(text)) => Some(vec![text.clone()]),
                _ => None,
            };
            let texts = texts.ok_or_else(|| place.error("captions", "a list of texts in `captions` or `caption`", "none"))?;
            add(&place, picture.name.clone(), picture.image.clone(), texts)
        })?;
    } else {
        for (line, raw) in json_lines(&read_data_file(&path)?) {
            let place = RowPlace { path: &path, row: line };
            let object = place.object(raw)?;
            let image: String = object.field("image")?;
            let texts: Vec<String> = object.field("captions")?;
            let file = context.image(&place, "image", &image)?;
            add(&place, image, file, texts)?;
        }
    }
    context.check_rows(&path, rows, set.images.len())?;
    set.caption_labels = told_apart(&set.captions);
    let pool = pool(&set);
    let mut samples = Vec::with_capacity(set.images.len() + set.captions.len());
    for (image, own) in captions_of.into_iter().enumerate() {
        let (Some(label), Some(file)) = (set.image_labels.get(image), set.images.get(image)) else { continue };
        let sample = |key: String, question: String, prompt: String, reference, direction: RetrievalDirection| Sample {
            conversation: Conversation::default(),
            key,
            cluster: label.clone(),
            images: vec![file.clone()],
            prompt,
            question,
            reference,
            category: Some(direction.as_str().to_owned()),
        };
        let direction = RetrievalDirection::ImageToText;
        let relevant = set.caption_labels.get(own.clone()).unwrap_or_default().to_vec();
        let reference = Reference::Retrieval { direction, relevant, candidates: set.captions.len() };
        samples.push(sample(format!("image/{label}"), "Which caption?".to_owned(), pool.clone(), reference, direction));
        set.queries.push(Query::Image(image));
        for caption in own {
            let direction = RetrievalDirection::TextToImage;
            let reference = Reference::Retrieval { direction, relevant: vec![label.clone()], candidates: set.images.len() };
            let question = set.captions.get(caption).cloned().unwrap_or_default();
            samples.push(sample(format!("caption/{caption}"), question.clone(), question, reference, direction));
            set.queries.push(Query::Caption(caption));
        }
    }
    Ok((samples, set))
}

/// What stands for the prompt of an image: it pins the candidates, so that two runs compare only if they agree on them.
fn pool(set: &CandidateSet) -> String {
    let digest = texts_digest(set.captions.iter().chain(&set.image_labels).map(String::as_str));
    format!("{} captions of {} images (SHA-256 {digest}…)", set.captions.len(), set.images.len())
}
