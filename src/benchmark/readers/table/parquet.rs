//! Parquet files: rows by the library's record reader with the bytes of images left out, and images by column readers.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, Type as PhysicalType};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::record::{Field, reader::TreeBuilder};
use parquet::schema::types::{SchemaDescriptor, Type, TypePtr};
use serde_json::{Map, Number, Value};

use super::super::super::error::BenchmarkError;
use super::super::rows::RowPlace;
use super::open;
use super::source::{Each, ImageCell, ImageCells, Row, Wanted};
use super::text_images;

/// The longest column chunk that is read, uncompressed: what one row group may take at most.
const CHUNK_LIMIT_BYTES: i64 = 4 << 30;
/// Values that the record reader decodes at a time and column.
const BATCH_ROWS: usize = 256;

/// Runs the library, which panics on some damaged files, and turns that into an error.
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, BenchmarkError> {
    let wrong = |found: String| BenchmarkError::File { path: path.to_path_buf(), expected: "a parquet file".to_owned(), found };
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| wrong(error.to_string())),
        Err(_) => Err(wrong("a damaged one, which the parquet library gave up on".to_owned())),
    }
}

/// Opens a file and reads its schema and the places of its row groups.
pub(super) fn open_parquet(path: &Path) -> Result<SerializedFileReader<File>, BenchmarkError> {
    let file = open(path)?;
    let reader = guarded(path, || SerializedFileReader::new(file))?;
    for group in reader.metadata().row_groups() {
        let rows = group.num_rows();
        let largest = group.columns().iter().map(|column| column.uncompressed_size()).max().unwrap_or(0);
        if rows < 0 || group.columns().iter().any(|column| column.num_values() < 0) {
            return Err(damaged(path, format!("a row group of {rows} rows")));
        }
        if largest > CHUNK_LIMIT_BYTES {
            return Err(damaged(
                path,
                format!("a column chunk of {largest} bytes, of which at most {CHUNK_LIMIT_BYTES} are read"),
            ));
        }
    }
    Ok(reader)
}

fn damaged(path: &Path, found: String) -> BenchmarkError {
    BenchmarkError::File { path: path.to_path_buf(), expected: "a parquet file".to_owned(), found }
}

/// The columns of a file.
pub(super) fn column_names(path: &Path) -> Result<Vec<String>, BenchmarkError> {
    let reader = open_parquet(path)?;
    Ok(reader.metadata().file_metadata().schema().get_fields().iter().map(|field| field.name().to_owned()).collect())
}

/// The leaf that holds the bytes of an image column.
#[derive(Clone, Copy, Debug)]
pub(super) struct ImageLeaf {
    /// Among the leaves of the file.
    index: usize,
    max_definition: i16,
    is_list: bool,
}

/// Finds the bytes of an image column: a binary column, a struct with `bytes`, or a list of either. `None` if the column holds
/// text, which may be a file name.
fn image_leaf(schema: &SchemaDescriptor, column: &str) -> Option<ImageLeaf> {
    schema.columns().iter().enumerate().find_map(|(index, leaf)| {
        let parts = leaf.path().parts();
        let named = parts.first().is_some_and(|first| first == column);
        let text = leaf.converted_type() == ConvertedType::UTF8 || matches!(leaf.logical_type_ref(), Some(LogicalType::String));
        let bytes = leaf.physical_type() == PhysicalType::BYTE_ARRAY && !text;
        let own = parts.len() == 1 || parts.last().is_some_and(|last| last == "bytes") || leaf.max_rep_level() == 1;
        (named && bytes && own && leaf.max_rep_level() <= 1).then_some(ImageLeaf {
            index,
            max_definition: leaf.max_def_level(),
            is_list: leaf.max_rep_level() == 1,
        })
    })
}

