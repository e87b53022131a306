//! A recipe applied: pad → resize → centre crop → rescale → normalise.

use std::borrow::Cow;
use std::path::Path;

use ndarray::Array4;

use super::decode::decode;
use super::error::ImageError;
use super::geometry::{centre_crop, pad_to_square, target_size};
use super::limits::MAX_FILE_BYTES;
use super::pixels::RgbImage8;
use super::resample::resize;
use crate::guard::files::read_capped;
use crate::package::{AspectMode, ImageRecipe};

/// An image file made ready for the vision encoder.
#[derive(Clone, Debug)]
pub struct LoadedImage {
    /// Preprocessed pixels, `[1, 3, height, width]`.
    pub pixels: Array4<f32>,
    /// Width of the file's picture in pixels, before any step of the recipe.
    pub width: u32,
    /// Height of the file's picture in pixels, before any step of the recipe.
    pub height: u32,
}

/// Reads, decodes and preprocesses an image file of at most [`MAX_FILE_BYTES`]. Errors name the file.
pub fn load(path: &Path, recipe: &ImageRecipe) -> Result<LoadedImage, ImageError> {
    let bytes = read_capped(path, MAX_FILE_BYTES)?;
    let prepare = || -> Result<LoadedImage, ImageError> {
        let image = decode(&bytes)?;
        Ok(LoadedImage { pixels: preprocess(&image, recipe)?, width: image.width(), height: image.height() })
    };
    prepare().map_err(|source| ImageError::InFile { path: path.to_path_buf(), source: Box::new(source) })
}

/// Applies a recipe: pad → resize → centre crop → rescale → normalise. Gives `[1, 3, height, width]`, channels R, G, B.
///
/// Everything up to the crop is done on 8-bit samples with Pillow's numbers, the rest in the arithmetic of transformers:
/// `float32(float64(sample) * factor)`, then `(value - float32(mean)) / float32(std)`.
///
/// Fails if the recipe asks for an empty or too large picture, or holds numbers that cannot be used.
pub fn preprocess(image: &RgbImage8, recipe: &ImageRecipe) -> Result<Array4<f32>, ImageError> {
    let tables = sample_tables(recipe)?;
    let fitted = fit(image, recipe)?;
    let (width, height) = (fitted.width() as usize, fitted.height() as usize);
    let mut values = Vec::with_capacity(3 * width * height);
    for (channel, table) in tables.iter().enumerate() {
        let samples = fitted.as_bytes().iter().skip(channel).step_by(3);
        values.extend(samples.map(|sample| table[usize::from(*sample)]));
    }
    Array4::from_shape_vec((1, 3, height, width), values)
        .map_err(|error| ImageError::Recipe(format!("tensor of {height} x {width} pixels: {error}")))
}

/// The 8-bit part of a recipe: pad → resize → centre crop.
pub fn fit(image: &RgbImage8, recipe: &ImageRecipe) -> Result<RgbImage8, ImageError> {
    let mut current = Cow::Borrowed(image);
    if recipe.aspect == AspectMode::Pad && image.width() != image.height() {
        current = Cow::Owned(pad_to_square(image, recipe.pad_colour)?);
    }
    if let Some(rule) = recipe.resize {
        let (width, height) = target_size(current.width(), current.height(), rule)?;
        current = Cow::Owned(resize(&current, width, height, recipe.resample)?);
    }
    if let Some([height, width]) = recipe.centre_crop {
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
