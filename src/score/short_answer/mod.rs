//! Scorers of benchmarks that ask for a word, a number or a phrase; each file is one benchmark's rule.

mod anls;
mod mme;
mod ocr_bench;
mod pope_lmms;
mod relaxed;
mod same_text;
mod slake;
mod vizwiz;

pub use anls::{anls, anls_m4c};
pub use mme::mme_answer;
pub use ocr_bench::ocr_bench_is_right;
pub use relaxed::relaxed_correctness;
pub use slake::slake_normalise;

use std::collections::BTreeMap;

use serde_json::json;

use super::metrics::mean;
use super::python_text::strip;
use super::set_level::Answered;
use super::types::SampleScore;
use crate::benchmark::{MetricSpec, Reference, ShortAnswerRule};

/// Scores one answer; `None` where the rule cannot use the reference.
pub(super) fn score(rule: ShortAnswerRule, reference: &Reference, category: Option<&str>, text: &str) -> Option<SampleScore> {
    Some(match (rule, reference) {
        (ShortAnswerRule::VizWiz(edition), Reference::Answers { answers }) => vizwiz::score(edition, answers, category, text),
        (ShortAnswerRule::Gqa(edition), Reference::Answers { answers }) => same_text::gqa(edition, answers, text),
        (ShortAnswerRule::Exact, Reference::Answers { answers }) => same_text::exact(answers, text),
        (ShortAnswerRule::Anls(boundary), Reference::Answers { answers }) => one("anls", anls(answers, text, boundary), text),
        (ShortAnswerRule::AnlsM4c, Reference::Answers { answers }) => one("anls", anls_m4c(answers, text), text),
        (ShortAnswerRule::RelaxedAccuracy, Reference::Answers { answers }) => relaxed::score(answers, text),
        (ShortAnswerRule::RelaxedAccuracyTrimmed, Reference::Answers { answers }) => relaxed::score(answers, strip(text)),
        (ShortAnswerRule::OcrBench(edition), Reference::Answers { answers }) => {
            ocr_bench::score(edition, answers, category, text)
        }
        (ShortAnswerRule::Mme(edition), Reference::YesNo { yes }) => mme::score(edition, *yes, text),
        (ShortAnswerRule::PopeLmms, Reference::YesNo { yes }) => pope_lmms::score(*yes, text),
        (ShortAnswerRule::SlakeLmms, Reference::OpenOrClosed { answer, open }) => slake::score(answer, *open, text),
        _ => return None,
    })
}

/// Whether a rule has metrics that only all answers together have.
pub(super) fn needs_all_answers(rule: ShortAnswerRule) -> bool {
    matches!(rule, ShortAnswerRule::VizWiz(_) | ShortAnswerRule::Mme(_))
}

/// Adds the contributions that only all answers together have.
pub(super) fn complete(rule: ShortAnswerRule, answers: &mut [Answered<'_>]) {
    match rule {
        ShortAnswerRule::VizWiz(_) => vizwiz::complete(answers),
        ShortAnswerRule::Mme(_) => mme::complete(answers),
        _ => {}
    }
}

/// The metrics of a rule; which one is primary the caller says.
pub(super) fn metrics(rule: ShortAnswerRule) -> Vec<MetricSpec> {
    let names = rule.metric_names().iter();
    let mut metrics: Vec<MetricSpec> = names
        .map(|name| MetricSpec {
            name: (*name).to_owned(),
            scale: 100.0,
            higher_is_better: Some(true),
            primary: false,
            mean_over_categories: false,
            sum_over_categories: false,
            points: false,
        })
        .collect();
    for metric in &mut metrics {
        match rule {
            ShortAnswerRule::OcrBench(_) => metric.scale = ocr_bench::questions(&metric.name),
            ShortAnswerRule::Mme(_) => metric.sum_over_categories = mme::is_sum(&metric.name),
            ShortAnswerRule::PopeLmms if metric.name == super::pope::YES_RATIO => metric.higher_is_better = None,
            _ => {}
        }
    }
    metrics
}

/// A score with one metric. An empty answer is unparsed.
fn one(metric: &str, value: f64, text: &str) -> SampleScore {
    let text = strip(text);
    SampleScore {
        parsed: (!text.is_empty()).then(|| text.to_owned()),
        value: Some(value),
        contributions: BTreeMap::from([(metric.to_owned(), mean(value))]),
        detail: json!({}),
    }
}

/// 1 for a right answer, 0 for a wrong one.
fn points(right: bool) -> f64 {
    f64::from(u8::from(right))
}
