//! JSON documents and JSON Lines, cut into rows without holding more than one of them.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value};

use super::super::super::error::BenchmarkError;
use super::super::rows::RowPlace;
use super::open;
use super::source::{Each, Row};

/// The longest row.
const ROW_LIMIT_BYTES: usize = 256 << 20;
/// The longest file, behind decompression too.
const FILE_LIMIT_BYTES: u64 = 64 << 30;

fn reader(path: &Path, gzip: bool) -> Result<Box<dyn BufRead>, BenchmarkError> {
    let file = open(path)?;
    Ok(match gzip {
        true => Box::new(BufReader::new(MultiGzDecoder::new(BufReader::new(file)).take(FILE_LIMIT_BYTES))),
        false => Box::new(BufReader::with_capacity(1 << 16, file)),
    })
}

/// Reads the rows of a JSON document: a list, a member of an object (`data.rows`), an object of rows by key (`.` or a member
/// that is an object), or objects one after another, which is what some files called `.json` are.
pub(super) fn stream_document(path: &Path, gzip: bool, member: Option<&str>, each: &mut Each<'_>) -> Result<(), BenchmarkError> {
    let mut scanner = Scanner { reader: reader(path, gzip)?, position: 0, path };
    if let Some(member) = member.filter(|member| *member != ".") {
        for name in member.split('.') {
            scanner.enter(name)?;
        }
    }
    let mut rows = RowMaker { file: path.into(), number: 0 };
    match scanner.peek_token()? {
        Some(b'[') => scanner.list(&mut |offset, bytes| each(rows.make(offset, bytes, None))),
        Some(b'{') if member.is_some() => scanner.object(&mut |key, offset, bytes| each(rows.make(offset, bytes, Some(key)))),
        Some(b'{') => scanner.sequence(&mut |offset, bytes| each(rows.make(offset, bytes, None))),
        Some(_) => Err(scanner.wrong("a list or an object of rows", "something else".to_owned())),
        None => Err(scanner.wrong("a list or an object of rows", "nothing".to_owned())),
    }
}

/// Reads the rows of a JSON Lines file.
pub(super) fn stream_lines(path: &Path, gzip: bool, each: &mut Each<'_>) -> Result<(), BenchmarkError> {
    let mut reader = reader(path, gzip)?;
    let mut rows = RowMaker { file: path.into(), number: 0 };
    let mut line = Vec::new();
    let mut offset = 0_u64;
    loop {
        line.clear();
        let limited = &mut (&mut reader).take(ROW_LIMIT_BYTES as u64 + 1);
        let count = limited.read_until(b'\n', &mut line).map_err(|error| unreadable(path, &error))?;
        if count == 0 {
            return Ok(());
        }
        if count > ROW_LIMIT_BYTES {
            return Err(too_long(path));
        }
        let begin = offset;
        offset += count as u64;
        // A byte order mark, which some programs write.
        let text = if begin == 0 { line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&line) } else { &line };
        if text.iter().all(u8::is_ascii_whitespace) {
            rows.number += 1;
        } else {
            each(rows.make(begin + (line.len() - text.len()) as u64, text, None))?;
        }
    }
}

/// A value of the row that begins at an offset.
pub(super) fn value(path: &Path, offset_bytes: u64, column: &str) -> Result<Value, BenchmarkError> {
    let mut file = open(path)?;
    file.seek(SeekFrom::Start(offset_bytes)).map_err(|error| unreadable(path, &error))?;
    let mut scanner = Scanner { reader: Box::new(BufReader::new(file)), position: offset_bytes, path };
    let mut bytes = Vec::new();
    scanner.value(Some(&mut bytes))?;
    let broken = |found: String| BenchmarkError::File {
        path: path.to_path_buf(),
        expected: format!("a row with {column:?} at byte {offset_bytes}"),
        found,
    };
    let mut row: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
    row.remove(column).ok_or_else(|| broken("no such column".to_owned()))
}

struct RowMaker {
    file: Arc<Path>,
    number: usize,
}

