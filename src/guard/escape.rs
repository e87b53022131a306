//! Escaping for each output format. Model answers, questions, file names and package names are all hostile until they
//! pass one of these functions (or maud, which escapes `& < > "` in HTML text and attributes).
//!
//! An escaper never interprets: it only makes sure that the text stays text in its sink.

use std::fmt::Write as _;

/// True for characters that change the direction of the text around them (the “trojan source” set).
pub fn is_bidi_control(character: char) -> bool {
    matches!(character, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// True for C0 controls, DEL and C1 controls, line feed and tab included.
fn is_control(character: char) -> bool {
    character.is_control()
}

/// True for characters that show nothing and so can hide text: zero-width ones, the byte order mark, the Unicode tags and
/// the line and paragraph separators.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200B}'..='\u{200D}' | '\u{2028}' | '\u{2029}' | '\u{2060}' | '\u{FEFF}' | '\u{E0000}'..='\u{E007F}')
}

/// Makes what cannot be seen visible, for HTML and Markdown: C0 controls become their control pictures (`␛`), other
/// controls, direction marks and invisible characters `⟨U+202E⟩`. Line feeds and tabs stay; `\r\n` becomes `\n`.
///
/// The zero-width joiner stays, as emoji and several scripts need it.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\r' if characters.peek() == Some(&'\n') => {}
            '\n' | '\t' | '\u{200D}' => shown.push(character),
            '\u{7F}' => shown.push('␡'),
            '\0'..='\u{1F}' => shown.push(char::from_u32(0x2400 + character as u32).unwrap_or('\u{FFFD}')),
            _ if is_control(character) || is_bidi_control(character) || is_invisible(character) => {
                let _ = write!(shown, "⟨U+{:04X}⟩", character as u32);
            }
            _ => shown.push(character),
        }
    }
    shown
}

/// One line of text for a terminal: every control character (ESC and the C1 codes among them), direction mark and
/// invisible character is dropped, line breaks and tabs become one space.
pub fn terminal(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => plain.push(' '),
            '\u{200D}' => plain.push(character),
            _ if is_control(character) || is_bidi_control(character) || is_invisible(character) => {}
            _ => plain.push(character),
        }
    }
    plain
}

/// Text for running Markdown or a table cell of GitHub-flavoured Markdown, on one line.
///
/// Everything that Markdown or GitHub gives a meaning is disarmed: emphasis, code, tables, HTML, images, links, bare
/// URLs, `@mentions` and `#references` (a zero-width space follows the mark, as both are linked after rendering), and
/// `$` mathematics. Underscores inside a word stay as they are: they have no meaning there.
pub fn markdown(text: &str) -> String {
    let visible = visible(text);
    let characters: Vec<char> = visible.chars().collect();
    let mut escaped = String::with_capacity(visible.len() + 16);
    for (index, &character) in characters.iter().enumerate() {
        let previous = index.checked_sub(1).and_then(|before| characters.get(before)).copied();
        let next = characters.get(index + 1).copied();
        match character {
            '\n' | '\t' => escaped.push(' '),
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '_' if previous.is_some_and(char::is_alphanumeric) && next.is_some_and(char::is_alphanumeric) => escaped.push('_'),
            '@' | '#' => {
                escaped.push('\\');
                escaped.push(character);
                escaped.push('\u{200B}');
            }
            // GitHub makes links of `scheme://…` and `www.…` in plain text.
            ':' if characters[index + 1..].starts_with(&['/', '/']) => escaped.push_str(":\u{200B}"),
            '.' if ends_with_www(&characters[..index]) => escaped.push_str(".\u{200B}"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '!' | '$' | '{' | '}' => {
                escaped.push('\\');
                escaped.push(character);
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

fn ends_with_www(before: &[char]) -> bool {
    before.len() >= 3 && before[before.len() - 3..].iter().all(|character| character.eq_ignore_ascii_case(&'w'))
}

/// Text for a CSV cell that a spreadsheet may open: text that starts like a formula (after blanks) gets a leading `'`,
/// control characters other than line breaks become spaces. Quoting is the CSV writer's work.
///
/// For text only: numbers that the program itself wrote may begin with a minus sign.
pub fn csv(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|character| if is_control(character) && character != '\n' { ' ' } else { character })
        .filter(|&character| !is_bidi_control(character))
        .collect();
    let starts_as_formula = plain
        .trim_start_matches(|character: char| character.is_whitespace() || is_invisible(character))
        .starts_with(['=', '+', '-', '@', '|', '%', '＝', '＋', '－', '＠']);
    let starts_with_control = text.starts_with(['\t', '\r', '\n']);
    if starts_as_formula || starts_with_control { format!("'{plain}") } else { plain }
}

/// Text for XML 1.0, in element content or a quoted attribute: ANSI escape sequences are removed, characters that XML 1.0
/// cannot hold become U+FFFD, and `& < > " '` become entities.
pub fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1B}' => {
                if characters.peek() == Some(&'[') {
                    characters.next();
                    // A CSI sequence: parameters and intermediates 0x20–0x3F, then one final byte 0x40–0x7E.
                    while characters.next_if(|next| ('\u{20}'..='\u{3F}').contains(next)).is_some() {}
                    characters.next_if(|next| ('\u{40}'..='\u{7E}').contains(next));
                }
            }
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\t' | '\n' | '\r' => escaped.push(character),
            '\0'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}' => escaped.push('\u{FFFD}'),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// At most `limit` characters: the beginning and, where something was left out, an ellipsis.
pub fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some(_) => {
            let mut short: String = text.chars().take(limit.saturating_sub(1)).collect();
            short.push('…');
            short
        }
    }
}

