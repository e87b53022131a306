//! Deciding which library to load.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::super::provider::HOW_TO_INSTALL;
use super::RuntimeOptions;
use super::fetch::{self, CommandRunner};
use super::platform::{Flavor, Member, PLATFORMS, Platform, VERSION};

/// How the library was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuntimeSource {
    /// Given by the user for this call.
    Option,
    /// The variable `ORT_DYLIB_PATH`.
    EnvironmentVariable,
    /// Our cache.
    Cache,
    /// Fetched just now.
    Fetched,
}

/// A library that may be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Located {
    pub library: PathBuf,
    pub source: RuntimeSource,
    pub sha256: String,
    pub version: String,
}

/// Everything that the decision rests on, so that tests can make it up.
pub(super) struct Locator<'a> {
    pub flavor: Flavor,
    pub option: Option<PathBuf>,
    pub variable: Option<OsString>,
    pub cache_dir: Result<PathBuf, String>,
    pub platform: Option<&'a Platform>,
    pub fetch: bool,
    pub runner: &'a dyn CommandRunner,
}

impl<'a> Locator<'a> {
    pub(super) fn of_this_machine(options: &RuntimeOptions, runner: &'a dyn CommandRunner) -> Self {
        let flavor = options.flavor();
        Self {
            flavor,
            option: options.library.clone(),
            variable: std::env::var_os("ORT_DYLIB_PATH"),
            cache_dir: cache_dir(flavor),
            platform: Platform::current(flavor),
            // A quarter of a gigabyte is fetched when asked for and not in passing.
            fetch: options.fetch && flavor == Flavor::Cpu,
            runner,
        }
    }

    /// The library, or everything that was tried and what to do by hand.
    pub(super) fn locate(&self, progress: &mut dyn FnMut(&str)) -> Result<Located, String> {
        if let Some(path) = &self.option {
            return given(path, RuntimeSource::Option).map_err(|error| format!("the library given with --ort-lib: {error}"));
        }
        let mut tried = vec!["no library was given with --ort-lib".to_owned()];
        match self.variable.as_ref().filter(|value| !value.is_empty()) {
            Some(value) => {
                return given(Path::new(value), RuntimeSource::EnvironmentVariable)
                    .map_err(|error| format!("the library in ORT_DYLIB_PATH: {error}"));
            }
            None => tried.push("the variable ORT_DYLIB_PATH is not set".to_owned()),
        }
        let Some(platform) = self.platform else {
            let pinned = PLATFORMS.iter().filter(|known| known.flavor == self.flavor);
            let pinned: Vec<String> =
                pinned.map(|known| format!("{} on {}", known.operating_system, known.architecture)).collect();
            tried.push(format!(
                "no {} build is pinned for {} on {}; pinned are {}",
                self.flavor.as_str(),
                std::env::consts::OS,
                std::env::consts::ARCH,
                pinned.join(", ")
            ));
            return Err(explain(
                &tried,
                &format!("build ONNX Runtime {VERSION} for this machine and name its shared library with --ort-lib"),
            ));
        };
        let cache_dir = match &self.cache_dir {
            Ok(folder) => folder,
            Err(error) => {
                tried.push(format!("there is no cache folder: {error}"));
                return Err(explain(&tried, &fetch::by_hand(platform, None)));
            }
        };
        let library = cache_dir.join(platform.library.file);
        let found = |source| Located {
            library: library.clone(),
            source,
            sha256: platform.library.sha256.to_owned(),
            version: VERSION.to_owned(),
        };
        match cached(cache_dir, platform) {
            Ok(true) => return Ok(found(RuntimeSource::Cache)),
            Ok(false) => tried.push(format!("{} does not exist", library.display())),
            // A library that is not what was fetched is never replaced behind the user's back.
            Err(error) => {
                tried.push(error);
                let anew = match self.flavor {
                    Flavor::Cpu => format!("delete {} and run the command again to fetch it anew", library.display()),
                    Flavor::Cuda => {
                        format!("delete {} and install it anew: llava-gauge runtime install --flavor cuda", cache_dir.display())
                    }
                };
                return Err(explain(&tried, &anew));
            }
        }
        if !self.fetch && self.flavor == Flavor::Cuda {
            return Err(format!(
                "ONNX Runtime for GPUs is not installed ({} does not exist, and neither --ort-lib nor ORT_DYLIB_PATH names another); \
                 {HOW_TO_INSTALL}",
                library.display()
            ));
        }
        if !self.fetch {
            tried.push("fetching was not allowed".to_owned());
            return Err(explain(&tried, &fetch::by_hand(platform, Some(&library))));
        }
        match fetch::fetch(cache_dir, platform, self.runner, progress) {
            Ok(()) => Ok(found(RuntimeSource::Fetched)),
            Err(attempts) => {
                tried.extend(attempts);
                Err(explain(&tried, &fetch::by_hand(platform, Some(&library))))
            }
        }
    }
}

fn explain(tried: &[String], manual_step: &str) -> String {
    format!("{}.\nTo do it by hand: {manual_step}", tried.join("; "))
}

/// `llava-gauge/onnxruntime/<version>-<flavour>` in the user's cache folder; the flavour is `cpu` or `cuda`.
pub(super) fn cache_dir(flavor: Flavor) -> Result<PathBuf, String> {
    let strategy = etcetera::choose_base_strategy().map_err(|error| error.to_string())?;
    Ok(strategy.cache_dir().join("llava-gauge").join("onnxruntime").join(format!("{VERSION}-{}", flavor.as_str())))
}

/// Whether the cache holds the pinned libraries; an error if it holds something else under one of their names.
pub(super) fn cached(cache_dir: &Path, platform: &Platform) -> Result<bool, String> {
    let mut all = true;
    for member in platform.members() {
        all &= holds(&cache_dir.join(member.file), member)?;
    }
    Ok(all)
}

/// Whether this file is the pinned library; an error if it is another.
fn holds(library: &Path, member: &Member) -> Result<bool, String> {
    match std::fs::symlink_metadata(library) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(format!("cannot read {}: {error}", library.display())),
        Ok(_) => {}
    }
    let sha256 = sha256_of_file(library)?;
    if sha256 == member.sha256 {
        return Ok(true);
    }
    Err(format!("{} is not the library that was fetched: expected SHA-256 {}, found {sha256}", library.display(), member.sha256))
}

fn given(path: &Path, source: RuntimeSource) -> Result<Located, String> {
    // ONNX Runtime would look a relative name up beside the program first, and a bare one in the system's folders.
    let library = path.canonicalize().map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if !library.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    let sha256 = sha256_of_file(&library)?;
    let version = match PLATFORMS.iter().any(|platform| platform.library.sha256 == sha256) {
        true => VERSION.to_owned(),
        false => version_in_name(&library).unwrap_or_else(|| "unknown".to_owned()),
    };
    Ok(Located { library, source, sha256, version })
}

/// The version in a name such as `libonnxruntime.so.1.31.1` or `libonnxruntime.1.31.1.dylib`.
pub(super) fn version_in_name(library: &Path) -> Option<String> {
    let name = library.file_name()?.to_str()?;
    let numbers: Vec<&str> =
        name.split('.').filter(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())).collect();
    (numbers.len() == 3).then(|| numbers.join("."))
}

/// SHA-256 of a file in lower-case hexadecimal.
pub(super) fn sha256_of_file(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(hexadecimal(&hasher.finalize())),
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

/// Bytes in lower-case hexadecimal.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
