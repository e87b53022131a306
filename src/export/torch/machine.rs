//! The stack machine: pickle instructions in, a flat table of plain values out.
//!
//! Values refer to each other by number, so neither depth nor sharing costs memory or stack. Every instruction is either
//! in the list here or refused by name.

use std::collections::BTreeMap;
use std::path::Path;

use super::TorchError;
use super::globals::{Element, Global, known};

/// Most instructions of one file; a checkpoint has about forty for each tensor.
const INSTRUCTION_LIMIT: u64 = 4_000_000;
/// Most values, and most references between them.
const VALUE_LIMIT: usize = 4_000_000;
/// Most values on the stack.
const STACK_LIMIT: usize = 1_000_000;
/// Most dimensions of a tensor.
const DIMENSION_LIMIT: usize = 16;
/// Longest text; keys of tensors have about a hundred bytes.
const TEXT_LIMIT_BYTES: u64 = 1 << 20;

/// Number of a value in [`Machine::values`].
pub(super) type Id = usize;

/// A value that a pickle can build.
#[derive(Clone, Debug)]
pub(super) enum Value {
    None,
    Bool(bool),
    Integer(i64),
    /// Numbers and bytes that no tensor needs.
    Other,
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Storage),
    Tensor(RawTensor),
}

/// Numbers in the file, by key.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    pub key: String,
    pub element: Element,
    /// Length in numbers.
    pub count: u64,
}

/// A view of a storage; sizes and strides in numbers.
#[derive(Clone, Debug)]
pub(super) struct RawTensor {
    pub storage: Storage,
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

/// The machine with what it has built so far.
pub(super) struct Machine<'a> {
    path: &'a Path,
    pub values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack at which a mark stands.
    marks: Vec<usize>,
    memo: BTreeMap<u64, Id>,
    references: usize,
    instructions: u64,
}

/// Bytes of a pickle with a place in them.
pub(super) struct Cursor<'a> {
    pub bytes: &'a [u8],
    pub position: usize,
}

impl<'a> Machine<'a> {
    pub fn new(path: &'a Path) -> Self {
        Self {
            path,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: BTreeMap::new(),
            references: 0,
            instructions: 0,
        }
    }

    /// A value by number.
    pub fn value(&self, id: Id) -> &Value {
        self.values.get(id).unwrap_or(&Value::None)
    }

