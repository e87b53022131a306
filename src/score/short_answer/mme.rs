//! MME: two questions about each picture, one to be answered yes, the other no.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::super::metrics::mean;
use super::super::python_text::strip;
use super::super::set_level::Answered;
use super::super::types::SampleScore;
use super::points;
use crate::benchmark::{Edition, Reference};

const PERCEPTION: &str = "perception";
const COGNITION: &str = "cognition";
const ACCURACY: &str = "accuracy";
const ACCURACY_PLUS: &str = "accuracy_plus";

/// Categories of the second group; all others test perception.
const COGNITION_CATEGORIES: [&str; 4] = ["commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"];

/// Whether a metric is the sum of its categories' scores.
pub(super) fn is_sum(metric: &str) -> bool {
    matches!(metric, PERCEPTION | COGNITION)
}

/// How an answer is understood: `Some(true)` for yes, `Some(false)` for no, `None` for anything else, which is wrong.
///
/// Official (`eval_tool/calculation.py`, `parse_pred_ans`): `yes`, else `no`, among the first four characters in lower case.
/// lmms-eval `75571cf` (`tasks/mme/utils.py`, after Otter): trimmed and without periods first, and a lone `y` or `n` counts.
pub fn mme_answer(edition: Edition, text: &str) -> Option<bool> {
    let lower = text.to_lowercase();
    let answer = match edition {
        Edition::Official => lower,
        Edition::Lmms => strip(&lower).replace('.', ""),
    };
    if edition == Edition::Lmms && answer.chars().count() == 1 {
        return match answer.as_str() {
            "y" => Some(true),
            "n" => Some(false),
            _ => None,
        };
    }
    let beginning: String = answer.chars().take(4).collect();
    if beginning.contains("yes") {
        Some(true)
    } else if beginning.contains("no") {
        Some(false)
    } else {
        None
    }
}

/// Scores one answer; what pairs of questions add, [`complete`] does.
pub(super) fn score(edition: Edition, reference_yes: bool, text: &str) -> SampleScore {
    let answer = mme_answer(edition, text);
    let value = points(answer == Some(reference_yes));
    SampleScore {
        parsed: answer.map(|yes| if yes { "yes" } else { "no" }.to_owned()),
        value: Some(value),
        contributions: BTreeMap::from([(ACCURACY.to_owned(), mean(value))]),
        detail: json!({}),
    }
}

/// Adds acc+ (the share of pictures with both questions right) and the sums of acc and acc+ by category. A picture of which not
/// exactly two questions were answered, one of them to be answered yes, takes part in neither: the official script refuses it.
pub(super) fn complete(answers: &mut [Answered<'_>]) {
    let mut pairs: HashMap<(Option<&str>, &str), Vec<usize>> = HashMap::new();
    for (index, answer) in answers.iter().enumerate() {
        if matches!(answer.reference, Reference::YesNo { .. }) {
            pairs.entry((answer.category, answer.cluster)).or_default().push(index);
        }
    }
    for ((category, _), members) in pairs {
        let values: Vec<f64> = members.iter().filter_map(|index| answers.get(*index)?.score.value).collect();
        let complete = values.len() == 2;
        let both = points(complete && values.iter().all(|value| *value > 0.5));
        let sum = if category.is_some_and(|category| COGNITION_CATEGORIES.contains(&category)) { COGNITION } else { PERCEPTION };
        for index in members {
            let Some(answer) = answers.get_mut(index) else { continue };
            if complete {
                let value = answer.score.value.unwrap_or(0.0);
                answer.score.contributions.insert(ACCURACY_PLUS.to_owned(), mean(both));
                answer.score.contributions.insert(sum.to_owned(), mean(value + both));
                answer.score.detail = json!({ "both_right": both > 0.5 });
            } else {
                answer.score.detail = json!({ "pair": "incomplete" });
            }
        }
    }
}
