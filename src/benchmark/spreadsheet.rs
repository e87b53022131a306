//! The first sheet of an Excel workbook (`.xlsx`), as pandas writes and reads it: MMBench's prediction files. Only what such a
//! file has is read: shared and inline texts, numbers and truth values.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::BenchmarkError;

/// The largest part of a workbook that is read, behind decompression.
const PART_LIMIT_BYTES: u64 = 1 << 30;
/// Columns of the largest sheet that Excel knows.
const MOST_COLUMNS: usize = 16_384;

/// The rows of the first sheet, each with its number from 1; cells without a value are empty.
pub(super) fn rows(path: &Path) -> Result<Vec<(usize, Vec<String>)>, BenchmarkError> {
    let wrong = |found: String| BenchmarkError::File {
        path: path.to_path_buf(),
        expected: "an Excel workbook (.xlsx)".to_owned(),
        found,
    };
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| wrong(error.to_string()))?;
    let mut part = |name: &str| -> Result<Option<String>, BenchmarkError> {
        let Ok(entry) = archive.by_name(name) else { return Ok(None) };
        let mut bytes = Vec::new();
        entry.take(PART_LIMIT_BYTES + 1).read_to_end(&mut bytes).map_err(|error| wrong(format!("{name}: {error}")))?;
        if bytes.len() as u64 > PART_LIMIT_BYTES {
            return Err(wrong(format!("a {name} of more than {} MiB", PART_LIMIT_BYTES >> 20)));
        }
        let text = String::from_utf8(bytes).map_err(|_| wrong(format!("a {name} that is not UTF-8")))?;
        // Line ends in XML are newlines, however they are written.
        Ok(Some(text.replace("\r\n", "\n").replace('\r', "\n")))
    };
    let shared = match part("xl/sharedStrings.xml")? {
        Some(xml) => elements(&xml, "si").map(|(_, content)| texts(content)).collect(),
        None => Vec::new(),
    };
    let sheet = part("xl/worksheets/sheet1.xml")?.ok_or_else(|| wrong("no xl/worksheets/sheet1.xml in it".to_owned()))?;
    let mut rows: Vec<(usize, Vec<String>)> = Vec::new();
    for (attributes, content) in elements(&sheet, "row") {
        let before = rows.last().map_or(0, |(number, _)| *number);
        let number = attribute(attributes, "r").and_then(|number| number.parse().ok()).unwrap_or(before + 1);
        let mut cells: Vec<String> = Vec::new();
        for (attributes, content) in elements(content, "c") {
            let column = attribute(attributes, "r").and_then(column).unwrap_or(cells.len());
            if column >= MOST_COLUMNS {
                return Err(wrong(format!("row {number} with more than {MOST_COLUMNS} columns")));
            }
            let value = || elements(content, "v").next().map(|(_, value)| unescape(value)).unwrap_or_default();
            let text = match attribute(attributes, "t") {
                Some("s") => {
                    let index = value();
                    let text = index.trim().parse::<usize>().ok().and_then(|index| shared.get(index));
                    text.cloned().ok_or_else(|| {
                        wrong(format!("row {number} with the shared text {index:?}, of which there are {}", shared.len()))
                    })?
                }
                Some("inlineStr") => texts(content),
                _ => value(),
            };
            if cells.len() <= column {
                cells.resize(column + 1, String::new());
            }
            if let Some(cell) = cells.get_mut(column) {
                *cell = text;
            }
        }
        rows.push((number, cells));
    }
    Ok(rows)
}

/// The column of a cell reference such as `AB12`, from 0.
fn column(reference: &str) -> Option<usize> {
    let letters = reference.bytes().take_while(u8::is_ascii_uppercase);
    let number = letters.take(4).fold(0, |number, letter| number * 26 + usize::from(letter - b'A') + 1);
    number.checked_sub(1)
}

