//! POPE as lmms-eval `75571cf` scores it (`tasks/pope/utils.py`).

use std::collections::BTreeMap;

use serde_json::json;

use super::super::metrics::mean;
use super::super::pope::{ACCURACY, F1, PRECISION, RECALL, YES_RATIO};
use super::super::python_text::strip;
use super::super::types::SampleScore;
use super::points;
use crate::benchmark::Contribution;

/// Scores one answer. Only a bare `yes` or `no` is understood (`Yes.` is not): anything else is wrong, and neither a false
/// positive nor a false negative. The share of `yes` is that of the labels, as there.
pub(super) fn score(reference_yes: bool, text: &str) -> SampleScore {
    let lower = text.to_lowercase();
    let answer = match strip(&lower) {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    };
    let value = points(answer == Some(reference_yes));
    let true_positive = points(reference_yes && answer == Some(true));
    let false_positive = points(!reference_yes && answer == Some(true));
    let false_negative = points(reference_yes && answer == Some(false));
    let ratio = |numerator: f64, denominator: f64| Contribution { numerator, denominator };
    SampleScore {
        parsed: answer.map(|yes| if yes { "yes" } else { "no" }.to_owned()),
        value: Some(value),
        contributions: BTreeMap::from([
            (F1.to_owned(), ratio(2.0 * true_positive, 2.0 * true_positive + false_positive + false_negative)),
            (ACCURACY.to_owned(), mean(value)),
            (PRECISION.to_owned(), ratio(true_positive, true_positive + false_positive)),
            (RECALL.to_owned(), ratio(true_positive, true_positive + false_negative)),
            (YES_RATIO.to_owned(), mean(points(reference_yes))),
        ]),
        detail: json!({}),
    }
}
