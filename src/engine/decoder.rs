//! The language model session with its key-value cache.
//!
//! The cache is one buffer per layer and part, bound as the graph's past and present at once, so that the kernel writes new
//! rows in place and nothing is ever copied; on a GPU the buffers live in its memory, and only the inputs of a run and the logits of
//! the wanted rows cross over. Only owned tensors may be bound: with a borrowed one `ort` 2.0.0-rc.15 locks up
//! (cloning it takes a mutex that its own copy session takes again).
//!
//! Steps are not captured as CUDA graphs. Those replay one shape with the numbers that the host gave once: here each step sees more
//! rows than the one before, fewer questions go on, and the attention kernel is told the number of rows by the host.

use ort::memory::Allocator;
use ort::session::IoBinding;
use ort::value::{DynTensor, PrimitiveTensorElementType, Tensor, TensorElementType};

use super::chooser::{self, Chooser};
use super::device::{Place, element_type};
use super::row_copier::{Move, RowCopier};
use super::sampling::{self, Choice};
use super::session::{Graph, Port, runtime_error};
use super::types::EngineError;
use crate::package::{LanguageModelStage, TensorDtype};

/// The cache grows in steps of this many rows, so that similar groups reuse one allocation.
const CAPACITY_STEP_ROWS: usize = 256;

/// The inputs of the next run, to be filled in.
pub(super) struct Inputs<'a> {
    /// `[rows, hidden_size]`.
    pub embeddings: &'a mut [f32],
    /// `[rows]`.
    pub position_ids: &'a mut [i64],
    /// `[rows, total]`.
    pub attention_bias: &'a mut [f32],
    /// Rows whose logits are wanted.
    pub logit_rows: &'a mut [i64],
}

/// The language model.
pub(super) struct LanguageModel {
    graph: Graph,
    stage: LanguageModelStage,
    binding: IoBinding,
    capacity: usize,
    cache: Vec<DynTensor>,
    inputs_embeds: Tensor<f32>,
    position_ids: Tensor<i64>,
    attention_bias: Tensor<f32>,
    seqlens_k: Tensor<i32>,
    total_sequence_length: Tensor<i32>,
    logit_rows: Tensor<i64>,
    logits: Tensor<f32>,
    /// Rows whose logits the prepared run gives.
    logit_count: usize,
    /// Logits that stay on the GPU; `None` while they are bound to `logits`.
    kept_logits: Option<DynTensor>,
    /// Reads logits where they are; on a GPU alone.
    chooser: Option<Chooser>,
    /// Copies rows of caches where they are; on a GPU alone.
    copier: Option<RowCopier>,
}

