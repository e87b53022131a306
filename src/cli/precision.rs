//! Options that say in which precision the weights of an export are stored.

use clap::Args;

use crate::export::StagePrecisionChoice;
use crate::package::{Compute, Precision};

/// Precisions of an export.
#[derive(Debug, Args)]
#[command(next_help_heading = "Precision")]
pub struct PrecisionArguments {
    /// Precision of all stages: fp32, fp16 or bf16 (stored so, computed in fp32), int8 (weights and activations),
    /// int8-weights or int4 (weights alone) [default: fp32]
    #[arg(long, value_name = "PRECISION")]
    precision: Option<PrecisionArgument>,
    /// Precision of the vision encoder
    #[arg(long, value_name = "PRECISION", hide_possible_values = true)]
    vision: Option<PrecisionArgument>,
    /// Precision of the projector
    #[arg(long, value_name = "PRECISION", hide_possible_values = true)]
    projector: Option<PrecisionArgument>,
    /// Precision of the text encoder, of CLIP checkpoints
    #[arg(long, value_name = "PRECISION", hide_possible_values = true)]
    text: Option<PrecisionArgument>,
    /// Precision of the language model
    #[arg(long, value_name = "PRECISION", hide_possible_values = true)]
    llm: Option<PrecisionArgument>,
    /// Precision of the output head [default: the language model's; int8-weights for int4]
    #[arg(long, value_name = "PRECISION", hide_possible_values = true)]
    head: Option<PrecisionArgument>,
    /// Precision of the token embedding table: fp32, fp16, bf16 or int8 [default: the checkpoint's]
    #[arg(long, value_name = "PRECISION", hide_possible_values = true)]
    embeddings: Option<PrecisionArgument>,
    /// Inputs that share a scale in int8-weights and int4: 16, 32, 64, 128 or 256 [default: 128 and 32]
    #[arg(long, value_name = "INPUTS")]
    block_size: Option<usize>,
    /// Number type of activations and of the key-value cache, for GPUs: weights are stored in it, too, unless they are in
    /// int8-weights or int4 [default: 32 bits]
    #[arg(long, value_name = "TYPE")]
    compute: Option<ComputeArgument>,
    /// In int8-weights and int4: 4 rounds activations to 8 bits, which is faster; 0 leaves them in 32 bits [default: 4]
    #[arg(long, value_name = "LEVEL")]
    accuracy_level: Option<u32>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ComputeArgument {
    Fp16,
    Bf16,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum PrecisionArgument {
    Fp32,
    Fp16,
    Bf16,
    Int8,
    Int8Weights,
    Int4,
}

impl PrecisionArguments {
    /// What was asked for.
    pub fn choice(&self) -> StagePrecisionChoice {
        let of = |argument: Option<PrecisionArgument>| {
            argument.map(|argument| match argument {
                PrecisionArgument::Fp32 => Precision::Fp32,
                PrecisionArgument::Fp16 => Precision::Fp16,
                PrecisionArgument::Bf16 => Precision::Bf16,
                PrecisionArgument::Int8 => Precision::Int8,
                PrecisionArgument::Int8Weights => Precision::Int8Weights,
                PrecisionArgument::Int4 => Precision::Int4,
            })
        };
        StagePrecisionChoice {
            all: of(self.precision),
            vision: of(self.vision),
            projector: of(self.projector),
            text: of(self.text),
            llm: of(self.llm),
            head: of(self.head),
            embeddings: of(self.embeddings),
            block_size: self.block_size,
            accuracy_level: self.accuracy_level,
            compute: self.compute.map(|compute| match compute {
                ComputeArgument::Fp16 => Compute::Fp16,
                ComputeArgument::Bf16 => Compute::Bf16,
            }),
        }
    }
}
