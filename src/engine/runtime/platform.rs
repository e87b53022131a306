//! What is fetched for which platform, pinned.

/// The ONNX Runtime version that this program is tested with and fetches.
pub const VERSION: &str = "1.31.1";

/// Which build of ONNX Runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flavor {
    /// For the processor.
    #[default]
    Cpu,
    /// For the processor, CUDA and TensorRT.
    Cuda,
}

impl Flavor {
    /// The name on the command line and in cache folders: `cpu` or `cuda`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }

    /// The Python package whose wheels have it.
    pub(super) fn package(self) -> &'static str {
        match self {
            Self::Cpu => "onnxruntime",
            Self::Cuda => "onnxruntime-gpu",
        }
    }

    /// The requirements file with the SHA-256 of every wheel below, for `pip --require-hashes`.
    pub(super) fn requirements(self) -> &'static str {
        match self {
            Self::Cpu => include_str!("onnxruntime-requirements.txt"),
            Self::Cuda => include_str!("onnxruntime-gpu-requirements.txt"),
        }
    }
}

/// A library inside a wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Its path in the wheel.
    pub path: &'static str,
    /// Its file name in our cache.
    pub file: &'static str,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256, taken from the wheel whose own SHA-256 stands in the requirements file.
    pub sha256: &'static str,
}

/// One pinned wheel and the libraries inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Platform {
    /// The build.
    pub flavor: Flavor,
    /// `std::env::consts::OS`.
    pub operating_system: &'static str,
    /// `std::env::consts::ARCH`.
    pub architecture: &'static str,
    /// Platform tag for `pip download --platform`. The wheel's Python tag (`cp312`) need not match any installed Python.
    pub tag: &'static str,
    /// ONNX Runtime itself.
    pub library: Member,
    /// Libraries that it opens itself and looks for in its own folder.
    pub others: &'static [Member],
}

/// All platforms with a pinned wheel.
pub(super) const PLATFORMS: [Platform; 5] = [
    Platform {
        flavor: Flavor::Cpu,
        operating_system: "linux",
        architecture: "x86_64",
        tag: "manylinux_2_28_x86_64",
        library: Member {
            path: "onnxruntime/capi/libonnxruntime.so.1.31.1",
            file: "libonnxruntime.so.1.31.1",
            bytes: 29_352_200,
            sha256: "fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3",
        },
        others: &[],
    },
    Platform {
        flavor: Flavor::Cpu,
        operating_system: "linux",
        architecture: "aarch64",
        tag: "manylinux_2_28_aarch64",
        library: Member {
            path: "onnxruntime/capi/libonnxruntime.so.1.31.1",
            file: "libonnxruntime.so.1.31.1",
            bytes: 25_265_040,
            sha256: "8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467",
        },
        others: &[],
    },
    Platform {
        flavor: Flavor::Cpu,
        operating_system: "macos",
        architecture: "aarch64",
        tag: "macosx_14_0_arm64",
        library: Member {
            path: "onnxruntime/capi/libonnxruntime.1.31.1.dylib",
            file: "libonnxruntime.1.31.1.dylib",
            bytes: 33_037_336,
            sha256: "d586cbe89effc085a09d3341b3cfbd5c322517f9d397aeb20814af21433f2b36",
        },
        others: &[],
    },
    Platform {
        flavor: Flavor::Cpu,
        operating_system: "windows",
        architecture: "x86_64",
        tag: "win_amd64",
        library: Member {
            path: "onnxruntime/capi/onnxruntime.dll",
            file: "onnxruntime.dll",
            bytes: 19_288_376,
            sha256: "e45f61e50d8650885452be538a00bb14a715e46a1bc3691000ce947e89ed0306",
        },
        others: &[],
    },
    Platform {
        flavor: Flavor::Cuda,
        operating_system: "linux",
        architecture: "x86_64",
        tag: "manylinux_2_28_x86_64",
        library: Member {
            path: "onnxruntime/capi/libonnxruntime.so.1.31.1",
            file: "libonnxruntime.so.1.31.1",
            bytes: 29_421_832,
            sha256: "5104254339ecadae808da771bd0b63b240f0dbd466514234905e54372435c303",
        },
        others: &[
            Member {
                path: "onnxruntime/capi/libonnxruntime_providers_shared.so",
                file: "libonnxruntime_providers_shared.so",
                bytes: 14_632,
                sha256: "086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d",
            },
            Member {
                path: "onnxruntime/capi/libonnxruntime_providers_cuda.so",
                file: "libonnxruntime_providers_cuda.so",
                bytes: 284_014_752,
                sha256: "8387867e857499e045caff5d13ac6a5de29571c801562fa2dde0e45f1f31de52",
            },
            Member {
                path: "onnxruntime/capi/libonnxruntime_providers_tensorrt.so",
                file: "libonnxruntime_providers_tensorrt.so",
                bytes: 994_968,
                sha256: "1882ee49fdb0e6fc2d272b00cfaf9a3310bf8580a34385c0eec4d82014ea172e",
            },
        ],
    },
];

impl Platform {
    /// The platform that this program runs on, if a wheel of this build is pinned for it.
    pub(super) fn current(flavor: Flavor) -> Option<&'static Self> {
        PLATFORMS.iter().find(|platform| {
            platform.flavor == flavor
                && platform.operating_system == std::env::consts::OS
                && platform.architecture == std::env::consts::ARCH
        })
    }

    /// All libraries, ONNX Runtime itself last: where it lies, the others do, too.
    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.others.iter().chain(std::iter::once(&self.library))
    }
}
