//! What is fetched for which platform, pinned.

/// The ONNX Runtime version that this program is tested with and fetches.
pub const VERSION: &str = "1.31.1";

/// The requirements file with the SHA-256 of every wheel below, for `pip --require-hashes`.
pub(super) const REQUIREMENTS: &str = include_str!("onnxruntime-requirements.txt");

/// One pinned wheel and the library inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Platform {
    /// `std::env::consts::OS`.
    pub operating_system: &'static str,
    /// `std::env::consts::ARCH`.
    pub architecture: &'static str,
    /// Platform tag for `pip download --platform`. The wheel's Python tag (`cp312`) need not match any installed Python.
    pub tag: &'static str,
    /// The library's path in the wheel.
    pub member: &'static str,
    /// The library's file name in our cache.
    pub library: &'static str,
    /// The library's length in bytes.
    pub library_bytes: u64,
    /// The library's SHA-256, taken from the wheel whose own SHA-256 stands in the requirements file.
    pub library_sha256: &'static str,
}

/// All platforms with a pinned wheel.
pub(super) const PLATFORMS: [Platform; 4] = [
    Platform {
        operating_system: "linux",
        architecture: "x86_64",
        tag: "manylinux_2_28_x86_64",
        member: "onnxruntime/capi/libonnxruntime.so.1.31.1",
        library: "libonnxruntime.so.1.31.1",
        library_bytes: 29_352_200,
        library_sha256: "fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3",
    },
    Platform {
        operating_system: "linux",
        architecture: "aarch64",
        tag: "manylinux_2_28_aarch64",
        member: "onnxruntime/capi/libonnxruntime.so.1.31.1",
        library: "libonnxruntime.so.1.31.1",
        library_bytes: 25_265_040,
        library_sha256: "8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467",
    },
    Platform {
        operating_system: "macos",
        architecture: "aarch64",
        tag: "macosx_14_0_arm64",
        member: "onnxruntime/capi/libonnxruntime.1.31.1.dylib",
        library: "libonnxruntime.1.31.1.dylib",
        library_bytes: 33_037_336,
        library_sha256: "d586cbe89effc085a09d3341b3cfbd5c322517f9d397aeb20814af21433f2b36",
    },
    Platform {
        operating_system: "windows",
        architecture: "x86_64",
        tag: "win_amd64",
        member: "onnxruntime/capi/onnxruntime.dll",
        library: "onnxruntime.dll",
        library_bytes: 19_288_376,
        library_sha256: "e45f61e50d8650885452be538a00bb14a715e46a1bc3691000ce947e89ed0306",
    },
];

impl Platform {
    /// The platform that this program runs on, if a wheel is pinned for it.
    pub(super) fn current() -> Option<&'static Self> {
        PLATFORMS
            .iter()
            .find(|platform| platform.operating_system == std::env::consts::OS && platform.architecture == std::env::consts::ARCH)
    }
}
