//! What can be exported, as data for tables.

use crate::package::SourceFormat;

/// One row of the table of what runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupportedModel {
    /// Version of LLaVA, as `source.version` of a manifest names it.
    pub version: &'static str,
    /// Format of its checkpoints.
    pub format: SourceFormat,
    /// Classes of its checkpoints, as `architectures` names them.
    pub classes: &'static str,
    /// Vision towers.
    pub tower: &'static str,
    /// Projectors.
    pub projector: &'static str,
    /// Language models.
    pub language_model: &'static str,
    /// How images become rows of the prompt.
    pub images: &'static str,
    /// Names of random checkpoints of `tests/parity/configurations.py` whose answers equal the reference's.
    pub evidence: &'static [&'static str],
    /// Names of those that `cargo test` asks from a record, in `tests/parity/recorded`.
    pub recorded: &'static [&'static str],
}

/// Every kind of LLaVA checkpoint that [`export`](super::export) accepts, oldest version first.
pub fn supported() -> &'static [SupportedModel] {
    &SUPPORTED
}

/// Something besides a LLaVA checkpoint that the program takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherSource {
    /// What it is.
    pub what: &'static str,
    /// What is done with it, and its limits.
    pub how: &'static str,
    /// Files of the repository that show it, the tests that run without Python first.
    pub evidence: &'static [&'static str],
}

/// Everything else that can be exported or run.
pub fn other_sources() -> &'static [OtherSource] {
    &OTHER_SOURCES
}

const OTHER_SOURCES: [OtherSource; 9] = [
    OtherSource {
        what: "CLIP (CLIPModel)",
        how: "text encoder and projections for zero-shot classification and retrieval",
        evidence: &["tests/clip.rs", "tests/clip_benchmarks.rs", "tests/parity/clip_parity.py"],
    },
    OtherSource {
        what: "torch files (*.bin)",
        how: "weights of any checkpoint above; a pickle is read, never run",
        evidence: &["tests/checkpoints.rs", "tests/damaged.rs"],
    },
    OtherSource { what: "delta weights", how: "added to --base as apply_delta.py does", evidence: &["tests/checkpoints.rs"] },
    OtherSource {
        what: "LoRA adapters",
        how: "merged into --base as PEFT does; DoRA and others refused",
        evidence: &["tests/checkpoints.rs"],
    },
    OtherSource {
        what: "a projector alone (mm_projector.bin)",
        how: "completed by --base and --vision-tower",
        evidence: &["tests/checkpoints.rs"],
    },
    OtherSource {
        what: "tokenizer.model (SentencePiece)",
        how: "written as a tokenizer.json with the slow tokenizer's tokens",
        evidence: &["src/export/sentencepiece/mod.rs", "tests/fixtures/sentencepiece"],
    },
    OtherSource {
        what: "hf://org/name[@revision]",
        how: "from the local cache; fetched with --download",
        evidence: &["tests/hub.rs"],
    },
    OtherSource {
        what: "packages of transformers.js/Optimum",
        how: "run as they are, LLaVA-1.5 kind, every precision that the runtime has kernels for",
        evidence: &["tests/foreign.rs"],
    },
    OtherSource {
        what: "packages of onnxruntime-genai and mobius",
        how: "run as they are, LLaVA-1.5 kind",
        evidence: &["tests/foreign.rs"],
    },
];

const CLIP: &str = "CLIP, any size, quick_gelu or gelu";
const SIGLIP: &str = "SigLIP";
const EITHER: &str = "CLIP or SigLIP";
const LLAMA: &str = "LLaMA, Vicuna, LLaMA-2";
const ALL: &str = "LLaMA, Vicuna, LLaMA-2, LLaMA-3, Yi, Mistral, Qwen1.5, Qwen2";
const ORIGINAL_CLASSES: &str = "LlavaLlamaForCausalLM, LlavaMistralForCausalLM, LlavaQwenForCausalLM";
const ORIGINAL_PROJECTORS: &str = "linear, mlpNx_gelu, identity";

