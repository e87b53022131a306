//! From a judge's reply to a score.

use std::collections::BTreeMap;

use serde_json::json;

use super::metrics::mean;
use super::python_text::{float, is_space};
use super::types::SampleScore;
use crate::benchmark::{Contribution, Reference, RelativeScore, ScorerRule};

/// A larger number is no rating: the scale is 1 to 10, and sums of what a judge may write must stay finite.
const LARGEST_RATING: f64 = 1000.0;

/// What a judge said of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Ratings of the reference answer and of the model's answer, on a scale of 1 to 10 (LLaVA-Bench, LLaVA-Med).
    Ratings {
        /// Of the reference answer, which the judge sees first.
        reference: f64,
        /// Of the model's answer.
        answer: f64,
    },
    /// How far the answer is right, 0 to 1 (MM-Vet).
    Correctness(f64),
    /// Whether the answer says what the reference says.
    Match(bool),
}

/// Reads a reply by the rule; `None` where it cannot be read.
///
/// LLaVA-Bench is `parse_score` of `eval_gpt_review_bench.py`: of the first line, commas as spaces, exactly two numbers with
/// one space between them. What the script marks with −1, and then averages in, is `None` here; so are numbers that are no
/// rating: negative, not finite, or above 1000. LLaVA-Med strips the reply and leaves commas. MM-Vet takes what is before the first space,
/// from 0 to 1. A match is one word.
pub fn read_reply(rule: &ScorerRule, reply: &str) -> Option<Verdict> {
    match rule {
        ScorerRule::LlavaBench { relative_score, .. } => {
            let line = reply.split('\n').next().unwrap_or_default().replace(',', " ");
            ratings(&line, *relative_score)
        }
        ScorerRule::LlavaMedChat => {
            let line = reply.trim_matches(is_space).split('\n').next().unwrap_or_default();
            ratings(line, RelativeScore::MeanOfRatios)
        }
        ScorerRule::MmVet => {
            let number = float(reply.split(' ').next().unwrap_or_default().trim_matches(is_space))?;
            (0.0..=1.0).contains(&number).then_some(Verdict::Correctness(number))
        }
        ScorerRule::JudgeMatch => match reply.trim().trim_end_matches('.').to_lowercase().as_str() {
            "correct" => Some(Verdict::Match(true)),
            "incorrect" => Some(Verdict::Match(false)),
            _ => None,
        },
        _ => None,
    }
}

fn ratings(line: &str, relative_score: RelativeScore) -> Option<Verdict> {
    let mut numbers = line.split(' ').map(float);
    let (Some(Some(reference)), Some(Some(answer)), None) = (numbers.next(), numbers.next(), numbers.next()) else {
        return None;
    };
    let rating = |value: f64| (0.0..=LARGEST_RATING).contains(&value);
    // A reference that is worth nothing has no ratio.
    let has_ratio = relative_score == RelativeScore::RatioOfMeans || reference > 0.0;
    (rating(reference) && rating(answer) && has_ratio).then_some(Verdict::Ratings { reference, answer })
}

/// The score of an answer that was judged. The headline score is the answer's rating over 10, its correctness, or 0 or 1.
pub fn judged(rule: &ScorerRule, reference: &Reference, category: Option<&str>, verdict: Verdict) -> SampleScore {
    let mut contributions = BTreeMap::new();
    let mut add = |name: &str, contribution: Contribution| contributions.insert(name.to_owned(), contribution);
    let capabilities: &[String] = match reference {
        Reference::Judged { capabilities, .. } => capabilities,
        _ => &[],
    };
    match (rule, verdict) {
        (ScorerRule::LlavaBench { relative_score, .. }, Verdict::Ratings { reference, answer }) => {
            add(
                "relative_score",
                match relative_score {
                    RelativeScore::RatioOfMeans => Contribution { numerator: answer, denominator: reference },
                    RelativeScore::MeanOfRatios => mean(answer / reference),
                },
            );
            add("reference_rating", mean(reference));
            add("answer_rating", mean(answer));
        }
        (ScorerRule::LlavaMedChat, Verdict::Ratings { reference, answer }) => {
            let ratio = mean(answer / reference);
            add("relative_score", ratio);
            add("reference_rating", mean(reference));
            add("answer_rating", mean(answer));
            // The kind of question and the domain of the image, as far as the rule has a metric for them.
            let groups = category.into_iter().chain(capabilities.iter().map(String::as_str));
            for group in groups.filter(|group| rule.metric_names().contains(group)) {
                add(group, ratio);
            }
        }
        (ScorerRule::MmVet, Verdict::Correctness(share)) => {
            add("mm_vet_score", mean(share));
            for capability in capabilities.iter().filter(|name| rule.metric_names().contains(&name.as_str())) {
                add(capability, mean(share));
            }
        }
        (ScorerRule::JudgeMatch, Verdict::Match(right)) => {
            add("judged_accuracy", mean(f64::from(u8::from(right))));
        }
        // A verdict of another rule has no part in the metrics of this one.
        _ => {}
    }
    let (parsed, value) = match verdict {
        Verdict::Ratings { reference, answer } => (format!("{reference} {answer}"), (answer / 10.0).min(1.0)),
        Verdict::Correctness(share) => (share.to_string(), share),
        Verdict::Match(right) => ((if right { "correct" } else { "incorrect" }).to_owned(), f64::from(u8::from(right))),
    };
    SampleScore { parsed: Some(parsed), value: Some(value), contributions, detail: json!({}) }
}
