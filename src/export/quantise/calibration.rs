//! What is known of the inputs of linear layers, and what becomes of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use super::super::ExportError;
use crate::package::CalibrationRecord;

/// What the inputs of a linear layer were on some samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputStatistics {
    /// Rows that were seen.
    pub rows: u64,
    /// The largest magnitude of each input, `[inputs]`.
    pub absolute_maximum: Vec<f32>,
    /// The mean square of each input, `[inputs]`.
    pub mean_square: Vec<f32>,
    /// `XᵀX / rows`, where it was collected.
    pub gram: Option<GramMatrix>,
}

/// A matrix in a file, because those of a large model do not fit into memory together: 32-bit numbers, little endian, row-major
/// `[inputs, inputs]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GramMatrix {
    /// The file.
    pub file: PathBuf,
    /// First byte.
    pub offset: u64,
}

/// How 4-bit codes are chosen once it is known what goes into the layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Int4Method {
    /// Scales by the error weighted with the mean square of each input, codes by plain rounding.
    ScaleSearch,
    /// The same scales, and codes with error feedback ([GPTQ](https://arxiv.org/abs/2210.17323)).
    #[default]
    ErrorFeedback,
}

/// Input statistics of the linear layers of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// By the weight's canonical name without `.weight`, such as `llm.layers.0.self_attn.q_proj`; layers with the same inputs share
    /// theirs.
    pub inputs: BTreeMap<String, Arc<InputStatistics>>,
    /// The samples that it looked at, for the manifest.
    pub record: CalibrationRecord,
    /// How 4-bit codes are chosen.
    pub method: Int4Method,
    /// Share of the inputs' range that is moved into int8 weights, from 0 to 1; 0 moves nothing.
    pub smoothing: f32,
}

impl Int4Method {
    /// The name in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScaleSearch => "weighted-scale-search",
            Self::ErrorFeedback => "error-feedback",
        }
    }
}

impl GramMatrix {
    /// Reads the matrix of so many inputs.
    pub(in super::super) fn read(&self, inputs: usize) -> Result<Vec<f32>, ExportError> {
        let failed = |source| ExportError::Io { action: "read", path: self.file.clone(), source };
        let mut file = File::open(&self.file).map_err(failed)?;
        file.seek(SeekFrom::Start(self.offset)).map_err(failed)?;
        let (mut bytes, mut values) = (vec![0; 4 * inputs], Vec::with_capacity(inputs * inputs));
        for _ in 0..inputs {
            file.read_exact(&mut bytes).map_err(failed)?;
            values.extend(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        }
        Ok(values)
    }
}

impl InputStatistics {
    /// The statistics of inputs that are divided by these factors; the matrix is not.
    pub(in super::super) fn divided(&self, factors: &[f32]) -> Self {
        let divide =
            |values: &[f32], power: i32| values.iter().zip(factors).map(|(value, factor)| value / factor.powi(power)).collect();
        Self {
            rows: self.rows,
            absolute_maximum: divide(&self.absolute_maximum, 1),
            mean_square: divide(&self.mean_square, 2),
            gram: self.gram.clone(),
        }
    }
}
