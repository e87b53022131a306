//! Hidden states of the vision encoder and the language model, layer by layer.

use std::borrow::Cow;
use std::path::Path;

use ndarray::{Array2, ArrayView4};
use ort::session::{Session, SessionInputValue};
use ort::value::Tensor;

use super::options::EngineOptions;
use super::ort_engine::OrtEngine;
use super::plan::write_windowed_bias;
use super::runtime;
use super::session::{Graph, runtime_error};
use super::tree;
use super::types::{EngineError, ImageTiles, Segment, StageTimings};
use crate::package::{LanguageModelStage, LayeredModel, Package, StageName};

/// The vision encoder or the language model of a package, opened at its layers.
pub struct LayerProbe {
    graph: Graph,
    model: LayeredModel,
    llm: LanguageModelStage,
}

/// Values by the names of a graph's inputs.
pub(super) type Inputs<'v> = Vec<(Cow<'static, str>, SessionInputValue<'v>)>;

impl LayerProbe {
    /// Loads a stage of one of our own packages from `model`, which was made of its graph.
    pub fn load(package: &Package, stage: StageName, model: LayeredModel, options: &EngineOptions) -> Result<Self, EngineError> {
        let loaded = runtime::load(&options.runtime(), &mut |_| {})?;
        let (root, manifest): (&Path, _) = (&package.root, &package.manifest);
        let name = match stage {
            StageName::Vision => &manifest.vision.graph,
            StageName::Projector => &manifest.projector.graph,
            StageName::Llm => &manifest.llm.graph,
        };
        let graph = Graph::of_bytes(loaded, root, name, &model.bytes, options, false)?;
        let compute = [manifest.vision.compute, manifest.projector.compute, manifest.llm.compute];
        if let Some(compute) = compute.into_iter().flatten().next() {
            let compute = compute.as_str();
            return Err(
                graph.wrong(format!("computes in {compute}, and layers are read in 32 bits: export it without --compute"))
            );
        }
        Ok(Self { graph, model, llm: manifest.llm.clone() })
    }

    /// The hidden states `[tiles · rows, width]` after each layer of the vision encoder, of these tiles. `given` is as in
    /// [`Self::language`].
    pub fn vision(&mut self, pixels: ArrayView4<'_, f32>, given: &[Array2<f32>]) -> Result<Vec<Array2<f32>>, EngineError> {
        let pixels = Tensor::from_array(pixels.to_owned()).map_err(runtime_error("passing pixels"))?;
        self.run(vec![("pixel_values".into(), pixels.into())], given)
    }

    /// The hidden states `[rows, width]` after each layer of the language model, of a prompt without a past. A model whose layers
    /// stand alone is given the state before its second layer, its third, and so on.
    pub fn language(&mut self, embeddings: &Array2<f32>, given: &[Array2<f32>]) -> Result<Vec<Array2<f32>>, EngineError> {
        let inputs = prompt_inputs(&self.graph, &self.llm, embeddings)?;
        self.run(inputs, given)
    }

    fn run(&mut self, mut inputs: Inputs<'_>, given: &[Array2<f32>]) -> Result<Vec<Array2<f32>>, EngineError> {
        if given.len() != self.model.given.len() {
            let (expected, found) = (self.model.given.len(), given.len());
            return Err(self.graph.wrong(format!("takes {expected} hidden states, found {found}")));
        }
        for (name, state) in self.model.given.iter().zip(given) {
            let state = Tensor::from_array(state.clone()).map_err(runtime_error("passing a hidden state"))?;
            inputs.push((name.clone().into(), state.into()));
        }
        let session: &mut Session = &mut self.graph.session;
        let outputs = session.run(inputs).map_err(runtime_error("running a stage layer by layer"))?;
        let mut states = Vec::with_capacity(self.model.states.len());
        for name in &self.model.states {
            let wrong = |message: String| EngineError::Graph { graph: self.graph.path.clone(), message };
            let value = outputs.get(name).ok_or_else(|| wrong(format!("gave no `{name}`")))?;
            let (shape, values) = value.try_extract_tensor::<f32>().map_err(runtime_error("reading a hidden state"))?;
            let width = shape.last().and_then(|width| usize::try_from(*width).ok()).unwrap_or(0).max(1);
            let state = Array2::from_shape_vec((values.len() / width, width), values.to_vec());
            states.push(state.map_err(|error| wrong(error.to_string()))?);
        }
        Ok(states)
    }
}

