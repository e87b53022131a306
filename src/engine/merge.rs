//! Merging the projected rows of an image's tiles into the rows that stand in the prompt. Pure code on the host: the rows
//! are few, and each is copied once.

use super::types::EngineError;
use crate::package::{GridLayout, RowLayout};

/// Projected rows of an image's tiles, `[tiles, rows_per_tile, width]`.
#[derive(Clone, Copy)]
pub(super) struct TileRows<'a> {
    values: &'a [f32],
    width: usize,
    rows_per_tile: usize,
}

impl<'a> TileRows<'a> {
    pub(super) fn new(values: &'a [f32], width: usize, rows_per_tile: usize) -> Self {
        Self { values, width, rows_per_tile }
    }

    /// The merged rows `[layout.rows(), width]`. `newline` is the row that ends lines.
    pub(super) fn merge(&self, layout: &RowLayout, newline: Option<&[f32]>) -> Result<Vec<f32>, EngineError> {
        let newline = newline.filter(|row| row.len() == self.width);
        let needs_newline = layout.final_newline || layout.grid.is_some_and(|grid| grid.newline);
        if layout.rows_per_tile != self.rows_per_tile || (needs_newline && newline.is_none()) {
            return Err(broken("the row layout does not fit the projector".to_owned()));
        }
        let newline = newline.unwrap_or_default();
        let mut merged = Vec::with_capacity(layout.rows().saturating_mul(self.width));
        let tile_values = self.rows_per_tile * self.width;
        for tile in layout.whole_tiles.clone() {
            let rows = self.values.get(tile * tile_values..(tile + 1) * tile_values);
            merged.extend_from_slice(rows.ok_or_else(|| broken(format!("tile {tile} is missing")))?);
        }
        if let Some(grid) = &layout.grid {
            self.merge_grid(grid, newline, &mut merged)?;
        }
        if layout.final_newline {
            merged.extend_from_slice(newline);
        }
        Ok(merged)
    }

    fn merge_grid(&self, grid: &GridLayout, newline: &[f32], merged: &mut Vec<f32>) -> Result<(), EngineError> {
        let [lines, columns] = grid.final_size();
        let steps = grid.scaled.map(|[lines, columns]| (steps(grid.lines, lines), steps(grid.columns, columns)));
        for line in 0..lines {
            for column in 0..columns {
                match &steps {
                    Some((by_line, by_column)) => {
                        let (Some(vertical), Some(horizontal)) = (by_line.get(line), by_column.get(column)) else { continue };
                        self.push_between(grid, vertical, horizontal, merged)?;
                    }
                    None if grid.max_pool => self.push_largest(grid, 2 * line, 2 * column, merged)?,
                    None => merged.extend_from_slice(self.row(grid, line, column)?),
                }
            }
            if grid.newline {
                merged.extend_from_slice(newline);
            }
        }
        Ok(())
    }

