//! Weights in fewer bits: which layers get which precision, and how numbers become codes and scales. How they stand in files is
//! [`super::weights`]' business, how graphs multiply by them [`super::graphs`]'.

#[cfg(test)]
mod algorithm_tests;
mod calibration;
mod choice;
mod cholesky;
mod feedback;
mod matrix;
mod smoothing;

pub use calibration::{Calibration, GramMatrix, InputStatistics, Int4Method};
pub(super) use choice::Schemes;
pub use choice::StagePrecisionChoice;
pub(super) use feedback::Feedback;
pub(super) use matrix::{quantise_matrix, symmetric};
pub(super) use smoothing::{divide_norm, multiply_inputs, raise_maxima, smoothing_factors};

use crate::package::Precision;

/// How the weights of a linear layer are stored and multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// 32-bit floating point.
    Fp32,
    /// 16-bit floating point, widened as the graph is loaded unless the graph computes in it.
    Fp16,
    /// bfloat16, likewise.
    Bf16,
    /// Signed 8-bit weights with a scale for each output, and activations in 8 bits with a scale for each row.
    Int8,
    /// Weights in blocks along the inputs, each with a scale.
    Blocks(BlockFormat),
}

/// The format of `MatMulNBits` of ONNX Runtime, or with `signed` of the standard operator `DequantizeLinear`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockFormat {
    /// Bits of a code, 4 or 8. Codes are unsigned and the middle one is zero; with `signed` that one is taken away as they are stored.
    pub bits: u32,
    /// Inputs that share a scale, a power of two from 16 on.
    pub block_size: usize,
    /// 4: activations are rounded to 8 bits a block; 0: they stay in 32 bits.
    pub accuracy_level: u32,
    /// Whether codes are stored as signed numbers and every scale is positive, as `DequantizeLinear` has it for TensorRT, which takes
    /// no zero points and no negative scales.
    pub signed: bool,
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

    /// What turns a byte of unsigned codes into one of signed codes: the highest bit of each.
    pub fn sign_bits(self) -> u8 {
        match (self.signed, self.bits) {
            (false, _) => 0,
            (true, 4) => 0x88,
            (true, _) => 0x80,
        }
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
