//! What Python 3 calls a space and a digit, where it differs from Rust. The official scorers are Python, and an answer
//! with an Arabic digit or an information separator must score the same here.

/// Zeros of the 66 runs of ten decimal digits (Unicode category Nd), ascending.
const DIGIT_ZEROS: [u32; 66] = [
    0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0, 0xf20, 0x1040,
    0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0,
    0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650,
    0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0, 0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec,
    0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

/// The value of a character that matches Python's `\d` in a `str` pattern.
pub(super) fn digit_value(character: char) -> Option<u32> {
    let code = u32::from(character);
    let run = DIGIT_ZEROS.partition_point(|zero| *zero <= code).checked_sub(1)?;
    let value = code - DIGIT_ZEROS.get(run)?;
    (value < 10).then_some(value)
}

/// Whether Python's `\d` matches.
pub(super) fn is_digit(character: char) -> bool {
    digit_value(character).is_some()
}

/// Whether `str.split()`, `str.strip()` and `\s` treat the character as a space: Unicode white space and the four
/// information separators.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// `str.strip()`.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `float(text)`: white space around, digits of every script, single underscores between digits, `inf` and `nan`.
pub(super) fn float(text: &str) -> Option<f64> {
    let mut literal = String::with_capacity(text.len());
    let mut characters = strip(text).chars().peekable();
    let mut previous = ' ';
    while let Some(character) = characters.next() {
        let character = digit_value(character).and_then(|value| char::from_digit(value, 10)).unwrap_or(character);
        if character == '_' {
            if !previous.is_ascii_digit() || !characters.peek().copied().is_some_and(is_digit) {
                return None;
            }
        } else {
            literal.push(character);
        }
        previous = character;
    }
    literal.parse().ok()
}

/// `str.split()`: the words between white space.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// Whether `str.isalpha()` holds of a character: a letter. Unicode calls enclosed letters such as `Ⓐ` and some combining marks
/// alphabetic as well; the former are left out here, the latter are not, which no answer has alone.
pub(super) fn is_letter(character: char) -> bool {
    let enclosed = matches!(character, '\u{24b6}'..='\u{24e9}' | '\u{1f130}'..='\u{1f149}' | '\u{1f150}'..='\u{1f169}' | '\u{1f170}'..='\u{1f189}');
    character.is_alphabetic() && !enclosed
}

/// Whether `\w` matches.
pub(super) fn is_word(character: char) -> bool {
    character == '_' || is_letter(character) || character.is_numeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_spaces_are_python_s() {
        assert_eq!(digit_value('7'), Some(7));
        assert_eq!(digit_value('\u{0663}'), Some(3)); // Arabic-Indic three
        assert_eq!(digit_value('\u{1d7ff}'), Some(9)); // mathematical monospace nine
        assert_eq!(digit_value('\u{00bd}'), None); // one half is a number, no digit
        assert_eq!(digit_value('/'), None);
        assert_eq!(digit_value(':'), None);
        assert_eq!(strip("\u{1f} a\u{a0}b \u{3000}"), "a\u{a0}b");
        assert_eq!(float(" 1_0.5e1 "), Some(105.0));
        assert_eq!(float("\u{0663}"), Some(3.0));
        assert!(float("1__0").is_none() && float("1_").is_none() && float("1 0").is_none() && float("0x10").is_none());
        assert!(float("-Infinity").is_some_and(|value| value.is_infinite()) && float("NaN").is_some_and(f64::is_nan));
        assert!(DIGIT_ZEROS.windows(2).all(|pair| pair[0] + 10 <= pair[1]));
    }
}
