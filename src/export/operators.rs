//! What the flavours of a graph write differently: one fused operator of ONNX Runtime, or standard ones that compute the same.

use super::graphs::{StageBuilder, signed};
use crate::onnx::{Attribute, Value};
use crate::package::GraphFlavor;

impl StageBuilder<'_> {
    /// `x / sqrt(mean(x²) + epsilon)`, scaled by a weight.
    pub fn rms_norm(&mut self, node: &str, input: &Value, scale: &Value, epsilon: f32) -> Value {
        let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(epsilon))];
        let operator = match self.flavor {
            // ONNX Runtime knows this operator in the standard domain, though no standard has it.
            GraphFlavor::Contrib => "SimplifiedLayerNormalization",
            GraphFlavor::Standard => "RMSNormalization",
        };
        self.graph.op(operator, node, &[input, scale], &attributes)
    }

    /// The norm of `input + skip` by [`Self::rms_norm`], and the sum itself.
    pub fn add_and_rms_norm(&mut self, node: &str, [input, skip]: [&Value; 2], scale: &Value, epsilon: f32) -> (Value, Value) {
        match self.flavor {
            GraphFlavor::Contrib => self.fused_norm("SkipSimplifiedLayerNormalization", node, &[input, skip, scale], epsilon),
            GraphFlavor::Standard => {
                let sum = self.graph.op("Add", &format!("{node}/sum"), &[input, skip], &[]);
                (self.rms_norm(node, &sum, scale, epsilon), sum)
            }
        }
    }

    /// The layer norm of the last axis, with scale and shift.
    pub fn layer_norm(&mut self, node: &str, input: &Value, [scale, shift]: [&Value; 2], epsilon: f32) -> Value {
        let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(epsilon))];
        self.graph.op("LayerNormalization", node, &[input, scale, shift], &attributes)
    }

    /// The norm of `input + skip` by [`Self::layer_norm`], and the sum itself.
    pub fn add_and_layer_norm(
        &mut self,
        node: &str,
        [input, skip]: [&Value; 2],
        parameters: [&Value; 2],
        epsilon: f32,
    ) -> (Value, Value) {
        match self.flavor {
            GraphFlavor::Contrib => {
                let [scale, shift] = parameters;
                self.fused_norm("SkipLayerNormalization", node, &[input, skip, scale, shift], epsilon)
            }
            GraphFlavor::Standard => {
                let sum = self.graph.op("Add", &format!("{node}/sum"), &[input, skip], &[]);
                (self.layer_norm(node, &sum, parameters, epsilon), sum)
            }
        }
    }

    /// A norm of the sum of the first two inputs, and the sum.
    fn fused_norm(&mut self, operator: &str, node: &str, inputs: &[&Value], epsilon: f32) -> (Value, Value) {
        let (epsilon, sum) = ([("epsilon", Attribute::Float(epsilon))], format!("{node}/sum"));
        self.graph.microsoft_op_with_outputs(operator, node, inputs, &[node, "", "", &sum], &epsilon);
        (self.graph.value(node), self.graph.value(&sum))
    }

    /// `x · sigmoid(alpha · x)`: QuickGELU with 1.702, SiLU with 1.
    pub fn sigmoid_unit(&mut self, node: &str, input: &Value, alpha: f32) -> Value {
        if self.flavor == GraphFlavor::Contrib {
            return self.graph.microsoft_op("QuickGelu", node, &[input], &[("alpha", Attribute::Float(alpha))]);
        }
        // The standard's `Swish` has no kernel for processors.
        let scaled = (alpha != 1.0).then(|| {
            let mut alpha = self.graph.float("sigmoid/alpha", alpha);
            if self.compute().is_some() {
                alpha = self.cast(&format!("{node}/alpha"), &alpha, self.element());
            }
            self.graph.op("Mul", &format!("{node}/scaled"), &[input, &alpha], &[])
        });
        let sigmoid = self.graph.op("Sigmoid", &format!("{node}/sigmoid"), &[scaled.as_ref().unwrap_or(input)], &[]);
        self.graph.op("Mul", node, &[input, &sigmoid], &[])
    }

    /// Attention of rows `[batch, rows, heads · head_size]` to each other, giving the same shape; if it is causal, each row sees only
    /// itself and the rows before it.
    pub fn self_attention(&mut self, node: &str, [query, key, value]: [&Value; 3], heads: usize, causal: bool) -> Value {
        let heads = Attribute::Int(signed(heads));
        let causal = causal.then_some(Attribute::Int(1));
        let inputs = [query, key, value];
        match self.flavor {
            GraphFlavor::Contrib => {
                let causal = causal.map(|one| ("unidirectional", one));
                let attributes: Vec<_> = [("num_heads", heads)].into_iter().chain(causal).collect();
                self.graph.microsoft_op("MultiHeadAttention", node, &inputs, &attributes)
            }
            GraphFlavor::Standard => {
                let causal = causal.map(|one| ("is_causal", one));
                let attributes: Vec<_> =
                    [("q_num_heads", heads.clone()), ("kv_num_heads", heads)].into_iter().chain(causal).collect();
                self.graph.op("Attention", node, &inputs, &attributes)
            }
        }
    }
}
