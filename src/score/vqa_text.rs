//! The two text normalisations of VQA accuracy, with every quirk of their sources, because a score that cleans better is
//! another score.

use super::contractions::contraction;
use super::python_text::{is_digit, is_space, strip};

/// Characters that the official evaluation removes or replaces by a space, in its order.
const PUNCTUATION: [char; 21] =
    [';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',', '?', '!'];

/// Both sources pass `re.UNICODE` where `re.sub` takes its count, so no more than 32 periods are removed from a text.
const PERIODS_REMOVED_AT_MOST: usize = 32;

/// The normalisation of the official VQA evaluation at its current revision (GT-Vision-Lab/VQA `a013f00`): white space,
/// punctuation, then numbers, articles and contractions.
pub fn official_normalise(text: &str) -> String {
    let clean = official_clean(text);
    digits_and_articles(&punctuation(&clean, comma_between_digits(&clean)))
}

/// The official normalisation as lmms-eval has it (`vqa_eval_metric.py`): several commas between digits count as one does.
pub(super) fn lmms_normalise(text: &str) -> String {
    let clean = official_clean(text);
    digits_and_articles(&punctuation(&clean, commas_between_digits(&clean)))
}

/// The normalisation of VizWiz's evaluation: the official one with a contraction table of its own, in which most apostrophes
/// are backticks. A word with a backtick never gets there, because punctuation is gone by then.
pub(super) fn vizwiz_normalise(text: &str) -> String {
    let clean = official_clean(text);
    words(&punctuation(&clean, comma_between_digits(&clean)), vizwiz_contraction)
}

/// What the official evaluation does to every answer before it looks at anything: newlines and tabs become spaces and the
/// ends are trimmed.
pub(super) fn official_clean(text: &str) -> String {
    strip(&text.replace(['\n', '\t'], " ")).to_owned()
}

/// The `EvalAIAnswerProcessor` that LLaVA and TextVQA use (`m4c_evaluator.py`): first a word tokenisation that drops commas
/// and question marks and splits `'s` off, then the official steps.
pub fn m4c_normalise(text: &str) -> String {
    let tokenised = text.to_lowercase().replace([',', '?'], "").replace("'s", " 's");
    let clean = official_clean(strip(&tokenised));
    // No comma is left, so the comma rule of this variant can never apply.
    digits_and_articles(&punctuation(&clean, false))
}

/// The normalisation of LLaVA-Med's evaluation (`glossary.py`, `normalize_word`): punctuation, numbers, articles and
/// contractions as in the official VQA evaluation, but nothing is trimmed before punctuation is looked at, so that a tab or a
/// newline beside a mark is no space. (Its last step deletes commas, of which none is left by then.)
pub fn med_normalise(text: &str) -> String {
    digits_and_articles(&punctuation(text, comma_between_digits(text)))
}

/// Whether a comma stands between two digits: one such comma makes the official evaluation delete all punctuation instead
/// of replacing it by spaces.
fn comma_between_digits(text: &str) -> bool {
    let (mut before, mut comma) = (false, false);
    for character in text.chars() {
        let digit = is_digit(character);
        if comma && digit {
            return true;
        }
        comma = character == ',' && before;
        before = digit;
    }
    false
}

/// Whether one comma or more stand between two digits.
fn commas_between_digits(text: &str) -> bool {
    let (mut digit_before, mut commas) = (false, false);
    for character in text.chars() {
        let digit = is_digit(character);
        if commas && digit {
            return true;
        }
        commas = character == ',' && (digit_before || commas);
        digit_before = digit;
    }
    false
}

/// `processPunctuation` of the official VQA evaluation alone, which other evaluations have taken over.
pub(super) fn official_punctuation(text: &str) -> String {
    punctuation(text, comma_between_digits(text))
}

/// Deletes a punctuation character if the original text has it beside a space (or `delete_all`), else replaces it by a
/// space; then removes up to 32 periods that no digit follows.
fn punctuation(text: &str, delete_all: bool) -> String {
    let mut beside_space = [false; PUNCTUATION.len()];
    let mut previous = None;
    for character in text.chars() {
        for (flag, mark) in beside_space.iter_mut().zip(PUNCTUATION) {
            *flag |= (previous == Some(mark) && character == ' ') || (previous == Some(' ') && character == mark);
        }
        previous = Some(character);
    }
    let replaced: String = text
        .chars()
        .filter_map(|character| match PUNCTUATION.iter().zip(beside_space).find(|(mark, _)| **mark == character) {
            Some((_, delete)) => (!delete && !delete_all).then_some(' '),
            None => Some(character),
        })
        .collect();
    let mut output = String::with_capacity(replaced.len());
    let mut removed = 0;
    let mut characters = replaced.chars().peekable();
    while let Some(character) = characters.next() {
        // The sources mean to protect a period after a digit as well, but their pattern has a typing error (`(?!<=\d)`) that
        // never blocks: `3.` loses its period.
        if character == '.' && removed < PERIODS_REMOVED_AT_MOST && !characters.peek().copied().is_some_and(is_digit) {
            removed += 1;
        } else {
            output.push(character);
        }
    }
    output
}

/// Lower case, number words to digits, articles dropped, contractions restored, joined by single spaces.
fn digits_and_articles(text: &str) -> String {
    words(text, |word| contraction(word).map(str::to_owned))
}

/// The words with the contractions of a table.
fn words(text: &str, contraction: impl Fn(&str) -> Option<String>) -> String {
    let lower = text.to_lowercase();
    let mut output = String::with_capacity(lower.len());
    for word in lower.split(is_space).filter(|word| !word.is_empty()) {
        let word = number(word).unwrap_or(word);
        if matches!(word, "a" | "an" | "the") {
            continue;
        }
        if !output.is_empty() {
            output.push(' ');
        }
        match contraction(word) {
            Some(replacement) => output.push_str(&replacement),
            None => output.push_str(word),
        }
    }
    output
}

/// VizWiz's contraction of a word. Eight entries of its table have kept their apostrophes.
fn vizwiz_contraction(word: &str) -> Option<String> {
    const KEYS_WITH_APOSTROPHE: [&str; 2] = ["couldn'tve", "hadn'tve"];
    const KEPT: [&str; 8] = ["aint", "arent", "cant", "couldve", "couldnt", "weve", "wheres", "whove"];
    if word.contains('\'') && !KEYS_WITH_APOSTROPHE.contains(&word) {
        return None;
    }
    let replacement = contraction(word)?;
    Some(if KEPT.contains(&word) { replacement.to_owned() } else { replacement.replace('\'', "`") })
}

/// Digits of a number word.
fn number(word: &str) -> Option<&'static str> {
    Some(match word {
        "none" | "zero" => "0",
        "one" => "1",
        "two" => "2",
        "three" => "3",
        "four" => "4",
        "five" => "5",
        "six" => "6",
        "seven" => "7",
        "eight" => "8",
        "nine" => "9",
        "ten" => "10",
        _ => return None,
    })
}
