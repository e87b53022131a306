//! How one text was made into another, word by word.

/// A stretch of words of two texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WordChange {
    /// In both.
    Same(String),
    /// In the first only.
    Removed(String),
    /// In the second only.
    Added(String),
}

/// Longest part without common beginning and end, in words, that is taken apart; a longer one counts as replaced as a whole. The
/// table of the alignment has the square of it.
const LONGEST: usize = 2_000;

/// The changes between two texts in order: together with what is the same, the removed ones make up the first text and the
/// added ones the second, white space included. Words are aligned by their longest common subsequence.
pub fn word_changes(first: &str, second: &str) -> Vec<WordChange> {
    let (left, right) = (words(first), words(second));
    let before = left.iter().zip(&right).take_while(|(left, right)| left == right).count();
    let (left_rest, right_rest) = (left.get(before..).unwrap_or_default(), right.get(before..).unwrap_or_default());
    let after = left_rest.iter().rev().zip(right_rest.iter().rev()).take_while(|(left, right)| left == right).count();
    let left_middle = left_rest.get(..left_rest.len() - after).unwrap_or_default();
    let right_middle = right_rest.get(..right_rest.len() - after).unwrap_or_default();
    let mut changes = Changes::default();
    left.iter().take(before).for_each(|word| changes.push(Kind::Same, word));
    if left_middle.len().max(right_middle.len()) > LONGEST {
        left_middle.iter().for_each(|word| changes.push(Kind::Removed, word));
        right_middle.iter().for_each(|word| changes.push(Kind::Added, word));
    } else {
        align(left_middle, right_middle, &mut changes);
    }
    left.iter().skip(left.len() - after).for_each(|word| changes.push(Kind::Same, word));
    changes.finish()
}

/// Words and the white space between them, each a piece of its own.
fn words(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut space = None;
    for (at, character) in text.char_indices() {
        let is_space = character.is_whitespace();
        if space.is_some_and(|space| space != is_space || is_space) {
            pieces.extend(text.get(start..at));
            start = at;
        }
        space = Some(is_space);
    }
    pieces.extend(text.get(start..).filter(|rest| !rest.is_empty()));
    pieces
}

fn align(left: &[&str], right: &[&str], changes: &mut Changes) {
    let width = right.len() + 1;
    // lengths[i·width + j]: the longest common subsequence of left[i..] and right[j..].
    let mut lengths = vec![0_u32; (left.len() + 1) * width];
    let at = |lengths: &[u32], row: usize, column: usize| lengths.get(row * width + column).copied().unwrap_or(0);
    for (row, word) in left.iter().enumerate().rev() {
        for (column, other) in right.iter().enumerate().rev() {
            let length = match word == other {
                true => at(&lengths, row + 1, column + 1) + 1,
                false => at(&lengths, row + 1, column).max(at(&lengths, row, column + 1)),
            };
            if let Some(slot) = lengths.get_mut(row * width + column) {
                *slot = length;
            }
        }
    }
    let (mut row, mut column) = (0, 0);
    loop {
        match (left.get(row), right.get(column)) {
            (Some(word), Some(other)) if word == other => {
                changes.push(Kind::Same, word);
                row += 1;
                column += 1;
            }
            (Some(word), other) if other.is_none() || at(&lengths, row + 1, column) >= at(&lengths, row, column + 1) => {
                changes.push(Kind::Removed, word);
                row += 1;
            }
            (_, Some(other)) => {
                changes.push(Kind::Added, other);
                column += 1;
            }
            _ => return,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Same,
    Removed,
    Added,
}

/// Joins neighbours of a kind. What is removed and added in one place stands as one removal and one addition.
#[derive(Default)]
struct Changes {
    done: Vec<WordChange>,
    same: String,
    removed: String,
    added: String,
}

impl Changes {
    fn push(&mut self, kind: Kind, text: &str) {
        match kind {
            Kind::Same => {
                self.flush_changed();
                self.same.push_str(text);
            }
            Kind::Removed | Kind::Added => {
                if !self.same.is_empty() {
                    self.done.push(WordChange::Same(std::mem::take(&mut self.same)));
                }
                if kind == Kind::Removed { self.removed.push_str(text) } else { self.added.push_str(text) }
            }
        }
    }

    fn flush_changed(&mut self) {
        if !self.removed.is_empty() {
            self.done.push(WordChange::Removed(std::mem::take(&mut self.removed)));
        }
        if !self.added.is_empty() {
            self.done.push(WordChange::Added(std::mem::take(&mut self.added)));
        }
    }

    fn finish(mut self) -> Vec<WordChange> {
        self.flush_changed();
        if !self.same.is_empty() {
            self.done.push(WordChange::Same(self.same));
        }
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sides(changes: &[WordChange]) -> (String, String) {
        let (mut first, mut second) = (String::new(), String::new());
        for change in changes {
            match change {
                WordChange::Same(text) => {
                    first.push_str(text);
                    second.push_str(text);
                }
                WordChange::Removed(text) => first.push_str(text),
                WordChange::Added(text) => second.push_str(text),
            }
        }
        (first, second)
    }

    #[test]
    fn the_changes_make_up_both_texts() {
        for (first, second) in [
            ("", ""),
            ("a", ""),
            ("", "b c"),
            ("USER: <image>\nIs it red? ASSISTANT:", "<s>USER: <image>\nIs it red?\nAnswer yes or no. ASSISTANT:"),
            ("a b c d e", "x b d e f"),
            ("  two  spaces ", " two spaces"),
            ("é e\u{301}", "e\u{301} é"),
        ] {
            let changes = word_changes(first, second);
            assert_eq!(sides(&changes), (first.to_owned(), second.to_owned()), "{changes:?}");
        }
        let long: String = (0..3 * LONGEST).map(|word| format!("{word} ")).collect();
        let other = long.replace(' ', "\n");
        assert_eq!(sides(&word_changes(&long, &other)), (long, other));
    }

    #[test]
    fn what_is_common_stays_common() {
        let changes = word_changes("USER: Is it red? ASSISTANT:", "USER: Is it blue? ASSISTANT:");
        assert_eq!(
            changes,
            [
                WordChange::Same("USER: Is it ".into()),
                WordChange::Removed("red?".into()),
                WordChange::Added("blue?".into()),
                WordChange::Same(" ASSISTANT:".into())
            ]
        );
    }
}
