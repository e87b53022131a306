//! Entropy-coded scans (ITU T.81, annexes F and G).

use std::sync::Arc;

use super::bits::BitReader;
use super::header::{NATURAL_ORDER, Parser, Scan};
use super::huffman::Table;
use super::malformed;
use super::planes::{Block, Picture};
use crate::image::error::ImageError;

/// A component's tables and DC prediction.
struct Channel {
    plane: usize,
    dc: Option<Arc<Table>>,
    ac: Option<Arc<Table>>,
    prediction: i32,
}

/// How the blocks of a scan are coded.
#[derive(Clone, Copy)]
enum Pass {
    Sequential,
    DcFirst { shift: u32 },
    DcRefine { shift: u32 },
    AcFirst { first: usize, last: usize, shift: u32 },
    AcRefine { first: usize, last: usize, shift: u32 },
}

struct Decoder<'a> {
    reader: BitReader<'a>,
    channels: Vec<Channel>,
    pass: Pass,
    /// Blocks that are still to be skipped because their remaining coefficients are zero.
    end_of_band_run: u32,
    /// Number of the restart marker that comes next, 0 to 7.
    next_restart: u8,
}

/// Decodes the scan whose header was just read. Afterwards the parser stands behind its data.
pub(super) fn decode(parser: &mut Parser<'_>, scan: &Scan, picture: &mut Picture) -> Result<(), ImageError> {
    if picture.lacks_quantization(scan) {
        return Err(malformed("a component without quantisation table"));
    }
    let progressive = parser.frame.as_ref().is_some_and(|frame| frame.progressive);
    let (first, last) = scan.spectrum;
    let (before, shift) = scan.approximation;
    let pass = match (progressive, first, before) {
        (false, ..) => Pass::Sequential,
        (true, 0, 0) => Pass::DcFirst { shift },
        (true, 0, _) => Pass::DcRefine { shift },
        (true, _, 0) => Pass::AcFirst { first, last, shift },
        (true, ..) => Pass::AcRefine { first, last, shift },
    };
    let needs_dc = matches!(pass, Pass::Sequential | Pass::DcFirst { .. });
    let needs_ac = matches!(pass, Pass::Sequential | Pass::AcFirst { .. } | Pass::AcRefine { .. });
    let mut channels = Vec::new();
    for component in &scan.components {
        let table = |tables: &[Option<Arc<Table>>; 4], number: usize, wanted: bool, dc: bool| {
            if !wanted {
                return Ok(None);
            }
            let table = tables.get(number).cloned().flatten();
            let table = table.ok_or_else(|| malformed(format!("Huffman table {number} is used but not defined")))?;
            table.check(dc)?;
            Ok::<_, ImageError>(Some(table))
        };
        channels.push(Channel {
            plane: component.index,
            dc: table(&parser.dc_tables, component.dc_table, needs_dc, true)?,
            ac: table(&parser.ac_tables, component.ac_table, needs_ac, false)?,
            prediction: 0,
        });
    }
    let reader = BitReader::new(parser.bytes, parser.at, parser.pending_marker.take());
    let mut decoder = Decoder { reader, channels, pass, end_of_band_run: 0, next_restart: 0 };
    decoder.run(parser.restart_interval, picture)?;
    parser.at = decoder.reader.position();
    parser.pending_marker = decoder.reader.marker;
    Ok(())
}

