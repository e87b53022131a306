//! Captions against reference captions, as pycocoevalcap scores them: CIDEr-D, BLEU-1 to BLEU-4 and ROUGE-L over the words that
//! Stanford's PTBTokenizer finds. METEOR and SPICE are not offered: they are Java programs with models of their own.
//!
//! CIDEr weighs words by how many images have them in their references, and BLEU is a statistic of all captions, so both wait
//! for [`complete`]. One image alone has CIDEr 0.

mod bleu;
mod cider;
mod ptb;
mod rouge;
mod words;

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde_json::json;

pub use ptb::{ptb_caption, ptb_tokens};

use self::words::{Caption, Vocabulary};
use super::metrics::mean;
use super::set_level::Answered;
use super::types::SampleScore;
use crate::benchmark::{Contribution, Reference};

/// Metric name.
pub(super) const CIDER: &str = "cider";
/// Metric names, by the longest n-gram.
pub(super) const BLEU: [&str; 4] = ["bleu1", "bleu2", "bleu3", "bleu4"];
/// Metric name.
pub(super) const ROUGE_L: &str = "rouge_l";
/// Largest CIDEr of a caption.
const LARGEST_CIDER: f64 = 10.0;

/// What one caption alone tells: its words and ROUGE-L. A caption without words is unparsed and scores 0.
pub(super) fn score(references: &[String], text: &str) -> SampleScore {
    let caption = ptb_caption(text);
    let references: Vec<String> = references.iter().map(|reference| ptb_caption(reference)).collect();
    let overlap = rouge::rouge_l(&caption, &references);
    SampleScore {
        parsed: (!caption.is_empty()).then_some(caption),
        value: None,
        contributions: BTreeMap::from([(ROUGE_L.to_owned(), mean(overlap))]),
        detail: json!({}),
    }
}

/// Adds CIDEr and BLEU. The headline of a caption is a tenth of its CIDEr.
pub(super) fn complete(answers: &mut [Answered<'_>]) {
    let captions: Vec<Option<(String, Vec<String>)>> = answers
        .par_iter()
        .map(|answer| match answer.reference {
            Reference::Answers { answers: references } if !references.is_empty() => {
                let words = answer.score.parsed.clone().unwrap_or_else(|| ptb_caption(answer.text));
                Some((words, references.iter().map(|reference| ptb_caption(reference)).collect()))
            }
            _ => None,
        })
        .collect();
    let mut vocabulary = Vocabulary::default();
    let documents: Vec<(Caption, Vec<Caption>)> = captions
        .iter()
        .flatten()
        .map(|(caption, references)| {
            (vocabulary.caption(caption), references.iter().map(|reference| vocabulary.caption(reference)).collect())
        })
        .collect();
    let scored = answers.iter_mut().zip(&captions).filter(|(_, caption)| caption.is_some()).map(|(answer, _)| answer);
    let measures = cider::cider_d(&documents).into_iter().zip(bleu::pseudo_values(&documents));
    for (answer, (cider, bleu)) in scored.zip(measures) {
        answer.score.value = Some((cider / LARGEST_CIDER).clamp(0.0, 1.0));
        let mut add = |name: &str, value| answer.score.contributions.insert(name.to_owned(), mean(value));
        add(CIDER, cider);
        for (name, value) in BLEU.iter().zip(bleu.of_corpus) {
            add(name, value);
        }
        answer.score.detail = json!({
            "cider": cider,
            "sentence_bleu": bleu.of_sentence,
            "rouge_l": answer.score.contributions.get(ROUGE_L).map(|Contribution { numerator, .. }| numerator),
        });
    }
}
