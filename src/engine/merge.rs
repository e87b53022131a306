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

    /// Pushes the row between four rows, in the order of operations of PyTorch's kernel: along the line first.
    fn push_between(&self, grid: &GridLayout, vertical: &Step, horizontal: &Step, merged: &mut Vec<f32>) -> Result<(), EngineError> {
        let upper = [self.row(grid, vertical.near, horizontal.near)?, self.row(grid, vertical.near, horizontal.far)?];
        let lower = [self.row(grid, vertical.far, horizontal.near)?, self.row(grid, vertical.far, horizontal.far)?];
        let along = |pair: [&[f32]; 2], at: usize| {
            let value = |row: &[f32]| row.get(at).copied().unwrap_or_default();
            value(pair[0]) * horizontal.near_weight + value(pair[1]) * horizontal.far_weight
        };
        merged.extend(
            (0..self.width).map(|at| along(upper, at) * vertical.near_weight + along(lower, at) * vertical.far_weight),
        );
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
