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
        let (wide, high) = (u64::from(width), u64::from(height));
        if limits::within(wide, high).is_none() {
            return Err(ImageError::TooLarge { what: "image".to_owned(), width: wide, height: high });
        }
        if bytes.len() as u64 != wide * high * 3 {
            return Err(ImageError::WrongLength { width, height, bytes: bytes.len() });
        }
        Ok(Self { width, height, bytes })
    }

    /// A picture of one colour; the size must be checked already.
    pub(super) fn filled(width: u32, height: u32, colour: [u8; 3]) -> Result<Self, ImageError> {
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
