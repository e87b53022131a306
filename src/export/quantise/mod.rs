//! Weights in fewer bits: which layers get which precision, and how numbers become codes and scales. How they stand in files is
//! [`super::weights`]' business, how graphs multiply by them [`super::graphs`]'.

mod choice;
mod matrix;

use std::collections::BTreeMap;

pub(super) use choice::Schemes;
pub use choice::StagePrecisionChoice;
pub(super) use matrix::{quantise_matrix, symmetric};

use crate::package::{CalibrationRecord, Precision};

/// How the weights of a linear layer are stored and multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// 32-bit floating point.
    Fp32,
    /// 16-bit floating point, widened as the graph is loaded; arithmetic is in 32 bits.
    Fp16,
    /// bfloat16, likewise.
    Bf16,
    /// Signed 8-bit weights with a scale for each output, and activations in 8 bits with a scale for each row.
    Int8,
    /// Weights in blocks along the inputs, each with a scale.
    Blocks(BlockFormat),
}

/// The format of `MatMulNBits` of ONNX Runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockFormat {
    /// Bits of a code, 4 or 8. Codes are unsigned; the middle one is zero.
    pub bits: u32,
    /// Inputs that share a scale, a power of two from 16 on.
    pub block_size: usize,
    /// 4: activations are rounded to 8 bits a block; 0: they stay in 32 bits.
    pub accuracy_level: u32,
}

impl BlockFormat {
    /// Blocks of a row of this many inputs; the last may be partly filled.
    pub fn blocks(self, inputs: usize) -> usize {
        inputs.div_ceil(self.block_size)
    }

    /// Bytes of the codes of a block.
    pub fn block_bytes(self) -> usize {
        self.block_size * self.bits as usize / 8
    }

    /// The code of zero.
    pub fn zero(self) -> i32 {
        1 << (self.bits - 1)
    }
}

impl Scheme {
    /// The precision that manifests name it by.
    pub fn precision(self) -> Precision {
        match self {
            Self::Fp32 => Precision::Fp32,
            Self::Fp16 => Precision::Fp16,
            Self::Bf16 => Precision::Bf16,
            Self::Int8 => Precision::Int8,
            Self::Blocks(format) if format.bits == 8 => Precision::Int8Weights,
            Self::Blocks(_) => Precision::Int4,
        }
    }
}

/// What the inputs of a linear layer were on some samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputStatistics {
    /// Rows that were seen.
    pub rows: u64,
    /// The largest magnitude of each input, `[inputs]`.
    pub absolute_maximum: Vec<f32>,
    /// The mean square of each input, `[inputs]`.
    pub mean_square: Vec<f32>,
    /// `XᵀX / rows`, row-major `[inputs, inputs]`, where it was collected.
    pub gram: Option<Vec<f32>>,
}

/// Input statistics of the linear layers of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// By the weight's canonical name without `.weight`, such as `llm.layers.0.self_attn.q_proj`.
    pub inputs: BTreeMap<String, InputStatistics>,
    /// The samples that it looked at, for the manifest.
    pub record: CalibrationRecord,
}
