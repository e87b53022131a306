//! Pictures in parquet files with what is said of each: for zero-shot classification and retrieval.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::super::super::error::BenchmarkError;
use super::super::super::image::{EmbeddedImage, SampleImage};
use super::super::rows::RowPlace;
use super::files;
use super::source::{self, Wanted};

/// A row of a parquet file that is about one picture.
pub(in super::super) struct PictureRow {
    pub file: Arc<Path>,
    /// From 1.
    pub number: usize,
    pub columns: Map<String, Value>,
    /// What the picture is called: its path, `filename`, or its row.
    pub name: String,
    pub image: SampleImage,
}

impl PictureRow {
    /// For errors.
    pub fn place(&self) -> RowPlace<'_> {
        RowPlace { path: &self.file, row: self.number }
    }
}

/// Reads rows with the column `image` from parquet files.
pub(in super::super) fn pictures(
    root: &Path,
    pattern: &str,
    each: &mut dyn FnMut(PictureRow) -> Result<(), BenchmarkError>,
) -> Result<(), BenchmarkError> {
    const IMAGE: &str = "image";
    let wanted =
        Wanted { required: vec![IMAGE.to_owned()], image_columns: vec![IMAGE.to_owned()], hash: false, ..Wanted::default() };
    let mut number = 0_u64;
    for file in files::matching(root, pattern)? {
        source::stream(&file, None, &wanted, &mut |row| {
            let row = row?;
            number += 1;
            let Some(cell) = row.cells_of(IMAGE).first().cloned().flatten() else {
                return Err(row.place().error(IMAGE, "a picture", "nothing"));
            };
            let path = row.columns.get(IMAGE).and_then(|image| image.get("path")).and_then(Value::as_str);
            let named = path.or_else(|| row.columns.get("filename").and_then(Value::as_str)).filter(|name| !name.is_empty());
            let name = named.map_or_else(|| format!("row {number}"), str::to_owned);
            let image = EmbeddedImage {
                identity: format!("{}#{}", cell.file.display(), cell.row).into(),
                file: cell.file,
                row: cell.row,
                offset_bytes: cell.offset_bytes,
                column: cell.column,
                index: cell.index,
            };
            each(PictureRow {
                file: row.file,
                number: row.number,
                columns: row.columns,
                name,
                image: SampleImage::Embedded(Arc::new(image)),
            })
        })?;
    }
    Ok(())
}
