//! Words as numbers, and n-grams of them.

use std::collections::HashMap;

use crate::score::python_text::is_space;

/// Longest n-gram.
pub(super) const LONGEST: usize = 4;

/// Words of a caption as numbers of a [`Vocabulary`].
pub(super) type Caption = Vec<u32>;

/// Up to [`LONGEST`] words; what is not used is [`NO_WORD`].
pub(super) type NGram = [u32; LONGEST];

/// Number of no word.
const NO_WORD: u32 = u32::MAX;

/// Numbers of words.
#[derive(Debug, Default)]
pub(super) struct Vocabulary {
    numbers: HashMap<String, u32>,
}

impl Vocabulary {
    /// The words of a caption, split as Python's `str.split()` does: also at the no-break spaces within a token.
    pub fn caption(&mut self, text: &str) -> Caption {
        let words = text.split(is_space).filter(|word| !word.is_empty());
        words.map(|word| self.number(word)).collect()
    }

    fn number(&mut self, word: &str) -> u32 {
        if let Some(&number) = self.numbers.get(word) {
            return number;
        }
        // There are never as many words: texts of that size are not read.
        let number = u32::try_from(self.numbers.len()).unwrap_or(NO_WORD);
        self.numbers.insert(word.to_owned(), number);
        number
    }
}

/// Counts of all n-grams of 1 to [`LONGEST`] words, by their length less one.
pub(super) fn counts(caption: &[u32]) -> [HashMap<NGram, u32>; LONGEST] {
    std::array::from_fn(|index| {
        let mut counts = HashMap::new();
        for window in caption.windows(index + 1) {
            let mut ngram = [NO_WORD; LONGEST];
            ngram.iter_mut().zip(window).for_each(|(place, word)| *place = *word);
            *counts.entry(ngram).or_default() += 1;
        }
        counts
    })
}
