//! Python pickles of plain data: lists, tuples, dictionaries, texts and numbers.
//!
//! A pickle is a program for a small stack machine that can name any Python function. The machine here has no way to call
//! anything: it knows the instructions that build plain data, of all protocols, and refuses every other one by what it would do.
//! Values refer to each other by number, so neither depth nor sharing costs memory or stack.

mod machine;
mod texts;

use std::path::{Path, PathBuf};

use self::machine::Machine;
use super::files::{GuardError, read_capped};

/// The largest file that is read.
const FILE_LIMIT_BYTES: u64 = 256 << 20;
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
        Machine::new(path, bytes).run()
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
