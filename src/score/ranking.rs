//! Ranked candidates: zero-shot classification and retrieval, counted as CLIP_benchmark does.
//!
//! An answer is one candidate a line, the best first. Where fewer lines were kept than a metric looks at, the sample takes
//! no part in that metric: a second guess that nobody wrote down is not a wrong one.

use std::collections::BTreeMap;

use serde_json::json;

use super::metrics::mean;
use super::types::SampleScore;
use crate::benchmark::{Contributions, RetrievalDirection};

/// Share of pictures whose class is ranked first.
pub(super) const ACCURACY_AT_1: &str = "acc@1";
/// Share of pictures whose class is among the first five.
pub(super) const ACCURACY_AT_5: &str = "acc@5";
/// Unweighted mean over classes of the share ranked first (scikit-learn's `balanced_accuracy_score`).
pub(super) const MEAN_PER_CLASS_RECALL: &str = "mean_per_class_recall";

/// Cut-offs of retrieval, and their metrics: the mean over both directions, images looking for captions, captions looking
/// for images.
pub(super) const RECALLS: [(usize, [&str; 3]); 3] = [
    (1, ["recall@1", "text_retrieval_recall@1", "image_retrieval_recall@1"]),
    (5, ["recall@5", "text_retrieval_recall@5", "image_retrieval_recall@5"]),
    (10, ["recall@10", "text_retrieval_recall@10", "image_retrieval_recall@10"]),
];

/// The candidates of an answer.
fn ranking(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// Whether one of the first `cut_off` candidates is right; `None` where that cannot be told, or where there are no more
/// candidates than `cut_off` counts (CLIP_benchmark leaves acc@5 out below five classes).
fn hit(ranking: &[&str], right: impl Fn(&str) -> bool, cut_off: usize, candidates: usize) -> Option<f64> {
    let found = ranking.iter().take(cut_off).any(|label| right(label));
    let told = candidates >= cut_off && (ranking.len() >= cut_off || cut_off == 1);
    told.then(|| f64::from(u8::from(found)))
}

fn scored(ranking: &[&str], right: impl Fn(&str) -> bool, contributions: Contributions, value: f64) -> SampleScore {
    let rank = ranking.iter().position(|label| right(label)).map(|position| position + 1);
    SampleScore {
        parsed: ranking.first().map(|label| (*label).to_owned()),
        value: Some(value),
        contributions,
        // The rank among the candidates that were kept.
        detail: json!({ "rank": rank }),
    }
}

/// Scores the classes given to a picture.
pub(super) fn zero_shot(label: &str, classes: usize, text: &str) -> SampleScore {
    let ranking = ranking(text);
    let right = |candidate: &str| candidate == label;
    let first = hit(&ranking, right, 1, classes).unwrap_or(0.0);
    let mut contributions =
        BTreeMap::from([(ACCURACY_AT_1.to_owned(), mean(first)), (MEAN_PER_CLASS_RECALL.to_owned(), mean(first))]);
    if let Some(among_five) = hit(&ranking, right, 5, classes) {
        contributions.insert(ACCURACY_AT_5.to_owned(), mean(among_five));
    }
    scored(&ranking, right, contributions, first)
}

/// Scores the candidates of a retrieval query. A query with several right candidates is right with any of them.
pub(super) fn retrieval(direction: RetrievalDirection, relevant: &[String], candidates: usize, text: &str) -> SampleScore {
    let ranking = ranking(text);
    let right = |candidate: &str| relevant.iter().any(|label| label == candidate);
    let mut contributions = BTreeMap::new();
    for (cut_off, [both, image_to_text, text_to_image]) in RECALLS {
        let Some(hit) = hit(&ranking, right, cut_off, candidates) else { continue };
        let own = match direction {
            RetrievalDirection::ImageToText => image_to_text,
            RetrievalDirection::TextToImage => text_to_image,
        };
        contributions.insert(both.to_owned(), mean(hit));
        contributions.insert(own.to_owned(), mean(hit));
    }
    let first = hit(&ranking, right, 1, candidates).unwrap_or(0.0);
    scored(&ranking, right, contributions, first)
}
