//! Where the buffers of a graph live: in the processor's memory, or on the GPU that runs the graph.
//!
//! What stays on a GPU can be neither read nor written here. And there ONNX Runtime copies an input as it is bound, not as the
//! graph runs, so that inputs that the processor fills are bound after they are filled.

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::Session;
use ort::value::{DynTensor, TensorElementType};

use super::options::EngineOptions;
use super::provider::{Provider, ProviderOptions};
use super::types::EngineError;
use crate::package::{Compute, Package, TensorDtype};

/// Where buffers live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The GPU's number; `None` is the processor's memory.
    gpu: Option<i32>,
}

impl Place {
    /// The processor's memory.
    pub const HOST: Self = Self { gpu: None };

    /// Where a provider keeps what need not leave it.
    pub fn of(options: &ProviderOptions) -> Self {
        let index = i32::try_from(options.device_index).unwrap_or(i32::MAX);
        Self { gpu: options.provider.is_gpu().then_some(index) }
    }

    /// Whether it is the memory of a GPU.
    pub fn is_gpu(self) -> bool {
        self.gpu.is_some()
    }

    /// The memory by ONNX Runtime's name.
    pub fn info(self) -> ort::Result<MemoryInfo<'static>> {
        let device = if self.is_gpu() { AllocationDevice::CUDA } else { AllocationDevice::CPU };
        MemoryInfo::new(device, self.gpu.unwrap_or(0), AllocatorType::Device, MemoryType::Default)
    }

    /// A buffer there for a graph of this session. Its content is undefined.
    pub fn tensor(self, session: &Session, dtype: TensorDtype, shape: &[usize]) -> ort::Result<DynTensor> {
        if self.is_gpu() {
            return DynTensor::new(&Allocator::new(session, self.info()?)?, element_type(dtype), shape);
        }
        DynTensor::new(&Allocator::default(), element_type(dtype), shape)
    }
}

/// ONNX Runtime's name for a number type.
pub(super) fn element_type(dtype: TensorDtype) -> TensorElementType {
    match dtype {
        TensorDtype::F32 => TensorElementType::Float32,
        TensorDtype::F16 => TensorElementType::Float16,
        TensorDtype::Bf16 => TensorElementType::Bfloat16,
        TensorDtype::I8 => TensorElementType::Int8,
    }
}

/// Refuses a package that computes in a number type for which the provider has no kernels, before its weights are read.
pub(super) fn check_compute(package: &Package, options: &EngineOptions) -> Result<(), EngineError> {
    let manifest = &package.manifest;
    let stages = [
        (&manifest.vision.graph, manifest.vision.compute),
        (&manifest.projector.graph, manifest.projector.compute),
        (&manifest.llm.graph, manifest.llm.compute),
    ];
    let refuse =
        |graph: &str, message: &str| Err(EngineError::Graph { graph: package.root.join(graph), message: message.to_owned() });
    match options.provider.provider {
        Provider::Cpu => match stages.into_iter().find(|(_, compute)| *compute == Some(Compute::Bf16)) {
            Some((graph, _)) => refuse(
                graph,
                "computes in bf16, for which ONNX Runtime has no kernels on a processor: run it with --provider cuda, or export the \
                 checkpoint without --compute or with --compute fp16",
            ),
            None => Ok(()),
        },
        provider @ (Provider::Cuda | Provider::TensorRt)
            if manifest.llm.flavor == "contrib" && manifest.llm.compute.is_none() =>
        {
            Err(EngineError::Provider {
                provider: provider.as_str(),
                reason: format!(
                    "{} computes in 32 bits, for which GPUs have no kernel of GroupQueryAttention: export the checkpoint with --compute \
                     fp16 or --compute bf16, or with --flavor standard",
                    package.root.join(&manifest.llm.graph).display()
                ),
            })
        }
        Provider::Cuda | Provider::TensorRt => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_live_where_the_graph_runs() {
        let place = |provider, device_index| Place::of(&ProviderOptions { provider, device_index, ..ProviderOptions::default() });
        assert!(!place(Provider::Cpu, 3).is_gpu(), "the number counts GPUs");
        assert_eq!(place(Provider::Cuda, 3).gpu, Some(3));
        assert_eq!(place(Provider::TensorRt, 0).gpu, Some(0));
    }

    #[test]
    fn number_types_without_kernels_are_refused_by_name() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engine/tiny");
        let mut package = Package::open(&root).unwrap();
        let mut check = |compute, flavor: &str, provider| {
            package.manifest.llm.compute = compute;
            package.manifest.llm.flavor = flavor.to_owned();
            let provider = ProviderOptions { provider, ..ProviderOptions::default() };
            let options = EngineOptions { provider, ..EngineOptions::default() };
            check_compute(&package, &options).err().map(|error| error.to_string())
        };
        assert_eq!(check(None, "contrib", Provider::Cpu), None);
        assert_eq!(check(Some(Compute::Fp16), "contrib", Provider::Cpu), None);
        let text = check(Some(Compute::Bf16), "contrib", Provider::Cpu).unwrap();
        assert!(text.contains("llm.onnx: computes in bf16") && text.contains("--compute fp16"), "{text}");
        for provider in [Provider::Cuda, Provider::TensorRt] {
            assert_eq!(check(Some(Compute::Bf16), "contrib", provider), None);
            assert_eq!(check(None, "standard", provider), None);
            let text = check(None, "contrib", provider).unwrap();
            assert!(text.contains("--compute fp16") && text.contains("--flavor standard"), "{text}");
        }
    }
}
