//! JSON as Python's `json.dump` writes it, so that a file equals the official converter's to the byte: a space behind each
//! separator, and everything beyond printable ASCII escaped.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// `json.dumps(value)`, or `json.dumps(value, indent=…)`.
pub(super) fn dumps(value: &Value, indent: Option<usize>) -> String {
    let mut bytes = Vec::new();
    // Writing to memory cannot fail, and a value always serialises.
    let _ = match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut bytes, OnOneLine)),
        Some(indent) => {
            let spaces = " ".repeat(indent);
            let lines = Indented(PrettyFormatter::with_indent(spaces.as_bytes()));
            value.serialize(&mut Serializer::with_formatter(&mut bytes, lines))
        }
    };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What `ensure_ascii` does to a part of a string that JSON itself does not escape.
fn write_ascii<W: ?Sized + Write>(writer: &mut W, fragment: &str) -> io::Result<()> {
    for character in fragment.chars() {
        if (' '..='~').contains(&character) {
            write!(writer, "{character}")?;
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
    }
    Ok(())
}

/// Without `indent`.
struct OnOneLine;

impl Formatter for OnOneLine {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        write_ascii(writer, fragment)
    }
}

/// With `indent`: serde_json's own lines are Python's.
struct Indented<'a>(PrettyFormatter<'a>);

impl Formatter for Indented<'_> {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        write_ascii(writer, fragment)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_escaped_as_python_does() {
        // Reference: json.dumps of Python 3.11.
        let value =
            json!([{"a": "é \u{1f98a}\u{7f}\"\\/\n\t\u{8}\u{c}\u{1}\u{2028}", "b": 1, "c": null, "d": true, "e": [], "f": {}}]);
        let expected =
            r#"[{"a": "\u00e9 \ud83e\udd8a\u007f\"\\/\n\t\b\f\u0001\u2028", "b": 1, "c": null, "d": true, "e": [], "f": {}}]"#;
        assert_eq!(dumps(&value, None), expected);
        assert_eq!(dumps(&json!({"a": [1, 90.0, 0.1]}), Some(2)), "{\n  \"a\": [\n    1,\n    90.0,\n    0.1\n  ]\n}");
    }
}
