//! BLEU with the closest reference length (pycocoevalcap 1.2, `bleu/bleu_scorer.py`).

use std::collections::HashMap;

use super::words::{Caption, LONGEST, NGram, counts};

/// Added to counts of matches, so that none is not a logarithm of zero.
const TINY: f64 = 1e-15;
/// Added to counts of n-grams, so that none is not a division by zero.
const SMALL: f64 = 1e-9;

/// BLEU-1 to BLEU-4 of one caption.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bleu {
    /// Pseudo-values: their means over all captions are the BLEU of the corpus.
    pub of_corpus: [f64; LONGEST],
    /// BLEU of the sentence alone, as the reference code gives it beside the corpus's.
    pub of_sentence: [f64; LONGEST],
}

/// Sums that BLEU is made of; n-grams by their length less one.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    matched: [f64; LONGEST],
    all: [f64; LONGEST],
    words: f64,
    reference_words: f64,
}

/// BLEU of each caption, and the share that it has in that of all of them.
///
/// BLEU is a function of sums over captions, no sum itself. The pseudo-value of a caption is the BLEU of the corpus plus n times
/// the change that the caption's own sums, as far as they differ from the mean ones, make in it to first order. The mean of the
/// pseudo-values is the BLEU of the corpus, and their spread gives its standard error.
pub(super) fn pseudo_values(documents: &[(Caption, Vec<Caption>)]) -> Vec<Bleu> {
    let counted: Vec<Counts> = documents.iter().map(|(caption, references)| count(caption, references)).collect();
    let mut total = Counts::default();
    for one in &counted {
        total.add(one);
    }
    let n = counted.len() as f64;
    let corpus = total.bleu();
    let pseudo_value = |one: &Counts, index: usize, bleu: f64| {
        let order = index as f64 + 1.0;
        let parts = one.matched.iter().zip(&one.all).zip(total.matched.iter().zip(&total.all)).take(index + 1);
        let precision: f64 = parts
            .map(|((matched, all), (total_matched, total_all))| {
                // Where a total is 0, every part of it is.
                (matched - total_matched / n) / (total_matched + TINY) - (all - total_all / n) / (total_all + SMALL)
            })
            .sum();
        let brevity = if total.length_ratio() < 1.0 {
            let words = total.words + TINY;
            let reference_words = total.reference_words + SMALL;
            (one.words - total.words / n) * reference_words / (words * words)
                - (one.reference_words - total.reference_words / n) / words
        } else {
            0.0
        };
        bleu + n * bleu * (precision / order + brevity)
    };
    counted
        .iter()
        .map(|one| {
            let mut of_corpus = corpus;
            of_corpus.iter_mut().enumerate().for_each(|(index, bleu)| *bleu = pseudo_value(one, index, *bleu));
            Bleu { of_corpus, of_sentence: one.bleu() }
        })
        .collect()
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.matched.iter_mut().zip(other.matched).for_each(|(sum, part)| *sum += part);
        self.all.iter_mut().zip(other.all).for_each(|(sum, part)| *sum += part);
        self.words += other.words;
        self.reference_words += other.reference_words;
    }

    fn length_ratio(&self) -> f64 {
        (self.words + TINY) / (self.reference_words + SMALL)
    }

    fn bleu(&self) -> [f64; LONGEST] {
        let brevity = match self.length_ratio() {
            ratio if ratio < 1.0 => (1.0 - 1.0 / ratio).exp(),
            _ => 1.0,
        };
        let mut product = 1.0;
        let mut bleu = [0.0; LONGEST];
        for (index, (value, (matched, all))) in bleu.iter_mut().zip(self.matched.iter().zip(&self.all)).enumerate() {
            product *= (matched + TINY) / (all + SMALL);
            *value = f64::powf(product, 1.0 / (index as f64 + 1.0)) * brevity;
        }
        bleu
    }
}

fn count(caption: &Caption, references: &[Caption]) -> Counts {
    let words = caption.len();
    // The reference whose length is nearest, of two the shorter one.
    let nearest = references.iter().map(|reference| (reference.len().abs_diff(words), reference.len())).min();
    let of_references: Vec<[HashMap<NGram, u32>; LONGEST]> = references.iter().map(|reference| counts(reference)).collect();
    let mut result =
        Counts { words: words as f64, reference_words: nearest.map_or(0, |(_, length)| length) as f64, ..Counts::default() };
    for (index, own) in counts(caption).iter().enumerate() {
        let most = |ngram: &NGram| {
            of_references.iter().filter_map(|counts| counts.get(index)?.get(ngram)).max().copied().unwrap_or_default()
        };
        let matched: u32 = own.iter().map(|(ngram, count)| most(ngram).min(*count)).sum();
        if let (Some(sum), Some(all)) = (result.matched.get_mut(index), result.all.get_mut(index)) {
            *sum = f64::from(matched);
            *all = words.saturating_sub(index) as f64;
        }
    }
    result
}
