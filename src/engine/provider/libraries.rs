//! The shared libraries that CUDA and TensorRT need, and whether they are there.

use std::path::PathBuf;

use serde::Serialize;

use super::Provider;
use super::places::Place;

/// A library that ONNX Runtime's providers load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Library {
    /// Its name for the dynamic linker.
    pub file: &'static str,
    /// What it belongs to, for people.
    pub part: &'static str,
    /// The Python package that has it.
    pub wheel: &'static str,
    /// Whether the provider cannot do without it.
    pub required: bool,
}

const fn needed(file: &'static str, part: &'static str, wheel: &'static str) -> Library {
    Library { file, part, wheel, required: true }
}

const fn useful(file: &'static str, part: &'static str, wheel: &'static str) -> Library {
    Library { file, part, wheel, required: false }
}

const CUDNN: &str = "nvidia-cudnn-cu13";
const TENSORRT: &str = "tensorrt-cu13-libs";

/// What the CUDA provider of the pinned ONNX Runtime needs, dependencies before their dependents: the libraries that it is linked
/// with; cuDNN, which it opens for the convolution of a vision encoder; and what these open themselves.
const CUDA_LIBRARIES: [Library; 14] = [
    needed("libcudart.so.13", "CUDA", "nvidia-cuda-runtime"),
    needed("libcublasLt.so.13", "CUDA", "nvidia-cublas"),
    needed("libcublas.so.13", "CUDA", "nvidia-cublas"),
    useful("libnvrtc.so.13", "CUDA", "nvidia-cuda-nvrtc"),
    needed("libcurand.so.10", "CUDA", "nvidia-curand"),
    useful("libcufft.so.12", "CUDA", "nvidia-cufft"),
    needed("libcudnn.so.9", "cuDNN", CUDNN),
    useful("libcudnn_graph.so.9", "cuDNN", CUDNN),
    useful("libcudnn_ops.so.9", "cuDNN", CUDNN),
    useful("libcudnn_heuristic.so.9", "cuDNN", CUDNN),
    useful("libcudnn_adv.so.9", "cuDNN", CUDNN),
    useful("libcudnn_cnn.so.9", "cuDNN", CUDNN),
    useful("libcudnn_engines_precompiled.so.9", "cuDNN", CUDNN),
    useful("libcudnn_engines_runtime_compiled.so.9", "cuDNN", CUDNN),
];

/// What the TensorRT provider needs beside these.
const TENSORRT_LIBRARIES: [Library; 3] = [
    needed("libnvinfer.so.10", "TensorRT", TENSORRT),
    useful("libnvinfer_plugin.so.10", "TensorRT", TENSORRT),
    needed("libnvonnxparser.so.10", "TensorRT", TENSORRT),
];

/// The library of the GPU's driver, which comes with the driver and not with CUDA.
pub(super) const DRIVER_LIBRARY: &str = "libcuda.so.1";

/// All that a provider needs, in the order in which it must be loaded.
pub(super) fn libraries_of(provider: Provider) -> Vec<Library> {
    match provider {
        Provider::Cpu => Vec::new(),
        Provider::Cuda => CUDA_LIBRARIES.to_vec(),
        Provider::TensorRt => [&CUDA_LIBRARIES[..], &TENSORRT_LIBRARIES[..]].concat(),
    }
}

/// A library and where it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LibrarySighting {
    /// Its name for the dynamic linker.
    pub library: &'static str,
    /// `CUDA`, `cuDNN` or `TensorRT`.
    pub part: &'static str,
    /// Whether the provider cannot do without it.
    pub required: bool,
    /// The Python package that has it.
    pub python_package: &'static str,
    /// Where it is; `None` if it is nowhere.
    pub path: Option<PathBuf>,
}

/// Looks for each library, in the order of the places.
pub(super) fn search(libraries: &[Library], places: &[Place]) -> Vec<LibrarySighting> {
    let sight = |library: &Library| LibrarySighting {
        library: library.file,
        part: library.part,
        required: library.required,
        python_package: library.wheel,
        path: find(library.file, places),
    };
    libraries.iter().map(sight).collect()
}

/// The first place that has a file of this name.
pub(super) fn find(file: &str, places: &[Place]) -> Option<PathBuf> {
    places.iter().map(|place| place.folder.join(file)).find(|path| path.is_file())
}

/// The required libraries that were not found, in one text; `None` if all are there.
pub(super) fn missing(sightings: &[LibrarySighting]) -> Option<String> {
    let absent = sightings.iter().filter(|sighting| sighting.required && sighting.path.is_none());
    let names: Vec<String> =
        absent.map(|sighting| format!("{} ({}: {})", sighting.library, sighting.part, sighting.python_package)).collect();
    let noun = if names.len() == 1 { "library" } else { "libraries" };
    (!names.is_empty()).then(|| {
        format!("missing {noun}: {}; install the packages in brackets, or name a folder with --cuda-libs", names.join(", "))
    })
}
