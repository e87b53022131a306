//! JSON values as Python prints them: the official scripts put lists and numbers into prompts by `f"{value}"`.

use serde_json::{Number, Value};

/// `str(value)` of what `json.loads` makes of a value: texts as they are, anything else as [`repr`].
pub(super) fn display(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

/// `repr(value)` of what `json.loads` makes of a value.
pub(super) fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number_repr(number),
        Value::String(text) => text_repr(text),
        Value::Array(items) => format!("[{}]", items.iter().map(repr).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| format!("{}: {}", text_repr(name), repr(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Integers as they are; other numbers in the shortest form that reads back equal, with an exponent below 1e-4 and from 1e16
/// on.
fn number_repr(number: &Number) -> String {
    let Some(value) = number.as_f64().filter(|_| number.is_f64()) else { return number.to_string() };
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        // Rust writes 1e-5, Python 1e-05.
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let text = format!("{value}");
    if text.contains('.') { text } else { format!("{text}.0") }
}

/// A text in quotes: single ones, unless it has single quotes and no double ones.
fn text_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut shown = String::with_capacity(text.len() + 2);
    shown.push(quote);
    for character in text.chars() {
        match character {
            '\\' => shown.push_str("\\\\"),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            _ if character == quote => {
                shown.push('\\');
                shown.push(character);
            }
            _ if is_printable(character) => shown.push(character),
            _ => shown.push_str(&match u32::from(character) {
                code @ ..=0xff => format!("\\x{code:02x}"),
                code @ ..=0xffff => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            }),
        }
    }
    shown.push(quote);
    shown
}

/// `str.isprintable` of Python, whose categories are those of Rust's own debug form.
fn is_printable(character: char) -> bool {
    // Behind another character, so that a combining mark is not escaped for standing first.
    let shown = format!("a{character}").escape_debug().to_string();
    !shown.starts_with("a\\") || matches!(character, '"' | '\'' | '\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_print_as_python_prints_them() {
        let text = r#"[{"tokens": "it's \"so\"\n\u0301e\u200b\u00a0é", "n": [0, 1.0, 0.37, -2e-5, 1e16, 12345678901234567890]}, null, true]"#;
        let value: Value = serde_json::from_str(text).unwrap();
        let expected = "[{'tokens': 'it\\'s \"so\"\\n\u{301}e\\u200b\\xa0é', 'n': [0, 1.0, 0.37, -2e-05, 1e+16, \
                        12345678901234567890]}, None, True]";
        assert_eq!(repr(&value), expected);
        assert_eq!(repr(&Value::from("it's")), "\"it's\"");
        assert_eq!(display(&Value::from("it's")), "it's");
    }
}
