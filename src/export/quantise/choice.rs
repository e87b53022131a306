//! Which layers get which precision: what was asked for, and what follows where nothing was said.

use super::super::ExportError;
use super::super::architecture::{EMBEDDING, OUTPUT_HEAD};
use super::{BlockFormat, Scheme};
use crate::package::{Compute, GraphFlavor, Precision, Quantisation, TensorDtype, WeightQuantisation};

/// Inputs that share a scale of 8-bit weights unless another number is asked for: larger blocks run faster, and at 8 bits smaller
/// ones gain nothing that matters.
const BLOCK_SIZE_8_BITS: usize = 128;
/// The same for 4-bit weights, whose error is ten times as large and grows with the block.
const BLOCK_SIZE_4_BITS: usize = 32;
/// Block sizes that ONNX Runtime's processor kernels have.
const BLOCK_SIZES: [usize; 5] = [16, 32, 64, 128, 256];

/// The precisions that an export is asked for; what is `None` follows from the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StagePrecisionChoice {
    /// Precision of all stages that have none of their own; fp32 if absent.
    pub all: Option<Precision>,
    /// The vision encoder's.
    pub vision: Option<Precision>,
    /// The projector's.
    pub projector: Option<Precision>,
    /// CLIP's text encoder's.
    pub text: Option<Precision>,
    /// The language model's.
    pub llm: Option<Precision>,
    /// The output head's; if absent, the language model's, but `int8-weights` for `int4`: an error of the head is an error of the
    /// logits themselves, and the head is a small share of the weights.
    pub head: Option<Precision>,
    /// The token embedding table's: fp32, fp16, bf16 or int8; as the checkpoint has it if absent.
    pub embeddings: Option<Precision>,
    /// Inputs that share a scale in `int8-weights` (128 if absent) and `int4` (32 if absent).
    pub block_size: Option<usize>,
    /// `accuracy_level` of `MatMulNBits`: 4 (if absent) or 0.
    pub accuracy_level: Option<u32>,
    /// Number type of activations and of the key-value cache; 32 bits if absent. All weights that are not in blocks are stored in
    /// it, norms and biases too, so that a checkpoint of this type is used as it is.
    pub compute: Option<Compute>,
}

/// Every layer's scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Schemes {
    pub vision: Scheme,
    pub projector: Scheme,
    pub text: Scheme,
    pub llm: Scheme,
    pub head: Scheme,
    /// Number type of the embedding table; `None` leaves it as it is.
    pub embedding: Option<TensorDtype>,
    /// Number type of activations where it is not 32 bits.
    pub compute: Option<Compute>,
}

fn wrong(option: &str, found: impl ToString, expected: impl Into<String>) -> ExportError {
    ExportError::Option { option: option.to_owned(), found: found.to_string(), expected: expected.into() }
}

impl StagePrecisionChoice {
    /// The schemes of a LLaVA checkpoint, in graphs of this flavour.
    pub(in super::super) fn llava(&self, flavor: GraphFlavor) -> Result<Schemes, ExportError> {
        if let Some(text) = self.text {
            return Err(wrong("--text", text.as_str(), "no such option: only CLIP checkpoints have a text encoder"));
        }
        self.schemes(flavor)
    }

    /// The schemes of a CLIP checkpoint, in graphs of this flavour.
    pub(in super::super) fn clip(&self, flavor: GraphFlavor) -> Result<Schemes, ExportError> {
        let others =
            [("--projector", self.projector), ("--llm", self.llm), ("--head", self.head), ("--embeddings", self.embeddings)];
        for (option, given) in others {
            if let Some(given) = given {
                return Err(wrong(option, given.as_str(), "no such option: a CLIP checkpoint has a vision and a text encoder"));
            }
        }
        if let Some(compute) = self.compute {
            return Err(wrong(
                "--compute",
                compute.as_str(),
                "no such option: the encoders of a CLIP checkpoint compute in 32 bits",
            ));
        }
        self.schemes(flavor)
    }

