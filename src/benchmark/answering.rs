//! How a benchmark's answers are had: generated, or chosen by how likely the model finds each of some given ones.

use serde::Deserialize;

use super::types::Reference;

/// How answers are had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answering {
    /// The model writes them.
    #[default]
    Generate,
    /// The most likely candidate is the answer. Samples that have no candidates are generated all the same.
    Likelihood(LikelihoodRule),
}

/// How candidates are made and compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LikelihoodRule {
    /// What stands for an option.
    pub candidates: CandidateTexts,
    /// How candidates of unequal length are compared.
    pub normalise: Normalisation,
    /// Whether the end of the answer is a part of it, as in the loss of an answer that LLaVA is trained on.
    pub end_of_sequence: bool,
}

/// What stands for an option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CandidateTexts {
    /// Its letter.
    #[default]
    Letters,
    /// Its text.
    Texts,
}

/// How candidates of unequal length are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalisation {
    /// The sum of the log-probabilities of all tokens: the likelihood itself (lm-evaluation-harness: `acc`).
    #[default]
    Sum,
    /// Their mean over tokens: the loss with its sign turned (lmms-eval; SEED-Bench).
    Mean,
    /// Their sum over the characters of the text (lm-evaluation-harness: `acc_norm`).
    PerCharacter,
}

impl Normalisation {
    /// The name in TOML files and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Mean => "mean",
            Self::PerCharacter => "per-character",
        }
    }

    /// The metric of the scorer `choice-likelihood` that goes with it.
    pub fn metric(self) -> &'static str {
        match self {
            Self::Sum => "acc",
            Self::Mean => "acc_mean",
            Self::PerCharacter => "acc_norm",
        }
    }

    /// The one that goes with a metric.
    pub fn of_metric(metric: &str) -> Option<Self> {
        [Self::Sum, Self::Mean, Self::PerCharacter].into_iter().find(|normalisation| normalisation.metric() == metric)
    }
}

impl Answering {
    /// In a few words, as a run records it; `None` for generated answers.
    pub fn summary(&self) -> Option<String> {
        match self {
            Self::Generate => None,
            Self::Likelihood(rule) => {
                let candidates = match rule.candidates {
                    CandidateTexts::Letters => "letters",
                    CandidateTexts::Texts => "texts",
                };
                let end = if rule.end_of_sequence { " with the end of sequence" } else { "" };
                Some(format!("likelihood of {candidates}{end}, {}", rule.normalise.as_str()))
            }
        }
    }

    /// The candidates of a sample in the order of its options, of a yes/no question `yes_no` (see
    /// [`ScorerRule::yes_no_words`](super::ScorerRule::yes_no_words)); `None` where the answer is generated. The error says why a
    /// sample's options cannot be candidates.
    pub fn candidates(&self, reference: &Reference, yes_no: [&str; 2]) -> Result<Option<Vec<String>>, String> {
        let Self::Likelihood(rule) = self else { return Ok(None) };
        match reference {
            Reference::YesNo { .. } => Ok(Some(yes_no.map(str::to_owned).into())),
            Reference::Choice { options, .. } => match rule.candidates {
                CandidateTexts::Texts => Ok(Some(options.clone())),
                CandidateTexts::Letters => {
                    let letters: Vec<String> = ('A'..='Z').take(options.len()).map(String::from).collect();
                    if letters.len() < options.len() {
                        return Err(format!("expected at most 26 options, which have letters, found {}", options.len()));
                    }
                    Ok(Some(letters))
                }
            },
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likelihood(candidates: CandidateTexts) -> Answering {
        Answering::Likelihood(LikelihoodRule { candidates, ..LikelihoodRule::default() })
    }

    #[test]
    fn candidates_stand_in_the_order_of_the_options() {
        let choice = Reference::Choice { options: vec!["red".to_owned(), "blue".to_owned()], answer: 1 };
        let texts = |answering: Answering, reference: &Reference| answering.candidates(reference, ["Yes", "No"]).unwrap();
        assert_eq!(texts(likelihood(CandidateTexts::Letters), &choice).unwrap(), ["A", "B"]);
        assert_eq!(texts(likelihood(CandidateTexts::Texts), &choice).unwrap(), ["red", "blue"]);
        assert_eq!(texts(likelihood(CandidateTexts::Texts), &Reference::YesNo { yes: false }).unwrap(), ["Yes", "No"]);
        assert_eq!(texts(Answering::Generate, &choice), None);
        assert_eq!(texts(likelihood(CandidateTexts::Letters), &Reference::Withheld), None);
        let many = Reference::Choice { options: vec!["x".to_owned(); 27], answer: 0 };
        assert!(likelihood(CandidateTexts::Letters).candidates(&many, ["Yes", "No"]).is_err());
    }

    #[test]
    fn a_run_says_how_its_answers_were_had() {
        assert_eq!(Answering::Generate.summary(), None);
        assert_eq!(likelihood(CandidateTexts::Letters).summary().unwrap(), "likelihood of letters, sum");
        let rule =
            LikelihoodRule { candidates: CandidateTexts::Texts, normalise: Normalisation::PerCharacter, end_of_sequence: true };
        let summary = Answering::Likelihood(rule).summary().unwrap();
        assert_eq!(summary, "likelihood of texts with the end of sequence, per-character");
        for normalisation in [Normalisation::Sum, Normalisation::Mean, Normalisation::PerCharacter] {
            assert_eq!(Normalisation::of_metric(normalisation.metric()), Some(normalisation));
        }
    }
}