    /// Runs one pickle to its end and gives its result; the cursor then stands after it.
    pub fn run(&mut self, cursor: &mut Cursor<'_>) -> Result<Id, TorchError> {
        self.stack.clear();
        self.marks.clear();
        self.memo.clear();
        loop {
            let at = cursor.position as u64;
            let opcode = self.byte(cursor)?;
            self.instructions += 1;
            if self.instructions > INSTRUCTION_LIMIT {
                return Err(self.limit("instructions", INSTRUCTION_LIMIT));
            }
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode, at, cursor)?;
            if self.stack.len() > STACK_LIMIT || self.marks.len() > STACK_LIMIT {
                return Err(self.limit("values on its stack", STACK_LIMIT as u64));
            }
            if self.values.len() > VALUE_LIMIT || self.references > VALUE_LIMIT {
                return Err(self.limit("values", VALUE_LIMIT as u64));
            }
        }
    }

    fn step(&mut self, opcode: u8, at: u64, cursor: &mut Cursor<'_>) -> Result<(), TorchError> {
        match opcode {
            // PROTO, FRAME: nothing to do.
            0x80 => self.take(cursor, 1).map(|_| ()),
            0x95 => self.take(cursor, 8).map(|_| ()),
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
            b'K' => self.push_integer(cursor, 1),
            b'M' => self.push_integer(cursor, 2),
            b'J' => {
                let bytes = self.array::<4>(cursor)?;
                self.push(Value::Integer(i64::from(i32::from_le_bytes(bytes))))
            }
            0x8a => self.push_long(cursor),
            b'G' => {
                self.take(cursor, 8)?;
                self.push(Value::Other)
            }
            b'X' | b'T' => self.push_text(cursor, 4),
            0x8c | b'U' => self.push_text(cursor, 1),
            0x8d => self.push_text(cursor, 8),
            b'C' => self.skip_bytes(cursor, 1),
            b'B' => self.skip_bytes(cursor, 4),
            b')' => self.push(Value::Tuple(Vec::new())),
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let start = self.stack.len().checked_sub(count).filter(|&start| start >= self.floor());
                let items = self.stack.split_off(start.ok_or_else(|| self.malformed("its stack is empty"))?);
                self.push_items(items, Value::Tuple)
            }
            b't' => {
                let items = self.pop_mark()?;
                self.push_items(items, Value::Tuple)
            }
            b']' => self.push(Value::List(Vec::new())),
            b'l' => {
                let items = self.pop_mark()?;
                self.push_items(items, Value::List)
            }
            b'a' => {
                let item = self.pop()?;
                self.extend_list(vec![item], at)
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.extend_list(items, at)
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Value::Dict(Vec::new()))?;
                self.extend_dict(items, at)
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.extend_dict(vec![key, value], at)
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.extend_dict(items, at)
            }
            b'q' => self.put(cursor, 1),
            b'r' => self.put(cursor, 4),
            0x94 => {
                let (key, top) = (self.memo.len() as u64, self.top()?);
                self.memo.insert(key, top);
                Ok(())
            }
            b'h' => self.get(cursor, 1),
            b'j' => self.get(cursor, 4),
            b'c' => {
                let (module, name) = (self.line(cursor)?, self.line(cursor)?);
                self.push_global(&module, &name, at)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.value(module).clone(), self.value(name).clone()) {
                    (Value::Text(module), Value::Text(name)) => self.push_global(&module, &name, at),
                    _ => Err(self.malformed("it names something by other than texts")),
                }
            }
            b'Q' => self.persistent(at),
            b'R' => self.reduce(at),
            b'b' => self.build(at),
            _ => Err(self.refused(refusal(opcode), at)),
        }
    }

    // --- the stack ---

    /// Values below the newest mark cannot be reached.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id, TorchError> {
        if self.stack.len() <= self.floor() {
            return Err(self.malformed("its stack is empty"));
        }
        self.stack.pop().ok_or_else(|| self.malformed("its stack is empty"))
    }

    fn top(&self) -> Result<Id, TorchError> {
        let top = if self.stack.len() > self.floor() { self.stack.last() } else { None };
        top.copied().ok_or_else(|| self.malformed("its stack is empty"))
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, TorchError> {
        let height = self.marks.pop().ok_or_else(|| self.malformed("a mark is missing"))?;
        if height > self.stack.len() {
            return Err(self.malformed("a mark stands above its stack"));
        }
        Ok(self.stack.split_off(height))
    }

    fn push(&mut self, value: Value) -> Result<(), TorchError> {
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    fn push_items(&mut self, items: Vec<Id>, kind: fn(Vec<Id>) -> Value) -> Result<(), TorchError> {
        self.references += items.len();
        self.push(kind(items))
    }

    fn extend_list(&mut self, items: Vec<Id>, at: u64) -> Result<(), TorchError> {
        self.references += items.len();
        let top = self.top()?;
        match self.values.get_mut(top) {
            Some(Value::List(list)) => {
                list.extend(items);
                Ok(())
            }
            _ => Err(self.refused("appends to something that is no list".to_owned(), at)),
        }
    }

    fn extend_dict(&mut self, items: Vec<Id>, at: u64) -> Result<(), TorchError> {
        self.references += items.len();
        if !items.len().is_multiple_of(2) {
            return Err(self.malformed("a dictionary has a key without a value"));
        }
        let top = self.top()?;
        match self.values.get_mut(top) {
            Some(Value::Dict(entries)) => {
                entries.extend(items.chunks_exact(2).filter_map(|pair| match pair {
                    [key, value] => Some((*key, *value)),
                    _ => None,
                }));
                Ok(())
            }
            _ => Err(self.refused("sets items of something that is no dictionary".to_owned(), at)),
        }
    }

    fn put(&mut self, cursor: &mut Cursor<'_>, width: usize) -> Result<(), TorchError> {
        let key = self.unsigned(cursor, width)?;
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn get(&mut self, cursor: &mut Cursor<'_>, width: usize) -> Result<(), TorchError> {
        let key = self.unsigned(cursor, width)?;
        let id = self.memo.get(&key).copied().ok_or_else(|| self.malformed("it recalls a value that it never stored"))?;
        self.stack.push(id);
        Ok(())
    }

    // --- operands ---

    fn take<'b>(&self, cursor: &mut Cursor<'b>, count: usize) -> Result<&'b [u8], TorchError> {
        let end = cursor.position.checked_add(count);
        let bytes = end.and_then(|end| cursor.bytes.get(cursor.position..end));
        let bytes = bytes.ok_or_else(|| self.malformed("its pickle ends in the middle"))?;
        cursor.position += count;
        Ok(bytes)
    }

    fn byte(&self, cursor: &mut Cursor<'_>) -> Result<u8, TorchError> {
        self.take(cursor, 1)?.first().copied().ok_or_else(|| self.malformed("its pickle ends in the middle"))
    }

    fn array<const N: usize>(&self, cursor: &mut Cursor<'_>) -> Result<[u8; N], TorchError> {
        self.take(cursor, N)?.try_into().map_err(|_| self.malformed("its pickle ends in the middle"))
    }

    fn unsigned(&self, cursor: &mut Cursor<'_>, width: usize) -> Result<u64, TorchError> {
        let bytes = self.take(cursor, width)?;
        Ok(bytes.iter().rev().fold(0, |value, &byte| (value << 8) | u64::from(byte)))
    }

    /// Text up to a line feed.
    fn line(&self, cursor: &mut Cursor<'_>) -> Result<String, TorchError> {
        let rest = cursor.bytes.get(cursor.position..).unwrap_or_default();
        let length = rest.iter().take(4096).position(|&byte| byte == b'\n');
        let length = length.ok_or_else(|| self.malformed("a name in its pickle has no end"))?;
        let text = String::from_utf8_lossy(self.take(cursor, length)?).into_owned();
        self.take(cursor, 1)?;
        Ok(text)
    }

    fn push_integer(&mut self, cursor: &mut Cursor<'_>, width: usize) -> Result<(), TorchError> {
        let value = self.unsigned(cursor, width)?;
        self.push(i64::try_from(value).map_or(Value::Other, Value::Integer))
    }

    fn push_long(&mut self, cursor: &mut Cursor<'_>) -> Result<(), TorchError> {
        let length = usize::from(self.byte(cursor)?);
        let bytes = self.take(cursor, length)?;
        if length > 8 {
            return self.push(Value::Other);
        }
        // Two's complement, little endian, of any length.
        let fill = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [fill; 8];
        wide.iter_mut().zip(bytes).for_each(|(wide, byte)| *wide = *byte);
        self.push(Value::Integer(i64::from_le_bytes(wide)))
    }

    fn push_text(&mut self, cursor: &mut Cursor<'_>, width: usize) -> Result<(), TorchError> {
        let length = self.unsigned(cursor, width)?;
        if length > TEXT_LIMIT_BYTES {
            return Err(self.limit("bytes in one text", TEXT_LIMIT_BYTES));
        }
        let bytes = self.take(cursor, usize::try_from(length).unwrap_or(usize::MAX))?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.malformed("a text in its pickle is not UTF-8"))?;
        self.push(Value::Text(text.to_owned()))
    }

    fn skip_bytes(&mut self, cursor: &mut Cursor<'_>, width: usize) -> Result<(), TorchError> {
        let length = self.unsigned(cursor, width)?;
        if length > TEXT_LIMIT_BYTES {
            return Err(self.limit("bytes in one byte string", TEXT_LIMIT_BYTES));
        }
        self.take(cursor, usize::try_from(length).unwrap_or(usize::MAX))?;
        self.push(Value::Other)
    }

    // --- names and what they stand for ---

    fn push_global(&mut self, module: &str, name: &str, at: u64) -> Result<(), TorchError> {
        match known(module, name) {
            Some(global) => self.push(Value::Global(global)),
            None => Err(self.refused(format!("names {module}.{name}"), at)),
        }
    }

    /// `('storage', torch.FloatStorage, key, location, count)`; older files add a view, which is always `None`.
    fn persistent(&mut self, at: u64) -> Result<(), TorchError> {
        let id = self.pop()?;
        let odd = |machine: &Self| machine.refused("names an outside object that is no storage".to_owned(), at);
        let Value::Tuple(items) = self.value(id) else { return Err(odd(self)) };
        let parts: Vec<&Value> = items.iter().take(7).map(|&item| self.value(item)).collect();
        let storage = match parts.as_slice() {
            [
                Value::Text(kind),
                Value::Global(Global::Storage(element)),
                Value::Text(key),
                Value::Text(_),
                Value::Integer(count),
            ]
            | [
                Value::Text(kind),
                Value::Global(Global::Storage(element)),
                Value::Text(key),
                Value::Text(_),
                Value::Integer(count),
                Value::None,
            ] if kind == "storage" => u64::try_from(*count).ok().map(|count| (key.clone(), *element, count)),
            _ => None,
        };
        let Some((key, element, count)) = storage else { return Err(odd(self)) };
        self.push(Value::Storage(Storage { key, element, count }))
    }

    fn reduce(&mut self, at: u64) -> Result<(), TorchError> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let (Value::Global(global), Value::Tuple(arguments)) = (self.value(function), self.value(arguments)) else {
            return Err(self.refused("calls something that is no known name".to_owned(), at));
        };
        let (global, arguments) = (*global, arguments.clone());
        match (global, arguments.as_slice()) {
            (Global::OrderedDict, []) => self.push(Value::Dict(Vec::new())),
            (Global::OrderedDict, [pairs]) => {
                let Value::List(pairs) = self.value(*pairs) else {
                    return Err(self.refused("makes an OrderedDict of something that is no list".to_owned(), at));
                };
                let mut items = Vec::new();
                for &pair in pairs {
                    match self.value(pair) {
                        Value::Tuple(pair) | Value::List(pair) if pair.len() == 2 => items.extend(pair),
                        _ => return Err(self.refused("makes an OrderedDict of something that is no pair".to_owned(), at)),
                    }
                }
                self.push(Value::Dict(Vec::new()))?;
                self.extend_dict(items, at)
            }
            (Global::RebuildTensor, [storage, offset, shape, strides, rest @ ..]) if rest.len() <= 3 => {
                let tensor = match (self.value(*storage), self.value(*offset), self.sizes(*shape), self.sizes(*strides)) {
                    (Value::Storage(storage), Value::Integer(offset), Some(shape), Some(strides))
                        if shape.len() == strides.len() =>
                    {
                        let storage = storage.clone();
                        u64::try_from(*offset).ok().map(|offset| RawTensor { storage, offset, shape, strides })
                    }
                    _ => None,
                };
                let tensor =
                    tensor.ok_or_else(|| self.malformed("a tensor's storage, offset, sizes or strides are unreadable"))?;
                self.push(Value::Tensor(tensor))
            }
            (Global::RebuildParameter, [tensor, ..]) if matches!(self.value(*tensor), Value::Tensor(_)) => {
                self.stack.push(*tensor);
                Ok(())
            }
            (Global::Size, [sizes]) => {
                self.stack.push(*sizes);
                Ok(())
            }
            _ => Err(self.refused(format!("calls {global:?} with {} unexpected arguments", arguments.len()), at)),
        }
    }

    fn sizes(&self, id: Id) -> Option<Vec<u64>> {
        let (Value::Tuple(items) | Value::List(items)) = self.value(id) else { return None };
        if items.len() > DIMENSION_LIMIT {
            return None;
        }
        let size = |&item: &Id| match self.value(item) {
            Value::Integer(size) => u64::try_from(*size).ok(),
            _ => None,
        };
        items.iter().map(size).collect()
    }

    /// A module's state dictionary carries `_metadata` as an attribute; it is dropped. Nothing else has attributes.
    fn build(&mut self, at: u64) -> Result<(), TorchError> {
        let (state, object) = (self.pop()?, self.top()?);
        match (self.value(object), self.value(state)) {
            (Value::Dict(_), Value::Dict(_)) => Ok(()),
            _ => Err(self.refused("sets the attributes of an object (BUILD)".to_owned(), at)),
        }
    }

    fn malformed(&self, reason: &str) -> TorchError {
        TorchError::Malformed { path: self.path.to_path_buf(), reason: reason.to_owned() }
    }

    fn refused(&self, action: String, position: u64) -> TorchError {
        TorchError::Refused { path: self.path.to_path_buf(), action, position }
    }

    fn limit(&self, what: &'static str, limit: u64) -> TorchError {
        TorchError::Limit { path: self.path.to_path_buf(), what, limit }
    }
}

/// What an instruction outside the list would do.
fn refusal(opcode: u8) -> String {
    let known = match opcode {
        b'i' => "makes an instance of a class by name (INST)",
        b'o' => "makes an instance of a class (OBJ)",
        0x81 => "makes an instance of a class (NEWOBJ)",
        0x92 => "makes an instance of a class (NEWOBJ_EX)",
        0x82..=0x84 => "uses the registry of extensions (EXT)",
        b'P' => "names an outside object by text (PERSID)",
        0x8b => "has an integer of more than 255 bytes (LONG4)",
        0x8e => "has a byte string of 64-bit length (BINBYTES8)",
        0x8f..=0x91 => "makes a set",
        0x96..=0x98 => "uses buffers outside of the file",
        b'I' | b'L' | b'F' | b'S' | b'V' | b'p' | b'g' => "is in the text protocol, which torch.save never wrote (protocol 0)",
        _ => return format!("has the unknown instruction 0x{opcode:02x}"),
    };
    known.to_owned()
}
