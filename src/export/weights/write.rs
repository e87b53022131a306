//! Writing `weights.safetensors`, one weight after another: no more than one weight's codes and a slab of its numbers are in memory.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use half::{bf16, f16};
use rayon::prelude::*;

use super::super::ExportError;
use super::super::checkpoint::FoundTensor;
use super::super::numbers::{Numbers, ShardMaps};
use super::super::quantise::{
    Feedback, GramMatrix, InputStatistics, Int4Method, Scheme, divide_norm, multiply_inputs, quantise_matrix, symmetric,
};
use super::{Content, WeightPlan, Written};
use crate::package::TensorDtype;

/// Numbers that are converted at a time; 16 MiB as 32-bit numbers.
const BATCH: usize = 4 << 20;
/// Numbers of a matrix that are quantised at a time; 256 MiB as 32-bit numbers. Every layer of a 7B model but its head is less.
const SLAB: usize = 64 << 20;
/// Numbers that one thread converts at a time.
const PIECE: usize = 64 << 10;
/// Bytes of a transposed matrix that are put together at a time.
const TRANSPOSED_BYTES: usize = 16 << 20;
/// Lines that one thread fills together, so that what it reads and what it writes stay in its cache.
const LINES: usize = 64;

/// The output, with the count of what went into it. The outer error of its users is the checkpoint's, the inner one the output's.
struct Output<'a> {
    out: &'a mut dyn Write,
    done: u64,
    progress: &'a dyn Fn(u64),
}

/// The error feedback that was used last: layers with the same inputs stand one after another.
#[derive(Default)]
struct LastFeedback(Option<(GramMatrix, Arc<Feedback>)>);

/// What stops a write: the checkpoint, or the output.
enum Stopped {
    Checkpoint(ExportError),
    Output(std::io::Error),
}

impl From<ExportError> for Stopped {
    fn from(error: ExportError) -> Self {
        Self::Checkpoint(error)
    }
}

impl From<std::io::Error> for Stopped {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

impl Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        // In pieces, so that progress shows.
        for piece in bytes.chunks(4 * BATCH) {
            self.out.write_all(piece)?;
            self.done += piece.len() as u64;
            (self.progress)(self.done);
        }
        Ok(())
    }

    fn write_floats(&mut self, values: &[f32]) -> Result<(), Stopped> {
        let mut bytes = Vec::new();
        values.chunks(BATCH).try_for_each(|values| {
            encode(values, TensorDtype::F32, &mut bytes);
            self.write(&bytes)
        })
    }
}

impl WeightPlan {
    /// Writes `weights.safetensors`; `progress` is told the bytes written so far. The outer error is the checkpoint's, the inner one
    /// the output's.
    pub fn write(&self, out: &mut dyn Write, progress: &dyn Fn(u64)) -> Result<std::io::Result<()>, ExportError> {
        match self.write_all(Output { out, done: 0, progress }) {
            Ok(()) => Ok(Ok(())),
            Err(Stopped::Output(error)) => Ok(Err(error)),
            Err(Stopped::Checkpoint(error)) => Err(error),
        }
    }

    fn write_all(&self, mut out: Output<'_>) -> Result<(), Stopped> {
        out.write(&self.layout.header)?;
        let mut padding = self.layout.padding.iter().map(|&bytes| vec![0; usize::try_from(bytes).unwrap_or(0)]);
        let mut gap = || padding.next().unwrap_or_default();
        let mut last = LastFeedback::default();
        for written in &self.written {
            // A file stays mapped for no longer than one weight, so that the pages of a checkpoint do not count as memory in use.
            let mut maps = ShardMaps::new(&self.shards);
            out.write(&gap())?;
            match &written.content {
                Content::Computed(values) => out.write_floats(values)?,
                Content::Floats(found, dtype) => match self.factors.get(&written.name) {
                    Some(factors) => {
                        let (numbers, mut values) = (maps.numbers(found)?, Vec::new());
                        numbers.read(0..numbers.count(), &mut values);
                        divide_norm(&mut values, factors);
                        out.write_floats(&values)?;
                    }
                    None => self.write_rounded(&mut out, &mut maps, found, *dtype)?,
                },
                Content::Table(found) => {
                    let scales = self.write_table(&mut out, &mut maps, written, found)?;
                    out.write(&gap())?;
                    out.write_floats(&scales)?;
                }
                Content::Quantised(found, scheme) => {
                    let scales = self.write_codes(&mut out, &mut maps, written, found, *scheme, &mut last)?;
                    out.write(&gap())?;
                    out.write_floats(&scales)?;
                }
            }
        }
        Ok(())
    }

