//! Any-res geometry: where the tiles of a picture lie, and which rows its tiles give to the language model. Pure numbers,
//! shared by the room that cuts pixels and the room that merges rows.
//!
//! The rules are LLaVA's (`llava/mm_utils.py`, `llava/model/llava_arch.py`, there also for LLaVA-NeXT) and transformers'
//! (`image_processing_utils.py`, `LlavaNextModel.pack_image_features`, `LlavaOnevisionModel.pack_image_features`). All
//! quotients are double precision with Python's truncation, because a different rounding moves a whole line of rows.

use std::ops::Range;

use super::manifest::Manifest;
use super::recipe::{ImageRecipe, TileMerge, TileOrder, Tiling, UnpadRounding};

/// Most tiles that one image may be cut into, the view of the whole picture included. Released checkpoints have at most 37.
pub const MAXIMUM_TILES: usize = 145;
/// Most pinpoints of a checkpoint; OneVision has 36.
const MAXIMUM_PINPOINTS: usize = 4096;
/// A grid is scaled down only if its side is more than this factor too long (`anyres_max_N`).
const SCALE_THRESHOLD: f64 = 1.1;

/// Why an image has no tiles or no rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TilingError {
    /// There is no picture, or no size for it.
    #[error("an image of {width} x {height} pixels cannot be tiled with {pinpoints} grid pinpoints")]
    NoResolution {
        /// Width of the picture in pixels.
        width: u32,
        /// Height of the picture in pixels.
        height: u32,
        /// Number of pinpoints.
        pinpoints: usize,
    },
    /// `anyres_max_N` would scale the grid to nothing. The reference fails here as well: a tensor cannot be interpolated to
    /// an empty one.
    #[error(
        "an image of {width} x {height} pixels cannot be tiled: its {lines} x {columns} rows would be scaled down to \
         {scaled_lines} x {scaled_columns}"
    )]
    NothingLeft {
        /// Width of the picture in pixels.
        width: u32,
        /// Height of the picture in pixels.
        height: u32,
        /// Lines of its grid without padding.
        lines: usize,
        /// Columns of its grid without padding.
        columns: usize,
        /// Lines after scaling.
        scaled_lines: usize,
        /// Columns after scaling.
        scaled_columns: usize,
    },
    /// Tiles do not fit the image that they are said to be of.
    #[error("an image of {width} x {height} pixels has {expected} tiles, found {found}")]
    TileCount {
        /// Width of the picture in pixels.
        width: u32,
        /// Height of the picture in pixels.
        height: u32,
        /// Tiles by the recipe: 1, or the whole view and the grid.
        expected: String,
        /// Tiles found.
        found: usize,
    },
}

/// Where a picture lies in its grid of tiles. Lengths in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TilePlacement {
    /// Height of the tiled picture: the best pinpoint's.
    pub height: u32,
    /// Its width.
    pub width: u32,
    /// Height of the picture inside, its ratio kept; at least 1.
    pub resized_height: u32,
    /// Its width, at least 1.
    pub resized_width: u32,
    /// Padding above the picture; below stands as much or one pixel more.
    pub top: u32,
    /// Padding left of the picture; right of it stands as much or one pixel more.
    pub left: u32,
    /// Tiles from top to bottom.
    pub tile_lines: usize,
    /// Tiles from left to right.
    pub tile_columns: usize,
}

impl TilePlacement {
    /// Tiles of the image, the view of the whole picture included.
    pub fn tiles(&self) -> usize {
        self.tile_lines.saturating_mul(self.tile_columns).saturating_add(1)
    }
}

/// How the projected rows of an image's tiles become its rows in the prompt: those of `whole_tiles` one after another, then
/// the grid line by line, then perhaps the newline row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowLayout {
    /// Rows that the projector gives for a tile.
    pub rows_per_tile: usize,
    /// Tiles whose rows stand as they are.
    pub whole_tiles: Range<usize>,
    /// The tiles behind the first, read as one picture.
    pub grid: Option<GridLayout>,
    /// Whether one newline row ends the image.
    pub final_newline: bool,
}