/// The schema without the bytes of images and without columns that nobody wants.
fn projection(schema: &SchemaDescriptor, wanted: &Wanted, leaves: &[(String, Option<ImageLeaf>)]) -> Result<Type, ParquetError> {
    let root = schema.root_schema();
    let mut fields: Vec<TypePtr> = Vec::new();
    for field in root.get_fields() {
        let name = field.name();
        if wanted.columns.as_ref().is_some_and(|columns| !columns.iter().any(|column| column == name)) {
            continue;
        }
        match leaves.iter().find(|(column, _)| column == name) {
            Some((_, Some(_))) => fields.extend(without_bytes(field)?),
            _ => fields.push(Arc::clone(field)),
        }
    }
    Type::group_type_builder(root.name()).with_fields(fields).build()
}

/// The type of an image column without its bytes; `None` if nothing is left. What is left of `struct<bytes, path>` is the path.
fn without_bytes(field: &TypePtr) -> Result<Option<TypePtr>, ParquetError> {
    if field.is_primitive() {
        return Ok((field.get_physical_type() != PhysicalType::BYTE_ARRAY || field.name() == "path").then(|| Arc::clone(field)));
    }
    let mut kept = Vec::new();
    for child in field.get_fields() {
        kept.extend(without_bytes(child)?);
    }
    if kept.is_empty() {
        return Ok(None);
    }
    let info = field.get_basic_info();
    let builder = Type::group_type_builder(field.name())
        .with_fields(kept)
        .with_repetition(info.repetition())
        .with_converted_type(info.converted_type())
        .with_logical_type(info.logical_type_ref().cloned());
    Ok(Some(Arc::new(builder.build()?)))
}

/// Reads the rows.
pub(super) fn stream(path: &Path, wanted: &Wanted, each: &mut Each<'_>) -> Result<(), BenchmarkError> {
    let reader = open_parquet(path)?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let names: Vec<&str> = schema.root_schema().get_fields().iter().map(|field| field.name()).collect();
    wanted.check(path, names.into_iter())?;
    let leaves: Vec<(String, Option<ImageLeaf>)> =
        wanted.image_columns.iter().map(|column| (column.clone(), image_leaf(&schema, column))).collect();
    let file: Arc<Path> = path.into();
    let columns: Vec<Arc<str>> = leaves.iter().map(|(column, _)| column.as_str().into()).collect();
    let plain = guarded(path, || projection(&schema, wanted, &leaves))?;
    // A file of images and nothing else has no column left to read; its rows are only counted.
    let plain = (!plain.get_fields().is_empty()).then(|| Arc::new(SchemaDescriptor::new(Arc::new(plain))));
    let mut number = 0;
    for index in 0..reader.num_row_groups() {
        let group = guarded(path, || reader.get_row_group(index))?;
        let rows = group.metadata().num_rows();
        let mut records = match &plain {
            None => None,
            Some(plain) => {
                let tree = TreeBuilder::new().with_batch_size(BATCH_ROWS);
                Some(guarded(path, || tree.as_iter(Arc::clone(plain), &*group))?)
            }
        };
        let mut images = Vec::new();
        for (position, (_, leaf)) in leaves.iter().enumerate() {
            if let (Some(leaf), Some(column)) = (leaf, columns.get(position)) {
                images.push((Arc::clone(column), ImageColumn::open(path, &*group, *leaf, wanted)?));
            }
        }
        for _ in 0..rows {
            number += 1;
            let place = RowPlace { path, row: number };
            let mut row = Row {
                file: Arc::clone(&file),
                number,
                offset_bytes: None,
                columns: Map::new(),
                cells: Vec::with_capacity(images.len()),
                texts_only: false,
            };
            if let Some(records) = &mut records {
                match guarded(path, || records.next().transpose())? {
                    Some(record) => {
                        row.columns = record.into_columns().into_iter().map(|(name, field)| (name, value(field))).collect();
                    }
                    None => return Err(damaged(path, format!("row {number} missing from a row group of {rows} rows"))),
                }
            }
            let mut broken = None;
            for (column, images) in &mut images {
                match images.next(&place, column, &file, wanted) {
                    Ok(found) => row.cells.push(ImageCells { column: Arc::clone(column), images: found }),
                    Err(error @ BenchmarkError::Row { .. }) => broken = Some(error),
                    Err(error) => return Err(error),
                }
                // A column that is images alone is a column all the same.
                if !row.columns.contains_key(&**column) {
                    row.columns.insert(column.to_string(), Value::Null);
                }
            }
            each(broken.map_or(Ok(row), Err))?;
        }
    }
    Ok(())
}

