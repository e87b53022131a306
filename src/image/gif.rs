//! The first frame of a GIF as Pillow shows it: palette colours on the whole screen, transparency ignored.

use gif::{DecodeOptions, DecodingError, MemoryLimit};

use super::error::{ImageError, ImageFormat};
use super::limits;
use super::pixels::RgbImage8;

const FORMAT: ImageFormat = ImageFormat::Gif;

pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage8, ImageError> {
    let mut options = DecodeOptions::new();
    if let Some(limit) = std::num::NonZeroU64::new(limits::MAX_PIXELS) {
        options.set_memory_limit(MemoryLimit::Bytes(limit));
    }
    options.allow_unknown_blocks(true);
    let mut decoder = options.read_info(bytes).map_err(translate)?;
    let frame = decoder.next_frame_info().map_err(translate)?;
    let frame = frame.ok_or_else(|| malformed("it holds no frame"))?;
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (frame_width, frame_height) = (usize::from(frame.width), usize::from(frame.height));
    // Outside of the frame Pillow shows the transparent colour if there is one, else colour 0; not the background colour.
    let outside = frame.transparent.unwrap_or(0);
    let local_palette = frame.palette.clone();

    // A frame that reaches beyond the screen makes the screen grow.
    let width = usize::from(decoder.width()).max(left + frame_width);
    let height = usize::from(decoder.height()).max(top + frame_height);
    let (width, height) = limits::check_size(FORMAT, width as u64, height as u64)?;
    if frame_width == 0 || frame_height == 0 {
        return Err(ImageError::Empty { format: FORMAT, width: frame_width as u64, height: frame_height as u64 });
    }
    let pixels = u64::from(width) * u64::from(height);
    limits::check_memory(FORMAT, pixels * 3 + (frame_width * frame_height) as u64)?;
    let mut indices = vec![0; frame_width * frame_height];
    decoder.read_into_buffer(&mut indices).map_err(translate)?;

    let palette = palette(local_palette.as_deref().or(decoder.global_palette()));
    let mut image = RgbImage8::filled(width, height, palette[usize::from(outside)])?;
    for (to, from) in image.rows_mut().skip(top).zip(indices.chunks_exact(frame_width)) {
        for (pixel, index) in to.chunks_exact_mut(3).skip(left).zip(from) {
            pixel.copy_from_slice(&palette[usize::from(*index)]);
        }
    }
    Ok(image)
}

/// The palette filled up to 256 colours with black; without a palette the indices are grey levels.
fn palette(colours: Option<&[u8]>) -> [[u8; 3]; 256] {
    let Some(colours) = colours else { return std::array::from_fn(|index| [index as u8; 3]) };
    let colours = colours.as_chunks::<3>().0;
    std::array::from_fn(|index| colours.get(index).copied().unwrap_or([0; 3]))
}

fn malformed(reason: impl Into<String>) -> ImageError {
    ImageError::Malformed { format: FORMAT, reason: reason.into() }
}

fn translate(error: DecodingError) -> ImageError {
    match error {
        DecodingError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageError::Truncated { format: FORMAT, inside: "its first frame" }
        }
        DecodingError::UnexpectedEof => ImageError::Truncated { format: FORMAT, inside: "its first frame" },
        DecodingError::MemoryLimit => {
            ImageError::TooMuchMemory { format: FORMAT, needed_bytes: limits::MAX_DECODE_BYTES.saturating_add(1) }
        }
        other => malformed(other.to_string()),
    }
}
