//! Lists that are written as text in a cell: `["a", "b"]` (JSON) or `['a', "b"]` (Python).

use serde_json::{Number, Value};

/// The elements of a list of texts, numbers and nothings; `None` if the text is no such list.
pub(super) fn parse(text: &str) -> Option<Vec<Value>> {
    let inner = text.trim().strip_prefix('[')?.strip_suffix(']')?;
    if let Ok(Value::Array(elements)) = serde_json::from_str(text.trim()) {
        return Some(elements);
    }
    let mut elements = Vec::new();
    let mut rest = inner.trim_start();
    while !rest.is_empty() {
        let (element, after) = element(rest)?;
        elements.push(element);
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.is_empty() => break,
            None => return None,
        }
    }
    Some(elements)
}

/// As [`parse`], if every element is a quoted text: then nobody can have meant an answer with brackets around it.
pub(super) fn parse_texts(text: &str) -> Option<Vec<String>> {
    let elements = parse(text)?;
    let texts: Option<Vec<String>> = elements.iter().map(|element| element.as_str().map(str::to_owned)).collect();
    texts.filter(|texts| !texts.is_empty())
}

fn element(text: &str) -> Option<(Value, &str)> {
    let first = text.chars().next()?;
    if first == '\'' || first == '"' {
        let (content, after) = quoted(text, first)?;
        return Some((Value::String(content), after));
    }
    let end = text.find(',').unwrap_or(text.len());
    let (word, after) = text.split_at(end);
    let value = match word.trim() {
        "None" | "nan" => Value::Null,
        "True" => Value::Bool(true),
        "False" => Value::Bool(false),
        number => Value::Number(number.parse::<Number>().ok()?),
    };
    Some((value, after))
}

/// A Python string literal, and what comes behind it.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut content = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((index, character)) = characters.next() {
        match character {
            _ if character == quote => return Some((content, text.get(index + character.len_utf8()..)?)),
            '\\' => match characters.next()?.1 {
                'n' => content.push('\n'),
                't' => content.push('\t'),
                'r' => content.push('\r'),
                '\n' => {}
                'x' => content.push(code(&mut characters, 2)?),
                'u' => content.push(code(&mut characters, 4)?),
                'U' => content.push(code(&mut characters, 8)?),
                other @ ('\\' | '\'' | '"') => content.push(other),
                // Python leaves an unknown escape as it is.
                other => content.extend(['\\', other]),
            },
            other => content.push(other),
        }
    }
    None
}

fn code(characters: &mut impl Iterator<Item = (usize, char)>, digits: usize) -> Option<char> {
    let mut value = 0;
    for _ in 0..digits {
        value = value * 16 + characters.next()?.1.to_digit(16)?;
    }
    char::from_u32(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_of_python_and_json_are_read() {
        for (text, expected) in [
            (r#"['$6', "it's", 'a\'b', 'tab\t\u00e9\x41\d']"#, json!(["$6", "it's", "a'b", "tab\té\u{41}\\d"])),
            (r#"["a", "b"]"#, json!(["a", "b"])),
            ("[1, 2.5, None, True,]", json!([1, 2.5, null, true])),
            ("[]", json!([])),
        ] {
            assert_eq!(Value::Array(parse(text).unwrap()), expected, "{text}");
        }
        for text in ["a", "['a", "['a' 'b']", "[a]", "['a'], ['b']x", "[[1], 'x']"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse_texts("[1, 2]"), None);
        assert_eq!(parse_texts("['a']"), Some(vec!["a".to_owned()]));
    }
}
