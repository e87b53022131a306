//! Mantis-Eval (TIGER-AI-Lab/Mantis `f3a3192`, `get_prediction` of `mantis/benchmark/eval.py`).

use super::super::python_text::{is_letter, strip};
use super::super::types::SampleScore;
use super::{MULTIPLE_CHOICE_ACCURACY, OPEN_ACCURACY, index_of, kind_metrics, letter, scored};
use crate::benchmark::ChoiceParser;

/// What may stand before an answer, the strongest first.
const BEFORE: [&str; 3] = ["final answer:", "the answer is", "answer:"];

/// `parse_answer`: what stands behind the first mark of the strongest kind, or everything.
fn final_answer(text: &str) -> String {
    let lower = text.to_lowercase();
    for mark in BEFORE {
        if let Some(at) = lower.find(mark) {
            // The original cuts the text where the lower-cased text has the mark, counted in characters; the two differ where
            // lower-casing changes the number of characters.
            let behind = lower.get(..at).unwrap_or_default().chars().count() + mark.chars().count();
            let rest: String = text.chars().skip(behind).collect();
            return strip(&rest).to_owned();
        }
    }
    text.to_owned()
}

/// `get_option`: the first letter of the alphabet in the answer, in upper case.
fn first_letter(answer: &str) -> Option<String> {
    // `Answer: X` cannot be left over: `final_answer` cuts it off. Only a text whose case changes its length could keep it.
    if let Some(at) = answer.strip_prefix("Answer: ").and_then(|rest| rest.chars().next()).filter(char::is_ascii_uppercase) {
        return Some(at.to_string());
    }
    answer.chars().find(|character| is_letter(*character)).map(|found| found.to_uppercase().collect())
}

/// A question with options. The first letter in the answer is the option, if there is such an option; else the answer must be the
/// right option's text, with or without its letter.
pub(super) fn multiple_choice(options: &[String], answer: usize, text: &str) -> SampleScore {
    let metrics = kind_metrics(ChoiceParser::Mantis, MULTIPLE_CHOICE_ACCURACY);
    let found = first_letter(&final_answer(text));
    let mut characters = found.iter().flat_map(|found| found.chars());
    // `ord(letter) - ord('A') < len(options)`: a letter before A would pass as well, but no upper-case letter is before A.
    if let (Some(found), None) = (characters.next(), characters.next())
        && u32::from(found) < u32::from('A') + options.len() as u32
    {
        return scored(Some(found.to_string()), index_of(found) == Some(answer), &metrics);
    }
    let right_option = options.get(answer).zip(letter(answer)).map(|(option, letter)| without_letter(option, letter));
    let right = right_option.is_some_and(|option| strip(text) == strip(option));
    // Unlike the original we call an answer parsed only if it is understood.
    scored(right.then(|| strip(text).to_owned()), right, &metrics)
}

/// The text of an option that may begin with its letter.
fn without_letter(option: &str, letter: char) -> &str {
    [format!("{letter}."), format!("{letter}:"), format!("({letter})")]
        .iter()
        .find_map(|prefix| option.strip_prefix(prefix.as_str()))
        .unwrap_or(option)
}

/// A question without options: the answer behind its mark equals the reference, in any case.
pub(super) fn short_answer(references: &[String], text: &str) -> SampleScore {
    let answer = final_answer(text);
    let right = references.iter().any(|reference| {
        let reference = reference.trim_matches(|character| "()\n ".contains(character));
        reference.to_lowercase() == answer.to_lowercase()
    });
    scored((!answer.is_empty()).then_some(answer), right, &kind_metrics(ChoiceParser::Mantis, OPEN_ACCURACY))
}
