//! Small pictures of the images that samples are about: read through the guard, decoded under limits, re-encoded, and
//! embedded once however many samples share them.

use std::collections::{HashMap, HashSet};
use std::io::Cursor;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageFormat, ImageReader, Limits};
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};

use crate::benchmark::{EmbeddedImage, ImageStore};
use crate::guard::files;

use super::types::ImageSource;

/// Longest side of a thumbnail in pixels, by how many different images there are: a few can be large.
const SIDES: [(usize, u32); 3] = [(40, 512), (120, 384), (usize::MAX, 256)];
/// Largest image file that is read.
const FILE_LIMIT_BYTES: u64 = 64 << 20;
const SIDE_LIMIT: u32 = 20_000;
const PIXEL_LIMIT: u64 = 100_000_000;
const MEMORY_LIMIT_BYTES: u64 = 512 << 20;
const JPEG_QUALITY: u8 = 82;

/// One embedded picture.
#[derive(Clone, Debug)]
pub(super) struct Thumbnail {
    /// Width of the original in pixels.
    pub width: u32,
    /// Height of the original in pixels.
    pub height: u32,
    /// `data:image/png;base64,…`.
    pub data_uri: String,
}

/// The pictures of a report.
#[derive(Debug)]
pub(super) struct Gallery {
    source: ImageSource,
    side: u32,
    by_path: HashMap<PathBuf, Option<usize>>,
    store: ImageStore,
    /// In the order in which they were read.
    pub thumbnails: Vec<Thumbnail>,
    /// Images asked for that could not be read or decoded.
    pub unreadable: usize,
}

impl Gallery {
    /// An empty gallery for about `images` different images.
    pub fn new(source: ImageSource, images: usize) -> Self {
        let side = SIDES.iter().find(|(most, _)| images <= *most).map_or(256, |(_, side)| *side);
        Self { source, side, by_path: HashMap::new(), store: ImageStore::default(), thumbnails: Vec::new(), unreadable: 0 }
    }

    /// Whether an image was asked for before.
    pub fn knows(&self, data_root: &str, name: &str) -> bool {
        self.root(data_root).is_none_or(|root| self.by_path.contains_key(&root.join(name)))
    }

    /// The thumbnail of an image that [`Self::read_ahead`] read, an index into `thumbnails`; `None` where it cannot be shown.
    pub fn get(&self, data_root: &str, name: &str) -> Option<usize> {
        self.by_path.get(&self.root(data_root)?.join(name)).copied().flatten()
    }

    /// Reads the first `most` of the images (data folder and name as a record has it) that are not known yet, on all
    /// processors.
    pub fn read_ahead<'a>(&mut self, names: impl Iterator<Item = (&'a str, &'a str)>, most: usize) {
        let mut wanted: Vec<(PathBuf, &str)> = Vec::new();
        let mut seen: HashSet<PathBuf> = HashSet::new();
        for (data_root, name) in names {
            let Some(root) = self.root(data_root) else { continue };
            let path = root.join(name);
            if !self.by_path.contains_key(&path) && seen.insert(path) {
                wanted.push((root, name));
                if wanted.len() == most {
                    break;
                }
            }
        }
        // Images in data files are read in the order of their rows: going back in such a file is slow.
        wanted.sort_by_cached_key(|(root, name)| {
            (root.clone(), EmbeddedImage::parse(name).map(|(file, image)| (file.to_owned(), image.row)))
        });
        // So they are read one after the other; decoding takes most of the time.
        let in_data: Vec<Option<Vec<u8>>> = wanted.iter().map(|(root, name)| embedded(root, name, &self.store)).collect();
        let side = self.side;
        let small = |((root, name), bytes): (&(PathBuf, &str), Option<Vec<u8>>)| match bytes {
            Some(bytes) => thumbnail(&bytes, side),
            None => thumbnail(&of_file(root, name)?, side),
        };
        let read: Vec<Option<Thumbnail>> = wanted.par_iter().zip(in_data).map(small).collect();
        for ((root, name), thumbnail) in wanted.into_iter().zip(read) {
            self.unreadable += usize::from(thumbnail.is_none());
            let place = thumbnail.map(|thumbnail| {
                self.thumbnails.push(thumbnail);
                self.thumbnails.len() - 1
            });
            self.by_path.insert(root.join(name), place);
        }
    }

    fn root(&self, data_root: &str) -> Option<PathBuf> {
        match &self.source {
            ImageSource::Omit => None,
            ImageSource::Folder(folder) => Some(folder.clone()),
            ImageSource::DataRoot => Some(PathBuf::from(data_root)),
        }
    }
}

/// The bytes of an image that is a file of its own.
fn of_file(root: &Path, name: &str) -> Option<Vec<u8>> {
    if root.as_os_str().is_empty() {
        return None;
    }
    let path = files::contained(root, name).ok()?;
    // Opening a pipe or a device could wait for ever.
    if path.is_file() { files::read_capped(&path, FILE_LIMIT_BYTES).ok() } else { None }
}

fn thumbnail(bytes: &[u8], side: u32) -> Option<Thumbnail> {
    let (width, height) = reader(bytes)?.into_dimensions().ok()?;
    if width == 0 || height == 0 || u64::from(width) * u64::from(height) > PIXEL_LIMIT {
        return None;
    }
    // No EXIF rotation: boxes and models see the pixels as they are stored.
    let original = reader(bytes)?.decode().ok()?;
    let small = if width.max(height) > side { original.thumbnail(side, side) } else { original };
    let photograph = image::guess_format(bytes).is_ok_and(|format| format == ImageFormat::Jpeg);
    let data_uri = encode(&DynamicImage::ImageRgb8(small.to_rgb8()), photograph)?;
    Some(Thumbnail { width, height, data_uri })
}

