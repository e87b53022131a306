//! What a part of the work costs: multiplications and additions (a multiply-add counts as two), and bytes that must be read from
//! memory, counted from the shapes of a package.
//!
//! Linear layers of a token cost 2 · inputs · outputs. Attention of a row that sees k rows costs 4 · k · width in each layer, half for
//! the scores and half for the sum; causal attention sees only what it must. Norms, activations and softmax are left out, so that
//! times by these counts are lower bounds.

use crate::export::{LanguageShape, StageShapes};

/// In which arithmetic linear layers are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arithmetic {
    /// 32-bit floating point; fp16 and bf16 weights are widened at load and multiplied so, too.
    Fp32,
    /// 8-bit weights and activations, a scale for each row.
    Int8,
    /// 8-bit weights in blocks (`MatMulNBits`).
    Int8Weights,
    /// 4-bit weights in blocks (`MatMulNBits`).
    Int4,
}

impl Arithmetic {
    /// The name in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Int8 => "int8",
            Self::Int8Weights => "int8-weights",
            Self::Int4 => "int4",
        }
    }

    /// Bytes that a weight takes in memory as it is multiplied, scales of blocks of `block` weights included.
    pub fn weight_bytes(self, block: usize) -> f64 {
        match self {
            Self::Fp32 => 4.0,
            Self::Int8 => 1.0,
            Self::Int8Weights => 1.0 + 4.0 / block.max(1) as f64,
            Self::Int4 => 0.5 + 4.0 / block.max(1) as f64,
        }
    }
}

/// What a part costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Operations of linear layers, the head excluded.
    pub linear: f64,
    /// Operations of the output head.
    pub head: f64,
    /// Operations of attention, always in 32 bits.
    pub attention: f64,
    /// Weights that the linear layers read, the head excluded.
    pub linear_weights: f64,
    /// Weights of the head.
    pub head_weights: f64,
    /// Bytes of keys and values that are read.
    pub cache_bytes: f64,
}

impl Cost {
    /// All operations.
    pub fn operations(&self) -> f64 {
        self.linear + self.head + self.attention
    }

    /// Both together.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            linear: self.linear + other.linear,
            head: self.head + other.head,
            attention: self.attention + other.attention,
            linear_weights: self.linear_weights + other.linear_weights,
            head_weights: self.head_weights + other.head_weights,
            cache_bytes: self.cache_bytes + other.cache_bytes,
        }
    }
}

/// Vision encoder and projector for one tile: the costs of both.
pub fn image_cost(shapes: &StageShapes) -> (Cost, Cost) {
    let vision = &shapes.vision;
    let [layers, width, wide, rows] = [vision.layers, vision.width, vision.wide, vision.rows].map(|size| size as f64);
    let patches = vision.patches as f64 * vision.patch_numbers as f64 * width;
    let layer_weights = 4.0 * width * width + 2.0 * width * wide;
    let encoder = Cost {
        linear: 2.0 * (patches + layers * rows * layer_weights),
        attention: layers * 4.0 * rows * rows * width,
        linear_weights: vision.patch_numbers as f64 * width + layers * layer_weights,
        ..Cost::default()
    };
    let weights: f64 = shapes.projector.iter().map(|[inputs, outputs]| *inputs as f64 * *outputs as f64).sum();
    let projector = Cost { linear: 2.0 * vision.tokens as f64 * weights, linear_weights: weights, ..Cost::default() };
    (encoder, projector)
}

/// `rows` new rows on top of `past`, of which the last `logits` go through the head. The last layer's work after attention is done for
/// those alone, as the graph does.
pub fn prefill_cost(llm: &LanguageShape, past: usize, rows: usize, logits: usize) -> Cost {
    let (past, rows) = (past as f64, rows as f64);
    let pairs = rows * past + rows * (rows + 1.0) / 2.0;
    language_cost(llm, rows, logits as f64, pairs, past + rows)
}

/// The rows of several questions in one run over a shared prefix: each has `own` rows, which see the prefix and each other only.
pub fn packed_cost(llm: &LanguageShape, prefix: usize, own: usize, questions: usize, logits: usize) -> Cost {
    let (prefix, own, questions) = (prefix as f64, own as f64, questions as f64);
    let pairs = questions * (own * prefix + own * (own + 1.0) / 2.0);
    language_cost(llm, questions * own, logits as f64, pairs, prefix + questions * own)
}

/// One step of `rows` answers that grow side by side, each of which sees `seen` rows, itself included.
pub fn decode_cost(llm: &LanguageShape, seen: usize, rows: usize) -> Cost {
    let (seen, rows) = (seen as f64, rows as f64);
    language_cost(llm, rows, rows, rows * seen, seen)
}

fn language_cost(llm: &LanguageShape, rows: f64, logits: f64, pairs: f64, read_rows: f64) -> Cost {
    let [layers, hidden, wide, queries, keys, vocabulary] =
        [llm.layers, llm.hidden, llm.wide, llm.queries, llm.keys, llm.vocabulary].map(|size| size as f64);
    let before = hidden * (queries + 2.0 * keys);
    let after = queries * hidden + 3.0 * hidden * wide;
    Cost {
        linear: 2.0 * (layers * rows * before + ((layers - 1.0) * rows + logits) * after),
        head: 2.0 * logits * hidden * vocabulary,
        attention: layers * 4.0 * queries * pairs,
        linear_weights: layers * (before + after),
        head_weights: hidden * vocabulary,
        cache_bytes: layers * 2.0 * keys * 4.0 * read_rows,
    }
}
