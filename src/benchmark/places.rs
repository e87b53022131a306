//! Where the data of a benchmark lie, and in which of their forms.

use std::path::{Path, PathBuf};

use super::error::BenchmarkError;
use super::readers::{found_files, same_kind};
use super::spec::{BenchmarkSpec, DataFormat, DataSpec};
use super::table_spec::TableFiles;
use crate::guard::hub_cache;

/// Which data are to be read. By default the first form whose files are all there: below the benchmark's data folder, which is
/// looked for beside its TOML file, in `benchmarks/` below the working directory, and in `benchmarks/` of the source tree that
/// the program was built from; then in the cache of the Hugging Face hub.
#[derive(Clone, Copy, Debug, Default)]
pub struct DataChoice<'a> {
    /// The data folder, or a file of a table.
    pub data: Option<&'a Path>,
    /// Name of the form.
    pub form: Option<&'a str>,
    /// Folder of the hub's cache, where it is not the one that the environment names.
    pub hub_cache: Option<&'a Path>,
}

/// Whether a form of a benchmark's data is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormStatus {
    /// Name of the form.
    pub form: String,
    /// Folder in which all its files are.
    pub found: Option<PathBuf>,
    /// Bytes of its data files, images in files of their own not counted.
    pub size_bytes: Option<u64>,
    /// How to obtain it.
    pub obtain: Option<String>,
}

impl DataSpec {
    /// The number of samples, where the files of one release only are permitted.
    pub fn samples(&self) -> Option<usize> {
        let one = |rows: &[usize]| match rows {
            [one] => Some(*one),
            _ => None,
        };
        match &self.format {
            DataFormat::Vqav2 { rows, .. }
            | DataFormat::Textvqa { rows, .. }
            | DataFormat::LlavaConversations { rows, .. }
            | DataFormat::VqaRad { rows, .. }
            | DataFormat::ZeroShot { rows, .. } => one(rows),
            DataFormat::Pope { splits } | DataFormat::RefcocoMinigpt4 { splits } => {
                splits.iter().map(|split| one(&split.rows)).sum()
            }
            // An image gives several.
            DataFormat::Retrieval { .. } => None,
            DataFormat::Table(table) => one(&table.rows).or_else(|| table.files.iter().map(|files| one(&files.rows)).sum()),
        }
    }

    /// Names of data files that are not below a folder; none if all are.
    fn absent(&self, root: &Path) -> Result<Vec<String>, BenchmarkError> {
        let mut absent = Vec::new();
        for name in self.format.file_names() {
            if found_files(root, name)?.is_empty() {
                absent.push(name.to_owned());
            }
        }
        Ok(absent)
    }

    /// The data files below a folder.
    fn files(&self, root: &Path) -> Result<Vec<PathBuf>, BenchmarkError> {
        let mut files = Vec::new();
        for name in self.format.file_names() {
            files.extend(found_files(root, name)?);
        }
        Ok(files)
    }

    /// Folders in which the form may be.
    fn candidates(&self, beside: Option<&Path>, choice: &DataChoice<'_>) -> Vec<PathBuf> {
        if let Some(data) = choice.data {
            return vec![data.to_path_buf()];
        }
        let root = Path::new(&self.root);
        let mut folders: Vec<PathBuf> = beside.map(|folder| folder.join(root)).into_iter().collect();
        folders.push(Path::new("benchmarks").join(root));
        folders.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("benchmarks").join(root));
        let cache = match choice.hub_cache {
            Some(cache) => Some(cache.to_path_buf()),
            None => hub_cache::root(|name| std::env::var(name).ok()),
        };
        if let (Some(hub), Some(cache)) = (&self.hub, cache) {
            let repository = hub_cache::repository(&cache, hub);
            folders.push(hub_cache::snapshot(&repository).unwrap_or(repository));
        }
        folders
    }
}

