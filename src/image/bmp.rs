//! Windows bitmaps as Pillow reads them.
//!
//! Pillow and the usual Rust decoder disagree on 16-bit colours (Pillow cuts `value * 255 / 31`), on what run-length
//! coding leaves out, and on which odd headers are allowed; hence a reader of our own.

use super::error::{ImageError, ImageFormat};
use super::limits;
use super::pixels::RgbImage8;

const FORMAT: ImageFormat = ImageFormat::Bmp;
const FILE_HEADER_BYTES: usize = 14;
/// Header sizes of the known versions; the first is OS/2's with 16-bit sides.
const HEADER_BYTES: [u32; 7] = [12, 40, 52, 56, 64, 108, 124];

/// Values of the compression field.
const RAW: u32 = 0;
const RUN_LENGTH_8: u32 = 1;
const RUN_LENGTH_4: u32 = 2;
const BIT_FIELDS: u32 = 3;

/// Where red, green and blue sit in a pixel of 24 or 32 bits (byte offsets) or of 16 bits (bits per channel).
#[derive(Clone, Copy)]
enum Layout {
    /// 1, 4 or 8 bits: an index.
    Indexed,
    /// Two bytes, blue lowest: widths of green (5 or 6), red and blue being 5 wide.
    Packed16 { green_bits: u32 },
    /// Whole bytes at these offsets.
    Bytes { red: usize, green: usize, blue: usize },
}

struct Header {
    width: u32,
    height: u32,
    top_down: bool,
    bits: u16,
    compression: u32,
    layout: Layout,
    palette: [[u8; 3]; 256],
    pixels_at: usize,
}

pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage8, ImageError> {
    let header = read_header(bytes)?;
    let (width, height) = (header.width as usize, header.height as usize);
    limits::check_memory(FORMAT, (width * height) as u64 * 4)?;
    let data = bytes.get(header.pixels_at..).unwrap_or_default();
    let rows: Vec<[u8; 3]> = if matches!(header.compression, RUN_LENGTH_8 | RUN_LENGTH_4) {
        let indices = expand_runs(data, header.pixels_at, width, height, header.compression == RUN_LENGTH_4);
        if indices.len() < width * height {
            return Err(ImageError::Truncated { format: FORMAT, inside: "its run-length coded pixels" });
        }
        indices.iter().map(|index| header.palette[usize::from(*index)]).collect()
    } else {
        let stride = (width * usize::from(header.bits)).div_ceil(32) * 4;
        let row_bytes = (width * usize::from(header.bits)).div_ceil(8);
        let mut rows = Vec::with_capacity(width * height);
        for row in 0..height {
            // The padding of the last row may be missing.
            let row = data.get(row * stride..row * stride + row_bytes);
            let row = row.ok_or(ImageError::Truncated { format: FORMAT, inside: "its pixels" })?;
            unpack_row(row, width, &header, &mut rows);
        }
        rows
    };
    let mut image = Vec::with_capacity(width * height * 3);
    let lines = rows.chunks_exact(width);
    if header.top_down {
        lines.for_each(|line| image.extend_from_slice(line.as_flattened()));
    } else {
        lines.rev().for_each(|line| image.extend_from_slice(line.as_flattened()));
    }
    RgbImage8::new(header.width, header.height, image)
}