    /// The precision in which a LLaVA export stores the weight of a linear layer, by its canonical name.
    pub fn of_weight(&self, name: &str) -> Result<Precision, ExportError> {
        // A tied head goes by the table's name, but the table that a graph multiplies by is the head.
        let name = if name == EMBEDDING { OUTPUT_HEAD } else { name };
        Ok(self.llava(GraphFlavor::Contrib)?.of(name, &[1, 1]).precision())
    }

    fn schemes(&self, flavor: GraphFlavor) -> Result<Schemes, ExportError> {
        let narrow = self.compute.map(|compute| match compute {
            Compute::Fp16 => Precision::Fp16,
            Compute::Bf16 => Precision::Bf16,
        });
        let stage = |own: Option<Precision>| own.or(self.all).or(narrow).unwrap_or(Precision::Fp32);
        let llm = stage(self.llm);
        let head = self.head.unwrap_or(if llm == Precision::Int4 { Precision::Int8Weights } else { llm });
        let embedding = match self.embeddings {
            None => None,
            Some(Precision::Fp32) => Some(TensorDtype::F32),
            Some(Precision::Fp16) => Some(TensorDtype::F16),
            Some(Precision::Bf16) => Some(TensorDtype::Bf16),
            Some(Precision::Int8) => Some(TensorDtype::I8),
            Some(other) => return Err(wrong("--embeddings", other.as_str(), "fp32, fp16, bf16 or int8")),
        };
        let schemes = Schemes {
            vision: self.scheme("--vision", stage(self.vision), flavor)?,
            projector: self.scheme("--projector", stage(self.projector), flavor)?,
            text: self.scheme("--text", stage(self.text), flavor)?,
            llm: self.scheme("--llm", llm, flavor)?,
            head: self.scheme("--head", head, flavor)?,
            embedding,
            compute: self.compute,
        };
        if let Some(narrow) = narrow {
            let parts = [
                ("--vision", schemes.vision),
                ("--projector", schemes.projector),
                ("--llm", schemes.llm),
                ("--head", schemes.head),
            ];
            for (option, scheme) in parts {
                let found = scheme.precision();
                if found != narrow && !matches!(scheme, Scheme::Blocks(_)) {
                    let narrow = narrow.as_str();
                    return Err(wrong(option, found.as_str(), format!("{narrow}, int8-weights or int4 with --compute {narrow}")));
                }
            }
        }
        let in_blocks = |scheme: Scheme| matches!(scheme, Scheme::Blocks(_));
        if flavor == GraphFlavor::Standard {
            // One graph: the engine's setting for integer products does not go with blocks.
            let (llm, head) = (schemes.llm, schemes.head);
            if (llm == Scheme::Int8 && in_blocks(head)) || (head == Scheme::Int8 && in_blocks(llm)) {
                let expected =
                    format!("no blocks beside int8 in one graph with --flavor standard (--llm is {})", llm.precision().as_str());
                return Err(wrong("--head", head.precision().as_str(), expected));
            }
        }
        let parts = [schemes.vision, schemes.projector, schemes.text, schemes.llm, schemes.head];
        if !parts.into_iter().any(in_blocks) {
            let expected = "an export with int8-weights or int4, which have blocks";
            if let Some(size) = self.block_size {
                return Err(wrong("--block-size", size, expected));
            }
            if let Some(level) = self.accuracy_level {
                return Err(wrong("--accuracy-level", level, expected));
            }
        }
        Ok(schemes)
    }

