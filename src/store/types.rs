//! What a run directory holds.

use serde::{Deserialize, Serialize};

use super::execution::{DeterminismClass, Execution};
use crate::benchmark::{Contributions, MetricSpec, Reference};

/// The package that was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// Short name for tables.
    pub name: String,
    /// Identity hash of the package (SHA-256 of its manifest), hexadecimal.
    pub identity: String,
    /// Precision of vision, projector and language model, such as `fp32/fp32/fp32`.
    pub precision: String,
    /// Prompt template, such as `vicuna_v1` or `chat-template`.
    pub template: String,
    /// Image recipe in a few words, such as `pad 64px bicubic`.
    pub image_recipe: String,
    /// Bytes of the weights that the graphs use, as they lie on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_bytes: Option<u64>,
    /// How weights in fewer than 32 bits are stored, a line for each part; empty where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quantisation: Vec<String>,
    /// Operators of the graphs where they are not ONNX Runtime's fused ones: `standard`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<String>,
}

impl ModelIdentity {
    /// The precision, with how weights in fewer bits are stored and which operators compute with them.
    pub fn precision_text(&self) -> String {
        let flavor = self.flavor.as_ref().map(|flavor| format!("{flavor} operators"));
        let parts: Vec<&str> = self.quantisation.iter().chain(&flavor).map(String::as_str).collect();
        match parts.as_slice() {
            [] => self.precision.clone(),
            parts => format!("{} ({})", self.precision, parts.join("; ")),
        }
    }
}

/// The benchmark that was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchmarkIdentity {
    /// Name, such as `pope`.
    pub name: String,
    /// Title for people.
    pub title: String,
    /// Scorer and its version, such as `vqa-official/1`.
    pub scorer: String,
    /// SHA-256 over keys, questions, prompts and references of the selected samples, in order.
    pub samples_sha256: String,
    /// Samples selected.
    pub samples: usize,
    /// Samples in the whole benchmark.
    pub samples_available: usize,
    /// Folder of the data files, so that reports can show the images.
    pub data_root: String,
    /// Metrics, primary first.
    pub metrics: Vec<MetricSpec>,
    /// About the data, where there is more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataFacts>,
}

/// In which form the data were read, and which of their rows are no samples.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFacts {
    /// Name of the form.
    pub form: String,
    /// Rows that could not be read.
    #[serde(default)]
    pub broken_rows: usize,
    /// The first of them: file, row, field, what was expected and what was found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<String>,
}

/// Settings that change answers or timings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunSettings {
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
    /// Execution provider: `cpu`, `cuda` or `tensorrt`.
    pub provider: String,
    /// Settings of the provider that change answers or timings, where they are not the usual ones, such as `TF32`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub provider_options: Vec<String>,
    /// Intra-op threads of ONNX Runtime.
    pub intra_op_threads: usize,
    /// How questions are run: `packed-tree`, `across-images`, `shared-prefix` or `one-by-one`.
    pub scheduling: String,
    /// Why they are run so, where the program decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling_reason: Option<String>,
    /// SHA-256, hexadecimal, of an example question as the benchmark and the package together ask it: equal if and only if
    /// neither the benchmark's prompt nor the package's template differ. Not in runs that ask nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_sha256: Option<String>,
    /// How answers are chosen among given ones, such as `likelihood of letters, sum`; `None` where they are generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answering: Option<String>,
    /// Whether the weights stayed mapped files instead of being packed (`--low-memory`); the last bits of logits may differ.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub low_memory: bool,
    /// Whether answers end as soon as they decide their score (`stop_when_decided`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stop_when_decided: bool,
}

impl RunSettings {
    /// The execution provider with its settings, such as `cuda, TF32`.
    pub fn provider_text(&self) -> String {
        let mut text = self.provider.clone();
        for option in &self.provider_options {
            text.push_str(", ");
            text.push_str(option);
        }
        text
    }

    /// How questions are run and, where it is recorded, why.
    pub fn scheduling_text(&self) -> String {
        match &self.scheduling_reason {
            None => self.scheduling.clone(),
            Some(reason) => format!("{}: {reason}", self.scheduling),
        }
    }
}

/// The machine and libraries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Version of this program.
    pub program_version: String,
    /// ONNX Runtime version.
    pub runtime_version: String,
    /// SHA-256 of the ONNX Runtime library.
    pub runtime_sha256: String,
    /// Operating system and architecture.
    pub platform: String,
    /// Processor name.
    pub processor: String,
    /// Physical cores.
    pub physical_cores: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

/// The memory that a run was planned with, in bytes. Estimates, made before the first question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPlan {
    /// Most that the key-value caches may take: `--kv-memory`, or a share of what was free.
    pub kv_memory_bytes: u64,
    /// Key-value caches, as planned.
    pub cache_bytes: u64,
    /// Weights, as they are held.
    pub weights_bytes: u64,
    /// Logits of a run.
    pub logits_bytes: u64,
    /// Prepared pictures.
    pub image_bytes: u64,
    /// Sequences that decode together across images; 1 where each image decodes by itself.
    pub slots: usize,
}

