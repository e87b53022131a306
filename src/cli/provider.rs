//! `--provider` and its options: what runs the graphs.

use std::path::PathBuf;

use clap::Args;

use super::schedule::parse_size;
use crate::engine::provider::{
    AttentionBackend, ConvolutionSearch, Provider, ProviderOptions, TensorRtOptions, TensorRtPrecision, default_cache,
};

/// Options of every verb that loads a package.
#[derive(Clone, Debug, Args)]
pub struct ProviderArguments {
    /// What runs the graphs. One that cannot be used ends the program with code 92 and the reasons; nothing runs on another instead
    #[arg(long, global = true, value_enum, default_value = "cpu", help_heading = HEADING)]
    provider: ProviderArgument,
    /// Which GPU, as CUDA counts them [default: 0]
    #[arg(long, global = true, value_name = "N", help_heading = HEADING)]
    device_index: Option<u32>,
    /// Most memory of the GPU that each of a package's graphs may take, such as 20GiB [default: no limit]
    #[arg(long, global = true, value_name = "SIZE", value_parser = parse_size, help_heading = HEADING)]
    device_memory: Option<u64>,
    /// Let products of fp32 numbers round their factors to TF32: faster, and no longer fp32
    #[arg(long, global = true, help_heading = HEADING)]
    tf32: bool,
    /// How cuDNN chooses its algorithm for convolutions [default: default, the same one in every process]
    #[arg(long, global = true, value_enum, value_name = "HOW", help_heading = HEADING)]
    cudnn_search: Option<SearchArgument>,
    /// Which CUDA kernels attention may use [default: auto]
    #[arg(long, global = true, value_enum, value_name = "WHICH", help_heading = HEADING)]
    attention_backend: Option<AttentionArgument>,
    /// A folder with the libraries of CUDA 13, cuDNN 9 and TensorRT 10, looked in before LD_LIBRARY_PATH, the system's folders and
    /// Python's packages
    #[arg(long, global = true, value_name = "DIR", help_heading = HEADING)]
    cuda_libs: Option<PathBuf>,
    /// Keep TensorRT's engines and timings for the next run: a folder, `auto` for one in the user's cache folder, or `off`
    /// [default: auto]
    #[arg(long, global = true, value_name = "DIR|auto|off", help_heading = HEADING)]
    tensorrt_cache: Option<PathBuf>,
    /// What TensorRT's layers may compute in [default: graph]
    #[arg(long, global = true, value_enum, value_name = "WHAT", help_heading = HEADING)]
    tensorrt_precision: Option<PrecisionArgument>,
    /// How long TensorRT looks for fast kernels [default: 3]
    #[arg(long, global = true, value_name = "0-5", value_parser = clap::value_parser!(u8).range(0..=5), help_heading = HEADING)]
    tensorrt_builder_level: Option<u8>,
}

const HEADING: &str = "Execution provider";

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ProviderArgument {
    /// The processor
    Cpu,
    /// An NVIDIA GPU, by CUDA kernels
    Cuda,
    /// An NVIDIA GPU, by engines that TensorRT builds; for packages of --flavor standard
    Tensorrt,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum SearchArgument {
    /// One fixed algorithm
    Default,
    /// By cuDNN's rules of thumb
    Heuristic,
    /// By timing all at the first run; may differ from process to process
    Exhaustive,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum AttentionArgument {
    /// ONNX Runtime's own choice
    Auto,
    /// Flash attention; 16-bit only
    Flash,
    /// Memory-efficient attention
    Efficient,
    /// cuDNN's flash attention; 16-bit only
    Cudnn,
    /// Plain matrix products
    Math,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum PrecisionArgument {
    /// As the graph says
    Graph,
    /// fp16 where a layer has such a kernel
    Fp16,
    /// bf16 where a layer has such a kernel
    Bf16,
}

impl ProviderArguments {
    /// The options of the engine. The error is one of usage: an option that does not belong to the provider that is asked for.
    /// `only_looks` is for verbs that look for GPUs without a provider to run graphs on.
    pub fn resolve(self, only_looks: bool) -> Result<ProviderOptions, String> {
        let provider = match self.provider {
            ProviderArgument::Cpu => Provider::Cpu,
            ProviderArgument::Cuda => Provider::Cuda,
            ProviderArgument::Tensorrt => Provider::TensorRt,
        };
        let given = [
            ("--device-index", self.device_index.is_some(), false),
            ("--device-memory", self.device_memory.is_some(), false),
            ("--tf32", self.tf32, false),
            ("--cudnn-search", self.cudnn_search.is_some(), false),
            ("--attention-backend", self.attention_backend.is_some(), false),
            ("--cuda-libs", self.cuda_libs.is_some() && !only_looks, false),
            ("--tensorrt-cache", self.tensorrt_cache.is_some(), true),
            ("--tensorrt-precision", self.tensorrt_precision.is_some(), true),
            ("--tensorrt-builder-level", self.tensorrt_builder_level.is_some(), true),
        ];
        for (name, is_given, of_tensorrt) in given {
            if is_given && of_tensorrt && provider != Provider::TensorRt {
                return Err(format!("{name} is for --provider tensorrt, found --provider {}", provider.as_str()));
            }
            if is_given && !provider.is_gpu() {
                return Err(format!("{name} is for --provider cuda or tensorrt, found --provider {}", provider.as_str()));
            }
        }
        let cache = match (provider, self.tensorrt_cache) {
            (Provider::TensorRt, None) => default_cache().ok(),
            (_, Some(folder)) => match folder.to_str() {
                Some("off") => None,
                Some("auto") => {
                    Some(default_cache().map_err(|error| format!("--tensorrt-cache auto: no cache folder: {error}"))?)
                }
                _ => Some(folder),
            },
            (_, None) => None,
        };
        Ok(ProviderOptions {
            provider,
            device_index: self.device_index.unwrap_or(0),
            memory_limit_bytes: self.device_memory,
            use_tf32: self.tf32,
            convolution_search: match self.cudnn_search {
                None | Some(SearchArgument::Default) => ConvolutionSearch::Default,
                Some(SearchArgument::Heuristic) => ConvolutionSearch::Heuristic,
                Some(SearchArgument::Exhaustive) => ConvolutionSearch::Exhaustive,
            },
            attention: match self.attention_backend {
                None | Some(AttentionArgument::Auto) => AttentionBackend::Auto,
                Some(AttentionArgument::Flash) => AttentionBackend::Flash,
                Some(AttentionArgument::Efficient) => AttentionBackend::Efficient,
                Some(AttentionArgument::Cudnn) => AttentionBackend::Cudnn,
                Some(AttentionArgument::Math) => AttentionBackend::Math,
            },
            library_folder: self.cuda_libs,
            tensorrt: TensorRtOptions {
                cache,
                precision: match self.tensorrt_precision {
                    None | Some(PrecisionArgument::Graph) => TensorRtPrecision::Graph,
                    Some(PrecisionArgument::Fp16) => TensorRtPrecision::Fp16,
                    Some(PrecisionArgument::Bf16) => TensorRtPrecision::Bf16,
                },
                builder_level: self.tensorrt_builder_level.unwrap_or(TensorRtOptions::default().builder_level),
                shapes: None,
            },
        })
    }
}
