//! A temporary file of matrices: those of a large model do not fit into memory together.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::CalibrationError;

/// Where a matrix stands: 32-bit numbers, little endian, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GramPlace {
    /// The file.
    pub file: PathBuf,
    /// First byte.
    pub offset: u64,
}

/// The file while it is written.
pub(super) struct GramFile {
    path: PathBuf,
    out: BufWriter<File>,
    end: u64,
}

impl GramFile {
    pub(super) fn create(path: &Path) -> Result<Self, CalibrationError> {
        let file =
            File::create(path).map_err(|source| CalibrationError::Io { action: "create", path: path.to_path_buf(), source })?;
        Ok(Self { path: path.to_path_buf(), out: BufWriter::with_capacity(1 << 20, file), end: 0 })
    }

    /// Appends a matrix, each number divided by `rows`.
    pub(super) fn append(&mut self, values: &[f32], rows: u64) -> Result<GramPlace, CalibrationError> {
        let (offset, rows) = (self.end, rows.max(1) as f64);
        for value in values {
            let mean = (f64::from(*value) / rows) as f32;
            self.out.write_all(&mean.to_le_bytes()).map_err(|source| self.failed(source))?;
        }
        self.end += 4 * values.len() as u64;
        Ok(GramPlace { file: self.path.clone(), offset })
    }

    pub(super) fn finish(mut self) -> Result<(), CalibrationError> {
        self.out.flush().map_err(|source| CalibrationError::Io { action: "write", path: self.path.clone(), source })
    }

    fn failed(&self, source: std::io::Error) -> CalibrationError {
        CalibrationError::Io { action: "write", path: self.path.clone(), source }
    }
}
