//! VQA-RAD: one JSON array of questions about medical pictures, open-ended or closed-ended; as the data set is released, or as
//! LLaVA-Med keeps it and other medical data sets (`{"id", "image", "answer_type", "conversations": [{"value"}, {"value"}]}`).

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::super::error::BenchmarkError;
use super::super::types::{Conversation, Reference, Sample};
use super::Context;
use super::rows::{Id, RowObject, RowPlace, json_array, read_data_file};

/// Names of the turns in LLaVA-Med's files, the second as they misspell it.
const CONVERSATIONS: [&str; 2] = ["conversations", "conversatons"];
/// The mark of the image in a turn, which `model_vqa_med.py` takes out of the question.
const IMAGE_MARK: &str = "<image>";

#[derive(Deserialize)]
struct Turn {
    value: String,
}

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
        let conversation = CONVERSATIONS.into_iter().find(|name| object.has(name));
        let (id_field, image_field) = if conversation.is_some() { ("id", "image") } else { ("qid", "image_name") };
        let Id(qid) = object.field(id_field)?;
        let image: String = object.field(image_field)?;
        let (question, answer) = match conversation {
            Some(name) => turns(&place, &object, name)?,
            None => (object.field("question")?, answer(&place, &object)?),
        };
        if let Some(earlier) = taken.insert(qid.clone(), index + 1) {
            return Err(place.error(id_field, "each question once", format!("{qid} again, first in row {earlier}")));
        }
        let answer_type: String = object.field("answer_type")?;
        let open = match answer_type.trim() {
            "OPEN" => true,
            // As PathVQA has it (`run_eval_pvqa.py`).
            "CLOSED" | "yes/no" => false,
            other => return Err(place.error("answer_type", "OPEN or CLOSED", format!("{other:?}"))),
        };
        samples.push(Sample {
            conversation: Conversation::default(),
            key: qid,
            images: vec![context.image(&place, image_field, &image)?],
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

/// Question and answer of a row in LLaVA-Med's form.
fn turns(place: &RowPlace<'_>, object: &RowObject<'_, '_>, name: &str) -> Result<(String, String), BenchmarkError> {
    let turns: Vec<Turn> = object.field(name)?;
    match turns.as_slice() {
        [question, answer] => Ok((question.value.replace(IMAGE_MARK, "").trim().to_owned(), answer.value.clone())),
        _ => Err(place.error(name, "a question and its answer", format!("{} turns", turns.len()))),
    }
}