fn read_header(bytes: &[u8]) -> Result<Header, ImageError> {
    let header_bytes = u32_at(bytes, FILE_HEADER_BYTES)?;
    if !HEADER_BYTES.contains(&header_bytes) {
        return Err(unsupported(format!("a header of {header_bytes} bytes; known are {HEADER_BYTES:?}")));
    }
    let short = header_bytes == 12;
    let after_header = FILE_HEADER_BYTES + header_bytes as usize;
    if bytes.len() < after_header {
        return Err(ImageError::Truncated { format: FORMAT, inside: "its header" });
    }
    let (width, height, top_down, bits, compression, colours) = if short {
        let (width, height) = (u16_at(bytes, 18)?, u16_at(bytes, 20)?);
        (width.into(), height.into(), false, u16_at(bytes, 24)?, RAW, 0)
    } else {
        let height = u32_at(bytes, 22)?;
        // A negative height stands for rows from top to bottom. Pillow looks at the highest byte only.
        let top_down = height >> 24 == 0xFF;
        let height = if top_down { height.wrapping_neg() } else { height };
        (u32_at(bytes, 18)?, height, top_down, u16_at(bytes, 28)?, u32_at(bytes, 30)?, u32_at(bytes, 46)?)
    };
    let (width, height) = limits::check_size(FORMAT, width.into(), height.into())?;
    let (layout, after_header) = layout(bytes, after_header, header_bytes, bits, compression)?;
    let mut pixels_at = u32_at(bytes, 10)? as usize;
    let mut palette = [[0; 3]; 256];
    if matches!(layout, Layout::Indexed) {
        let count = if colours == 0 { 1 << bits } else { colours };
        let entry_bytes = if short { 3 } else { 4 };
        if count > 65_536 {
            return Err(unsupported(format!("a palette of {count} colours; at most 65536 are read")));
        }
        let palette_bytes = count as usize * entry_bytes;
        // A pixel offset right behind the header of a file that has a palette is taken for an oversight.
        if pixels_at == FILE_HEADER_BYTES + header_bytes as usize {
            pixels_at += palette_bytes;
        }
        let stored = bytes.get(after_header..).unwrap_or_default();
        let stored = stored.get(..palette_bytes.min(stored.len())).unwrap_or_default();
        for (to, from) in palette.iter_mut().zip(stored.chunks_exact(entry_bytes)) {
            if let [blue, green, red, ..] = *from {
                *to = [red, green, blue];
            }
        }
    }
    if pixels_at == 0 {
        pixels_at = after_header;
    }
    Ok(Header { width, height, top_down, bits, compression, layout, palette, pixels_at })
}

/// How pixels are laid out, and where the header with its masks ends.
fn layout(
    bytes: &[u8],
    after_header: usize,
    header_bytes: u32,
    bits: u16,
    compression: u32,
) -> Result<(Layout, usize), ImageError> {
    const BLUE_FIRST: Layout = Layout::Bytes { red: 2, green: 1, blue: 0 };
    let plain = match bits {
        1 | 4 | 8 => Layout::Indexed,
        16 => Layout::Packed16 { green_bits: 5 },
        24 | 32 => BLUE_FIRST,
        other => return Err(unsupported(format!("{other} bits a pixel; read are 1, 4, 8, 16, 24 and 32"))),
    };
    match compression {
        RAW => Ok((plain, after_header)),
        RUN_LENGTH_8 | RUN_LENGTH_4 if matches!(plain, Layout::Indexed) => Ok((plain, after_header)),
        BIT_FIELDS => {
            // The masks are part of the longer headers and follow the 40-byte one.
            let masks_at = FILE_HEADER_BYTES + 40;
            let red = u32_at(bytes, masks_at)?;
            let green = u32_at(bytes, masks_at + 4)?;
            let blue = u32_at(bytes, masks_at + 8)?;
            let alpha = if header_bytes >= 56 { u32_at(bytes, masks_at + 12)? } else { 0 };
            let after = if header_bytes == 40 { after_header + 12 } else { after_header };
            let layout = match (bits, red, green, blue, alpha) {
                (16, 0xF800, 0x7E0, 0x1F, _) => Layout::Packed16 { green_bits: 6 },
                (16, 0x7C00, 0x3E0, 0x1F, _) => Layout::Packed16 { green_bits: 5 },
                (24, 0xFF_0000, 0xFF00, 0xFF, _) => BLUE_FIRST,
                (32, 0xFF_0000, 0xFF00, 0xFF, 0 | 0xFF00_0000) | (32, 0, 0, 0, 0) => BLUE_FIRST,
                (32, 0xFF00_0000, 0xFF_0000, 0xFF00, 0 | 0xFF) => Layout::Bytes { red: 3, green: 2, blue: 1 },
                (32, 0xFF00_0000, 0xFF00, 0xFF, 0 | 0xFF_0000) => Layout::Bytes { red: 3, green: 1, blue: 0 },
                (32, 0xFF, 0xFF00, 0xFF_0000, 0xFF00_0000) => Layout::Bytes { red: 0, green: 1, blue: 2 },
                _ => {
                    let masks = format!("red {red:#x}, green {green:#x}, blue {blue:#x}, alpha {alpha:#x}");
                    return Err(unsupported(format!("{bits} bits a pixel with masks {masks}")));
                }
            };
            Ok((layout, after))
        }
        other => Err(unsupported(format!("compression {other} with {bits} bits a pixel"))),
    }
}

