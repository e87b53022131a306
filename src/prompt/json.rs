//! `json.dumps` of Python for template values: the `tojson` filter as transformers defines it.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// Deepest nesting that is written.
const MAXIMUM_DEPTH: usize = 64;

/// Widest indentation that is written, in spaces.
const MAXIMUM_INDENT: usize = 16;

struct Style {
    ascii_only: bool,
    indent: Option<usize>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

/// `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn tojson(state: &State, value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<(String, String)> = match options.get::<Option<Value>>("separators")? {
        Some(value) if !value.is_none() => {
            let pair: Vec<String> = value.try_iter()?.map(|item| item.to_string()).collect();
            let [item, key] = <[String; 2]>::try_from(pair).map_err(|_| invalid("separators must be a pair of strings"))?;
            Some((item, key))
        }
        _ => None,
    };
    // Python drops the space after a comma where lines are broken.
    let (item_separator, key_separator) =
        separators.unwrap_or_else(|| (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()));
    let style = Style {
        ascii_only: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        indent: indent.map(|spaces| spaces.min(MAXIMUM_INDENT)),
        item_separator,
        key_separator,
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    let mut out = String::new();
    write_value(state, &mut out, value, &style, 0)?;
    Ok(out)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn write_value(state: &State, out: &mut String, value: &Value, style: &Style, depth: usize) -> Result<(), Error> {
    // A value may share its parts, so that its text is exponentially longer than itself: pay for each part written.
    state.consume_fuel(1 + value.as_str().map_or(0, |text| text.len() as u64 / 16))?;
    if depth > MAXIMUM_DEPTH {
        return Err(invalid("value is nested too deeply for JSON"));
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => write_string(out, value.as_str().unwrap_or_default(), style.ascii_only),
        ValueKind::Seq | ValueKind::Iterable => {
            let mut written = 0;
            out.push('[');
            for item in value.try_iter()? {
                next_item(out, written, style, depth + 1);
                write_value(state, out, &item, style, depth + 1)?;
                written += 1;
            }
            close(out, written, style, depth, ']');
        }
        ValueKind::Map => {
            let mut entries = Vec::new();
            for key in value.try_iter()? {
                entries.push((key_text(&key)?, value.get_item(&key)?));
            }
            if style.sort_keys {
                entries.sort_by(|(left, _), (right, _)| left.cmp(right));
            }
            let written = entries.len();
            out.push('{');
            for (index, (key, item)) in entries.into_iter().enumerate() {
                next_item(out, index, style, depth + 1);
                write_string(out, &key, style.ascii_only);
                out.push_str(&style.key_separator);
                write_value(state, out, &item, style, depth + 1)?;
            }
            close(out, written, style, depth, '}');
        }
        kind => return Err(invalid(format!("{kind} is not JSON serializable"))),
    }
    Ok(())
}

fn number(value: &Value) -> String {
    match value.to_string().as_str() {
        "inf" => "Infinity".to_owned(),
        "-inf" => "-Infinity".to_owned(),
        text => text.to_owned(),
    }
}

fn key_text(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_owned()),
        ValueKind::Number => Ok(number(key)),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::None => Ok("null".to_owned()),
        kind => Err(invalid(format!("keys must be strings, numbers, booleans or none, not {kind}"))),
    }
}

fn next_item(out: &mut String, written: usize, style: &Style, depth: usize) {
    if written > 0 {
        out.push_str(&style.item_separator);
    }
    break_line(out, style, depth);
}

fn close(out: &mut String, written: usize, style: &Style, depth: usize, bracket: char) {
    if written > 0 {
        break_line(out, style, depth);
    }
    out.push(bracket);
}

fn break_line(out: &mut String, style: &Style, depth: usize) {
    if let Some(spaces) = style.indent {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', spaces * depth));
    }
}

fn write_string(out: &mut String, text: &str, ascii_only: bool) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            plain if plain >= ' ' && (!ascii_only || (' '..='~').contains(&plain)) => out.push(plain),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push('"');
}
