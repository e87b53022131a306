//! ONNX Runtime itself: finding the shared library, fetching it once where there is none, and loading it once per process.
//!
//! The order is: a path that the user gave, the variable `ORT_DYLIB_PATH`, our own cache, a download through `pip`. The
//! first two are demands: if they fail nothing else is tried. A library from the cache or the download is loaded only if its
//! SHA-256 is the one compiled into this program. There are two builds: the one for GPUs is used where a GPU's provider is asked
//! for, and never downloaded in passing.

pub mod doctor;
mod fetch;
mod install;
mod locate;
mod platform;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;
use serde::Serialize;

use self::fetch::SystemRunner;
use self::locate::{Located, Locator};
use super::provider::{self, Provider};
use super::types::EngineError;

pub use self::install::{Installed, InstalledFile, install, installed};
pub use self::locate::RuntimeSource;
pub use self::platform::{Flavor, VERSION};

/// Where to look for ONNX Runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeOptions {
    /// A library to use instead of looking for one (`--ort-lib`).
    pub library: Option<PathBuf>,
    /// Fetch it if there is none. The build for GPUs is never fetched here, but by [`install`].
    pub fetch: bool,
    /// What it is to run graphs on; a GPU's provider needs the build for GPUs and the libraries of CUDA.
    pub provider: Provider,
    /// A folder in which these libraries are looked for first (`--cuda-libs`).
    pub cuda_libraries: Option<PathBuf>,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self { library: None, fetch: true, provider: Provider::Cpu, cuda_libraries: None }
    }
}

impl RuntimeOptions {
    /// The build that is wanted.
    pub fn flavor(&self) -> Flavor {
        if self.provider.is_gpu() { Flavor::Cuda } else { Flavor::Cpu }
    }
}

/// Which ONNX Runtime is in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuntimeInfo {
    /// Its version, such as `1.31.1`; `unknown` if a library given by the user does not tell.
    pub version: String,
    /// What it says of its own build.
    pub build: String,
    /// The shared library.
    pub library: PathBuf,
    /// SHA-256 of the library in lower-case hexadecimal.
    pub sha256: String,
    /// How it was found.
    pub source: RuntimeSource,
}

/// The loaded runtime; sessions are made under its environment.
pub(crate) struct Loaded {
    pub(crate) environment: Environment,
    pub(crate) info: RuntimeInfo,
}

/// Only one environment may ever exist in a process, so that it is kept for good.
static LOADED: OnceLock<Loaded> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

/// Finds, fetches if need be, and loads ONNX Runtime; later calls give what is loaded, and make another provider usable if they ask
/// for one. As a process can load only one build, whoever needs the processor and a GPU asks for the GPU's first. `progress`
/// receives a line of text for a person at each slow step.
pub fn ensure(options: &RuntimeOptions, progress: &mut dyn FnMut(&str)) -> Result<RuntimeInfo, EngineError> {
    load(options, progress).map(|loaded| loaded.info.clone())
}

/// Like [`ensure`], for this room.
pub(crate) fn load(options: &RuntimeOptions, progress: &mut dyn FnMut(&str)) -> Result<&'static Loaded, EngineError> {
    let _guard = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = options.cuda_libraries.as_deref();
    let loaded = match LOADED.get() {
        Some(loaded) => match &options.library {
            Some(wanted) if !same_file(wanted, &loaded.info.library) => {
                return Err(EngineError::RuntimeMissing(format!(
                    "{} was asked for, but this process has already loaded {}, and it can load only one",
                    wanted.display(),
                    loaded.info.library.display()
                )));
            }
            _ => loaded,
        },
        None => {
            let located = Locator::of_this_machine(options, &SystemRunner).locate(progress);
            let located = located.map_err(|message| match options.provider.is_gpu() {
                true => provider::not_installed(options.provider, folder, message),
                false => EngineError::RuntimeMissing(message),
            })?;
            let loaded = initialise(located)?;
            LOADED.get_or_init(|| loaded)
        }
    };
    provider::prepare(options.provider, folder, loaded)?;
    Ok(loaded)
}

fn same_file(left: &Path, right: &Path) -> bool {
    match (left.canonicalize(), right.canonicalize()) {
        (Ok(left), Ok(right)) => left == right,
        _ => left == right,
    }
}

fn initialise(located: Located) -> Result<Loaded, EngineError> {
    let failed = |message: String| EngineError::Runtime { doing: format!("loading {}", located.library.display()), message };
    let environment = ort::init_from(&located.library)
        .map_err(|error| failed(error.to_string()))?
        .with_name("llava-gauge")
        .with_telemetry(false)
        .with_logger(Arc::new(|level: LogLevel, category: &str, _: &str, place: &str, message: &str| match level {
            LogLevel::Verbose | LogLevel::Info => tracing::debug!(category, place, "{message}"),
            LogLevel::Warning => tracing::warn!(category, place, "{message}"),
            // What fails is also returned as an error, and it is for the caller to decide how loud it is.
            LogLevel::Error | LogLevel::Fatal => tracing::warn!(category, place, "{message}"),
        }))
        .build()
        .map_err(|error| failed(error.message().to_owned()))?;
    environment.set_log_level(LogLevel::Warning);
    let info = RuntimeInfo {
        version: located.version,
        build: ort::info().to_owned(),
        library: located.library,
        sha256: located.sha256,
        source: located.source,
    };
    tracing::debug!(library = %info.library.display(), version = info.version, "ONNX Runtime is loaded");
    Ok(Loaded { environment, info })
}