impl RowMaker {
    fn make(&mut self, offset: u64, bytes: &[u8], key: Option<String>) -> Result<Row, BenchmarkError> {
        self.number += 1;
        let place = RowPlace { path: &self.file, row: self.number };
        let value: Value = serde_json::from_slice(bytes).map_err(|error| {
            let text: String = String::from_utf8_lossy(bytes.get(..160.min(bytes.len())).unwrap_or_default()).into_owned();
            place.error("-", "JSON", format!("{error} in {:?}", text.trim_end()))
        })?;
        let mut columns = match value {
            Value::Object(columns) => columns,
            value => Map::from_iter([("@value".to_owned(), value)]),
        };
        if let Some(key) = key {
            columns.insert("@key".to_owned(), Value::String(key));
        }
        Ok(Row {
            file: Arc::clone(&self.file),
            number: self.number,
            offset_bytes: Some(offset),
            columns,
            cells: Vec::new(),
            texts_only: false,
        })
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> BenchmarkError {
    BenchmarkError::File { path: path.to_path_buf(), expected: "a readable file".to_owned(), found: error.to_string() }
}

fn too_long(path: &Path) -> BenchmarkError {
    BenchmarkError::File {
        path: path.to_path_buf(),
        expected: format!("rows of at most {} MiB", ROW_LIMIT_BYTES >> 20),
        found: "a longer one".to_owned(),
    }
}

/// Told where a value begins, and its bytes.
type EachBytes<'e> = dyn FnMut(u64, &[u8]) -> Result<(), BenchmarkError> + 'e;
/// The same with the key of the value.
type EachMember<'e> = dyn FnMut(String, u64, &[u8]) -> Result<(), BenchmarkError> + 'e;

/// Finds where values begin and end in a JSON document. It checks brackets and strings only: whether a row is right is seen
/// when it is parsed.
struct Scanner<'p> {
    reader: Box<dyn BufRead>,
    /// Bytes taken so far.
    position: u64,
    path: &'p Path,
}

impl Scanner<'_> {
    fn wrong(&self, expected: &str, found: String) -> BenchmarkError {
        BenchmarkError::File {
            path: self.path.to_path_buf(),
            expected: expected.to_owned(),
            found: format!("{found} at byte {}", self.position),
        }
    }

