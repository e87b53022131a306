//! How an engine is set up.

use std::path::PathBuf;

use super::placement::PlacementOptions;
use super::provider::ProviderOptions;
use super::runtime::RuntimeOptions;
use super::runtime::doctor::physical_cores;

/// How the questions of a group run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheduling {
    /// The shared prefix once, then all suffixes packed into one run, then all answers decoded together.
    #[default]
    PackedTree,
    /// Every question from the image on, alone: nothing is shared. The reference that the tree is tested against; each
    /// answer's `first_token_ms` counts from the start of its own question.
    OneByOne,
    /// As the packed tree up to the first token, but then the questions of several images decode together, each with its own
    /// rows of the cache, joining and leaving at any step. Packages whose graph has a batch of one cannot.
    AcrossImages,
}

impl Scheduling {
    /// The name used in run records and on the command line: `packed-tree`, `one-by-one` or `across-images`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PackedTree => "packed-tree",
            Self::OneByOne => "one-by-one",
            Self::AcrossImages => "across-images",
        }
    }
}

/// Settings of an [`OrtEngine`](super::OrtEngine).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// An ONNX Runtime library to use instead of looking for one.
    pub ort_library: Option<PathBuf>,
    /// Threads of one operator, at least 1; all three stages use as many, one stage at a time. Default: physical cores.
    pub intra_op_threads: usize,
    /// How the questions of a group run.
    pub scheduling: Scheduling,
    /// Let ONNX Runtime copy weights into its own packed layout at load: faster prefill, at the price of load time and of a
    /// private copy of the weights in memory, which takes the place of the mapped files. Without it the weights stay mapped files,
    /// which processes share and the system may drop, and the last bits of logits may differ.
    pub prepack: bool,
    /// Folder in which weights are kept packed between processes; `None` keeps none. Without effect unless `prepack`, on graphs that
    /// other programs wrote, and on results, which are the same to the bit.
    pub prepacked_cache: Option<PathBuf>,
    /// Most suffix tokens that run as one pack; a larger group runs as several packs over the same prefix. Bounds the
    /// memory of attention scores, `heads × packed tokens × total tokens × 4` bytes, and the work spent on hidden pairs.
    pub max_packed_tokens: usize,
    /// What runs the graphs.
    pub provider: ProviderOptions,
    /// How much of each graph must run there.
    pub placement: PlacementOptions,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            ort_library: None,
            intra_op_threads: physical_cores(),
            scheduling: Scheduling::PackedTree,
            prepack: true,
            prepacked_cache: None,
            max_packed_tokens: 1024,
            provider: ProviderOptions::default(),
            placement: PlacementOptions::default(),
        }
    }
}

impl EngineOptions {
    /// Which ONNX Runtime these need.
    pub fn runtime(&self) -> RuntimeOptions {
        RuntimeOptions {
            library: self.ort_library.clone(),
            provider: self.provider.provider,
            cuda_libraries: self.provider.library_folder.clone(),
            ..RuntimeOptions::default()
        }
    }
}
