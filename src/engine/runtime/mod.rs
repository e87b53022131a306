//! ONNX Runtime itself: finding the shared library, fetching it once where there is none, and loading it once per process.
//!
//! The order is: a path that the user gave, the variable `ORT_DYLIB_PATH`, our own cache, a download through `pip`. The
//! first two are demands: if they fail nothing else is tried. A library from the cache or the download is loaded only if its
//! SHA-256 is the one compiled into this program.

pub mod doctor;
mod fetch;
mod locate;
mod platform;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;
use serde::Serialize;

use self::fetch::SystemRunner;
use self::locate::{Located, Locator};
use super::types::EngineError;

pub use self::locate::RuntimeSource;
pub use self::platform::VERSION;

/// Where to look for ONNX Runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeOptions {
    /// A library to use instead of looking for one (`--ort-lib`).
    pub library: Option<PathBuf>,
    /// Fetch it if there is none.
    pub fetch: bool,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self { library: None, fetch: true }
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

/// Finds, fetches if need be, and loads ONNX Runtime; later calls give what is loaded. `progress` receives a line of text
/// for a person at each slow step.
pub fn ensure(options: &RuntimeOptions, progress: &mut dyn FnMut(&str)) -> Result<RuntimeInfo, EngineError> {
    load(options, progress).map(|loaded| loaded.info.clone())
}

/// Like [`ensure`], for this room.
pub(crate) fn load(options: &RuntimeOptions, progress: &mut dyn FnMut(&str)) -> Result<&'static Loaded, EngineError> {
    let _guard = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(loaded) = LOADED.get() {
        return match &options.library {
            Some(wanted) if !same_file(wanted, &loaded.info.library) => Err(EngineError::RuntimeMissing(format!(
                "{} was asked for, but this process has already loaded {}, and it can load only one",
                wanted.display(),
                loaded.info.library.display()
            ))),
            _ => Ok(loaded),
        };
    }
    let located = Locator::of_this_machine(options, &SystemRunner).locate(progress).map_err(EngineError::RuntimeMissing)?;
    let loaded = initialise(located)?;
    Ok(LOADED.get_or_init(|| loaded))
}

fn same_file(left: &std::path::Path, right: &std::path::Path) -> bool {
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
