//! Metrics that one answer alone does not have: pairs of questions that must both be right, and statistics of a whole corpus.

use super::caption;
use super::short_answer;
use super::types::SampleScore;
use super::{choice, groups, interleave, nlvr2};
use crate::benchmark::{ChoiceParser, Reference, ScorerRule, ScorerSpec};

/// A scored answer among all answers of a run.
#[derive(Debug)]
pub struct Answered<'a> {
    /// Samples that belong together: the image, or the group of questions, as the benchmark has it.
    pub cluster: &'a str,
    /// Category, if the benchmark has any.
    pub category: Option<&'a str>,
    /// What a right answer is.
    pub reference: &'a Reference,
    /// The answer.
    pub text: &'a str,
    /// What [`score`](super::score) said of it; completed here.
    pub score: SampleScore,
}

/// Whether a rule has metrics that only all answers together have.
pub fn needs_all_answers(rule: &ScorerRule) -> bool {
    match rule {
        ScorerRule::Vqa { .. }
        | ScorerRule::Pope
        | ScorerRule::Textvqa
        | ScorerRule::Grounding { .. }
        | ScorerRule::LlavaMed
        | ScorerRule::ZeroShot
        | ScorerRule::Retrieval
        | ScorerRule::ChoiceLikelihood
        | ScorerRule::LlavaBench { .. }
        | ScorerRule::LlavaMedChat
        | ScorerRule::MmVet
        | ScorerRule::JudgeMatch => false,
        ScorerRule::ShortAnswer(rule) => short_answer::needs_all_answers(*rule),
        ScorerRule::Choice { parser } => !matches!(
            parser,
            ChoiceParser::ExactLetter
                | ChoiceParser::FirstLetter
                | ChoiceParser::Ai2d
                | ChoiceParser::Blink
                | ChoiceParser::BlinkExtracted
                | ChoiceParser::BlinkLmms
                | ChoiceParser::Mantis
        ),
        ScorerRule::Nlvr2 | ScorerRule::Interleave { .. } => true,
        ScorerRule::Caption => true,
    }
}

/// Adds to each answer its contributions to the metrics that only all answers together have. Answers of samples that failed
/// are not among them. The order of the answers does not matter, except for the last bits of sums.
pub fn complete(scorer: &ScorerSpec, answers: &mut [Answered<'_>]) {
    if !needs_all_answers(&scorer.rule) || answers.is_empty() {
        return;
    }
    match scorer.rule {
        ScorerRule::ShortAnswer(rule) => short_answer::complete(rule, answers),
        ScorerRule::Choice { parser } => match parser {
            ChoiceParser::Mmbench | ChoiceParser::MmbenchVlmevalkit => groups::all_right(choice::CIRCULAR_ACCURACY, answers),
            ChoiceParser::ScienceQa | ChoiceParser::ScienceQaLmms => groups::parts(answers, groups::science_qa_parts),
            ChoiceParser::Mmmu => groups::parts(answers, groups::mmmu_domain),
            ChoiceParser::MmmuOfficialRandom => {
                choice::assign_random_choices(answers);
                groups::parts(answers, groups::mmmu_domain);
            }
            _ => {}
        },
        ScorerRule::Nlvr2 => groups::all_right(nlvr2::CONSISTENCY, answers),
        ScorerRule::Interleave { variant } => interleave::complete(variant, answers),
        ScorerRule::Caption => caption::complete(answers),
        // `needs_all_answers` has said of each of the others that there is nothing to add.
        _ => {}
    }
}
