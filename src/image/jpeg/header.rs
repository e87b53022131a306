//! Markers and the tables they carry (ITU T.81, annex B).

use std::sync::Arc;

use super::huffman::Table;
use super::{malformed, truncated};
use crate::image::error::ImageError;
use crate::image::limits;

/// Position in a block, row by row, of the k-th coefficient in zigzag order.
pub(super) const NATURAL_ORDER: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42,
    49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Quantisation steps in natural order.
pub(super) type Quantization = [u16; 64];

/// One colour component of the frame.
#[derive(Clone)]
pub(super) struct Component {
    pub id: u8,
    /// Horizontal and vertical sampling factor, 1 to 4.
    pub sampling: (usize, usize),
    pub quantization_table: usize,
}

/// The frame header.
pub(super) struct Frame {
    pub width: u32,
    pub height: u32,
    pub progressive: bool,
    pub components: Vec<Component>,
}

impl Frame {
    /// The largest sampling factors.
    pub(super) fn largest_sampling(&self) -> (usize, usize) {
        let largest = |pick: fn(&Component) -> usize| self.components.iter().map(pick).max().unwrap_or(1);
        (largest(|component| component.sampling.0), largest(|component| component.sampling.1))
    }
}

/// A component's part in a scan.
pub(super) struct ScanComponent {
    /// Index into the frame's components.
    pub index: usize,
    pub dc_table: usize,
    pub ac_table: usize,
}

/// The scan header.
pub(super) struct Scan {
    pub components: Vec<ScanComponent>,
    /// First and last coefficient in zigzag order.
    pub spectrum: (usize, usize),
    /// Successive approximation: bit position before (0 for a first pass) and now.
    pub approximation: (u32, u32),
}

/// What the application markers say about colour.
#[derive(Clone, Copy, Default)]
pub(super) struct Application {
    pub jfif: bool,
    pub adobe_transform: Option<u8>,
}

/// What the caller must act on.
pub(super) enum Event {
    /// A scan header; entropy-coded data follows.
    Scan(Scan),
    /// End of the image.
    End,
}

/// Reads markers one after another, keeping the tables.
pub(super) struct Parser<'a> {
    pub bytes: &'a [u8],
    /// Next byte to read.
    pub at: usize,
    /// A marker that was already read, behind which `at` stands.
    pub pending_marker: Option<u8>,
    pub frame: Option<Frame>,
    pub quantization: [Option<Quantization>; 4],
    pub dc_tables: [Option<Arc<Table>>; 4],
    pub ac_tables: [Option<Arc<Table>>; 4],
    /// Minimum coded units between restart markers; 0 for none.
    pub restart_interval: u32,
    pub application: Application,
}

