//! VizWiz: accuracy against ten annotators, and whether the model says which questions cannot be answered.

use std::collections::BTreeMap;

use serde_json::json;

use super::super::metrics::mean;
use super::super::python_text::strip;
use super::super::set_level::Answered;
use super::super::types::SampleScore;
use super::super::vqa::{VQA_ACCURACY, annotator_mean, exact_annotator_mean};
use super::super::vqa_text::{m4c_normalise, vizwiz_normalise};
use super::points;
use crate::benchmark::{Contribution, Edition};

const AVERAGE_PRECISION: &str = "answerability_average_precision";
const F1: &str = "answerability_f1";

/// Whether the category says that the question cannot be answered: `answerable 0` of the release's flag, or the kind of answer.
/// `None` for a sample without a category.
fn is_unanswerable(category: Option<&str>) -> Option<bool> {
    category.map(|category| matches!(category, "unanswerable" | "answerable 0"))
}

/// What the model's answer is after normalisation if it declines to answer.
const UNANSWERABLE: &str = "unanswerable";

/// Scores one answer.
pub(super) fn score(edition: Edition, answers: &[String], category: Option<&str>, text: &str) -> SampleScore {
    let (value, compared) = match edition {
        Edition::Official => {
            let compared = vizwiz_normalise(text);
            (annotator_mean(answers, &compared), compared)
        }
        Edition::Lmms => {
            let compared = m4c_normalise(text);
            let answers: Vec<String> = answers.iter().map(|answer| m4c_normalise(answer)).collect();
            (exact_annotator_mean(&answers, &compared), compared)
        }
    };
    let mut contributions = BTreeMap::from([(VQA_ACCURACY.to_owned(), mean(value))]);
    if let Some(unanswerable) = is_unanswerable(category) {
        let declined = compared == UNANSWERABLE;
        let both = 2.0 * points(unanswerable && declined);
        let denominator = points(unanswerable) + points(declined);
        contributions.insert(F1.to_owned(), Contribution { numerator: both, denominator });
    }
    SampleScore { parsed: (!strip(text).is_empty()).then_some(compared), value: Some(value), contributions, detail: json!({}) }
}

/// Adds the average precision of declining to answer (scikit-learn's `average_precision_score` of a prediction that is 0 or 1),
/// which is a statistic of all answers: each sample gets the value that makes the mean the statistic, and the spread of the
/// values that of the statistic.
pub(super) fn complete(answers: &mut [Answered<'_>]) {
    let flags = |answer: &Answered<'_>| -> Option<(f64, f64)> {
        let unanswerable = is_unanswerable(answer.category)?;
        // The contribution to F1 says whether the model declined.
        let declined = answer.score.contributions.get(F1)?.denominator - points(unanswerable);
        Some((points(unanswerable), declined))
    };
    let all: Vec<(f64, f64)> = answers.iter().filter_map(flags).collect();
    let count = all.len() as f64;
    let share = |value: &dyn Fn(&(f64, f64)) -> f64| all.iter().map(value).sum::<f64>() / count;
    let positive = share(&|(unanswerable, _)| *unanswerable);
    let declined = share(&|(_, declined)| *declined);
    let found = share(&|(unanswerable, declined)| unanswerable * declined);
    if all.is_empty() || positive <= 0.0 {
        return;
    }
    // Two thresholds: the precision of the declined answers up to their recall, from there the share of all. With found = a,
    // positive = p and declined = s: AP = a² / (p s) + p − a, and its derivatives.
    let nothing_declined = declined <= 0.0;
    let precision = if nothing_declined { 0.0 } else { found / declined };
    let recall = found / positive;
    let value = recall * precision + (1.0 - recall) * positive;
    let by_found = if nothing_declined { 0.0 } else { 2.0 * precision / positive - 1.0 };
    let by_positive = if nothing_declined { 1.0 } else { 1.0 - recall * precision / positive };
    let by_declined = if nothing_declined { 0.0 } else { -recall * precision / declined };
    for answer in answers {
        let Some((unanswerable, own_declined)) = flags(answer) else { continue };
        let influence = by_found * (unanswerable * own_declined - found)
            + by_positive * (unanswerable - positive)
            + by_declined * (own_declined - declined);
        answer.score.contributions.insert(AVERAGE_PRECISION.to_owned(), mean(value + influence));
    }
}
