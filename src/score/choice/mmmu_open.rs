//! MMMU's questions without options (MMMU-Benchmark/MMMU `bb0b95a`, `parse_open_response` and `eval_open` of
//! `mmmu/utils/eval_utils.py`): the tails of sentences and the numbers in them are compared with the answers.

use super::super::python_number::{python_float, round_to_hundredths};
use super::super::python_text::{is_digit, is_word, strip};

/// What a response or an answer comes to: a number rounded to hundredths, or a text in lower case.
#[derive(Clone, Debug, PartialEq)]
enum Normal {
    Number(f64),
    Text(String),
}

/// Whether a response has one of the answers: a text of an answer inside of a text of the response, or equal numbers.
pub(super) fn is_right(answers: &[String], response: &str) -> bool {
    let wanted: Vec<Normal> = answers.iter().flat_map(|answer| normalise(answer)).collect();
    let tails = key_responses(response);
    let numbers = tails.iter().flat_map(|tail| numbers(tail));
    tails.iter().cloned().chain(numbers).flat_map(|text| normalise(&text)).any(|found| match found {
        Normal::Text(text) => wanted.iter().any(|one| matches!(one, Normal::Text(answer) if text.contains(answer.as_str()))),
        Normal::Number(number) => wanted.contains(&Normal::Number(number)),
    })
}

/// `normalize_str`. A text of a single character gets a space before and behind it, so that it only matches a word's end.
fn normalise(text: &str) -> Vec<Normal> {
    let text = strip(text);
    if let Some(number) = python_float(&text.replace(',', "")) {
        return vec![Normal::Number(round_to_hundredths(number))];
    }
    let lower = text.to_lowercase();
    if lower.chars().count() == 1 {
        return vec![Normal::Text(format!(" {lower}")), Normal::Text(format!("{lower} "))];
    }
    vec![Normal::Text(lower)]
}

/// Words that an answer stands behind.
const INDICATORS: [&str; 8] = ["could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result "];

/// `get_key_subresponses`: of each line the shortest tail behind an indicator (in the last line behind `=` as well); without any,
/// the whole response. The original means to split at the ends of sentences, too, but looks for capital letters after
/// lower-casing.
fn key_responses(response: &str) -> Vec<String> {
    let response = strip(response).trim_matches('.').to_lowercase();
    let lines: Vec<&str> = response.split('\n').collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let equation = (index + 1 == lines.len()).then_some("=");
        let mut shortest = "";
        for indicator in INDICATORS.into_iter().chain(equation) {
            if let Some((_, tail)) = line.rsplit_once(indicator) {
                let tail = strip(tail);
                if shortest.is_empty() || tail.chars().count() < shortest.chars().count() {
                    shortest = tail;
                }
            }
        }
        if !matches!(shortest, "" | ":" | "," | "." | "!" | "?" | ";" | "'") {
            found.push(shortest.to_owned());
        }
    }
    if found.is_empty() { vec![response] } else { found }
}

/// `extract_numbers`: numbers with thousands separators, numbers in scientific notation, and simple ones.
fn numbers(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    [with_commas, scientific, simple]
        .into_iter()
        .flat_map(|pattern| all_matches(&characters, pattern))
        .map(|(start, end)| characters.get(start..end).unwrap_or_default().iter().collect())
        .collect()
}

/// All matches from left to right that do not overlap (`re.findall`), as places of characters.
fn all_matches(text: &[char], pattern: fn(&[char], usize) -> Option<usize>) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut start = 0;
    while start < text.len() {
        match pattern(text, start) {
            Some(end) => {
                found.push((start, end));
                start = end;
            }
            None => start += 1,
        }
    }
    found
}

fn at(text: &[char], place: usize) -> Option<char> {
    text.get(place).copied()
}

/// The place behind the digits that begin at `start`.
fn digits(text: &[char], start: usize) -> usize {
    start + text.get(start..).unwrap_or_default().iter().take_while(|character| is_digit(**character)).count()
}

/// The place behind an optional minus.
fn minus(text: &[char], start: usize) -> usize {
    start + usize::from(at(text, start) == Some('-'))
}

/// Whether `\b` holds between `place` and the character before it.
fn boundary(text: &[char], place: usize) -> bool {
    let before = place.checked_sub(1).and_then(|before| at(text, before)).is_some_and(is_word);
    before != at(text, place).is_some_and(is_word)
}

/// `-?\b\d{1,3}(?:,\d{3})+\b`
fn with_commas(text: &[char], start: usize) -> Option<usize> {
    let first = minus(text, start);
    let mut end = digits(text, first);
    if !boundary(text, first) || !(1..=3).contains(&(end - first)) {
        return None;
    }
    // The longest run of groups that a boundary ends.
    let mut matched = None;
    while at(text, end) == Some(',') && digits(text, end + 1) >= end + 4 {
        end += 4;
        if boundary(text, end) {
            matched = Some(end);
        }
    }
    matched
}

/// `-?\d+(?:\.\d+)?[eE][+-]?\d+`
fn scientific(text: &[char], start: usize) -> Option<usize> {
    let first = minus(text, start);
    let mut end = digits(text, first);
    if end == first {
        return None;
    }
    if at(text, end) == Some('.') && digits(text, end + 1) > end + 1 {
        end = digits(text, end + 1);
    }
    exponent(text, end)
}

/// `[eE][+-]?\d+`
fn exponent(text: &[char], start: usize) -> Option<usize> {
    if !matches!(at(text, start), Some('e' | 'E')) {
        return None;
    }
    let first = start + 1 + usize::from(matches!(at(text, start + 1), Some('+' | '-')));
    let end = digits(text, first);
    (end > first).then_some(end)
}

/// `-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])`. Each alternative can only end behind all digits: a shorter one would
/// have a digit behind it.
fn simple(text: &[char], start: usize) -> Option<usize> {
    let first = minus(text, start);
    let whole = digits(text, first);
    let fraction = (at(text, whole) == Some('.')).then(|| digits(text, whole + 1)).filter(|end| *end > whole + 1);
    let allowed = |end: &usize| exponent(text, *end).is_none() && at(text, *end) != Some(',');
    // With digits before the point it is the first alternative, without any the second.
    fraction.filter(allowed).or_else(|| (whole > first && boundary(text, whole)).then_some(whole).filter(allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_as_by_the_patterns() {
        // What the original's extract_numbers says.
        for (text, expected) in [
            ("1,234,5678 and -5.5, 1.25e5, .5.", &["1,234", "1.25e5", "5678", "-5", "1", ".5"][..]),
            ("a1,234", &["234"]),
            ("12.34.5e6 x5 5x 1,000.5", &["1,000", "34.5e6", "12.34", "6", "5", "000.5"]),
            ("\u{663},\u{664}\u{665}\u{666}", &["\u{663},\u{664}\u{665}\u{666}", "\u{664}\u{665}\u{666}"]),
        ] {
            assert_eq!(numbers(text), expected, "{text:?}");
        }
    }
}