impl LanguageModel {
    /// Checks the graph against its stage of the manifest and binds what never changes.
    pub(super) fn new(graph: Graph, stage: &LanguageModelStage) -> Result<Self, EngineError> {
        let (float, int32, int64) = (TensorElementType::Float32, TensorElementType::Int32, TensorElementType::Int64);
        let cache_type = element_type(stage.cache_dtype());
        let cache_shape = [Some(1), Some(stage.key_value_heads), None, Some(stage.head_size)];
        let cache_ports = |prefix: &str| -> Vec<Port> {
            let name = |index: usize| format!("{prefix}.{}.{}", index / 2, ["key", "value"][index % 2]);
            (0..2 * stage.layers).map(|index| Port::new(name(index), cache_type, cache_shape)).collect()
        };
        let mut inputs = vec![
            Port::new("inputs_embeds", float, [None, Some(stage.hidden_size)]),
            Port::new("position_ids", int64, [Some(1), None]),
            Port::new("attention_bias", float, [Some(1), Some(1), None, None]),
            Port::new("seqlens_k", int32, [Some(1)]),
            Port::new("total_sequence_length", int32, []),
            Port::new("logit_rows", int64, [None]),
        ];
        inputs.extend(cache_ports("past_key_values"));
        let mut outputs = vec![Port::new("logits", float, [None, Some(stage.vocabulary_size)])];
        outputs.extend(cache_ports("present"));
        graph.expect(&inputs, &outputs)?;

        let doing = format!("binding {}", graph.name);
        let error = || runtime_error::<()>(&doing);
        let allocator = Allocator::default();
        let mut binding = graph.session.create_binding().map_err(error())?;
        let seqlens_k = Tensor::<i32>::new(&allocator, [1_usize]).map_err(error())?;
        let total_sequence_length = Tensor::<i32>::new(&allocator, [0_usize; 0]).map_err(error())?;
        if !graph.memory.is_gpu() {
            binding.bind_input("seqlens_k", &seqlens_k).map_err(error())?;
            binding.bind_input("total_sequence_length", &total_sequence_length).map_err(error())?;
        }
        let empty_float = || Tensor::<f32>::new(&allocator, [0_usize]).map_err(error());
        let empty_int = || Tensor::<i64>::new(&allocator, [0_usize]).map_err(error());
        Ok(Self {
            capacity: 0,
            cache: Vec::new(),
            inputs_embeds: empty_float()?,
            position_ids: empty_int()?,
            attention_bias: empty_float()?,
            logit_rows: empty_int()?,
            logits: empty_float()?,
            logit_count: 0,
            kept_logits: None,
            chooser: None,
            copier: None,
            stage: stage.clone(),
            graph,
            binding,
            seqlens_k,
            total_sequence_length,
        })
    }

    /// Makes room for `rows` rows. What the cache holds is lost if it has to grow, which is why a group plans its need first.
    pub(super) fn reserve(&mut self, rows: usize) -> Result<(), EngineError> {
        if rows <= self.capacity {
            return Ok(());
        }
        let doing = format!("making room for {rows} tokens in the key-value cache of {}", self.graph.name);
        let capacity = rows.next_multiple_of(CAPACITY_STEP_ROWS).min(self.stage.maximum_positions.max(rows));
        // The old buffers go first, so that the peak is one cache and not two.
        self.capacity = 0;
        self.cache.clear();
        self.binding.clear();
        // Cleared bindings forget the scalars and make the others bind again at their next use.
        let allocator = Allocator::default();
        let error = || runtime_error::<()>(&doing);
        let place = self.graph.memory;
        if !place.is_gpu() {
            self.binding.bind_input("seqlens_k", &self.seqlens_k).map_err(error())?;
            self.binding.bind_input("total_sequence_length", &self.total_sequence_length).map_err(error())?;
        }
        self.inputs_embeds = Tensor::new(&allocator, [0_usize]).map_err(error())?;
        self.position_ids = Tensor::new(&allocator, [0_usize]).map_err(error())?;
        self.attention_bias = Tensor::new(&allocator, [0_usize]).map_err(error())?;
        self.logit_rows = Tensor::new(&allocator, [0_usize]).map_err(error())?;
        self.logits = Tensor::new(&allocator, [0_usize]).map_err(error())?;
        self.kept_logits = None;
        for layer in 0..self.stage.layers {
            for part in ["key", "value"] {
                let shape = [1, self.stage.key_value_heads, capacity, self.stage.head_size];
                let mut buffer = self.cache_buffer(place, &shape).map_err(error())?;
                self.binding.bind_input(format!("past_key_values.{layer}.{part}"), &buffer).map_err(error())?;
                self.binding.bind_output(format!("present.{layer}.{part}"), &mut buffer).map_err(error())?;
                self.cache.push(buffer);
            }
        }
        self.capacity = capacity;
        Ok(())
    }

