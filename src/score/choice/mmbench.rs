//! MMBench: which option a free answer names.

use super::super::python_text::words;
use super::letter;

/// The original evaluation, as lmms-eval keeps it (`75571cf`, `tasks/mmbench/mmbench_evals.py`): a letter A to E that stands
/// alone, unless it may be the article A; a letter with one of twelve kinds of punctuation around it; the only option whose
/// text the answer has. What it then gives to GPT, or draws, is unparsed.
pub(super) fn original(options: &[String], text: &str) -> Option<char> {
    if !text.contains(FAILED) {
        let words: Vec<&str> = words(text).collect();
        let standing = |prefix: &str, suffix: &str| -> Vec<char> {
            ('A'..='E').filter(|letter| words.contains(&format!("{prefix}{letter}{suffix}").as_str())).collect()
        };
        if let [only] = standing("", "").as_slice() {
            let article = words.contains(&"A") && words.len() > 3;
            if !article {
                return Some(*only);
            }
        }
        for (prefix, suffix) in MARKED {
            if let [only] = standing(prefix, suffix).as_slice() {
                return Some(*only);
            }
        }
    }
    // Only A to D have texts there.
    only_text(options.get(..4).unwrap_or(options), &text.to_lowercase())
}

/// What an answer reads that an API could not give.
const FAILED: &str = "Failed to obtain answer via API";

/// Punctuation before and behind a letter, in the original's order.
const MARKED: [(&str, &str); 12] = [
    ("", "."),
    ("", ","),
    ("", ":"),
    ("", ")"),
    ("", ")."),
    ("(", ")"),
    ("(", ")."),
    (":", ""),
    (":", ","),
    (":", "."),
    (":", ")"),
    (":", ")."),
];

/// VLMEvalKit (`e8e78f0`, `can_infer` of `vlmeval/utils/matching_util.py`) under its policy `exact_matching`: the only option
/// letter among the words, punctuation taken away, if it is among the last five of them; else `answer is X`; else the only option
/// whose text the answer has, if the answer is not more than twice as long as all options together. Refusals and `Z` are no
/// option.
pub(super) fn vlmevalkit(options: &[String], text: &str) -> Option<char> {
    match vlmevalkit_letter(options, text) {
        Some(letter) => super::index_of(letter).filter(|index| *index < options.len()).map(|_| letter),
        None => {
            let lower = text.to_lowercase();
            let length: usize = options.iter().map(|option| option.chars().count()).sum();
            if lower.chars().count() > 2 * length { None } else { only_text(options, &lower) }
        }
    }
}

/// Answers that refuse, which VLMEvalKit counts as the option Z.
const REFUSALS: [&str; 4] = [
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
];

/// `can_infer_option`: a letter, which may be `Z` for none of the options.
fn vlmevalkit_letter(options: &[String], text: &str) -> Option<char> {
    if text.contains(FAILED) {
        return None;
    }
    if REFUSALS.iter().any(|refusal| text.contains(refusal)) {
        return Some('Z');
    }
    let plain = text.replace(['.', '(', ')', '[', ']', ',', ':', ';', '!', '*', '#', '{', '}'], " ");
    let words: Vec<&str> = words(&plain).collect();
    let letters: Vec<char> = (0..options.len()).filter_map(letter).collect();
    let place = |letter: char| words.iter().position(|word| super::letters::exact(word) == Some(letter));
    let standing: Vec<(char, usize)> = letters.iter().filter_map(|letter| Some((*letter, place(*letter)?))).collect();
    match standing.as_slice() {
        [(letter, place)] if place + 5 > words.len() => return Some(*letter),
        [] if place('Z').is_some() => return Some('Z'),
        _ => {}
    }
    stated(text).filter(|letter| letters.contains(letter))
}

/// The first match of `(?i)(?:correct\s+)?answer\s+is\s+\**([ABCD])\**`.
fn stated(text: &str) -> Option<char> {
    let lower: Vec<char> = text.chars().map(fold).collect();
    let space = |from: usize| {
        lower.get(from..).unwrap_or_default().iter().take_while(|c| super::super::python_text::is_space(**c)).count()
    };
    let reads = |from: usize, word: &str| word.chars().enumerate().all(|(offset, c)| lower.get(from + offset) == Some(&c));
    (0..lower.len()).find_map(|start| {
        if !reads(start, "answer") {
            return None;
        }
        let is = start + 6 + space(start + 6);
        if is == start + 6 || !reads(is, "is") {
            return None;
        }
        let behind = is + 2 + space(is + 2);
        if behind == is + 2 {
            return None;
        }
        let stars = lower.get(behind..).unwrap_or_default().iter().take_while(|c| **c == '*').count();
        lower.get(behind + stars).map(char::to_ascii_uppercase).filter(|c| matches!(c, 'A'..='D'))
    })
}

/// How Python compares characters where it ignores case and the pattern is ASCII.
fn fold(character: char) -> char {
    match character {
        '\u{17f}' => 's',
        // The dotted capital I and the dotless small i are the same as i to Python's `re.IGNORECASE`.
        '\u{130}' | '\u{131}' => 'i',
        _ => character.to_ascii_lowercase(),
    }
}

/// `can_infer_text`: the only option whose text is in the answer, which is in lower case.
fn only_text(options: &[String], lower: &str) -> Option<char> {
    let mut found = (0..).zip(options).filter(|(_, option)| lower.contains(&option.to_lowercase()));
    match (found.next(), found.next()) {
        (Some((index, _)), None) => letter(index),
        _ => None,
    }
}
