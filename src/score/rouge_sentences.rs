//! ROUGE-L over sentences as the Python package `rouge` 1.0.1 computes it (`rouge_l_summary_level`, each word counted once),
//! which is another number than ROUGE-L of caption evaluation.

use std::collections::HashSet;

use super::python_text::words;

/// F of ROUGE-L in 0..1: of the distinct words of both texts, those in a longest common subsequence of a sentence of the
/// reference with a sentence of the answer. Sentences end at each period; case and punctuation count. `None` where the package
/// raises an error: a text is empty or consists of periods.
pub(super) fn rouge_l_f(answer: &str, reference: &str) -> Option<f64> {
    let (answer, reference) = (sentences(answer), sentences(reference));
    if answer.is_empty() || reference.is_empty() {
        return None;
    }
    let distinct = |sentences: &[Vec<String>]| sentences.iter().flatten().collect::<HashSet<_>>().len() as f64;
    let mut common: HashSet<&str> = HashSet::new();
    for wanted in &reference {
        for said in &answer {
            longest_common_subsequence(wanted, said, &mut common);
        }
    }
    let common = common.len() as f64;
    let (recall, precision) = (common / distinct(&reference), common / distinct(&answer));
    Some(2.0 * ((precision * recall) / (precision + recall + 1e-8)))
}

/// The words of each sentence. A sentence of white space alone has one empty word, as `"".split(" ")` does.
fn sentences(text: &str) -> Vec<Vec<String>> {
    let split = |sentence: &str| {
        let words: Vec<String> = words(sentence).map(str::to_owned).collect();
        if words.is_empty() { vec![String::new()] } else { words }
    };
    text.split('.').filter(|sentence| !sentence.is_empty()).map(split).collect()
}

/// Adds the words of one longest common subsequence; of several the one that the package's way back through the table meets.
fn longest_common_subsequence<'a>(wanted: &'a [String], said: &[String], common: &mut HashSet<&'a str>) {
    let width = said.len() + 1;
    let mut table = vec![0_u32; (wanted.len() + 1) * width];
    let length = |table: &[u32], row: usize, column: usize| table.get(row * width + column).copied().unwrap_or_default();
    for (row, word) in wanted.iter().enumerate() {
        for (column, other) in said.iter().enumerate() {
            let value = if word == other {
                length(&table, row, column) + 1
            } else {
                length(&table, row, column + 1).max(length(&table, row + 1, column))
            };
            if let Some(cell) = table.get_mut((row + 1) * width + column + 1) {
                *cell = value;
            }
        }
    }
    let (mut row, mut column) = (wanted.len(), said.len());
    while let (Some(word), Some(other)) =
        (row.checked_sub(1).and_then(|at| wanted.get(at)), column.checked_sub(1).and_then(|at| said.get(at)))
    {
        if word == other {
            common.insert(word.as_str());
            (row, column) = (row - 1, column - 1);
        } else if length(&table, row - 1, column) > length(&table, row, column - 1) {
            row -= 1;
        } else {
            column -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_nearly_one_and_empty_ones_have_no_score() {
        // 2 / (2 + 1e-8), as the package guards against 0 / 0.
        assert_eq!(rouge_l_f("a b", "a b"), Some(2.0 * (1.0 / (2.0 + 1e-8))));
        assert_eq!(rouge_l_f("", "a"), None);
        assert_eq!(rouge_l_f("..", "a"), None);
        assert_eq!(rouge_l_f("x", "a"), Some(0.0));
    }
}
