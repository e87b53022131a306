//! The batch of slots: one sequence a slot, each with its own rows of the cache, of which a run decodes one token each.
//!
//! The kernel of attention takes a batch on top of a past only with one token a sequence, so that prompts are prefilled one
//! sequence at a time in the language model's own cache and their rows copied here: some megabytes, next to the weights that
//! each run reads. A slot's cache rows are the positions of its sequence.
//!
//! What slots share is the weights alone. A row of a matrix product is the product of that row, and attention is computed for
//! each sequence apart, so that nothing that stands in one slot, not even a NaN, reaches another. A slot without a sequence is
//! run as a sequence of one row of zeros.

use std::ops::Range;

use half::{bf16, f16};
use ort::memory::Allocator;
use ort::session::IoBinding;
use ort::value::{DynTensor, PrimitiveTensorElementType, Tensor};

use super::decoder::{LanguageModel, Target, bind, has_shape};
use super::plan::{HIDDEN, write_bias};
use super::row_copier::Move;
use super::session::runtime_error;
use super::types::EngineError;
use crate::package::TensorDtype;

/// The attention bias is as long as the longest sequence, rounded up to so many rows: a new allocation only now and then.
const BIAS_STEP_ROWS: usize = 64;

/// A token that is to be decoded in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotToken {
    /// The slot.
    pub slot: usize,
    /// Its rows in the cache so far: the token's position.
    pub length: usize,
}

/// Writes what the language model sees of the token with this number.
type Embed<'e> = dyn FnMut(usize, &mut [f32]) -> Result<(), EngineError> + 'e;

/// Slots and their cache.
pub(super) struct SlotBatch {
    binding: IoBinding,
    slots: usize,
    capacity: usize,
    /// Key and value of each layer in turn, each `[slots, key_value_heads, capacity, head_size]`.
    cache: Vec<DynTensor>,
    /// Rows of each slot that were ever written.
    written: Vec<usize>,
    inputs_embeds: Tensor<f32>,
    position_ids: Tensor<i64>,
    attention_bias: Tensor<f32>,
    seqlens_k: Tensor<i32>,
    total_sequence_length: Tensor<i32>,
    logit_rows: Tensor<i64>,
    logits: Tensor<f32>,
}

impl SlotBatch {
    /// So many slots with room for `capacity` rows each.
    pub fn new(model: &mut LanguageModel, slots: usize, capacity: usize) -> Result<Self, EngineError> {
        Self::assemble(model, slots, capacity, &mut |_, _| Ok(()))
    }

