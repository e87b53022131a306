//! Baselines: runs kept as what later ones are measured by.
//!
//! A baseline is a folder of copies of run directories, and `baseline.toml` that pins them:
//!
//! ```text
//! NAME/
//!   baseline.toml        what is kept: written last, in one step
//!   runs-…/              the copies, PACKAGE/BENCHMARK each; the name tells their content
//! ```
//!
//! Saving over a baseline writes the new copies beside the old ones before `baseline.toml` is replaced, so that at every
//! moment the folder holds the old baseline or the new one; what is left over of an interrupted save is removed by the next.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::disk::{Disk, RealDisk, failed, replace_file};
use super::{HEADER_FILE, LOG_FILE, LOG_LIMIT_BYTES, Run, RunHeader, SCORES_FILE, SUMMARY_FILE, StoreError};
use crate::guard::files::{GuardError, contained, read_capped, read_text_capped};

/// Name of the file that makes a folder a baseline.
pub const BASELINE_FILE: &str = "baseline.toml";

/// Largest `baseline.toml` read, in bytes.
const BASELINE_LIMIT_BYTES: u64 = 16 << 20;

/// Longest name of a baseline in bytes.
const NAME_LIMIT_BYTES: usize = 100;

/// Files of a run that a baseline keeps; all but the first two may be absent.
const KEPT: [&str; 5] = [HEADER_FILE, LOG_FILE, SCORES_FILE, SUMMARY_FILE, "judge.jsonl"];

/// What can go wrong with a baseline.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// A name that is no plain folder name.
    #[error(
        "{name:?} is no name of a baseline: expected up to 100 letters, digits, `.`, `-` and `_`, beginning with a letter or digit"
    )]
    Name {
        /// What was given.
        name: String,
    },
    /// There is none of this name.
    #[error("there is no baseline named {name:?} in {}: {}", .folder.display(), listed(.known))]
    Unknown {
        /// The name.
        name: String,
        /// Where it was looked for.
        folder: PathBuf,
        /// The baselines there.
        known: Vec<String>,
    },
    /// There is one already.
    #[error("there is a baseline named {name:?} already: `baseline update` replaces it and shows what changes")]
    Exists {
        /// The name.
        name: String,
    },
    /// The folder has no `baseline.toml`: its saving or removal was cut short.
    #[error("baseline {name:?} is half-written: {} has no {BASELINE_FILE}; save it again, or remove it", .folder.display())]
    Half {
        /// The name.
        name: String,
        /// Its folder.
        folder: PathBuf,
    },
    /// `baseline.toml` is not what it must be.
    #[error("baseline {name:?} is damaged: {}: {message}", .path.display())]
    Description {
        /// The name.
        name: String,
        /// The file.
        path: PathBuf,
        /// What the parser said.
        message: String,
    },
    /// A kept file is missing or not as it was saved.
    #[error("baseline {name:?} is damaged: {}: expected {expected}, found {found}", .path.display())]
    Damaged {
        /// The name.
        name: String,
        /// The file.
        path: PathBuf,
        /// As it was saved.
        expected: String,
        /// As it is.
        found: String,
    },
    /// Two runs of one package on one benchmark.
    #[error("both {} and {} are runs of {package} on {benchmark}: a baseline keeps one", .first.display(), .second.display())]
    Twice {
        /// Package name.
        package: String,
        /// Benchmark name.
        benchmark: String,
        /// The first run directory.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
    },
    /// A run that is not whole.
    #[error("{} cannot be kept as a baseline: {reason}", .directory.display())]
    Unfit {
        /// Its directory.
        directory: PathBuf,
        /// Why.
        reason: String,
    },
    /// Reading or writing failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<GuardError> for BaselineError {
    fn from(error: GuardError) -> Self {
        Self::Store(error.into())
    }
}

fn listed(known: &[String]) -> String {
    if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) }
}

/// A file as it was saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptFile {
    /// Its name in the run directory.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its content, hexadecimal.
    pub sha256: String,
}

