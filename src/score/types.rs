//! What a scorer says about one answer.

use crate::benchmark::Contributions;

/// One scored answer.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleScore {
    /// The answer as the scorer understood it; `None` when nothing could be parsed.
    pub parsed: Option<String>,
    /// The headline score of the sample in 0..=1 (accuracy, or 1 when IoU reaches 0.5); `None` where an answer alone does not
    /// tell, because a judge has to or the reference is withheld.
    pub value: Option<f64>,
    /// Contributions by metric name; every metric of the scorer that the sample takes part in.
    pub contributions: Contributions,
    /// Scorer-specific facts for reports: IoU, predicted and reference boxes in pixels, confusion cell.
    pub detail: serde_json::Value,
}