    /// Slots whose buffers `fill` writes as they are made, one after another.
    fn assemble(
        model: &mut LanguageModel,
        slots: usize,
        capacity: usize,
        fill: &mut dyn FnMut(&mut LanguageModel, &mut DynTensor) -> Result<(), EngineError>,
    ) -> Result<Self, EngineError> {
        let stage = model.stage().clone();
        let memory = model.memory();
        let (slots, capacity) = (slots.max(1), capacity.clamp(1, stage.maximum_positions.max(1)));
        let doing = format!("making room for {slots} sequences of {capacity} tokens in the key-value cache");
        let error = || runtime_error::<()>(&doing);
        let allocator = Allocator::default();
        let mut binding = model.binding()?;
        let mut cache = Vec::with_capacity(2 * stage.layers);
        let shape = [slots, stage.key_value_heads, capacity, stage.head_size];
        for layer in 0..stage.layers {
            for part in ["key", "value"] {
                let mut buffer = model.cache_buffer(memory, &shape).map_err(error())?;
                // The processor's memory is given out as zeros.
                if let Some(copier) = model.copier() {
                    copier.clear(&mut buffer, shape)?;
                }
                fill(model, &mut buffer)?;
                binding.bind_input(format!("past_key_values.{layer}.{part}"), &buffer).map_err(error())?;
                binding.bind_output(format!("present.{layer}.{part}"), &mut buffer).map_err(error())?;
                cache.push(buffer);
            }
        }
        let inputs_embeds = Tensor::<f32>::new(&allocator, [slots, stage.hidden_size]).map_err(error())?;
        let position_ids = Tensor::<i64>::new(&allocator, [slots, 1]).map_err(error())?;
        let seqlens_k = Tensor::<i32>::new(&allocator, [slots]).map_err(error())?;
        let total_sequence_length = Tensor::<i32>::new(&allocator, [0_usize; 0]).map_err(error())?;
        if !memory.is_gpu() {
            binding.bind_input("inputs_embeds", &inputs_embeds).map_err(error())?;
            binding.bind_input("position_ids", &position_ids).map_err(error())?;
            binding.bind_input("seqlens_k", &seqlens_k).map_err(error())?;
            binding.bind_input("total_sequence_length", &total_sequence_length).map_err(error())?;
        }
        Ok(Self {
            binding,
            slots,
            capacity,
            cache,
            written: vec![0; slots],
            inputs_embeds,
            position_ids,
            attention_bias: Tensor::new(&allocator, [0_usize]).map_err(error())?,
            seqlens_k,
            total_sequence_length,
            logit_rows: Tensor::new(&allocator, [0_usize]).map_err(error())?,
            logits: Tensor::new(&allocator, [0_usize]).map_err(error())?,
        })
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Copies rows of the language model's own cache to the start of a slot, one range after another, and gives their number.
    pub fn take_rows(&mut self, model: &mut LanguageModel, slot: usize, ranges: &[Range<usize>]) -> Result<usize, EngineError> {
        let from = Layout { slots: 1, capacity: model.capacity() };
        let to = Layout { slots: self.slots, capacity: self.capacity };
        check_rows(model, (from, 0), (to, slot), ranges)?;
        let count = ranges.iter().map(Range::len).sum();
        let written = self.written.get_mut(slot).map_or(0, |written| std::mem::replace(written, count));
        if model.copy_own_rows(&[Move { from_slot: 0, to_slot: slot, ranges }], &mut self.cache)? {
            // What an earlier sequence left behind may not be finite, and what is hidden must be.
            if let Some(copier) = model.copier() {
                copier.blank(slot, count..written, self.cache.iter_mut())?;
            }
            return Ok(count);
        }
        for (source, target) in model.cache().iter().zip(&mut self.cache) {
            copy_rows(model, (source, from, 0), (target, to, slot), ranges)?;
        }
        Ok(count)
    }

    /// A batch of the slots `kept`, in this order, with the first rows of each as told; the others are dropped. Each buffer
    /// goes as soon as it is copied, so that the peak is this batch and one buffer.
    pub fn shrunk(self, model: &mut LanguageModel, kept: &[SlotToken]) -> Result<Self, EngineError> {
        let Self { binding, slots, capacity, cache, .. } = self;
        // It holds the buffers too.
        drop(binding);
        let (from, to) = (Layout { slots, capacity }, Layout { slots: kept.len(), capacity });
        let rows: Vec<Range<usize>> = kept.iter().map(|old| 0..old.length).collect();
        let mut moves = Vec::with_capacity(kept.len());
        for (slot, (old, rows)) in kept.iter().zip(&rows).enumerate() {
            check_rows(model, (from, old.slot), (to, slot), std::slice::from_ref(rows))?;
            moves.push(Move { from_slot: old.slot, to_slot: slot, ranges: std::slice::from_ref(rows) });
        }
        let mut buffers = cache.into_iter();
        let mut batch = Self::assemble(model, kept.len(), capacity, &mut |model, target| {
            let Some(buffer) = buffers.next() else { return Ok(()) };
            if let Some(copier) = model.copier() {
                return copier.copy(&moves, [(&buffer, &mut *target)].into_iter());
            }
            for one in &moves {
                copy_rows(model, (&buffer, from, one.from_slot), (&mut *target, to, one.to_slot), one.ranges)?;
            }
            Ok(())
        })?;
        batch.written = kept.iter().map(|old| old.length).collect();
        Ok(batch)
    }

    /// Runs one token in each slot that is named, `embed` writing what the language model sees of it, and gives their logits
    /// in the same order, one slice of `vocabulary_size` each.
    pub fn step(
        &mut self,
        model: &mut LanguageModel,
        tokens: &[SlotToken],
        embed: &mut Embed<'_>,
    ) -> Result<std::slice::ChunksExact<'_, f32>, EngineError> {
        let error = || runtime_error::<()>("preparing a decode step");
        let (width, window) = (model.stage().hidden_size, model.stage().sliding_window);
        let vocabulary = model.stage().vocabulary_size;
        let longest = tokens.iter().map(|token| token.length + 1).max().unwrap_or(0);
        if longest == 0 || longest > self.capacity || tokens.iter().any(|token| token.slot >= self.slots) {
            let message = format!("{longest} tokens do not fit its {} slots of {}", self.slots, self.capacity);
            return Err(model.wrong(message));
        }
        let total = longest.next_multiple_of(BIAS_STEP_ROWS).min(self.capacity);
        let to = &mut Target { binding: &mut self.binding, place: model.memory() };
        bind(to, "attention_bias", &mut self.attention_bias, &[self.slots, 1, 1, total]).map_err(error())?;
        bind(to, "logit_rows", &mut self.logit_rows, &[tokens.len()]).map_err(error())?;
        let shape = [tokens.len(), vocabulary];
        if !has_shape(&self.logits, &shape) {
            self.logits = Tensor::new(&Allocator::default(), shape).map_err(error())?;
            self.binding.bind_output("logits", &mut self.logits).map_err(error())?;
        }
        let embeddings = self.inputs_embeds.try_extract_tensor_mut::<f32>().map_err(error())?.1;
        let positions = self.position_ids.try_extract_tensor_mut::<i64>().map_err(error())?.1;
        let lengths = self.seqlens_k.try_extract_tensor_mut::<i32>().map_err(error())?.1;
        let bias = self.attention_bias.try_extract_tensor_mut::<f32>().map_err(error())?.1;
        let rows = self.logit_rows.try_extract_tensor_mut::<i64>().map_err(error())?.1;
        embeddings.fill(0.0);
        positions.fill(0);
        lengths.fill(0);
        // A slot without a sequence sees its one row of zeros.
        bias.chunks_exact_mut(total).for_each(|bias| write_bias(bias, std::slice::from_ref(&(0..1))));
        for (index, (token, row)) in tokens.iter().zip(rows).enumerate() {
            if let Some(embedding) = embeddings.chunks_exact_mut(width.max(1)).nth(token.slot) {
                embed(index, embedding)?;
            }
            if let Some(position) = positions.get_mut(token.slot) {
                *position = token.length as i64;
            }
            if let Some(length) = lengths.get_mut(token.slot) {
                // Checked above against a capacity that the graph's positions bound.
                *length = i32::try_from(token.length).unwrap_or(i32::MAX);
            }
            if let Some(bias) = bias.chunks_exact_mut(total).nth(token.slot) {
                // The fused kernel reads no more of its row than a sequence's own length; graphs of standard operators read it all.
                let seen = token.length + 1;
                let first = window.map_or(0, |window| seen.saturating_sub(window));
                write_bias(bias, std::slice::from_ref(&(first..seen)));
                debug_assert!(bias.iter().all(|&value| value == 0.0 || value == HIDDEN));
            }
            if let Some(written) = self.written.get_mut(token.slot) {
                *written = (*written).max(token.length + 1);
            }
            *row = token.slot as i64;
        }
        if let Some(value) = self.total_sequence_length.try_extract_tensor_mut::<i32>().map_err(error())?.1.first_mut() {
            *value = i32::try_from(total).unwrap_or(i32::MAX);
        }
        if model.memory().is_gpu() {
            self.bind_filled().map_err(error())?;
        }
        model.run_with(&self.binding)?;
        let (_, logits) = self.logits.try_extract_tensor::<f32>().map_err(runtime_error("reading logits"))?;
        Ok(logits.chunks_exact(vocabulary.max(1)))
    }