    /// Prepares a run of `rows` new rows on top of `past` cached ones, with logits of `logit_rows` of them, and gives the
    /// inputs to fill. Their contents are left over from earlier runs: every element must be written.
    pub(super) fn prepare(&mut self, past: usize, rows: usize, logit_rows: usize) -> Result<Inputs<'_>, EngineError> {
        let total = past + rows;
        let doing = format!("preparing {rows} tokens for {}", self.graph.name);
        let error = || runtime_error::<()>(&doing);
        let count =
            i32::try_from(total).ok().filter(|_| total <= self.capacity && rows > 0 && logit_rows > 0).ok_or_else(|| {
                self.graph.wrong(format!("a run of {rows} tokens after {past} does not fit its cache of {}", self.capacity))
            })?;
        let to = &mut Target { binding: &mut self.binding, place: self.graph.memory };
        bind(to, "inputs_embeds", &mut self.inputs_embeds, &[rows, self.stage.hidden_size]).map_err(error())?;
        bind(to, "position_ids", &mut self.position_ids, &[1, rows]).map_err(error())?;
        bind(to, "attention_bias", &mut self.attention_bias, &[1, 1, rows, total]).map_err(error())?;
        bind(to, "logit_rows", &mut self.logit_rows, &[logit_rows]).map_err(error())?;
        self.logit_count = logit_rows;
        if let Some(value) = self.seqlens_k.try_extract_tensor_mut::<i32>().map_err(error())?.1.first_mut() {
            *value = count - 1;
        }
        if let Some(value) = self.total_sequence_length.try_extract_tensor_mut::<i32>().map_err(error())?.1.first_mut() {
            *value = count;
        }
        Ok(Inputs {
            embeddings: self.inputs_embeds.try_extract_tensor_mut().map_err(error())?.1,
            position_ids: self.position_ids.try_extract_tensor_mut().map_err(error())?.1,
            attention_bias: self.attention_bias.try_extract_tensor_mut().map_err(error())?.1,
            logit_rows: self.logit_rows.try_extract_tensor_mut().map_err(error())?.1,
        })
    }

    /// Runs what was prepared and gives the logits, one slice of `vocabulary_size` per wanted row.
    pub(super) fn run(&mut self) -> Result<std::slice::ChunksExact<'_, f32>, EngineError> {
        self.run_prepared(false)?;
        let (_, logits) = self.logits.try_extract_tensor::<f32>().map_err(runtime_error("reading logits"))?;
        Ok(logits.chunks_exact(self.stage.vocabulary_size.max(1)))
    }

    /// Runs what was prepared for the sake of the cache.
    pub(super) fn run_unread(&mut self) -> Result<(), EngineError> {
        self.run_prepared(self.chooser.is_some())
    }

    /// Runs what was prepared and chooses a token for each wanted row; `None` where a logit is not finite.
    pub(super) fn run_and_choose(&mut self) -> Result<Vec<Option<Choice>>, EngineError> {
        if self.chooser.is_none() {
            return Ok(self.run()?.map(sampling::greedy).collect());
        }
        self.run_prepared(true)?;
        match (&mut self.chooser, &self.kept_logits) {
            (Some(chooser), Some(logits)) => chooser.greedy(logits, self.logit_count),
            _ => Ok(Vec::new()),
        }
    }

    /// Runs what was prepared and gives the natural-log probability of each target, a wanted row and a token; `None` where a logit of
    /// its row is not finite. Where there is nothing that reads logits in their place, nothing is run and `None` is given.
    pub(super) fn run_and_read(&mut self, targets: &[chooser::Target]) -> Result<Option<Vec<Option<f32>>>, EngineError> {
        if self.chooser.is_none() {
            return Ok(None);
        }
        self.run_prepared(true)?;
        match (&mut self.chooser, &self.kept_logits) {
            (Some(chooser), Some(logits)) => chooser.log_probabilities(logits, self.logit_count, targets).map(Some),
            _ => Ok(None),
        }
    }

    /// From now on rows of caches on a GPU can be copied, and with them several sequences can decode at once.
    pub(super) fn copy_rows_in_place(&mut self, copier: RowCopier) {
        self.copier = Some(copier);
    }

    /// What copies rows of caches where they are, if something must.
    pub(super) fn copier(&mut self) -> Option<&mut RowCopier> {
        self.copier.as_mut()
    }

    /// Copies rows of the own cache to other buffers, if something does that where they are; otherwise `false`.
    pub(super) fn copy_own_rows(&mut self, moves: &[Move<'_>], targets: &mut [DynTensor]) -> Result<bool, EngineError> {
        let Some(copier) = &mut self.copier else { return Ok(false) };
        copier.copy(moves, self.cache.iter().zip(targets))?;
        Ok(true)
    }

    /// Where the graph's caches are.
    pub(super) fn memory(&self) -> Place {
        self.graph.memory
    }

    /// From now on logits are read where they are.
    pub(super) fn read_logits_in_place(&mut self, chooser: Chooser) {
        self.chooser = Some(chooser);
    }

    /// Runs what was prepared, with logits that stay where the graph runs if `keep`.
    fn run_prepared(&mut self, keep: bool) -> Result<(), EngineError> {
        let error = runtime_error::<()>;
        self.bind_logits(keep).map_err(error("binding logits"))?;
        self.bind_filled().map_err(error("passing the inputs of a run"))?;
        // The values are read from the bound tensors, not from the returned handles.
        drop(self.graph.session.run_binding(&self.binding).map_err(error("running the language model"))?);
        Ok(())
    }

    /// A bound output keeps the shape of its first run, so that another number of rows needs another tensor.
    fn bind_logits(&mut self, keep: bool) -> ort::Result<()> {
        let shape = [self.logit_count, self.stage.vocabulary_size];
        if keep {
            if !self.kept_logits.as_ref().is_some_and(|kept| is_shape(kept.shape(), &shape)) {
                let mut kept = self.graph.memory.tensor(&self.graph.session, TensorDtype::F32, &shape)?;
                self.binding.bind_output("logits", &mut kept)?;
                self.kept_logits = Some(kept);
            }
            return Ok(());
        }
        let elsewhere = self.kept_logits.take().is_some();
        if elsewhere || !has_shape(&self.logits, &shape) {
            self.logits = Tensor::new(&Allocator::default(), shape)?;
            self.binding.bind_output("logits", &mut self.logits)?;
        }
        Ok(())
    }

    /// Binds the inputs that were filled, where binding copies them.
    fn bind_filled(&mut self) -> ort::Result<()> {
        if !self.graph.memory.is_gpu() {
            return Ok(());
        }
        self.binding.bind_input("inputs_embeds", &self.inputs_embeds)?;
        self.binding.bind_input("position_ids", &self.position_ids)?;
        self.binding.bind_input("attention_bias", &self.attention_bias)?;
        self.binding.bind_input("seqlens_k", &self.seqlens_k)?;
        self.binding.bind_input("total_sequence_length", &self.total_sequence_length)?;
        self.binding.bind_input("logit_rows", &self.logit_rows)?;
        self.binding.synchronize_inputs()
    }

    /// Runs what is bound elsewhere: a batch of slots.
    pub(super) fn run_with(&mut self, binding: &IoBinding) -> Result<(), EngineError> {
        drop(self.graph.session.run_binding(binding).map_err(runtime_error("running the language model"))?);
        Ok(())
    }

    /// A binding of the graph without anything bound.
    pub(super) fn binding(&self) -> Result<IoBinding, EngineError> {
        self.graph.session.create_binding().map_err(runtime_error(&format!("binding {}", self.graph.name)))
    }

    /// Whether several sequences can decode at once. Packages that were exported earlier have a batch of one, and on a GPU there must
    /// be something that copies rows of caches.
    pub(super) fn takes_batches(&self) -> bool {
        if self.graph.memory.is_gpu() && self.copier.is_none() {
            return false;
        }
        let first = |name: &str| {
            let input = self.graph.session.inputs().iter().find(|input| input.name() == name)?;
            input.dtype().tensor_shape().and_then(|shape| shape.first().copied())
        };
        ["position_ids", "attention_bias", "seqlens_k", "past_key_values.0.key"]
            .iter()
            .all(|name| first(name).is_some_and(|size| size < 0))
    }

    /// Its graph.
    pub(super) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Its graph.
    pub(super) fn graph_mut(&mut self) -> &mut Graph {
        &mut self.graph
    }

    /// The graph's stage of the manifest.
    pub(super) fn stage(&self) -> &LanguageModelStage {
        &self.stage
    }

    /// An error about its graph.
    pub(super) fn wrong(&self, message: impl Into<String>) -> EngineError {
        self.graph.wrong(message)
    }

    /// A buffer of the key-value cache's number type.
    pub(super) fn cache_buffer(&self, place: Place, shape: &[usize]) -> ort::Result<DynTensor> {
        place.tensor(&self.graph.session, self.stage.cache_dtype(), shape)
    }

    /// Rows that the cache can hold now.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The cache's buffers: key and value of each layer in turn, each `[1, key_value_heads, capacity, head_size]`.
    pub(super) fn cache(&self) -> &[DynTensor] {
        &self.cache
    }

    /// The same, to be written.
    #[cfg(test)]
    pub(super) fn cache_mut(&mut self) -> &mut [DynTensor] {
        &mut self.cache
    }
}

