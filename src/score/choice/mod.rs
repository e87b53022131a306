//! Multiple choice by generation: which option an answer names, by the rule of each benchmark's own evaluation.
//!
//! Where an original asks a language model or draws at random because it cannot tell, an answer is unparsed here
//! (`parsed` is `None`) and counts as wrong.

mod letters;
mod mantis;
mod mmbench;
mod mmmu;
mod mmmu_open;

pub(super) use mmmu::assign_random_choices;

use serde_json::json;

use super::metrics::mean;
use super::types::SampleScore;
use crate::benchmark::{ChoiceParser, Contributions};

/// Share of right answers.
pub(super) const ACCURACY: &str = "accuracy";
/// Share of right answers among the multiple-choice questions of a benchmark that has others as well.
pub(super) const MULTIPLE_CHOICE_ACCURACY: &str = "multiple_choice_accuracy";
/// Share of right answers among the questions without options.
pub(super) const OPEN_ACCURACY: &str = "open_accuracy";
/// Unweighted mean over categories (BLINK's tasks) of the share of right answers.
pub(super) const MEAN_TASK_ACCURACY: &str = "mean_task_accuracy";
/// Share of question groups whose every rotation is answered rightly.
pub(super) const CIRCULAR_ACCURACY: &str = "circular_accuracy";

/// The letter of an option: A for the first. `None` beyond Z.
pub(super) fn letter(index: usize) -> Option<char> {
    u8::try_from(index).ok().filter(|index| *index < 26).map(|index| char::from(b'A' + index))
}

/// The index of an option by its letter.
fn index_of(letter: char) -> Option<usize> {
    letter.is_ascii_uppercase().then(|| usize::from(letter as u8 - b'A'))
}

/// Scores the answer to a question with options, of which `answer` is the index of the right one.
pub(super) fn score(parser: ChoiceParser, options: &[String], answer: usize, text: &str) -> SampleScore {
    if parser == ChoiceParser::Mantis {
        return mantis::multiple_choice(options, answer, text);
    }
    let named = parse(parser, options, text);
    let right = named.is_some_and(|named| index_of(named) == Some(answer));
    scored(named.map(String::from), right, &kind_metrics(parser, MULTIPLE_CHOICE_ACCURACY))
}

/// Scores the answer to a question without options, for benchmarks that have such questions among the others; `None` where
/// the rule knows no such question.
pub(super) fn open_score(parser: ChoiceParser, answers: &[String], text: &str) -> Option<SampleScore> {
    match parser {
        ChoiceParser::Mmmu | ChoiceParser::MmmuOfficialRandom => {
            let right = mmmu_open::is_right(answers, text);
            let parsed = (!super::python_text::strip(text).is_empty()).then(|| text.to_owned());
            Some(scored(parsed, right, &kind_metrics(parser, OPEN_ACCURACY)))
        }
        ChoiceParser::Mantis => Some(mantis::short_answer(answers, text)),
        _ => None,
    }
}

/// The option that an answer names.
fn parse(parser: ChoiceParser, options: &[String], text: &str) -> Option<char> {
    match parser {
        ChoiceParser::ExactLetter => letters::exact(text),
        ChoiceParser::FirstLetter => letters::first(text),
        ChoiceParser::ScienceQa => letters::science_qa(options.len(), text),
        ChoiceParser::ScienceQaLmms => letters::science_qa_lmms(text),
        ChoiceParser::Ai2d => letters::ai2d(text),
        ChoiceParser::Blink => letters::blink(options.len(), text),
        ChoiceParser::BlinkExtracted => letters::blink_extracted(text),
        ChoiceParser::BlinkLmms => letters::blink_lmms(text),
        ChoiceParser::Mmbench => mmbench::original(options, text),
        ChoiceParser::MmbenchVlmevalkit => mmbench::vlmevalkit(options, text),
        ChoiceParser::Mmmu | ChoiceParser::MmmuOfficialRandom => mmmu::multiple_choice(options, text),
        // Scored as a whole, because it may compare with an option's text.
        ChoiceParser::Mantis => None,
    }
}

/// Metrics that a sample takes part in before all answers are known.
fn kind_metrics(parser: ChoiceParser, kind: &'static str) -> Vec<&'static str> {
    match parser {
        ChoiceParser::Mmmu | ChoiceParser::MmmuOfficialRandom | ChoiceParser::Mantis => vec![ACCURACY, kind],
        ChoiceParser::Blink | ChoiceParser::BlinkExtracted | ChoiceParser::BlinkLmms => vec![ACCURACY, MEAN_TASK_ACCURACY],
        _ => vec![ACCURACY],
    }
}

fn scored(parsed: Option<String>, right: bool, metrics: &[&str]) -> SampleScore {
    let value = f64::from(u8::from(right));
    let contributions: Contributions = metrics.iter().map(|name| ((*name).to_owned(), mean(value))).collect();
    let unparsed = parsed.is_none();
    SampleScore {
        parsed,
        value: Some(value),
        contributions,
        detail: if unparsed { json!({ "unparsed": true }) } else { json!({}) },
    }
}