    /// The row at a place of the kept part of the grid.
    fn row(&self, grid: &GridLayout, line: usize, column: usize) -> Result<&'a [f32], EngineError> {
        let (line, column, side) = (grid.top + line, grid.left + column, grid.side.max(1));
        // Tile 0 is the view of the whole picture.
        let tile = 1 + line / side * grid.tile_columns + column / side;
        let row = tile * self.rows_per_tile + line % side * side + column % side;
        self.values
            .get(row * self.width..(row + 1) * self.width)
            .ok_or_else(|| broken(format!("line {line}, column {column} of the grid is missing")))
    }

    /// Pushes the largest of two by two rows, value by value; like PyTorch's `max_pool2d` a NaN wins.
    fn push_largest(&self, grid: &GridLayout, line: usize, column: usize, merged: &mut Vec<f32>) -> Result<(), EngineError> {
        let mut largest = self.row(grid, line, column)?.to_vec();
        for (down, right) in [(0, 1), (1, 0), (1, 1)] {
            for (value, other) in largest.iter_mut().zip(self.row(grid, line + down, column + right)?) {
                if *other > *value || other.is_nan() {
                    *value = *other;
                }
            }
        }
        merged.extend_from_slice(&largest);
        Ok(())
    }

    /// Pushes the row between four rows: along the lines first, then between them.
    fn push_between(
        &self,
        grid: &GridLayout,
        vertical: &Step,
        horizontal: &Step,
        merged: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let upper = [self.row(grid, vertical.near, horizontal.near)?, self.row(grid, vertical.near, horizontal.far)?];
        let lower = [self.row(grid, vertical.far, horizontal.near)?, self.row(grid, vertical.far, horizontal.far)?];
        let along = |pair: [&[f32]; 2], at: usize| {
            let value = |row: &[f32]| row.get(at).copied().unwrap_or_default();
            value(pair[0]) * horizontal.near_weight + value(pair[1]) * horizontal.far_weight
        };
        merged.extend((0..self.width).map(|at| along(upper, at) * vertical.near_weight + along(lower, at) * vertical.far_weight));
        Ok(())
    }
}

/// Where a scaled line or column comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    near: usize,
    far: usize,
    near_weight: f32,
    far_weight: f32,
}

/// The sources of `target` lines made of `source` ones, as `torch.nn.functional.interpolate(mode="bilinear",
/// align_corners=False)` computes them in single precision: the position is `(source / target) * (index + 0.5) - 0.5`, at
/// least 0.
fn steps(source: usize, target: usize) -> Vec<Step> {
    let scale = source as f32 / target as f32;
    let last = source.saturating_sub(1);
    (0..target)
        .map(|index| {
            let position = (scale * (index as f32 + 0.5) - 0.5).max(0.0);
            let near = (position as usize).min(last);
            let far_weight = (position - near as f32).clamp(0.0, 1.0);
            Step { near, far: (near + 1).min(last), near_weight: 1.0 - far_weight, far_weight }
        })
        .collect()
}