pub(super) fn has_shape<T: PrimitiveTensorElementType + std::fmt::Debug>(tensor: &Tensor<T>, shape: &[usize]) -> bool {
    is_shape(tensor.shape(), shape)
}

fn is_shape(found: &[i64], shape: &[usize]) -> bool {
    found.len() == shape.len() && found.iter().zip(shape).all(|(&found, &wanted)| usize::try_from(found) == Ok(wanted))
}

/// What inputs are bound to.
pub(super) struct Target<'a> {
    pub binding: &'a mut IoBinding,
    pub place: Place,
}

/// Gives `tensor` the wanted shape, in a new allocation bound as the input `name` if it has another one; for a GPU it is bound when
/// it is filled.
pub(super) fn bind<T>(to: &mut Target<'_>, name: &str, tensor: &mut Tensor<T>, shape: &[usize]) -> ort::Result<()>
where
    T: PrimitiveTensorElementType + std::fmt::Debug,
{
    if !has_shape(tensor, shape) {
        *tensor = Tensor::new(&Allocator::default(), shape)?;
        if !to.place.is_gpu() {
            to.binding.bind_input(name, tensor)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::options::EngineOptions;
    use super::super::runtime;
    use super::*;
    use crate::package::Package;

    const SENTINEL: f32 = 12345.0;

    fn tiny() -> LanguageModel {
        let package = Package::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engine/tiny")).unwrap();
        let loaded = runtime::load(&Default::default(), &mut |_| {}).unwrap();
        let stage = &package.manifest.llm;
        let graph = Graph::load(loaded, &package.root, &stage.graph, &EngineOptions::default(), false).unwrap();
        LanguageModel::new(graph, stage).unwrap()
    }

    /// Runs `rows` made-up rows after `past`, each seeing all before it, and gives the logits of the last.
    fn run(model: &mut LanguageModel, past: usize, rows: usize) -> Vec<f32> {
        let inputs = model.prepare(past, rows, 1).unwrap();
        inputs.embeddings.iter_mut().enumerate().for_each(|(index, value)| *value = ((index + 7 * past) as f32).sin());
        inputs.position_ids.iter_mut().enumerate().for_each(|(index, value)| *value = (past + index) as i64);
        for (index, row) in inputs.attention_bias.chunks_exact_mut(past + rows).enumerate() {
            super::super::plan::write_bias(row, std::slice::from_ref(&(0..past + index + 1)));
        }
        inputs.logit_rows[0] = rows as i64 - 1;
        model.run().unwrap().next().unwrap().to_vec()
    }

    #[test]
    fn the_cache_is_written_in_place_and_nowhere_else() {
        let mut model = tiny();
        model.reserve(20).unwrap();
        assert_eq!(model.capacity(), 192, "a step of 256 rows, held to the positions of the graph");
        let width = 16;
        for buffer in model.cache_mut() {
            buffer.try_extract_tensor_mut::<f32>().unwrap().1.fill(SENTINEL);
        }
        let addresses = |model: &mut LanguageModel| -> Vec<usize> {
            model.cache_mut().iter().map(|buffer| buffer.data_ptr() as usize).collect()
        };
        let before = addresses(&mut model);
        let mut written = 0;
        for rows in [9, 3, 1, 1] {
            run(&mut model, written, rows);
            written += rows;
            for buffer in model.cache_mut() {
                let (_, values) = buffer.try_extract_tensor::<f32>().unwrap();
                let (new, rest) = values.split_at(written * width);
                assert!(new.iter().all(|&value| value != SENTINEL && value.is_finite()), "{written} rows are written");
                assert!(rest.iter().all(|&value| value == SENTINEL), "the rest is untouched");
            }
        }
        assert_eq!(addresses(&mut model), before);
        // What lies behind the sequence does not matter, even if it is not finite.
        let clean = run(&mut model, 5, 2);
        for buffer in model.cache_mut() {
            let (_, values) = buffer.try_extract_tensor_mut::<f32>().unwrap();
            values[7 * width..].fill(f32::NAN);
        }
        assert_eq!(run(&mut model, 5, 2), clean);
    }

    #[test]
    fn a_run_beyond_the_cache_is_refused() {
        let mut model = tiny();
        assert!(matches!(model.prepare(0, 1, 1), Err(EngineError::Graph { .. })), "nothing is reserved yet");
        model.reserve(10).unwrap();
        assert!(model.prepare(190, 3, 1).is_err());
        assert!(model.prepare(0, 0, 1).is_err());
        assert!(model.prepare(0, 1, 0).is_err());
        assert!(model.prepare(189, 3, 1).is_ok());
    }

    /// Not a check but a measurement, run by name: `cargo test --lib decode_overhead -- --ignored --nocapture`. What a decode
    /// step costs beside the graph, with the longest sequence that the tiny graph takes.
    #[test]
    #[ignore = "a measurement"]
    fn decode_overhead() {
        let mut model = tiny();
        model.reserve(192).unwrap();
        run(&mut model, 0, 8);
        for rows in [1, 6] {
            let (mut prepare_us, mut run_us, mut choose_us) = (Vec::new(), Vec::new(), Vec::new());
            for step in 0..2000 {
                let past = 8 + step % 150;
                let started = std::time::Instant::now();
                let inputs = model.prepare(past, rows, rows).unwrap();
                inputs.embeddings.fill(0.1);
                inputs.position_ids.fill(past as i64);
                for row in inputs.attention_bias.chunks_exact_mut(past + rows) {
                    super::super::plan::write_bias(row, std::slice::from_ref(&(0..past + 1)));
                }
                inputs.logit_rows.fill(0);
                prepare_us.push(started.elapsed().as_secs_f64() * 1e6);
                let started = std::time::Instant::now();
                let logits = model.run().unwrap();
                run_us.push(started.elapsed().as_secs_f64() * 1e6);
                let started = std::time::Instant::now();
                assert!(logits.map(super::super::sampling::greedy).all(|choice| choice.is_some()));
                choose_us.push(started.elapsed().as_secs_f64() * 1e6);
            }
            let median = |values: &mut Vec<f64>| {
                values.sort_by(f64::total_cmp);
                values[values.len() / 2]
            };
            eprintln!(
                "{rows} rows: prepare {:.1} us, run {:.1} us, choose {:.1} us a step",
                median(&mut prepare_us),
                median(&mut run_us),
                median(&mut choose_us)
            );
        }
    }
}
