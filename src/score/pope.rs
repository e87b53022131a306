//! POPE: yes/no answers by the official rule, and their confusion counts.

use std::collections::BTreeMap;

use serde_json::json;

use super::metrics::mean;
use super::types::SampleScore;
use crate::benchmark::Contribution;

/// F1 of `yes`; LLaVA reports its mean over the three files.
pub(super) const F1: &str = "f1";
/// F1 of `yes` over the questions of all files together.
pub(super) const F1_POOLED: &str = "f1_pooled";
/// Share of right answers.
pub(super) const ACCURACY: &str = "accuracy";
/// Precision of `yes`.
pub(super) const PRECISION: &str = "precision";
/// Recall of `yes`.
pub(super) const RECALL: &str = "recall";
/// Share of answers counted as `yes`.
pub(super) const YES_RATIO: &str = "yes_ratio";

/// The official rule (RUCAIBox/POPE `evaluate.py`, LLaVA `eval_pope.py`): of the text before the first period, without
/// commas, split at single spaces, any of `No`, `not`, `no` means no; everything else means yes. So `NO`, an empty answer
/// and `There isn't` are yes.
pub fn says_yes(text: &str) -> bool {
    let sentence = text.split('.').next().unwrap_or_default().replace(',', "");
    !sentence.split(' ').any(|word| matches!(word, "No" | "not" | "no"))
}

/// Whether the answer has the word yes, no or not at all, in any case. The official rule counts every other answer as yes;
/// reports show such answers as unparsed.
fn is_explicit(text: &str) -> bool {
    text.split(|character: char| !character.is_alphanumeric())
        .any(|word| ["yes", "no", "not"].iter().any(|known| word.eq_ignore_ascii_case(known)))
}

/// Scores one answer. `parsed` is `None` for answers that say neither yes nor no, although the official rule counts them
/// as yes; `detail` has the confusion cell and the counted answer.
pub(super) fn score(reference_yes: bool, text: &str) -> SampleScore {
    let yes = says_yes(text);
    let cell = match (yes, reference_yes) {
        (true, true) => "tp",
        (true, false) => "fp",
        (false, false) => "tn",
        (false, true) => "fn",
    };
    let one = |wanted: bool| f64::from(u8::from(wanted));
    let (true_positive, false_positive, false_negative) = (one(cell == "tp"), one(cell == "fp"), one(cell == "fn"));
    let value = one(yes == reference_yes);
    let ratio = |numerator: f64, denominator: f64| Contribution { numerator, denominator };
    let word = if yes { "yes" } else { "no" };
    let f1 = ratio(2.0 * true_positive, 2.0 * true_positive + false_positive + false_negative);
    SampleScore {
        parsed: is_explicit(text).then(|| word.to_owned()),
        value: Some(value),
        contributions: BTreeMap::from([
            (F1.to_owned(), f1),
            (F1_POOLED.to_owned(), f1),
            (ACCURACY.to_owned(), mean(value)),
            (PRECISION.to_owned(), ratio(true_positive, true_positive + false_positive)),
            (RECALL.to_owned(), ratio(true_positive, true_positive + false_negative)),
            (YES_RATIO.to_owned(), mean(one(yes))),
        ]),
        detail: json!({ "cell": cell, "counted_as": word }),
    }
}
