//! Answers as the official converters write them.

use serde_json::{Map, Value, json};

use crate::benchmark::{Reference, SubmissionFormat};
use crate::score::m4c_normalise;
use crate::store::SampleRecord;

/// A question with its answer; without one where the run has none.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub id: &'a str,
    pub record: Option<&'a SampleRecord>,
}

impl Row<'_> {
    fn text(&self) -> &str {
        self.record.map_or("", |record| record.text.as_str())
    }
}

/// What a format makes of one answer. The error says what the format expects of its id.
pub(super) fn entry(format: SubmissionFormat, row: &Row<'_>) -> Result<Value, &'static str> {
    let Row { id, .. } = *row;
    Ok(match format {
        SubmissionFormat::Vqa => json!({ "question_id": number_or_text(id), "answer": processed(row) }),
        SubmissionFormat::Vizwiz => json!({ "image": id, "answer": processed(row) }),
        SubmissionFormat::Gqa => json!({ "questionId": id, "prediction": gqa(row.text()) }),
        SubmissionFormat::Docvqa => json!({ "questionId": number(id)?, "answer": row.text() }),
        SubmissionFormat::StVqa => json!({ "question_id": number(id)?, "answer": row.text() }),
        // SEED-Bench's ids are texts, some of which only look like numbers.
        SubmissionFormat::SeedBench => json!({ "question_id": id, "prediction": row.text() }),
        SubmissionFormat::Captions => json!({ "image_id": number_or_text(id), "caption": row.text() }),
        SubmissionFormat::Mmmu => json!(mmmu(row)),
        SubmissionFormat::MmVet | SubmissionFormat::Mmbench | SubmissionFormat::Scienceqa => json!(row.text()),
    })
}

/// An unanswered question has an empty answer, which the processor is not asked about.
fn processed(row: &Row<'_>) -> String {
    row.record.map_or(String::new(), |record| m4c_normalise(&record.text))
}

/// `text.rstrip('.').lower()` of `convert_gqa_for_eval.py`.
fn gqa(text: &str) -> String {
    text.trim_end_matches('.').to_lowercase()
}

/// The letter of a multiple-choice answer, as the scorer read it or as it stands alone in the text; otherwise the text, which the
/// server counts as wrong. (The official parser draws a letter there.)
fn mmmu(row: &Row<'_>) -> String {
    let Some(record) = row.record else { return String::new() };
    let open = matches!(record.reference, Reference::Answers { .. });
    let is_letter = |text: &str| text.len() == 1 && text.bytes().all(|byte| byte.is_ascii_uppercase());
    let parsed = record.parsed.as_deref().filter(|parsed| is_letter(parsed));
    let bare = record.text.trim().trim_matches(|character| "().:".contains(character));
    match (open, parsed) {
        (true, _) => record.text.clone(),
        (false, Some(letter)) => letter.to_owned(),
        (false, None) if is_letter(bare) => bare.to_owned(),
        (false, None) => record.text.clone(),
    }
}

/// `v1_0` of MM-Vet, whether the key is that or LLaVA's bare number.
pub(super) fn mm_vet_id(id: &str) -> String {
    if id.starts_with("v1_") { id.to_owned() } else { format!("v1_{id}") }
}

/// LLaVA's `eval_science_qa.py`: what was chosen, by the scorer's reading.
pub(super) fn scienceqa(rows: &[Row<'_>]) -> Result<Value, (String, &'static str)> {
    let (mut results, mut outputs, mut correct) = (Map::new(), Map::new(), 0_usize);
    for row in rows {
        let text = row.record.map_or("FAILED", |record| record.text.as_str());
        let mut place = -1;
        if let Some(record) = row.record {
            let Reference::Choice { options, answer } = &record.reference else {
                return Err((row.id.to_owned(), "a question with options"));
            };
            let letter =
                record.parsed.as_deref().filter(|parsed| parsed.chars().count() == 1).and_then(|parsed| parsed.chars().next());
            let found = letter.and_then(|letter| ('A'..='Z').take(options.len()).position(|option| option == letter));
            if let Some(found) = found {
                place = i64::try_from(found).unwrap_or(-1);
                correct += usize::from(found == *answer);
            }
        }
        results.insert(row.id.to_owned(), json!(place));
        outputs.insert(row.id.to_owned(), json!(text));
    }
    let accuracy = correct as f64 / rows.len().max(1) as f64 * 100.0;
    Ok(json!({ "acc": accuracy, "correct": correct, "count": rows.len(), "results": results, "outputs": outputs }))
}

/// An id that is an integer, as it is written.
fn number(id: &str) -> Result<i64, &'static str> {
    id.parse::<i64>().ok().filter(|number| number.to_string() == id).ok_or("an integer as its id")
}

fn number_or_text(id: &str) -> Value {
    number(id).map_or_else(|_| json!(id), |number| json!(number))
}
