//! Padding, target sizes and cropping: whole pixels only, no resampling.

use super::error::ImageError;
use super::limits;
use super::pixels::RgbImage8;
use crate::package::ResizeRule;

/// Expands a picture to a square filled with `colour`, the picture in the middle: the offset is half of what is missing,
/// rounded down. As LLaVA's `expand2square` and `LlavaImageProcessor.pad_to_square` do.
pub(super) fn pad_to_square(image: &RgbImage8, colour: [u8; 3]) -> Result<RgbImage8, ImageError> {
    let (width, height) = (image.width(), image.height());
    let side = width.max(height);
    if limits::within(side.into(), side.into()).is_none() {
        return Err(too_large("image padded to a square", side.into(), side.into()));
    }
    let mut square = RgbImage8::filled(side, side, colour)?;
    let left_bytes = (side - width) as usize / 2 * 3;
    let top = (side - height) as usize / 2;
    for (row, from) in square.rows_mut().skip(top).zip(image.rows()) {
        if let Some(to) = row.get_mut(left_bytes..left_bytes + from.len()) {
            to.copy_from_slice(from);
        }
    }
    Ok(square)
}

/// Width and height that a resize rule asks for. The long side of `ShortestEdge` is `int(size * long / short)` in double
/// precision, as in transformers' `get_resize_output_image_size`.
pub(super) fn target_size(width: u32, height: u32, rule: ResizeRule) -> Result<(u32, u32), ImageError> {
    let (wanted_width, wanted_height) = match rule {
        ResizeRule::Exact { height, width } => (u64::from(width), u64::from(height)),
        ResizeRule::ShortestEdge(size) => {
            let (short, long) = (width.min(height), width.max(height));
            // The product is below 2^53, so the only rounding is that of the division, as in Python.
            let long_target = ((u64::from(size) * u64::from(long)) as f64 / f64::from(short)) as u64;
            if width <= height { (u64::from(size), long_target) } else { (long_target, u64::from(size)) }
        }
    };
    limits::within(wanted_width, wanted_height).ok_or_else(|| too_large("resize to a picture", wanted_width, wanted_height))
}

/// Cuts `height` x `width` pixels out of the middle; where the picture is smaller it is surrounded by black. Offsets as
/// in transformers' `center_crop`: rounded down where the picture is larger, up where it is smaller.
pub(super) fn centre_crop(image: &RgbImage8, height: u32, width: u32) -> Result<RgbImage8, ImageError> {
    if limits::within(width.into(), height.into()).is_none() {
        return Err(too_large("crop", width.into(), height.into()));
    }
    if (image.width(), image.height()) == (width, height) {
        return Ok(image.clone());
    }
    let mut cropped = RgbImage8::filled(width, height, [0; 3])?;
    let (skip_x, put_x) = crop_offsets(image.width(), width);
    let (skip_y, put_y) = crop_offsets(image.height(), height);
    let row_bytes = image.width().min(width) as usize * 3;
    for (to, from) in cropped.rows_mut().skip(put_y).zip(image.rows().skip(skip_y)) {
        if let (Some(to), Some(from)) =
            (to.get_mut(put_x * 3..put_x * 3 + row_bytes), from.get(skip_x * 3..skip_x * 3 + row_bytes))
        {
            to.copy_from_slice(from);
        }
    }
    Ok(cropped)
}

/// Along one axis: how many source pixels to skip, and at which target pixel to begin.
///
/// The reference first computes `top = (original - crop) // 2` (towards minus infinity). If the crop does not fit, it
/// pads both axes to `new = max(crop, original)` with `ceil((new - original) / 2)` in front and shifts `top` by as much.
/// On an axis that fits this padding is zero; on one that does not, it is the magnitude of `top`, so the picture begins
/// there and the crop begins at 0.
fn crop_offsets(original: u32, crop: u32) -> (usize, usize) {
    if original >= crop { ((original - crop) as usize / 2, 0) } else { (0, ((crop - original) as usize).div_ceil(2)) }
}

fn too_large(what: &str, width: u64, height: u64) -> ImageError {
    if width == 0 || height == 0 {
        return ImageError::Recipe(format!("{what} of {width} x {height} pixels has no pixels"));
    }
    ImageError::TooLarge { what: what.to_owned(), width, height }
}
