//! Sums over what goes into the linear layers of a stage, for quantising their weights.

use std::path::Path;

use ndarray::{Array2, Array3, ArrayView4, Axis};
use ort::session::SessionOutputs;
use ort::value::Tensor;

use super::layers::{Inputs, prompt_inputs};
use super::options::EngineOptions;
use super::runtime;
use super::session::{Graph, runtime_error};
use super::types::EngineError;
use crate::package::{LanguageModelStage, Package, StageName, TapOutputs, TappedModel};

/// Tiles that run through the encoder together.
const TILES_PER_RUN: usize = 8;

/// Sums over the rows that went into a linear layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputSums {
    /// Rows.
    pub rows: u64,
    /// Largest magnitude of each of the inputs.
    pub absolute_maximum: Vec<f32>,
    /// Sum of the squares of each of the inputs.
    pub square_sum: Vec<f64>,
    /// `XᵀX`, row by row, `[inputs, inputs]`; empty unless it was asked for.
    pub gram: Vec<f32>,
}

/// A stage of a package whose outputs are sums over the inputs of its linear layers.
pub struct StatisticsProbe {
    graph: Graph,
    model: TappedModel,
    llm: LanguageModelStage,
    sums: Vec<InputSums>,
}

impl StatisticsProbe {
    /// Loads a stage of one of our own packages from `model`, which was made of its graph. Weights stay mapped files: they may be
    /// loaded a second time by an engine beside it.
    pub fn load(package: &Package, stage: StageName, model: TappedModel, options: &EngineOptions) -> Result<Self, EngineError> {
        let loaded = runtime::load(&options.runtime(), &mut |_| {})?;
        let (root, manifest): (&Path, _) = (&package.root, &package.manifest);
        let name = match stage {
            StageName::Vision => &manifest.vision.graph,
            StageName::Projector => &manifest.projector.graph,
            StageName::Llm => &manifest.llm.graph,
        };
        let options = EngineOptions { prepack: false, prepacked_cache: None, ..options.clone() };
        let graph = Graph::of_bytes(loaded, root, name, &model.bytes, &options, false)?;
        let sums = vec![InputSums::default(); model.outputs.len()];
        Ok(Self { graph, model, llm: manifest.llm.clone(), sums })
    }

    /// Adds what tiles `[tiles, 3, height, width]` give in the vision encoder.
    pub fn vision(&mut self, pixels: ArrayView4<'_, f32>) -> Result<(), EngineError> {
        for pixels in pixels.axis_chunks_iter(Axis(0), TILES_PER_RUN) {
            let pixels = Tensor::from_array(pixels.to_owned()).map_err(runtime_error("passing pixels"))?;
            self.add(vec![("pixel_values".into(), pixels.into())])?;
        }
        Ok(())
    }

    /// Adds what vision features `[tiles, tokens, hidden_size]` give in the projector.
    pub fn projector(&mut self, features: &Array3<f32>) -> Result<(), EngineError> {
        let features = Tensor::from_array(features.clone()).map_err(runtime_error("passing image features"))?;
        self.add(vec![("features".into(), features.into())])
    }

    /// Adds what the rows `[rows, hidden_size]` of a prompt without a past give in the language model; behind the last layer's
    /// attention all of them count, too.
    pub fn language(&mut self, embeddings: &Array2<f32>) -> Result<(), EngineError> {
        let mut inputs = prompt_inputs(&self.graph, &self.llm, embeddings)?;
        inputs.retain(|(name, _)| self.model.inputs.iter().any(|input| input.as_str() == name.as_ref()));
        self.add(inputs)
    }

    /// The sums so far, in the order in which they were asked for.
    pub fn finish(self) -> Vec<InputSums> {
        self.sums
    }

    fn add(&mut self, inputs: Inputs<'_>) -> Result<(), EngineError> {
        let outputs = self.graph.session.run(inputs).map_err(runtime_error("summing up inputs of linear layers"))?;
        let path = self.graph.path.clone();
        let wrong = |message: String| EngineError::Graph { graph: path.clone(), message };
        for (names, sums) in self.model.outputs.iter().zip(&mut self.sums) {
            let TapOutputs { shape, absolute_maximum, square_sum, gram } = names;
            let shape = outputs.get(shape).ok_or_else(|| wrong(format!("gave no `{shape}`")))?;
            let shape = shape.try_extract_tensor::<i64>().map_err(runtime_error("reading sums"))?.1;
            let rows = shape.first().and_then(|rows| u64::try_from(*rows).ok()).unwrap_or(0);
            let (maximum, squares) = (floats(&outputs, absolute_maximum, &path)?, floats(&outputs, square_sum, &path)?);
            if !maximum.iter().chain(squares).all(|value| value.is_finite()) {
                return Err(wrong(format!("the input of a linear layer is not finite (`{square_sum}`)")));
            }
            sums.rows += rows;
            sums.absolute_maximum.resize(maximum.len(), 0.0);
            sums.square_sum.resize(squares.len(), 0.0);
            sums.absolute_maximum.iter_mut().zip(maximum).for_each(|(sum, new)| *sum = sum.max(*new));
            sums.square_sum.iter_mut().zip(squares).for_each(|(sum, new)| *sum += f64::from(*new));
            if let Some(gram) = gram {
                let gram = floats(&outputs, gram, &path)?;
                sums.gram.resize(gram.len(), 0.0);
                sums.gram.iter_mut().zip(gram).for_each(|(sum, new)| *sum += new);
            }
        }
        Ok(())
    }
}

fn floats<'o>(outputs: &'o SessionOutputs<'_>, name: &str, graph: &Path) -> Result<&'o [f32], EngineError> {
    let missing = || EngineError::Graph { graph: graph.to_path_buf(), message: format!("gave no `{name}`") };
    Ok(outputs.get(name).ok_or_else(missing)?.try_extract_tensor::<f32>().map_err(runtime_error("reading sums"))?.1)
}
