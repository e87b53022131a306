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
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum AnswerKind {
    Generate,
    Likelihood,
}

/// The longest answer, and how answers are had.
pub(super) fn answering(place: &Place<'_>, table: Spanned<GenerationTable>) -> Result<(usize, Answering), BenchmarkError> {
    let at = Spanned::new(table.span(), ());
    let GenerationTable { max_new_tokens, answer, normalise, candidates, end_of_sequence } = table.into_inner();
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
            Answering::Likelihood(_) => Ok((LIKELIHOOD_MAX_NEW_TOKENS, answering)),
            Answering::Generate => Err(place.error(&at, "`generation` needs the field `max_new_tokens`")),
        };
    };
    if !(1..=MAX_NEW_TOKENS_LIMIT).contains(max_new_tokens.get_ref()) {
        let message = format!("expected 1 to {MAX_NEW_TOKENS_LIMIT} new tokens, found {}", max_new_tokens.get_ref());
        return Err(place.error(&max_new_tokens, message));
    }
    Ok((max_new_tokens.into_inner(), answering))
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
