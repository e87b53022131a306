//! Python pickles of plain data: lists, tuples, dictionaries, texts and numbers.
//!
//! A pickle is a program for a small stack machine that can name any Python function. The machine here has no way to call
//! anything: it knows the instructions that build plain data, of all protocols, and refuses every other one by what it would do.
//! Values refer to each other by number, so neither depth nor sharing costs memory or stack.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::files::{GuardError, read_capped};

/// The largest file that is read.
const FILE_LIMIT_BYTES: u64 = 256 << 20;
/// Most instructions; RefCOCOg, the largest known file of this kind, has about ten million.
const INSTRUCTION_LIMIT: u64 = 100_000_000;
/// Most values, and most references between them.
const VALUE_LIMIT: usize = 16_000_000;

/// Why a pickle was not read.
#[derive(Debug, thiserror::Error)]
pub enum PickleError {
    /// It cannot be read, or is too large.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// It is damaged.
    #[error("{path} is no pickle of plain data: {reason} at byte {position}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
        /// Place of the instruction.
        position: usize,
    },
    /// It asks for more than plain data.
    #[error("{path}: the pickle {action} at byte {position}, which plain data do not need; it was not run")]
    Refused {
        /// The file.
        path: PathBuf,
        /// What it asks for, as a verb with its object.
        action: String,
        /// Place of the instruction.
        position: usize,
    },
    /// It is larger than any real file in some respect.
    #[error("{path}: the pickle has more than the {limit} {what} allowed")]
    Limit {
        /// The file.
        path: PathBuf,
        /// What there is too much of.
        what: &'static str,
        /// The cap.
        limit: u64,
    },
}

/// Number of a value in a [`Pickle`].
pub type ValueId = usize;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer of up to 64 bits.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// A text. Byte strings of Python 2 are taken for UTF-8, or for Latin-1 where they are not.
    Text(String),
    /// A list or a tuple.
    List(Vec<ValueId>),
    /// A dictionary as keys and values; of repeated keys the last one counts.
    Dictionary(Vec<(ValueId, ValueId)>),
}

impl Value {
    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a truth value",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number with a fraction",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Dictionary(_) => "a dictionary",
        }
    }
}

/// What a pickle builds.
#[derive(Clone, Debug)]
pub struct Pickle {
    values: Vec<Value>,
    root: ValueId,
}

impl Pickle {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, PickleError> {
        Self::parse(path, &read_capped(path, FILE_LIMIT_BYTES)?)
    }

    /// Reads the bytes of a file. `path` is for messages only.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, PickleError> {
        Machine {
            path,
            bytes,
            position: 0,
            at: 0,
            values: vec![],
            stack: vec![],
            marks: vec![],
            memo: HashMap::new(),
            references: 0,
        }
        .run()
    }

    /// The value that the file holds.
    pub fn root(&self) -> &Value {
        self.value(self.root)
    }

    /// A value by number.
    pub fn value(&self, id: ValueId) -> &Value {
        self.values.get(id).unwrap_or(&Value::None)
    }

    /// A member of a dictionary.
    pub fn member(&self, dictionary: &Value, name: &str) -> Option<&Value> {
        let Value::Dictionary(entries) = dictionary else { return None };
        let found = entries.iter().rev().find(|(key, _)| matches!(self.value(*key), Value::Text(text) if text == name));
        found.map(|(_, value)| self.value(*value))
    }
}

struct Machine<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    position: usize,
    /// Place of the present instruction.
    at: usize,
    values: Vec<Value>,
    stack: Vec<ValueId>,
    /// Heights of the stack at which a mark stands.
    marks: Vec<usize>,
    memo: HashMap<u64, ValueId>,
    references: usize,
}

