//! OCRBench: the reference must stand somewhere in the prediction (Yuliang-Liu/MultimodalOCR `794c36d`,
//! `OCRBench/scripts/LLaVA1_5.py`).

use std::collections::BTreeMap;

use serde_json::json;

use super::super::metrics::mean;
use super::super::python_text::strip;
use super::super::types::SampleScore;
use super::points;
use crate::benchmark::Edition;

/// Kinds of questions whose references are compared without spaces but with case. All rows of this type are of the data set
/// HME100k, which is what the script asks for, and no others are.
const FORMULAE: &str = "Handwritten Mathematical Expression Recognition";
const FINAL_SCORE: &str = "final_score";

/// The metric of a kind of question.
fn metric_of(category: &str) -> Option<&'static str> {
    Some(match category {
        "Regular Text Recognition"
        | "Irregular Text Recognition"
        | "Artistic Text Recognition"
        | "Handwriting Recognition"
        | "Digit String Recognition"
        | "Non-Semantic Text Recognition" => "text_recognition",
        "Scene Text-centric VQA" => "scene_text_centric_vqa",
        "Doc-oriented VQA" => "doc_oriented_vqa",
        "Key Information Extraction" => "key_information_extraction",
        FORMULAE => "handwritten_expression_recognition",
        _ => return None,
    })
}

/// The number of questions that a metric counts in the benchmark, which is its best score. On a part of the questions the
/// metric is what the whole would give at the same rate.
pub(super) fn questions(metric: &str) -> f64 {
    match metric {
        "text_recognition" => 300.0,
        "scene_text_centric_vqa" | "doc_oriented_vqa" | "key_information_extraction" => 200.0,
        "handwritten_expression_recognition" => 100.0,
        _ => 1000.0,
    }
}

/// Whether a prediction counts as right. `formula` is for the rows of HME100k, where case counts and spaces do not.
pub fn ocr_bench_is_right(edition: Edition, answers: &[String], formula: bool, text: &str) -> bool {
    let clean = |text: &str| -> String {
        if formula {
            return strip(text).replace(['\n', ' '], "");
        }
        let folded = match edition {
            Edition::Official => text.to_lowercase(),
            Edition::Lmms => fold_full_width(text).to_lowercase(),
        };
        strip(&folded).replace('\n', " ")
    };
    // lmms-eval trims the prediction before anything else.
    let predicted = match edition {
        Edition::Official => clean(text),
        Edition::Lmms => clean(strip(text)),
    };
    answers.iter().any(|answer| predicted.contains(&clean(answer)))
}

/// Full-width ASCII and the ideographic space to ASCII, as lmms-eval does.
fn fold_full_width(text: &str) -> String {
    let fold = |character: char| match u32::from(character) {
        code @ 0xff01..=0xff5e => char::from_u32(code - 0xfee0).unwrap_or(character),
        0x3000 => ' ',
        _ => character,
    };
    text.chars().map(fold).collect()
}

/// Scores one answer to a question of the kind `category`.
pub(super) fn score(edition: Edition, answers: &[String], category: Option<&str>, text: &str) -> SampleScore {
    let right = points(ocr_bench_is_right(edition, answers, category == Some(FORMULAE), text));
    let metrics = [Some(FINAL_SCORE), category.and_then(metric_of)];
    let trimmed = strip(text);
    SampleScore {
        parsed: (!trimmed.is_empty()).then(|| trimmed.to_owned()),
        value: Some(right),
        contributions: metrics.into_iter().flatten().map(|name| (name.to_owned(), mean(right))).collect::<BTreeMap<_, _>>(),
        detail: json!({}),
    }
}
