//! Handing a provider with its settings to ONNX Runtime. A provider that cannot be registered is an error.

use std::path::Path;

use ort::ep::{ArbitrarilyConfigurableExecutionProvider, CUDA, ExecutionProviderDispatch, TensorRT};
use ort::session::builder::SessionBuilder;

use super::tensorrt;
use super::{AttentionBackend, ConvolutionSearch, Provider, ProviderOptions, TensorRtPrecision};
use crate::engine::runtime::Loaded;
use crate::engine::types::EngineError;

/// A graph that is about to be loaded.
pub(crate) struct GraphSource<'a> {
    /// The package folder.
    pub root: &'a Path,
    /// Its file in the package.
    pub name: &'a str,
    /// The graph.
    pub bytes: &'a [u8],
}

/// Settings as ONNX Runtime names them, in the order in which they are given.
pub(super) type Settings = Vec<(&'static str, String)>;

/// `builder` with the provider of `options` in front of the processor's. `graph` is what will be loaded; `None` for one that TensorRT
/// must not be asked to run, because its shapes are not known, or for one whose shapes are all fixed.
pub(crate) fn register(
    builder: SessionBuilder,
    runtime: &Loaded,
    options: &ProviderOptions,
    graph: Option<&GraphSource<'_>>,
) -> Result<SessionBuilder, EngineError> {
    let failed = |message: &str| EngineError::Provider { provider: options.provider.as_str(), reason: message.to_owned() };
    let providers = match options.provider {
        Provider::TensorRt if !options.use_tf32 && !tf32_is_off() => return Err(failed(TF32)),
        Provider::Cpu => return Ok(builder),
        Provider::Cuda => vec![cuda(options)],
        Provider::TensorRt => {
            let settings = match graph {
                Some(graph) => tensorrt::settings(runtime, options, graph)?,
                None => tensorrt_settings(options, None),
            };
            // What TensorRT does not take runs on CUDA.
            vec![configured(TensorRT::default(), settings), cuda(options)]
        }
    };
    builder.with_execution_providers(providers).map_err(|error| failed(error.message()))
}

/// Why fp32 would not be fp32. ONNX Runtime has no setting for it that reaches TensorRT.
const TF32: &str = "TensorRT rounds the factors of fp32 products (TF32) unless it is told not to before it is loaded: set \
                    NVIDIA_TF32_OVERRIDE=0 in the environment, or allow it with --tf32";

fn tf32_is_off() -> bool {
    std::env::var_os("NVIDIA_TF32_OVERRIDE").is_some_and(|value| value == "0")
}

fn cuda(options: &ProviderOptions) -> ExecutionProviderDispatch {
    configured(CUDA::default(), cuda_settings(options))
}

fn configured<P>(mut provider: P, settings: Settings) -> ExecutionProviderDispatch
where
    P: ArbitrarilyConfigurableExecutionProvider + Into<ExecutionProviderDispatch>,
{
    for (key, value) in settings {
        provider.options_mut().set(key, value);
    }
    // Without this, ONNX Runtime's binding would log the error and run on the processor.
    let dispatch: ExecutionProviderDispatch = provider.into();
    dispatch.error_on_failure()
}

fn flag(on: bool) -> String {
    u8::from(on).to_string()
}

/// Settings of the CUDA provider.
pub(super) fn cuda_settings(options: &ProviderOptions) -> Settings {
    let mut settings = vec![
        ("device_id", options.device_index.to_string()),
        ("use_tf32", flag(options.use_tf32)),
        ("cudnn_conv_algo_search", convolution_search(options.convolution_search).to_owned()),
        // Doubling would take up to twice what is needed, and a limit would be met that much earlier.
        ("arena_extend_strategy", "kSameAsRequested".to_owned()),
        // The norms of the fused operators in 32 bits, as without the fusion.
        ("enable_skip_layer_norm_strict_mode", flag(true)),
    ];
    if let Some(bytes) = options.memory_limit_bytes {
        settings.push(("gpu_mem_limit", bytes.to_string()));
    }
    if let Some(kernel) = attention_kernel(options.attention) {
        settings.push(("sdpa_kernel", kernel.to_string()));
    }
    settings
}

/// Names of `OrtCudnnConvAlgoSearch`.
fn convolution_search(search: ConvolutionSearch) -> &'static str {
    match search {
        ConvolutionSearch::Default => "DEFAULT",
        ConvolutionSearch::Heuristic => "HEURISTIC",
        ConvolutionSearch::Exhaustive => "EXHAUSTIVE",
    }
}

/// Bits of ONNX Runtime's `AttentionBackend`.
fn attention_kernel(backend: AttentionBackend) -> Option<u32> {
    match backend {
        AttentionBackend::Auto => None,
        AttentionBackend::Flash => Some(1),
        AttentionBackend::Efficient => Some(1 << 1),
        AttentionBackend::Cudnn => Some(1 << 3),
        AttentionBackend::Math => Some(1 << 4),
    }
}

/// Settings of the TensorRT provider but for shapes; `cache` is the folder of this graph's engines and timings.
pub(super) fn tensorrt_settings(options: &ProviderOptions, cache: Option<&str>) -> Settings {
    let tensorrt = &options.tensorrt;
    let mut settings = vec![
        ("device_id", options.device_index.to_string()),
        ("trt_fp16_enable", flag(tensorrt.precision == TensorRtPrecision::Fp16)),
        ("trt_bf16_enable", flag(tensorrt.precision == TensorRtPrecision::Bf16)),
        // Norms overflow in fp16.
        ("trt_layer_norm_fp32_fallback", flag(tensorrt.precision == TensorRtPrecision::Fp16)),
        ("trt_builder_optimization_level", tensorrt.builder_level.to_string()),
        // Weights are passed beside the graph, which a message of protobuf could not hold beyond 2 GiB.
        ("trt_load_user_initializer", flag(true)),
    ];
    if let Some(bytes) = options.memory_limit_bytes {
        settings.push(("trt_max_workspace_size", bytes.to_string()));
    }
    if let Some(folder) = cache {
        settings.extend([
            ("trt_engine_cache_enable", flag(true)),
            ("trt_engine_cache_path", folder.to_owned()),
            ("trt_timing_cache_enable", flag(true)),
            ("trt_timing_cache_path", folder.to_owned()),
        ]);
    }
    settings
}

/// The error of loading a graph. What ONNX Runtime says of the GPU and its driver is about the machine and not about the graph.
pub(crate) fn loading_failed(doing: &str, provider: Provider, message: &str) -> EngineError {
    const OF_THE_MACHINE: [&str; 7] = [
        "CUDA driver version is insufficient",
        "no CUDA-capable device",
        "Invalid device ID",
        "no kernel image is available",
        "unsupported display driver",
        "CUDA unknown error",
        "system not yet initialized",
    ];
    if provider.is_gpu() && OF_THE_MACHINE.iter().any(|words| message.contains(words)) {
        return EngineError::Provider { provider: provider.as_str(), reason: format!("{doing}: {message}") };
    }
    EngineError::Runtime { doing: doing.to_owned(), message: message.to_owned() }
}
