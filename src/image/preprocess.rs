//! A recipe applied: (tiles or pad) → resize → centre crop → rescale → normalise.

use std::borrow::Cow;
use std::path::Path;

use ndarray::Array4;

use super::decode::decode;
use super::error::ImageError;
use super::geometry::{centre_crop, pad_to_square, target_size};
use super::limits::{MAX_FILE_BYTES, check_tiles};
use super::pixels::RgbImage8;
use super::resample::resize;
use super::tile::cut;
use crate::guard::files::read_capped;
use crate::package::{AspectMode, ImageRecipe};

/// An image file made ready for the vision encoder.
#[derive(Clone, Debug)]
pub struct LoadedImage {
    /// Preprocessed pixels, `[tiles, 3, height, width]`: one tile, or with any-res tiling the whole picture squashed to a
    /// tile and then the tiles of the grid row by row.
    pub pixels: Array4<f32>,
    /// Width of the file's picture in pixels, before any step of the recipe.
    pub width: u32,
    /// Height of the file's picture in pixels, before any step of the recipe.
    pub height: u32,
}

/// Reads, decodes and preprocesses an image file of at most [`MAX_FILE_BYTES`]. Errors name the file. For one of several
/// images of a prompt, take the recipe that [`ImageRecipe::for_images`] gives.
pub fn load(path: &Path, recipe: &ImageRecipe) -> Result<LoadedImage, ImageError> {
    let bytes = read_capped(path, MAX_FILE_BYTES)?;
    let prepare = || -> Result<LoadedImage, ImageError> {
        let image = decode(&bytes)?;
        Ok(LoadedImage { pixels: preprocess(&image, recipe)?, width: image.width(), height: image.height() })
    };
    prepare().map_err(|source| ImageError::InFile { path: path.to_path_buf(), source: Box::new(source) })
}

/// Applies a recipe: (tiles or pad) → resize → centre crop → rescale → normalise. Gives `[tiles, 3, height, width]`,
/// channels R, G, B.
///
/// Everything up to the crop is done on 8-bit samples with Pillow's numbers, the rest in the arithmetic of transformers:
/// `float32(float64(sample) * factor)`, then `(value - float32(mean)) / float32(std)`.
///
/// Fails if the recipe asks for an empty or too large picture, or holds numbers that cannot be used.
pub fn preprocess(image: &RgbImage8, recipe: &ImageRecipe) -> Result<Array4<f32>, ImageError> {
    let tables = sample_tables(recipe)?;
    let tiles = fit(image, recipe)?;
    let (width, height) = tiles.first().map_or((0, 0), |tile| (tile.width(), tile.height()));
    let (width, height) = (width as usize, height as usize);
    let mut values = Vec::with_capacity(tiles.len() * 3 * width * height);
    for tile in &tiles {
        for (channel, table) in tables.iter().enumerate() {
            let samples = tile.as_bytes().iter().skip(channel).step_by(3);
            values.extend(samples.map(|sample| table[usize::from(*sample)]));
        }
    }
    Array4::from_shape_vec((tiles.len(), 3, height, width), values)
        .map_err(|error| ImageError::Recipe(format!("tensor of {} x {height} x {width} pixels: {error}", tiles.len())))
}

/// The 8-bit part of a recipe, (tiles or pad) → resize → centre crop: one picture, or all tiles, of the same size.
pub fn fit(image: &RgbImage8, recipe: &ImageRecipe) -> Result<Vec<RgbImage8>, ImageError> {
    let Some(tiling) = &recipe.tiling else {
        let padded = match recipe.aspect {
            AspectMode::Pad if image.width() != image.height() => Cow::Owned(pad_to_square(image, recipe.pad_colour)?),
            _ => Cow::Borrowed(image),
        };
        return Ok(vec![resize_and_crop(padded, recipe)?]);
    };
    // Tiles are square already, so that neither reference pads them. On released checkpoints the steps that follow change
    // nothing either; they count where a processor resizes to another size than that of the tiles.
    let cut = cut(image, tiling, recipe)?;
    let count = cut.len();
    let mut tiles: Vec<RgbImage8> = Vec::with_capacity(count);
    for tile in cut {
        let tile = resize_and_crop(Cow::Owned(tile), recipe)?;
        if tiles.is_empty() {
            check_tiles(count, tile.width(), tile.height())?;
        }
        tiles.push(tile);
    }
    Ok(tiles)
}

fn resize_and_crop(mut current: Cow<'_, RgbImage8>, recipe: &ImageRecipe) -> Result<RgbImage8, ImageError> {
    if let Some(rule) = recipe.resize {
        let (width, height) = target_size(current.width(), current.height(), rule)?;
        if (width, height) != (current.width(), current.height()) {
            current = Cow::Owned(resize(&current, width, height, recipe.resample)?);
        }
    }
    if let Some([height, width]) = recipe.centre_crop
        && (width, height) != (current.width(), current.height())
    {
        current = Cow::Owned(centre_crop(&current, height, width)?);
    }
    Ok(current.into_owned())
}

/// What each of the 256 samples becomes, for each channel.
fn sample_tables(recipe: &ImageRecipe) -> Result<[[f32; 256]; 3], ImageError> {
    let factor = recipe.rescale_factor;
    if factor.is_some_and(|factor| !factor.is_finite()) {
        return Err(ImageError::Recipe(format!("rescale_factor must be a finite number, found {factor:?}")));
    }
    let (mean, std) = match (recipe.mean, recipe.std) {
        (Some(mean), Some(std)) => (mean, std),
        (None, None) => ([0.0; 3], [1.0; 3]),
        (mean, std) => {
            return Err(ImageError::Recipe(format!("mean and std must be given together, found {mean:?} and {std:?}")));
        }
    };
    let usable = |std: f64| (std as f32).is_finite() && std as f32 != 0.0;
    if !mean.iter().all(|mean| (*mean as f32).is_finite()) || !std.iter().all(|std| usable(*std)) {
        return Err(ImageError::Recipe(format!("mean must be finite and std finite and not 0, found {mean:?} and {std:?}")));
    }
    Ok(std::array::from_fn(|channel| {
        std::array::from_fn(|sample| {
            let value = match factor {
                Some(factor) => (sample as f64 * factor) as f32,
                None => sample as f32,
            };
            (value - mean[channel] as f32) / std[channel] as f32
        })
    }))
}
