//! What tests of tables share: folders with a benchmark's TOML file, small pictures, and parquet files as the Hugging Face
//! library `datasets` writes them.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses some of it, and one that cannot go on has failed")]

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use llava_gauge::benchmark::Benchmark;
use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use tempfile::TempDir;

/// A folder with `benchmark.toml` and data.
pub struct Folder(pub TempDir);

impl Folder {
    pub fn new(toml: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("benchmark.toml", toml);
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn load(&self) -> Result<Benchmark, String> {
        Benchmark::load(self.path("benchmark.toml").to_str().unwrap(), None).map_err(|error| error.to_string())
    }
}

/// A TOML file around the fields of `[data]`, `[prompt]` and `[scorer]`.
pub fn toml(data: &str, prompt: &str, scorer: &str) -> String {
    format!(
        "name = \"own\"\ntitle = \"Own\"\nlicence = \"CC0\"\nsource = \"here\"\n{data}\n[prompt]\nsource = \"here\"\n{prompt}\n\
         [generation]\nmax_new_tokens = 8\n[scorer]\n{scorer}\n"
    )
}

/// A PNG file of one colour.
pub fn png(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let picture = image::RgbImage::from_pixel(width, height, image::Rgb(colour));
    picture.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png).unwrap();
    bytes
}

pub fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Bytes and path of a picture.
pub type PictureCell = (Option<Vec<u8>>, Option<String>);

