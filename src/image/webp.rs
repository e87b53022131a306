//! WebP, lossy and lossless: the first frame.

use std::io::Cursor;

use image::codecs::webp::WebPDecoder;
use image::{ColorType, ImageDecoder};

use super::error::{ImageError, ImageFormat};
use super::limits;
use super::pixels::RgbImage8;
use super::png::{each, translate};

const FORMAT: ImageFormat = ImageFormat::WebP;

pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage8, ImageError> {
    let decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(|error| translate(FORMAT, &error))?;
    let (width, height) = decoder.dimensions();
    limits::check_size(FORMAT, width.into(), height.into())?;
    // The library works on up to 4 bytes a pixel beside the samples it hands out.
    let pixels = u64::from(width) * u64::from(height);
    limits::check_memory(FORMAT, decoder.total_bytes().max(pixels * 3) + pixels * 4)?;
    let colour = decoder.color_type();
    let mut samples = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut samples).map_err(|error| translate(FORMAT, &error))?;
    let rgb = match colour {
        ColorType::Rgb8 => samples,
        ColorType::Rgba8 => each(&samples, |[red, green, blue, _]: [u8; 4]| [red, green, blue]),
        other => return Err(ImageError::Unsupported { format: FORMAT, reason: format!("pixels of type {other:?}") }),
    };
    RgbImage8::new(width, height, rgb)
}
