//! TextVQA 0.5.1.

use std::collections::HashMap;

use super::super::error::BenchmarkError;
use super::super::types::{Conversation, Reference, Sample};
use super::Context;
use super::rows::{Id, RowPlace, json_member, read_data_file};

/// Annotators of a question; both accuracies are defined for ten.
pub(super) const ANNOTATORS: usize = 10;

pub(super) fn read(
    context: &mut Context<'_>,
    annotations: &str,
    ocr: Option<&str>,
    rows: &[usize],
) -> Result<Vec<Sample>, BenchmarkError> {
    let wants_ocr = context.spec.prompt.wants_ocr_tokens();
    let ocr_by_image = match ocr {
        Some(name) if wants_ocr => Some(read_ocr(context, name)?),
        _ => None,
    };
    let path = context.file(annotations)?;
    let text = read_data_file(&path)?;
    let raw_rows = json_member(&path, &text, "data")?;
    context.check_rows(&path, rows, raw_rows.len())?;
    let mut samples = Vec::with_capacity(raw_rows.len());
    let mut taken: HashMap<String, usize> = HashMap::with_capacity(raw_rows.len());
    for (index, raw) in raw_rows.iter().enumerate() {
        let place = RowPlace { path: &path, row: index + 1 };
        let object = place.object(raw.get())?;
        let Id(key) = object.field("question_id")?;
        let image_id: Id = object.field("image_id")?;
        let question: String = object.field("question")?;
        let answers: Vec<String> = object.field("answers")?;
        if let Some(earlier) = taken.insert(key.clone(), index + 1) {
            return Err(place.error("question_id", "each question once", format!("{key} again, first in row {earlier}")));
        }
        if answers.len() != ANNOTATORS {
            return Err(place.error("answers", format!("{ANNOTATORS} answers"), format!("{}", answers.len())));
        }
        let tokens = match &ocr_by_image {
            _ if !wants_ocr => Vec::new(),
            Some(by_image) => by_image
                .get(&image_id)
                .cloned()
                .ok_or_else(|| place.error("image_id", format!("an image of {}", ocr.unwrap_or_default()), image_id.0.clone()))?,
            // The official file has no tokens of its own; releases that carry them need no second file.
            None => object.field("ocr_tokens")?,
        };
        samples.push(Sample {
            images: vec![context.image(&place, "image_id", &image_id.0)?],
            key,
            cluster: image_id.0,
            prompt: context.spec.prompt.render(&question, &tokens),
            conversation: Conversation::default(),
            question,
            reference: Reference::Answers { answers },
            category: None,
        });
    }
    Ok(samples)
}

/// OCR tokens by image.
fn read_ocr(context: &Context<'_>, name: &str) -> Result<HashMap<Id, Vec<String>>, BenchmarkError> {
    let path = context.file(name)?;
    let text = read_data_file(&path)?;
    let mut by_image = HashMap::new();
    for (index, raw) in json_member(&path, &text, "data")?.iter().enumerate() {
        let place = RowPlace { path: &path, row: index + 1 };
        let object = place.object(raw.get())?;
        by_image.insert(object.field("image_id")?, object.field("ocr_tokens")?);
    }
    Ok(by_image)
}