const SUPPORTED: [SupportedModel; 12] = [
    SupportedModel {
        version: "v0",
        format: SourceFormat::Original,
        classes: "LlavaLlamaForCausalLM",
        tower: CLIP,
        projector: "linear",
        language_model: LLAMA,
        images: "centre crop, after the question between <im_start> and <im_end>",
        evidence: &["original-v0"],
        recorded: &["recorded-original-v0"],
    },
    SupportedModel {
        version: "v1",
        format: SourceFormat::Original,
        classes: "LlavaLlamaForCausalLM",
        tower: CLIP,
        projector: ORIGINAL_PROJECTORS,
        language_model: LLAMA,
        images: "centre crop or padded to a square",
        evidence: &["original-linear", "original-llama-2", "original-mlp1x", "original-identity"],
        recorded: &["recorded-original"],
    },
    SupportedModel {
        version: "Med v1.0",
        format: SourceFormat::Original,
        classes: "LlavaLlamaForCausalLM",
        tower: CLIP,
        projector: "linear",
        language_model: LLAMA,
        images: "centre crop, after the question between <im_start> and <im_end>",
        evidence: &["original-med-v1.0"],
        recorded: &["recorded-original-v0"],
    },
    SupportedModel {
        version: "1.5",
        format: SourceFormat::HuggingFace,
        classes: "LlavaForConditionalGeneration",
        tower: CLIP,
        projector: "mlp2x_gelu",
        language_model: ALL,
        images: "centre crop or padded to a square; several in a prompt",
        evidence: &[
            "hf-fp32",
            "hf4-fp32",
            "hf-nested-bf16",
            "hf-fp16-sharded",
            "hf-several-images",
            "hf-mistral-window",
            "hf-qwen2",
            "hf-llama3",
            "hf-yi",
            "hf-yarn",
            "hf-longrope",
        ],
        recorded: &["recorded-hf", "recorded-mistral-window", "recorded-yarn"],
    },
    SupportedModel {
        version: "1.5",
        format: SourceFormat::Original,
        classes: ORIGINAL_CLASSES,
        tower: CLIP,
        projector: ORIGINAL_PROJECTORS,
        language_model: ALL,
        images: "centre crop or padded to a square; several in a prompt",
        evidence: &["original-mlp-pad", "original-inside", "original-beside", "original-mlp3x", "original-mistral"],
        recorded: &["recorded-original"],
    },
    SupportedModel {
        version: "Med v1.5",
        format: SourceFormat::Original,
        classes: "LlavaMistralForCausalLM",
        tower: CLIP,
        projector: "mlp2x_gelu",
        language_model: "Mistral",
        images: "padded to a square",
        evidence: &["original-med-v1.5"],
        recorded: &["recorded-mistral-window"],
    },
    SupportedModel {
        version: "NeXT",
        format: SourceFormat::HuggingFace,
        classes: "LlavaNextForConditionalGeneration",
        tower: EITHER,
        projector: "mlp2x_gelu",
        language_model: ALL,
        images: "any-res tiles, unpadded, with newlines; several in a prompt",
        evidence: &[
            "next-vicuna",
            "next4-mistral",
            "next-mistral-window",
            "next-yi",
            "next-llama3",
            "next-qwen2",
            "next-siglip",
            "next-two-images",
            "next-3-by-3",
        ],
        recorded: &["recorded-next"],
    },
    SupportedModel {
        version: "NeXT",
        format: SourceFormat::Original,
        classes: ORIGINAL_CLASSES,
        tower: EITHER,
        projector: ORIGINAL_PROJECTORS,
        language_model: ALL,
        images: "any-res tiles, merged flat, spatial, spatial_unpad, with nobase or spatial_maxpool2x2; several in a prompt",
        evidence: &[
            "original-next-vicuna",
            "original-next-mistral",
            "original-next-yi",
            "original-next-llama3",
            "original-next-two-images",
            "original-next-flat",
            "original-next-spatial",
            "original-next-nobase",
            "original-next-maxpool",
        ],
        recorded: &["recorded-original-next"],
    },
    SupportedModel {
        version: "Interleave",
        format: SourceFormat::HuggingFace,
        classes: "LlavaForConditionalGeneration",
        tower: SIGLIP,
        projector: "mlp2x_gelu",
        language_model: ALL,
        images: "resized to a square; several in a prompt",
        evidence: &["interleave-qwen2", "interleave-two-images", "interleave-three-images", "siglip-llama-sharded"],
        recorded: &["recorded-interleave"],
    },
    SupportedModel {
        version: "Interleave",
        format: SourceFormat::Original,
        classes: ORIGINAL_CLASSES,
        tower: SIGLIP,
        projector: ORIGINAL_PROJECTORS,
        language_model: ALL,
        images: "resized to a square or padded to one; several in a prompt",
        evidence: &["original-siglip-qwen2", "original-siglip-inside"],
        recorded: &["recorded-original-onevision"],
    },
    SupportedModel {
        version: "OneVision",
        format: SourceFormat::HuggingFace,
        classes: "LlavaOnevisionForConditionalGeneration",
        tower: EITHER,
        projector: "mlp2x_gelu",
        language_model: ALL,
        images: "any-res tiles scaled down to anyres_max_N; one of several is padded to one tile",
        evidence: &["onevision", "onevision4-tied", "onevision-two-images", "onevision-max-4", "onevision-clip"],
        recorded: &["recorded-onevision", "recorded-onevision-images"],
    },
    SupportedModel {
        version: "OneVision",
        format: SourceFormat::Original,
        classes: ORIGINAL_CLASSES,
        tower: EITHER,
        projector: ORIGINAL_PROJECTORS,
        language_model: ALL,
        images: "any-res tiles scaled down to anyres_max_N; one of several is padded to one tile",
        evidence: &["original-onevision", "original-onevision-max-3", "original-onevision-two-images"],
        recorded: &["recorded-original-onevision"],
    },
];

#[cfg(test)]
mod tests {
    use super::super::families::Version;
    use super::*;

    #[test]
    fn every_other_source_has_its_evidence() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        for source in other_sources() {
            assert!(!source.evidence.is_empty(), "{source:?}");
            assert!(source.evidence.iter().all(|file| root.join(file).exists()), "{source:?}");
        }
    }

    #[test]
    fn every_row_has_its_evidence() {
        let configurations = include_str!("../../tests/parity/configurations.py");
        for row in supported() {
            assert!(!row.evidence.is_empty() && !row.recorded.is_empty(), "{row:?}");
            for name in row.evidence.iter().chain(row.recorded) {
                assert!(configurations.contains(&format!("\"{name}\"")), "{name} is no configuration");
            }
        }
        let versions = [
            Version::V0,
            Version::V1,
            Version::V1_5,
            Version::Next,
            Version::OneVision,
            Version::Interleave,
            Version::MedV1_0,
            Version::MedV1_5,
        ];
        for version in versions {
            assert!(supported().iter().any(|row| row.version == version.name()), "{} is not listed", version.name());
        }
    }
}