/// A run as it was saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaselineRun {
    /// Its folder, relative to the folder of copies.
    pub directory: String,
    /// Package name.
    pub package: String,
    /// Identity hash of the package.
    pub identity: String,
    /// Precision of the package.
    pub precision: String,
    /// Benchmark name.
    pub benchmark: String,
    /// Scorer and its version.
    pub scorer: String,
    /// Hash of the sample set.
    pub samples_sha256: String,
    /// Samples.
    pub samples: usize,
    /// Samples of the whole benchmark: more than `samples` in a limited run.
    pub samples_available: usize,
    /// When the run was started, RFC 3339 in UTC.
    pub started: String,
    /// Tag of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Commit of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Its files.
    pub files: Vec<KeptFile>,
}

/// The content of `baseline.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Format version, now 1.
    pub format: u32,
    /// Its name.
    pub name: String,
    /// When it was saved, RFC 3339 in UTC.
    pub saved: String,
    /// The folder of copies.
    pub folder: String,
    /// What it keeps.
    pub runs: Vec<BaselineRun>,
}

impl Baseline {
    /// Reads the baseline in `folder` and checks every file against its hash.
    pub fn open(folder: &Path) -> Result<Self, BaselineError> {
        let name = name_of(folder);
        let path = folder.join(BASELINE_FILE);
        if !path.is_file() {
            return Err(BaselineError::Half { name, folder: folder.to_path_buf() });
        }
        let text = read_text_capped(&path, BASELINE_LIMIT_BYTES)?;
        let described = |message: String| BaselineError::Description { name: name.clone(), path: path.clone(), message };
        let baseline: Self = toml::from_str(&text).map_err(|error| described(error.to_string().trim_end().to_owned()))?;
        if baseline.format != 1 {
            return Err(described(format!("format: expected 1, found {}", baseline.format)));
        }
        if baseline.runs.is_empty() {
            return Err(described("runs: expected at least one, found none".to_owned()));
        }
        let copies = contained(folder, &baseline.folder)?;
        for run in &baseline.runs {
            let directory = contained(&copies, &run.directory)?;
            for file in &run.files {
                let path = contained(&directory, &file.name)?;
                check(&name, &path, file)?;
            }
        }
        Ok(baseline)
    }

    /// The run directories of the baseline in `folder`, in the order in which they were saved.
    pub fn directories(&self, folder: &Path) -> Result<Vec<PathBuf>, BaselineError> {
        let copies = contained(folder, &self.folder)?;
        self.runs.iter().map(|run| Ok(contained(&copies, &run.directory)?)).collect()
    }
}

fn check(name: &str, path: &Path, file: &KeptFile) -> Result<(), BaselineError> {
    let damaged = |expected: String, found: String| BaselineError::Damaged {
        name: name.to_owned(),
        path: path.to_path_buf(),
        expected,
        found,
    };
    if !path.is_file() {
        return Err(damaged(format!("a file of {} bytes", file.bytes), "none".to_owned()));
    }
    let bytes = read_capped(path, LOG_LIMIT_BYTES)?;
    if bytes.len() as u64 != file.bytes {
        return Err(damaged(format!("{} bytes", file.bytes), format!("{} bytes", bytes.len())));
    }
    let found = hash(&bytes);
    if found != file.sha256 {
        return Err(damaged(format!("SHA-256 {}", file.sha256), found));
    }
    Ok(())
}

fn name_of(folder: &Path) -> String {
    folder.file_name().map_or_else(|| folder.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check_name(name: &str) -> Result<(), BaselineError> {
    let plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_');
    let begins = name.starts_with(|character: char| character.is_ascii_alphanumeric());
    if begins && name.len() <= NAME_LIMIT_BYTES && name.chars().all(plain) {
        Ok(())
    } else {
        Err(BaselineError::Name { name: name.to_owned() })
    }
}

/// Names of the baselines below `folder`, sorted, with whether each is whole enough to have a `baseline.toml`. None where the
/// folder does not exist.
pub fn list_baselines(folder: &Path) -> Result<Vec<(String, bool)>, BaselineError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("list", folder)(error).into()),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("list", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && check_name(&name).is_ok() {
            names.push((name, entry.path().join(BASELINE_FILE).is_file()));
        }
    }
    names.sort();
    Ok(names)
}

