//! The GPUs of this machine and their driver, as far as files tell.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::libraries::{DRIVER_LIBRARY, find};
use super::places::{Place, name_starts_with, subfolders};

/// The first driver that runs CUDA 13.
pub(super) const LEAST_DRIVER: u32 = 580;

/// Cap on a file of the driver.
const FACT_LIMIT_BYTES: u64 = 1 << 16;

/// What there is of NVIDIA's driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Devices {
    /// The driver's library, `libcuda.so.1`.
    pub driver_library: Option<PathBuf>,
    /// The driver's version, such as `580.65.06`.
    pub driver_version: Option<String>,
    /// Nodes of GPUs, such as `/dev/nvidia0`.
    pub nodes: Vec<PathBuf>,
    /// Models of the GPUs in the order of their bus, such as `NVIDIA H100 80GB HBM3`.
    pub models: Vec<String>,
}

impl Devices {
    /// Looks below `root`, which is `/` unless a test has its own.
    pub(super) fn look(root: &Path, places: &[Place]) -> Self {
        let proc = root.join("proc/driver/nvidia");
        let gpus = subfolders(&proc.join("gpus"));
        let read = |path: PathBuf| crate::guard::files::read_text_capped(&path, FACT_LIMIT_BYTES).ok();
        Self {
            driver_library: find(DRIVER_LIBRARY, places),
            driver_version: read(proc.join("version")).and_then(|text| driver_version(&text)),
            nodes: device_nodes(&root.join("dev")),
            models: gpus.iter().filter_map(|gpu| read(gpu.join("information"))).filter_map(|text| model(&text)).collect(),
        }
    }

    /// The GPUs in words, each model once, with their driver: `NVIDIA H100 80GB HBM3, driver 580.65.06`. What is not known is left
    /// out.
    pub(super) fn text(&self) -> String {
        let mut words: Vec<String> = Vec::new();
        for model in &self.models {
            if !words.contains(model) {
                words.push(model.clone());
            }
        }
        words.extend(self.driver_version.iter().map(|version| format!("driver {version}")));
        if words.is_empty() { "a GPU".to_owned() } else { words.join(", ") }
    }

    /// Why no GPU can be used, one text a reason; none if nothing speaks against it.
    pub(super) fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.driver_library.is_none() {
            reasons.push(format!("NVIDIA's driver is not installed, or not visible here: missing library {DRIVER_LIBRARY}"));
        }
        if self.nodes.is_empty() {
            reasons.push(
                "there is no NVIDIA GPU, or it is not visible here (no /dev/nvidia0; a container must be started with its GPUs)"
                    .to_owned(),
            );
        }
        reasons
    }

    /// That the driver is too old, where its version is known and is.
    pub(super) fn outdated(&self) -> Option<String> {
        let version = self.driver_version.as_ref()?;
        let major: u32 = version.split('.').next()?.parse().ok()?;
        (major < LEAST_DRIVER).then(|| {
            format!(
                "the driver has version {version}; CUDA 13 needs {LEAST_DRIVER} or later, or NVIDIA's compatibility libraries"
            )
        })
    }
}

/// Nodes named `nvidia` and a number, and that of Windows' Linux (`dxg`).
fn device_nodes(dev: &Path) -> Vec<PathBuf> {
    let is_gpu = |path: &PathBuf| {
        let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("nvidia"));
        let numbered = number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
        numbered || path.file_name().is_some_and(|name| name == "dxg")
    };
    let entries = std::fs::read_dir(dev).into_iter().flatten().flatten();
    let mut nodes: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_gpu).collect();
    nodes.sort();
    nodes
}

/// The version in `/proc/driver/nvidia/version`: the first word of its first line that is numbers and points.
fn driver_version(text: &str) -> Option<String> {
    let is_version = |word: &&str| word.contains('.') && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.lines().next()?.split_whitespace().find(is_version).map(str::to_owned)
}

/// The model in `/proc/driver/nvidia/gpus/*/information`.
fn model(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("Model:"))?;
    Some(line.trim().to_owned())
}

/// The version of TensorRT, from the name that its library has behind links (`libnvinfer.so.10.13.3`) or that of the builder's
/// resources beside it; failing that, its length, which another version will hardly share.
pub(super) fn tensorrt_version(library: &Path) -> String {
    let real = library.canonicalize().unwrap_or_else(|_| library.to_path_buf());
    let after = |path: &Path| -> Option<String> {
        let name = path.file_name()?.to_str()?;
        let version = name.split_once(".so.")?.1;
        version.contains('.').then(|| version.to_owned())
    };
    let beside = || {
        let entries = std::fs::read_dir(real.parent()?).ok()?;
        let mut names: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        names.sort();
        names.iter().filter(|path| name_starts_with(path, "libnvinfer_builder_resource")).find_map(|path| after(path))
    };
    after(&real).or_else(beside).unwrap_or_else(|| match std::fs::metadata(&real) {
        Ok(metadata) => format!("unknown, {} bytes", metadata.len()),
        Err(_) => "unknown".to_owned(),
    })
}
