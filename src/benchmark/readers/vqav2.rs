//! VQAv2: questions and annotations, joined by question id.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde::Deserialize;

use super::super::error::BenchmarkError;
use super::super::types::{Conversation, Reference, Sample};
use super::rows::{Id, RowPlace, json_member, read_data_file};
use super::{Context, textvqa::ANNOTATORS};

/// What is kept of an annotation until its question comes.
struct Annotation {
    row: usize,
    image_id: Id,
    answer_type: String,
    answers: Vec<AnnotatorAnswer>,
}

#[derive(Deserialize)]
struct AnnotatorAnswer {
    answer: String,
    answer_id: Id,
}

pub(super) fn read(
    context: &mut Context<'_>,
    questions: &str,
    annotations: &str,
    rows: &[usize],
) -> Result<Vec<Sample>, BenchmarkError> {
    let annotations_path = context.file(annotations)?;
    let text = read_data_file(&annotations_path)?;
    let raw_rows = json_member(&annotations_path, &text, "annotations")?;
    context.check_rows(&annotations_path, rows, raw_rows.len())?;
    let mut by_question: HashMap<String, Annotation> = HashMap::with_capacity(raw_rows.len());
    for (index, raw) in raw_rows.iter().enumerate() {
        let place = RowPlace { path: &annotations_path, row: index + 1 };
        let object = place.object(raw.get())?;
        let Id(question) = object.field("question_id")?;
        let annotation = Annotation {
            row: index + 1,
            image_id: object.field("image_id")?,
            answer_type: object.field("answer_type")?,
            answers: object.field("answers")?,
        };
        check_annotators(&place, &annotation.answers)?;
        match by_question.entry(question) {
            Entry::Occupied(earlier) => {
                let found = format!("{} again, first in row {}", earlier.key(), earlier.get().row);
                return Err(place.error("question_id", "each question once", found));
            }
            Entry::Vacant(slot) => slot.insert(annotation),
        };
    }

    let questions_path = context.file(questions)?;
    let text = read_data_file(&questions_path)?;
    let raw_rows = json_member(&questions_path, &text, "questions")?;
    context.check_rows(&questions_path, rows, raw_rows.len())?;
    let mut samples = Vec::with_capacity(raw_rows.len());
    let mut taken: HashMap<String, usize> = HashMap::with_capacity(raw_rows.len());
    for (index, raw) in raw_rows.iter().enumerate() {
        let place = RowPlace { path: &questions_path, row: index + 1 };
        let object = place.object(raw.get())?;
        let Id(key) = object.field("question_id")?;
        let image_id: Id = object.field("image_id")?;
        let question: String = object.field("question")?;
        if let Some(earlier) = taken.insert(key.clone(), index + 1) {
            return Err(place.error("question_id", "each question once", format!("{key} again, first in row {earlier}")));
        }
        let Some(annotation) = by_question.remove(&key) else {
            let expected = format!("a question that {} annotates", annotations_path.display());
            return Err(place.error("question_id", expected, key));
        };
        if annotation.image_id != image_id {
            let expected = format!("image {} as in {}", annotation.image_id.0, annotations_path.display());
            return Err(place.error("image_id", expected, image_id.0));
        }
        samples.push(Sample {
            images: vec![context.image(&place, "image_id", &image_id.0)?],
            key,
            cluster: image_id.0,
            prompt: context.spec.prompt.render(&question, &[]),
            conversation: Conversation::default(),
            question,
            reference: Reference::Answers { answers: annotation.answers.into_iter().map(|answer| answer.answer).collect() },
            category: Some(annotation.answer_type),
        });
    }
    if let Some((question, annotation)) = by_question.iter().min_by_key(|(_, annotation)| annotation.row) {
        let place = RowPlace { path: &annotations_path, row: annotation.row };
        let expected = format!("a question of {}", questions_path.display());
        return Err(place.error("question_id", expected, question.clone()));
    }
    Ok(samples)
}

/// The official accuracy compares each annotator with the nine others, told apart by `answer_id`.
fn check_annotators(place: &RowPlace<'_>, answers: &[AnnotatorAnswer]) -> Result<(), BenchmarkError> {
    if answers.len() != ANNOTATORS {
        return Err(place.error("answers", format!("{ANNOTATORS} answers"), format!("{}", answers.len())));
    }
    for (index, answer) in answers.iter().enumerate() {
        if answers.iter().take(index).any(|earlier| earlier.answer_id == answer.answer_id) {
            let found = format!("{} twice", answer.answer_id.0);
            return Err(place.error("answers.answer_id", "each annotator once", found));
        }
    }
    Ok(())
}
