//! ChartQA's relaxed accuracy.

use super::super::python_text::float;
use super::super::types::SampleScore;
use super::{one, points};

/// How far a number may be off, relative to the reference.
const MAX_RELATIVE_CHANGE: f64 = 0.05;

/// Whether a prediction is right, by `relaxed_correctness` of google-research/pix2struct `945f27e` (`metrics.py`), which Qwen-VL,
/// lmms-eval and VLMEvalKit share: two numbers within 5 % of the reference, which must not be zero, or else the same text in
/// any case. A number with a final `%` is a hundredth of it, so `10%` is not `10`; `1,000` is no number; a year is right within
/// 5 % of itself.
pub fn relaxed_correctness(target: &str, prediction: &str) -> bool {
    match (number(prediction), number(target)) {
        (Some(predicted), Some(expected)) if expected != 0.0 => {
            (predicted - expected).abs() / expected.abs() <= MAX_RELATIVE_CHANGE
        }
        _ => prediction.to_lowercase() == target.to_lowercase(),
    }
}

fn number(text: &str) -> Option<f64> {
    if text.ends_with('%') { float(text.trim_end_matches('%')).map(|value| value / 100.0) } else { float(text) }
}

/// Scores one answer: right with any of the references.
pub(super) fn score(answers: &[String], text: &str) -> SampleScore {
    one("relaxed_accuracy", points(answers.iter().any(|answer| relaxed_correctness(answer, text))), text)
}
