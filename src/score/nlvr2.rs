//! NLVR2: whether a sentence is true of two pictures (lil-lab/nlvr `1892484`, `nlvr2/eval/metrics.py`).

use std::collections::BTreeMap;

use serde_json::json;

use super::choice::ACCURACY;
use super::metrics::mean;
use super::python_text::is_space;
use super::types::SampleScore;

/// Share of sentences that are answered rightly for all of their pairs of pictures.
pub(super) const CONSISTENCY: &str = "consistency";

/// Scores one answer: `true` or `false` in any case, as a field of the CSV line that the official script reads. So the answer ends
/// at the first comma or line break, spaces before it make it wrong, and `True.` is wrong.
pub(super) fn score(is_true: bool, text: &str) -> SampleScore {
    let line = text.split(['\n', '\r']).next().unwrap_or_default().trim_end_matches(is_space);
    let field = line.split(',').next().unwrap_or_default().to_lowercase();
    let parsed = ["true", "false"].into_iter().find(|word| *word == field);
    let value = f64::from(u8::from(parsed == Some(if is_true { "true" } else { "false" })));
    SampleScore {
        parsed: parsed.map(str::to_owned),
        value: Some(value),
        contributions: BTreeMap::from([(ACCURACY.to_owned(), mean(value))]),
        detail: json!({}),
    }
}
