//! Makes the records of a group out of answers, failures and scores.

use sha2::{Digest, Sha256};

use super::memory::peak_memory_bytes;
use super::meter::Between;
use crate::benchmark::{Benchmark, Normalisation, Reference, Sample, ScorerRule, option_letter};
use crate::engine::{Generation, Likelihoods, StageTimings};
use crate::prompt::Prompter;
use crate::score::{self, Candidate};
use crate::store::{Failure, GroupTimings, SampleRecord, SampleTimings};

/// A sample's prompt, ready for the engine.
pub(super) struct PreparedPrompt {
    /// As rendered, image marks included.
    pub text: String,
    /// In tokens, image rows included.
    pub tokens: usize,
}

/// The candidates of a sample, as they were given to the engine.
pub(super) struct PreparedChoices {
    /// Letters or texts.
    pub texts: Vec<String>,
    /// Their tokens.
    pub token_ids: Vec<Vec<u32>>,
    /// How they are compared.
    pub normalise: Normalisation,
}

/// Everything the questions of a group share.
pub(super) struct GroupFacts {
    pub timings: GroupTimings,
}

impl GroupFacts {
    pub(super) fn new(questions: usize, image_ms: f64, stages: &StageTimings) -> Self {
        Self {
            timings: GroupTimings {
                questions,
                image_ms,
                vision_ms: stages.vision_ms,
                projector_ms: stages.projector_ms,
                prefill_ms: stages.prefill_ms,
                decode_ms: stages.decode_ms,
                prefill_tokens: stages.prefill_tokens,
                decode_steps: stages.decode_steps,
                peak_memory_bytes: peak_memory_bytes(),
                image_wait_ms: None,
                harness_ms: None,
            },
        }
    }

    /// With where the time before the group went.
    pub(super) fn between(mut self, between: Between) -> Self {
        self.timings.image_wait_ms = Some(between.image_wait_ms);
        self.timings.harness_ms = Some(between.harness_ms);
        self
    }
}

fn blank(benchmark: &Benchmark, sample: &Sample, prompt: &PreparedPrompt, facts: &GroupFacts) -> SampleRecord {
    SampleRecord {
        key: sample.key.clone(),
        cluster: sample.cluster.clone(),
        category: sample.category.clone(),
        images: sample.images.iter().map(|image| image.text(&benchmark.data_root)).collect(),
        question: sample.question.clone(),
        prompt_sha256: hex(&Sha256::digest(prompt.text.as_bytes())),
        prompt: prompt.text.clone(),
        prompt_tokens: prompt.tokens,
        reference: sample.reference.clone(),
        token_ids: Vec::new(),
        text: String::new(),
        log_probability: 0.0,
        stop_reason: String::new(),
        parsed: None,
        score: None,
        contributions: Default::default(),
        detail: serde_json::Value::Null,
        failure: None,
        timings: SampleTimings { ttft_ms: 0.0, tpot_ms: None, group: facts.timings },
    }
}

/// A sample without an answer.
pub(super) fn failed(
    benchmark: &Benchmark,
    sample: &Sample,
    prompt: &PreparedPrompt,
    facts: &GroupFacts,
    kind: &str,
    message: String,
) -> SampleRecord {
    SampleRecord { failure: Some(Failure { kind: kind.to_owned(), message }), ..blank(benchmark, sample, prompt, facts) }
}

/// An answered sample, scored. An answer that the tokenizer cannot decode is a failure of kind `prompt`.
pub(super) fn answered(
    benchmark: &Benchmark,
    sample: &Sample,
    prompt: &PreparedPrompt,
    facts: &GroupFacts,
    prompter: &Prompter,
    generation: &Generation,
) -> SampleRecord {
    let text = match prompter.decode(&generation.token_ids) {
        Ok(raw) => prompter.trim_answer(&raw),
        Err(error) => return failed(benchmark, sample, prompt, facts, "prompt", error.to_string()),
    };
    let scored = score::score_in_category(&benchmark.spec.scorer, &sample.reference, sample.category.as_deref(), &text);
    let later_tokens = generation.decoded_tokens.saturating_sub(1);
    SampleRecord {
        token_ids: generation.token_ids.clone(),
        log_probability: generation.log_probabilities.iter().map(|&value| f64::from(value)).sum(),
        stop_reason: generation.stop_reason.as_str().to_owned(),
        parsed: scored.parsed,
        score: scored.value,
        contributions: scored.contributions,
        detail: scored.detail,
        text,
        timings: SampleTimings {
            ttft_ms: facts.timings.image_ms + generation.first_token_ms,
            tpot_ms: (later_tokens > 0).then(|| generation.remaining_tokens_ms / later_tokens as f64),
            group: facts.timings,
        },
        ..blank(benchmark, sample, prompt, facts)
    }
}

