//! Open-ended and closed-ended medical questions as LLaVA-Med evaluates them (`llava/eval/run_eval.py` and
//! `eval_metrics/evaluate_metrics.py` of its version 1.0 at `b9a98a7`, where wrong closed answers are counted).

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::metrics::mean;
use super::python_text::{is_space, strip};
use super::types::SampleScore;
use super::vqa_text::med_normalise;

/// The mean of the two numbers that LLaVA-Med reports for a data set: recall of open-ended answers and accuracy of
/// closed-ended ones.
pub(super) const OPEN_CLOSED_MEAN: &str = "open_closed_mean";
/// LLaVA-Med's `recall`, its headline for open-ended questions.
pub(super) const OPEN_RECALL: &str = "open_recall";
/// LLaVA-Med's `yes/no accuracy`.
pub(super) const CLOSED_ACCURACY: &str = "closed_accuracy";
/// LLaVA-Med's `precision`.
pub(super) const OPEN_PRECISION: &str = "open_precision";
/// LLaVA-Med's `f1 score`.
pub(super) const OPEN_F1: &str = "open_f1";
/// LLaVA-Med's `exact match score`, which is no exact match: distinct words of the reference that the answer has, over the
/// words of the answer.
pub(super) const OPEN_EXACT_MATCH: &str = "open_exact_match";

/// Word overlap of an open-ended answer with its reference, each in 0..=1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WordOverlap {
    /// Share of the reference's words that the answer has. Words are counted as often as the *answer* has them, so a repeated
    /// right word counts again, as in the source.
    pub recall: f64,
    /// Share of the answer's words that the reference has.
    pub precision: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
    /// Distinct words of the reference that the answer has, over the words of the answer.
    pub exact_match: f64,
}

/// Words with their counts.
fn words(text: &str) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for word in text.to_lowercase().split(is_space).filter(|word| !word.is_empty()) {
        *counts.entry(word.to_owned()).or_default() += 1;
    }
    counts
}

/// What LLaVA-Med's evaluation does to both texts before it looks at them.
fn prepared(text: &str) -> String {
    med_normalise(&text.to_lowercase())
}

/// The word overlap of an open-ended answer, by `calculate_f1score` and `calculate_exactmatch`.
pub fn word_overlap(answer: &str, reference: &str) -> WordOverlap {
    // The metrics normalise once more what `evaluate` has normalised, and normalising twice is not always normalising once.
    let answer = words(&med_normalise(&prepared(answer)));
    let reference = words(&med_normalise(&prepared(reference)));
    let answered: usize = answer.values().sum();
    let distinct = reference.keys().filter(|word| answer.contains_key(*word)).count();
    let exact_match = if answered == 0 { 0.0 } else { distinct as f64 / answered as f64 };
    let true_positive: usize = answer.iter().filter(|(word, _)| reference.contains_key(*word)).map(|(_, count)| count).sum();
    if true_positive == 0 {
        return WordOverlap { exact_match, ..WordOverlap::default() };
    }
    let missed: usize = reference.iter().filter(|(word, _)| !answer.contains_key(*word)).map(|(_, count)| count).sum();
    let precision = true_positive as f64 / answered as f64;
    let recall = true_positive as f64 / (true_positive + missed) as f64;
    WordOverlap { recall, precision, f1: 2.0 * precision * recall / (precision + recall), exact_match }
}

/// Whether a closed-ended answer counts as right: it has `yes` or `no` anywhere (`normal` has), and the reference anywhere. So
/// an answer that names one of two choices in other words is wrong, and `no` is right for `not seen`.
pub fn closed_is_right(answer: &str, reference: &str) -> bool {
    let answer = prepared(answer);
    says_yes_or_no(&answer) && answer.contains(&prepared(reference))
}

fn says_yes_or_no(prepared: &str) -> bool {
    prepared.contains("yes") || prepared.contains("no")
}

/// Scores one answer. `parsed` is the normalised answer; `None` for an empty one, and for a closed-ended one without `yes` or
/// `no`, which the rule counts as wrong.
pub(super) fn score(reference: &str, open: bool, text: &str) -> SampleScore {
    let answer = prepared(text);
    if open {
        let overlap = word_overlap(text, reference);
        let contributions = [
            (OPEN_CLOSED_MEAN, overlap.recall),
            (OPEN_RECALL, overlap.recall),
            (OPEN_PRECISION, overlap.precision),
            (OPEN_F1, overlap.f1),
            (OPEN_EXACT_MATCH, overlap.exact_match),
        ];
        return SampleScore {
            parsed: (!strip(&answer).is_empty()).then_some(answer),
            value: Some(overlap.recall),
            contributions: contributions.into_iter().map(|(name, value)| (name.to_owned(), mean(value))).collect(),
            detail: json!({ "question": "open" }),
        };
    }
    let value = f64::from(u8::from(closed_is_right(text, reference)));
    SampleScore {
        parsed: says_yes_or_no(&answer).then_some(answer),
        value: Some(value),
        contributions: BTreeMap::from([(OPEN_CLOSED_MEAN.to_owned(), mean(value)), (CLOSED_ACCURACY.to_owned(), mean(value))]),
        detail: json!({ "question": "closed" }),
    }
}
