//! CIDEr-D (pycocoevalcap 1.2, `cider/cider_scorer.py`).

use std::collections::{BTreeMap, HashMap, HashSet};

use rayon::prelude::*;

use super::words::{Caption, LONGEST, NGram, counts};

/// Width of the penalty for a length other than the reference's, in bigrams.
const SIGMA: f64 = 6.0;

/// A caption as tf-idf weights of its n-grams, by their length less one. In order, so that sums are the same to the last bit each
/// time.
struct Weighted {
    weights: [BTreeMap<NGram, f64>; LONGEST],
    norms: [f64; LONGEST],
    /// Number of bigrams, which the reference code takes for the length.
    bigrams: f64,
}

/// CIDEr-D of each caption against its references, in 0..=10. Document frequencies come from the references given; an n-gram
/// that no reference has counts as if one document had it.
pub(super) fn cider_d(documents: &[(Caption, Vec<Caption>)]) -> Vec<f64> {
    let mut frequencies: HashMap<NGram, u32> = HashMap::new();
    for (_, references) in documents {
        let of_document: HashSet<NGram> =
            references.iter().flat_map(|reference| counts(reference).into_iter().flat_map(HashMap::into_keys)).collect();
        for ngram in of_document {
            *frequencies.entry(ngram).or_default() += 1;
        }
    }
    let log_documents = (documents.len() as f64).ln();
    let weigh = |caption: &Caption| weighted(caption, &frequencies, log_documents);
    documents
        .par_iter()
        .map(|(caption, references)| {
            let caption = weigh(caption);
            let sum: f64 = references.iter().map(|reference| similarity(&caption, &weigh(reference))).sum();
            10.0 * sum / references.len().max(1) as f64
        })
        .collect()
}

fn weighted(caption: &Caption, frequencies: &HashMap<NGram, u32>, log_documents: f64) -> Weighted {
    let counts = counts(caption);
    let mut norms = [0.0; LONGEST];
    let bigrams = f64::from(counts.get(1).map_or(0, |bigrams| bigrams.values().sum()));
    let mut norm_of = norms.iter_mut();
    let weights = counts.map(|counts| {
        let weights: BTreeMap<NGram, f64> = counts
            .into_iter()
            .map(|(ngram, count)| {
                let frequency = frequencies.get(&ngram).copied().unwrap_or(0).max(1);
                (ngram, f64::from(count) * (log_documents - f64::from(frequency).ln()))
            })
            .collect();
        if let Some(norm) = norm_of.next() {
            *norm = weights.values().map(|weight| weight * weight).sum::<f64>().sqrt();
        }
        weights
    });
    Weighted { weights, norms, bigrams }
}

/// The mean over n of the cosine of clipped weights, with the penalty of the length.
fn similarity(caption: &Weighted, reference: &Weighted) -> f64 {
    let difference = caption.bigrams - reference.bigrams;
    let penalty = (-(difference * difference) / (2.0 * SIGMA * SIGMA)).exp();
    let pairs = caption.weights.iter().zip(&reference.weights).zip(caption.norms.iter().zip(&reference.norms));
    let sum: f64 = pairs
        .map(|((caption, reference), (caption_norm, reference_norm))| {
            let common = caption.iter().filter_map(|(ngram, weight)| Some((weight, reference.get(ngram)?)));
            let product: f64 = common.map(|(weight, other)| weight.min(*other) * other).sum();
            if *caption_norm != 0.0 && *reference_norm != 0.0 { product / (caption_norm * reference_norm) } else { product }
        })
        .sum();
    sum * penalty / LONGEST as f64
}
