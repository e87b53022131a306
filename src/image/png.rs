//! PNG as Pillow converts it to RGB.

use std::io::Cursor;

use image::codecs::png::PngDecoder;
use image::{ColorType, ImageDecoder, Limits};

use super::error::{ImageError, ImageFormat};
use super::limits;
use super::pixels::RgbImage8;

const FORMAT: ImageFormat = ImageFormat::Png;
/// Where the header chunk keeps width, height (big endian, 4 bytes each), bit depth and colour type (1 byte each).
const HEADER: std::ops::Range<usize> = 16..26;
/// Colour type without colour and without alpha.
const COLOUR_TYPE_GREY: u8 = 0;

pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage8, ImageError> {
    let Some(&[w3, w2, w1, w0, h3, h2, h1, h0, _bit_depth, colour_type]) = bytes.get(HEADER) else {
        return Err(ImageError::Truncated { format: FORMAT, inside: "its header" });
    };
    let claimed = (u32::from_be_bytes([w3, w2, w1, w0]), u32::from_be_bytes([h3, h2, h1, h0]));
    limits::check_size(FORMAT, claimed.0.into(), claimed.1.into())?;

    let mut allowed = Limits::no_limits();
    allowed.max_alloc = Some(limits::MAX_DECODE_BYTES);
    let decoder = PngDecoder::with_limits(Cursor::new(bytes), allowed).map_err(|error| translate(FORMAT, &error))?;
    let (width, height) = decoder.dimensions();
    limits::check_size(FORMAT, width.into(), height.into())?;
    let pixels = u64::from(width) * u64::from(height);
    limits::check_memory(FORMAT, decoder.total_bytes() + pixels * 3)?;
    let colour = decoder.color_type();
    let mut samples = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut samples).map_err(|error| translate(FORMAT, &error))?;

    let grey_file = colour_type == COLOUR_TYPE_GREY;
    let rgb = match colour {
        ColorType::L8 => each(&samples, |[grey]: [u8; 1]| [grey; 3]),
        ColorType::La8 => each(&samples, |[grey, _]: [u8; 2]| [grey; 3]),
        ColorType::Rgb8 => samples,
        ColorType::Rgba8 => each(&samples, |[red, green, blue, _]: [u8; 4]| [red, green, blue]),
        // Pillow reads 16-bit grey as mode `I;16`, and its conversion to RGB cuts everything above 255 to white instead of
        // scaling. A transparent grey level (tRNS) makes the decoder add an alpha channel, but not Pillow.
        ColorType::L16 => each(&samples, |pair: [u8; 2]| [cut(pair); 3]),
        ColorType::La16 if grey_file => each(&samples, |[first, second, ..]: [u8; 4]| [cut([first, second]); 3]),
        // Every other 16-bit kind keeps the high byte.
        ColorType::La16 => each(&samples, |[first, second, ..]: [u8; 4]| [high([first, second]); 3]),
        ColorType::Rgb16 => each(&samples, |[r0, r1, g0, g1, b0, b1]: [u8; 6]| [high([r0, r1]), high([g0, g1]), high([b0, b1])]),
        ColorType::Rgba16 => {
            each(&samples, |[r0, r1, g0, g1, b0, b1, ..]: [u8; 8]| [high([r0, r1]), high([g0, g1]), high([b0, b1])])
        }
        other => return Err(ImageError::Unsupported { format: FORMAT, reason: format!("pixels of type {other:?}") }),
    };
    RgbImage8::new(width, height, rgb)
}

/// A native-endian 16-bit sample, cut at 255.
fn cut(pair: [u8; 2]) -> u8 {
    u16::from_ne_bytes(pair).min(255) as u8
}

/// The high byte of a native-endian 16-bit sample.
fn high(pair: [u8; 2]) -> u8 {
    (u16::from_ne_bytes(pair) >> 8) as u8
}

/// Turns every pixel of `N` bytes into RGB.
pub(super) fn each<const N: usize>(samples: &[u8], to_rgb: impl Fn([u8; N]) -> [u8; 3]) -> Vec<u8> {
    let pixels = samples.as_chunks::<N>().0;
    let mut rgb = Vec::with_capacity(pixels.len() * 3);
    for pixel in pixels {
        rgb.extend_from_slice(&to_rgb(*pixel));
    }
    rgb
}

/// Puts an error of the decoder library into the room's terms.
pub(super) fn translate(format: ImageFormat, error: &image::ImageError) -> ImageError {
    match error {
        image::ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageError::Truncated { format, inside: "its pixels or a chunk" }
        }
        image::ImageError::Limits(_) => {
            ImageError::TooMuchMemory { format, needed_bytes: limits::MAX_DECODE_BYTES.saturating_add(1) }
        }
        image::ImageError::Unsupported(unsupported) => ImageError::Unsupported { format, reason: unsupported.to_string() },
        other => ImageError::Malformed { format, reason: other.to_string() },
    }
}