    /// Numbers in a floating-point type.
    fn write_rounded(
        &self,
        out: &mut Output<'_>,
        maps: &mut ShardMaps<'_>,
        found: &FoundTensor,
        dtype: TensorDtype,
    ) -> Result<(), Stopped> {
        if found.is_plain() && super::float_dtype(&found.entry.dtype) == dtype {
            return out.write(maps.bytes(found)?);
        }
        let exact = dtype == TensorDtype::F32 || super::float_dtype(found.dtype()) == dtype;
        let numbers = maps.numbers(found)?;
        let (mut values, mut bytes) = (Vec::new(), Vec::new());
        for start in (0..numbers.count()).step_by(BATCH) {
            numbers.read(start..(start + BATCH).min(numbers.count()), &mut values);
            // What is only widened, or keeps its type, is what the checkpoint has, good or bad.
            if !exact && let Some(place) = values.iter().position(|value| !fits(*value, dtype)) {
                return Err(self.unfit(found, start + place, &values, place, dtype_name(dtype)).into());
            }
            encode(&values, dtype, &mut bytes);
            out.write(&bytes)?;
        }
        Ok(())
    }

    /// A table's rows in 8 bits; gives their scales.
    fn write_table(
        &self,
        out: &mut Output<'_>,
        maps: &mut ShardMaps<'_>,
        written: &Written,
        found: &FoundTensor,
    ) -> Result<Vec<f32>, Stopped> {
        let (rows, width) = written.rows();
        let mut scales = Vec::with_capacity(rows);
        self.slabs(maps, found, width, BATCH, |values| {
            let mut codes = vec![0; values.len()];
            let mut found = vec![0.0; values.len() / width.max(1)];
            let targets = codes.par_chunks_exact_mut(width.max(1)).zip(&mut found);
            targets.zip(values.par_chunks_exact(width.max(1))).for_each(|((codes, scale), row)| *scale = symmetric(row, codes));
            scales.extend(found);
            out.write(&codes)
        })?;
        Ok(scales)
    }

    /// A weight's codes; gives its scales.
    fn write_codes(
        &self,
        out: &mut Output<'_>,
        maps: &mut ShardMaps<'_>,
        written: &Written,
        found: &FoundTensor,
        scheme: Scheme,
        last: &mut LastFeedback,
    ) -> Result<Vec<f32>, Stopped> {
        let (outputs, inputs) = written.rows();
        let statistics = self.statistics(&written.name, inputs)?;
        let factors = self.factors.get(&written.name);
        let feedback = self.feedback(written, scheme, inputs, statistics.as_deref(), last)?;
        let (mut scales, mut all, mut smoothed) = (Vec::new(), Vec::new(), Vec::new());
        self.slabs(maps, found, inputs, SLAB, |values| {
            let values = match factors {
                Some(factors) => {
                    smoothed.clear();
                    smoothed.extend_from_slice(values);
                    multiply_inputs(&mut smoothed, factors);
                    &smoothed
                }
                None => values,
            };
            let matrix = quantise_matrix(scheme, values, inputs, statistics.as_deref(), feedback.as_deref());
            scales.extend(matrix.scales);
            if scheme == Scheme::Int8 {
                all.extend(matrix.codes);
                Ok(())
            } else {
                out.write(&matrix.codes)
            }
        })?;
        // What the operator wants has an input's codes together, so that none can be written before the last row is known.
        let step = (TRANSPOSED_BYTES / outputs.max(1)).next_multiple_of(LINES);
        let mut turned = Vec::new();
        for start in (0..inputs).step_by(step).filter(|_| !all.is_empty()) {
            transpose(&all, [outputs, inputs], start..(start + step).min(inputs), &mut turned);
            out.write(&turned)?;
        }
        Ok(scales)
    }

    /// The error feedback of a weight in 4 bits, where its inputs are known; the last one again if the inputs are the same.
    fn feedback(
        &self,
        written: &Written,
        scheme: Scheme,
        inputs: usize,
        statistics: Option<&InputStatistics>,
        last: &mut LastFeedback,
    ) -> Result<Option<Arc<Feedback>>, Stopped> {
        let wanted = matches!(scheme, Scheme::Blocks(format) if format.bits == 4)
            && self.calibration.as_ref().is_some_and(|calibration| calibration.method == Int4Method::ErrorFeedback);
        let Some(gram) = statistics.and_then(|statistics| statistics.gram.as_ref()).filter(|_| wanted) else { return Ok(None) };
        if let Some((known, feedback)) = &last.0
            && known == gram
        {
            return Ok(Some(Arc::clone(feedback)));
        }
        // Two of them do not fit into memory beside each other.
        last.0 = None;
        let values = gram.read(inputs)?;
        let feedback = Feedback::new(&values, inputs).ok_or_else(|| ExportError::Option {
            option: "the calibration".to_owned(),
            found: format!("gave no usable matrix of the inputs of {}", written.name),
            expected: "finite numbers".to_owned(),
        })?;
        let feedback = Arc::new(feedback);
        last.0 = Some((gram.clone(), Arc::clone(&feedback)));
        Ok(Some(feedback))
    }