/// A column of a parquet file, one entry a row.
pub enum Column {
    Text(&'static str, Vec<Option<String>>),
    Integer(&'static str, Vec<i64>),
    /// `struct<bytes: binary, path: string>`.
    Image(&'static str, Vec<Option<PictureCell>>),
    /// `binary`.
    Binary(&'static str, Vec<Option<Vec<u8>>>),
    /// `list<string>`.
    Texts(&'static str, Vec<Vec<String>>),
    /// `list<double>`.
    Numbers(&'static str, Vec<Vec<f64>>),
    /// `list<struct<bytes: binary, path: string>>`, paths null.
    Images(&'static str, Vec<Vec<Vec<u8>>>),
}

impl Column {
    fn schema(&self) -> String {
        match self {
            Self::Text(name, _) => format!("optional binary {name} (STRING);"),
            Self::Integer(name, _) => format!("optional int64 {name};"),
            Self::Image(name, _) => format!("optional group {name} {{ optional binary bytes; optional binary path (STRING); }}"),
            Self::Binary(name, _) => format!("optional binary {name};"),
            Self::Texts(name, _) => {
                format!("optional group {name} (LIST) {{ repeated group list {{ optional binary element (STRING); }} }}")
            }
            Self::Numbers(name, _) => {
                format!("optional group {name} (LIST) {{ repeated group list {{ optional double element; }} }}")
            }
            Self::Images(name, _) => format!(
                "optional group {name} (LIST) {{ repeated group list {{ optional group element {{ optional binary bytes; \
                 optional binary path (STRING); }} }} }}"
            ),
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::Text(_, rows) => rows.len(),
            Self::Integer(_, rows) => rows.len(),
            Self::Image(_, rows) => rows.len(),
            Self::Binary(_, rows) => rows.len(),
            Self::Texts(_, rows) => rows.len(),
            Self::Numbers(_, rows) => rows.len(),
            Self::Images(_, rows) => rows.len(),
        }
    }
}

/// Levels and values of a list column whose elements have `depth` further optional levels, the last of them filled.
fn list_levels<T: Clone>(rows: &[Vec<T>], filled: i16) -> (Vec<i16>, Vec<i16>, Vec<T>) {
    let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        if row.is_empty() {
            definitions.push(1);
            repetitions.push(0);
        }
        for (index, value) in row.iter().enumerate() {
            definitions.push(filled);
            repetitions.push(i16::from(index > 0));
            values.push(value.clone());
        }
    }
    (definitions, repetitions, values)
}

/// Writes a parquet file with so many rows in each row group.
pub fn write_parquet(path: &Path, columns: &[Column], group_rows: usize, compression: Compression) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let fields: String = columns.iter().map(Column::schema).collect();
    let schema = Arc::new(parse_message_type(&format!("message schema {{ {fields} }}")).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut writer = SerializedFileWriter::new(std::fs::File::create(path).unwrap(), schema, properties).unwrap();
    let rows = columns.first().map_or(0, Column::rows);
    for begin in (0..rows).step_by(group_rows.max(1)) {
        let range = begin..rows.min(begin + group_rows);
        let mut group = writer.next_row_group().unwrap();
        for column in columns {
            match column {
                Column::Text(_, rows) => {
                    let cells: Vec<Option<Vec<u8>>> =
                        rows[range.clone()].iter().map(|text| text.as_ref().map(|text| text.clone().into_bytes())).collect();
                    write_bytes(&mut group, &levels(&cells, 1), None, cells.into_iter().flatten().collect());
                }
                Column::Binary(_, rows) => {
                    let cells = rows[range.clone()].to_vec();
                    write_bytes(&mut group, &levels(&cells, 1), None, cells.into_iter().flatten().collect());
                }
                Column::Integer(_, rows) => {
                    let mut writer = group.next_column().unwrap().unwrap();
                    let values = &rows[range.clone()];
                    if let ColumnWriter::Int64ColumnWriter(writer) = writer.untyped() {
                        writer.write_batch(values, Some(&vec![1; values.len()]), None).unwrap();
                    }
                    writer.close().unwrap();
                }
                Column::Image(_, rows) => {
                    let part = &rows[range.clone()];
                    let of = |pick: fn(&PictureCell) -> Option<Vec<u8>>| {
                        let levels: Vec<i16> = part
                            .iter()
                            .map(|cell| match cell {
                                None => 0,
                                Some(cell) => 1 + i16::from(pick(cell).is_some()),
                            })
                            .collect();
                        (levels, part.iter().flatten().filter_map(pick).collect::<Vec<_>>())
                    };
                    let (definitions, values) = of(|cell| cell.0.clone());
                    write_bytes(&mut group, &definitions, None, values);
                    let (definitions, values) = of(|cell| cell.1.clone().map(String::into_bytes));
                    write_bytes(&mut group, &definitions, None, values);
                }
                Column::Texts(_, rows) => {
                    let (definitions, repetitions, values) = list_levels(&rows[range.clone()], 3);
                    let values = values.into_iter().map(String::into_bytes).collect();
                    write_bytes(&mut group, &definitions, Some(&repetitions), values);
                }
                Column::Numbers(_, rows) => {
                    let (definitions, repetitions, values) = list_levels(&rows[range.clone()], 3);
                    let mut writer = group.next_column().unwrap().unwrap();
                    if let ColumnWriter::DoubleColumnWriter(writer) = writer.untyped() {
                        writer.write_batch(&values, Some(&definitions), Some(&repetitions)).unwrap();
                    }
                    writer.close().unwrap();
                }
                Column::Images(_, rows) => {
                    let (definitions, repetitions, values) = list_levels(&rows[range.clone()], 4);
                    write_bytes(&mut group, &definitions, Some(&repetitions), values);
                    let absent: Vec<i16> = definitions.iter().map(|level| (*level).min(3)).collect();
                    write_bytes(&mut group, &absent, Some(&repetitions), Vec::new());
                }
            }
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn levels(cells: &[Option<Vec<u8>>], filled: i16) -> Vec<i16> {
    cells.iter().map(|cell| if cell.is_some() { filled } else { filled - 1 }).collect()
}

fn write_bytes(
    group: &mut parquet::file::writer::SerializedRowGroupWriter<'_, std::fs::File>,
    definitions: &[i16],
    repetitions: Option<&[i16]>,
    values: Vec<Vec<u8>>,
) {
    let mut writer = group.next_column().unwrap().unwrap();
    let values: Vec<ByteArray> = values.into_iter().map(ByteArray::from).collect();
    if let ColumnWriter::ByteArrayColumnWriter(writer) = writer.untyped() {
        writer.write_batch(&values, Some(definitions), repetitions).unwrap();
    }
    writer.close().unwrap();
}

pub fn texts(values: &[&str]) -> Vec<Option<String>> {
    values.iter().map(|value| Some((*value).to_owned())).collect()
}
