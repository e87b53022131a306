//! The bit stream of entropy-coded data.

use super::huffman::{LOOKAHEAD_BITS, Table};
use super::truncated;
use crate::image::error::ImageError;

/// Reads bits, undoes byte stuffing, and stops at a marker.
///
/// Behind a marker it delivers zeros and remembers that it did: libjpeg then leaves the following blocks empty. Where the
/// file ends without a marker, reading fails.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
    buffer: u64,
    available: u32,
    /// The marker that stopped the reader; `at` stands behind it.
    pub marker: Option<u8>,
    /// Set once bits were asked for that the data does not have.
    pub exhausted: bool,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize, marker: Option<u8>) -> Self {
        Self { bytes, at, buffer: 0, available: 0, marker, exhausted: false }
    }

    /// The whole file.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Position of the next unread byte, bytes in the bit buffer counting as read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Drops buffered bits and goes on at `at`.
    pub(super) fn restart(&mut self, at: usize, marker: Option<u8>) {
        (self.at, self.marker) = (at, marker);
        (self.buffer, self.available) = (0, 0);
    }

    fn fill(&mut self) {
        while self.available <= 56 && self.marker.is_none() {
            let Some(&byte) = self.bytes.get(self.at) else { return };
            self.at += 1;
            if byte == 0xFF {
                let rest = self.bytes.get(self.at..).unwrap_or_default();
                let Some(filled) = rest.iter().position(|byte| *byte != 0xFF) else {
                    self.at = self.bytes.len();
                    return;
                };
                self.at += filled + 1;
                match rest.get(filled) {
                    Some(0) | None => {}
                    Some(marker) => {
                        self.marker = Some(*marker);
                        return;
                    }
                }
            }
            self.buffer = self.buffer << 8 | u64::from(byte);
            self.available += 8;
        }
    }

    /// Makes sure that `count` bits (at most 16) are there.
    fn need(&mut self, count: u32) -> Result<(), ImageError> {
        if self.available >= count {
            return Ok(());
        }
        self.fill();
        if self.available < count {
            if self.marker.is_none() {
                return Err(truncated("its coded pixels"));
            }
            self.exhausted = true;
            self.buffer <<= 32;
            self.available += 32;
        }
        Ok(())
    }

    /// The next `count` bits, at most 16.
    pub(super) fn bits(&mut self, count: u32) -> Result<i32, ImageError> {
        self.need(count)?;
        self.available -= count;
        Ok((self.buffer >> self.available) as i32 & ((1 << count) - 1))
    }

    /// The next Huffman symbol. A code that is in no table counts as 0, as in libjpeg.
    pub(super) fn symbol(&mut self, table: &Table) -> Result<u8, ImageError> {
        if self.available < LOOKAHEAD_BITS {
            self.fill();
        }
        // With fewer bits left than a look-up takes, the missing ones read as zero; only the code's own length must exist.
        let ahead = if self.available >= LOOKAHEAD_BITS {
            self.buffer >> (self.available - LOOKAHEAD_BITS)
        } else {
            self.buffer << (LOOKAHEAD_BITS - self.available)
        };
        let (length, symbol) = table.short(ahead as u32);
        if length > 0 {
            self.need(length)?;
            self.available -= length;
            return Ok(symbol);
        }
        let mut length = LOOKAHEAD_BITS as usize + 1;
        let mut code = self.bits(LOOKAHEAD_BITS + 1)?;
        loop {
            if length > 16 {
                return Ok(0);
            }
            if let Some(symbol) = table.long(code, length) {
                return Ok(symbol);
            }
            code = code << 1 | self.bits(1)?;
            length += 1;
        }
    }

    /// A number of `size` bits (at most 15) in the code of T.81, F.2.2.1: a leading 0 stands for a negative one.
    pub(super) fn signed(&mut self, size: u32) -> Result<i32, ImageError> {
        if size == 0 {
            return Ok(0);
        }
        let value = self.bits(size)?;
        Ok(if value < 1 << (size - 1) { value - (1 << size) + 1 } else { value })
    }
}
