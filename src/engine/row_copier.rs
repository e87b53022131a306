//! Copying rows of key-value caches where they are, by small graphs on the same GPU.

use std::ops::Range;

use ort::session::{IoBinding, Session};
use ort::value::{DynTensor, Tensor};

use super::device::Place;
use super::options::EngineOptions;
use super::runtime::Loaded;
use super::session::{runtime_error, small_session};
use super::types::EngineError;
use crate::package::{CacheGraphs, LanguageModelStage};

const DOING: &str = "copying rows of the key-value cache";

fn failed<R>(error: ort::Error<R>) -> EngineError {
    runtime_error(DOING)(error)
}

/// Ranges of rows of a slot that go, one after another, to the start of a slot of another buffer.
pub(super) struct Move<'a> {
    pub from_slot: usize,
    pub to_slot: usize,
    pub ranges: &'a [Range<usize>],
}

/// What copies.
pub(super) struct RowCopier {
    key_value_heads: usize,
    copy: Session,
    copying: IoBinding,
    zeros: Session,
    zeroing: IoBinding,
    /// A row of zeros, `[1, key_value_heads, 1, head_size]`.
    blank: DynTensor,
}

impl RowCopier {
    /// For the caches of a language model, under the options of its graph.
    pub fn new(runtime: &Loaded, stage: &LanguageModelStage, options: &EngineOptions) -> Result<Self, EngineError> {
        let graphs = CacheGraphs::new(stage)
            .map_err(|error| EngineError::Runtime { doing: DOING.to_owned(), message: error.to_string() })?;
        let session = |bytes: &[u8]| small_session(runtime, options, "the graph that copies rows of the key-value cache", bytes);
        let (copy, zeros) = (session(&graphs.copy)?, session(&graphs.zeros)?);
        let copying = copy.create_binding().map_err(failed)?;
        let zeroing = zeros.create_binding().map_err(failed)?;
        let shape = [1, stage.key_value_heads, 1, stage.head_size];
        let blank = Place::of(&options.provider).tensor(&copy, stage.cache_dtype(), &shape).map_err(failed)?;
        let mut copier = Self { key_value_heads: stage.key_value_heads, copy, copying, zeros, zeroing, blank };
        clear(&mut copier.zeros, &mut copier.zeroing, &mut copier.blank, shape)?;
        Ok(copier)
    }

    /// Fills a buffer of this shape with zeros.
    pub fn clear(&mut self, buffer: &mut DynTensor, shape: [usize; 4]) -> Result<(), EngineError> {
        clear(&mut self.zeros, &mut self.zeroing, buffer, shape)
    }

    /// Fills rows of a slot of each buffer with zeros. They must lie inside it.
    pub fn blank<'b>(
        &mut self,
        slot: usize,
        rows: Range<usize>,
        buffers: impl Iterator<Item = &'b mut DynTensor>,
    ) -> Result<(), EngineError> {
        if rows.is_empty() {
            return Ok(());
        }
        let (mut from, mut to) = (Vec::new(), Vec::new());
        for head in 0..self.key_value_heads {
            for row in rows.clone() {
                from.extend(place(0, head, 0));
                to.extend(place(slot, head, row));
            }
        }
        self.bind_places(from, to, rows.len())?;
        self.copying.bind_input("source", &self.blank).map_err(failed)?;
        for target in buffers {
            self.copying.bind_input("target", &*target).map_err(failed)?;
            self.copying.bind_output("copied", target).map_err(failed)?;
            drop(self.copy.run_binding(&self.copying).map_err(failed)?);
        }
        self.copying.clear();
        Ok(())
    }

    /// Makes all these moves in each pair of buffers. Slots and rows must lie inside them.
    pub fn copy<'b>(
        &mut self,
        moves: &[Move<'_>],
        buffers: impl Iterator<Item = (&'b DynTensor, &'b mut DynTensor)>,
    ) -> Result<(), EngineError> {
        let rows: usize = moves.iter().flat_map(|one| one.ranges).map(Range::len).sum();
        if rows == 0 {
            return Ok(());
        }
        let (from, to) = self.places(moves);
        self.bind_places(from, to, rows)?;
        for (source, target) in buffers {
            self.copying.bind_input("source", source).map_err(failed)?;
            self.copying.bind_input("target", &*target).map_err(failed)?;
            self.copying.bind_output("copied", target).map_err(failed)?;
            drop(self.copy.run_binding(&self.copying).map_err(failed)?);
        }
        self.copying.clear();
        Ok(())
    }

    fn bind_places(&mut self, from: Vec<i64>, to: Vec<i64>, rows: usize) -> Result<(), EngineError> {
        for (name, places) in [("from", from), ("to", to)] {
            let places = Tensor::from_array(([self.key_value_heads, rows, 3], places)).map_err(failed)?;
            self.copying.bind_input(name, &places).map_err(failed)?;
        }
        self.copying.synchronize_inputs().map_err(failed)
    }

    /// Slot, head and row of each row, where it is and where it goes, head by head.
    fn places(&self, moves: &[Move<'_>]) -> (Vec<i64>, Vec<i64>) {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        for head in 0..self.key_value_heads {
            for one in moves {
                for (index, row) in one.ranges.iter().flat_map(Clone::clone).enumerate() {
                    from.extend(place(one.from_slot, head, row));
                    to.extend(place(one.to_slot, head, index));
                }
            }
        }
        (from, to)
    }
}

