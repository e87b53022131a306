//! What can go wrong between an image file and its tensor.

use std::fmt;
use std::path::PathBuf;

use super::limits::{MAX_DECODE_BYTES, MAX_PIXELS, MAX_SIDE_PIXELS, MAX_TILED_PIXELS};
use crate::guard::files::GuardError;

/// File formats that the room reads, told apart by their first bytes, never by a file name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// JPEG, baseline or progressive.
    Jpeg,
    /// PNG.
    Png,
    /// GIF, of which the first frame counts.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// WebP, of which the first frame counts.
    WebP,
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::WebP => "WebP",
        })
    }
}

/// Why an image gave no tensor.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file could not be read.
    #[error(transparent)]
    File(#[from] GuardError),
    /// An error of a named file.
    #[error("{path}: {source}")]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<ImageError>,
    },
    /// The first bytes are of no format that the room reads.
    #[error("not an image: expected a JPEG, PNG, GIF, BMP or WebP file, found one that starts with {found}")]
    UnknownFormat {
        /// The first bytes in hexadecimal.
        found: String,
    },
    /// An image without pixels.
    #[error("{format} image of {width} x {height} pixels has nothing to show: both sides must be at least 1")]
    Empty {
        /// File format.
        format: ImageFormat,
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
    },
    /// More pixels than the caps allow, in a file or in a step of a recipe.
    #[error(
        "{what} of {width} x {height} pixels is too large: at most {MAX_SIDE_PIXELS} pixels a side and {MAX_PIXELS} pixels in all are allowed"
    )]
    TooLarge {
        /// What is too large.
        what: String,
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
    },
    /// The size is within its cap, but decoding this kind of file would need too much memory.
    #[error("decoding this {format} image would need {needed_bytes} bytes; at most {MAX_DECODE_BYTES} are allowed")]
    TooMuchMemory {
        /// File format.
        format: ImageFormat,
        /// Bytes that the decoder would allocate.
        needed_bytes: u64,
    },
    /// The file ends too early.
    #[error("{format} image is cut off: the file ends inside {inside}")]
    Truncated {
        /// File format.
        format: ImageFormat,
        /// The part that is incomplete.
        inside: &'static str,
    },
    /// The file breaks the rules of its format.
    #[error("damaged {format} image: {reason}")]
    Malformed {
        /// File format.
        format: ImageFormat,
        /// What was expected and found.
        reason: String,
    },
    /// A valid file of a kind that is not read.
    #[error("{format} image of a kind that is not supported: {reason}")]
    Unsupported {
        /// File format.
        format: ImageFormat,
        /// Which kind.
        reason: String,
    },
    /// Width, height and length of a pixel buffer disagree.
    #[error("{bytes} bytes are not {width} x {height} RGB pixels")]
    WrongLength {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Bytes found.
        bytes: usize,
    },
    /// The tiles of an image have more pixels than the cap allows.
    #[error("{tiles} tiles of {width} x {height} pixels are too large: at most {MAX_TILED_PIXELS} pixels in all are allowed")]
    TilesTooLarge {
        /// Tiles of the image, the view of the whole picture included.
        tiles: usize,
        /// Width of a tile in pixels.
        width: u32,
        /// Height of a tile in pixels.
        height: u32,
    },
    /// The picture cannot be cut into tiles.
    #[error(transparent)]
    Tiling(#[from] crate::package::TilingError),
    /// The recipe cannot be followed.
    #[error("image recipe: {0}")]
    Recipe(String),
}
