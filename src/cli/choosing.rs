//! `run --choices --normalise --candidates`: how answers to questions with options are had.

use anyhow::anyhow;
use clap::Args;

use super::exit::{Exit, Failure};
use crate::benchmark::{Answering, Benchmark, CandidateTexts, LikelihoodRule, Normalisation, Reference, ScorerRule};

/// Options that take the place of what benchmarks say.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Choosing {
    /// Have the model write the answers of multiple-choice and yes/no questions, or choose the most likely option [default: what
    /// each benchmark says]
    #[arg(long, value_enum, value_name = "HOW")]
    choices: Option<Choices>,
    /// How the likelihoods of options of unequal length are compared [default: what the benchmark says, or sum]
    #[arg(long, value_enum, value_name = "HOW")]
    normalise: Option<NormaliseArgument>,
    /// What stands for an option whose likelihood is taken [default: what the benchmark says, or letters]
    #[arg(long, value_enum, value_name = "WHAT")]
    candidates: Option<CandidatesArgument>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Choices {
    /// The model writes an answer
    Generate,
    /// The option that the model finds most likely is the answer
    Likelihood,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum NormaliseArgument {
    /// Log-probabilities of all tokens summed
    Sum,
    /// Their mean over tokens
    Mean,
    /// Their sum over the characters of the option
    PerCharacter,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum CandidatesArgument {
    /// Its letter
    Letters,
    /// Its text
    Texts,
}

impl Choosing {
    /// Puts the options in the place of what the benchmark says. Benchmarks without questions that have options are refused, as
    /// are options that change nothing.
    pub fn apply(&self, benchmark: &mut Benchmark) -> Result<(), Failure> {
        let refuse = |message: String| Err(Failure::new(Exit::Setup, anyhow!(message)));
        let name = benchmark.spec.name.clone();
        let given = self.normalise.is_some() || self.candidates.is_some();
        if self.choices.is_none() && !given {
            return Ok(());
        }
        let has_options = |reference: &Reference| matches!(reference, Reference::Choice { .. } | Reference::YesNo { .. });
        if !benchmark.samples.iter().any(|sample| has_options(&sample.reference)) {
            return refuse(format!(
                "--choices, --normalise and --candidates are for multiple-choice and yes/no questions, of which {name} has none"
            ));
        }
        let own = match benchmark.spec.answering {
            Answering::Likelihood(rule) => Some(rule),
            Answering::Generate => None,
        };
        match (self.choices, own) {
            (Some(Choices::Generate), _) | (None, None) if given => {
                return refuse(format!("{name}: --normalise and --candidates are of use with --choices likelihood only"));
            }
            (Some(Choices::Generate), _) => {
                if benchmark.spec.scorer.rule == ScorerRule::ChoiceLikelihood {
                    let scorer = benchmark.spec.scorer.identity();
                    return refuse(format!("{name} is scored by {scorer}, which reads likelihoods and no generated answers"));
                }
                benchmark.spec.answering = Answering::Generate;
            }
            (_, own) => {
                let own = own.unwrap_or_default();
                let rule = LikelihoodRule {
                    candidates: self.candidates.map_or(own.candidates, |candidates| match candidates {
                        CandidatesArgument::Letters => CandidateTexts::Letters,
                        CandidatesArgument::Texts => CandidateTexts::Texts,
                    }),
                    normalise: self.normalise.map_or(own.normalise, |normalise| match normalise {
                        NormaliseArgument::Sum => Normalisation::Sum,
                        NormaliseArgument::Mean => Normalisation::Mean,
                        NormaliseArgument::PerCharacter => Normalisation::PerCharacter,
                    }),
                    ..own
                };
                benchmark.spec.answering = Answering::Likelihood(rule);
                if benchmark.spec.scorer.rule == ScorerRule::ChoiceLikelihood {
                    benchmark.spec.scorer.primary_metric = rule.normalise.metric().to_owned();
                }
            }
        }
        Ok(())
    }
}
