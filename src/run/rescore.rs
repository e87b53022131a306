//! Scores stored answers again, without a model: by another rule, or to add what only all answers together have.

use super::error::RunError;
use crate::benchmark::{Reference, ScorerRule, ScorerSpec};
use crate::score::{self, Answered};
use crate::store::{FORMAT, Run, SampleRecord, Scores, StoredScore};

/// The scores of a run's answers by a scorer. Failed samples have none. A scorer that cannot use the references of the run is
/// an error.
pub fn rescore(run: &Run, scorer: &ScorerSpec) -> Result<Scores, RunError> {
    let records: Vec<&SampleRecord> = run.records.iter().filter(|record| record.failure.is_none()).collect();
    let by_likelihood = scorer.rule == ScorerRule::ChoiceLikelihood;
    if by_likelihood && records.iter().any(|record| record.detail.get("candidates").is_none()) {
        let reason =
            format!("the scorer {} compares the likelihoods of candidates and cannot score generated answers", scorer.identity());
        return Err(RunError::Scorer { benchmark: run.header.benchmark.name.clone(), reason });
    }
    // What such an answer would have gone on to say is not known, and another rule may read on.
    if scorer.identity() != run.header.benchmark.scorer && records.iter().any(|record| record.stop_reason == "decided") {
        let (own, other) = (&run.header.benchmark.scorer, scorer.identity());
        let reason = format!("the scorer {other} may read more than the answers that ended once {own} could score them");
        return Err(RunError::Scorer { benchmark: run.header.benchmark.name.clone(), reason });
    }
    let texts: Vec<String> = records.iter().map(|record| scored_text(record, by_likelihood)).collect();
    let mut answers = Vec::with_capacity(records.len());
    for (record, text) in records.iter().zip(&texts) {
        let score = score::score_in_category(scorer, &record.reference, record.category.as_deref(), text);
        if let Some(reason) = score.detail.get("error").and_then(serde_json::Value::as_str) {
            return Err(RunError::Scorer { benchmark: run.header.benchmark.name.clone(), reason: reason.to_owned() });
        }
        answers.push(Answered {
            cluster: &record.cluster,
            category: record.category.as_deref(),
            reference: &record.reference,
            text,
            score,
        });
    }
    score::complete(scorer, &mut answers);
    let samples = records
        .iter()
        .zip(answers)
        .map(|(record, answer)| StoredScore {
            key: record.key.clone(),
            parsed: answer.score.parsed,
            score: answer.score.value,
            contributions: answer.score.contributions,
            detail: with_own_facts(answer.score.detail, &record.detail),
        })
        .collect();
    Ok(Scores { format: FORMAT, scorer: scorer.identity(), metrics: score::metrics(scorer), judge: None, samples })
}

/// What was scored: of a ranking all that the record kept of it, and of likelihoods those of all candidates where the scorer
/// compares them itself.
fn scored_text(record: &SampleRecord, by_likelihood: bool) -> String {
    if let (true, Some(candidates)) = (by_likelihood, record.detail.get("candidates")) {
        return candidates.to_string();
    }
    let ranked = matches!(record.reference, Reference::Class { .. } | Reference::Retrieval { .. });
    match record.detail.get("ranking").and_then(serde_json::Value::as_array) {
        Some(labels) if ranked => labels.iter().filter_map(serde_json::Value::as_str).collect::<Vec<_>>().join("\n"),
        _ => record.text.clone(),
    }
}

/// Facts that do not come from the scorer, such as the scores of candidates, are kept.
fn with_own_facts(mut scored: serde_json::Value, recorded: &serde_json::Value) -> serde_json::Value {
    if let (Some(scored), Some(recorded)) = (scored.as_object_mut(), recorded.as_object()) {
        for name in OWN_FACTS {
            if let Some(value) = recorded.get(name) {
                scored.insert(name.to_owned(), value.clone());
            }
        }
        // By the comparison that the run was made with, unless the scorer has its own.
        if let (Some(margin), false) = (recorded.get("margin"), scored.contains_key("margin")) {
            scored.insert("margin".to_owned(), margin.clone());
        }
    }
    scored
}

/// Facts of a record that the conductor adds to the scorer's.
const OWN_FACTS: [&str; 3] = ["ranking", "scores", "candidates"];