    fn scheme(&self, option: &str, precision: Precision, flavor: GraphFlavor) -> Result<Scheme, ExportError> {
        let block = |bits, default| {
            let block_size = self.block_size.unwrap_or(default);
            if !BLOCK_SIZES.contains(&block_size) {
                return Err(wrong("--block-size", block_size, "16, 32, 64, 128 or 256"));
            }
            let format = |accuracy_level, signed| Ok(Scheme::Blocks(BlockFormat { bits, block_size, accuracy_level, signed }));
            match (flavor, self.accuracy_level) {
                (GraphFlavor::Standard, None) => format(0, true),
                (GraphFlavor::Standard, Some(level)) => {
                    let expected = "no such option with --flavor standard, whose operators leave activations in 32 bits";
                    Err(wrong("--accuracy-level", level, expected))
                }
                (GraphFlavor::Contrib, None) => format(4, false),
                (GraphFlavor::Contrib, Some(level @ (0 | 4))) => format(level, false),
                (GraphFlavor::Contrib, Some(level)) => {
                    Err(wrong("--accuracy-level", level, "0 (activations in 32 bits) or 4 (in 8 bits)"))
                }
            }
        };
        match precision {
            Precision::Fp32 => Ok(Scheme::Fp32),
            Precision::Fp16 => Ok(Scheme::Fp16),
            Precision::Bf16 => Ok(Scheme::Bf16),
            Precision::Int8 => Ok(Scheme::Int8),
            Precision::Int8Weights => block(8, BLOCK_SIZE_8_BITS),
            Precision::Int4 => block(4, BLOCK_SIZE_4_BITS),
            other => Err(wrong(option, other.as_str(), "fp32, fp16, bf16, int8, int8-weights or int4")),
        }
    }
}

impl Schemes {
    /// The scheme of a weight: linear layers have their stage's, everything else has the type of activations.
    pub fn of(&self, name: &str, shape: &[usize]) -> Scheme {
        let plain = match self.compute {
            None => Scheme::Fp32,
            Some(Compute::Fp16) => Scheme::Fp16,
            Some(Compute::Bf16) => Scheme::Bf16,
        };
        // Tables of positions and tokens have two dimensions, too, and are no linear layers.
        if shape.len() != 2 || !name.ends_with(".weight") || name.contains(".embeddings.") || name == EMBEDDING {
            return plain;
        }
        if name == OUTPUT_HEAD {
            return self.head;
        }
        match name.split('.').next() {
            Some("vision" | "visual_projection") => self.vision,
            Some("projector") => self.projector,
            Some("text" | "text_projection") => self.text,
            Some("llm") => self.llm,
            _ => plain,
        }
    }

    /// Whether every weight is as it was before there were precisions.
    pub fn all_fp32(&self) -> bool {
        let parts = [self.vision, self.projector, self.text, self.llm, self.head];
        parts.into_iter().all(|scheme| scheme == Scheme::Fp32) && self.embedding.is_none()
    }

    /// The record for the manifest of a LLaVA package.
    pub fn llava_record(&self) -> Option<Quantisation> {
        let record = Quantisation {
            vision: record(self.vision),
            projector: record(self.projector),
            llm: record(self.llm),
            head: record(self.head),
            embedding: self.embedding.map(precision_of),
            ..Quantisation::default()
        };
        (record != Quantisation::default()).then_some(record)
    }

    /// The record for the manifest of a CLIP package.
    pub fn clip_record(&self) -> Option<Quantisation> {
        let record = Quantisation { vision: record(self.vision), text: record(self.text), ..Quantisation::default() };
        (record != Quantisation::default()).then_some(record)
    }
}

/// The precision of a table by its number type.
fn precision_of(dtype: TensorDtype) -> Precision {
    match dtype {
        TensorDtype::F32 => Precision::Fp32,
        TensorDtype::F16 => Precision::Fp16,
        TensorDtype::Bf16 => Precision::Bf16,
        TensorDtype::I8 => Precision::Int8,
    }
}

fn record(scheme: Scheme) -> Option<WeightQuantisation> {
    let of = |bits, method: &str, format: Option<BlockFormat>| {
        Some(WeightQuantisation {
            scheme: scheme.precision(),
            bits,
            block_size: format.map(|format| format.block_size),
            accuracy_level: format.filter(|format| !format.signed).map(|format| format.accuracy_level),
            method: method.to_owned(),
            smoothing: None,
        })
    };
    match scheme {
        Scheme::Fp32 => None,
        Scheme::Fp16 | Scheme::Bf16 => of(16, "rounded", None),
        Scheme::Int8 => of(8, "round-to-nearest", None),
        Scheme::Blocks(format) if format.bits == 8 => of(8, "round-to-nearest", Some(format)),
        Scheme::Blocks(format) => of(format.bits, "scale-search", Some(format)),
    }
}