    /// Binds the inputs that were filled, where binding copies them.
    fn bind_filled(&mut self) -> ort::Result<()> {
        self.binding.bind_input("inputs_embeds", &self.inputs_embeds)?;
        self.binding.bind_input("position_ids", &self.position_ids)?;
        self.binding.bind_input("attention_bias", &self.attention_bias)?;
        self.binding.bind_input("seqlens_k", &self.seqlens_k)?;
        self.binding.bind_input("total_sequence_length", &self.total_sequence_length)?;
        self.binding.bind_input("logit_rows", &self.logit_rows)?;
        self.binding.synchronize_inputs()
    }

    /// The cache's buffers, as in [`SlotBatch::cache`].
    #[cfg(test)]
    pub fn cache_mut(&mut self) -> &mut [DynTensor] {
        &mut self.cache
    }
}

/// Slots and rows of a buffer `[slots, key_value_heads, capacity, head_size]`.
#[derive(Clone, Copy)]
struct Layout {
    slots: usize,
    capacity: usize,
}

/// Refuses rows that are not there or do not fit.
fn check_rows(
    model: &LanguageModel,
    (from, from_slot): (Layout, usize),
    (to, to_slot): (Layout, usize),
    ranges: &[Range<usize>],
) -> Result<(), EngineError> {
    let fits = from_slot < from.slots
        && to_slot < to.slots
        && ranges.iter().map(Range::len).sum::<usize>() <= to.capacity
        && ranges.iter().all(|range| range.is_empty() || range.end <= from.capacity);
    if fits { Ok(()) } else { Err(model.wrong("rows beyond the key-value cache were to be copied")) }
}

