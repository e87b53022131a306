//! Python's `float(text)` and `round(x, 2)`, which the official scorers use to tell numbers from words.

use super::python_text::digit_value;

/// `float(text)`: the number, or `None` where Python raises `ValueError`. Unicode digits and spaces count, underscores may
/// stand between digits, and `inf`, `infinity` and `nan` are numbers.
pub(super) fn python_float(text: &str) -> Option<f64> {
    // Python looks at code points beyond ASCII first: digits become ASCII digits, white space becomes a space.
    let mut ascii = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            _ if character.is_ascii() => ascii.push(character),
            _ if character.is_whitespace() => ascii.push(' '),
            _ => ascii.push(char::from_digit(digit_value(character)?, 10)?),
        }
    }
    let trimmed = ascii.trim_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
    let unsigned = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    let value = match unsigned.to_ascii_lowercase().as_str() {
        "inf" | "infinity" => f64::INFINITY,
        "nan" => f64::NAN,
        _ => decimal(unsigned)?,
    };
    Some(if trimmed.starts_with('-') { -value } else { value })
}

/// A decimal literal without a sign: `12`, `1_000`, `1.`, `.5`, `1e5`.
fn decimal(text: &str) -> Option<f64> {
    let mut plain = String::with_capacity(text.len());
    let (mut digits, mut after_point, mut exponent) = (0, false, false);
    let mut previous = ' ';
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let digit_follows = characters.peek().is_some_and(char::is_ascii_digit);
        match character {
            '0'..='9' => digits += 1,
            '_' if previous.is_ascii_digit() && digit_follows => {}
            '.' if !after_point && !exponent => after_point = true,
            'e' | 'E' if !exponent && digits > 0 => exponent = true,
            '+' | '-' if matches!(previous, 'e' | 'E') && digit_follows => {}
            _ => return None,
        }
        if character != '_' {
            plain.push(character);
        }
        previous = character;
    }
    // `1e` and `1e+` have no exponent; a sign is only taken where a digit follows.
    if digits == 0 || matches!(previous, 'e' | 'E') {
        return None;
    }
    plain.parse().ok()
}

/// `round(value, 2)`: to the nearest, ties to even, of the exact binary value.
pub(super) fn round_to_hundredths(value: f64) -> f64 {
    format!("{value:.2}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_python() {
        // What Python 3.13 says of each.
        for (text, expected) in [
            ("\u{85}1", Some(1.0)),
            ("\u{2000}1\u{2000}", Some(1.0)),
            ("1_000", Some(1000.0)),
            ("1e1_0", Some(1e10)),
            ("\u{663}.\u{664}", Some(3.4)),
            ("+.5", Some(0.5)),
            ("1.", Some(1.0)),
            ("infinity", Some(f64::INFINITY)),
            ("-INF", Some(f64::NEG_INFINITY)),
            ("1e999", Some(f64::INFINITY)),
            ("\u{ff11}\u{ff12}", Some(12.0)),
            ("\u{1c}1", None),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("1_.5", None),
            ("1._5", None),
            ("-.e5", None),
            (".", None),
            ("", None),
            ("1e", None),
            ("1e+", None),
            ("e5", None),
            ("+-1", None),
            ("0x10", None),
            ("1 2", None),
            ("1\0", None),
            ("\u{bd}", None),
        ] {
            assert_eq!(python_float(text), expected, "{text:?}");
        }
        assert!(python_float("+nan").is_some_and(f64::is_nan));
    }

    #[test]
    fn ties_of_the_exact_value_go_to_even() {
        for (value, expected) in [(0.125, 0.12), (0.375, 0.38), (2.675, 2.67), (0.005, 0.01), (1.005, 1.0), (1e300, 1e300)] {
            assert_eq!(round_to_hundredths(value), expected);
        }
    }
}
