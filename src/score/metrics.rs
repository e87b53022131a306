//! The one entry to all scorers.

use std::collections::BTreeMap;

use serde_json::json;

use super::caption::{self, BLEU, CIDER, ROUGE_L};
use super::choice;
use super::grounding::{self, ACCURACIES, CENTRE_ACCURACY, MEAN_IOU};
use super::interleave;
use super::likelihood;
use super::medical::{self, CLOSED_ACCURACY, OPEN_CLOSED_MEAN, OPEN_EXACT_MATCH, OPEN_F1, OPEN_PRECISION, OPEN_RECALL};
use super::nlvr2;
use super::pope::{self, ACCURACY, F1, F1_POOLED, PRECISION, RECALL, YES_RATIO};
use super::ranking::{self, ACCURACY_AT_1, ACCURACY_AT_5, MEAN_PER_CLASS_RECALL, RECALLS};
use super::short_answer;
use super::types::SampleScore;
use super::vqa::{self, VQA_ACCURACY};
use crate::benchmark::{Contribution, MetricSpec, Reference, ScorerRule, ScorerSpec, VqaVariant};

/// The contribution of one sample to a mean.
pub(super) fn mean(value: f64) -> Contribution {
    Contribution { numerator: value, denominator: 1.0 }
}

/// Scores one answer by the benchmark's rule. An answer never fails to score: what cannot be understood has `parsed` `None`
/// and the score that the official rule gives it. For zero-shot classification and retrieval the text is a ranking: one label
/// a line, the best first.
///
/// A reference of a kind that the rule cannot use has no contributions and a note in `detail`; specifications that pair a
/// data format with such a rule are refused when they are read.
///
/// Some rules look at the sample's category; see [`score_in_category`].
pub fn score(scorer: &ScorerSpec, reference: &Reference, text: &str) -> SampleScore {
    score_in_category(scorer, reference, None, text)
}

/// [`score`] of a sample that may have a category (OCRBench compares formulae otherwise than words; VizWiz says there which
/// questions cannot be answered).
pub fn score_in_category(scorer: &ScorerSpec, reference: &Reference, category: Option<&str>, text: &str) -> SampleScore {
    if let ScorerRule::ShortAnswer(rule) = scorer.rule
        && let Some(scored) = short_answer::score(rule, reference, category, text)
    {
        return scored;
    }
    match (&scorer.rule, reference) {
        (ScorerRule::Vqa { variant }, Reference::Answers { answers }) => vqa::score(*variant, answers, text),
        (ScorerRule::Textvqa, Reference::Answers { answers }) => vqa::score(VqaVariant::M4c, answers, text),
        (ScorerRule::Pope, Reference::YesNo { yes }) => pope::score(*yes, text),
        (ScorerRule::Grounding { box_space, threshold_rule }, Reference::Region { region, width, height }) => {
            grounding::score(*box_space, *threshold_rule, region, *width, *height, text)
        }
        (ScorerRule::LlavaMed, Reference::OpenOrClosed { answer, open }) => medical::score(answer, *open, text),
        (ScorerRule::ZeroShot, Reference::Class { label, classes }) => ranking::zero_shot(label, *classes, text),
        (ScorerRule::Retrieval, Reference::Retrieval { direction, relevant, candidates }) => {
            ranking::retrieval(*direction, relevant, *candidates, text)
        }
        (ScorerRule::Choice { parser }, Reference::Choice { options, answer }) => choice::score(*parser, options, *answer, text),
        (rule @ ScorerRule::Choice { parser }, Reference::Answers { answers }) => {
            choice::open_score(*parser, answers, text).unwrap_or_else(|| unusable(rule))
        }
        (ScorerRule::Nlvr2, Reference::YesNo { yes }) => nlvr2::score(*yes, text),
        (ScorerRule::Interleave { variant }, Reference::OpenOrClosed { answer, open }) => {
            interleave::score(*variant, answer, *open, text)
        }
        (ScorerRule::Caption, Reference::Answers { answers }) if !answers.is_empty() => caption::score(answers, text),
        // An answer alone has no score: a judge reads it, or the benchmark's server.
        (
            ScorerRule::LlavaBench { .. } | ScorerRule::LlavaMedChat | ScorerRule::MmVet | ScorerRule::JudgeMatch,
            Reference::Judged { .. },
        )
        | (ScorerRule::JudgeMatch, Reference::Answers { .. } | Reference::OpenOrClosed { .. })
        | (_, Reference::Withheld) => {
            SampleScore { parsed: Some(text.to_owned()), value: None, contributions: BTreeMap::new(), detail: json!({}) }
        }
        (ScorerRule::ChoiceLikelihood, reference) => {
            likelihood::score(&scorer.primary_metric, reference, text).unwrap_or_else(|| unusable(&scorer.rule))
        }
        (rule, _) => unusable(rule),
    }
}