impl Machine<'_> {
    fn run(mut self) -> Result<Pickle, PickleError> {
        for _ in 0..INSTRUCTION_LIMIT {
            self.at = self.position;
            let opcode = self.byte()?;
            if opcode == b'.' {
                let root = self.pop()?;
                return Ok(Pickle { values: self.values, root });
            }
            self.step(opcode)?;
            let most = self.values.len().max(self.references).max(self.stack.len()).max(self.marks.len());
            if most > VALUE_LIMIT {
                return Err(self.limit("values", VALUE_LIMIT as u64));
            }
        }
        Err(self.limit("instructions", INSTRUCTION_LIMIT))
    }

    fn step(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            // PROTO, FRAME: nothing to do.
            0x80 => self.take(1).map(|_| ()),
            0x95 => self.take(8).map(|_| ()),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(|_| ()),
            b'1' => self.pop_mark().map(|_| ()),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
                Ok(())
            }
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Bool(opcode == 0x88)),
            b'I' | b'L' => self.integer_line(opcode),
            b'F' => {
                let line = self.line()?;
                let number = line.trim().parse().map_err(|_| self.malformed("a number is unreadable"))?;
                self.push(Value::Float(number))
            }
            b'G' => {
                let bytes = self.array::<8>()?;
                self.push(Value::Float(f64::from_be_bytes(bytes)))
            }
            b'K' => self.unsigned(1).and_then(|number| self.push(Value::Integer(number as i64))),
            b'M' => self.unsigned(2).and_then(|number| self.push(Value::Integer(number as i64))),
            b'J' => {
                let bytes = self.array::<4>()?;
                self.push(Value::Integer(i64::from(i32::from_le_bytes(bytes))))
            }
            0x8a => self.long(),
            b'S' => self.quoted_line(),
            b'V' => self.escaped_line(),
            b'T' => self.text(4, true),
            b'U' => self.text(1, true),
            b'X' => self.text(4, false),
            0x8c => self.text(1, false),
            0x8d => self.text(8, false),
            b')' | b']' => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dictionary(Vec::new())),
            0x85..=0x87 => {
                let start = self.stack.len().checked_sub(usize::from(opcode - 0x84)).filter(|&start| start >= self.floor());
                let items = self.stack.split_off(start.ok_or_else(|| self.malformed("the stack is empty"))?);
                self.push_list(items)
            }
            b't' | b'l' => {
                let items = self.pop_mark()?;
                self.push_list(items)
            }
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Value::Dictionary(Vec::new()))?;
                self.extend_dictionary(&items)
            }
            b'a' => {
                let item = self.pop()?;
                self.extend_list(vec![item])
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.extend_list(items)
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.extend_dictionary(&[key, value])
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.extend_dictionary(&items)
            }
            b'p' => self.line_number().and_then(|key| self.put(key)),
            b'q' => self.unsigned(1).and_then(|key| self.put(key)),
            b'r' => self.unsigned(4).and_then(|key| self.put(key)),
            0x94 => self.put(self.memo.len() as u64),
            b'g' => self.line_number().and_then(|key| self.get(key)),
            b'h' => self.unsigned(1).and_then(|key| self.get(key)),
            b'j' => self.unsigned(4).and_then(|key| self.get(key)),
            _ => Err(self.refused(opcode)),
        }
    }

    // --- the stack ---

    /// Values below the newest mark cannot be reached.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<ValueId, PickleError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn top(&self) -> Result<ValueId, PickleError> {
        let top = if self.stack.len() > self.floor() { self.stack.last() } else { None };
        top.copied().ok_or_else(|| self.malformed("the stack is empty"))
    }

    fn pop_mark(&mut self) -> Result<Vec<ValueId>, PickleError> {
        match self.marks.pop() {
            Some(height) if height <= self.stack.len() => Ok(self.stack.split_off(height)),
            _ => Err(self.malformed("a mark is missing")),
        }
    }

    fn push(&mut self, value: Value) -> Result<(), PickleError> {
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    fn push_list(&mut self, items: Vec<ValueId>) -> Result<(), PickleError> {
        self.references += items.len();
        self.push(Value::List(items))
    }

    fn extend_list(&mut self, items: Vec<ValueId>) -> Result<(), PickleError> {
        self.references += items.len();
        let top = self.top()?;
        match self.values.get_mut(top) {
            Some(Value::List(list)) => {
                list.extend(items);
                Ok(())
            }
            _ => Err(self.malformed("something is appended to what is no list")),
        }
    }

    fn extend_dictionary(&mut self, items: &[ValueId]) -> Result<(), PickleError> {
        self.references += items.len();
        let (pairs, rest) = items.as_chunks::<2>();
        let top = self.top()?;
        match self.values.get_mut(top) {
            Some(Value::Dictionary(entries)) if rest.is_empty() => {
                entries.extend(pairs.iter().map(|[key, value]| (*key, *value)));
                Ok(())
            }
            Some(Value::Dictionary(_)) => Err(self.malformed("a dictionary has a key without a value")),
            _ => Err(self.malformed("an item is set in what is no dictionary")),
        }
    }

    fn put(&mut self, key: u64) -> Result<(), PickleError> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn get(&mut self, key: u64) -> Result<(), PickleError> {
        let id = self.memo.get(&key).copied().ok_or_else(|| self.malformed("a value is recalled that was never stored"))?;
        self.stack.push(id);
        Ok(())
    }

    // --- operands ---

    fn take(&mut self, count: usize) -> Result<&[u8], PickleError> {
        let end = self.position.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| self.malformed("the file ends in the middle"))?;
        let bytes = self.bytes.get(self.position..end).unwrap_or_default();
        self.position = end;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn unsigned(&mut self, width: usize) -> Result<u64, PickleError> {
        Ok(self.take(width)?.iter().rev().fold(0, |value, &byte| (value << 8) | u64::from(byte)))
    }

    /// Bytes up to a line feed, which is taken, too.
    fn line_bytes(&mut self) -> Result<&[u8], PickleError> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n');
        let length = length.ok_or_else(|| self.malformed("a line has no end"))?;
        let line = self.take(length + 1)?;
        Ok(line.get(..length).unwrap_or_default())
    }

    fn line(&mut self) -> Result<String, PickleError> {
        Ok(String::from_utf8_lossy(self.line_bytes()?).into_owned())
    }

    fn line_number(&mut self) -> Result<u64, PickleError> {
        let line = self.line()?;
        line.trim().parse().map_err(|_| self.malformed("a number of the memo is unreadable"))
    }

    /// A decimal integer; `I01` and `I00` are the truth values of protocol 0, and long integers end in `L`.
    fn integer_line(&mut self, opcode: u8) -> Result<(), PickleError> {
        let line = self.line()?;
        let value = match (opcode, line.as_str()) {
            (b'I', "01") => Value::Bool(true),
            (b'I', "00") => Value::Bool(false),
            (_, line) => {
                let digits = line.trim();
                let digits = digits.strip_suffix('L').unwrap_or(digits);
                Value::Integer(digits.parse().map_err(|_| self.malformed("an integer is unreadable or has more than 64 bits"))?)
            }
        };
        self.push(value)
    }

    /// Two's complement, little endian, of any length up to 64 bits.
    fn long(&mut self) -> Result<(), PickleError> {
        let length = usize::from(self.byte()?);
        let bytes = self.take(length)?;
        let fill = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [fill; 8];
        wide.iter_mut().zip(bytes).for_each(|(wide, byte)| *wide = *byte);
        if length > wide.len() {
            return Err(self.malformed("an integer has more than 64 bits"));
        }
        self.push(Value::Integer(i64::from_le_bytes(wide)))
    }

    /// A text with its length before it; `byte_string` for the byte strings of Python 2.
    fn text(&mut self, width: usize, byte_string: bool) -> Result<(), PickleError> {
        let length = usize::try_from(self.unsigned(width)?).unwrap_or(usize::MAX);
        let bytes = self.take(length)?.to_vec();
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) if byte_string => latin_1(error.as_bytes()),
            Err(_) => return Err(self.malformed("a text is not UTF-8")),
        };
        self.push(Value::Text(text))
    }

    /// A byte string as Python 2 shows it, in quotes and with backslashes.
    fn quoted_line(&mut self) -> Result<(), PickleError> {
        let line = self.line_bytes()?.to_vec();
        let bytes = unquoted(&line).ok_or_else(|| self.malformed("a quoted text is unreadable"))?;
        let text = String::from_utf8(bytes).unwrap_or_else(|error| latin_1(error.as_bytes()));
        self.push(Value::Text(text))
    }

    /// A text in Latin-1 with `\uXXXX` and `\UXXXXXXXX` (Python's raw-unicode-escape).
    fn escaped_line(&mut self) -> Result<(), PickleError> {
        let line = latin_1(self.line_bytes()?);
        let text = unescaped(&line).ok_or_else(|| self.malformed("a text has a broken escape"))?;
        self.push(Value::Text(text))
    }

    // --- errors ---

    fn malformed(&self, reason: &str) -> PickleError {
        PickleError::Malformed { path: self.path.to_path_buf(), reason: reason.to_owned(), position: self.at }
    }

    fn limit(&self, what: &'static str, limit: u64) -> PickleError {
        PickleError::Limit { path: self.path.to_path_buf(), what, limit }
    }

    /// What an instruction outside the list would do.
    fn refused(&mut self, opcode: u8) -> PickleError {
        let action = match opcode {
            b'c' => match (self.line(), self.line()) {
                (Ok(module), Ok(name)) => format!("names {module}.{name}"),
                _ => "names something of Python".to_owned(),
            },
            0x93 => "names something of Python".to_owned(),
            b'R' => "calls a function (REDUCE)".to_owned(),
            b'b' => "sets the attributes of an object (BUILD)".to_owned(),
            b'i' | b'o' | 0x81 | 0x92 => "makes an instance of a class".to_owned(),
            0x82..=0x84 => "uses the registry of extensions (EXT)".to_owned(),
            b'P' | b'Q' => "names an outside object".to_owned(),
            b'B' | b'C' | 0x8e | 0x96..=0x98 => "has bytes that are no text".to_owned(),
            0x8b => "has an integer of more than 64 bits".to_owned(),
            0x8f..=0x91 => "makes a set".to_owned(),
            _ => format!("has the unknown instruction 0x{opcode:02x}"),
        };
        PickleError::Refused { path: self.path.to_path_buf(), action, position: self.at }
    }
}