/// The rows of a grid of tiles as one picture: tile 1 of the image is its upper left corner. Applied in this order: the cut,
/// pooling or scaling, newlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GridLayout {
    /// Tiles from left to right.
    pub tile_columns: usize,
    /// Rows of a tile along each side.
    pub side: usize,
    /// First line that shows the picture.
    pub top: usize,
    /// First column that shows the picture.
    pub left: usize,
    /// Lines kept; may be 0 for a picture much wider than its grid.
    pub lines: usize,
    /// Columns kept; may be 0 for a picture much taller than its grid.
    pub columns: usize,
    /// Whether the largest of each two by two rows stands for the four; a last odd line or column is dropped.
    pub max_pool: bool,
    /// Lines and columns to which the kept ones are scaled, bilinearly.
    pub scaled: Option<[usize; 2]>,
    /// Whether a newline row ends each line.
    pub newline: bool,
}

impl GridLayout {
    /// Lines and columns after pooling or scaling, newlines not counted.
    pub fn final_size(&self) -> [usize; 2] {
        match self.scaled {
            Some(size) => size,
            None if self.max_pool => [self.lines / 2, self.columns / 2],
            None => [self.lines, self.columns],
        }
    }

    /// Rows in the prompt.
    pub fn rows(&self) -> usize {
        let [lines, columns] = self.final_size();
        lines.saturating_mul(columns.saturating_add(usize::from(self.newline)))
    }
}

impl RowLayout {
    /// Rows in the prompt.
    pub fn rows(&self) -> usize {
        let whole = self.whole_tiles.len().saturating_mul(self.rows_per_tile);
        let grid = self.grid.map_or(0, |grid| grid.rows());
        whole.saturating_add(grid).saturating_add(usize::from(self.final_newline))
    }
}

impl ImageRecipe {
    /// The recipe for each image of a prompt with `images` images: without tiling where only single images are tiled.
    pub fn for_images(&self, images: usize) -> std::borrow::Cow<'_, Self> {
        match &self.tiling {
            Some(tiling) if tiling.only_single_images && images > 1 => {
                std::borrow::Cow::Owned(Self { tiling: None, ..self.clone() })
            }
            _ => std::borrow::Cow::Borrowed(self),
        }
    }
}

impl Tiling {
    /// Where a picture lies in its tiles: `select_best_resolution`, then `resize_and_pad_image` (transformers:
    /// `get_patch_output_size` and `_get_padding_size`, which agree with it).
    pub fn placement(&self, width: u32, height: u32) -> Result<TilePlacement, TilingError> {
        let [best_height, best_width] = self.best_resolution(width, height)?;
        let (scale_width, scale_height) = (f64::from(best_width) / f64::from(width), f64::from(best_height) / f64::from(height));
        let fitted = |side: u32, scale: f64, limit: u32| ((f64::from(side) * scale).ceil() as u32).clamp(1, limit);
        let (resized_width, resized_height) = if scale_width < scale_height {
            (best_width, fitted(height, scale_width, best_height))
        } else {
            (fitted(width, scale_height, best_width), best_height)
        };
        let tile = self.tile.max(1);
        Ok(TilePlacement {
            height: best_height,
            width: best_width,
            resized_height,
            resized_width,
            top: (best_height - resized_height) / 2,
            left: (best_width - resized_width) / 2,
            tile_lines: (best_height / tile) as usize,
            tile_columns: (best_width / tile) as usize,
        })
    }

