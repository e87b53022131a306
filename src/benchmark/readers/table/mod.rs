//! Tables: rows of named columns, in JSON, JSON Lines, CSV, TSV or parquet files, made into samples as the benchmark's TOML file
//! says.
//!
//! Rows are read one after another, and images that lie in the files are left there: a sample only knows where its image is. A
//! row that cannot be made into a sample is reported and left out; a file that is not what it should be ends the reading.

mod delimited;
mod expand;
mod fetch;
mod files;
mod join;
mod json;
mod parquet;
mod pictures;
mod reference;
mod sample;
mod source;
mod text_images;
mod text_list;

pub use fetch::ImageStore;

pub(super) use pictures::pictures;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::super::error::BenchmarkError;
use super::super::table_spec::{TableReference, TableSpec};
use super::super::types::Sample;
use super::{BrokenRow, Context, check_rows};
use crate::guard::files::GuardError;
use expand::{expand, with_earlier_images};
use join::Joined;
use sample::SampleMaker;
use source::{FileKind, Wanted};

/// Opens a data file; the message of one that does not exist says what it is.
fn open(path: &Path) -> Result<File, BenchmarkError> {
    match File::open(path) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(BenchmarkError::File {
            path: path.to_path_buf(),
            expected: "a data file of the benchmark".to_owned(),
            found: "no such file".to_owned(),
        }),
        Err(source) => Err(GuardError::Read { path: path.to_path_buf(), source }.into()),
    }
}

/// The files below a folder that a name or pattern stands for; none if there is none.
pub(in crate::benchmark) fn found_files(root: &Path, pattern: &str) -> Result<Vec<PathBuf>, BenchmarkError> {
    files::found(root, pattern)
}

/// Whether two names are of files of the same kind.
pub(in crate::benchmark) fn same_kind(one: &str, other: &str) -> bool {
    let kind = |name: &str| FileKind::of(Path::new(name)).ok();
    kind(one).is_some() && kind(one) == kind(other)
}

/// How many rows are looked at for the columns of a file whose rows need not have the same.
const ROWS_FOR_COLUMNS: usize = 1000;

/// The columns of a file; of JSON the members of its first rows.
pub(in crate::benchmark) fn column_names(path: &Path) -> Result<Vec<String>, BenchmarkError> {
    if FileKind::of(path)? == FileKind::Parquet {
        return parquet::column_names(path);
    }
    let mut names: Vec<String> = Vec::new();
    let mut rows = 0;
    let enough = || BenchmarkError::File { path: path.to_path_buf(), expected: String::new(), found: String::new() };
    let read = source::stream(path, None, &Wanted::default(), &mut |row| {
        for name in row.iter().flat_map(|row| row.columns.keys()) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        rows += 1;
        if rows < ROWS_FOR_COLUMNS { Ok(()) } else { Err(enough()) }
    });
    match read {
        Err(_) if rows >= ROWS_FOR_COLUMNS => Ok(names),
        Err(error) => Err(error),
        Ok(()) => Ok(names),
    }
}

/// Reads all samples of a table.
pub(super) fn read(context: &mut Context<'_>, spec: &TableSpec) -> Result<Vec<Sample>, BenchmarkError> {
    let mut samples = Vec::new();
    let mut taken: HashMap<String, usize> = HashMap::new();
    let mut broken = Vec::new();
    for_each(context, spec, &mut |sample| {
        match sample {
            Ok((sample, place_row, file)) => match taken.get(&sample.key) {
                Some(earlier) => broken.push(BrokenRow {
                    message: BenchmarkError::Row {
                        path: file.to_path_buf(),
                        row: place_row,
                        field: spec.key.text().to_owned(),
                        expected: "each sample once".to_owned(),
                        found: format!("{:?} again, first in row {earlier}", sample.key),
                    }
                    .to_string(),
                }),
                None => {
                    taken.insert(sample.key.clone(), place_row);
                    samples.push(sample);
                }
            },
            Err(row) => broken.push(row),
        }
        Ok(())
    })?;
    context.broken.append(&mut broken);
    Ok(samples)
}

/// Reads samples one after another and keeps none; gives the number of broken rows. Whether keys are unique is not looked at.
pub(super) fn visit(context: &mut Context<'_>, spec: &TableSpec, each: &mut dyn FnMut(Sample)) -> Result<usize, BenchmarkError> {
    let mut broken = 0;
    for_each(context, spec, &mut |sample| {
        match sample {
            Ok((sample, ..)) => each(sample),
            Err(_) => broken += 1,
        }
        Ok(())
    })?;
    Ok(broken)
}

/// What is told of a row that was taken: the sample with the number of its row and its file, or why there is none.
type Told<'t> = dyn FnMut(Result<(Sample, usize, Arc<Path>), BrokenRow>) -> Result<(), BenchmarkError> + 't;

/// Reads samples one after another. Nothing is kept but one entry for each different embedded image.
fn for_each(context: &mut Context<'_>, spec: &TableSpec, told: &mut Told<'_>) -> Result<(), BenchmarkError> {
    let root = context.root;
    let wanted = Wanted {
        columns: None,
        required: Vec::new(),
        image_columns: spec.image_columns().into_iter().map(str::to_owned).collect(),
        hash: spec.image_id.is_none(),
        measure: matches!(spec.reference, TableReference::Region { size: None, .. }),
    };
    let joins = spec.joins.iter().map(|join| Joined::read(join, root, &wanted)).collect::<Result<Vec<_>, _>>()?;
    let in_file = |names: Vec<&str>| names.into_iter().filter(|name| !name.starts_with('@')).map(str::to_owned).collect();
    let wanted = Wanted {
        columns: Some(in_file(spec.columns())),
        // With a join, any column may come from there.
        required: if joins.is_empty() && !spec.absent_is_empty { in_file(spec.required_columns()) } else { Vec::new() },
        ..wanted
    };
    let mut maker = SampleMaker::new(spec);
    let mut by_index: HashMap<String, Vec<source::ImageCells>> = HashMap::new();
    let (mut total, mut read) = (0, 0_u64);
    for files in &spec.files {
        let mut taken = 0;
        let mut last = None;
        for file in files::matching(root, &files.pattern)? {
            source::stream(&file, spec.member.as_deref(), &wanted, &mut |row| {
                // Counted over all files, so that it is the same however the rows are divided.
                read += 1;
                let rows = row.and_then(|mut row| {
                    row.columns.insert("@row".to_owned(), Value::from(read));
                    if let Some(category) = &files.category {
                        row.columns.insert("@category".to_owned(), Value::from(category.as_str()));
                    }
                    let row = with_earlier_images(spec, &mut by_index, row);
                    expand(spec, &joins, row)
                });
                let rows = match rows {
                    Ok(rows) => rows,
                    Err(error) => {
                        taken += 1;
                        return told(Err(BrokenRow::new(error)?));
                    }
                };
                for row in rows {
                    taken += 1;
                    match maker.sample(context, files.category.as_deref(), &row) {
                        Ok(sample) => told(Ok((sample, row.number, Arc::clone(&row.file))))?,
                        Err(error) => told(Err(BrokenRow::new(error)?))?,
                    }
                }
                Ok(())
            })?;
            last = Some(file);
        }
        total += taken;
        if let Some(file) = last.filter(|_| !files.rows.is_empty()) {
            check_rows(&file, &files.rows, taken)?;
        }
    }
    let first = spec.files.first().map_or_else(|| root.to_path_buf(), |files| root.join(&files.pattern));
    check_rows(&first, &spec.rows, total)
}
