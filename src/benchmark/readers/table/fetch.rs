//! Fetches embedded images when their question is asked.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::super::super::error::BenchmarkError;
use super::super::super::image::EmbeddedImage;
use super::parquet::ImageCursor;
use super::source::FileKind;
use super::{delimited, json, text_images, text_list};

/// The largest embedded image.
const IMAGE_LIMIT_BYTES: usize = 256 << 20;

/// Reads embedded images. It keeps a place in each parquet file, so that images asked for in the order of rows are read in one
/// pass; nothing that was read is kept.
#[derive(Default)]
pub struct ImageStore {
    cursors: Mutex<HashMap<Column, Arc<Mutex<ImageCursor>>>>,
}

/// A column of a file.
type Column = (Arc<Path>, Arc<str>);

impl std::fmt::Debug for ImageStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("ImageStore")
    }
}

impl ImageStore {
    /// The bytes of an image file that lies in a data file.
    ///
    /// # Errors
    /// When the data file cannot be read, or the place in it holds no image any more.
    pub fn read(&self, image: &EmbeddedImage) -> Result<Vec<u8>, BenchmarkError> {
        let nothing = |found: &str| BenchmarkError::Row {
            path: image.file.to_path_buf(),
            row: image.row,
            field: image.column.to_string(),
            expected: "an image".to_owned(),
            found: found.to_owned(),
        };
        let bytes = match (FileKind::of(&image.file)?, image.offset_bytes) {
            (FileKind::Parquet, _) => {
                let cursor = self.cursor(image)?;
                let mut cursor = cursor.lock().unwrap_or_else(PoisonError::into_inner);
                let values = cursor.row(&image.file, image.row)?;
                // In a text column, the list is the text of a list.
                let picked = match (values.as_slice(), image.index) {
                    ([Some(value)], Some(index)) if value.as_utf8().is_ok() => {
                        let texts = value.as_utf8().ok().and_then(text_list::parse_texts);
                        texts.and_then(|texts| texts.get(index).map(|text| text.clone().into_bytes()))
                    }
                    (values, index) => values.get(index.unwrap_or(0)).cloned().flatten().map(|value| value.data().to_vec()),
                };
                let bytes = picked.ok_or_else(|| nothing("nothing"))?;
                match std::str::from_utf8(&bytes) {
                    Ok(text) if text_images::is_picture(text) => text_images::decode(text).map_err(|found| nothing(&found))?,
                    _ => bytes,
                }
            }
            (FileKind::Delimited { delimiter }, Some(offset)) => {
                let cell = delimited::cell(&image.file, delimiter, offset, &image.column)?;
                pick(&Value::String(cell), image.index).map_err(|found| nothing(&found))?
            }
            (FileKind::Json { gzip: false } | FileKind::JsonLines { gzip: false }, Some(offset)) => {
                let value = json::value(&image.file, offset, &image.column)?;
                pick(&value, image.index).map_err(|found| nothing(&found))?
            }
            _ => return Err(nothing("a place that cannot be reached")),
        };
        if bytes.len() > IMAGE_LIMIT_BYTES {
            return Err(nothing(&format!("{} bytes", bytes.len())));
        }
        Ok(bytes)
    }

    fn cursor(&self, image: &EmbeddedImage) -> Result<Arc<Mutex<ImageCursor>>, BenchmarkError> {
        let key = (Arc::clone(&image.file), Arc::clone(&image.column));
        let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cursor) = cursors.get(&key) {
            return Ok(Arc::clone(cursor));
        }
        let cursor = Arc::new(Mutex::new(ImageCursor::open(&image.file, &image.column)?));
        cursors.insert(key, Arc::clone(&cursor));
        Ok(cursor)
    }
}

/// The picture of a text cell.
fn pick(value: &Value, index: Option<usize>) -> Result<Vec<u8>, String> {
    let none = || "nothing".to_owned();
    let listed;
    let text = match (value, index) {
        (Value::String(text), None) => text,
        (Value::String(text), Some(index)) => {
            listed = text_list::parse_texts(text).ok_or_else(none)?;
            listed.get(index).ok_or_else(none)?
        }
        (Value::Array(elements), Some(index)) => elements.get(index).and_then(Value::as_str).ok_or_else(none)?,
        _ => return Err(none()),
    };
    text_images::decode(text)
}
