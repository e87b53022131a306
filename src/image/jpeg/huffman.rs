//! Huffman tables (ITU T.81, annex C and F.2.2.3).

use super::malformed;
use crate::image::error::ImageError;

/// Bits resolved by one look-up.
pub(super) const LOOKAHEAD_BITS: u32 = 8;

/// A table as stored in the file, made ready for decoding.
pub(super) struct Table {
    /// For each `LOOKAHEAD_BITS` bits: length of the code (0 if it is longer) and its symbol.
    lookup: [(u8, u8); 1 << LOOKAHEAD_BITS],
    /// Largest code of each length, -1 if there is none.
    largest: [i32; 17],
    /// What to add to a code of each length to find its symbol.
    offset: [i32; 17],
    symbols: Vec<u8>,
    /// Set if the counts cannot form a prefix code.
    overfull: bool,
}

impl Table {
    /// Builds the table from the number of codes of each length 1..=16 and their symbols.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Self {
        let mut table = Self {
            lookup: [(0, 0); 1 << LOOKAHEAD_BITS],
            largest: [-1; 17],
            offset: [0; 17],
            symbols: symbols.to_vec(),
            overfull: false,
        };
        let mut code = 0_i32;
        let mut next = 0_usize;
        for (length, count) in (1_u32..).zip(counts) {
            let slot = length as usize;
            table.offset[slot] = next as i32 - code;
            for symbol in symbols.iter().skip(next).take(usize::from(*count)) {
                if length <= LOOKAHEAD_BITS {
                    let shift = LOOKAHEAD_BITS - length;
                    let first = (code as usize) << shift;
                    for entry in table.lookup.iter_mut().skip(first).take(1 << shift) {
                        *entry = (length as u8, *symbol);
                    }
                }
                code += 1;
            }
            next += usize::from(*count);
            if *count > 0 {
                table.largest[slot] = code - 1;
                table.overfull |= code > 1 << length;
            }
            code <<= 1;
        }
        table
    }

    /// Fails if the table cannot be used: codes that do not fit, or DC symbols above 15.
    pub(super) fn check(&self, dc: bool) -> Result<(), ImageError> {
        if self.overfull {
            return Err(malformed("a Huffman table with more codes than fit"));
        }
        match self.symbols.iter().find(|symbol| dc && **symbol > 15) {
            Some(symbol) => Err(malformed(format!("a Huffman table for DC differences with the size {symbol}; at most 15"))),
            None => Ok(()),
        }
    }

    /// Length and symbol of a code of up to [`LOOKAHEAD_BITS`] bits; length 0 if it is longer.
    pub(super) fn short(&self, bits: u32) -> (u32, u8) {
        let (length, symbol) = self.lookup[(bits & 0xFF) as usize];
        (length.into(), symbol)
    }

    /// The symbol of a code of `length` bits, or `None` if codes that begin so are longer.
    pub(super) fn long(&self, code: i32, length: usize) -> Option<u8> {
        let largest = self.largest.get(length).copied().unwrap_or(i32::MAX);
        if code > largest {
            return None;
        }
        let offset = self.offset.get(length).copied().unwrap_or(0);
        Some(usize::try_from(code + offset).ok().and_then(|at| self.symbols.get(at)).copied().unwrap_or(0))
    }
}
