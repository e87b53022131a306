//! Whether a provider can be used on this machine, and the true reasons where it cannot.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::ep::ExecutionProvider;
use serde::Serialize;

use super::Provider;
use super::device::Devices;
use super::libraries::{LibrarySighting, libraries_of, missing, search};
use super::places::{Place, Surroundings};
use crate::engine::runtime::{Flavor, Loaded};
use crate::engine::types::EngineError;

/// What there is to run a provider with, beside ONNX Runtime itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Equipment {
    /// The libraries that it loads.
    pub libraries: Vec<LibrarySighting>,
    /// The driver and its GPUs.
    pub devices: Devices,
    /// Every folder looked in, in this order.
    pub folders: Vec<PathBuf>,
}

impl Equipment {
    /// Looks for what `provider` needs; `folder` is that of `--cuda-libs`.
    pub fn look(provider: Provider, folder: Option<&Path>) -> Self {
        Self::look_in(provider, &Surroundings::of_this_machine(folder), Path::new("/"))
    }

    pub(super) fn look_in(provider: Provider, surroundings: &Surroundings, root: &Path) -> Self {
        let places = surroundings.places();
        Self {
            libraries: search(&libraries_of(provider), &places),
            devices: Devices::look(root, &places),
            folders: places.into_iter().map(|Place { folder }| folder).collect(),
        }
    }

    /// Why it does not do, a text a reason; empty if it does. The folders looked in come last.
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons: Vec<String> = missing(&self.libraries).into_iter().collect();
        reasons.extend(self.devices.reasons());
        if !reasons.is_empty() {
            let folders: Vec<String> = self.folders.iter().map(|folder| folder.display().to_string()).collect();
            let looked = if folders.is_empty() { "there was no folder to look in".to_owned() } else { folders.join(", ") };
            reasons.push(format!("folders looked in: {looked}"));
        }
        reasons
    }
}

/// How a build of ONNX Runtime with the GPU's providers is had.
pub(crate) const HOW_TO_INSTALL: &str = "`llava-gauge runtime install --flavor cuda` installs a build that has it";

/// Why the loaded ONNX Runtime does not have a provider at all; `None` if it was built with it. The providers themselves are libraries
/// of their own, which are opened when the first graph is loaded.
pub(crate) fn not_in_build(provider: Provider, library: &Path) -> Option<String> {
    let (is_there, message) = match provider {
        Provider::Cpu => return None,
        // The words are ONNX Runtime's own, for whoever looks for them.
        Provider::Cuda => (ort::ep::CUDA::is_available(), "CUDA execution provider is not enabled in this build"),
        Provider::TensorRt => (ort::ep::TensorRT::is_available(), "TensorRT execution provider is not enabled in this build"),
    };
    // A runtime that cannot list its providers has none that could be asked for.
    (!is_there.unwrap_or(false)).then(|| {
        format!(
            "the ONNX Runtime in use, {}, is a build for the processor ({message}); {HOW_TO_INSTALL}, which is used where neither \
             --ort-lib nor ORT_DYLIB_PATH names another",
            library.display()
        )
    })
}

/// Providers whose libraries are loaded.
static LOADED: Mutex<Vec<Provider>> = Mutex::new(Vec::new());

/// Makes `provider` usable: checks that the loaded ONNX Runtime has it, and loads the libraries that it needs from where they were
/// found, so that it finds them whatever the linker's own paths are. Done once a process.
pub(crate) fn prepare(provider: Provider, folder: Option<&Path>, runtime: &Loaded) -> Result<(), EngineError> {
    let mut done = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if !provider.is_gpu() || done.contains(&provider) {
        return Ok(());
    }
    let equipment = Equipment::look(provider, folder);
    let mut reasons: Vec<String> = not_in_build(provider, &runtime.info.library).into_iter().collect();
    reasons.extend(equipment.reasons());
    if !reasons.is_empty() {
        return Err(unusable(provider, &reasons));
    }
    if let Some(message) = equipment.devices.outdated() {
        tracing::warn!("{message}");
    }
    preload(provider, &equipment)?;
    done.push(provider);
    Ok(())
}

/// The error where ONNX Runtime itself could not be found for a GPU's provider, with everything else that is missing.
pub(crate) fn not_installed(provider: Provider, folder: Option<&Path>, message: String) -> EngineError {
    let mut reasons = vec![message];
    reasons.extend(Equipment::look(provider, folder).reasons());
    unusable(provider, &reasons)
}

fn unusable(provider: Provider, reasons: &[String]) -> EngineError {
    EngineError::Provider { provider: provider.as_str(), reason: reasons.join("; ") }
}

fn preload(provider: Provider, equipment: &Equipment) -> Result<(), EngineError> {
    for sighting in &equipment.libraries {
        let Some(path) = &sighting.path else { continue };
        match ort::util::preload_dylib(path.as_os_str()) {
            Ok(()) => tracing::debug!(library = %path.display(), "loaded"),
            Err(error) if sighting.required => {
                let reason = format!("{} was found but cannot be loaded: {error}", path.display());
                return Err(unusable(provider, &[reason]));
            }
            // What needs it says so.
            Err(error) => tracing::warn!("{} cannot be loaded: {error}", path.display()),
        }
    }
    Ok(())
}

/// What `doctor` says of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProviderReport {
    /// `cuda` or `tensorrt`.
    pub provider: &'static str,
    /// Whether graphs can be loaded for it, as far as can be told without loading one.
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<String>,
}

/// What `doctor` says of GPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GpuReport {
    /// Whether the pinned build of ONNX Runtime for GPUs is installed, and where that is or would be.
    pub runtime_installed: bool,
    /// Its folder; `None` if the user has no cache folder.
    pub runtime_folder: Option<PathBuf>,
    /// Whether the build that is in use has the providers of GPUs.
    pub runtime_in_use: bool,
    /// Everything that TensorRT, which needs CUDA too, would load, the driver and its GPUs, and where all this was looked for.
    #[serde(flatten)]
    pub equipment: Equipment,
    /// Whether each provider can be used.
    pub providers: Vec<ProviderReport>,
}

impl GpuReport {
    /// Looks at this machine. `library` is that of the ONNX Runtime that is loaded, if one is.
    pub(crate) fn look(folder: Option<&Path>, library: Option<&Path>) -> Self {
        let installed = crate::engine::runtime::installed(Flavor::Cuda);
        let surroundings = Surroundings::of_this_machine(folder);
        let everything = Equipment::look_in(Provider::TensorRt, &surroundings, Path::new("/"));
        let in_use = library.is_some_and(|library| not_in_build(Provider::Cuda, library).is_none());
        let report = |provider: Provider| {
            let needed = libraries_of(provider);
            let libraries = everything.libraries.iter().filter(|sighting| needed.iter().any(|one| one.file == sighting.library));
            let equipment = Equipment { libraries: libraries.cloned().collect(), ..everything.clone() };
            let mut reasons = Vec::new();
            if !in_use && !installed.as_ref().is_ok_and(|(there, _)| *there) {
                reasons.push(format!("ONNX Runtime for GPUs is not installed; {HOW_TO_INSTALL}"));
            }
            reasons.extend(equipment.reasons());
            ProviderReport { provider: provider.as_str(), ready: reasons.is_empty(), reasons }
        };
        Self {
            runtime_installed: installed.as_ref().is_ok_and(|(there, _)| *there),
            runtime_folder: installed.as_ref().ok().map(|(_, folder)| folder.clone()),
            runtime_in_use: in_use,
            providers: vec![report(Provider::Cuda), report(Provider::TensorRt)],
            equipment: everything,
        }
    }
}