/// A sample whose answer was chosen by likelihood, scored. The answer is the letter of the most likely option, or `Yes` or `No`,
/// as a model is asked to write it; `detail` has all candidates with their likelihoods, and how far the chosen one is before the
/// next.
pub(super) fn chosen(
    benchmark: &Benchmark,
    sample: &Sample,
    prompt: &PreparedPrompt,
    facts: &GroupFacts,
    choices: &PreparedChoices,
    likelihoods: &Likelihoods,
) -> SampleRecord {
    let sum = |numbers: &[f32]| numbers.iter().map(|&value| f64::from(value)).sum::<f64>();
    let candidates: Vec<Candidate> = choices
        .texts
        .iter()
        .zip(&likelihoods.log_probabilities)
        .map(|(text, numbers)| Candidate { text: text.clone(), tokens: numbers.len(), log_probability: sum(numbers) })
        .collect();
    let Some((place, margin)) = score::most_likely(&candidates, choices.normalise) else {
        return failed(benchmark, sample, prompt, facts, "engine", "the engine ranked no candidate".to_owned());
    };
    let listed = serde_json::json!(candidates);
    let text = match sample.reference {
        Reference::Choice { .. } => Some(option_letter(place)),
        _ => None,
    };
    let text = text.or_else(|| candidates.get(place).map(|candidate| candidate.text.clone())).unwrap_or_default();
    // A scorer that compares likelihoods reads all of them, any other the answer.
    let scored = match benchmark.spec.scorer.rule {
        ScorerRule::ChoiceLikelihood => score::score(&benchmark.spec.scorer, &sample.reference, &listed.to_string()),
        _ => score::score(&benchmark.spec.scorer, &sample.reference, &text),
    };
    let mut detail = scored.detail;
    if let Some(detail) = detail.as_object_mut() {
        detail.insert("candidates".to_owned(), listed);
        detail.insert("margin".to_owned(), serde_json::json!((margin * 1e6).round() / 1e6));
    }
    SampleRecord {
        token_ids: choices.token_ids.get(place).cloned().unwrap_or_default(),
        text,
        log_probability: candidates.get(place).map_or(0.0, |candidate| candidate.log_probability),
        stop_reason: "likelihood".to_owned(),
        parsed: scored.parsed,
        score: scored.value,
        contributions: scored.contributions,
        detail,
        timings: SampleTimings { ttft_ms: facts.timings.image_ms + likelihoods.ready_ms, tpot_ms: None, group: facts.timings },
        ..blank(benchmark, sample, prompt, facts)
    }
}

/// Candidates in order, the best first, with their scores.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ranking {
    pub labels: Vec<String>,
    pub scores: Vec<f32>,
}

/// A sample whose candidates were ranked, scored. The answer is the best candidate; `detail` has the best ones with their
/// scores.
pub(super) fn ranked(
    benchmark: &Benchmark,
    sample: &Sample,
    prompt: &PreparedPrompt,
    facts: &GroupFacts,
    ranking: &Ranking,
) -> SampleRecord {
    let scored = score::score(&benchmark.spec.scorer, &sample.reference, &ranking.labels.join("\n"));
    let mut detail = scored.detail;
    if let Some(detail) = detail.as_object_mut() {
        detail.insert("ranking".to_owned(), serde_json::json!(ranking.labels));
        detail.insert("scores".to_owned(), serde_json::json!(ranking.scores.iter().map(four_decimals).collect::<Vec<f64>>()));
    }
    SampleRecord {
        text: ranking.labels.first().cloned().unwrap_or_default(),
        stop_reason: "ranked".to_owned(),
        parsed: scored.parsed,
        score: scored.value,
        contributions: scored.contributions,
        detail,
        timings: SampleTimings { ttft_ms: facts.timings.image_ms + facts.timings.vision_ms, tpot_ms: None, group: facts.timings },
        ..blank(benchmark, sample, prompt, facts)
    }
}

/// Scores for people and for other programs; the order was made of all digits.
fn four_decimals(score: &f32) -> f64 {
    (f64::from(*score) * 1e4).round() / 1e4
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
