//! What this machine offers, for `doctor` and for run records.

use std::path::PathBuf;

use ort::session::Session;
use serde::Serialize;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use super::super::placement::{self, GraphPlacement};
use super::super::provider::GpuReport;
use super::super::session::runtime_error;
use super::super::types::EngineError;
use super::{RuntimeInfo, RuntimeOptions, load, locate};

/// Facts about the machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// Operating system and its version.
    pub operating_system: String,
    /// Processor architecture.
    pub architecture: String,
    /// Processor model.
    pub cpu: String,
    /// Instruction sets that matter to speed, as the processor reports them.
    pub cpu_features: Vec<String>,
    /// Physical cores that this process may use; the default number of threads.
    pub physical_cores: usize,
    /// Logical cores that this process may use.
    pub logical_cores: usize,
    /// Memory in bytes, the limit of a container included.
    pub memory_total_bytes: u64,
    /// Memory free for new work, in bytes.
    pub memory_available_bytes: u64,
}

/// Facts about the machine and its ONNX Runtime.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DoctorReport {
    /// The machine.
    pub machine: Machine,
    /// Where a fetched ONNX Runtime is kept; `None` if there is no cache folder.
    pub cache: Option<PathBuf>,
    /// The runtime, if it could be loaded.
    pub runtime: Option<RuntimeInfo>,
    /// Why it could not.
    pub runtime_error: Option<String>,
    /// Execution providers that this runtime has devices for and on which a session has run.
    pub execution_providers: Vec<String>,
    /// What ran the nodes of that session, for each of them.
    pub placement: Vec<GraphPlacement>,
    /// What GPUs could be used with, and what is missing.
    pub gpu: GpuReport,
}

impl Machine {
    /// Looks at this machine.
    pub fn look() -> Self {
        let refresh = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()).with_memory(MemoryRefreshKind::everything());
        let system = System::new_with_specifics(refresh).ok();
        let (mut memory_total_bytes, mut memory_available_bytes) =
            system.as_ref().map_or((0, 0), |system| (system.total_memory(), system.available_memory()));
        if let Some(limits) = system.as_ref().and_then(System::cgroup_limits) {
            memory_total_bytes = memory_total_bytes.min(limits.total_memory);
            memory_available_bytes = memory_available_bytes.min(limits.free_memory);
        }
        Self {
            operating_system: System::long_os_version().unwrap_or_else(|_| std::env::consts::OS.to_owned()),
            architecture: std::env::consts::ARCH.to_owned(),
            cpu: system
                .as_ref()
                .and_then(|system| system.cpus().first())
                .map(|cpu| cpu.brand().trim().to_owned())
                .unwrap_or_default(),
            cpu_features: cpu_features(),
            physical_cores: physical_cores(),
            logical_cores: logical_cores(),
            memory_total_bytes,
            memory_available_bytes,
        }
    }
}

/// Looks at the machine, and loads ONNX Runtime as `options` say. A missing runtime is a finding, not an error.
pub fn doctor(options: &RuntimeOptions, progress: &mut dyn FnMut(&str)) -> DoctorReport {
    let mut placement = Vec::new();
    let found = load(options, progress).and_then(|loaded| {
        placement = usable_providers(loaded)?;
        Ok(loaded.info.clone())
    });
    let (runtime, runtime_error) = match found {
        Ok(info) => (Some(info), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let execution_providers = placement.iter().map(|placed| placed.provider.clone()).collect();
    let gpu = GpuReport::look(options.cuda_libraries.as_deref(), runtime.as_ref().map(|runtime| runtime.library.as_path()));
    let (machine, cache) = (Machine::look(), locate::cache_dir(options.flavor()).ok());
    DoctorReport { machine, cache, runtime, runtime_error, execution_providers, placement, gpu }
}

/// A graph with one node, `y = -x`, written by `make_probe.py`.
const PROBE: &[u8] = include_bytes!("probe.onnx");

/// Providers with a device that runs the probe itself and gives the right answer.
fn usable_providers(loaded: &super::Loaded) -> Result<Vec<GraphPlacement>, EngineError> {
    let mut names: Vec<String> = loaded.environment.devices().filter_map(|device| device.ep().ok().map(str::to_owned)).collect();
    names.sort();
    names.dedup();
    let mut usable = Vec::new();
    for name in names {
        let session = probe(loaded, &name).map_err(runtime_error("probing execution providers"))?;
        let placed = session.map(|session| placement::look(&session, "probe.onnx", &name)).transpose()?;
        usable.extend(placed.filter(|placed| placed.node_share() == 1.0));
    }
    Ok(usable)
}

/// The session of the probe, if it gave the right answer.
fn probe(loaded: &super::Loaded, provider: &str) -> ort::Result<Option<Session>> {
    let devices: Vec<_> = loaded.environment.devices().filter(|device| device.ep().is_ok_and(|name| name == provider)).collect();
    let builder = Session::builder(&loaded.environment)?.with_config_entry(placement::RECORD_ASSIGNMENT, "1")?;
    let Ok(mut builder) = builder.with_devices(devices, None) else { return Ok(None) };
    let Ok(mut session) = builder.commit_from_memory(PROBE) else { return Ok(None) };
    let input = ort::value::TensorRef::from_array_view(([1_usize], &[2.5_f32][..]))?;
    let outputs = session.run(ort::inputs!["x" => input])?;
    let right = outputs.get("y").and_then(|value| value.try_extract_scalar::<f32>().ok()) == Some(-2.5);
    drop(outputs);
    Ok(right.then_some(session))
}

/// Model and instruction sets of the processor in one text, for what was made for this kind of processor.
pub(crate) fn processor_identity() -> String {
    let refresh = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing());
    let system = System::new_with_specifics(refresh);
    let model = system.ok().and_then(|system| system.cpus().first().map(|cpu| cpu.brand().trim().to_owned())).unwrap_or_default();
    format!("{model}, {}: {}", std::env::consts::ARCH, cpu_features().join(" "))
}

/// Physical cores that this process may use, at least 1.
pub fn physical_cores() -> usize {
    System::physical_core_count().unwrap_or(usize::MAX).clamp(1, logical_cores())
}

fn logical_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<String> {
    macro_rules! detected {
        ($($name:tt),*) => { [$(($name, std::is_x86_feature_detected!($name))),*] };
    }
    let all = detected!("sse4.2", "avx", "avx2", "fma", "f16c", "avxvnni", "avx512f", "avx512bw", "avx512vnni", "avx512bf16");
    all.into_iter().filter(|(_, found)| *found).map(|(name, _)| name.to_owned()).collect()
}

#[cfg(target_arch = "aarch64")]
fn cpu_features() -> Vec<String> {
    macro_rules! detected {
        ($($name:tt),*) => { [$(($name, std::arch::is_aarch64_feature_detected!($name))),*] };
    }
    let all = detected!("neon", "dotprod", "fp16", "i8mm", "bf16", "sve");
    all.into_iter().filter(|(_, found)| *found).map(|(name, _)| name.to_owned()).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cpu_features() -> Vec<String> {
    Vec::new()
}
