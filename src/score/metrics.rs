//! The one entry to all scorers.

use std::collections::BTreeMap;

use serde_json::json;

use super::grounding::{self, ACCURACIES, MEAN_IOU};
use super::pope::{self, ACCURACY, F1, PRECISION, RECALL, YES_RATIO};
use super::types::SampleScore;
use super::vqa::{self, VQA_ACCURACY};
use crate::benchmark::{Contribution, MetricSpec, Reference, ScorerRule, ScorerSpec, VqaVariant};

/// The contribution of one sample to a mean.
pub(super) fn mean(value: f64) -> Contribution {
    Contribution { numerator: value, denominator: 1.0 }
}

/// Scores one answer by the benchmark's rule. An answer never fails to score: what cannot be understood has `parsed` `None`
/// and the score that the official rule gives it.
///
/// A reference of a kind that the rule cannot use has no contributions and a note in `detail`; specifications that pair a
/// data format with such a rule are refused when they are read.
pub fn score(scorer: &ScorerSpec, reference: &Reference, text: &str) -> SampleScore {
    match (&scorer.rule, reference) {
        (ScorerRule::Vqa { variant }, Reference::Answers { answers }) => vqa::score(*variant, answers, text),
        (ScorerRule::Textvqa, Reference::Answers { answers }) => vqa::score(VqaVariant::M4c, answers, text),
        (ScorerRule::Pope, Reference::YesNo { yes }) => pope::score(*yes, text),
        (ScorerRule::Grounding { box_space, threshold_rule }, Reference::Region { region, width, height }) => {
            grounding::score(*box_space, *threshold_rule, region, *width, *height, text)
        }
        (rule, _) => SampleScore {
            parsed: None,
            value: 0.0,
            contributions: BTreeMap::new(),
            detail: json!({ "error": format!("the scorer {} cannot use this reference", rule.identity()) }),
        },
    }
}

/// The metrics of a scorer, the primary one first.
pub fn metrics(scorer: &ScorerSpec) -> Vec<MetricSpec> {
    let metric = |name: &str, higher_is_better| MetricSpec {
        name: name.to_owned(),
        scale: 100.0,
        higher_is_better,
        primary: name == scorer.primary_metric,
        mean_over_categories: false,
    };
    let better = |name: &str| metric(name, Some(true));
    let mut metrics = match scorer.rule {
        ScorerRule::Vqa { .. } | ScorerRule::Textvqa => vec![better(VQA_ACCURACY)],
        ScorerRule::Pope => vec![
            // LLaVA's headline: the mean of the F1 of the three files.
            MetricSpec { mean_over_categories: true, ..better(F1) },
            better(ACCURACY),
            better(PRECISION),
            better(RECALL),
            metric(YES_RATIO, None),
        ],
        ScorerRule::Grounding { .. } => ACCURACIES.iter().map(|(name, _)| *name).chain([MEAN_IOU]).map(better).collect(),
    };
    metrics.sort_by_key(|metric| !metric.primary);
    metrics
}
