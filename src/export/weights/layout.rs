//! The header of `weights.safetensors`, and the places that follow from it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::WEIGHTS_FILE;
use crate::onnx::ElementType;
use crate::package::{TensorDtype, TensorLocation};

/// Bytes to whose multiples tensors are aligned where any are quantised: a cache line, and the widest vector.
const ALIGNMENT_BYTES: u64 = 64;

/// Number type of a tensor that a package stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum StoredType {
    F32,
    F16,
    Bf16,
    I8,
    U8,
}

impl StoredType {
    /// Name in a safetensors header.
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::I8 => "I8",
            Self::U8 => "U8",
        }
    }

    /// Bytes of one number.
    fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::I8 | Self::U8 => 1,
        }
    }

    /// The type in a graph.
    pub fn element(self) -> ElementType {
        match self {
            Self::F32 => ElementType::Float32,
            Self::F16 => ElementType::Float16,
            Self::Bf16 => ElementType::Bfloat16,
            Self::I8 => ElementType::Int8,
            Self::U8 => ElementType::Uint8,
        }
    }
}

impl From<TensorDtype> for StoredType {
    fn from(dtype: TensorDtype) -> Self {
        match dtype {
            TensorDtype::F32 => Self::F32,
            TensorDtype::F16 => Self::F16,
            TensorDtype::Bf16 => Self::Bf16,
            TensorDtype::I8 => Self::I8,
        }
    }
}

/// Where a tensor stands.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Place {
    pub file: String,
    pub offset: u64,
    pub bytes: u64,
    pub stored: StoredType,
    pub shape: Vec<usize>,
}

impl Place {
    /// The place as manifests write it; they have no name for `U8`.
    pub fn location(&self) -> Option<TensorLocation> {
        let dtype = match self.stored {
            StoredType::F32 => TensorDtype::F32,
            StoredType::F16 => TensorDtype::F16,
            StoredType::Bf16 => TensorDtype::Bf16,
            StoredType::I8 => TensorDtype::I8,
            StoredType::U8 => return None,
        };
        Some(TensorLocation { file: self.file.clone(), offset: self.offset, bytes: self.bytes, dtype, shape: self.shape.clone() })
    }
}

/// A tensor that will be written.
pub(super) struct Slot {
    pub name: String,
    pub stored: StoredType,
    pub shape: Vec<usize>,
}

impl Slot {
    fn bytes(&self) -> u64 {
        self.shape.iter().map(|&size| size as u64).product::<u64>() * self.stored.bytes()
    }
}

/// The file, tensor by tensor.
#[derive(Default)]
pub(super) struct Layout {
    /// Every tensor that has a place, in this file or another.
    pub places: BTreeMap<String, Place>,
    /// The header with the length before it.
    pub header: Vec<u8>,
    /// Zeros before each tensor, in the order in which they are written.
    pub padding: Vec<u64>,
    /// Length of the file.
    pub total_bytes: u64,
}

impl Layout {
    /// Writes the header and derives the places from it. The format allows no gaps, so zeros that align a tensor are tensors, too,
    /// named `padding.0` and so on; sizes of real models need none.
    pub fn fill(&mut self, slots: Vec<Slot>, align: bool) {
        let (mut header, mut begins, mut end, mut gaps) = (Map::new(), Vec::new(), 0_u64, 0);
        let mut enter = |name: String, stored: StoredType, shape: &[usize], begin: u64, end: u64| {
            header.insert(name, json!({"dtype": stored.name(), "shape": shape, "data_offsets": [begin, end]}));
        };
        for slot in &slots {
            let gap = if align { end.next_multiple_of(ALIGNMENT_BYTES) - end } else { 0 };
            if gap > 0 {
                enter(format!("padding.{gaps}"), StoredType::U8, &[usize::try_from(gap).unwrap_or(0)], end, end + gap);
                gaps += 1;
            }
            self.padding.push(gap);
            let begin = end + gap;
            end = begin + slot.bytes();
            enter(slot.name.clone(), slot.stored, &slot.shape, begin, end);
            begins.push(begin);
        }
        let mut text = Value::Object(header).to_string().into_bytes();
        // Spaces are the format's own padding; 64 bytes is a cache line.
        while !(8 + text.len()).is_multiple_of(64) {
            text.push(b' ');
        }
        self.header = (text.len() as u64).to_le_bytes().into_iter().chain(text).collect();
        let data_start = self.header.len() as u64;
        self.total_bytes = data_start + end;
        for (slot, begin) in slots.into_iter().zip(begins) {
            let (file, bytes) = (WEIGHTS_FILE.to_owned(), slot.bytes());
            let place = Place { file, offset: data_start + begin, bytes, stored: slot.stored, shape: slot.shape };
            self.places.insert(slot.name, place);
        }
    }
}
