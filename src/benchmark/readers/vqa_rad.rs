//! VQA-RAD: one JSON array of questions about medical pictures, open-ended or closed-ended.

use std::collections::HashMap;

use serde_json::Value;

use super::super::error::BenchmarkError;
use super::super::types::{Reference, Sample};
use super::Context;
use super::rows::{Id, RowObject, RowPlace, json_array, read_data_file};

pub(super) fn read(
    context: &mut Context<'_>,
    questions: &str,
    phrase_types: &[String],
    rows: &[usize],
) -> Result<Vec<Sample>, BenchmarkError> {
    let path = context.file(questions)?;
    let text = read_data_file(&path)?;
    let mut samples = Vec::new();
    let mut taken: HashMap<String, usize> = HashMap::new();
    for (index, raw) in json_array(&path, &text)?.iter().enumerate() {
        let place = RowPlace { path: &path, row: index + 1 };
        let object = place.object(raw.get())?;
        if !phrase_types.is_empty() {
            let phrase_type: String = object.field("phrase_type")?;
            if !phrase_types.iter().any(|wanted| wanted == phrase_type.trim()) {
                continue;
            }
        }
        let Id(qid) = object.field("qid")?;
        let image: String = object.field("image_name")?;
        let question: String = object.field("question")?;
        if let Some(earlier) = taken.insert(qid.clone(), index + 1) {
            return Err(place.error("qid", "each question once", format!("{qid} again, first in row {earlier}")));
        }
        let answer_type: String = object.field("answer_type")?;
        let open = match answer_type.trim() {
            "OPEN" => true,
            "CLOSED" => false,
            other => return Err(place.error("answer_type", "OPEN or CLOSED", format!("{other:?}"))),
        };
        let answer = answer(&place, &object)?;
        samples.push(Sample {
            key: qid,
            images: vec![context.image(&place, "image_name", &image)?],
            cluster: image,
            prompt: context.spec.prompt.render(&question, &[]),
            question,
            reference: Reference::OpenOrClosed { answer, open },
            category: Some(if open { "open" } else { "closed" }.to_owned()),
        });
    }
    context.check_rows(&path, rows, samples.len())?;
    Ok(samples)
}

/// The release has some answers as numbers (`"answer": 2`), which LLaVA-Med's conversion writes as Python's `str` does.
fn answer(place: &RowPlace<'_>, object: &RowObject<'_, '_>) -> Result<String, BenchmarkError> {
    match object.field("answer")? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(place.error("answer", "a text or a number", other.to_string())),
    }
}