/// The folder of the baseline `name` below `folder`; it is an error if there is none.
pub fn baseline_folder(folder: &Path, name: &str) -> Result<PathBuf, BaselineError> {
    check_name(name)?;
    let own = folder.join(name);
    if own.is_dir() {
        return Ok(own);
    }
    let known = list_baselines(folder)?.into_iter().map(|(name, _)| name).collect();
    Err(BaselineError::Unknown { name: name.to_owned(), folder: folder.to_path_buf(), known })
}

/// What is saved.
#[derive(Clone, Copy, Debug)]
pub struct Saving<'a> {
    /// Name of the baseline.
    pub name: &'a str,
    /// The time to record, RFC 3339 in UTC.
    pub saved: &'a str,
    /// Whether runs of a part of their benchmark may be kept.
    pub allow_limited: bool,
    /// Whether a baseline of this name is replaced.
    pub replace: bool,
}

/// Keeps copies of `runs` as a baseline below `folder`. A run that is incomplete or damaged is refused.
pub fn save_baseline(folder: &Path, saving: Saving<'_>, runs: &[Run]) -> Result<Baseline, BaselineError> {
    save_with(&mut RealDisk, folder, saving, runs)
}

pub(super) fn save_with(disk: &mut dyn Disk, folder: &Path, saving: Saving<'_>, runs: &[Run]) -> Result<Baseline, BaselineError> {
    check_name(saving.name)?;
    let own = folder.join(saving.name);
    if !saving.replace && own.join(BASELINE_FILE).is_file() {
        return Err(BaselineError::Exists { name: saving.name.to_owned() });
    }
    for (index, run) in runs.iter().enumerate() {
        check_fit(run, saving.allow_limited)?;
        let (model, benchmark) = (&run.header.model.name, &run.header.benchmark.name);
        let same = |other: &&Run| (&other.header.model.name, &other.header.benchmark.name) == (model, benchmark);
        if let Some(first) = runs.iter().take(index).find(same) {
            return Err(BaselineError::Twice {
                package: model.clone(),
                benchmark: benchmark.clone(),
                first: first.directory.clone(),
                second: run.directory.clone(),
            });
        }
    }
    // Read everything first: the hash of all that is kept names the folder of copies.
    let mut kept = Vec::new();
    let mut whole = Sha256::new();
    for (index, run) in runs.iter().enumerate() {
        let mut contents = Vec::new();
        for name in KEPT {
            let path = run.directory.join(name);
            if !path.is_file() && name != HEADER_FILE && name != LOG_FILE {
                continue;
            }
            let bytes = read_capped(&path, LOG_LIMIT_BYTES)?;
            let file = KeptFile { name: name.to_owned(), bytes: bytes.len() as u64, sha256: hash(&bytes) };
            whole.update(format!("{index} {name} {}\n", file.sha256));
            contents.push((file, bytes));
        }
        kept.push(contents);
    }
    let digest: String = whole.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let copies = format!("runs-{digest}");
    let baseline = Baseline {
        format: 1,
        name: saving.name.to_owned(),
        saved: saving.saved.to_owned(),
        folder: copies.clone(),
        runs: runs.iter().zip(&kept).enumerate().map(|(index, (run, files))| described(index, &run.header, files)).collect(),
    };
    let copies = own.join(copies);
    // Never over the copies of a baseline that is whole: they are the same already.
    let written = Baseline::open(&own).is_ok_and(|present| present.folder == baseline.folder);
    for (run, contents) in baseline.runs.iter().zip(&kept).filter(|_| !written) {
        let directory = contained(&copies, &run.directory)?;
        disk.create_directory(&directory).map_err(failed("create", &directory))?;
        for (file, bytes) in contents {
            let path = directory.join(&file.name);
            disk.write_file(&path, bytes).map_err(failed("write", &path))?;
        }
        disk.sync_directory(&directory).map_err(failed("sync", &directory))?;
    }
    for directory in [&copies, folder] {
        disk.sync_directory(directory).map_err(failed("sync", directory))?;
    }
    let path = own.join(BASELINE_FILE);
    let text = toml::to_string(&baseline).map_err(|error| BaselineError::Description {
        name: saving.name.to_owned(),
        path: path.clone(),
        message: error.to_string(),
    })?;
    replace_file(disk, &path, text.as_bytes())?;
    // Copies of an earlier state: they are of no use, and that they may be stuck is no harm.
    for entry in fs::read_dir(&own).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("runs-") && name != baseline.folder {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(baseline)
}

/// Why a run cannot be kept, if it cannot.
fn check_fit(run: &Run, allow_limited: bool) -> Result<(), BaselineError> {
    let benchmark = &run.header.benchmark;
    let unfit = |reason: String| Err(BaselineError::Unfit { directory: run.directory.clone(), reason });
    if !run.complete {
        return unfit(format!("the run is incomplete: {} of {} samples", run.records.len(), benchmark.samples));
    }
    if let Some(note) = run.notes.first() {
        return unfit(format!("its log is damaged: {note}"));
    }
    if benchmark.samples < benchmark.samples_available && !allow_limited {
        return unfit(format!(
            "it is limited to {} of {} samples of {}; --allow-limited keeps it all the same",
            benchmark.samples, benchmark.samples_available, benchmark.name
        ));
    }
    Ok(())
}

fn described(index: usize, header: &RunHeader, contents: &[(KeptFile, Vec<u8>)]) -> BaselineRun {
    BaselineRun {
        directory: format!("{index:02}-{}-{}", folder_name(&header.model.name), folder_name(&header.benchmark.name)),
        package: header.model.name.clone(),
        identity: header.model.identity.clone(),
        precision: header.model.precision.clone(),
        benchmark: header.benchmark.name.clone(),
        scorer: header.benchmark.scorer.clone(),
        samples_sha256: header.benchmark.samples_sha256.clone(),
        samples: header.benchmark.samples,
        samples_available: header.benchmark.samples_available,
        started: header.started.clone(),
        tag: header.tag.clone(),
        commit: header.commit.clone(),
        files: contents.iter().map(|(file, _)| file.clone()).collect(),
    }
}

/// A name as a part of a folder name: anything but plain characters becomes `_`.
fn folder_name(name: &str) -> String {
    let plain =
        |character: char| if character.is_ascii_alphanumeric() || matches!(character, '.' | '-') { character } else { '_' };
    name.chars().take(60).map(plain).collect()
}

/// Removes the baseline `name`, whole or half-written: first `baseline.toml`, so that it is never taken for a whole one, then
/// its folder.
pub fn remove_baseline(folder: &Path, name: &str) -> Result<(), BaselineError> {
    let own = baseline_folder(folder, name)?;
    // Nothing but what a baseline is made of goes.
    let foreign = fs::read_dir(&own)
        .map_err(failed("list", &own))?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .find(|name| !name.starts_with("runs-") && !name.starts_with(BASELINE_FILE));
    if let Some(found) = foreign {
        return Err(BaselineError::Damaged {
            name: name.to_owned(),
            path: own.join(&found),
            expected: "nothing but baseline.toml and copies of runs".to_owned(),
            found: "something else, so nothing was removed".to_owned(),
        });
    }
    let description = own.join(BASELINE_FILE);
    if description.exists() {
        fs::remove_file(&description).map_err(failed("remove", &description))?;
    }
    fs::remove_dir_all(&own).map_err(failed("remove", &own))?;
    Ok(())
}
