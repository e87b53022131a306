//! The token embedding table, read row by row from the package's own weight file: a graph call per token buys nothing.

use std::path::Path;

use half::{bf16, f16};
use memmap2::Mmap;

use super::types::EngineError;
use crate::guard::files;
use crate::package::{TensorDtype, TensorLocation};

/// A mapped `[rows, width]` table.
pub(super) struct EmbeddingTable {
    map: Mmap,
    offset: usize,
    rows: usize,
    width: usize,
    dtype: TensorDtype,
    /// What each row of an 8-bit table is multiplied by.
    scales: Vec<f32>,
}

impl EmbeddingTable {
    /// Maps the table below the package folder `root` after checking that its shape, length and file agree. `graph` is
    /// named in errors: the graph whose rows the table feeds.
    pub(super) fn open(root: &Path, location: &TensorLocation, graph: &Path) -> Result<Self, EngineError> {
        let path = files::contained(root, &location.file)?;
        let wrong = |message: String| EngineError::Graph { graph: graph.to_path_buf(), message };
        let &[rows, width] = location.shape.as_slice() else {
            return Err(wrong(format!("the embedding table has shape {:?}, expected [vocabulary, hidden_size]", location.shape)));
        };
        let element_bytes = element_bytes(location.dtype);
        let expected = rows.checked_mul(width).and_then(|elements| elements.checked_mul(element_bytes));
        if expected != usize::try_from(location.bytes).ok() {
            return Err(wrong(format!(
                "the embedding table of shape {:?} in {:?} cannot be {} bytes long",
                location.shape, location.dtype, location.bytes
            )));
        }
        let map = files::map_file(&path)?;
        let end = location.offset.checked_add(location.bytes);
        match (usize::try_from(location.offset), end) {
            (Ok(offset), Some(end)) if end <= map.len() as u64 => {
                Ok(Self { map, offset, rows, width, dtype: location.dtype, scales: Vec::new() })
            }
            _ => Err(wrong(format!(
                "the embedding table at bytes {}+{} lies beyond the {} bytes of {}",
                location.offset,
                location.bytes,
                map.len(),
                path.display()
            ))),
        }
    }

    /// The table with the scales of its rows, f32 `[rows]`, which an 8-bit table has and no other.
    pub(super) fn with_scales(
        mut self,
        root: &Path,
        location: Option<&TensorLocation>,
        graph: &Path,
    ) -> Result<Self, EngineError> {
        let wrong = |message: &str| EngineError::Graph { graph: graph.to_path_buf(), message: message.to_owned() };
        match (self.dtype, location) {
            (TensorDtype::I8, Some(location)) => {
                if location.shape != [self.rows] || location.dtype != TensorDtype::F32 {
                    let message = format!(
                        "the scales of the embedding table have shape {:?} in {:?}, expected [{}] in F32",
                        location.shape, location.dtype, self.rows
                    );
                    return Err(wrong(&message));
                }
                let row = TensorLocation { shape: vec![1, self.rows], ..location.clone() };
                let mut scales = vec![0.0; self.rows];
                if !Self::open(root, &row, graph)?.write_row(0, &mut scales) {
                    return Err(wrong("the scales of the embedding table cannot be read"));
                }
                self.scales = scales;
                Ok(self)
            }
            (TensorDtype::I8, None) => Err(wrong("the 8-bit embedding table has no scales")),
            (_, Some(_)) => Err(wrong("the embedding table is not in 8 bits, but has scales")),
            (_, None) => Ok(self),
        }
    }

    /// Tokens that the table knows.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Width of a row.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Writes the row of `token` as f32 to `target`, which must be as long as a row; false if the table has no such row.
    pub(super) fn write_row(&self, token: u32, target: &mut [f32]) -> bool {
        let row_bytes = self.width * element_bytes(self.dtype);
        let row = token as usize;
        if row >= self.rows || target.len() != self.width {
            return false;
        }
        let start = self.offset + row * row_bytes;
        let Some(bytes) = self.map.get(start..start + row_bytes) else { return false };
        match self.dtype {
            TensorDtype::F32 => {
                for (value, bytes) in target.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *value = f32::from_le_bytes(*bytes);
                }
            }
            TensorDtype::F16 => {
                for (value, bytes) in target.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *value = f16::from_le_bytes(*bytes).to_f32();
                }
            }
            TensorDtype::Bf16 => {
                for (value, bytes) in target.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *value = bf16::from_le_bytes(*bytes).to_f32();
                }
            }
            TensorDtype::I8 => {
                let Some(&scale) = self.scales.get(row) else { return false };
                for (value, byte) in target.iter_mut().zip(bytes) {
                    *value = f32::from(i8::from_le_bytes([*byte])) * scale;
                }
            }
        }
        true
    }
}

