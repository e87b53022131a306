//! Where the packages that the project ships are.

use std::path::{Path, PathBuf};

/// Packages and the benchmarks that they are asked in the demo.
pub struct DemoPart {
    /// Shipped packages, in the order of the table: each later one is compared with the first.
    pub packages: &'static [&'static str],
    /// Shipped benchmarks.
    pub benchmarks: &'static [&'static str],
}

/// What the demo runs: every shipped package on the benchmarks that it was made for.
pub const DEMO: [DemoPart; 3] = [
    DemoPart {
        packages: &["pico-llava-1.5", "pico-llava-1.5-stage1", "pico-llava-v1", "pico-llava-next"],
        benchmarks: &[
            "pico-vqa",
            "pico-pope",
            "pico-textvqa",
            "pico-refcoco",
            "pico-fineprint",
            "pico-mme",
            "pico-mmbench",
            "pico-mmbench-likelihood",
            "pico-caption",
        ],
    },
    DemoPart { packages: &["pico-llava-1.5", "pico-llava-med"], benchmarks: &["pico-vqa-rad"] },
    DemoPart { packages: &["pico-clip"], benchmarks: &["pico-zeroshot"] },
];

/// A package by path, or by the name of a shipped one.
///
/// A path that exists wins; a bare name is looked for in `exports/` of the working directory and of the source tree that
/// the program was built from.
pub fn package_path(given: &Path) -> PathBuf {
    let bare = given.components().count() == 1;
    if given.exists() || !bare {
        return given.to_path_buf();
    }
    folders("exports").map(|folder| folder.join(given)).find(|path| path.exists()).unwrap_or_else(|| given.to_path_buf())
}

/// Candidates for a folder of the project: below the working directory, then below the source tree.
fn folders(name: &str) -> impl Iterator<Item = PathBuf> {
    [PathBuf::from(name), Path::new(env!("CARGO_MANIFEST_DIR")).join(name)].into_iter().filter(|path| path.is_dir())
}