    /// The pinpoint `[height, width]` that shows most of the picture, then wastes least, then comes first. For a sliver whose
    /// short side truncates to 0 everywhere, nothing is shown of it, and the smallest pinpoint is taken.
    fn best_resolution(&self, width: u32, height: u32) -> Result<[u32; 2], TilingError> {
        let none = TilingError::NoResolution { width, height, pinpoints: self.pinpoints.len() };
        if width == 0 || height == 0 {
            return Err(none);
        }
        let mut best: Option<([u32; 2], u128, u128)> = None;
        for &[pinpoint_height, pinpoint_width] in &self.pinpoints {
            let scale_width = f64::from(pinpoint_width) / f64::from(width);
            let scale = scale_width.min(f64::from(pinpoint_height) / f64::from(height));
            let scaled = |side: u32| (f64::from(side) * scale) as u128;
            let effective = (scaled(width) * scaled(height)).min(u128::from(width) * u128::from(height));
            let wasted = (u128::from(pinpoint_width) * u128::from(pinpoint_height)).saturating_sub(effective);
            let better = |(_, most, least): ([u32; 2], u128, u128)| effective > most || (effective == most && wasted < least);
            if best.is_none_or(better) {
                best = Some(([pinpoint_height, pinpoint_width], effective, wasted));
            }
        }
        best.map(|(pinpoint, ..)| pinpoint).ok_or(none)
    }

    /// What is wrong with the numbers of a manifest, as field, found and expected. `image_size` is the vision tower's input
    /// in pixels, `rows_per_tile` the rows that it gives and `side` their number along a side.
    pub(super) fn faults(&self, image_size: usize, rows_per_tile: usize, side: usize) -> Option<(String, String, String)> {
        let fault = |field: &str, found: String, expected: String| Some((format!("image.tiling.{field}"), found, expected));
        if self.tile as usize != image_size {
            return fault("tile", self.tile.to_string(), format!("vision.image_size, {image_size}"));
        }
        if self.pinpoints.is_empty() || self.pinpoints.len() > MAXIMUM_PINPOINTS {
            let expected = format!("1 to {MAXIMUM_PINPOINTS} sizes");
            return fault("pinpoints", format!("a list of {}", self.pinpoints.len()), expected);
        }
        for pinpoint in &self.pinpoints {
            let tiles = pinpoint.iter().map(|side| u64::from(*side / self.tile)).product::<u64>();
            let whole = pinpoint.iter().all(|side| *side > 0 && side % self.tile == 0);
            if !whole || tiles >= MAXIMUM_TILES as u64 {
                let expected = format!("multiples of {} that make at most {} tiles", self.tile, MAXIMUM_TILES - 1);
                return fault("pinpoints", format!("{pinpoint:?}"), expected);
            }
        }
        self.merge.faults(rows_per_tile, side)
    }
}

impl TileMerge {
    fn faults(&self, rows_per_tile: usize, side: usize) -> Option<(String, String, String)> {
        let fault = |field: &str, found: String, expected: &str| {
            Some((format!("image.tiling.merge.{field}"), found, expected.to_owned()))
        };
        if self.order != TileOrder::Flat && side.checked_mul(side) != Some(rows_per_tile) {
            let found = format!("spatial, with {rows_per_tile} rows a tile");
            return fault("order", found, "flat, or a vision tower that gives one row a patch and no other");
        }
        if self.order == TileOrder::Flat && self.newline {
            return fault("newline", "true".to_owned(), "false where the order is flat: there are no lines to end");
        }
        if self.maximum_tiles == Some(0) {
            return fault("maximum_tiles", "0".to_owned(), "at least 1");
        }
        None
    }

