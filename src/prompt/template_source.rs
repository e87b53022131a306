//! From the files of a package to a template source that minijinja reads.

use serde_json::Value;

/// The template inside a file: `chat_template.json` and `tokenizer_config.json` hold it under `chat_template`, as a text or
/// as a list of named texts of which `default` counts; any other file is the template itself.
pub(super) fn extract(file: &str, text: String) -> Result<String, String> {
    if !file.to_ascii_lowercase().ends_with(".json") {
        return Ok(text);
    }
    let json: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let template = json.get("chat_template").ok_or("the file has no field chat_template")?;
    let named_default = || {
        let is_default = |entry: &&Value| entry.get("name").and_then(Value::as_str) == Some("default");
        template.as_array()?.iter().find(is_default)?.get("template")?.as_str()
    };
    template
        .as_str()
        .or_else(named_default)
        .map(str::to_owned)
        .ok_or_else(|| "chat_template is neither a text nor a list with a template named default".to_owned())
}

/// Where a scan of the source stands.
struct Scanner<'a> {
    source: &'a str,
    at: usize,
}

/// Makes `source` readable for minijinja: line ends become `\n`, as Jinja's lexer makes them, and the `generation` tag of
/// transformers, which only marks a stretch of output and opens a scope, becomes an empty `with`.
pub(super) fn adapt(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut scanner = Scanner { source: &source, at: 0 };
    let mut copied = 0;
    while let Some((start, end, word)) = scanner.next_tag() {
        let replacement = match word {
            "generation" => "with",
            "endgeneration" => "endwith",
            "raw" => {
                scanner.skip_raw();
                continue;
            }
            _ => continue,
        };
        out.push_str(source.get(copied..start).unwrap_or_default());
        out.push_str(replacement);
        copied = end;
    }
    out.push_str(source.get(copied..).unwrap_or_default());
    out
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        self.source.get(self.at..).unwrap_or_default()
    }

    /// Moves behind the next `{% … %}` and returns where its first word begins and ends, and the word. Comments and
    /// expressions on the way are skipped. `None` at the end of the source, or where something is not closed: the template
    /// engine then says what is wrong.
    fn next_tag(&mut self) -> Option<(usize, usize, &'a str)> {
        loop {
            let open = self.rest().match_indices('{').find(|(at, _)| {
                let follower = self.rest().as_bytes().get(at + 1);
                matches!(follower, Some(b'{' | b'%' | b'#'))
            })?;
            let kind = *self.rest().as_bytes().get(open.0 + 1)?;
            self.at += open.0 + 2;
            match kind {
                b'#' => self.at += self.rest().find("#}")? + 2,
                b'{' => self.skip_code(b'}')?,
                _ => {
                    let inner = self.rest();
                    let trimmed = inner.trim_start_matches(['-', '+']).trim_start();
                    let start = self.at + (inner.len() - trimmed.len());
                    let length = trimmed.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(trimmed.len());
                    self.skip_code(b'%')?;
                    return Some((start, start + length, self.source.get(start..start + length)?));
                }
            }
        }
    }

    /// Moves behind the `}}` or `%}` (its first byte is `closer`) that ends the code at the current place, past string
    /// literals and bracketed parts.
    fn skip_code(&mut self, closer: u8) -> Option<()> {
        let mut quote = None;
        let mut open_brackets = 0_usize;
        let mut bytes = self.rest().bytes().enumerate().peekable();
        while let Some((offset, byte)) = bytes.next() {
            match (quote, byte) {
                (Some(_), b'\\') => {
                    bytes.next();
                }
                (Some(open), _) if byte == open => quote = None,
                (Some(_), _) => {}
                (None, b'\'' | b'"') => quote = Some(byte),
                (None, _) if byte == closer && open_brackets == 0 && bytes.peek().is_some_and(|(_, next)| *next == b'}') => {
                    self.at += offset + 2;
                    return Some(());
                }
                (None, b'{' | b'[' | b'(') => open_brackets += 1,
                (None, b'}' | b']' | b')') => open_brackets = open_brackets.saturating_sub(1),
                (None, _) => {}
            }
        }
        None
    }

    /// Moves to the tag that ends a raw block.
    fn skip_raw(&mut self) {
        let end = self.rest().match_indices("{%").find(|(at, _)| {
            let inner = self.rest().get(at + 2..).unwrap_or_default();
            inner.trim_start_matches(['-', '+']).trim_start().starts_with("endraw")
        });
        self.at += end.map_or(self.rest().len(), |(at, _)| at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_become_scopes_and_nothing_else_changes() {
        for (source, expected) in [
            ("{% generation %}x{% endgeneration %}", "{% with %}x{% endwith %}"),
            ("a{%- generation -%} x {%+ endgeneration +%}b", "a{%- with -%} x {%+ endwith +%}b"),
            ("{%generation%}{{ '{% generation %}' }}{%endgeneration%}", "{%with%}{{ '{% generation %}' }}{%endwith%}"),
            ("{# {% generation %} #}{{ {'a': {'b': 1}} }}", "{# {% generation %} #}{{ {'a': {'b': 1}} }}"),
            ("{% raw %}{% generation %}{% endraw %}{% generation %}", "{% raw %}{% generation %}{% endraw %}{% with %}"),
            ("{% if x == '%}' %}{% endif %}{% generation", "{% if x == '%}' %}{% endif %}{% generation"),
            ("{ % generation % } é {", "{ % generation % } é {"),
            ("a\r\nb\rc", "a\nb\nc"),
        ] {
            assert_eq!(adapt(source), expected, "{source}");
        }
    }

    #[test]
    fn a_template_is_found_in_each_kind_of_file() {
        assert_eq!(extract("chat_template.jinja", "{x}".to_owned()).unwrap(), "{x}");
        assert_eq!(extract("chat_template.json", r#"{"chat_template": "a\nb"}"#.to_owned()).unwrap(), "a\nb");
        let named = r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#;
        assert_eq!(extract("tokenizer_config.json", named.to_owned()).unwrap(), "d");
        for broken in ["", "[]", "{}", r#"{"chat_template": 3}"#, r#"{"chat_template": [{"name": "x", "template": "d"}]}"#] {
            assert!(extract("chat_template.json", broken.to_owned()).is_err(), "{broken}");
        }
    }
}
