//! The numbers of a tensor in 32 bits, in pieces: read from any stored type and layout, and changed by a delta or a LoRA
//! adapter on the way. Nothing is held but the pieces and an adapter's two small matrices.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use memmap2::Mmap;
use rayon::prelude::*;

use super::ExportError;
use super::checkpoint::{Change, FoundTensor, Shard};
use crate::guard::files::map_file;
use crate::package::safetensors::SafetensorsError;

/// Numbers that one thread makes at a time.
const PIECE: usize = 64 << 10;

/// Weight files, mapped when they are first needed.
pub(super) struct ShardMaps<'a> {
    shards: &'a [Shard],
    maps: BTreeMap<usize, Mmap>,
}

impl<'a> ShardMaps<'a> {
    pub fn new(shards: &'a [Shard]) -> Self {
        Self { shards, maps: BTreeMap::new() }
    }

    /// Maps every file that a tensor needs.
    fn map(&mut self, found: &FoundTensor) -> Result<(), ExportError> {
        if let Entry::Vacant(entry) = self.maps.entry(found.shard)
            && let Some(shard) = self.shards.get(found.shard)
        {
            entry.insert(map_file(&shard.path)?);
        }
        match found.change.as_deref() {
            None | Some(Change::Rounded) => Ok(()),
            Some(Change::Sum { base }) => self.map(base),
            Some(Change::Product { up, down, .. }) => self.map(up).and_then(|()| self.map(down)),
        }
    }

    /// The bytes of a tensor in row-major order.
    pub fn bytes(&mut self, found: &FoundTensor) -> Result<&[u8], ExportError> {
        self.map(found)?;
        let entry = &found.entry;
        let range = usize::try_from(entry.offset).ok().zip(usize::try_from(entry.bytes).ok());
        let bytes = range.and_then(|(start, length)| self.whole(found).get(start..start.checked_add(length)?));
        bytes.ok_or_else(|| self.shrunk(found))
    }

    /// Prepares a tensor's numbers.
    pub fn numbers<'b>(&'b mut self, found: &'b FoundTensor) -> Result<Numbers<'b>, ExportError> {
        self.map(found)?;
        let stored = self.stored(found)?;
        let change = match found.change.as_deref() {
            None => Step::None,
            Some(Change::Rounded) => Step::Rounded,
            Some(Change::Sum { base }) => Step::Sum(self.stored(base)?),
            Some(Change::Product { up, down, scaling }) => {
                let columns = found.entry.shape.last().copied().unwrap_or(1).max(1);
                let (up, down) = (self.stored(up)?.all(), self.stored(down)?.all());
                let rank = (down.len() / columns).max(1);
                Step::Product { up, down, rank, columns, scaling: *scaling }
            }
        };
        Ok(Numbers { stored, change, dtype: StoredDtype::of(found.dtype()) })
    }

    fn whole(&self, found: &FoundTensor) -> &[u8] {
        self.maps.get(&found.shard).map(|map| &map[..]).unwrap_or_default()
    }