fn broken(message: String) -> EngineError {
    EngineError::Runtime { doing: "merging image rows".to_owned(), message }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde::Deserialize;

    use super::*;
    use crate::package::{Manifest, TileMerge, TileOrder, Tiling, UnpadRounding};

    /// A few units in the last place of values below 0.5: PyTorch's kernels differ in these by processor, as they fuse
    /// products and sums where they can. All else must be equal to the bit.
    const SCALED_TOLERANCE: f32 = 2e-7;

    #[derive(Deserialize)]
    struct Configuration {
        reference: String,
        tile: u32,
        patch: usize,
        pinpoints: Vec<[u32; 2]>,
        aspect: String,
        merge: String,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        width: u32,
        height: u32,
        tiles: usize,
        rows: Vec<f32>,
    }

    fn manifest(configuration: &Configuration) -> Manifest {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engine/tiny/package.toml");
        let mut manifest = Manifest::from_text(&std::fs::read_to_string(folder).unwrap()).unwrap();
        let unpad = configuration.merge.contains("unpad");
        let transformers = configuration.reference.starts_with("transformers");
        manifest.vision.image_size = configuration.tile as usize;
        manifest.vision.patch_size = configuration.patch;
        manifest.vision.tokens_per_image = (configuration.tile as usize / configuration.patch).pow(2);
        manifest.image.tiling = Some(Tiling {
            pinpoints: configuration.pinpoints.clone(),
            tile: configuration.tile,
            only_single_images: false,
            merge: TileMerge {
                order: match configuration.merge.as_str() {
                    "flat" => TileOrder::Flat,
                    _ if unpad => TileOrder::SpatialUnpad,
                    _ => TileOrder::Spatial,
                },
                base_view: !configuration.merge.contains("nobase"),
                newline: unpad,
                maximum_tiles: configuration.aspect.strip_prefix("anyres_max_").map(|number| number.parse().unwrap()),
                max_pool: configuration.merge.contains("maxpool2x2"),
                unpad_rounding: if transformers { UnpadRounding::SevenDigits } else { UnpadRounding::Truncate },
            },
        });
        manifest
    }

    /// As `tests/fixtures/tiling/make_goldens.py` makes them.
    fn features(length: usize) -> Vec<f32> {
        (0..length).map(|index| ((index * 7919 % 1000) as f64 / 1000.0 - 0.5) as f32).collect()
    }

    #[test]
    fn rows_are_merged_as_both_references_do() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiling/merge.json");
        let configurations: Vec<Configuration> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let (mut checked, mut scaled) = (0, 0);
        for configuration in &configurations {
            let manifest = manifest(configuration);
            for case in &configuration.cases {
                let name = format!(
                    "{} {} {} {} x {}",
                    configuration.reference, configuration.aspect, configuration.merge, case.width, case.height
                );
                let layout = manifest.row_layout(case.tiles, case.width, case.height).unwrap();
                let values = features(case.tiles * layout.rows_per_tile * 2);
                let merged = TileRows::new(&values, 2, layout.rows_per_tile).merge(&layout, Some(&[10.0, 11.0])).unwrap();
                assert_eq!((merged.len(), layout.rows() * 2), (case.rows.len(), case.rows.len()), "{name}");
                let is_scaled = layout.grid.is_some_and(|grid| grid.scaled.is_some());
                let tolerance = if is_scaled { SCALED_TOLERANCE } else { 0.0 };
                for (at, (own, reference)) in merged.iter().zip(&case.rows).enumerate() {
                    assert!((own - reference).abs() <= tolerance, "{name}: value {at} is {own}, expected {reference}");
                }
                checked += 1;
                scaled += usize::from(is_scaled);
            }
        }
        assert!(checked >= 40 && scaled >= 6, "{checked} {scaled}");
    }

    #[test]
    fn values_that_are_missing_are_an_error_and_a_nan_stays_one() {
        let layout = RowLayout { rows_per_tile: 4, whole_tiles: 0..2, grid: None, final_newline: true };
        let values = features(2 * 4 * 3);
        assert_eq!(TileRows::new(&values, 3, 4).merge(&layout, Some(&[0.0; 3])).unwrap().len(), 27);
        assert!(TileRows::new(&values, 3, 4).merge(&layout, None).is_err());
        assert!(TileRows::new(&values, 3, 4).merge(&layout, Some(&[0.0; 2])).is_err());
        assert!(TileRows::new(&values[..23], 3, 4).merge(&layout, Some(&[0.0; 3])).is_err());
        let grid = GridLayout {
            tile_columns: 1,
            side: 2,
            top: 0,
            left: 0,
            lines: 2,
            columns: 2,
            max_pool: true,
            scaled: None,
            newline: false,
        };
        let pooled = RowLayout { rows_per_tile: 4, whole_tiles: 0..0, grid: Some(grid), final_newline: false };
        let mut values = vec![0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 4.0, 3.0];
        assert_eq!(TileRows::new(&values, 1, 4).merge(&pooled, None).unwrap(), [4.0]);
        values[5] = f32::NAN;
        assert!(TileRows::new(&values, 1, 4).merge(&pooled, None).unwrap()[0].is_nan());
        assert!(TileRows::new(&values[..7], 1, 4).merge(&pooled, None).is_err());
    }

    #[test]
    fn positions_are_halves_apart_and_clamped() {
        let steps: Vec<(usize, usize, f32)> = steps(4, 2).iter().map(|step| (step.near, step.far, step.far_weight)).collect();
        assert_eq!(steps, [(0, 1, 0.5), (2, 3, 0.5)]);
        let upwards: Vec<(usize, f32)> = super::steps(2, 4).iter().map(|step| (step.near, step.far_weight)).collect();
        assert_eq!(upwards, [(0, 0.0), (0, 0.25), (0, 0.75), (1, 0.25)]);
    }
}
