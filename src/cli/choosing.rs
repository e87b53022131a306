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
    /// Puts the options in the place of what the benchmarks say, where they have questions with options. It is refused if none
    /// has any, and if an option changes nothing.
    pub fn apply(&self, benchmarks: &mut [Benchmark]) -> Result<(), Failure> {
        let given = self.normalise.is_some() || self.candidates.is_some();
        if self.choices.is_none() && !given {
            return Ok(());
        }
        let has_options = |reference: &Reference| matches!(reference, Reference::Choice { .. } | Reference::YesNo { .. });
        let mut applied = false;
        let asks = |benchmark: &&mut Benchmark| benchmark.samples.iter().any(|sample| has_options(&sample.reference));
        for benchmark in benchmarks.iter_mut().filter(asks) {
            self.apply_to(benchmark, given)?;
            applied = true;
        }
        if applied {
            return Ok(());
        }
        let names: Vec<&str> = benchmarks.iter().map(|benchmark| benchmark.spec.name.as_str()).collect();
        let error = anyhow!(
            "--choices, --normalise and --candidates are for multiple-choice and yes/no questions, of which {} has none",
            names.join(", ")
        );
        Err(Failure::new(Exit::Setup, error))
    }

    fn apply_to(&self, benchmark: &mut Benchmark, given: bool) -> Result<(), Failure> {
        let name = &benchmark.spec.name;
        let refuse = |message: String| Err(Failure::new(Exit::Setup, anyhow!(message)));
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
                let candidates = match self.candidates {
                    Some(CandidatesArgument::Letters) => CandidateTexts::Letters,
                    Some(CandidatesArgument::Texts) => CandidateTexts::Texts,
                    None => own.candidates,
                };
                let normalise = match self.normalise {
                    Some(NormaliseArgument::Sum) => Normalisation::Sum,
                    Some(NormaliseArgument::Mean) => Normalisation::Mean,
                    Some(NormaliseArgument::PerCharacter) => Normalisation::PerCharacter,
                    None => own.normalise,
                };
                let rule = LikelihoodRule { candidates, normalise, ..own };
                benchmark.spec.answering = Answering::Likelihood(rule);
                if benchmark.spec.scorer.rule == ScorerRule::ChoiceLikelihood {
                    benchmark.spec.scorer.primary_metric = rule.normalise.metric().to_owned();
                }
            }
        }
        Ok(())
    }
}
