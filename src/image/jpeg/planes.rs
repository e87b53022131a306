//! The components of a picture: coefficients while they are collected, then samples.

use super::header::{Frame, Quantization, Scan};
use super::{check_memory, idct};
use crate::image::error::ImageError;

/// A block of coefficients in natural order.
pub(super) type Block = [i16; 64];

/// One component.
pub(super) struct Plane {
    pub sampling: (usize, usize),
    /// How many times a sample repeats in the picture, horizontally and vertically.
    pub expansion: (usize, usize),
    /// Samples that belong to the picture; the rest is padding.
    pub width: usize,
    pub height: usize,
    /// Blocks that hold those samples.
    pub blocks_wide: usize,
    pub blocks_high: usize,
    /// Blocks a row in memory: rounded up to whole coded units.
    stride_blocks: usize,
    /// Number of the quantisation table, and the table that was valid at the component's first scan.
    quantization_table: usize,
    quantization: Option<Quantization>,
    coefficients: Vec<Block>,
    samples: Vec<u8>,
}

impl Plane {
    /// The samples of a row, `width` long.
    pub(super) fn row(&self, row: usize) -> &[u8] {
        let start = row * self.stride_blocks * 8;
        self.samples.get(start..start + self.width).unwrap_or_default()
    }

    /// The coefficients of a block.
    pub(super) fn block(&mut self, column: usize, row: usize) -> Option<&mut Block> {
        self.coefficients.get_mut(row * self.stride_blocks + column)
    }

    /// Turns a block into samples.
    pub(super) fn put(&mut self, column: usize, row: usize, coefficients: &Block) {
        const UNKNOWN: Quantization = [0; 64];
        let stride = self.stride_blocks * 8;
        let samples = idct::inverse(coefficients, self.quantization.as_ref().unwrap_or(&UNKNOWN));
        let start = row * 8 * stride + column * 8;
        for (line, from) in samples.as_chunks::<8>().0.iter().enumerate() {
            if let Some(to) = self.samples.get_mut(start + line * stride..start + line * stride + 8) {
                to.copy_from_slice(from);
            }
        }
    }
}

/// All components.
pub(super) struct Picture {
    pub planes: Vec<Plane>,
    /// Coded units of an interleaved scan, horizontally and vertically.
    pub units: (usize, usize),
    collect: bool,
}

impl Picture {
    /// Takes memory for the picture; with `collect` also for all coefficients. Fails if that is more than the room's cap.
    pub(super) fn new(frame: &Frame, collect: bool) -> Result<Self, ImageError> {
        let largest = frame.largest_sampling();
        let (width, height) = (frame.width as usize, frame.height as usize);
        let units = (width.div_ceil(largest.0 * 8), height.div_ceil(largest.1 * 8));
        let blocks = |sampling: (usize, usize)| (units.0 * units.1) as u64 * (sampling.0 * sampling.1) as u64;
        let all_blocks: u64 = frame.components.iter().map(|component| blocks(component.sampling)).sum();
        let block_bytes = if collect { 64 + 128 } else { 64 };
        check_memory(all_blocks * block_bytes + (width * height) as u64 * 3)?;
        let planes = frame
            .components
            .iter()
            .map(|component| {
                let (across, down) = component.sampling;
                let plane_width = (width * across).div_ceil(largest.0);
                let plane_height = (height * down).div_ceil(largest.1);
                let count = blocks(component.sampling) as usize;
                Plane {
                    sampling: component.sampling,
                    expansion: (largest.0 / across, largest.1 / down),
                    width: plane_width,
                    height: plane_height,
                    blocks_wide: plane_width.div_ceil(8),
                    blocks_high: plane_height.div_ceil(8),
                    stride_blocks: units.0 * across,
                    quantization_table: component.quantization_table,
                    quantization: None,
                    coefficients: if collect { vec![[0; 64]; count] } else { Vec::new() },
                    samples: vec![0; count * 64],
                }
            })
            .collect();
        Ok(Self { planes, units, collect })
    }

    /// Whether coefficients are kept until all scans are read.
    pub(super) fn collects_coefficients(&self) -> bool {
        self.collect
    }

    /// Keeps the tables that are valid now for the scan's components, unless they have theirs from an earlier scan.
    pub(super) fn latch_quantization(&mut self, scan: &Scan, tables: &[Option<Quantization>; 4]) {
        for component in &scan.components {
            if let Some(plane) = self.planes.get_mut(component.index)
                && plane.quantization.is_none()
            {
                plane.quantization = tables.get(plane.quantization_table).copied().flatten();
            }
        }
    }

    /// Whether a component of the scan has no quantisation table.
    pub(super) fn lacks_quantization(&self, scan: &Scan) -> bool {
        scan.components.iter().filter_map(|component| self.planes.get(component.index)).any(|plane| plane.quantization.is_none())
    }

    /// Turns the collected coefficients into samples and gives their memory back.
    pub(super) fn transform_coefficients(&mut self) {
        for plane in &mut self.planes {
            let coefficients = std::mem::take(&mut plane.coefficients);
            for (at, block) in coefficients.iter().enumerate() {
                plane.put(at % plane.stride_blocks, at / plane.stride_blocks, block);
            }
        }
    }
}
