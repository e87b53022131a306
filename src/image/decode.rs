//! From bytes to a picture: which format, and its decoder.

use super::error::{ImageError, ImageFormat};
use super::pixels::RgbImage8;
use super::{bmp, gif, jpeg, png, webp};

/// Decodes an image file: JPEG, PNG, BMP, and the first frame of GIF and WebP.
///
/// The pixels are those of Pillow's `Image.open(file).convert("RGB")`: palettes are looked up, grey is repeated, alpha is
/// dropped (not blended), CMYK is inverted as Adobe writes it. An EXIF orientation is not applied, as LLaVA does not.
///
/// Fails if the bytes are no image of these formats, are damaged or cut off, or claim more pixels than the room's caps;
/// the claim is checked before the pixels are decoded.
pub fn decode(bytes: &[u8]) -> Result<RgbImage8, ImageError> {
    match recognise(bytes) {
        Some(ImageFormat::Jpeg) => jpeg::decode(bytes),
        Some(ImageFormat::Png) => png::decode(bytes),
        Some(ImageFormat::Gif) => gif::decode(bytes),
        Some(ImageFormat::Bmp) => bmp::decode(bytes),
        Some(ImageFormat::WebP) => webp::decode(bytes),
        None => {
            let found = match bytes.get(..bytes.len().min(8)) {
                Some(start) if !start.is_empty() => start.iter().map(|byte| format!("{byte:02x}")).collect(),
                _ => "nothing (it is empty)".to_owned(),
            };
            Err(ImageError::UnknownFormat { found })
        }
    }
}

/// Tells the format by its signature.
fn recognise(bytes: &[u8]) -> Option<ImageFormat> {
    if bytes.starts_with(b"\xFF\xD8\xFF") {
        Some(ImageFormat::Jpeg)
    } else if bytes.starts_with(b"\x89PNG\r\n\x1A\n") {
        Some(ImageFormat::Png)
    } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        Some(ImageFormat::Gif)
    } else if bytes.starts_with(b"BM") {
        Some(ImageFormat::Bmp)
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        Some(ImageFormat::WebP)
    } else {
        None
    }
}
