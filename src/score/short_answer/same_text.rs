//! Answers that must be the reference's text: GQA, OCR-VQA.

use super::super::python_text::strip;
use super::super::types::SampleScore;
use super::{one, points};
use crate::benchmark::Edition;

const ACCURACY: &str = "accuracy";

/// What LLaVA's `convert_gqa_for_eval.py` submits: without final periods, in lower case.
fn converted(text: &str) -> String {
    text.trim_end_matches('.').to_lowercase()
}

/// Without ASCII punctuation, in lower case (lmms-eval's `exact_match` with `ignore_case` and `ignore_punctuation`). It works on
/// arrays of NumPy, which drop final NULs and cut what becomes longer in lower case (`İ`) to the length that it had.
fn plain(text: &str) -> String {
    let text = text.trim_end_matches('\0');
    let lower: String = text.to_lowercase().chars().take(text.chars().count()).collect();
    let plain = lower.replace(|character: char| character.is_ascii_punctuation(), "");
    plain.trim_end_matches('\0').to_owned()
}

/// GQA: `eval.py` compares the converted prediction with the reference as it is.
pub(super) fn gqa(edition: Edition, answers: &[String], text: &str) -> SampleScore {
    let right = match edition {
        Edition::Official => {
            let predicted = converted(text);
            answers.contains(&predicted)
        }
        Edition::Lmms => {
            let predicted = plain(text);
            answers.iter().any(|answer| plain(answer) == predicted)
        }
    };
    one(ACCURACY, points(right), text)
}

/// VLMEvalKit `e8e78f0`, `vqa_eval.py`, `accuracy`: the same text without case and surrounding white space.
pub(super) fn exact(answers: &[String], text: &str) -> SampleScore {
    let clean = |text: &str| strip(text).to_lowercase();
    let predicted = clean(text);
    one(ACCURACY, points(answers.iter().any(|answer| clean(answer) == predicted)), text)
}