/// The header of a run, `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunHeader {
    /// Format version of the run directory, now 1.
    pub format: u32,
    /// When the run was started, RFC 3339 in UTC.
    pub started: String,
    /// A name under which the run's maker wants to find it again, such as `release-1.2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Commit of the code or checkpoint that was run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The package.
    pub model: ModelIdentity,
    /// The benchmark.
    pub benchmark: BenchmarkIdentity,
    /// Settings.
    pub settings: RunSettings,
    /// Machine and libraries.
    pub environment: Environment,
    /// The memory that it was planned with, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryPlan>,
    /// What ran the graphs; absent in older runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution: Option<Execution>,
}

/// The provider of a run whose answers were made elsewhere.
pub const PREDICTIONS_PROVIDER: &str = "predictions";

impl RunHeader {
    /// Whether the answers were made elsewhere and read from a file: then prompts, settings and machine are not known.
    pub fn is_of_predictions(&self) -> bool {
        self.settings.provider == PREDICTIONS_PROVIDER
    }

    /// How far the answers would come again: as recorded, or as the provider of an older run says. `None` where it is not
    /// known.
    pub fn determinism(&self) -> Option<DeterminismClass> {
        match &self.execution {
            Some(execution) => Some(execution.determinism),
            None => DeterminismClass::of_provider(&self.settings.provider),
        }
    }
}

/// Why a sample has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Machine-readable kind: `image`, `prompt`, `non_finite`, `too_long`, `memory`, `engine`.
    pub kind: String,
    /// For people.
    pub message: String,
}

/// Milliseconds spent on a whole image group; the same for every sample of the group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupTimings {
    /// Samples in the group.
    pub questions: usize,
    /// Decoding and preprocessing the image files.
    pub image_ms: f64,
    /// Vision encoder.
    pub vision_ms: f64,
    /// Projector.
    pub projector_ms: f64,
    /// Prefill, shared prefix and question suffixes.
    pub prefill_ms: f64,
    /// All decode steps.
    pub decode_ms: f64,
    /// Tokens prefilled, shared prefix counted once.
    pub prefill_tokens: usize,
    /// Decode steps (each advances every unfinished question of the group).
    pub decode_steps: usize,
    /// Most memory that the process held since the package was opened, in bytes, as of the end of the group; absent where the
    /// system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// How long the engine stood still because the images of this group, or the prompts about them, were not ready; absent in older
    /// runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_wait_ms: Option<f64>,
    /// The program's own share: from the end of the engine's work before this group to the begin of its work on it, waiting for images
    /// aside. Gathering requests and handing answers on; prompts are made ahead, scoring and storing run beside the engine, and both
    /// count only where they hold it up. Absent in older runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harness_ms: Option<f64>,
}

/// Timings of one sample. `group` is shared by the questions of one image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SampleTimings {
    /// From the start of the group (image decoding included) to this sample's first token, in milliseconds.
    pub ttft_ms: f64,
    /// Mean time per output token after the first, in milliseconds; `None` for answers of one token.
    pub tpot_ms: Option<f64>,
    /// The group's stages.
    pub group: GroupTimings,
}

/// One line of the sample log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleRecord {
    /// Sample key.
    pub key: String,
    /// Cluster key.
    pub cluster: String,
    /// Category, if the benchmark has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Images: files, relative to the benchmark's data folder where they lie below it, or places in data files
    /// (`file#row=12&column=image`).
    pub images: Vec<String>,
    /// Question as the data file gives it.
    pub question: String,
    /// Prompt as rendered, image marks included.
    pub prompt: String,
    /// SHA-256 of `prompt`, hexadecimal.
    pub prompt_sha256: String,
    /// Prompt length in tokens, image rows included.
    pub prompt_tokens: usize,
    /// The reference.
    pub reference: Reference,
    /// Generated token ids, end-of-sequence excluded.
    pub token_ids: Vec<u32>,
    /// Raw answer text.
    pub text: String,
    /// Sum of the log-probabilities of the generated tokens.
    pub log_probability: f64,
    /// Why generation ended: `eos`, `stop_string`, `max_new_tokens`, `decided`; `likelihood` where a given answer was chosen; empty
    /// for failed samples.
    pub stop_reason: String,
    /// The answer as the scorer understood it.
    pub parsed: Option<String>,
    /// Headline score in 0..=1; `None` for failed samples.
    pub score: Option<f64>,
    /// Contributions by metric name; empty for failed samples.
    pub contributions: Contributions,
    /// Scorer-specific facts.
    #[serde(default)]
    pub detail: serde_json::Value,
    /// Why there is no answer, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Timings.
    pub timings: SampleTimings,
}
