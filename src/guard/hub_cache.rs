//! Where the Python library `huggingface_hub` keeps what it downloads: paths only, nothing is read but the name of a commit.

use std::path::{Path, PathBuf};

use super::files::read_text_capped;

/// Longest content of a file below `refs`: a commit has 40 characters.
const REFERENCE_LIMIT_BYTES: u64 = 1024;

/// The cache that the environment names: `HF_HUB_CACHE`, else `hub` in `HF_HOME`, else in `~/.cache/huggingface`; `None` if there
/// is no home folder. `variable` reads a variable; empty ones count as unset.
pub fn root(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // HUGGINGFACE_HUB_CACHE is the older name, which the Python library still reads.
    if let Some(root) = set("HF_HUB_CACHE").or_else(|| set("HUGGINGFACE_HUB_CACHE")) {
        return Some(root);
    }
    let home = set("HF_HOME").or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")));
    let home = home.or_else(|| etcetera::home_dir().ok().map(|home| home.join(".cache").join("huggingface")));
    Some(home?.join("hub"))
}

/// The folder of a repository such as `datasets/lmms-lab/POPE` below a cache.
pub fn repository(root: &Path, name: &str) -> PathBuf {
    root.join(name.replace('/', "--"))
}

/// The newest snapshot of a repository that is there: that of `refs/main`, else the last one by name.
pub fn snapshot(repository: &Path) -> Option<PathBuf> {
    let snapshots = repository.join("snapshots");
    let main = read_text_capped(&repository.join("refs").join("main"), REFERENCE_LIMIT_BYTES).ok();
    let plain = |commit: &str| !commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    let named = main.filter(|commit| plain(commit.trim())).map(|commit| snapshots.join(commit.trim()));
    if let Some(folder) = named.filter(|folder| folder.is_dir()) {
        return Some(folder);
    }
    let folders = snapshots.read_dir().ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    folders.filter(|folder| folder.is_dir()).max()
}
