//! LLaVA's own conversation format: rows of `id`, `image` and `conversations`, as JSON or JSON Lines.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::error::BenchmarkError;
use super::super::types::{Conversation, Exchange, IMAGE_MARK, Reference, Sample};
use super::rows::{Id, RowObject, RowPlace, json_array, json_lines, read_data_file};
use super::{Context, textvqa::ANNOTATORS};

/// A turn as the file has it.
#[derive(Deserialize)]
struct Message {
    from: Speaker,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Speaker {
    Human,
    Gpt,
}

/// `image` is one name or a list of names.
#[derive(Deserialize)]
#[serde(untagged)]
enum Images {
    One(String),
    Several(Vec<String>),
}

pub(super) fn read(context: &mut Context<'_>, questions: &str, rows: &[usize]) -> Result<Vec<Sample>, BenchmarkError> {
    let path = context.file(questions)?;
    let text = read_data_file(&path)?;
    let raw_rows: Vec<(usize, &str)> = if text.trim_start().starts_with('[') {
        json_array(&path, &text)?.into_iter().map(RawValue::get).enumerate().map(|(index, row)| (index + 1, row)).collect()
    } else {
        json_lines(&text).collect()
    };
    context.check_rows(&path, rows, raw_rows.len())?;
    let mut samples = Vec::with_capacity(raw_rows.len());
    let mut taken: HashMap<String, usize> = HashMap::with_capacity(raw_rows.len());
    for (row, raw) in raw_rows {
        let place = RowPlace { path: &path, row };
        let sample = sample(context, &place, &place.object(raw)?)?;
        if let Some(earlier) = taken.insert(sample.key.clone(), row) {
            return Err(place.error("id", "each conversation once", format!("{} again, first in row {earlier}", sample.key)));
        }
        samples.push(sample);
    }
    Ok(samples)
}

fn sample(context: &mut Context<'_>, place: &RowPlace<'_>, object: &RowObject<'_, '_>) -> Result<Sample, BenchmarkError> {
    let Id(key) = object.field("id")?;
    let names = match object.optional("image")? {
        None => Vec::new(),
        Some(Images::One(name)) => vec![name],
        Some(Images::Several(names)) => names,
    };
    let (earlier, last) = exchanges(place, object.field("conversations")?)?;
    let marks = |text: &str| text.matches(IMAGE_MARK).count();
    let found = marks(&last.question) + earlier.iter().map(|exchange| marks(&exchange.question)).sum::<usize>();
    if found > 0 && found != names.len() {
        let expected = format!("{IMAGE_MARK} once for each of the {} images, or nowhere", names.len());
        return Err(place.error("conversations", expected, format!("{found} times")));
    }
    if let Some(answer) = earlier.iter().map(|exchange| &exchange.answer).chain([&last.answer]).find(|text| marks(text) > 0) {
        return Err(place.error("conversations", format!("no {IMAGE_MARK} in an answer"), format!("{answer:?}")));
    }
    // Questions about the same pictures are not independent; without pictures a row stands for itself.
    let cluster = if names.is_empty() { key.clone() } else { names.join(" ") };
    Ok(Sample {
        images: names.iter().map(|name| context.image(place, "image", name)).collect::<Result<_, _>>()?,
        key,
        cluster,
        prompt: context.spec.prompt.render(&last.question, &[]),
        conversation: Conversation { earlier, images_at_marks: found > 0 },
        question: last.question,
        // There is one answer, which counts as that of every annotator.
        reference: Reference::Answers { answers: vec![last.answer; ANNOTATORS] },
        category: object.optional("category")?,
    })
}

/// The turns in pairs: the earlier ones, and the question with its reference.
fn exchanges(place: &RowPlace<'_>, messages: Vec<Message>) -> Result<(Vec<Exchange>, Exchange), BenchmarkError> {
    let mut exchanges = Vec::with_capacity(messages.len() / 2);
    let mut messages = messages.into_iter();
    while let Some(question) = messages.next() {
        let answer = messages.next().filter(|answer| question.from == Speaker::Human && answer.from == Speaker::Gpt);
        let Some(answer) = answer else {
            let expected = "turns of human and gpt one after another, the last of gpt";
            return Err(place.error("conversations", expected, format!("otherwise from turn {}", 2 * exchanges.len() + 1)));
        };
        exchanges.push(Exchange { question: question.value, answer: answer.value });
    }
    let last = exchanges.pop().ok_or_else(|| place.error("conversations", "a question and its answer", "no turn"))?;
    Ok((exchanges, last))
}
