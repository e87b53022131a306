//! CSV and TSV as pandas writes and reads them: a header, quotes around cells that need them, an empty cell for no value.

use std::cell::Cell;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use csv::ByteRecord;
use serde_json::{Map, Value};

use super::super::super::error::BenchmarkError;
use super::super::rows::RowPlace;
use super::open;
use super::source::{Each, Row, Wanted};

/// The longest row. The largest rows of published sets hold a picture of a few megabytes as base64.
const ROW_LIMIT_BYTES: u64 = 256 << 20;

/// Refuses a row that does not end: the reader would hold all of it.
struct Capped<R> {
    inner: R,
    read_bytes: u64,
    /// How far may be read, raised with every row.
    allowed_bytes: Rc<Cell<u64>>,
    /// Quotes met so far.
    quotes: Rc<Cell<u64>>,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.read_bytes > self.allowed_bytes.get() {
            return Err(std::io::Error::other(format!("a row of more than {} MiB", ROW_LIMIT_BYTES >> 20)));
        }
        let count = self.inner.read(buffer)?;
        self.read_bytes += count as u64;
        let quotes = buffer.iter().take(count).filter(|byte| **byte == b'"').count();
        self.quotes.set(self.quotes.get() + quotes as u64);
        Ok(count)
    }
}

fn builder(delimiter: u8, has_headers: bool) -> csv::ReaderBuilder {
    let mut builder = csv::ReaderBuilder::new();
    builder.delimiter(delimiter).has_headers(has_headers).flexible(true);
    builder
}

/// Reads the rows.
pub(super) fn stream(path: &Path, delimiter: u8, wanted: &Wanted, each: &mut Each<'_>) -> Result<(), BenchmarkError> {
    let allowed_bytes = Rc::new(Cell::new(ROW_LIMIT_BYTES));
    let quotes = Rc::new(Cell::new(0));
    let capped =
        Capped { inner: open(path)?, read_bytes: 0, allowed_bytes: Rc::clone(&allowed_bytes), quotes: Rc::clone(&quotes) };
    let mut reader = builder(delimiter, true).from_reader(capped);
    let file: Arc<Path> = path.into();
    let columns = header(path, reader.byte_headers().map_err(|error| broken_file(path, error))?)?;
    wanted.check(path, columns.iter().map(String::as_str))?;
    let mut record = ByteRecord::new();
    // The header is row 1.
    let mut number = 1;
    loop {
        allowed_bytes.set(reader.position().byte().saturating_add(ROW_LIMIT_BYTES));
        let several_lines = record.iter().any(|cell| cell.contains(&b'\n'));
        if !reader.read_byte_record(&mut record).map_err(|error| broken_file(path, error))? {
            // The last row of a file that ends within quotes has swallowed all that was behind them.
            return match several_lines && quotes.get() % 2 == 1 {
                true => Err(BenchmarkError::File {
                    path: path.to_path_buf(),
                    expected: "quotes in pairs".to_owned(),
                    found: format!("a cell of row {number} that is never closed"),
                }),
                false => Ok(()),
            };
        }
        number += 1;
        let place = RowPlace { path, row: number };
        let offset_bytes = record.position().map(csv::Position::byte);
        each(cells(&place, &columns, &record).map(|columns| Row {
            file: Arc::clone(&file),
            number,
            offset_bytes,
            columns,
            cells: Vec::new(),
            texts_only: true,
        }))?;
    }
}

/// The names of the columns.
fn header(path: &Path, record: &ByteRecord) -> Result<Vec<String>, BenchmarkError> {
    let place = RowPlace { path, row: 1 };
    let mut columns: Vec<String> = Vec::with_capacity(record.len());
    for cell in record {
        let Ok(name) = std::str::from_utf8(cell) else {
            return Err(place.error("-", "a header in UTF-8", "other bytes"));
        };
        let name = name.trim().to_owned();
        if !name.is_empty() && columns.contains(&name) {
            return Err(place.error("-", "each column once", format!("{name:?} twice")));
        }
        columns.push(name);
    }
    if columns.iter().all(String::is_empty) {
        return Err(BenchmarkError::File {
            path: path.to_path_buf(),
            expected: "a header with the names of the columns".to_owned(),
            found: "none".to_owned(),
        });
    }
    Ok(columns)
}

fn cells(place: &RowPlace<'_>, columns: &[String], record: &ByteRecord) -> Result<Map<String, Value>, BenchmarkError> {
    if record.len() != columns.len() {
        let found = format!("{}", record.len());
        return Err(place.error("-", format!("{} cells, as the header has", columns.len()), found));
    }
    let mut row = Map::with_capacity(columns.len());
    for (name, cell) in columns.iter().zip(record) {
        let value = match std::str::from_utf8(cell) {
            Ok("") => Value::Null,
            Ok(text) => Value::String(text.to_owned()),
            Err(error) => {
                return Err(place.error(
                    name,
                    "UTF-8 text",
                    format!("other bytes at offset {} of the cell", error.valid_up_to()),
                ));
            }
        };
        row.insert(name.clone(), value);
    }
    Ok(row)
}

fn broken_file(path: &Path, error: csv::Error) -> BenchmarkError {
    BenchmarkError::File { path: path.to_path_buf(), expected: "rows of cells".to_owned(), found: error.to_string() }
}

/// One cell of the row that begins at an offset.
pub(super) fn cell(path: &Path, delimiter: u8, offset_bytes: u64, column: &str) -> Result<String, BenchmarkError> {
    let mut file = open(path)?;
    let columns =
        header(path, builder(delimiter, true).from_reader(&mut file).byte_headers().map_err(|error| broken_file(path, error))?)?;
    let Some(index) = columns.iter().position(|name| name == column) else {
        return Err(BenchmarkError::File {
            path: path.to_path_buf(),
            expected: format!("a column {column:?}"),
            found: format!("only the columns {columns:?}"),
        });
    };
    let broken = |found: String| BenchmarkError::File {
        path: path.to_path_buf(),
        expected: format!("a row at byte {offset_bytes}"),
        found,
    };
    file.seek(SeekFrom::Start(offset_bytes)).map_err(|error| broken(error.to_string()))?;
    let limited: std::io::Take<File> = file.take(ROW_LIMIT_BYTES);
    let mut reader = builder(delimiter, false).from_reader(limited);
    let mut record = ByteRecord::new();
    reader.read_byte_record(&mut record).map_err(|error| broken_file(path, error))?;
    let cell = record.get(index).ok_or_else(|| broken("a shorter row".to_owned()))?;
    String::from_utf8(cell.to_vec()).map_err(|_| broken("a cell that is not UTF-8".to_owned()))
}