    /// The finite numbers of a matrix, some rows at a time.
    fn slabs(
        &self,
        maps: &mut ShardMaps<'_>,
        found: &FoundTensor,
        width: usize,
        size: usize,
        mut each: impl FnMut(&[f32]) -> Result<(), Stopped>,
    ) -> Result<(), Stopped> {
        let numbers: Numbers<'_> = maps.numbers(found)?;
        let step = (size / width.max(1)).max(1) * width.max(1);
        let mut values = Vec::new();
        for start in (0..numbers.count()).step_by(step) {
            numbers.read(start..(start + step).min(numbers.count()), &mut values);
            let place = values.par_chunks(PIECE).position_first(|piece| piece.iter().any(|value| !value.is_finite()));
            if let Some(piece) = place {
                let inside = values.iter().skip(piece * PIECE).position(|value| !value.is_finite()).unwrap_or(0);
                let place = piece * PIECE + inside;
                return Err(self.unfit(found, start + place, &values, place, "codes of fewer bits").into());
            }
            each(&values)?;
        }
        Ok(())
    }

    /// The error for a number that has no counterpart in the wanted type.
    fn unfit(&self, found: &FoundTensor, index: usize, values: &[f32], place: usize, wanted: &'static str) -> ExportError {
        let path = self.shards.get(found.shard).map(|shard| shard.path.clone()).unwrap_or_default();
        let value = values.get(place).copied().unwrap_or(f32::NAN);
        ExportError::Number { path, tensor: found.entry.key.clone(), index, value, wanted }
    }
}

/// Some columns of `[rows, columns]` as lines of `rows` bytes.
fn transpose(codes: &[u8], [rows, columns]: [usize; 2], wanted: Range<usize>, turned: &mut Vec<u8>) {
    turned.clear();
    turned.resize(wanted.len() * rows, 0);
    turned.par_chunks_mut(LINES * rows.max(1)).enumerate().for_each(|(index, lines)| {
        let first = wanted.start + index * LINES;
        let count = lines.len() / rows.max(1);
        for (row, codes) in codes.chunks_exact(columns.max(1)).enumerate() {
            let part = codes.get(first..first + count).unwrap_or_default();
            for (line, code) in lines.chunks_exact_mut(rows).zip(part) {
                if let Some(target) = line.get_mut(row) {
                    *target = *code;
                }
            }
        }
    });
}

/// Whether a number is one in the type that it is rounded to.
fn fits(value: f32, dtype: TensorDtype) -> bool {
    match dtype {
        TensorDtype::F16 => f16::from_f32(value).is_finite(),
        TensorDtype::Bf16 => bf16::from_f32(value).is_finite(),
        _ => value.is_finite(),
    }
}

fn dtype_name(dtype: TensorDtype) -> &'static str {
    match dtype {
        TensorDtype::F32 => "fp32",
        TensorDtype::F16 => "fp16",
        TensorDtype::Bf16 => "bf16",
        TensorDtype::I8 => "int8",
    }
}

/// Numbers as little-endian bytes of a floating-point type, rounded to nearest, ties to even.
fn encode(values: &[f32], dtype: TensorDtype, out: &mut Vec<u8>) {
    let width = if dtype == TensorDtype::F32 { 4 } else { 2 };
    out.clear();
    out.resize(values.len() * width, 0);
    out.par_chunks_mut(width * PIECE).zip(values.par_chunks(PIECE)).for_each(|(out, values)| {
        for (out, &value) in out.chunks_exact_mut(width).zip(values) {
            match dtype {
                TensorDtype::F16 => out.copy_from_slice(&f16::from_f32(value).to_le_bytes()),
                TensorDtype::Bf16 => out.copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
                _ => out.copy_from_slice(&value.to_le_bytes()),
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_lines() {
        for (rows, columns) in [(1, 1), (3, 200), (70, 130)] {
            let codes: Vec<u8> = (0..rows * columns).map(|place| (place % 251) as u8).collect();
            let mut turned = Vec::new();
            let mut whole = Vec::new();
            for start in (0..columns).step_by(64) {
                transpose(&codes, [rows, columns], start..(start + 64).min(columns), &mut turned);
                whole.extend_from_slice(&turned);
            }
            let expected: Vec<u8> = (0..rows * columns).map(|place| codes[place % rows * columns + place / rows]).collect();
            assert_eq!(whole, expected, "{rows} × {columns}");
        }
    }
}