/// Copies ranges of rows of one slot, one after another, to the start of a slot of another buffer, for each head, and zeros behind
/// them.
fn copy_rows(
    model: &LanguageModel,
    source: (&DynTensor, Layout, usize),
    target: (&mut DynTensor, Layout, usize),
    ranges: &[Range<usize>],
) -> Result<(), EngineError> {
    match model.stage().cache_dtype() {
        TensorDtype::F16 => copy_typed_rows::<f16>(model, source, target, ranges),
        TensorDtype::Bf16 => copy_typed_rows::<bf16>(model, source, target, ranges),
        TensorDtype::F32 | TensorDtype::I8 => copy_typed_rows::<f32>(model, source, target, ranges),
    }
}

fn copy_typed_rows<T: PrimitiveTensorElementType + Copy + Default>(
    model: &LanguageModel,
    (source, from, from_slot): (&DynTensor, Layout, usize),
    (target, to, to_slot): (&mut DynTensor, Layout, usize),
    ranges: &[Range<usize>],
) -> Result<(), EngineError> {
    let source = source.try_extract_tensor::<T>().map_err(runtime_error("reading the key-value cache"))?.1;
    let target = target.try_extract_tensor_mut::<T>().map_err(runtime_error("writing the key-value cache"))?.1;
    let (heads, width) = (model.stage().key_value_heads, model.stage().head_size);
    let outside = || model.wrong("rows beyond the key-value cache were to be copied");
    if from_slot >= from.slots || to_slot >= to.slots || ranges.iter().map(Range::len).sum::<usize>() > to.capacity {
        return Err(outside());
    }
    for head in 0..heads {
        let source_head = (from_slot * heads + head) * from.capacity;
        let mut row = (to_slot * heads + head) * to.capacity;
        for range in ranges.iter().filter(|range| !range.is_empty()) {
            if range.end > from.capacity {
                return Err(outside());
            }
            let from = (source_head + range.start) * width..(source_head + range.end) * width;
            let to = row * width..(row + range.len()) * width;
            match (source.get(from), target.get_mut(to)) {
                (Some(source), Some(target)) => target.copy_from_slice(source),
                _ => return Err(outside()),
            }
            row += range.len();
        }
        // What stood behind, an earlier sequence or nothing that was ever written, may not be finite, and what is hidden must be.
        let behind = row * width..(to_slot * heads + head + 1) * to.capacity * width;
        target.get_mut(behind).ok_or_else(outside)?.fill(T::default());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::embedding::EmbeddingTable;
    use super::super::options::EngineOptions;
    use super::super::plan::Row;
    use super::super::runtime;
    use super::super::session::Graph;
    use super::super::tree::{embed, fill};
    use super::*;
    use crate::package::{LanguageModelStage, Package};

    fn tiny(sliding_window: Option<usize>) -> (LanguageModel, EmbeddingTable) {
        let package = Package::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engine/tiny")).unwrap();
        let loaded = runtime::load(&Default::default(), &mut |_| {}).unwrap();
        let stage = LanguageModelStage { sliding_window, ..package.manifest.llm.clone() };
        let graph = Graph::load(loaded, &package.root, &stage.graph, &EngineOptions::default(), false).unwrap();
        let embedding = EmbeddingTable::open(&package.root, &stage.embedding, &graph.path).unwrap();
        let mut model = LanguageModel::new(graph, &stage).unwrap();
        model.reserve(64).unwrap();
        (model, embedding)
    }

    fn rows(tokens: &[u32]) -> Vec<Row> {
        tokens.iter().map(|&token| Row::Token(token)).collect()
    }

    /// The logits after the last of some tokens, alone.
    fn alone((model, embedding): &mut (LanguageModel, EmbeddingTable), tokens: &[u32]) -> Vec<f32> {
        fill(model, embedding, &[], 0, &rows(tokens)).unwrap();
        model.run().unwrap().next().unwrap().to_vec()
    }

    /// A batch in which each slot that has a sequence holds all but its last tokens, and the slots' lengths.
    fn seated(
        (model, embedding): &mut (LanguageModel, EmbeddingTable),
        prompts: &[Option<&[u32]>],
    ) -> (SlotBatch, Vec<SlotToken>) {
        let mut batch = SlotBatch::new(model, prompts.len(), 40).unwrap();
        let mut tokens = Vec::new();
        for (slot, prompt) in prompts.iter().enumerate().filter_map(|(slot, prompt)| Some((slot, (*prompt)?))) {
            fill(model, embedding, &[], 0, &rows(prompt)).unwrap();
            drop(model.run().unwrap());
            let middle = prompt.len() / 2;
            let length = batch.take_rows(model, slot, &[0..middle, middle..middle, middle..prompt.len()]).unwrap();
            assert_eq!(length, prompt.len());
            tokens.push(SlotToken { slot, length });
        }
        (batch, tokens)
    }

    /// One step in which each sequence is fed a token; the logits of each.
    fn step(
        (model, embedding): &mut (LanguageModel, EmbeddingTable),
        batch: &mut SlotBatch,
        tokens: &[SlotToken],
        fed: &[u32],
    ) -> Vec<Vec<f32>> {
        let mut write = |index: usize, target: &mut [f32]| embed(embedding, &[], Row::Token(fed[index]), target);
        batch.step(model, tokens, &mut write).unwrap().map(<[f32]>::to_vec).collect()
    }

    fn close(found: &[f32], expected: &[f32]) -> bool {
        // The same sums in matrix products of other shapes.
        found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-4)
    }

    #[test]
    fn slots_of_any_length_say_what_each_says_alone() {
        for window in [None, Some(3), Some(12)] {
            let mut model = tiny(window);
            let prompts: [&[u32]; 3] = [&[1, 5, 9, 14, 20, 7, 3], &[4], &[2, 60, 31, 8, 8, 90, 17, 55, 41, 12, 13, 77, 29]];
            let expected: Vec<Vec<f32>> =
                prompts.iter().zip([33, 34, 35]).map(|(prompt, fed)| alone(&mut model, &[prompt, &[fed][..]].concat())).collect();
            // A slot without a sequence stands between them.
            let (mut batch, mut tokens) = seated(&mut model, &[Some(prompts[0]), None, Some(prompts[1]), Some(prompts[2])]);
            let found = step(&mut model, &mut batch, &tokens, &[33, 34, 35]);
            for (found, expected) in found.iter().zip(&expected) {
                assert!(close(found, expected), "{window:?}");
            }
            // The first leaves, the batch shrinks, and the others go on.
            tokens.iter_mut().for_each(|token| token.length += 1);
            let mut batch = batch.shrunk(&mut model.0, &tokens[1..]).unwrap();
            assert_eq!(batch.slots(), 2);
            let tokens: Vec<SlotToken> =
                tokens[1..].iter().enumerate().map(|(slot, token)| SlotToken { slot, ..*token }).collect();
            let found = step(&mut model, &mut batch, &tokens, &[50, 51]);
            for (found, (prompt, fed)) in found.iter().zip([(prompts[1], [34, 50]), (prompts[2], [35, 51])]) {
                assert!(close(found, &alone(&mut model, &[prompt, &fed[..]].concat())), "{window:?}");
            }
        }
    }

    /// Rows that graphs copy, as on a GPU, are those that the host copies: to the last bit of what is said after them.
    #[test]
    fn rows_copied_in_place_say_the_same() {
        let prompts: [&[u32]; 3] = [&[1, 5, 9, 14, 20, 7, 3], &[4], &[2, 60, 31, 8, 8, 90, 17]];
        let said = |in_place: bool| {
            let mut model = tiny(None);
            if in_place {
                let loaded = runtime::load(&Default::default(), &mut |_| {}).unwrap();
                let copier = super::super::row_copier::RowCopier::new(loaded, model.0.stage(), &EngineOptions::default());
                model.0.copy_rows_in_place(copier.unwrap());
            }
            let (mut batch, mut tokens) = seated(&mut model, &[Some(prompts[0]), Some(prompts[1]), Some(prompts[2])]);
            let mut said = step(&mut model, &mut batch, &tokens, &[33, 34, 35]);
            // A shorter sequence takes the place of a longer one, and the batch shrinks around it.
            fill(&mut model.0, &model.1, &[], 0, &rows(&[8, 2])).unwrap();
            drop(model.0.run().unwrap());
            tokens[0].length = batch.take_rows(&mut model.0, 0, std::slice::from_ref(&(0..2))).unwrap();
            said.extend(step(&mut model, &mut batch, &tokens[..1], &[50]));
            tokens[0].length += 1;
            let mut batch = batch.shrunk(&mut model.0, &tokens[..1]).unwrap();
            said.extend(step(&mut model, &mut batch, &tokens[..1], &[51]));
            said.into_iter().flatten().map(f32::to_bits).collect::<Vec<u32>>()
        };
        assert_eq!(said(true), said(false));
    }

    #[test]
    fn nothing_in_a_slot_reaches_another() {
        let mut model = tiny(None);
        let bits = |logits: &[f32]| logits.iter().map(|logit| logit.to_bits()).collect::<Vec<u32>>();
        let mine: &[u32] = &[1, 5, 9, 14];
        let mut found = Vec::new();
        // Equal lengths, an empty slot, and tokens 95 and 96 whose embeddings are not finite.
        for (other, fed) in [(Some(&[3, 4, 5][..]), 6), (Some(&[60, 61, 95][..]), 96), (Some(&[3, 96, 5][..]), 6)] {
            let (mut batch, tokens) = seated(&mut model, &[other, Some(mine)]);
            let logits = step(&mut model, &mut batch, &tokens, &[fed, 33]);
            assert_eq!(logits[0].iter().all(|logit| logit.is_finite()), fed == 6 && other == Some(&[3, 4, 5][..]));
            found.push(bits(&logits[1]));
            // What lies behind the sequences does not matter either.
            let (mut batch, tokens) = seated(&mut model, &[other, Some(mine)]);
            for buffer in batch.cache_mut() {
                let (_, values) = buffer.try_extract_tensor_mut::<f32>().unwrap();
                for (slot, length) in [(0, 3), (1, 4)] {
                    values[(slot * 40 + length) * 16..(slot + 1) * 40 * 16].fill(f32::NAN);
                }
            }
            found.push(bits(&step(&mut model, &mut batch, &tokens, &[fed, 33])[1]));
        }
        let (mut batch, tokens) = seated(&mut model, &[None, Some(mine)]);
        found.push(bits(&step(&mut model, &mut batch, &tokens, &[33])[0]));
        assert!(found.iter().all(|bits| *bits == found[0]));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut model = tiny(None);
        let (mut batch, _) = seated(&mut model, &[Some(&[1, 2, 3]), None]);
        let mut write = |_: usize, _: &mut [f32]| Ok(());
        for tokens in [&[][..], &[SlotToken { slot: 2, length: 3 }], &[SlotToken { slot: 0, length: 40 }]] {
            assert!(batch.step(&mut model.0, tokens, &mut write).is_err(), "{tokens:?}");
        }
        assert!(batch.take_rows(&mut model.0, 2, std::slice::from_ref(&(0..3))).is_err());
        assert!(batch.take_rows(&mut model.0, 0, std::slice::from_ref(&(0..41))).is_err());
        assert!(batch.take_rows(&mut model.0, 0, std::slice::from_ref(&(190..200))).is_err());
    }

    /// Not a check but a measurement, run by name: `cargo test --lib decode_by_slots -- --ignored --nocapture`, with
    /// `LLAVA_GAUGE_MEASURE` naming a package for other than the tiny one. Milliseconds of a decode step after 640 tokens, by
    /// the number of slots, in turns; and of copying a prompt into a slot.
    #[test]
    #[ignore = "a measurement"]
    fn decode_by_slots() {
        let folder = std::env::var_os("LLAVA_GAUGE_MEASURE").map(std::path::PathBuf::from);
        let folder = folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engine/tiny"));
        let package = Package::open(&folder).unwrap();
        let loaded = runtime::load(&Default::default(), &mut |_| {}).unwrap();
        let stage = package.manifest.llm.clone();
        let graph = Graph::load(loaded, &package.root, &stage.graph, &EngineOptions::default(), false).unwrap();
        let mut model = LanguageModel::new(graph, &stage).unwrap();
        let past = 640.min(stage.maximum_positions - 64);
        let kinds = [1, 2, 4, 8, 16];
        model.reserve(past).unwrap();
        let mut batches: Vec<SlotBatch> =
            kinds.iter().map(|&slots| SlotBatch::new(&mut model, slots, past + 64).unwrap()).collect();
        let (mut copy_ms, mut step_ms) = (Vec::new(), vec![Vec::new(); kinds.len()]);
        for batch in &mut batches {
            for slot in 0..batch.slots() {
                let started = std::time::Instant::now();
                batch.take_rows(&mut model, slot, std::slice::from_ref(&(0..past))).unwrap();
                copy_ms.push(started.elapsed().as_secs_f64() * 1e3);
            }
        }
        for round in 0..20 {
            for (batch, times) in batches.iter_mut().zip(&mut step_ms) {
                let tokens: Vec<SlotToken> = (0..batch.slots()).map(|slot| SlotToken { slot, length: past + round }).collect();
                let started = std::time::Instant::now();
                let mut write = |_: usize, target: &mut [f32]| {
                    target.fill(0.1);
                    Ok(())
                };
                drop(batch.step(&mut model, &tokens, &mut write).unwrap());
                times.push(started.elapsed().as_secs_f64() * 1e3);
            }
        }
        let median = |values: &mut Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        eprintln!("copying {past} rows: {:.2} ms", median(&mut copy_ms));
        for (slots, times) in kinds.iter().zip(&mut step_ms) {
            let ms = median(times);
            eprintln!("{slots} slots: {ms:.2} ms a step, {:.2} ms a token", ms / *slots as f64);
        }
    }
}