/// The texts of an element: those of its `t` elements, phonetic readings left out.
fn texts(content: &str) -> String {
    let readings: Vec<&str> = elements(content, "rPh").map(|(_, reading)| reading).collect();
    let within = |text: &str| readings.iter().any(|reading| reading.as_bytes().as_ptr_range().contains(&text.as_ptr()));
    elements(content, "t").filter(|(_, text)| !within(text)).map(|(_, text)| unescape(text)).collect()
}

/// Attributes and content of each element of a name, from left to right; elements of one name do not lie inside each other in
/// these files.
fn elements<'x>(xml: &'x str, name: &'x str) -> impl Iterator<Item = (&'x str, &'x str)> {
    let mut rest = xml;
    std::iter::from_fn(move || {
        loop {
            let (_, after) = rest.split_once('<')?;
            let Some(inner) = after.strip_prefix(name).filter(|inner| inner.starts_with([' ', '>', '/', '\n', '\r', '\t']))
            else {
                rest = after;
                continue;
            };
            let (attributes, content) = inner.split_once('>')?;
            if let Some(attributes) = attributes.strip_suffix('/') {
                rest = content;
                return Some((attributes, ""));
            }
            let (content, behind) = content.split_once(format!("</{name}>").as_str())?;
            rest = behind;
            return Some((attributes, content));
        }
    })
}

/// The value of an attribute.
fn attribute<'x>(attributes: &'x str, name: &str) -> Option<&'x str> {
    attributes.split_ascii_whitespace().find_map(|pair| {
        let value = pair.strip_prefix(name)?.strip_prefix('=')?;
        value.strip_prefix('"').and_then(|value| value.strip_suffix('"'))
    })
}

/// A text without XML's and Excel's escapes (`&amp;`, `&#10;`, `_x000D_`).
fn unescape(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['&', '_']) {
        let (before, from) = rest.split_at(at);
        output.push_str(before);
        let entity = from.strip_prefix('&').and_then(|inner| inner.split_once(';')).and_then(|(name, after)| {
            let code = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
            let character = match name {
                "amp" => Some('&'),
                "lt" => Some('<'),
                "gt" => Some('>'),
                "quot" => Some('"'),
                "apos" => Some('\''),
                _ => match name.strip_prefix("#x") {
                    Some(digits) => code(digits, 16),
                    None => name.strip_prefix('#').and_then(|digits| code(digits, 10)),
                },
            };
            Some((character?, after))
        });
        let excel = || {
            let (digits, after) = from.strip_prefix("_x")?.split_once('_')?;
            let code = u32::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 4)?;
            Some((char::from_u32(code)?, after))
        };
        match entity.or_else(excel) {
            Some((character, after)) => {
                output.push(character);
                rest = after;
            }
            None => {
                output.push_str(from.get(..1).unwrap_or_default());
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    output.push_str(rest);
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_and_escapes_are_read() {
        let columns: Vec<Option<usize>> = ["A1", "Z9", "AA1", "XFD7", "7", ""].into_iter().map(column).collect();
        assert_eq!(columns, [Some(0), Some(25), Some(26), Some(16_383), None, None]);
        assert_eq!(unescape("a &lt;b&gt; &amp;amp; &#65;&#x42; _x000D_\n_x_ & &x; _"), "a <b> &amp; AB \r\n_x_ & &x; _");
    }

    #[test]
    fn elements_are_found_by_their_whole_name() {
        let xml = "<sst><si><t>a</t></si><si><r><t xml:space=\"preserve\"> b</t></r><rPh sb=\"0\"><t>x</t></rPh><r><t>c</t></r></si><si/></sst>";
        let found: Vec<String> = elements(xml, "si").map(|(_, content)| texts(content)).collect();
        assert_eq!(found, ["a", " bc", ""]);
        assert_eq!(attribute(" r=\"B2\" s=\"1\" t=\"s\"", "t"), Some("s"));
    }
}