/// Says of one row after another which images its column has.
enum ImageColumn {
    /// Every row has one, or none has; the bytes need not be looked at.
    Known(bool),
    /// The bytes are read in passing.
    Read(Box<LeafReader>),
}

impl ImageColumn {
    fn open(path: &Path, group: &dyn RowGroupReader, leaf: ImageLeaf, wanted: &Wanted) -> Result<Self, BenchmarkError> {
        let metadata = group.metadata().column(leaf.index);
        if !leaf.is_list && !wanted.hash && !wanted.measure {
            let nulls =
                if leaf.max_definition == 0 { Some(0) } else { metadata.statistics().and_then(|found| found.null_count_opt()) };
            match nulls {
                Some(0) => return Ok(Self::Known(true)),
                Some(nulls) if i64::try_from(nulls).is_ok_and(|nulls| nulls >= metadata.num_values()) => {
                    return Ok(Self::Known(false));
                }
                _ => {}
            }
        }
        Ok(Self::Read(Box::new(LeafReader::open(path, group, leaf)?)))
    }

    fn next(
        &mut self,
        place: &RowPlace<'_>,
        column: &Arc<str>,
        file: &Arc<Path>,
        wanted: &Wanted,
    ) -> Result<Vec<Option<ImageCell>>, BenchmarkError> {
        let cell = |index| ImageCell {
            file: Arc::clone(file),
            row: place.row,
            offset_bytes: None,
            column: Arc::clone(column),
            index,
            sha256: None,
            size: None,
        };
        match self {
            Self::Known(present) => Ok(vec![present.then(|| cell(None))]),
            Self::Read(reader) => {
                let is_list = reader.leaf.is_list;
                let mut cells = Vec::new();
                for (index, bytes) in reader.next(place.path)?.into_iter().enumerate() {
                    let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else {
                        cells.push(None);
                        continue;
                    };
                    let mut cell = cell(is_list.then_some(index));
                    if wanted.hash {
                        cell.sha256 = Some(text_images::hash(bytes.data()));
                    }
                    if wanted.measure {
                        let size = text_images::measure(bytes.data());
                        cell.size = Some(size.map_err(|found| place.error(column, "a picture", found))?);
                    }
                    cells.push(Some(cell));
                }
                Ok(cells)
            }
        }
    }
}

/// Reads the values of a leaf record by record.
pub(super) struct LeafReader {
    leaf: ImageLeaf,
    reader: ColumnReaderImpl<ByteArrayType>,
}

impl LeafReader {
    fn open(path: &Path, group: &dyn RowGroupReader, leaf: ImageLeaf) -> Result<Self, BenchmarkError> {
        match guarded(path, || group.get_column_reader(leaf.index))? {
            ColumnReader::ByteArrayColumnReader(reader) => Ok(Self { leaf, reader }),
            _ => Err(damaged(path, "images in a column of another type".to_owned())),
        }
    }

    /// The values of the next record: one, or those of its list; `None` where there is nothing.
    fn next(&mut self, path: &Path) -> Result<Vec<Option<ByteArray>>, BenchmarkError> {
        let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let (records, _, _) =
            guarded(path, || self.reader.read_records(1, Some(&mut definitions), Some(&mut repetitions), &mut values))?;
        if records != 1 {
            return Err(damaged(path, "fewer images than rows".to_owned()));
        }
        let mut values = values.into_iter();
        if self.leaf.max_definition == 0 {
            return Ok(vec![values.next()]);
        }
        Ok(definitions.into_iter().map(|level| if level == self.leaf.max_definition { values.next() } else { None }).collect())
    }

    fn skip(&mut self, path: &Path, records: usize) -> Result<(), BenchmarkError> {
        let skipped = guarded(path, || self.reader.skip_records(records))?;
        if skipped == records { Ok(()) } else { Err(damaged(path, "fewer images than rows".to_owned())) }
    }
}

