//! Installing a build of ONNX Runtime before it is needed.

use std::path::PathBuf;

use serde::Serialize;

use super::fetch::{CommandRunner, SystemRunner};
use super::locate::{Locator, RuntimeSource, cache_dir, cached};
use super::platform::{Flavor, Platform, VERSION};
use crate::engine::types::EngineError;

/// A build that is installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Installed {
    /// Which.
    pub flavor: Flavor,
    /// Its version.
    pub version: &'static str,
    /// `fetched` just now, or in the `cache` already.
    pub source: RuntimeSource,
    /// Its folder.
    pub folder: PathBuf,
    /// Its libraries, ONNX Runtime itself last.
    pub files: Vec<InstalledFile>,
}

/// A library of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstalledFile {
    /// Its file name.
    pub name: &'static str,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256 in lower-case hexadecimal.
    pub sha256: &'static str,
}

/// Fetches the pinned build into the user's cache folder, unless it is there. `progress` receives a line of text for a person at
/// each slow step. The error says what was tried and the manual step.
pub fn install(flavor: Flavor, progress: &mut dyn FnMut(&str)) -> Result<Installed, EngineError> {
    let folder = cache_dir(flavor);
    let platform = Platform::current(flavor);
    install_in(flavor, folder, platform, &SystemRunner, progress).map_err(EngineError::RuntimeMissing)
}

pub(super) fn install_in(
    flavor: Flavor,
    folder: Result<PathBuf, String>,
    platform: Option<&Platform>,
    runner: &dyn CommandRunner,
    progress: &mut dyn FnMut(&str),
) -> Result<Installed, String> {
    let locator = Locator { flavor, option: None, variable: None, cache_dir: folder.clone(), platform, fetch: true, runner };
    let located = locator.locate(progress)?;
    let members = platform.into_iter().flat_map(Platform::members);
    let files = members.map(|member| InstalledFile { name: member.file, bytes: member.bytes, sha256: member.sha256 }).collect();
    Ok(Installed { flavor, version: VERSION, source: located.source, folder: folder?, files })
}

/// Whether the pinned build is installed, and its folder.
pub fn installed(flavor: Flavor) -> Result<(bool, PathBuf), String> {
    let folder = cache_dir(flavor)?;
    let there = Platform::current(flavor).is_some_and(|platform| cached(&folder, platform).unwrap_or(false));
    Ok((there, folder))
}
