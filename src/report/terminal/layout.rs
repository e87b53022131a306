//! Columns, wrapping and colour of terminal text.

use crate::guard::escape;

/// Text in a colour by its ANSI code, or plain.
pub(in crate::report) fn paint(text: &str, code: &str, colour: bool) -> String {
    if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Columns that a text takes: two for East Asian wide characters and emoji, none for combining marks.
pub(in crate::report) fn columns(text: &str) -> usize {
    text.chars()
        .map(|character| match character {
            '\u{0300}'..='\u{036F}' | '\u{200D}' | '\u{FE00}'..='\u{FE0F}' => 0,
            '\u{1100}'..='\u{115F}'
            | '\u{2E80}'..='\u{A4CF}'
            | '\u{AC00}'..='\u{D7A3}'
            | '\u{F900}'..='\u{FAFF}'
            | '\u{FE30}'..='\u{FE6F}'
            | '\u{FF00}'..='\u{FF60}'
            | '\u{FFE0}'..='\u{FFE6}'
            | '\u{1F300}'..='\u{1FAFF}'
            | '\u{20000}'..='\u{3FFFD}' => 2,
            _ => 1,
        })
        .sum()
}

/// Padded on the right.
pub(in crate::report) fn left(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

/// Padded on the left.
pub(in crate::report) fn right(text: &str, width: usize) -> String {
    format!("{}{text}", " ".repeat(width.saturating_sub(columns(text))))
}

/// The text in at most `width` columns.
pub(in crate::report) fn fit(text: &str, width: usize) -> String {
    let mut limit = width;
    let mut fitted = escape::shorten_middle(text, limit);
    while columns(&fitted) > width && limit > 1 {
        limit -= 1;
        fitted = escape::shorten_middle(text, limit);
    }
    fitted
}

/// Lines of at most `width` columns, broken at spaces; later lines are indented. A longer word stands alone.
pub(in crate::report) fn wrap(text: &str, width: usize, indent: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let start: String = text.chars().take_while(|character| *character == ' ').collect();
    let mut line = start;
    let mut empty = true;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !empty && columns(&line) + 1 + columns(word) > width {
            lines.push(std::mem::replace(&mut line, indent.to_owned()));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(columns("模型a"), 5);
        assert_eq!(columns("e\u{301}"), 1);
        assert_eq!(right("模", 4), "  模");
        assert!(columns(&fit("模型模型模型模型", 7)) <= 7);
    }

    #[test]
    fn long_lines_are_wrapped_at_spaces() {
        assert_eq!(wrap("  ! one two three", 9, "    "), ["  ! one", "    two", "    three"]);
        assert_eq!(wrap("unbreakable", 4, ""), ["unbreakable"]);
    }
}