fn latin_1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// The bytes of a Python 2 string literal.
fn unquoted(line: &[u8]) -> Option<Vec<u8>> {
    let line = line.trim_ascii();
    let quote = *line.first().filter(|quote| matches!(quote, b'\'' | b'"'))?;
    let inner = line.get(1..)?.strip_suffix(&[quote])?;
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.iter().copied();
    while let Some(byte) = rest.next() {
        if byte == quote {
            return None;
        }
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next()? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other @ (b'\\' | b'\'' | b'"') => other,
            _ => return None,
        });
    }
    Some(bytes)
}

/// A text without its `\uXXXX` and `\UXXXXXXXX`; other backslashes are plain. Escaped halves of a surrogate pair are one
/// character.
fn unescaped(line: &str) -> Option<String> {
    let mut text = String::with_capacity(line.len());
    let mut high: Option<u32> = None;
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let width = match rest.as_bytes() {
            [b'\\', b'u', ..] => 4,
            [b'\\', b'U', ..] => 8,
            _ => 0,
        };
        let (code, length) = if width == 0 {
            (u32::from(first), first.len_utf8())
        } else {
            (u32::from_str_radix(rest.get(2..2 + width)?, 16).ok()?, 2 + width)
        };
        let code = match (high.take(), code) {
            (None, 0xd800..=0xdbff) => {
                high = Some(code);
                rest = rest.get(length..)?;
                continue;
            }
            (Some(high), 0xdc00..=0xdfff) => 0x1_0000 + ((high - 0xd800) << 10) + (code - 0xdc00),
            (Some(_), _) => return None,
            (None, code) => code,
        };
        text.push(char::from_u32(code)?);
        rest = rest.get(length..)?;
    }
    high.is_none().then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Pickle, PickleError> {
        Pickle::parse(Path::new("x.p"), bytes)
    }

    /// `[{'a': 1, 'b': ['x\xe9', u'\u20ac', 2.5, None, True, -3]}]` as Python 2 writes it.
    const PROTOCOL_0: &[u8] =
        b"(lp0\n(dp1\nS'a'\np2\nI1\nsS'b'\np3\n(lp4\nS'x\\xe9'\np5\naV\\u20ac\np6\naF2.5\naNaI01\naI-3\nasa.";

    #[test]
    fn the_text_protocol_of_python_2_is_read() {
        let pickle = parse(PROTOCOL_0).unwrap();
        let Value::List(rows) = pickle.root() else { panic!("{pickle:?}") };
        let row = pickle.value(rows[0]);
        assert_eq!(pickle.member(row, "a"), Some(&Value::Integer(1)));
        let Some(Value::List(items)) = pickle.member(row, "b") else { panic!("{pickle:?}") };
        let items: Vec<&Value> = items.iter().map(|&id| pickle.value(id)).collect();
        assert_eq!(
            items,
            [
                &Value::Text("x\u{e9}".to_owned()),
                &Value::Text("\u{20ac}".to_owned()),
                &Value::Float(2.5),
                &Value::None,
                &Value::Bool(true),
                &Value::Integer(-3)
            ]
        );
        assert_eq!(pickle.member(row, "c"), None);
    }

    #[test]
    fn whatever_could_run_code_is_refused_by_name() {
        for (bytes, action) in [
            (&b"cos\nsystem\n(S'ls'\ntR."[..], "names os.system"),
            (b"\x80\x02cnumpy.core.multiarray\nscalar\n.", "names numpy.core.multiarray.scalar"),
            (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "names something"),
            (b"(iposix\nsystem\n.", "makes an instance"),
            (b"]Q.", "outside object"),
            (b"\x80\x03C\x01x.", "bytes"),
            (b"\xff", "unknown instruction 0xff"),
        ] {
            let error = parse(bytes).unwrap_err().to_string();
            assert!(error.contains(action) && error.contains("was not run"), "{error}");
        }
    }

    #[test]
    fn damaged_files_are_refused() {
        for end in 0..PROTOCOL_0.len() {
            assert!(matches!(parse(&PROTOCOL_0[..end]), Err(PickleError::Malformed { .. })), "{end}");
        }
        for bytes in [
            &b"."[..],
            b"0.",
            b"h\x05.",
            b"(a.",
            b"]K\x01s.",
            b"}(K\x01u.",
            b"I1x\n.",
            b"S'a\n.",
            b"V\\u12\n.",
            b"X\xff\xff\xff\xff.",
            b"\x85.",
        ] {
            assert!(matches!(parse(bytes), Err(PickleError::Malformed { .. })), "{bytes:?}");
        }
    }

    #[test]
    fn a_list_in_itself_is_no_endless_one() {
        let pickle = parse(b"]q\x00h\x00a.").unwrap();
        assert!(matches!(pickle.root(), Value::List(items) if items.len() == 1));
    }
}