impl Decoder<'_> {
    fn run(&mut self, restart_interval: u32, picture: &mut Picture) -> Result<(), ImageError> {
        // A scan of one component holds just the blocks of its samples, without padding to whole units.
        let alone = match self.channels.as_slice() {
            [channel] => picture.planes.get(channel.plane).map(|plane| (plane.blocks_wide, plane.blocks_high)),
            _ => None,
        };
        let (wide, high) = alone.unwrap_or(picture.units);
        let mut until_restart = restart_interval;
        for row in 0..high {
            for column in 0..wide {
                if restart_interval > 0 {
                    if until_restart == 0 {
                        self.restart()?;
                        until_restart = restart_interval;
                    }
                    until_restart -= 1;
                }
                self.unit(column, row, alone.is_some(), picture)?;
            }
            // Behind the last data of the scan nothing changes any more. A small file with many empty scans must not cost a
            // pass over a large picture for each.
            let over = match self.reader.marker {
                Some(0xD0..=0xD7 | ..0xC0) | None => restart_interval == 0,
                Some(_) => true,
            };
            if over && self.reader.exhausted && picture.collects_coefficients() {
                break;
            }
        }
        Ok(())
    }

    /// Decodes one coded unit.
    fn unit(&mut self, column: usize, row: usize, alone: bool, picture: &mut Picture) -> Result<(), ImageError> {
        // The data of this stretch is used up: what is left of it stays empty (but the unit at the edge is finished).
        let skip = self.reader.exhausted && !matches!(self.pass, Pass::DcRefine { .. });
        let collect = picture.collects_coefficients();
        if skip && collect {
            return Ok(());
        }
        for channel in 0..self.channels.len() {
            let Some(plane) = self.channels.get(channel).and_then(|channel| picture.planes.get_mut(channel.plane)) else {
                continue;
            };
            let (across, down) = if alone { (1, 1) } else { plane.sampling };
            for y in 0..down {
                for x in 0..across {
                    let (column, row) = (column * across + x, row * down + y);
                    if collect {
                        if let Some(block) = plane.block(column, row) {
                            self.block(channel, block)?;
                        }
                    } else {
                        let mut block = [0; 64];
                        if !skip {
                            self.block(channel, &mut block)?;
                        }
                        plane.put(column, row, &block);
                    }
                }
            }
        }
        Ok(())
    }

    fn block(&mut self, channel: usize, block: &mut Block) -> Result<(), ImageError> {
        let Some(channel) = self.channels.get_mut(channel) else { return Ok(()) };
        match self.pass {
            Pass::Sequential => {
                let difference = dc_difference(&mut self.reader, channel)?;
                channel.prediction = channel.prediction.wrapping_add(difference);
                block[0] = channel.prediction as i16;
                ac_sequential(&mut self.reader, channel, block)
            }
            Pass::DcFirst { shift } => {
                let difference = dc_difference(&mut self.reader, channel)?;
                channel.prediction = channel.prediction.wrapping_add(difference);
                block[0] = (channel.prediction << shift) as i16;
                Ok(())
            }
            Pass::DcRefine { shift } => {
                if self.reader.bits(1)? != 0 {
                    block[0] |= 1 << shift;
                }
                Ok(())
            }
            Pass::AcFirst { first, last, shift } => {
                let Some(table) = &channel.ac else { return Ok(()) };
                ac_first(&mut self.reader, table, &mut self.end_of_band_run, block, (first, last), shift)
            }
            Pass::AcRefine { first, last, shift } => {
                let Some(table) = &channel.ac else { return Ok(()) };
                ac_refine(&mut self.reader, table, &mut self.end_of_band_run, block, (first, last), shift)
            }
        }
    }

    /// Reads a restart marker and resets what it resets. A wrong or missing marker is dealt with as libjpeg does
    /// (`jpeg_resync_to_restart`): one that comes too early is kept, so that the data between stays empty; others are
    /// skipped.
    fn restart(&mut self) -> Result<(), ImageError> {
        let mut parser = Parser::new(self.reader.bytes());
        parser.at = self.reader.position();
        parser.pending_marker = self.reader.marker;
        let expected = self.next_restart;
        let mut marker = Some(parser.next_marker()?);
        while let Some(found) = marker {
            let ahead = found.wrapping_sub(0xD0).wrapping_sub(expected) & 7;
            match found {
                0xD0..=0xD7 if ahead == 0 => marker = None,
                0xD0..=0xD7 if ahead == 1 || ahead == 2 => break,
                0xD0..=0xD7 if ahead == 6 || ahead == 7 => marker = Some(parser.next_marker()?),
                0xD0..=0xD7 => marker = None,
                ..0xC0 => marker = Some(parser.next_marker()?),
                _ => break,
            }
        }
        self.reader.restart(parser.at, marker);
        self.next_restart = (expected + 1) & 7;
        self.end_of_band_run = 0;
        for channel in &mut self.channels {
            channel.prediction = 0;
        }
        if marker.is_none() {
            self.reader.exhausted = false;
        }
        Ok(())
    }
}

