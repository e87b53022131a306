//! The pre-norm transformer encoder of CLIP's and SigLIP's towers (`modeling_clip.py` and `modeling_siglip.py` of transformers).

use super::graphs::{StageBuilder, signed};
use crate::onnx::{Attribute, Value};

/// Activation of the feed-forward layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activation {
    /// x · sigmoid(1.702 x).
    QuickGelu,
    /// The exact (erf) GELU.
    Gelu,
    /// The tanh approximation of GELU (`gelu_pytorch_tanh`).
    GeluTanh,
}

/// The layers of a tower.
pub(super) struct Encoder<'a> {
    /// What the names of its weights begin with: `vision` or `text`.
    pub tower: &'a str,
    /// Layers that are in the graph.
    pub layers: usize,
    /// Hidden size.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    pub activation: Activation,
    pub layer_norm_epsilon: f32,
    /// Whether a row sees only itself and the rows before it.
    pub causal: bool,
}

impl Encoder<'_> {
    /// The layers on `[batch · rows, width]`, giving the same; `rows` shapes a value of that shape to `[batch, rows, width]`. Each
    /// norm is that of the addition before it. Without layers the input is given back.
    pub fn add(
        &self,
        stage: &mut StageBuilder<'_>,
        mut residual: Value,
        rows: impl Fn(&mut StageBuilder<'_>, &str, &Value) -> Value,
    ) -> Value {
        let weight_of = |layer: usize| format!("{}.encoder.layers.{layer}", self.tower);
        if self.layers == 0 {
            return residual;
        }
        let mut normed = self.layer_norm(stage, "layers.0/layer_norm1", &residual, &format!("{}.layer_norm1", weight_of(0)));
        for layer in 0..self.layers {
            let (node, weight) = (format!("layers.{layer}"), weight_of(layer));
            let mut heads = |part: &str| {
                let flat = stage.linear(&format!("{node}/{part}"), &normed, &format!("{weight}.self_attn.{part}"), true);
                rows(stage, &format!("{node}/{part}/rows"), &flat)
            };
            let (query, key, value) = (heads("q_proj"), heads("k_proj"), heads("v_proj"));
            let attention = format!("{node}/attention");
            let attended = stage.self_attention(&attention, [&query, &key, &value], self.heads, self.causal);
            let attended = stage.reshape(&format!("{attention}/flat"), &attended, "shape/flat", &[-1, signed(self.width)]);
            let attended = stage.linear(&format!("{node}/out_proj"), &attended, &format!("{weight}.self_attn.out_proj"), true);
            let norm = format!("{weight}.layer_norm2");
            let (second, sum) = self.add_and_norm(stage, &format!("{node}/layer_norm2"), &attended, &residual, &norm);
            let wide = stage.linear(&format!("{node}/fc1"), &second, &format!("{weight}.mlp.fc1"), true);
            let active = self.activate(stage, &format!("{node}/activation"), &wide);
            let narrow = stage.linear(&format!("{node}/fc2"), &active, &format!("{weight}.mlp.fc2"), true);
            let next = layer + 1;
            if next == self.layers {
                return stage.graph.op("Add", "last_hidden_state", &[&narrow, &sum], &[]);
            }
            let norm = format!("{}.layer_norm1", weight_of(next));
            (normed, residual) = self.add_and_norm(stage, &format!("layers.{next}/layer_norm1"), &narrow, &sum, &norm);
        }
        residual
    }

    fn activate(&self, stage: &mut StageBuilder<'_>, node: &str, input: &Value) -> Value {
        match self.activation {
            Activation::QuickGelu => stage.sigmoid_unit(node, input, 1.702),
            Activation::Gelu => stage.graph.op("Gelu", node, &[input], &[]),
            Activation::GeluTanh => {
                stage.graph.op("Gelu", node, &[input], &[("approximate", Attribute::Text("tanh".to_owned()))])
            }
        }
    }

    /// A norm of its own, such as the one before the first layer.
    pub fn layer_norm(&self, stage: &mut StageBuilder<'_>, node: &str, input: &Value, weight: &str) -> Value {
        let (scale, shift) = (stage.weight(&format!("{weight}.weight")), stage.weight(&format!("{weight}.bias")));
        stage.layer_norm(node, input, [&scale, &shift], self.layer_norm_epsilon)
    }

    /// The norm of `input + skip`, and the sum itself.
    fn add_and_norm(
        &self,
        stage: &mut StageBuilder<'_>,
        node: &str,
        input: &Value,
        skip: &Value,
        weight: &str,
    ) -> (Value, Value) {
        let (scale, shift) = (stage.weight(&format!("{weight}.weight")), stage.weight(&format!("{weight}.bias")));
        stage.add_and_layer_norm(node, [input, skip], [&scale, &shift], self.layer_norm_epsilon)
    }
}
