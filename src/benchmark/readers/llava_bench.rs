//! LLaVA-Bench (COCO) and (In-the-Wild): questions, the reference model's answers, and what a judge is told of each image.
//!
//! The official scripts join questions and answers by position; here they are joined by question id.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::super::error::BenchmarkError;
use super::super::types::{Conversation, Reference, Sample};
use super::Context;
use super::python_repr::{display, repr};
use super::rows::{Id, RowObject, RowPlace, json_lines, read_data_file};

/// One text or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Captions {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct Instance {
    category: Value,
    bbox: Value,
}

pub(super) fn read(
    context: &mut Context<'_>,
    questions: &str,
    answers: &str,
    contexts: &str,
    rows: &[usize],
) -> Result<Vec<Sample>, BenchmarkError> {
    let mut answer_of = by_member(context, answers, "question_id", |object| object.field::<String>("text"))?;
    let context_of = by_member(context, contexts, "image", image_context)?;
    let path = context.file(questions)?;
    let text = read_data_file(&path)?;
    let lines: Vec<(usize, &str)> = json_lines(&text).collect();
    context.check_rows(&path, rows, lines.len())?;
    let mut samples: Vec<Sample> = Vec::with_capacity(lines.len());
    let mut taken: HashMap<String, usize> = HashMap::with_capacity(lines.len());
    for (row, raw) in lines {
        let place = RowPlace { path: &path, row };
        let object = place.object(raw)?;
        let Id(key) = object.field("question_id")?;
        let image: String = object.field("image")?;
        let question: String = object.field("text")?;
        if let Some(earlier) = taken.insert(key.clone(), row) {
            return Err(place.error("question_id", "each question once", format!("{key} again, first in row {earlier}")));
        }
        let answer = answer_of.remove(&key).ok_or_else(|| {
            place.error("question_id", format!("a question of {answers}"), format!("{key}, which has no answer"))
        })?;
        let told = context_of
            .get(&image)
            .cloned()
            .ok_or_else(|| place.error("image", format!("an image of {contexts}"), format!("{image:?}")))?;
        samples.push(Sample {
            images: vec![context.image(&place, "image", &image)?],
            key,
            cluster: image,
            prompt: context.spec.prompt.render(&question, &[]),
            question,
            conversation: Conversation::default(),
            reference: Reference::Judged { answer, context: Some(told), capabilities: Vec::new() },
            category: Some(object.field("category")?),
        });
    }
    match answer_of.keys().min() {
        Some(left) => Err(BenchmarkError::File {
            path: context.file(answers)?,
            expected: format!("answers to the questions of {questions}"),
            found: format!("{} more, of which one is to question {left:?}", answer_of.len()),
        }),
        None => Ok(samples),
    }
}

/// One value of each row by a member of the row, each once.
fn by_member(
    context: &Context<'_>,
    file: &str,
    member: &str,
    value: impl Fn(&RowObject<'_, '_>) -> Result<String, BenchmarkError>,
) -> Result<HashMap<String, String>, BenchmarkError> {
    let path = context.file(file)?;
    let text = read_data_file(&path)?;
    let mut found = HashMap::new();
    for (row, raw) in json_lines(&text) {
        let place = RowPlace { path: &path, row };
        let object = place.object(raw)?;
        let Id(key) = object.field(member)?;
        if found.insert(key.clone(), value(&object)?).is_some() {
            return Err(place.error(member, "each value once", format!("{key:?} again")));
        }
    }
    Ok(found)
}

/// The text between `[Context]` and `[Question]`: captions, and boxes as Python prints them where the row has any
/// (`eval_gpt_review_visual.py`), or the caption alone (`eval_gpt_review_bench.py`).
fn image_context(object: &RowObject<'_, '_>) -> Result<String, BenchmarkError> {
    let member = if object.has("captions") { "captions" } else { "caption" };
    let captions = match object.field(member)? {
        Captions::One(caption) => caption,
        Captions::Several(captions) => captions.join("\n"),
    };
    let Some(instances) = object.optional::<Vec<Instance>>("instances")? else { return Ok(captions) };
    let boxes = instances.iter().map(|Instance { category, bbox }| format!("{}: {}", display(category), repr(bbox)));
    Ok(format!("{captions}\n\n{}", boxes.collect::<Vec<_>>().join("\n")))
}
