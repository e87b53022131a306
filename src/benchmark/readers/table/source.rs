//! Rows of named columns out of a file, whatever its kind, one after another.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::super::super::error::BenchmarkError;
use super::super::rows::RowPlace;
use super::{delimited, json, parquet, text_images};

/// A row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// The file.
    pub file: Arc<Path>,
    /// From 1; in JSON Lines the line, in CSV and TSV the header is row 1.
    pub number: usize,
    /// Where the row begins in a text file.
    pub offset_bytes: Option<u64>,
    /// Values by column. Columns whose name begins with `@` are not in the file: `@key`, `@index`, `@row`, `@category`,
    /// `@value`.
    pub columns: Map<String, Value>,
    /// Images that stay in the file.
    pub cells: Vec<ImageCells>,
    /// Whether every value is text, so that a list is the text of a list.
    pub texts_only: bool,
}

/// The images of a column of one row.
#[derive(Clone, Debug)]
pub(super) struct ImageCells {
    /// The column.
    pub column: Arc<str>,
    /// Places in order; `None` where there is no embedded image.
    pub images: Vec<Option<ImageCell>>,
}

/// An embedded image, and what was found out about it in passing.
#[derive(Clone, Debug)]
pub(super) struct ImageCell {
    /// The file.
    pub file: Arc<Path>,
    /// As in [`Row`].
    pub row: usize,
    /// As in [`Row`].
    pub offset_bytes: Option<u64>,
    /// The column.
    pub column: Arc<str>,
    /// Place in a list.
    pub index: Option<usize>,
    /// SHA-256 of the bytes, hexadecimal, if it was asked for.
    pub sha256: Option<Arc<str>>,
    /// Width and height in pixels, if they were asked for.
    pub size: Option<(u32, u32)>,
}

/// What is wanted of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// Columns that are needed; `None` for all. Files whose rows are read as a whole may give more.
    pub columns: Option<Vec<String>>,
    /// Columns that a file with a fixed set of columns must have.
    pub required: Vec<String>,
    /// Columns that hold images.
    pub image_columns: Vec<String>,
    /// Whether embedded images are to be hashed.
    pub hash: bool,
    /// Whether embedded images are to be measured.
    pub measure: bool,
}

/// Told of each row. A row that cannot be read comes as an error; an error that is given back ends the reading.
pub(super) type Each<'e> = dyn FnMut(Result<Row, BenchmarkError>) -> Result<(), BenchmarkError> + 'e;

/// The kinds of files, by the end of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Json { gzip: bool },
    JsonLines { gzip: bool },
    Delimited { delimiter: u8 },
    Parquet,
}

impl FileKind {
    pub fn of(path: &Path) -> Result<Self, BenchmarkError> {
        let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let (name, gzip) = match name.strip_suffix(".gz") {
            Some(name) => (name.to_owned(), true),
            None => (name, false),
        };
        let kind = match name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("json") => Some(Self::Json { gzip }),
            Some("jsonl" | "ndjson") => Some(Self::JsonLines { gzip }),
            Some("csv") if !gzip => Some(Self::Delimited { delimiter: b',' }),
            Some("tsv") if !gzip => Some(Self::Delimited { delimiter: b'\t' }),
            Some("parquet") if !gzip => Some(Self::Parquet),
            _ => None,
        };
        kind.ok_or_else(|| BenchmarkError::File {
            path: path.to_path_buf(),
            expected: "a file called .json, .jsonl (also .gz), .csv, .tsv or .parquet".to_owned(),
            found: "another ending".to_owned(),
        })
    }
}

/// Reads the rows of a file.
pub(super) fn stream(path: &Path, member: Option<&str>, wanted: &Wanted, each: &mut Each<'_>) -> Result<(), BenchmarkError> {
    let kind = FileKind::of(path)?;
    let gzip = matches!(kind, FileKind::Json { gzip: true } | FileKind::JsonLines { gzip: true });
    let mut lifted = |row: Result<Row, BenchmarkError>| match row {
        Ok(mut row) => match text_images::lift(&mut row, wanted, gzip) {
            Ok(()) => each(Ok(row)),
            Err(error) => each(Err(error)),
        },
        Err(error) => each(Err(error)),
    };
    match kind {
        FileKind::Json { gzip } => json::stream_document(path, gzip, member, &mut lifted),
        FileKind::JsonLines { gzip } => json::stream_lines(path, gzip, &mut lifted),
        FileKind::Delimited { delimiter } => delimited::stream(path, delimiter, wanted, &mut lifted),
        FileKind::Parquet => parquet::stream(path, wanted, &mut lifted),
    }
}

impl Wanted {
    /// Checks the columns of a file that has the same ones in every row.
    pub fn check<'n>(&self, path: &Path, names: impl Iterator<Item = &'n str>) -> Result<(), BenchmarkError> {
        let names: Vec<&str> = names.collect();
        match self.required.iter().find(|column| !names.contains(&column.as_str())) {
            None => Ok(()),
            Some(missing) => Err(BenchmarkError::File {
                path: path.to_path_buf(),
                expected: format!("a column {missing:?}"),
                found: format!("only the columns {names:?}"),
            }),
        }
    }
}

impl Row {
    /// For errors.
    pub fn place(&self) -> RowPlace<'_> {
        RowPlace { path: &self.file, row: self.number }
    }

    /// The images of a column.
    pub fn cells_of(&self, column: &str) -> &[Option<ImageCell>] {
        self.cells.iter().find(|cells| &*cells.column == column).map(|cells| cells.images.as_slice()).unwrap_or_default()
    }
}
