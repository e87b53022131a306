//! Average normalised Levenshtein similarity: how many characters of the nearest reference an answer has, or nothing if fewer
//! than half.

use super::super::python_text::{is_space, strip};
use crate::benchmark::ThresholdRule;

/// Similarities below one half count as nothing.
const THRESHOLD: f64 = 0.5;

/// ANLS of one answer in 0..=1 as the Robust Reading Competition's script for DocVQA and InfographicVQA and lmms-eval compute it
/// (lmms-eval `75571cf`, `api/metrics.py`, `anls`): case and runs of white space do not count in the distance, but the lengths
/// that it is divided by are those of the raw texts in capitals. No reference is as far away as can be.
///
/// `boundary` says whether a similarity of exactly one half counts: it does in the script, not in the paper's formula.
pub fn anls(answers: &[String], text: &str, boundary: ThresholdRule) -> f64 {
    let predicted = collapsed(text);
    let length = capitals(text);
    let distances = answers.iter().map(|answer| {
        let longest = capitals(answer).max(length);
        if longest == 0 { 0.0 } else { levenshtein(&collapsed(answer), &predicted) as f64 / longest as f64 }
    });
    let similarity = 1.0 - distances.fold(1.0, f64::min);
    let counts = match boundary {
        ThresholdRule::AtLeast => similarity >= THRESHOLD,
        ThresholdRule::Above => similarity > THRESHOLD,
    };
    if counts { similarity } else { 0.0 }
}

/// ANLS of one answer in 0..=1 by LLaVA's `STVQAANLSEvaluator` (`m4c_evaluator.py` at `c121f04`). Of an empty answer to an empty
/// reference, where the original divides by zero, we say 1.
pub fn anls_m4c(answers: &[String], text: &str) -> f64 {
    let clean = |text: &str| -> Vec<char> { strip(&text.to_lowercase()).chars().collect() };
    let predicted = clean(text);
    let similarity = |answer: &String| {
        let answer = clean(answer);
        let longest = answer.len().max(predicted.len());
        let similarity = if longest == 0 { 1.0 } else { 1.0 - levenshtein(&answer, &predicted) as f64 / longest as f64 };
        if similarity >= THRESHOLD { similarity } else { 0.0 }
    };
    answers.iter().map(similarity).fold(0.0, f64::max)
}

/// Lower case, trimmed, with single spaces.
fn collapsed(text: &str) -> Vec<char> {
    let lower = text.to_lowercase();
    let mut output = Vec::with_capacity(lower.len());
    for word in lower.split(is_space).filter(|word| !word.is_empty()) {
        if !output.is_empty() {
            output.push(' ');
        }
        output.extend(word.chars());
    }
    output
}

/// Number of characters in capitals: `ß` has two.
fn capitals(text: &str) -> usize {
    text.to_uppercase().chars().count()
}

/// The least number of characters to insert, delete or replace.
fn levenshtein(first: &[char], second: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=second.len()).collect();
    for (line, one) in first.iter().enumerate() {
        // The cell to the left of the one at hand, and the one above that.
        let (mut left, mut diagonal) = (line + 1, line);
        if let Some(start) = row.first_mut() {
            *start = left;
        }
        for (cell, other) in row.iter_mut().skip(1).zip(second) {
            let above = *cell;
            left = if one == other { diagonal } else { 1 + diagonal.min(above).min(left) };
            diagonal = above;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distances_are_the_known_ones() {
        let distance = |a: &str, b: &str| levenshtein(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        for (a, b, expected) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("ab", "ba", 2)] {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a} {b}");
        }
    }
}