fn unpack_row(row: &[u8], width: usize, header: &Header, rows: &mut Vec<[u8; 3]>) {
    match header.layout {
        Layout::Indexed => {
            let bits = usize::from(header.bits);
            let per_byte = 8 / bits;
            let mask = (0xFF_u16 >> (8 - bits)) as u8;
            let indices = row.iter().flat_map(|byte| (0..per_byte).map(move |place| (byte >> (8 - bits * (place + 1))) & mask));
            rows.extend(indices.take(width).map(|index| header.palette[usize::from(index)]));
        }
        Layout::Packed16 { green_bits } => rows.extend(row.as_chunks::<2>().0.iter().map(|pair| {
            let value = u32::from(u16::from_le_bytes(*pair));
            let channel = |shift: u32, bits: u32| {
                let largest = (1 << bits) - 1;
                (((value >> shift) & largest) * 255 / largest) as u8
            };
            [channel(5 + green_bits, 5), channel(5, green_bits), channel(0, 5)]
        })),
        Layout::Bytes { red, green, blue } => rows.extend(row.chunks_exact(usize::from(header.bits) / 8).map(|pixel| {
            let at = |offset: usize| pixel.get(offset).copied().unwrap_or(0);
            [at(red), at(green), at(blue)]
        })),
    }
}

/// Undoes run-length coding: one index a pixel, in file order, at most `width * height`. What the codes leave out is 0.
fn expand_runs(data: &[u8], data_at: usize, width: usize, height: usize, half_bytes: bool) -> Vec<u8> {
    let wanted = width * height;
    let mut indices: Vec<u8> = Vec::with_capacity(wanted);
    let mut column = 0;
    let mut at = 0;
    while indices.len() < wanted {
        let Some(&[count, value]) = data.get(at..at + 2) else { break };
        at += 2;
        match (count, value) {
            (0, 0) => {
                indices.resize(indices.len().next_multiple_of(width), 0);
                column = 0;
            }
            (0, 1) => break,
            (0, 2) => {
                let Some(&[right, up]) = data.get(at..at + 2) else { break };
                at += 2;
                let skipped = usize::from(right) + usize::from(up) * width;
                indices.resize(wanted.min(indices.len() + skipped), 0);
                column = indices.len() % width;
            }
            (0, count) => {
                let literal = usize::from(count).min(wanted - indices.len());
                let literal_bytes = if half_bytes { literal.div_ceil(2) } else { literal };
                let stored = data.get(at..).unwrap_or_default();
                let complete = stored.len() >= literal_bytes;
                let stored = stored.get(..literal_bytes).unwrap_or(stored);
                if half_bytes {
                    indices.extend(stored.iter().flat_map(|byte| [byte >> 4, byte & 15]).take(literal));
                } else {
                    indices.extend_from_slice(stored);
                }
                if !complete {
                    break;
                }
                column += usize::from(count);
                at += literal_bytes;
                // Literal pixels are padded to an even position of the file.
                at += (data_at + at) % 2;
            }
            (count, value) => {
                let run = usize::from(count).min(width.saturating_sub(column));
                if half_bytes {
                    indices.extend([value >> 4, value & 15].iter().cycle().take(run));
                } else {
                    indices.resize(indices.len() + run, value);
                }
                column += run;
            }
        }
    }
    // The codes may end early ("end of bitmap"); a run may not reach beyond the last row.
    indices.truncate(wanted);
    indices
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, ImageError> {
    match bytes.get(at..at + 2) {
        Some(&[low, high]) => Ok(u16::from_le_bytes([low, high])),
        _ => Err(ImageError::Truncated { format: FORMAT, inside: "its header" }),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, ImageError> {
    Ok(u32::from(u16_at(bytes, at)?) | u32::from(u16_at(bytes, at + 2)?) << 16)
}

fn unsupported(reason: String) -> ImageError {
    ImageError::Unsupported { format: FORMAT, reason }
}
