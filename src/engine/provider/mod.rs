//! Execution providers: what runs the graphs, and the settings that it takes.
//!
//! Owns the names of providers and their options, the libraries that they need and where those are looked for, why a
//! provider cannot be used on this machine, and for TensorRT the key of its caches and its shape profiles. A provider that
//! was asked for and cannot be had is an error: nothing here ever falls back to another.

mod device;
mod libraries;
mod places;
mod readiness;
mod register;
mod tensorrt;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::str::FromStr;

pub use device::Devices;
pub use libraries::LibrarySighting;
pub use readiness::{Equipment, GpuReport, ProviderReport};
pub use tensorrt::{Extent, RunExtent, ShapePlan, default_cache};

pub(crate) use readiness::{HOW_TO_INSTALL, not_installed, prepare};
pub(crate) use register::{GraphSource, loading_failed, register};

/// What runs the nodes of a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Provider {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, through ONNX Runtime's CUDA kernels.
    Cuda,
    /// An NVIDIA GPU, through engines that TensorRT builds; what TensorRT does not take runs on CUDA.
    TensorRt,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Cuda, Self::TensorRt];

    /// The name used in run records and on the command line: `cpu`, `cuda` or `tensorrt`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
        }
    }

    /// The name that ONNX Runtime uses, in profiles too.
    pub fn execution_provider(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
            Self::Cuda => "CUDAExecutionProvider",
            Self::TensorRt => "TensorrtExecutionProvider",
        }
    }

    /// Whether it needs a GPU.
    pub fn is_gpu(self) -> bool {
        self != Self::Cpu
    }
}

impl FromStr for Provider {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|provider| provider.as_str() == text)
            .ok_or_else(|| format!("unknown provider {text:?}; there are cpu, cuda and tensorrt"))
    }
}

/// How cuDNN chooses its algorithm for convolutions (`cudnn_conv_algo_search`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConvolutionSearch {
    /// One fixed algorithm: the same in every process.
    #[default]
    Default,
    /// cuDNN's rules of thumb.
    Heuristic,
    /// All are timed at the first run, and the fastest is taken, which may be another in the next process.
    Exhaustive,
}

/// Which kernels attention may use (`sdpa_kernel`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttentionBackend {
    /// ONNX Runtime's own choice.
    #[default]
    Auto,
    /// Flash attention; 16-bit only.
    Flash,
    /// Memory-efficient attention.
    Efficient,
    /// cuDNN's flash attention; 16-bit only.
    Cudnn,
    /// Plain matrix products, unfused.
    Math,
}

/// What TensorRT may compute in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TensorRtPrecision {
    /// As the graph says.
    #[default]
    Graph,
    /// fp16 wherever a layer has such a kernel.
    Fp16,
    /// bf16 wherever a layer has such a kernel.
    Bf16,
}

/// Settings of TensorRT alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorRtOptions {
    /// Folder of engines and timings between processes; `None` keeps none.
    pub cache: Option<PathBuf>,
    /// What layers may compute in.
    pub precision: TensorRtPrecision,
    /// How long the builder looks for fast kernels, 0 to 5.
    pub builder_level: u8,
    /// The shapes that graphs will be run with; `None` for those of a run of which nothing is known.
    pub shapes: Option<ShapePlan>,
}

impl Default for TensorRtOptions {
    fn default() -> Self {
        // TensorRT's own default level.
        Self { cache: None, precision: TensorRtPrecision::Graph, builder_level: 3, shapes: None }
    }
}

/// The provider that was asked for and its settings; all but the provider are without effect on the CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderOptions {
    /// What runs the graphs.
    pub provider: Provider,
    /// Which GPU, as CUDA counts them.
    pub device_index: u32,
    /// Most memory of the provider's arena of each graph; `None` does not limit it.
    pub memory_limit_bytes: Option<u64>,
    /// Lets fp32 products round their factors to 10 bits (TensorFloat-32): faster, and no longer fp32.
    pub use_tf32: bool,
    /// How cuDNN chooses its algorithm for convolutions.
    pub convolution_search: ConvolutionSearch,
    /// Which kernels attention may use.
    pub attention: AttentionBackend,
    /// A folder with the libraries of CUDA, cuDNN and TensorRT, looked in before all others.
    pub library_folder: Option<PathBuf>,
    /// Settings of TensorRT.
    pub tensorrt: TensorRtOptions,
}

impl ProviderOptions {
    /// The provider with these settings, such as `cuda, TF32`.
    pub fn text(&self) -> String {
        let mut words = vec![self.provider.as_str().to_owned()];
        words.extend(self.summary());
        words.join(", ")
    }

    /// What runs the graphs, where it is not the processor: the machine's GPUs and their driver. Looked up in files.
    pub fn device_text(&self) -> Option<String> {
        self.provider.is_gpu().then(|| Devices::look(std::path::Path::new("/"), &[]).text())
    }

    /// The settings that change answers or timings, where they are not the usual ones, in words for records and people.
    pub fn summary(&self) -> Vec<String> {
        if !self.provider.is_gpu() {
            return Vec::new();
        }
        let mut words = Vec::new();
        if self.use_tf32 {
            words.push("TF32");
        }
        match self.convolution_search {
            ConvolutionSearch::Default => {}
            ConvolutionSearch::Heuristic => words.push("cuDNN search heuristic"),
            ConvolutionSearch::Exhaustive => words.push("cuDNN search exhaustive"),
        }
        match self.attention {
            AttentionBackend::Auto => {}
            AttentionBackend::Flash => words.push("attention flash"),
            AttentionBackend::Efficient => words.push("attention efficient"),
            AttentionBackend::Cudnn => words.push("attention cudnn"),
            AttentionBackend::Math => words.push("attention math"),
        }
        let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        if self.provider == Provider::TensorRt {
            match self.tensorrt.precision {
                TensorRtPrecision::Graph => {}
                TensorRtPrecision::Fp16 => words.push("TensorRT in fp16".to_owned()),
                TensorRtPrecision::Bf16 => words.push("TensorRT in bf16".to_owned()),
            }
            if self.tensorrt.builder_level != TensorRtOptions::default().builder_level {
                words.push(format!("TensorRT builder level {}", self.tensorrt.builder_level));
            }
        }
        words
    }
}
