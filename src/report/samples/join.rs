//! Samples with the answers of all packages, joined by key.

use std::collections::HashMap;

use crate::compare::FlipSide;
use crate::guard::escape;
use crate::store::SampleRecord;

use super::super::format;
use super::super::types::RunSamples;
use super::super::view::BenchmarkView;
use super::{Answer, Card, Generation, IMAGES_SHOWN, Mark, Prompt, texts};

const KEY_LIMIT: usize = 400;
const QUESTION_LIMIT: usize = 600;
const PROMPT_LIMIT: usize = 1200;
/// Token ids shown of an answer.
const TOKENS_SHOWN: usize = 32;

/// Every sample of a benchmark with the answers of all its packages, in the order of the first run that has it.
pub(super) fn joined(index: usize, benchmark: &BenchmarkView<'_>, samples: &[RunSamples<'_>]) -> Vec<Card> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut clusters: HashMap<&str, usize> = HashMap::new();
    let mut cards: Vec<Card> = Vec::new();
    for run in &benchmark.runs {
        let data_root = &run.run.header.benchmark.data_root;
        for record in samples.iter().filter(|samples| samples.run == run.index).flat_map(|samples| samples.records) {
            let place = *places.entry(record.key.as_str()).or_insert_with(|| {
                let next = clusters.len();
                let cluster = *clusters.entry(record.cluster.as_str()).or_insert(next);
                cards.push(card(index, record, data_root, cluster));
                cards.len() - 1
            });
            let Some(card) = cards.get_mut(place) else { continue };
            // A key twice in one run is not for the report to judge; its first record counts.
            if card.answers.iter().all(|known| known.package != run.package) {
                card.answers.push(answer(record, run.package, &card.question));
            }
        }
    }
    for card in &mut cards {
        let Some(base) = card.answers.first().and_then(|base| base.score) else { continue };
        let others = || card.answers.iter().skip(1).filter_map(|other| other.score);
        (card.broken, card.fixed) = (others().any(|score| score < base), others().any(|score| score > base));
    }
    cards
}

fn card(benchmark: usize, record: &SampleRecord, data_root: &str, cluster: usize) -> Card {
    let (reference, region, size) = texts::reference(&record.reference);
    Card {
        benchmark,
        key: escape::shorten(&record.key, KEY_LIMIT),
        category: record.category.as_ref().map(|category| escape::shorten(category, 200)),
        images: record.images.iter().take(IMAGES_SHOWN).cloned().collect(),
        further_images: record.images.len().saturating_sub(IMAGES_SHOWN),
        question: escape::shorten(&record.question, QUESTION_LIMIT),
        reference: Some(reference),
        region,
        size,
        answers: Vec::new(),
        broken: false,
        fixed: false,
        data_root: data_root.to_owned(),
        cluster,
    }
}

fn answer(record: &SampleRecord, package: usize, question: &str) -> Answer {
    let ranking = texts::ranking(record);
    let note = match (&ranking, texts::judge(record)) {
        (Some(ranking), Some(judge)) => Some(format!("{ranking}; {judge}")),
        (ranking, judge) => judge.or_else(|| ranking.clone()),
    };
    let asked = record.prompt_tokens > 0 || !record.token_ids.is_empty() || record.timings.ttft_ms > 0.0;
    let generation = (ranking.is_none() && asked).then(|| Generation {
        tokens: record.token_ids.len(),
        token_ids: record.token_ids.iter().take(TOKENS_SHOWN).copied().collect(),
        stop_reason: escape::shorten(&record.stop_reason, 200),
        prompt_tokens: record.prompt_tokens,
        log_probability: record.log_probability,
        ttft_ms: record.timings.ttft_ms,
        tpot_ms: record.timings.tpot_ms,
        group: record.timings.group,
    });
    let found = |name: &&str| texts::corners(record.detail.get(name)?);
    Answer {
        package,
        mark: Mark::of(record.score, record.parsed.is_some(), record.failure.is_some()),
        text: texts::answer(&record.text),
        parsed: understood(&record.text, record.parsed.as_deref()),
        score: record.score,
        failure: record
            .failure
            .as_ref()
            .map(|failure| escape::shorten(&format!("{}: {}", failure.kind, failure.message), texts::ANSWER_LIMIT)),
        predicted: ["predicted_box", "prediction_box", "predicted"].iter().find_map(found),
        iou: record.detail.get("iou").and_then(serde_json::Value::as_f64).filter(|iou| iou.is_finite()),
        prompt: prompt(&record.prompt, question),
        generation,
        note,
    }
}

