//! Cutting a picture into any-res tiles, as `process_anyres_image` of LLaVA and `get_image_patches` of transformers do.

use super::error::ImageError;
use super::limits::check_tiles;
use super::pixels::RgbImage8;
use super::resample::resize;
use crate::package::{ImageRecipe, ResizeRule, TilePlacement, Tiling};

/// The whole picture squashed to a square, its ratio lost, and then the tiles of the picture in its best resolution, row by
/// row. Both references squash with the size of their processor, which is that of a tile on all released checkpoints.
pub(super) fn cut(image: &RgbImage8, tiling: &Tiling, recipe: &ImageRecipe) -> Result<Vec<RgbImage8>, ImageError> {
    let placement = tiling.placement(image.width(), image.height())?;
    let tile = tiling.tile;
    if tile == 0 || !placement.width.is_multiple_of(tile) || !placement.height.is_multiple_of(tile) {
        let (width, height) = (placement.width, placement.height);
        return Err(ImageError::Recipe(format!("tiles of {tile} pixels do not fill a picture of {width} x {height} pixels")));
    }
    check_tiles(placement.tiles(), tile, tile)?;
    let (base_width, base_height) = match recipe.resize {
        Some(ResizeRule::ShortestEdge(edge)) => (edge, edge),
        Some(ResizeRule::Exact { height, width }) => (width, height),
        None => (tile, tile),
    };
    let mut tiles = Vec::with_capacity(placement.tiles());
    tiles.push(resize(image, base_width, base_height, recipe.resample)?);
    let picture = placed(image, &placement, recipe)?;
    for tile_line in 0..placement.tile_lines {
        for tile_column in 0..placement.tile_columns {
            tiles.push(tile_of(&picture, tile, tile_line, tile_column)?);
        }
    }
    Ok(tiles)
}

/// The picture in its best resolution, its ratio kept, in the middle of black.
fn placed(image: &RgbImage8, placement: &TilePlacement, recipe: &ImageRecipe) -> Result<RgbImage8, ImageError> {
    let resized = resize(image, placement.resized_width, placement.resized_height, recipe.resample)?;
    let mut canvas = RgbImage8::filled(placement.width, placement.height, [0; 3])?;
    let left_bytes = placement.left as usize * 3;
    for (row, from) in canvas.rows_mut().skip(placement.top as usize).zip(resized.rows()) {
        if let Some(to) = row.get_mut(left_bytes..left_bytes + from.len()) {
            to.copy_from_slice(from);
        }
    }
    Ok(canvas)
}

/// The square of `side` pixels at this place of the grid.
fn tile_of(picture: &RgbImage8, side: u32, tile_line: usize, tile_column: usize) -> Result<RgbImage8, ImageError> {
    let row_bytes = side as usize * 3;
    let (top, left_bytes) = (tile_line * side as usize, tile_column * row_bytes);
    let mut bytes = Vec::with_capacity(row_bytes * side as usize);
    for row in picture.rows().skip(top).take(side as usize) {
        bytes.extend_from_slice(row.get(left_bytes..left_bytes + row_bytes).unwrap_or_default());
    }
    RgbImage8::new(side, side, bytes)
}