/// At most `limit` characters with the ellipsis in the middle: package names differ at both ends.
pub fn shorten_middle(text: &str, limit: usize) -> String {
    let length = text.chars().count();
    if length <= limit || limit < 3 {
        return shorten(text, limit);
    }
    let head = (limit - 1).div_ceil(2);
    let tail = limit - 1 - head;
    text.chars().take(head).chain(['…']).chain(text.chars().skip(length - tail)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn terminal_text_cannot_move_the_cursor_or_turn_around() {
        assert_eq!(terminal("\u{1b}[2J\u{1b}]0;title\u{7}yes"), "[2J]0;titleyes");
        assert_eq!(terminal("a\u{9b}31mb\u{202e}c\u{2066}d\u{85}e\u{feff}"), "a31mbcde");
        assert_eq!(terminal("two\r\nlines\tand"), "two  lines and");
    }

    #[test]
    fn what_cannot_be_seen_is_shown() {
        assert_eq!(visible("a\u{1b}[31m\u{0}\u{7f}\u{202e}b\r\nc\u{200b}\u{9f}"), "a␛[31m␀␡⟨U+202E⟩b\nc⟨U+200B⟩⟨U+009F⟩");
        assert_eq!(visible("👩\u{200d}🔬 ça"), "👩\u{200d}🔬 ça");
    }

    #[test]
    fn markdown_has_no_meaning_left() {
        assert_eq!(markdown("a|b `c` <img> ![x](u)"), "a\\|b \\`c\\` &lt;img&gt; \\!\\[x\\](u)");
        assert_eq!(markdown("vqa_accuracy _em_ **b**"), "vqa_accuracy \\_em\\_ \\*\\*b\\*\\*");
        assert_eq!(markdown("@team #12"), "\\@\u{200b}team \\#\u{200b}12");
        assert_eq!(markdown("https://evil.example www.evil.example"), "https:\u{200b}//evil.example www.\u{200b}evil.example");
        assert_eq!(markdown("one\ntwo"), "one two");
        assert_eq!(markdown("llava-1.5-7b-hf"), "llava-1.5-7b-hf");
    }

    #[test]
    fn csv_cells_are_no_formulas() {
        for hostile in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "%0A=1", "\u{200b}=1", "＝1"] {
            assert!(csv(hostile).starts_with('\''), "{hostile:?} gave {:?}", csv(hostile));
        }
        assert_eq!(csv("plain, \"text\""), "plain, \"text\"");
        assert_eq!(csv("a\u{1b}[0mb"), "a [0mb");
    }

    #[test]
    fn xml_holds_only_what_xml_can() {
        assert_eq!(xml("\u{1b}[1;31mred\u{1b}[0m & <b>\u{0}\"'"), "red &amp; &lt;b&gt;\u{fffd}&quot;&apos;");
    }

    #[test]
    fn names_keep_both_ends() {
        assert_eq!(shorten_middle("llava-1.5-7b-hf-int8", 12), "llava-…-int8");
        assert_eq!(shorten_middle("short", 12), "short");
        assert_eq!(shorten("abcdef", 4), "abc…");
    }

    proptest! {
        #[test]
        fn no_escaper_lets_its_sink_be_reached(text in "\\PC*|[\\x00-\\x{2070}<>&\"'`|@#!\\[\\]=+-]{0,40}") {
            let shown = terminal(&text);
            prop_assert!(!shown.chars().any(|c| c.is_control() || is_bidi_control(c)));
            let cell = markdown(&text);
            let escape_character = '\x1b';
            prop_assert!(!cell.contains(['<', '>', '\n', escape_character]));
            let formula = csv(&text);
            prop_assert!(!formula.trim_start().starts_with(['=', '+', '-', '@']));
            let element = xml(&text);
            prop_assert!(!element.contains(['<', '>', '"', '\'', escape_character]));
        }

        #[test]
        fn an_unescaped_pipe_never_ends_a_cell(text in "[|\\\\a`]{0,20}") {
            // Walk the output as GitHub does: a backslash takes the next character with it.
            let cell = markdown(&text);
            let mut characters = cell.chars();
            while let Some(character) = characters.next() {
                prop_assert!(character != '|' && character != '`');
                if character == '\\' { characters.next(); }
            }
        }

        #[test]
        fn shortened_text_has_at_most_the_limit(text in "\\PC{0,30}", limit in 0_usize..20) {
            prop_assert!(shorten_middle(&text, limit).chars().count() <= limit.max(1));
        }
    }
}