/// Fetches images of one column of a file. Asked for in the order of rows, it goes through each row group once.
pub(super) struct ImageCursor {
    file: SerializedFileReader<File>,
    leaf: ImageLeaf,
    /// The row group that is open, with the reader and the row that comes next, from 0 within the file.
    open: Option<(usize, LeafReader, usize)>,
}

impl ImageCursor {
    pub fn open(path: &Path, column: &str) -> Result<Self, BenchmarkError> {
        let file = open_parquet(path)?;
        let schema = file.metadata().file_metadata().schema_descr_ptr();
        let text_leaf =
            || {
                schema.columns().iter().enumerate().find_map(|(index, leaf)| {
                    let named = leaf.path().parts().first().is_some_and(|first| first == column);
                    (named && leaf.physical_type() == PhysicalType::BYTE_ARRAY && leaf.max_rep_level() <= 1)
                        .then_some(ImageLeaf { index, max_definition: leaf.max_def_level(), is_list: leaf.max_rep_level() == 1 })
                })
            };
        let leaf = image_leaf(&schema, column).or_else(text_leaf);
        let leaf = leaf.ok_or_else(|| damaged(path, format!("no column {column:?} with images")))?;
        Ok(Self { file, leaf, open: None })
    }

    /// The values of a row, from 1.
    pub fn row(&mut self, path: &Path, row: usize) -> Result<Vec<Option<ByteArray>>, BenchmarkError> {
        let Some(wanted) = row.checked_sub(1) else { return Err(damaged(path, "no row 0".to_owned())) };
        let mut begin = 0;
        for index in 0..self.file.num_row_groups() {
            let rows = usize::try_from(self.file.metadata().row_group(index).num_rows()).unwrap_or(0);
            if wanted >= begin && wanted - begin < rows {
                let (mut reader, next) = match self.open.take() {
                    Some((open, reader, next)) if open == index && next <= wanted => (reader, next),
                    _ => {
                        let group = guarded(path, || self.file.get_row_group(index))?;
                        (LeafReader::open(path, &*group, self.leaf)?, begin)
                    }
                };
                reader.skip(path, wanted - next)?;
                let values = reader.next(path)?;
                self.open = Some((index, reader, wanted + 1));
                return Ok(values);
            }
            begin = begin.saturating_add(rows);
        }
        Err(damaged(path, format!("no row {row}, but {begin} rows")))
    }
}

/// A field as JSON. Bytes that are no text become null: only images are bytes, and these are left out.
fn value(field: Field) -> Value {
    let float = |number: f64| Number::from_f64(number).map_or(Value::Null, Value::Number);
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => Value::Bool(value),
        Field::Byte(number) => Value::from(number),
        Field::Short(number) => Value::from(number),
        Field::Int(number) | Field::Date(number) | Field::TimeMillis(number) => Value::from(number),
        Field::Long(number) | Field::TimeMicros(number) | Field::TimestampMillis(number) | Field::TimestampMicros(number) => {
            Value::from(number)
        }
        Field::UByte(number) => Value::from(number),
        Field::UShort(number) => Value::from(number),
        Field::UInt(number) => Value::from(number),
        Field::ULong(number) => Value::from(number),
        Field::Float16(number) => float(f64::from(number)),
        // As it is written in decimals, not with the digits that widening brings.
        Field::Float(number) => number.to_string().parse().map_or(Value::Null, float),
        Field::Double(number) => float(number),
        Field::Str(text) => Value::String(text),
        Field::Bytes(bytes) => match bytes.as_utf8() {
            Ok(text) => Value::String(text.to_owned()),
            Err(_) => Value::Null,
        },
        Field::Group(row) => Value::Object(row.into_columns().into_iter().map(|(name, field)| (name, value(field))).collect()),
        Field::ListInternal(list) => Value::Array(list.elements().iter().cloned().map(value).collect()),
        Field::MapInternal(map) => {
            let entries = map.entries().iter().cloned();
            Value::Object(entries.filter_map(|(key, field)| Some((key_text(key)?, value(field)))).collect())
        }
        other => Value::String(other.to_string()),
    }
}

fn key_text(key: Field) -> Option<String> {
    match value(key) {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