impl<'a> Parser<'a> {
    /// `bytes` must begin with the start-of-image marker.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 2,
            pending_marker: None,
            frame: None,
            quantization: [None; 4],
            dc_tables: Default::default(),
            ac_tables: Default::default(),
            restart_interval: 0,
            application: Application::default(),
        }
    }

    /// Finds the next marker, skipping anything else, as libjpeg does.
    pub(super) fn next_marker(&mut self) -> Result<u8, ImageError> {
        if let Some(marker) = self.pending_marker.take() {
            return Ok(marker);
        }
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(prefix) = rest.iter().position(|byte| *byte == 0xFF) else { break };
            let Some(filled) = rest.get(prefix..).and_then(|rest| rest.iter().position(|byte| *byte != 0xFF)) else { break };
            self.at += prefix + filled + 1;
            match rest.get(prefix + filled) {
                Some(0) | None => {}
                Some(marker) => return Ok(*marker),
            }
        }
        self.at = self.bytes.len();
        Err(truncated("its markers (no end-of-image marker)"))
    }

    /// Reads up to the next scan header or the end of the image.
    pub(super) fn next_event(&mut self) -> Result<Event, ImageError> {
        loop {
            match self.next_marker()? {
                0xD9 => return Ok(Event::End),
                0xDA => return self.scan_header().map(Event::Scan),
                marker @ (0xC0..=0xC2) => self.frame_header(marker == 0xC2)?,
                0xC4 => self.huffman_tables()?,
                0xDB => self.quantization_tables()?,
                0xDD => {
                    let [high, low] = self.exactly::<2>("restart interval")?;
                    self.restart_interval = u16::from_be_bytes([high, low]).into();
                }
                0xE0 => {
                    let segment = self.segment()?;
                    self.application.jfif |= segment.len() >= 14 && segment.starts_with(b"JFIF\0");
                }
                0xEE => {
                    let segment = self.segment()?;
                    if segment.len() >= 12 && segment.starts_with(b"Adobe") {
                        self.application.adobe_transform = segment.get(11).copied();
                    }
                }
                // Other application data, comments, number of lines: skipped. Restart and TEM markers stand alone.
                0xDC | 0xE1..=0xED | 0xEF | 0xFE => drop(self.segment()?),
                0x01 | 0xD0..=0xD7 => {}
                0xD8 => return Err(malformed("a second start-of-image marker")),
                marker @ (0xC9 | 0xCA | 0xCC) => {
                    return Err(unsupported(format!("arithmetic coding (marker FF {marker:02X})")));
                }
                marker @ (0xC3 | 0xC5..=0xC8 | 0xCB | 0xCD..=0xCF) => {
                    return Err(unsupported(format!("lossless or hierarchical coding (marker FF {marker:02X})")));
                }
                marker => return Err(malformed(format!("unknown marker FF {marker:02X}"))),
            }
        }
    }

    /// The bytes of a marker segment, after its length.
    fn segment(&mut self) -> Result<&'a [u8], ImageError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let &[high, low, ..] = rest else { return Err(truncated("a marker segment")) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length < 2 {
            return Err(malformed(format!("a marker segment of {length} bytes; at least 2 are needed")));
        }
        let segment = rest.get(2..length).ok_or_else(|| truncated("a marker segment"))?;
        self.at += length;
        Ok(segment)
    }

    fn exactly<const N: usize>(&mut self, name: &str) -> Result<[u8; N], ImageError> {
        let segment = self.segment()?;
        segment.try_into().map_err(|_| malformed(format!("{name} of {} bytes; expected {N}", segment.len())))
    }

    fn frame_header(&mut self, progressive: bool) -> Result<(), ImageError> {
        if self.frame.is_some() {
            return Err(malformed("a second frame header"));
        }
        let segment = self.segment()?;
        let Some((&[precision, h1, h0, w1, w0, count], components)) = segment.split_first_chunk::<6>() else {
            return Err(malformed("a frame header of less than 6 bytes"));
        };
        if precision != 8 {
            return Err(unsupported(format!("{precision}-bit samples; only 8-bit ones are read")));
        }
        let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
        let (width, height) = limits::check_size(super::FORMAT, width.into(), height.into())?;
        if !matches!(count, 1 | 3 | 4) {
            return Err(unsupported(format!("{count} colour components; read are 1, 3 and 4")));
        }
        if components.len() != usize::from(count) * 3 {
            return Err(malformed(format!("a frame header of {} bytes for {count} components", segment.len())));
        }
        let components = components
            .as_chunks::<3>()
            .0
            .iter()
            .map(|&[id, sampling, table]| {
                let sampling = (usize::from(sampling >> 4), usize::from(sampling & 15));
                if !(1..=4).contains(&sampling.0) || !(1..=4).contains(&sampling.1) {
                    return Err(malformed(format!("sampling factors {sampling:?}; allowed are 1 to 4")));
                }
                Ok(Component { id, sampling, quantization_table: table.into() })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let frame = Frame { width, height, progressive, components };
        let largest = frame.largest_sampling();
        let whole = |component: &Component| {
            largest.0.is_multiple_of(component.sampling.0) && largest.1.is_multiple_of(component.sampling.1)
        };
        if !frame.components.iter().all(whole) {
            return Err(unsupported("sampling factors that do not divide the largest one".to_owned()));
        }
        self.frame = Some(frame);
        Ok(())
    }

    fn quantization_tables(&mut self) -> Result<(), ImageError> {
        let mut rest = self.segment()?;
        while let Some((&head, values)) = rest.split_first() {
            let sixteen_bit = head >> 4 != 0;
            let bytes = if sixteen_bit { 128 } else { 64 };
            let Some((values, after)) = values.split_at_checked(bytes) else {
                return Err(malformed(format!("a quantisation table of {} bytes; expected {bytes}", values.len())));
            };
            let mut table = [0; 64];
            for (k, place) in NATURAL_ORDER.iter().enumerate() {
                let value = if sixteen_bit {
                    values.get(k * 2..k * 2 + 2).map_or(0, |pair| u16::from(pair[0]) << 8 | u16::from(pair[1]))
                } else {
                    values.get(k).map_or(0, |value| u16::from(*value))
                };
                table[usize::from(*place)] = value;
            }
            let slot = self.quantization.get_mut(usize::from(head & 15));
            *slot.ok_or_else(|| malformed(format!("quantisation table number {}; allowed are 0 to 3", head & 15)))? = Some(table);
            rest = after;
        }
        Ok(())
    }

    fn huffman_tables(&mut self) -> Result<(), ImageError> {
        let mut rest = self.segment()?;
        while !rest.is_empty() {
            let Some((&[head, ref counts @ ..], values)) = rest.split_first_chunk::<17>() else {
                return Err(malformed("a Huffman table without its 16 counts"));
            };
            let total = counts.iter().map(|count| usize::from(*count)).sum::<usize>();
            let Some((values, after)) = values.split_at_checked(total).filter(|_| total <= 256) else {
                return Err(malformed(format!("a Huffman table of {total} codes in {} bytes", values.len())));
            };
            let tables = if head & 0x10 == 0 { &mut self.dc_tables } else { &mut self.ac_tables };
            let slot = tables.get_mut(usize::from(head & !0x10));
            let slot = slot.ok_or_else(|| malformed(format!("Huffman table number {head:#x}; allowed are 0 to 3")))?;
            *slot = Some(Arc::new(Table::new(counts, values)));
            rest = after;
        }
        Ok(())
    }

    fn scan_header(&mut self) -> Result<Scan, ImageError> {
        let segment = self.segment()?;
        let frame = self.frame.as_ref().ok_or_else(|| malformed("a scan before the frame header"))?;
        let Some((&count, rest)) = segment.split_first() else { return Err(malformed("an empty scan header")) };
        let Some((components, &[first, last, approximation])) = rest.split_at_checked(usize::from(count) * 2) else {
            return Err(malformed(format!("a scan header of {} bytes for {count} components", segment.len())));
        };
        if !(1..=frame.components.len()).contains(&usize::from(count)) {
            return Err(malformed(format!("a scan of {count} components in a frame of {}", frame.components.len())));
        }
        let mut chosen: Vec<ScanComponent> = Vec::new();
        for &[id, tables] in components.as_chunks::<2>().0 {
            // Of several components with one id, each is taken once.
            let free = |index: usize| chosen.iter().all(|component| component.index != index);
            let index = frame.components.iter().enumerate().position(|(index, component)| component.id == id && free(index));
            let index = index.ok_or_else(|| malformed(format!("a scan of component {id}, which the frame lacks")))?;
            chosen.push(ScanComponent { index, dc_table: usize::from(tables >> 4), ac_table: usize::from(tables & 15) });
        }
        let blocks: usize = chosen
            .iter()
            .filter_map(|component| frame.components.get(component.index))
            .map(|component| component.sampling.0 * component.sampling.1)
            .sum();
        if chosen.len() > 1 && blocks > 10 {
            return Err(malformed(format!("{blocks} blocks in a coded unit; at most 10 are allowed")));
        }
        let scan = Scan {
            components: chosen,
            spectrum: (first.into(), last.into()),
            approximation: (u32::from(approximation >> 4), u32::from(approximation & 15)),
        };
        if frame.progressive {
            check_progression(&scan)?
        }
        Ok(scan)
    }
}

/// The rules for the parameters of a progressive scan.
fn check_progression(scan: &Scan) -> Result<(), ImageError> {
    let (first, last) = scan.spectrum;
    let (before, now) = scan.approximation;
    let spectrum = if first == 0 { last == 0 } else { first <= last && last < 64 && scan.components.len() == 1 };
    let approximation = before == 0 || before == now + 1;
    if spectrum && approximation && now <= 13 {
        return Ok(());
    }
    Err(malformed(format!("progressive scan of coefficients {first} to {last}, bits {before} to {now}")))
}

fn unsupported(reason: String) -> ImageError {
    ImageError::Unsupported { format: super::FORMAT, reason }
}