fn element_bytes(dtype: TensorDtype) -> usize {
    match dtype {
        TensorDtype::F32 => 4,
        TensorDtype::F16 | TensorDtype::Bf16 => 2,
        TensorDtype::I8 => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(dtype: TensorDtype, values: &[u8], offset: u64, shape: &[usize]) -> Result<EmbeddingTable, EngineError> {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("w"), values).unwrap();
        let bytes = values.len() as u64 - offset;
        let location = TensorLocation { file: "w".to_owned(), offset, bytes, dtype, shape: shape.to_vec() };
        EmbeddingTable::open(root.path(), &location, Path::new("llm.onnx"))
    }

    #[test]
    fn rows_are_widened_exactly_and_need_no_alignment() {
        let values = [1.5_f32, -2.0, 0.25, 1000.0];
        let mut row = [0.0_f32; 2];

        let mut bytes = vec![0_u8; 3];
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let opened = table(TensorDtype::F32, &bytes, 3, &[2, 2]).unwrap();
        assert!(opened.write_row(1, &mut row));
        assert_eq!(row, [0.25, 1000.0]);

        let mut bytes = vec![0_u8; 1];
        bytes.extend(values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()));
        assert!(table(TensorDtype::F16, &bytes, 1, &[2, 2]).unwrap().write_row(0, &mut row));
        assert_eq!(row, [1.5, -2.0]);

        let bytes: Vec<u8> = values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect();
        let opened = table(TensorDtype::Bf16, &bytes, 0, &[2, 2]).unwrap();
        assert!(opened.write_row(1, &mut row));
        assert_eq!(row, [0.25, 1000.0]);
        assert!(!opened.write_row(2, &mut row), "beyond the vocabulary");
    }

    #[test]
    fn an_8_bit_table_needs_its_scales() {
        let root = tempfile::tempdir().unwrap();
        let codes: [i8; 4] = [127, -127, 1, 0];
        let scales: Vec<u8> = [0.5_f32, 2.0].iter().flat_map(|scale| scale.to_le_bytes()).collect();
        let bytes: Vec<u8> = codes.iter().map(|code| code.to_le_bytes()[0]).chain(scales).collect();
        std::fs::write(root.path().join("w"), bytes).unwrap();
        let place = |offset, bytes, dtype, shape: &[usize]| TensorLocation {
            file: "w".to_owned(),
            offset,
            bytes,
            dtype,
            shape: shape.to_vec(),
        };
        let graph = Path::new("llm.onnx");
        let open = || EmbeddingTable::open(root.path(), &place(0, 4, TensorDtype::I8, &[2, 2]), graph).unwrap();
        let scales = place(4, 8, TensorDtype::F32, &[2]);
        let table = open().with_scales(root.path(), Some(&scales), graph).unwrap();
        let mut row = [0.0_f32; 2];
        assert!(table.write_row(0, &mut row));
        assert_eq!(row, [63.5, -63.5]);
        assert!(table.write_row(1, &mut row));
        assert_eq!(row, [2.0, 0.0]);
        assert!(!open().write_row(0, &mut row), "without scales a row means nothing");
        assert!(open().with_scales(root.path(), None, graph).is_err());
        let short = place(4, 4, TensorDtype::F32, &[1]);
        let text = open().with_scales(root.path(), Some(&short), graph).err().unwrap().to_string();
        assert!(text.contains("expected [2] in F32"), "{text}");
    }

    #[test]
    fn a_table_that_does_not_fit_its_file_is_refused() {
        assert!(matches!(table(TensorDtype::F32, &[0; 16], 0, &[4]), Err(EngineError::Graph { .. })));
        assert!(matches!(table(TensorDtype::F32, &[0; 16], 0, &[3, 2]), Err(EngineError::Graph { .. })));
        assert!(matches!(table(TensorDtype::F32, &[0; 16], 0, &[usize::MAX, 2]), Err(EngineError::Graph { .. })));
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("w"), [0; 16]).unwrap();
        let location = TensorLocation { file: "w".to_owned(), offset: 8, bytes: 16, dtype: TensorDtype::F32, shape: vec![2, 2] };
        let text = EmbeddingTable::open(root.path(), &location, Path::new("llm.onnx")).err().unwrap().to_string();
        assert!(text.contains("beyond the 16 bytes"), "{text}");
        let location = TensorLocation { file: "../w".to_owned(), ..location };
        assert!(matches!(EmbeddingTable::open(root.path(), &location, Path::new("llm.onnx")), Err(EngineError::File(_))));
    }
}