    /// The rows of a grid of tiles for a picture of this size.
    fn grid(&self, placement: &TilePlacement, side: usize, [width, height]: [u32; 2]) -> Result<GridLayout, TilingError> {
        let (all_lines, all_columns) = (placement.tile_lines * side, placement.tile_columns * side);
        let mut grid = GridLayout {
            tile_columns: placement.tile_columns,
            side,
            top: 0,
            left: 0,
            lines: all_lines,
            columns: all_columns,
            max_pool: self.max_pool,
            scaled: None,
            newline: self.newline && !self.max_pool,
        };
        // `maxpool2x2` comes first in the reference's chain of cases: it takes the padding with it, and has no newlines.
        if self.max_pool || self.order != TileOrder::SpatialUnpad {
            return Ok(grid);
        }
        let (ratio, grid_ratio) = (f64::from(width) / f64::from(height), all_columns as f64 / all_lines as f64);
        if ratio > grid_ratio {
            let shown = self.unpad_rounding.apply(f64::from(height) * (all_columns as f64 / f64::from(width)));
            grid.top = all_lines.saturating_sub(shown) / 2;
            grid.lines = all_lines - 2 * grid.top;
        } else {
            let shown = self.unpad_rounding.apply(f64::from(width) * (all_lines as f64 / f64::from(height)));
            grid.left = all_columns.saturating_sub(shown) / 2;
            grid.columns = all_columns - 2 * grid.left;
        }
        if let Some(maximum_tiles) = self.maximum_tiles {
            let most_rows = u128::from(maximum_tiles) * (side as u128) * (side as u128);
            let factor = ((grid.lines * grid.columns) as f64 / most_rows as f64).sqrt();
            if factor > SCALE_THRESHOLD {
                let [scaled_lines, scaled_columns] = [grid.lines, grid.columns].map(|length| floor_quotient(length, factor));
                if scaled_lines == 0 || scaled_columns == 0 {
                    let (lines, columns) = (grid.lines, grid.columns);
                    return Err(TilingError::NothingLeft { width, height, lines, columns, scaled_lines, scaled_columns });
                }
                grid.scaled = Some([scaled_lines, scaled_columns]);
            }
        }
        Ok(grid)
    }
}

impl UnpadRounding {
    /// The whole rows of a length. `int(round(length, 7))` differs from `int(length)` only just below a whole number.
    fn apply(self, length: f64) -> usize {
        match self {
            Self::Truncate => length as usize,
            Self::SevenDigits if length.ceil() - length <= 5e-8 => length.ceil() as usize,
            Self::SevenDigits => length as usize,
        }
    }
}

/// Python's `int(length // factor)`: the floor of the quotient, found from the remainder and not from the rounded quotient.
fn floor_quotient(length: usize, factor: f64) -> usize {
    let length = length as f64;
    let quotient = (length - length % factor) / factor;
    let floor = quotient.floor();
    (if quotient - floor > 0.5 { floor + 1.0 } else { floor }) as usize
}

impl Manifest {
    /// How the rows of an image become its rows in the prompt. The image was `width` x `height` pixels large and is now
    /// `tiles` tiles: the whole view and the grid, or only one where it was not tiled.
    pub fn row_layout(&self, tiles: usize, width: u32, height: u32) -> Result<RowLayout, TilingError> {
        let rows_per_tile = self.vision.tokens_per_image;
        let Some(tiling) = &self.image.tiling else {
            return Ok(RowLayout { rows_per_tile, whole_tiles: 0..tiles, grid: None, final_newline: false });
        };
        let merge = &tiling.merge;
        if tiles == 1 {
            return Ok(RowLayout { rows_per_tile, whole_tiles: 0..1, grid: None, final_newline: merge.newline });
        }
        let placement = tiling.placement(width, height)?;
        if tiles != placement.tiles() {
            let expected = format!("1 or {}", placement.tiles());
            return Err(TilingError::TileCount { width, height, expected, found: tiles });
        }
        let first = usize::from(!merge.base_view);
        if merge.order == TileOrder::Flat {
            return Ok(RowLayout { rows_per_tile, whole_tiles: first..tiles, grid: None, final_newline: false });
        }
        let grid = merge.grid(&placement, self.patches_per_side(), [width, height])?;
        Ok(RowLayout { rows_per_tile, whole_tiles: first..1, grid: Some(grid), final_newline: false })
    }

    /// Rows in the prompt of an image of this size, shown together with `images - 1` others.
    pub fn image_rows(&self, images: usize, width: u32, height: u32) -> Result<usize, TilingError> {
        let tiles = match &self.image.for_images(images).tiling {
            Some(tiling) => tiling.placement(width, height)?.tiles(),
            None => 1,
        };
        Ok(self.row_layout(tiles, width, height)?.rows())
    }

    /// Patches along a side of the vision tower's input.
    pub(super) fn patches_per_side(&self) -> usize {
        self.vision.image_size / self.vision.patch_size.max(1)
    }
}