    /// The next byte that is no white space, which is not taken; `None` at the end of the file.
    fn peek_token(&mut self) -> Result<Option<u8>, BenchmarkError> {
        if self.position == 0 {
            let bytes = self.reader.fill_buf().map_err(|error| unreadable(self.path, &error))?;
            if bytes.starts_with("\u{feff}".as_bytes()) {
                self.take(3);
            }
        }
        loop {
            let bytes = self.reader.fill_buf().map_err(|error| unreadable(self.path, &error))?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let white = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let found = bytes.get(white).copied();
            self.take(white);
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    fn take(&mut self, count: usize) {
        self.reader.consume(count);
        self.position += count as u64;
    }

    fn expect(&mut self, wanted: u8, what: &str) -> Result<(), BenchmarkError> {
        match self.peek_token()? {
            Some(byte) if byte == wanted => {
                self.take(1);
                Ok(())
            }
            Some(byte) => Err(self.wrong(what, format!("{:?}", char::from(byte)))),
            None => Err(self.wrong(what, "the end of the file".to_owned())),
        }
    }

    /// Takes one value, and copies it if it is wanted.
    fn value(&mut self, mut copy: Option<&mut Vec<u8>>) -> Result<(), BenchmarkError> {
        let Some(first) = self.peek_token()? else { return Err(self.wrong("a value", "the end of the file".to_owned())) };
        let nested = matches!(first, b'{' | b'[');
        let text = first == b'"';
        let (mut depth, mut in_text, mut escaped, mut began) = (0_usize, false, false, false);
        let mut length = 0;
        loop {
            let bytes = self.reader.fill_buf().map_err(|error| unreadable(self.path, &error))?;
            if bytes.is_empty() {
                return if nested || text {
                    Err(self.wrong("the end of a row", "the end of the file".to_owned()))
                } else {
                    Ok(())
                };
            }
            let mut end = None;
            for (index, &byte) in bytes.iter().enumerate() {
                if in_text {
                    match byte {
                        _ if escaped => escaped = false,
                        b'\\' => escaped = true,
                        b'"' => {
                            in_text = false;
                            if text {
                                end = Some(index + 1);
                            }
                        }
                        _ => {}
                    }
                } else {
                    match byte {
                        b'"' => in_text = true,
                        b'{' | b'[' if nested => depth += 1,
                        b'}' | b']' if nested => {
                            depth -= 1;
                            if depth == 0 {
                                end = Some(index + 1);
                            }
                        }
                        b',' | b'}' | b']' if !nested && began => end = Some(index),
                        _ if !nested && byte.is_ascii_whitespace() => end = Some(index),
                        _ => {}
                    }
                }
                began = true;
                if end.is_some() {
                    break;
                }
            }
            let count = end.unwrap_or(bytes.len());
            if let Some(copy) = copy.as_deref_mut() {
                copy.extend_from_slice(bytes.get(..count).unwrap_or_default());
                length += count;
            }
            self.take(count);
            if end.is_some() {
                return Ok(());
            }
            if length > ROW_LIMIT_BYTES {
                return Err(too_long(self.path));
            }
        }
    }

    /// A key of an object and its colon.
    fn key(&mut self) -> Result<String, BenchmarkError> {
        if self.peek_token()? != Some(b'"') {
            return Err(self.wrong("a key", "something else".to_owned()));
        }
        let mut bytes = Vec::new();
        self.value(Some(&mut bytes))?;
        let key = serde_json::from_slice(&bytes).map_err(|error| self.wrong("a key", error.to_string()))?;
        self.expect(b':', "a colon behind a key")?;
        Ok(key)
    }

    /// Whether another element follows, after the one that was taken; takes the comma or the closing bracket.
    fn another(&mut self, close: u8) -> Result<bool, BenchmarkError> {
        match self.peek_token()? {
            Some(b',') => {
                self.take(1);
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.take(1);
                Ok(false)
            }
            Some(byte) => Err(self.wrong("a comma or the end of the rows", format!("{:?}", char::from(byte)))),
            None => Err(self.wrong("a comma or the end of the rows", "the end of the file".to_owned())),
        }
    }

    /// Goes into a member of the object that comes next.
    fn enter(&mut self, name: &str) -> Result<(), BenchmarkError> {
        let expected = format!("an object with the member {name:?}");
        self.expect(b'{', &expected)?;
        let mut members = Vec::new();
        if self.peek_token()? != Some(b'}') {
            loop {
                let key = self.key()?;
                if key == name {
                    return Ok(());
                }
                members.push(key);
                self.value(None)?;
                if !self.another(b'}')? {
                    break;
                }
            }
        }
        members.truncate(12);
        Err(BenchmarkError::File { path: self.path.to_path_buf(), expected, found: format!("the members {members:?}") })
    }

    fn list(&mut self, each: &mut EachBytes<'_>) -> Result<(), BenchmarkError> {
        self.expect(b'[', "a list")?;
        if self.peek_token()? == Some(b']') {
            return Ok(());
        }
        let mut bytes = Vec::new();
        loop {
            self.peek_token()?;
            let offset = self.position;
            bytes.clear();
            self.value(Some(&mut bytes))?;
            each(offset, &bytes)?;
            if !self.another(b']')? {
                return Ok(());
            }
        }
    }

    fn object(&mut self, each: &mut EachMember<'_>) -> Result<(), BenchmarkError> {
        self.expect(b'{', "an object")?;
        if self.peek_token()? == Some(b'}') {
            return Ok(());
        }
        let mut bytes = Vec::new();
        loop {
            let key = self.key()?;
            self.peek_token()?;
            let offset = self.position;
            bytes.clear();
            self.value(Some(&mut bytes))?;
            each(key, offset, &bytes)?;
            if !self.another(b'}')? {
                return Ok(());
            }
        }
    }

    /// Objects one after another.
    fn sequence(&mut self, each: &mut EachBytes<'_>) -> Result<(), BenchmarkError> {
        let mut bytes = Vec::new();
        while let Some(first) = self.peek_token()? {
            if first != b'{' {
                return Err(self.wrong("another object", format!("{:?}", char::from(first))));
            }
            let offset = self.position;
            bytes.clear();
            self.value(Some(&mut bytes))?;
            each(offset, &bytes)?;
        }
        Ok(())
    }
}