fn dc_difference(reader: &mut BitReader<'_>, channel: &Channel) -> Result<i32, ImageError> {
    let Some(table) = &channel.dc else { return Ok(0) };
    let size = reader.symbol(table)?;
    reader.signed(u32::from(size & 15))
}

/// Natural position of a coefficient; a run beyond the block ends in its last place, as in libjpeg.
fn place(k: usize) -> usize {
    NATURAL_ORDER.get(k).map_or(63, |place| usize::from(*place))
}

fn ac_sequential(reader: &mut BitReader<'_>, channel: &Channel, block: &mut Block) -> Result<(), ImageError> {
    let Some(table) = &channel.ac else { return Ok(()) };
    let mut k = 1;
    while k < 64 {
        let symbol = reader.symbol(table)?;
        let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if size > 0 {
            k += run;
            block[place(k)] = reader.signed(size)? as i16;
        } else if run == 15 {
            k += 15;
        } else {
            break;
        }
        k += 1;
    }
    Ok(())
}

fn ac_first(
    reader: &mut BitReader<'_>,
    table: &Table,
    end_of_band_run: &mut u32,
    block: &mut Block,
    (first, last): (usize, usize),
    shift: u32,
) -> Result<(), ImageError> {
    if *end_of_band_run > 0 {
        *end_of_band_run -= 1;
        return Ok(());
    }
    let mut k = first;
    while k <= last {
        let symbol = reader.symbol(table)?;
        let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
        if size > 0 {
            k += run as usize;
            block[place(k)] = (reader.signed(size)? << shift) as i16;
        } else if run == 15 {
            k += 15;
        } else {
            // This block ends here, and so do the next ones of the run.
            *end_of_band_run = (1 << run) + reader.bits(run)? as u32 - 1;
            break;
        }
        k += 1;
    }
    Ok(())
}

fn ac_refine(
    reader: &mut BitReader<'_>,
    table: &Table,
    end_of_band_run: &mut u32,
    block: &mut Block,
    (first, last): (usize, usize),
    shift: u32,
) -> Result<(), ImageError> {
    let plus = 1_i16 << shift;
    let mut k = first;
    if *end_of_band_run == 0 {
        while k <= last {
            let symbol = reader.symbol(table)?;
            let (mut run, size) = (i32::from(symbol >> 4), symbol & 15);
            let new_value = if size > 0 {
                if reader.bits(1)? != 0 { plus } else { -plus }
            } else if run != 15 {
                *end_of_band_run = (1 << run) + reader.bits(run as u32)? as u32;
                break;
            } else {
                0
            };
            // Step over `run` zeros, refining what is not zero on the way.
            while k <= last {
                let coefficient = &mut block[place(k)];
                if *coefficient != 0 {
                    refine(reader, coefficient, plus)?;
                } else {
                    run -= 1;
                    if run < 0 {
                        break;
                    }
                }
                k += 1;
            }
            if new_value != 0 {
                block[place(k)] = new_value;
            }
            k += 1;
        }
    }
    if *end_of_band_run > 0 {
        while k <= last {
            let coefficient = &mut block[place(k)];
            if *coefficient != 0 {
                refine(reader, coefficient, plus)?;
            }
            k += 1;
        }
        *end_of_band_run -= 1;
    }
    Ok(())
}

/// Reads one more bit of a coefficient.
fn refine(reader: &mut BitReader<'_>, coefficient: &mut i16, plus: i16) -> Result<(), ImageError> {
    // The bit may be set already where a damaged file repeats a scan.
    if reader.bits(1)? != 0 && *coefficient & plus == 0 {
        *coefficient = coefficient.wrapping_add(if *coefficient >= 0 { plus } else { -plus });
    }
    Ok(())
}