    fn stored(&self, found: &FoundTensor) -> Result<Stored<'_>, ExportError> {
        let entry = &found.entry;
        let dtype = StoredDtype::of(&entry.dtype);
        let bytes = usize::try_from(entry.offset).ok().and_then(|offset| self.whole(found).get(offset..));
        let bytes = bytes.ok_or_else(|| self.shrunk(found))?;
        let last = match &found.strides {
            None => entry.shape.iter().product::<usize>(),
            Some(_) if entry.shape.contains(&0) => 0,
            Some(strides) => 1 + entry.shape.iter().zip(strides).map(|(&size, &stride)| (size - 1) * stride).sum::<usize>(),
        };
        let bytes = last.checked_mul(dtype.width()).and_then(|length| bytes.get(..length));
        let bytes = bytes.ok_or_else(|| self.shrunk(found))?;
        Ok(Stored { bytes, dtype, shape: entry.shape.clone(), strides: found.strides.clone() })
    }

    /// The error for a file that became shorter since its header was read.
    fn shrunk(&self, found: &FoundTensor) -> ExportError {
        let path = self.shards.get(found.shard).map(|shard| shard.path.clone()).unwrap_or_default();
        let needed_bytes = found.entry.offset.saturating_add(found.entry.bytes);
        let found_bytes = self.whole(found).len() as u64;
        SafetensorsError::Truncated { path, tensor: found.entry.key.clone(), needed_bytes, found_bytes }.into()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StoredDtype {
    F32,
    F16,
    Bf16,
}

impl StoredDtype {
    /// Other types never get here: the checkpoint refuses them.
    fn of(name: &str) -> Self {
        match name {
            "F16" => Self::F16,
            "BF16" => Self::Bf16,
            _ => Self::F32,
        }
    }

    fn width(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    fn read(self, bytes: &[u8]) -> f32 {
        match (self, bytes) {
            (Self::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            (Self::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
            (Self::Bf16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f32(),
            _ => 0.0,
        }
    }

    /// Numbers that stand one after another; half precision by the processor's own instructions where it has them.
    fn read_all(self, bytes: &[u8], values: &mut [f32]) {
        if self == Self::F16 && bytes.len() == 2 * values.len() {
            let halves = bytes.chunks_exact(2).map(|pair| pair.try_into().map(f16::from_le_bytes).unwrap_or_default());
            halves.collect::<Vec<f16>>().convert_to_f32_slice(values);
        } else {
            values.iter_mut().zip(bytes.chunks_exact(self.width())).for_each(|(value, bytes)| *value = self.read(bytes));
        }
    }

    /// Each number becomes the nearest of this type, ties to even, as PyTorch rounds.
    fn round(self, values: &mut [f32]) {
        match self {
            Self::F32 => {}
            Self::F16 => {
                let mut halves = vec![f16::ZERO; values.len()];
                halves.convert_from_f32_slice(values);
                halves.convert_to_f32_slice(values);
            }
            Self::Bf16 => values.iter_mut().for_each(|value| *value = bf16::from_f32(*value).to_f32()),
        }
    }
}

/// A stored tensor's bytes from its first number to its last.
struct Stored<'a> {
    bytes: &'a [u8],
    dtype: StoredDtype,
    shape: Vec<usize>,
    strides: Option<Vec<usize>>,
}

impl Stored<'_> {
    fn count(&self) -> usize {
        self.shape.iter().product()
    }

    fn all(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.count()];
        values.par_chunks_mut(PIECE).enumerate().for_each(|(piece, values)| self.read(piece * PIECE, values));
        values
    }

    /// Numbers from `start` on, counted in row-major order.
    fn read(&self, start: usize, values: &mut [f32]) {
        let width = self.dtype.width();
        let Some(strides) = &self.strides else {
            let bytes = self.bytes.get(start * width..(start + values.len()) * width).unwrap_or_default();
            self.dtype.read_all(bytes, values);
            return;
        };
        for (value, index) in values.iter_mut().zip(start..) {
            let (mut rest, mut place) = (index, 0);
            for (&size, &stride) in self.shape.iter().zip(strides).rev() {
                place += (rest % size.max(1)) * stride;
                rest /= size.max(1);
            }
            *value = self.bytes.get(place * width..(place + 1) * width).map_or(0.0, |bytes| self.dtype.read(bytes));
        }
    }
}

enum Step<'a> {
    None,
    Rounded,
    Sum(Stored<'a>),
    Product { up: Vec<f32>, down: Vec<f32>, rank: usize, columns: usize, scaling: f32 },
}

/// A tensor that is ready to be read.
pub(super) struct Numbers<'a> {
    stored: Stored<'a>,
    change: Step<'a>,
    /// Number type of the result, to which changed numbers are rounded.
    dtype: StoredDtype,
}

impl Numbers<'_> {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.stored.count()
    }

    /// The numbers of a range, counted in row-major order.
    pub fn read(&self, range: Range<usize>, values: &mut Vec<f32>) {
        values.clear();
        values.resize(range.len(), 0.0);
        values.par_chunks_mut(PIECE).enumerate().for_each(|(piece, values)| self.piece(range.start + piece * PIECE, values));
    }

    fn piece(&self, start: usize, values: &mut [f32]) {
        self.stored.read(start, values);
        match &self.change {
            Step::None => {}
            Step::Rounded => self.dtype.round(values),
            Step::Sum(base) => {
                // Rows of the base come first; the delta may have more (its added tokens).
                let shared = base.count().saturating_sub(start).min(values.len());
                let mut bases = vec![0.0; shared];
                base.read(start, &mut bases);
                // `apply_delta.py` loads both in half precision and adds there.
                for (stored, values) in [(self.stored.dtype, &mut *values), (base.dtype, &mut bases)] {
                    if stored != self.dtype {
                        self.dtype.round(values);
                    }
                }
                values.iter_mut().zip(bases).for_each(|(value, base)| *value += base);
                self.dtype.round(values);
            }
            Step::Product { up, down, rank, columns, scaling } => {
                let (mut index, mut rest) = (start, values);
                while !rest.is_empty() {
                    let (row, column) = (index / columns, index % columns);
                    let (now, later) = rest.split_at_mut((columns - column).min(rest.len()));
                    let mut sums = vec![0.0_f32; now.len()];
                    for (factor, line) in up.iter().skip(row * rank).take(*rank).zip(down.chunks_exact(*columns)) {
                        let line = line.get(column..column + now.len()).unwrap_or_default();
                        sums.iter_mut().zip(line).for_each(|(sum, value)| *sum += factor * value);
                    }
                    now.iter_mut().zip(sums).for_each(|(value, sum)| *value += sum * scaling);
                    self.dtype.round(now);
                    index += now.len();
                    rest = later;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_read_in_their_own_order() {
        let bytes: Vec<u8> = (0..6).flat_map(|value| (value as f32).to_le_bytes()).collect();
        let transposed = Stored { bytes: &bytes, dtype: StoredDtype::F32, shape: vec![3, 2], strides: Some(vec![1, 3]) };
        assert_eq!(transposed.all(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let mut part = [0.0; 3];
        transposed.read(2, &mut part);
        assert_eq!(part, [1.0, 4.0, 2.0]);
    }

    #[test]
    fn products_do_not_depend_on_where_pieces_begin() {
        let bytes = [0; 4 * 12];
        let stored = Stored { bytes: &bytes, dtype: StoredDtype::F32, shape: vec![3, 4], strides: None };
        let change = Step::Product {
            up: vec![1.0, 0.0, 0.0, 1.0, 2.0, -1.0],
            down: vec![1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0],
            rank: 2,
            columns: 4,
            scaling: 0.5,
        };
        let numbers = Numbers { stored, change, dtype: StoredDtype::F32 };
        let whole = [0.5, 1.0, 1.5, 2.0, 5.0, 10.0, 15.0, 20.0, -4.0, -8.0, -12.0, -16.0];
        for start in 0..12 {
            let mut values = Vec::new();
            numbers.read(start..12, &mut values);
            assert_eq!(values, whole[start..], "from {start}");
        }
    }
}
