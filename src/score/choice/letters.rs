//! Rules that look for a letter alone.

use super::super::python_text::{is_space, strip, words};

/// LLaVA's SEED-Bench rule (haotian-liu/LLaVA `c121f04`, `scripts/convert_seed_for_submission.py`): the answer *is* the
/// letter.
pub(super) fn exact(text: &str) -> Option<char> {
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(letter @ 'A'..='Z'), None) => Some(letter),
        _ => None,
    }
}

/// lmms-eval's SEED-Bench rule (`75571cf`, `tasks/seedbench/utils.py`): the first character of the answer, in either case.
/// So `Bicycle` is B.
pub(super) fn first(text: &str) -> Option<char> {
    strip(text).chars().next().map(|first| first.to_ascii_uppercase()).filter(char::is_ascii_uppercase)
}

/// LLaVA's ScienceQA rule (haotian-liu/LLaVA `c121f04`, `llava/eval/eval_science_qa.py`): a letter A to E; or one that begins
/// the answer, followed by a period and a space; or the only `The answer is X` followed by any character but a newline. The
/// letter must be that of an option.
pub(super) fn science_qa(options: usize, text: &str) -> Option<char> {
    let mut characters = text.chars();
    let beginning = [characters.next(), characters.next(), characters.next()];
    let found = match beginning {
        [Some(letter @ 'A'..='E'), None, None] => letter,
        [Some(letter @ 'A'..='E'), Some('.'), Some(' ')] => letter,
        _ => only_stated(text)?,
    };
    // `options[:len(choices)]` of the five letters.
    super::index_of(found).filter(|index| *index < options.min(5)).map(|_| found)
}

/// The letter of `The answer is ([A-Z]).` where the pattern matches exactly once.
fn only_stated(text: &str) -> Option<char> {
    const BEFORE: &str = "The answer is ";
    let mut found = None;
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(BEFORE) {
        let mut characters = after.chars();
        match (characters.next(), characters.next()) {
            (Some(letter @ 'A'..='Z'), Some(other)) if other != '\n' => {
                if found.replace(letter).is_some() {
                    return None;
                }
                rest = characters.as_str();
            }
            _ => rest = after,
        }
    }
    found
}

/// lmms-eval's ScienceQA rule (`75571cf`, `tasks/scienceqa/utils.py`): the letter in either case, or an upper-case letter
/// with a period behind it at the beginning.
pub(super) fn science_qa_lmms(text: &str) -> Option<char> {
    let text = strip(text);
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(letter), None) => Some(letter.to_ascii_uppercase()).filter(char::is_ascii_uppercase),
        (Some(letter @ 'A'..='Z'), Some('.')) => Some(letter),
        _ => None,
    }
}

/// lmms-eval's AI2D rule (`75571cf`, `tasks/ai2d/utils.py`): a letter with a period at the beginning, or the whole answer;
/// compared after lower-casing and deleting ASCII punctuation, but not white space.
pub(super) fn ai2d(text: &str) -> Option<char> {
    let mut characters = text.trim_start_matches(is_space).chars();
    if let (Some(letter @ 'A'..='Z'), Some('.')) = (characters.next(), characters.next()) {
        return Some(letter);
    }
    let left: String = text.to_lowercase().chars().filter(|character| !character.is_ascii_punctuation()).collect();
    // numpy, which the original compares with, drops zeros at the end of a text.
    match left.trim_end_matches('\0').as_bytes() {
        [letter @ b'a'..=b'z'] => Some(char::from(letter.to_ascii_uppercase())),
        _ => None,
    }
}

/// BLINK's rule (zeyofu/BLINK_Benchmark `2d6a779`, `analyze_answer` of `eval/test_benchmark.py`): a letter A to E with or
/// without parentheses; or the only one of the options in parentheses that stands as a word of its own in the last paragraph,
/// or in all of the answer. Whatever else is given to GPT-3.5 there is unparsed here.
pub(super) fn blink(options: usize, text: &str) -> Option<char> {
    let bare = text.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).unwrap_or(text);
    if let Some(letter @ 'A'..='E') = exact(bare) {
        return Some(letter);
    }
    let only = |text: &str| {
        let mut found = None;
        let mut several = false;
        for word in words(text) {
            let inner = word.strip_prefix('(').and_then(|inner| inner.strip_suffix(')'));
            let letter = inner.and_then(exact).filter(|letter| super::index_of(*letter).is_some_and(|i| i < options.min(5)));
            several |= letter.is_some() && found.is_some() && found != letter;
            found = found.or(letter);
        }
        found.filter(|_| !several)
    };
    only(text.rsplit("\n\n").next().unwrap_or_default()).or_else(|| only(text))
}

/// BLINK's evaluation of extracted predictions (`eval/evaluate.py`): equal to the answer, which is a letter in parentheses.
pub(super) fn blink_extracted(text: &str) -> Option<char> {
    exact(text.strip_prefix('(')?.strip_suffix(')')?)
}

/// lmms-eval's BLINK rule (`75571cf`, `tasks/blink/utils.py`): the first character behind opening parentheses and white space,
/// if it is a letter, in either case. So `The answer is B` is T.
pub(super) fn blink_lmms(text: &str) -> Option<char> {
    let first = text.trim_start_matches(|character| character == '(' || is_space(character)).chars().next()?;
    // Python ignores case by Unicode: the long s and the Kelvin sign are letters of A to Z to it.
    match first {
        '\u{17f}' => Some('S'),
        '\u{212a}' => Some('K'),
        _ => Some(first.to_ascii_uppercase()).filter(char::is_ascii_uppercase),
    }
}
