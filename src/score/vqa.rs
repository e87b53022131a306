//! VQA accuracy: the share of annotators an answer agrees with, softened so that three agreements are enough.

use std::collections::BTreeMap;

use serde_json::json;

use super::metrics::mean;
use super::python_text::strip;
use super::types::SampleScore;
use super::vqa_text::{lmms_normalise, m4c_normalise, official_clean, official_normalise};
use crate::benchmark::VqaVariant;

/// Metric name.
pub(super) const VQA_ACCURACY: &str = "vqa_accuracy";

/// The official VQA accuracy of one answer in 0..=1 and the answer as compared (GT-Vision-Lab/VQA `a013f00`).
///
/// Texts are normalised only if the annotators' answers are not all the same: ten times `yes` against `Yes` scores 0.
pub fn official_accuracy(answers: &[String], text: &str) -> (f64, String) {
    let mut answers: Vec<String> = answers.iter().map(|answer| official_clean(answer)).collect();
    let mut prediction = official_clean(text);
    let unanimous = answers.windows(2).all(|pair| matches!(pair, [first, second] if first == second));
    if !unanimous {
        for answer in &mut answers {
            *answer = official_normalise(answer);
        }
        prediction = official_normalise(&prediction);
    }
    (annotator_mean(&answers, &prediction), prediction)
}

/// The accuracy of LLaVA's `TextVQAAccuracyEvaluator` in 0..=1 and the answer as compared: both sides always go through the
/// EvalAI processor.
pub fn m4c_accuracy(answers: &[String], text: &str) -> (f64, String) {
    let answers: Vec<String> = answers.iter().map(|answer| m4c_normalise(answer)).collect();
    let prediction = m4c_normalise(text);
    (annotator_mean(&answers, &prediction), prediction)
}

/// The accuracy of lmms-eval's `vqav2_process_results` in 0..=1 and the answer as compared: the official normalisation, always on
/// both sides, with every comma between digits, also of several, deleting the punctuation.
pub fn lmms_accuracy(answers: &[String], text: &str) -> (f64, String) {
    let answers: Vec<String> = answers.iter().map(|answer| lmms_normalise(answer)).collect();
    let prediction = lmms_normalise(text);
    (exact_annotator_mean(&answers, &prediction), prediction)
}

/// [`annotator_mean`] as Python's `statistics.mean` has it: summed without rounding, then rounded once.
pub(super) fn exact_annotator_mean(answers: &[String], prediction: &str) -> f64 {
    // One third is a whole number of 2⁻⁵⁴, and so are two thirds and one.
    const SCALE: f64 = (1_u64 << 54) as f64;
    let matches = answers.iter().filter(|answer| *answer == prediction).count();
    let share = |others: usize| ((others as f64 / 3.0).min(1.0) * SCALE) as u128;
    let sum = matches as u128 * share(matches.saturating_sub(1)) + (answers.len() - matches) as u128 * share(matches);
    let count = answers.len() as u128;
    if count == 0 {
        return 0.0;
    }
    // 64 more binary digits than a result has, the last of them standing for whatever remains: converted with one rounding.
    let wide = sum << 64;
    let quotient = (wide / count) | u128::from(!wide.is_multiple_of(count));
    quotient as f64 / SCALE / (1_u128 << 64) as f64
}

/// The mean over annotators of min(1, matches among the others / 3), summed in file order as the sources do, so that the
/// result is theirs to the last bit.
pub(super) fn annotator_mean(answers: &[String], prediction: &str) -> f64 {
    if answers.is_empty() {
        return 0.0;
    }
    let matches = answers.iter().filter(|answer| *answer == prediction).count();
    let sum: f64 = answers
        .iter()
        .map(|answer| {
            let others = matches - usize::from(answer == prediction);
            (others as f64 / 3.0).min(1.0)
        })
        .sum();
    sum / answers.len() as f64
}

/// Scores one answer.
pub(super) fn score(variant: VqaVariant, answers: &[String], text: &str) -> SampleScore {
    let (value, compared) = match variant {
        VqaVariant::Official => official_accuracy(answers, text),
        VqaVariant::M4c => m4c_accuracy(answers, text),
        VqaVariant::Lmms => lmms_accuracy(answers, text),
    };
    SampleScore {
        parsed: (!strip(text).is_empty()).then_some(compared),
        value: Some(value),
        contributions: BTreeMap::from([(VQA_ACCURACY.to_owned(), mean(value))]),
        detail: json!({}),
    }
}
