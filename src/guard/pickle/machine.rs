//! The stack machine: instructions in, a flat table of plain values out.

use std::collections::HashMap;
use std::path::Path;

use super::texts::{latin_1, unescaped, unquoted};
use super::{Pickle, PickleError, Value, ValueId};

/// Most instructions; RefCOCOg, the largest known file of this kind, has about ten million.
const INSTRUCTION_LIMIT: u64 = 100_000_000;
/// Most values, and most references between them.
const VALUE_LIMIT: usize = 16_000_000;

/// The machine with what it has built so far.
pub(super) struct Machine<'a> {
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

impl<'a> Machine<'a> {
    pub fn new(path: &'a Path, bytes: &'a [u8]) -> Self {
        let (values, stack, marks, memo) = (Vec::new(), Vec::new(), Vec::new(), HashMap::new());
        Self { path, bytes, position: 0, at: 0, values, stack, marks, memo, references: 0 }
    }

    /// Runs the pickle to its end.
    pub fn run(mut self) -> Result<Pickle, PickleError> {
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