/// The score of a reference that a rule cannot use.
fn unusable(rule: &ScorerRule) -> SampleScore {
    SampleScore {
        parsed: None,
        value: Some(0.0),
        contributions: BTreeMap::new(),
        detail: json!({ "error": format!("the scorer {} cannot use this reference", rule.identity()) }),
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
        sum_over_categories: false,
        points: false,
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
            // All questions together, as later papers have it.
            better(F1_POOLED),
        ],
        ScorerRule::LlavaMed => vec![
            // Categories are the open-ended and the closed-ended questions.
            MetricSpec { mean_over_categories: true, ..better(OPEN_CLOSED_MEAN) },
            better(OPEN_RECALL),
            better(CLOSED_ACCURACY),
            better(OPEN_PRECISION),
            better(OPEN_F1),
            better(OPEN_EXACT_MATCH),
        ],
        ScorerRule::ZeroShot => vec![
            better(ACCURACY_AT_1),
            better(ACCURACY_AT_5),
            // Categories are the classes.
            MetricSpec { mean_over_categories: true, ..better(MEAN_PER_CLASS_RECALL) },
        ],
        ScorerRule::Retrieval => {
            // Categories are the two directions.
            let both = RECALLS.iter().map(|(_, [both, ..])| MetricSpec { mean_over_categories: true, ..better(both) });
            let text = RECALLS.iter().map(|(_, [_, image_to_text, _])| better(image_to_text));
            let image = RECALLS.iter().map(|(_, [_, _, text_to_image])| better(text_to_image));
            both.chain(text).chain(image).collect()
        }
        ScorerRule::ChoiceLikelihood => scorer.rule.metric_names().iter().map(|name| better(name)).collect(),
        ScorerRule::LlavaBench { .. } => vec![
            better("relative_score"),
            // LLaVA prints mean ratings times ten.
            MetricSpec { scale: 10.0, higher_is_better: None, ..better("reference_rating") },
            MetricSpec { scale: 10.0, ..better("answer_rating") },
        ],
        ScorerRule::LlavaMedChat => scorer
            .rule
            .metric_names()
            .iter()
            .map(|name| match *name {
                "reference_rating" => MetricSpec { scale: 1.0, higher_is_better: None, ..better(name) },
                "answer_rating" => MetricSpec { scale: 1.0, ..better(name) },
                name => better(name),
            })
            .collect(),
        ScorerRule::MmVet | ScorerRule::JudgeMatch => scorer.rule.metric_names().iter().map(|name| better(name)).collect(),
        ScorerRule::ShortAnswer(rule) => {
            let primary = |spec: MetricSpec| MetricSpec { primary: spec.name == scorer.primary_metric, ..spec };
            short_answer::metrics(rule).into_iter().map(primary).collect()
        }
        // Categories are BLINK's tasks, and the sub-tasks of LLaVA-Interleave Bench.
        ScorerRule::Choice { .. } | ScorerRule::Nlvr2 | ScorerRule::Interleave { .. } => {
            let over_categories = |name: &str| name == choice::MEAN_TASK_ACCURACY || name == interleave::SUB_TASK_MEAN;
            let named = |name: &&'static str| MetricSpec { mean_over_categories: over_categories(name), ..better(name) };
            scorer.rule.metric_names().iter().map(named).collect()
        }
        ScorerRule::Grounding { .. } => {
            ACCURACIES.iter().map(|(name, _)| *name).chain([MEAN_IOU, CENTRE_ACCURACY]).map(better).collect()
        }
        ScorerRule::Caption => {
            let others = BLEU.into_iter().rev().chain([ROUGE_L]).map(better);
            [MetricSpec { points: true, ..better(CIDER) }].into_iter().chain(others).collect()
        }
    };
    metrics.sort_by_key(|metric| !metric.primary);
    metrics
}
