//! What the three graph builders share: weights by name, and linear layers.

use super::ExportError;
use super::weights::WeightPlan;
use crate::onnx::{Attribute, ElementType, ExternalData, GraphBuilder, Value};

/// A graph under construction and the weights that it may name.
pub(super) struct StageBuilder<'a> {
    pub graph: GraphBuilder,
    weights: &'a WeightPlan,
    missing: Option<String>,
}

impl<'a> StageBuilder<'a> {
    pub fn new(name: &str, weights: &'a WeightPlan) -> Self {
        Self { graph: GraphBuilder::new(name), weights, missing: None }
    }

    /// A weight, as a constant in another file.
    pub fn weight(&mut self, name: &str) -> Value {
        let Some(place) = self.weights.place(name) else {
            self.missing.get_or_insert_with(|| name.to_owned());
            return Value::absent();
        };
        let data = ExternalData { file: place.file.clone(), offset: place.offset, bytes: place.bytes };
        self.graph.external(name, ElementType::Float32, &place.shape, &data)
    }

    /// `x · Wᵀ + b` on `[rows, inputs]`, with the weight `[outputs, inputs]` as checkpoints store it.
    pub fn linear(&mut self, node: &str, input: &Value, weight: &str, bias: bool) -> Value {
        let mut inputs = vec![input.clone(), self.weight(&format!("{weight}.weight"))];
        if bias {
            inputs.push(self.weight(&format!("{weight}.bias")));
        }
        self.graph.op("Gemm", node, &inputs.iter().collect::<Vec<_>>(), &[("transB", Attribute::Int(1))])
    }

    /// Another view of the same numbers; `0` keeps a dimension, `-1` is the rest. `shape_name` names the constant, which
    /// equal shapes share.
    pub fn reshape(&mut self, node: &str, input: &Value, shape_name: &str, shape: &[i64]) -> Value {
        let shape = self.graph.integers(shape_name, shape);
        self.graph.op("Reshape", node, &[input, &shape], &[])
    }

    /// The model file.
    pub fn finish(self) -> Result<Vec<u8>, ExportError> {
        if let Some(tensor) = self.missing {
            return Err(ExportError::MissingTensor {
                checkpoint: "graph".into(),
                tensor,
                shape: Vec::new(),
                hint: ": the graph names a tensor that the architecture does not list".to_owned(),
            });
        }
        Ok(self.graph.finish()?)
    }
}

/// A size as a dimension of a reshape.
pub(super) fn signed(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
