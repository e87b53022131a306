//! The picture in memory.

use super::error::ImageError;
use super::limits;

/// An RGB picture, 8 bits a channel, rows from top to bottom, `[height, width, 3]` without gaps.
#[derive(Clone, PartialEq, Eq)]
pub struct RgbImage8 {
    width: u32,
    height: u32,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for RgbImage8 {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "RgbImage8({} x {})", self.width, self.height)
    }
}

impl RgbImage8 {
    /// Wraps `height * width * 3` bytes. Fails if their number differs, or if the size is zero or over the room's caps.
    pub fn new(width: u32, height: u32, bytes: Vec<u8>) -> Result<Self, ImageError> {
        check(width, height)?;
        if bytes.len() as u64 != u64::from(width) * u64::from(height) * 3 {
            return Err(ImageError::WrongLength { width, height, bytes: bytes.len() });
        }
        Ok(Self { width, height, bytes })
    }

    /// A picture of one colour. Fails as [`Self::new`] does, before memory is taken.
    pub(super) fn filled(width: u32, height: u32, colour: [u8; 3]) -> Result<Self, ImageError> {
        check(width, height)?;
        Self::new(width, height, colour.repeat(width as usize * height as usize))
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The samples, `[height, width, 3]`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The rows from top to bottom, each `width * 3` bytes.
    pub(super) fn rows(&self) -> std::slice::ChunksExact<'_, u8> {
        self.bytes.chunks_exact(self.width as usize * 3)
    }

    /// The same, to write into.
    pub(super) fn rows_mut(&mut self) -> std::slice::ChunksExactMut<'_, u8> {
        self.bytes.chunks_exact_mut(self.width as usize * 3)
    }
}

/// Checks a size against the room's caps.
fn check(width: u32, height: u32) -> Result<(), ImageError> {
    let (width, height) = (u64::from(width), u64::from(height));
    match limits::within(width, height) {
        Some(_) => Ok(()),
        None => Err(ImageError::TooLarge { what: "picture".to_owned(), width, height }),
    }
}
