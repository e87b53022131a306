//! The most likely of given answers, by three ways of comparing likelihoods of unequal length.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::metrics::mean;
use super::types::SampleScore;
use crate::benchmark::{Normalisation, Reference};

/// A given answer and how likely a model finds it. Lists of them stand in a record's `detail` as `candidates`, and are the text
/// that the scorer `choice-likelihood` reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The option's letter or text.
    pub text: String,
    /// Tokens whose log-probabilities are summed.
    pub tokens: usize,
    /// Sum of their natural-log probabilities.
    pub log_probability: f64,
}

impl Candidate {
    /// What is compared. Characters are Unicode code points of the text, without what stands before it in the prompt, as
    /// lm-evaluation-harness counts them (`api/task.py`, `completion_len`).
    pub fn value(&self, normalisation: Normalisation) -> f64 {
        match normalisation {
            Normalisation::Sum => self.log_probability,
            Normalisation::Mean => self.log_probability / self.tokens.max(1) as f64,
            Normalisation::PerCharacter => self.log_probability / self.text.chars().count().max(1) as f64,
        }
    }
}

/// The place of the most likely candidate, the first where several are equally likely (as `numpy.argmax` takes it), and how far
/// it is before the next best (0 where there is no other). `None` without candidates.
pub fn most_likely(candidates: &[Candidate], normalisation: Normalisation) -> Option<(usize, f64)> {
    let values: Vec<f64> = candidates.iter().map(|candidate| candidate.value(normalisation)).collect();
    let mut best = 0;
    for (place, value) in values.iter().enumerate() {
        if values.get(best).is_some_and(|best| value > best) {
            best = place;
        }
    }
    let highest = *values.get(best)?;
    let others = values.iter().enumerate().filter(|(place, _)| *place != best).map(|(_, value)| *value);
    Some((best, others.reduce(f64::max).map_or(0.0, |next| highest - next)))
}

/// Six decimals, enough for a fact that nothing is computed from.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// The candidates that a text lists; `None` if it is no such list or a number in it is none.
fn read(text: &str) -> Option<Vec<Candidate>> {
    let candidates: Vec<Candidate> = serde_json::from_str(text).ok()?;
    let good = |candidate: &Candidate| candidate.log_probability.is_finite() && candidate.tokens > 0;
    (!candidates.is_empty() && candidates.iter().all(good)).then_some(candidates)
}

/// Scores the candidates that `text` lists in the order of the reference's options (of a yes/no question: yes, no). A text that
/// lists other candidates is unparsed and wrong. `None` for references that have no options.
pub(super) fn score(primary_metric: &str, reference: &Reference, text: &str) -> Option<SampleScore> {
    let (options, right) = match reference {
        Reference::Choice { options, answer } => (options.len(), *answer),
        Reference::YesNo { yes } => (2, usize::from(!yes)),
        _ => return None,
    };
    let candidates = read(text).filter(|candidates| candidates.len() == options);
    let headline = Normalisation::of_metric(primary_metric).unwrap_or_default();
    let mut contributions = BTreeMap::new();
    let (mut value, mut parsed, mut margin) = (0.0, None, None);
    for normalisation in [Normalisation::Sum, Normalisation::PerCharacter, Normalisation::Mean] {
        let chosen = candidates.as_deref().and_then(|candidates| most_likely(candidates, normalisation));
        let hit = f64::from(u8::from(chosen.is_some_and(|(place, _)| place == right)));
        contributions.insert(normalisation.metric().to_owned(), mean(hit));
        if normalisation == headline {
            value = hit;
            let candidate = candidates.as_deref().zip(chosen).and_then(|(candidates, (place, _))| candidates.get(place));
            parsed = candidate.map(|candidate| candidate.text.clone());
            margin = chosen.map(|(_, margin)| rounded(margin));
        }
    }
    Some(SampleScore { parsed, value: Some(value), contributions, detail: json!({ "margin": margin }) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(text: &str, tokens: usize, log_probability: f64) -> Candidate {
        Candidate { text: text.to_owned(), tokens, log_probability }
    }

    #[test]
    fn three_ways_of_comparing_choose_three_answers() {
        let candidates = [candidate("no", 1, -2.0), candidate("é é", 2, -2.6), candidate("a long answer", 4, -5.9)];
        assert_eq!(most_likely(&candidates, Normalisation::Sum).unwrap().0, 0);
        assert_eq!(most_likely(&candidates, Normalisation::Mean).unwrap().0, 1);
        let (place, margin) = most_likely(&candidates, Normalisation::PerCharacter).unwrap();
        // Three code points, not five bytes.
        assert!(place == 2 && (margin - (2.6 / 3.0 - 5.9 / 13.0)).abs() < 1e-12);
        let text = serde_json::to_string(&candidates).unwrap();
        let reference = Reference::Choice { options: vec![String::new(); 3], answer: 1 };
        for (metric, value, parsed) in [("acc", 0.0, "no"), ("acc_mean", 1.0, "é é"), ("acc_norm", 0.0, "a long answer")] {
            let scored = score(metric, &reference, &text).unwrap();
            assert_eq!((scored.value, scored.parsed.as_deref()), (Some(value), Some(parsed)), "{metric}");
            let hits: Vec<f64> = scored.contributions.values().map(|contribution| contribution.numerator).collect();
            assert_eq!(hits, [0.0, 1.0, 0.0], "acc, acc_mean, acc_norm");
        }
    }

    #[test]
    fn the_first_of_equals_is_chosen() {
        let equal = [candidate("A", 1, -1.0), candidate("B", 1, -1.0)];
        assert_eq!(most_likely(&equal, Normalisation::Sum), Some((0, 0.0)));
        assert_eq!(most_likely(&equal[..1], Normalisation::Sum), Some((0, 0.0)));
        assert_eq!(most_likely(&[], Normalisation::Sum), None);
    }

    #[test]
    fn what_is_no_list_of_the_candidates_is_unparsed_and_wrong() {
        let reference = Reference::YesNo { yes: true };
        let right = serde_json::to_string(&[candidate("Yes", 1, -0.5), candidate("No", 1, -1.0)]).unwrap();
        assert_eq!(score("acc", &reference, &right).unwrap().value, Some(1.0));
        assert_eq!(score("acc", &Reference::YesNo { yes: false }, &right).unwrap().value, Some(0.0));
        let three = serde_json::to_string(&vec![candidate("Yes", 1, -0.5); 3]).unwrap();
        let no_tokens = serde_json::to_string(&vec![candidate("Yes", 0, -0.5); 2]).unwrap();
        for text in ["", "Yes", "[]", "[1, 2]", "{}", &three, &no_tokens] {
            let scored = score("acc", &reference, text).unwrap();
            assert_eq!((scored.value, scored.parsed), (Some(0.0), None), "{text}");
            assert_eq!(scored.contributions.len(), 3);
        }
        assert_eq!(score("acc", &Reference::Withheld, &right), None);
    }
}
