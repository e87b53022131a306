//! Numbers in a judge's reply, as Python's `float(text)` reads them.

use super::super::python_text::digit_value;

/// `float(text)`; `None` where Python raises an error. Infinities and NaN are read as such.
pub(super) fn python_float(text: &str) -> Option<f64> {
    // White space of C where it is ASCII, of Unicode elsewhere; the information separators are no space to `float`.
    let space = |character: char| match character {
        '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | ' ' => true,
        _ => !character.is_ascii() && character.is_whitespace(),
    };
    let text = text.trim_matches(space);
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    let mut after_digit = false;
    while let Some(character) = characters.next() {
        if character == '_' {
            // Underscores stand between digits only.
            if !(after_digit && characters.peek().is_some_and(|next| digit_value(*next).is_some())) {
                return None;
            }
            after_digit = false;
            continue;
        }
        let digit = digit_value(character).and_then(|value| char::from_digit(value, 10));
        after_digit = digit.is_some();
        match digit.or_else(|| character.is_ascii().then_some(character)) {
            Some(character) => plain.push(character),
            None => return None,
        }
    }
    // Rust reads the same forms, the names of infinity and NaN in any case among them.
    plain.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::python_float;

    #[test]
    fn numbers_are_read_as_python_reads_them() {
        for (text, expected) in [
            ("8", Some(8.0)),
            (" 8.5\r", Some(8.5)),
            (".5", Some(0.5)),
            ("7.", Some(7.0)),
            ("+1e1", Some(10.0)),
            ("1_0.5", Some(10.5)),
            ("٨", Some(8.0)),
            ("９.５", Some(9.5)),
            ("\u{a0}3\u{2003}", Some(3.0)),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("1_.5", None),
            ("1,5", None),
            ("0x1", None),
            ("", None),
            (".", None),
            ("e5", None),
            ("8/10", None),
            ("\u{1c}3", None),
            ("３一", None),
        ] {
            assert_eq!(python_float(text), expected, "{text:?}");
        }
        assert_eq!(python_float("-Infinity"), Some(f64::NEG_INFINITY));
        assert!(python_float("NaN").unwrap().is_nan());
    }
}