/// The bytes of an image inside a data file.
fn embedded(root: &Path, name: &str, store: &ImageStore) -> Option<Vec<u8>> {
    // A file that is really called so comes first.
    if root.as_os_str().is_empty() || files::contained(root, name).is_ok_and(|path| path.is_file()) {
        return None;
    }
    let (file, image) = EmbeddedImage::parse(name)?;
    let file = files::contained(root, file).ok().filter(|file| file.is_file())?;
    let bytes = store.read(&EmbeddedImage { file: file.into(), ..image }).ok()?;
    (bytes.len() as u64 <= FILE_LIMIT_BYTES).then_some(bytes)
}

fn reader(bytes: &[u8]) -> Option<ImageReader<Cursor<&[u8]>>> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().ok()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_LIMIT);
    limits.max_image_height = Some(SIDE_LIMIT);
    limits.max_alloc = Some(MEMORY_LIMIT_BYTES);
    reader.limits(limits);
    Some(reader)
}

/// PNG for drawings (it is exact and often smaller), JPEG for photographs.
fn encode(picture: &DynamicImage, photograph: bool) -> Option<String> {
    let uri = |kind: &str, bytes: &[u8]| {
        format!("data:image/{kind};base64,{}", base64::engine::general_purpose::STANDARD.encode(bytes))
    };
    let mut jpeg = Vec::new();
    picture.write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY)).ok()?;
    if photograph {
        return Some(uri("jpeg", &jpeg));
    }
    let mut png = Vec::new();
    picture.write_to(&mut Cursor::new(&mut png), ImageFormat::Png).ok()?;
    Some(if png.len() <= jpeg.len() * 3 / 2 { uri("png", &png) } else { uri("jpeg", &jpeg) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_png(folder: &Path, name: &str, width: u32, height: u32) {
        image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 90])).save(folder.join(name)).unwrap();
    }

    fn read<'a>(gallery: &mut Gallery, root: &'a str, names: &[&'a str]) -> Vec<Option<usize>> {
        gallery.read_ahead(names.iter().map(|name| (root, *name)), 100);
        names.iter().map(|name| gallery.get(root, name)).collect()
    }

    #[test]
    fn an_image_is_embedded_once_and_small() {
        let folder = tempfile::tempdir().unwrap();
        write_png(folder.path(), "a.png", 600, 300);
        for (images, expected) in [(1, (512, 256)), (100, (384, 192)), (1000, (256, 128))] {
            let mut gallery = Gallery::new(ImageSource::Folder(folder.path().to_path_buf()), images);
            assert!(!gallery.knows("", "a.png"));
            assert_eq!(read(&mut gallery, "", &["a.png", "a.png"]), [Some(0), Some(0)]);
            assert!(gallery.knows("", "a.png"));
            assert_eq!(read(&mut gallery, "", &["a.png"]), [Some(0)]);
            assert_eq!(gallery.thumbnails.len(), 1);
            let shown = &gallery.thumbnails[0];
            assert_eq!((shown.width, shown.height), (600, 300));
            let (_, base64) = shown.data_uri.split_once("base64,").unwrap();
            let small = image::load_from_memory(&base64::engine::general_purpose::STANDARD.decode(base64).unwrap()).unwrap();
            assert_eq!((small.width(), small.height()), expected);
        }
    }

    #[test]
    fn nothing_outside_the_folder_and_nothing_broken_is_shown() {
        let outside = tempfile::tempdir().unwrap();
        write_png(outside.path(), "secret.png", 8, 8);
        let folder = outside.path().join("data");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("broken.png"), b"\x89PNG\r\n\x1a\nnonsense").unwrap();
        let root = folder.to_string_lossy().into_owned();
        let mut gallery = Gallery::new(ImageSource::DataRoot, 5);
        let absolute = outside.path().join("secret.png").to_string_lossy().into_owned();
        let names = ["../secret.png", absolute.as_str(), "broken.png", "missing.png", ""];
        assert_eq!(read(&mut gallery, &root, &names), [None; 5]);
        assert!(gallery.thumbnails.is_empty());
        assert_eq!(gallery.unreadable, 5);
        let mut without = Gallery::new(ImageSource::Omit, 1);
        assert_eq!(read(&mut without, &root, &["broken.png"]), [None]);
        assert_eq!(without.unreadable, 0);
    }

    #[test]
    fn no_more_are_read_than_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.png", "b.png", "c.png"] {
            write_png(folder.path(), name, 8, 8);
        }
        let mut gallery = Gallery::new(ImageSource::Folder(folder.path().to_path_buf()), 3);
        gallery.read_ahead(["a.png", "a.png", "b.png", "c.png"].into_iter().map(|name| ("", name)), 2);
        let known: Vec<bool> = ["a.png", "b.png", "c.png"].map(|name| gallery.knows("", name)).to_vec();
        assert_eq!(known, [true, true, false]);
    }

    #[test]
    fn a_decompression_bomb_is_refused_by_its_header() {
        // A PNG header that claims 60,000 × 60,000 pixels.
        let mut bomb = b"\x89PNG\r\n\x1a\n".to_vec();
        let mut chunk = b"IHDR".to_vec();
        chunk.extend(60_000_u32.to_be_bytes());
        chunk.extend(60_000_u32.to_be_bytes());
        chunk.extend([8, 2, 0, 0, 0]);
        bomb.extend(13_u32.to_be_bytes());
        bomb.extend(&chunk);
        bomb.extend(crc32fast::hash(&chunk).to_be_bytes());
        assert!(thumbnail(&bomb, 256).is_none());
    }
}
