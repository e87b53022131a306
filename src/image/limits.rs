//! Caps on what an image file may ask for. They hold before memory is allocated.

use super::error::{ImageError, ImageFormat};

/// Longest side of an image in pixels.
pub const MAX_SIDE_PIXELS: u32 = 20_000;
/// Most pixels in an image. Pillow warns above 89 and refuses above 179 million.
pub const MAX_PIXELS: u64 = 100_000_000;
/// Most bytes that one decode may hold at a time, the result included.
pub const MAX_DECODE_BYTES: u64 = 512 * 1024 * 1024;
/// Largest image file in bytes.
pub const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;

/// Most pixels in all tiles of an image together: 384 MB as f32 tensors. The largest released grid has 5.5 million.
pub const MAX_TILED_PIXELS: u64 = 32_000_000;

/// Checks the size that a file claims, before its pixels are decoded.
pub(super) fn check_size(format: ImageFormat, width: u64, height: u64) -> Result<(u32, u32), ImageError> {
    if width == 0 || height == 0 {
        return Err(ImageError::Empty { format, width, height });
    }
    within(width, height).ok_or_else(|| ImageError::TooLarge { what: format!("{format} image"), width, height })
}

/// The size as `u32`, if it is not empty and within the caps.
pub(super) fn within(width: u64, height: u64) -> Option<(u32, u32)> {
    let side = u64::from(MAX_SIDE_PIXELS);
    let fits = (1..=side).contains(&width) && (1..=side).contains(&height) && width * height <= MAX_PIXELS;
    fits.then_some((width as u32, height as u32))
}

/// Checks the memory that a decoder is about to take.
pub(super) fn check_memory(format: ImageFormat, needed_bytes: u64) -> Result<(), ImageError> {
    if needed_bytes > MAX_DECODE_BYTES { Err(ImageError::TooMuchMemory { format, needed_bytes }) } else { Ok(()) }
}

/// Checks the size of all tiles of an image together.
pub(super) fn check_tiles(tiles: usize, width: u32, height: u32) -> Result<(), ImageError> {
    let pixels = (tiles as u64).saturating_mul(u64::from(width) * u64::from(height));
    if pixels > MAX_TILED_PIXELS { Err(ImageError::TilesTooLarge { tiles, width, height }) } else { Ok(()) }
}