/// The prompt, without the question where it holds it word for word.
fn prompt(prompt: &str, question: &str) -> Prompt {
    if prompt.is_empty() {
        return Prompt::Unknown;
    }
    match prompt.split_once(question) {
        Some((before, after)) if !question.is_empty() && before.len() + after.len() <= PROMPT_LIMIT => {
            Prompt::Around(before.to_owned(), after.to_owned())
        }
        _ => Prompt::Whole(escape::shorten(prompt, PROMPT_LIMIT)),
    }
}

/// What the comparison itself knows of samples, where the records are not at hand.
pub(super) fn from_flips(index: usize, benchmark: &BenchmarkView<'_>) -> Vec<Card> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut cards: Vec<Card> = Vec::new();
    for pair in &benchmark.pairs {
        for flip in &pair.pair.flips {
            let place = *places.entry(flip.key.as_str()).or_insert_with(|| {
                cards.push(Card {
                    benchmark: index,
                    key: escape::shorten(&flip.key, KEY_LIMIT),
                    category: None,
                    images: Vec::new(),
                    further_images: 0,
                    question: escape::shorten(&flip.question, QUESTION_LIMIT),
                    reference: None,
                    region: None,
                    size: None,
                    answers: vec![flip_side(&flip.base, pair.base)],
                    broken: false,
                    fixed: false,
                    data_root: String::new(),
                    cluster: cards.len(),
                });
                cards.len() - 1
            });
            let Some(card) = cards.get_mut(place) else { continue };
            if card.answers.iter().all(|known| known.package != pair.new) {
                card.answers.push(flip_side(&flip.new, pair.new));
            }
            match format::compare_scores(flip.new.score, flip.base.score) {
                std::cmp::Ordering::Less => card.broken = true,
                std::cmp::Ordering::Greater => card.fixed = true,
                std::cmp::Ordering::Equal => {}
            }
        }
    }
    cards
}

fn flip_side(side: &FlipSide, package: usize) -> Answer {
    Answer {
        package,
        mark: Mark::of(side.score, side.parsed.is_some(), false),
        text: texts::answer(&side.text),
        parsed: understood(&side.text, side.parsed.as_deref()),
        score: side.score,
        failure: None,
        predicted: None,
        iou: None,
        prompt: Prompt::Unknown,
        generation: None,
        note: None,
    }
}

/// What was understood, where that is not just what was said: other letters and digits, capitals aside.
fn understood(text: &str, parsed: Option<&str>) -> Option<String> {
    let bare = |said: &str| said.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>();
    let parsed = parsed.filter(|parsed| bare(parsed) != bare(text))?;
    Some(escape::shorten(parsed, texts::ANSWER_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_kept_without_its_question() {
        let around = |before: &str, after: &str| Prompt::Around(before.to_owned(), after.to_owned());
        assert_eq!(prompt("USER: <image>\nWhat? ASSISTANT:", "What?"), around("USER: <image>\n", " ASSISTANT:"));
        assert_eq!(prompt("USER: other ASSISTANT:", "What?"), Prompt::Whole("USER: other ASSISTANT:".to_owned()));
        assert_eq!(prompt("USER:", ""), Prompt::Whole("USER:".to_owned()));
        assert_eq!(prompt("", "What?"), Prompt::Unknown);
        let long = format!("{}What?", "x".repeat(PROMPT_LIMIT + 1));
        assert!(matches!(prompt(&long, "What?"), Prompt::Whole(text) if text.chars().count() == PROMPT_LIMIT));
    }
}
