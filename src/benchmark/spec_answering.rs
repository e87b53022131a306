//! The table `generation` of a benchmark's TOML file: how answers are had.

use serde::Deserialize;
use toml::Spanned;

use super::answering::{Answering, CandidateTexts, LikelihoodRule, Normalisation};
use super::error::BenchmarkError;
use super::scorer_rule::{ScorerRule, ScorerSpec};
use super::spec_file::Place;

/// Longest answer that a benchmark may ask for.
const MAX_NEW_TOKENS_LIMIT: usize = 4096;

/// Longest answer of samples without candidates in a benchmark that is answered by likelihood and does not say otherwise:
/// what LLaVA's `model_vqa_loader.py` has.
const LIKELIHOOD_MAX_NEW_TOKENS: usize = 128;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GenerationTable {
    max_new_tokens: Option<Spanned<usize>>,
    answer: Option<Spanned<AnswerKind>>,
    normalise: Option<Spanned<Normalisation>>,
    candidates: Option<Spanned<CandidateTexts>>,
    end_of_sequence: Option<Spanned<bool>>,
    stop_when_decided: Option<Spanned<bool>>,
}

/// What the table says.
#[derive(Default)]
pub(super) struct Generation {
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
    /// How answers are had.
    pub answering: Answering,
    /// Whether an answer ends as soon as it decides its score, and where that is said.
    pub stop_when_decided: Option<Spanned<bool>>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum AnswerKind {
    Generate,
    Likelihood,
}

/// Reads the table.
pub(super) fn generation(place: &Place<'_>, table: Spanned<GenerationTable>) -> Result<Generation, BenchmarkError> {
    let at = Spanned::new(table.span(), ());
    let GenerationTable { max_new_tokens, answer, normalise, candidates, end_of_sequence, stop_when_decided } =
        table.into_inner();
    let answering = match answer.as_ref().map(Spanned::get_ref) {
        Some(AnswerKind::Likelihood) => Answering::Likelihood(LikelihoodRule {
            candidates: candidates.map(Spanned::into_inner).unwrap_or_default(),
            normalise: normalise.map(Spanned::into_inner).unwrap_or_default(),
            end_of_sequence: end_of_sequence.is_some_and(Spanned::into_inner),
        }),
        Some(AnswerKind::Generate) | None => {
            let owner = "answers that are generated";
            place.unused(&normalise, "normalise", owner)?;
            place.unused(&candidates, "candidates", owner)?;
            place.unused(&end_of_sequence, "end_of_sequence", owner)?;
            Answering::Generate
        }
    };
    let Some(max_new_tokens) = max_new_tokens else {
        return match answering {
            Answering::Likelihood(_) => {
                Ok(Generation { max_new_tokens: LIKELIHOOD_MAX_NEW_TOKENS, answering, stop_when_decided })
            }
            Answering::Generate => Err(place.error(&at, "`generation` needs the field `max_new_tokens`")),
        };
    };
    if !(1..=MAX_NEW_TOKENS_LIMIT).contains(max_new_tokens.get_ref()) {
        let message = format!("expected 1 to {MAX_NEW_TOKENS_LIMIT} new tokens, found {}", max_new_tokens.get_ref());
        return Err(place.error(&max_new_tokens, message));
    }
    Ok(Generation { max_new_tokens: max_new_tokens.into_inner(), answering, stop_when_decided })
}

/// Whether answers end as soon as they decide their score; refused with a rule that reads the whole answer.
pub(super) fn stops_when_decided(
    place: &Place<'_>,
    stop_when_decided: Option<Spanned<bool>>,
    rule: &ScorerRule,
) -> Result<bool, BenchmarkError> {
    match stop_when_decided {
        Some(at) if *at.get_ref() && !rule.can_be_decided_early() => {
            let identity = rule.identity();
            Err(place.error(&at, format_args!("`stop_when_decided` is of no use: the scorer {identity} reads the whole answer")))
        }
        given => Ok(given.is_some_and(Spanned::into_inner)),
    }
}

/// Makes a scorer that compares likelihoods agree with how answers are had; others are as they were. `kind` and `primary_metric`
/// are the places of these fields.
pub(super) fn agree(
    place: &Place<'_>,
    answering: Answering,
    scorer: &mut ScorerSpec,
    kind: &Spanned<()>,
    primary_metric: Option<&Spanned<()>>,
) -> Result<(), BenchmarkError> {
    if scorer.rule != ScorerRule::ChoiceLikelihood {
        return Ok(());
    }
    let Answering::Likelihood(rule) = answering else {
        return Err(place.error(kind, "the scorer `choice-likelihood` needs `answer = \"likelihood\"` in `generation`"));
    };
    let metric = rule.normalise.metric();
    match primary_metric {
        Some(at) if scorer.primary_metric != metric => {
            let normalise = rule.normalise.as_str();
            Err(place.error(at, format_args!("expected {metric:?}, which goes with `normalise = {normalise:?}`")))
        }
        _ => {
            scorer.primary_metric = metric.to_owned();
            Ok(())
        }
    }
}