impl DataFormat {
    /// Names of the data files; those of tables may be patterns.
    fn file_names(&self) -> Vec<&str> {
        match self {
            Self::Vqav2 { questions, annotations, .. } => vec![questions, annotations],
            Self::Pope { splits } | Self::RefcocoMinigpt4 { splits } => splits.iter().map(|split| split.file.as_str()).collect(),
            Self::Textvqa { annotations, ocr, .. } => {
                let mut names: Vec<&str> = vec![annotations];
                names.extend(ocr.as_deref());
                names
            }
            Self::LlavaConversations { questions, .. } | Self::VqaRad { questions, .. } => vec![questions],
            Self::ZeroShot { labels, class_names, templates, .. } => vec![labels, class_names, templates],
            Self::Retrieval { captions, .. } => vec![captions],
            Self::Table(table) => {
                let own = table.files.iter().map(|files| files.pattern.as_str());
                own.chain(table.joins.iter().flat_map(|join| join.files.iter().map(String::as_str))).collect()
            }
        }
    }
}

/// The form that is read, and its folder.
pub(super) fn find(
    spec: &BenchmarkSpec,
    beside: Option<&Path>,
    choice: &DataChoice<'_>,
) -> Result<(DataSpec, PathBuf), BenchmarkError> {
    let forms: Vec<&DataSpec> = match choice.form {
        None => spec.forms.iter().collect(),
        Some(name) => spec.forms.iter().filter(|form| form.form == name).collect(),
    };
    if let (Some(form), true) = (choice.form, forms.is_empty()) {
        let known = spec.forms.iter().map(|form| form.form.as_str()).collect::<Vec<_>>().join(", ");
        return Err(BenchmarkError::UnknownForm { name: spec.name.clone(), form: form.to_owned(), known });
    }
    if let Some(file) = choice.data.filter(|data| data.is_file()) {
        return lone_file(spec, &forms, file);
    }
    let mut looked = Vec::new();
    for form in &forms {
        let mut tried: Vec<String> = Vec::new();
        for folder in form.candidates(beside, choice) {
            if !folder.is_dir() {
                tried.push(folder.display().to_string());
                continue;
            }
            let absent = form.absent(&folder)?;
            if absent.is_empty() {
                return Ok(((*form).clone(), plain(&folder)));
            }
            tried.push(format!("{} (no such file as {})", folder.display(), absent.join(", ")));
        }
        let name = if forms.len() > 1 { format!("the form {}: ", form.form) } else { String::new() };
        let obtain = form.obtain.as_ref().map_or(String::new(), |obtain| format!(", to be had by {obtain}"));
        looked.push(format!("{name}looked in {}{obtain}", tried.join(", ")));
    }
    Err(BenchmarkError::NoData { name: spec.name.clone(), looked: looked.join("; "), source_url: spec.source.clone() })
}

/// A table of one file, in a file given by its path.
fn lone_file(spec: &BenchmarkSpec, forms: &[&DataSpec], path: &Path) -> Result<(DataSpec, PathBuf), BenchmarkError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    for form in forms {
        let DataFormat::Table(table) = &form.format else { continue };
        if let [files] = table.files.as_slice()
            && same_kind(&files.pattern, name)
        {
            let mut table = table.clone();
            table.files = vec![TableFiles { pattern: name.to_owned(), ..files.clone() }];
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            return Ok((DataSpec { format: DataFormat::Table(table), ..(*form).clone() }, plain(folder)));
        }
    }
    Err(BenchmarkError::File {
        path: path.to_path_buf(),
        expected: format!("the data folder of {}", spec.name),
        found: "a file, and no form of the data is one file of this kind".to_owned(),
    })
}

/// A folder without `.` components, which a root such as "." leaves in every message and record.
fn plain(folder: &Path) -> PathBuf {
    if folder.as_os_str() == "." { folder.to_path_buf() } else { folder.components().collect() }
}

/// Which forms of a built-in benchmark's data are there. Nothing is read but folders.
pub fn form_statuses(spec: &BenchmarkSpec, choice: &DataChoice<'_>) -> Vec<FormStatus> {
    let status = |form: &DataSpec| {
        let complete = |folder: &PathBuf| folder.is_dir() && form.absent(folder).is_ok_and(|absent| absent.is_empty());
        let found = form.candidates(None, choice).into_iter().find(complete).map(|folder| plain(&folder));
        let size = |folder: &PathBuf| {
            let files = form.files(folder).ok()?;
            files.iter().map(|file| file.metadata().ok().map(|metadata| metadata.len())).sum::<Option<u64>>()
        };
        FormStatus { form: form.form.clone(), size_bytes: found.as_ref().and_then(size), found, obtain: form.obtain.clone() }
    };
    spec.forms.iter().map(status).collect()
}
