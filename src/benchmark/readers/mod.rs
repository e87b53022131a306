//! Readers of official data formats. Each gives samples in file order and refuses, with file, row and field, whatever would
//! make a score mean something else.

mod llava_conversations;
mod pope;
mod refcoco;
mod retrieval;
mod rows;
mod table;
mod textvqa;
mod vqa_rad;
mod vqav2;
mod zero_shot;

pub use table::ImageStore;

pub(super) use table::{column_names, found_files, same_kind};

pub(super) use rows::{Id, RowObject, RowPlace, json_array, json_lines, read_text};

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::BenchmarkError;
use super::image::SampleImage;
use super::spec::{BenchmarkSpec, DataFormat};
use super::task::Task;
use super::types::Sample;
use crate::guard::files::contained;

/// A row that could not be made into a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenRow {
    /// File, row, field, what was expected and what was found.
    pub message: String,
}

impl BrokenRow {
    /// Of an error that concerns one row; any other error is given back, as it concerns the file.
    fn new(error: BenchmarkError) -> Result<Self, BenchmarkError> {
        match error {
            BenchmarkError::Row { .. } => Ok(Self { message: error.to_string() }),
            error => Err(error),
        }
    }
}

/// What a reader found.
pub(super) struct Read {
    pub samples: Vec<Sample>,
    pub task: Task,
    /// Rows that could not be read, in the order in which they were met.
    pub broken: Vec<BrokenRow>,
}

/// Reads all samples of a benchmark whose data folder is `root`, and what they share.
pub(super) fn read(spec: &BenchmarkSpec, root: &Path) -> Result<Read, BenchmarkError> {
    let mut context = Context { spec, root, images: HashMap::new(), broken: Vec::new() };
    let (samples, task) = samples(&mut context, spec)?;
    Ok(Read { samples, task, broken: context.broken })
}

/// Reads samples one after another; of a table none is kept. Gives the number of broken rows.
pub(super) fn visit(spec: &BenchmarkSpec, root: &Path, each: &mut dyn FnMut(Sample)) -> Result<usize, BenchmarkError> {
    let mut context = Context { spec, root, images: HashMap::new(), broken: Vec::new() };
    if let DataFormat::Table(table) = &spec.data.format {
        return table::visit(&mut context, table, each);
    }
    samples(&mut context, spec)?.0.into_iter().for_each(each);
    Ok(context.broken.len())
}

fn samples(context: &mut Context<'_>, spec: &BenchmarkSpec) -> Result<(Vec<Sample>, Task), BenchmarkError> {
    let samples = match &spec.data.format {
        DataFormat::Vqav2 { questions, annotations, rows } => vqav2::read(context, questions, annotations, rows)?,
        DataFormat::Pope { splits } => pope::read(context, splits)?,
        DataFormat::Textvqa { annotations, ocr, rows } => textvqa::read(context, annotations, ocr.as_deref(), rows)?,
        DataFormat::LlavaConversations { questions, rows } => llava_conversations::read(context, questions, rows)?,
        DataFormat::RefcocoMinigpt4 { splits } => refcoco::read(context, splits)?,
        DataFormat::VqaRad { questions, phrase_types, rows } => vqa_rad::read(context, questions, phrase_types, rows)?,
        DataFormat::Table(table) => table::read(context, table)?,
        DataFormat::ZeroShot { .. } => {
            let (samples, classes) = zero_shot::read(context)?;
            return Ok((samples, Task::Classify(classes)));
        }
        DataFormat::Retrieval { captions, rows } => {
            let (samples, candidates) = retrieval::read(context, captions, rows)?;
            return Ok((samples, Task::Retrieve(candidates)));
        }
    };
    Ok((samples, Task::Answer))
}

/// What every reader needs.
struct Context<'a> {
    spec: &'a BenchmarkSpec,
    root: &'a Path,
    /// Checked paths by the value of the pattern's hole: many questions share an image.
    images: HashMap<String, PathBuf>,
    /// Rows that could not be read.
    broken: Vec<BrokenRow>,
}

impl Context<'_> {
    /// The path of a data file.
    fn file(&self, name: &str) -> Result<PathBuf, BenchmarkError> {
        Ok(contained(self.root, name)?)
    }

    /// The image of a row. It need not exist (the run records that), but it must lie below the data folder.
    fn image(&mut self, row: &RowPlace<'_>, field: &str, value: &str) -> Result<SampleImage, BenchmarkError> {
        if let Some(path) = self.images.get(value) {
            return Ok(SampleImage::File(path.clone()));
        }
        let name = self.spec.data.image.file_name(value);
        // The value alone must be a plain name, too: `/etc/passwd` is harmless behind a folder, and still a broken file.
        let plain = !value.contains('\0') && contained(self.root, value).is_ok();
        match contained(self.root, &name) {
            Ok(path) if plain => {
                self.images.insert(value.to_owned(), path.clone());
                Ok(SampleImage::File(path))
            }
            _ => Err(row.error(field, "an image below the data folder", format!("{name:?}"))),
        }
    }

    /// The image file of a name.
    fn image_file(&mut self, row: &RowPlace<'_>, field: &str, name: &str) -> Result<PathBuf, BenchmarkError> {
        if let Some(path) = self.images.get(name) {
            return Ok(path.clone());
        }
        match contained(self.root, name) {
            Ok(path) if !name.contains('\0') => {
                self.images.insert(name.to_owned(), path.clone());
                Ok(path)
            }
            _ => Err(row.error(field, "an image below the data folder", format!("{name:?}"))),
        }
    }

    fn check_rows(&self, path: &Path, permitted: &[usize], found: usize) -> Result<(), BenchmarkError> {
        check_rows(path, permitted, found)
    }
}

/// Refuses a file that was cut short or is of another release.
fn check_rows(path: &Path, permitted: &[usize], found: usize) -> Result<(), BenchmarkError> {
    if permitted.is_empty() && found > 0 || permitted.contains(&found) {
        return Ok(());
    }
    let expected = match permitted {
        [] => "at least one row".to_owned(),
        counts => format!("{} rows", counts.iter().map(usize::to_string).collect::<Vec<_>>().join(" or ")),
    };
    Err(BenchmarkError::File { path: path.to_path_buf(), expected, found: format!("{found} rows") })
}

/// The first 16 hexadecimal digits of the SHA-256 over texts, each preceded by its length in bytes.
fn texts_digest<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