/// What the language model is given of a prompt without a past, with logits of all its rows.
pub(super) fn prompt_inputs(
    graph: &Graph,
    stage: &LanguageModelStage,
    embeddings: &Array2<f32>,
) -> Result<Inputs<'static>, EngineError> {
    let rows = embeddings.nrows();
    let count = i32::try_from(rows).ok().filter(|_| rows > 0 && embeddings.ncols() == stage.hidden_size);
    let count = count.ok_or_else(|| graph.wrong(format!("cannot take rows of shape {:?}", embeddings.shape())))?;
    let doing = "passing a prompt";
    let mut bias = vec![0.0_f32; rows * rows];
    for (row, bias) in bias.chunks_exact_mut(rows).enumerate() {
        write_windowed_bias(bias, std::slice::from_ref(&(0..row + 1)), stage.sliding_window);
    }
    let positions: Vec<i64> = (0..i64::from(count)).collect();
    let embeds = Tensor::from_array(embeddings.clone()).map_err(runtime_error(doing))?;
    let rows_wanted = Tensor::from_array(([rows], positions.clone())).map_err(runtime_error(doing))?;
    let positions = Tensor::from_array(([1, rows], positions)).map_err(runtime_error(doing))?;
    let bias = Tensor::from_array(([1, 1, rows, rows], bias)).map_err(runtime_error(doing))?;
    let lengths = Tensor::from_array(([1_usize], vec![count - 1])).map_err(runtime_error(doing))?;
    let total = Tensor::from_array(([0_usize; 0], vec![count])).map_err(runtime_error(doing))?;
    let mut inputs: Inputs<'_> = vec![
        ("inputs_embeds".into(), embeds.into()),
        ("position_ids".into(), positions.into()),
        ("attention_bias".into(), bias.into()),
        ("seqlens_k".into(), lengths.into()),
        ("total_sequence_length".into(), total.into()),
        ("logit_rows".into(), rows_wanted.into()),
    ];
    let shape = [1, stage.key_value_heads, rows, stage.head_size];
    for layer in 0..stage.layers {
        for part in ["key", "value"] {
            let empty = vec![0.0_f32; shape.iter().product()];
            let empty = Tensor::from_array((shape, empty)).map_err(runtime_error(doing))?;
            inputs.push((format!("past_key_values.{layer}.{part}").into(), empty.into()));
        }
    }
    Ok(inputs)
}

impl OrtEngine {
    /// What the language model is given of a prompt: its rows `[rows, hidden_size]`, image rows in their places.
    pub fn embedded_prompt(&mut self, images: &[ImageTiles], segments: &[Segment]) -> Result<Array2<f32>, EngineError> {
        let layouts = self.layouts(images);
        let rows = match self.spelled_out(0, segments, 1, &layouts)? {
            Ok(rows) => rows,
            Err(failure) => return Err(EngineError::Request { index: 0, message: failure.to_string() }),
        };
        let encoded = self.encode(images, &layouts, (0..images.len()).collect(), false, &mut StageTimings::default())?;
        let mut embedded = Array2::zeros((rows.len(), self.embedding.width()));
        for (row, mut target) in rows.iter().zip(embedded.rows_mut()) {
            if let Some(target) = target.as_slice_mut() {
                tree::embed(&self.embedding, &encoded, *row, target)?;
            }
        }
        Ok(embedded)
    }
}