/// A place as graphs take it. Sizes of buffers in memory fit.
fn place(slot: usize, head: usize, row: usize) -> [i64; 3] {
    [slot as i64, head as i64, row as i64]
}

fn clear(session: &mut Session, binding: &mut IoBinding, buffer: &mut DynTensor, shape: [usize; 4]) -> Result<(), EngineError> {
    let shape = Tensor::from_array(([4_usize], shape.map(|size| size as i64).to_vec())).map_err(failed)?;
    binding.bind_input("shape", &shape).map_err(failed)?;
    binding.bind_output("zeros", buffer).map_err(failed)?;
    binding.synchronize_inputs().map_err(failed)?;
    drop(session.run_binding(binding).map_err(failed)?);
    // A binding holds what is bound to it.
    binding.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use half::f16;
    use ort::value::PrimitiveTensorElementType;

    use super::super::runtime;
    use super::*;
    use crate::package::{Compute, Package, TensorDtype};

    const HEADS: usize = 3;
    const WIDTH: usize = 2;

    fn stage(compute: Option<Compute>) -> LanguageModelStage {
        let package = Package::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engine/tiny")).unwrap();
        LanguageModelStage { key_value_heads: HEADS, head_size: WIDTH, compute, ..package.manifest.llm }
    }

    /// Copies between buffers of numbers that say where each stands, and compares every place with what should be there.
    fn check<T>(dtype: TensorDtype, compute: Option<Compute>, of: fn(usize) -> T)
    where
        T: PrimitiveTensorElementType + Copy + PartialEq + std::fmt::Debug + Default,
    {
        let loaded = runtime::load(&Default::default(), &mut |_| {}).unwrap();
        let mut copier = RowCopier::new(loaded, &stage(compute), &EngineOptions::default()).unwrap();
        let buffer = |slots: usize, rows: usize| Place::HOST.tensor(&copier.copy, dtype, &[slots, HEADS, rows, WIDTH]).unwrap();
        let (mut source, mut target) = (buffer(2, 7), buffer(3, 5));
        source.try_extract_tensor_mut::<T>().unwrap().1.iter_mut().enumerate().for_each(|(place, value)| *value = of(place + 1));
        target.try_extract_tensor_mut::<T>().unwrap().1.fill(of(1_000));
        copier.clear(&mut target, [3, HEADS, 5, WIDTH]).unwrap();
        assert!(target.try_extract_tensor::<T>().unwrap().1.iter().all(|value| *value == T::default()));
        let address = target.data_ptr() as usize;
        let moves = [
            Move { from_slot: 1, to_slot: 0, ranges: &[0..2, 2..2, 5..7] },
            Move { from_slot: 0, to_slot: 2, ranges: std::slice::from_ref(&(3..4)) },
        ];
        copier.copy(&moves, [(&source, &mut target)].into_iter()).unwrap();
        assert_eq!(target.data_ptr() as usize, address, "in place");
        let (numbers, found) =
            (source.try_extract_tensor::<T>().unwrap().1.to_vec(), target.try_extract_tensor::<T>().unwrap().1.to_vec());
        for (place, found) in found.into_iter().enumerate() {
            let (slot, head, row, column) =
                (place / (HEADS * 5 * WIDTH), place / (5 * WIDTH) % HEADS, place / WIDTH % 5, place % WIDTH);
            let from = match (slot, row) {
                (0, 0..=3) => Some((1, [0, 1, 5, 6][row])),
                (2, 0) => Some((0, 3)),
                _ => None,
            };
            let expected = from.map(|(slot, row)| numbers[((slot * HEADS + head) * 7 + row) * WIDTH + column]);
            assert_eq!(found, expected.unwrap_or_default(), "slot {slot}, head {head}, row {row}");
        }
        copier.blank(0, 1..4, std::iter::once(&mut target)).unwrap();
        let after = target.try_extract_tensor::<T>().unwrap().1;
        for (place, after) in after.iter().enumerate() {
            let (slot, head, row, column) =
                (place / (HEADS * 5 * WIDTH), place / (5 * WIDTH) % HEADS, place / WIDTH % 5, place % WIDTH);
            let kept = if slot == 0 && row > 0 { None } else { Some(()) };
            let from = match (slot, row) {
                (0, 0) => Some((1, 0)),
                (2, 0) => Some((0, 3)),
                _ => None,
            };
            let expected = kept.and(from).map(|(slot, row)| numbers[((slot * HEADS + head) * 7 + row) * WIDTH + column]);
            assert_eq!(*after, expected.unwrap_or_default(), "slot {slot}, head {head}, row {row} after blanking");
        }
    }

    #[test]
    fn rows_are_copied_to_their_places_and_nowhere_else() {
        check::<f32>(TensorDtype::F32, None, |place| place as f32);
        check::<f16>(TensorDtype::F16, Some(Compute::Fp16), |place| f16::from_f32(place as f32));
    }
}
