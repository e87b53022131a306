//! Small pictures of the images that samples are about: read through the guard, decoded under limits, re-encoded, and
//! embedded once however many samples share them.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageFormat, ImageReader, Limits};

use crate::benchmark::{EmbeddedImage, ImageStore};
use crate::guard::files;

use super::types::ImageSource;

/// Longest side of a thumbnail in pixels.
const SIDE: u32 = 256;
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
    budget_bytes: usize,
    by_path: HashMap<PathBuf, Option<usize>>,
    store: ImageStore,
    /// In the order in which they were asked for.
    pub thumbnails: Vec<Thumbnail>,
    /// Images asked for that could not be read or decoded.
    pub unreadable: usize,
    /// Images asked for when the budget was spent.
    pub over_budget: usize,
}

impl Gallery {
    /// An empty gallery that may hold `budget_bytes` of data URIs.
    pub fn new(source: ImageSource, budget_bytes: usize) -> Self {
        Self {
            source,
            budget_bytes,
            by_path: HashMap::new(),
            store: ImageStore::default(),
            thumbnails: Vec::new(),
            unreadable: 0,
            over_budget: 0,
        }
    }

    /// Whether the budget is spent.
    pub fn is_full(&self) -> bool {
        self.over_budget > 0
    }

    /// The thumbnail of an image named by a record, an index into `thumbnails`; `None` where it cannot be shown.
    pub fn add(&mut self, data_root: &str, name: &str) -> Option<usize> {
        let root = match &self.source {
            ImageSource::Omit => return None,
            ImageSource::Folder(folder) => folder.clone(),
            ImageSource::DataRoot => PathBuf::from(data_root),
        };
        let path = root.join(name);
        if let Some(known) = self.by_path.get(&path) {
            return *known;
        }
        let added = self.embed(&root, name);
        self.by_path.insert(path, added);
        added
    }

    fn embed(&mut self, root: &Path, name: &str) -> Option<usize> {
        let Some(thumbnail) = thumbnail(root, name, &self.store) else {
            self.unreadable += 1;
            return None;
        };
        let Some(left) = self.budget_bytes.checked_sub(thumbnail.data_uri.len()) else {
            self.over_budget += 1;
            return None;
        };
        self.budget_bytes = left;
        self.thumbnails.push(thumbnail);
        Some(self.thumbnails.len() - 1)
    }
}

fn thumbnail(root: &Path, name: &str, store: &ImageStore) -> Option<Thumbnail> {
    if root.as_os_str().is_empty() {
        return None;
    }
    let path = files::contained(root, name).ok()?;
    // Opening a pipe or a device could wait for ever.
    let bytes = if path.is_file() { files::read_capped(&path, FILE_LIMIT_BYTES).ok()? } else { embedded(root, name, store)? };
    let (width, height) = reader(&bytes)?.into_dimensions().ok()?;
    if width == 0 || height == 0 || u64::from(width) * u64::from(height) > PIXEL_LIMIT {
        return None;
    }
    // No EXIF rotation: boxes and models see the pixels as they are stored.
    let original = reader(&bytes)?.decode().ok()?;
    let small = if width.max(height) > SIDE { original.thumbnail(SIDE, SIDE) } else { original };
    let data_uri = encode(&DynamicImage::ImageRgb8(small.to_rgb8()))?;
    Some(Thumbnail { width, height, data_uri })
}

/// The bytes of an image inside a data file.
fn embedded(root: &Path, name: &str, store: &ImageStore) -> Option<Vec<u8>> {
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
fn encode(picture: &DynamicImage) -> Option<String> {
    let mut png = Vec::new();
    picture.write_to(&mut Cursor::new(&mut png), ImageFormat::Png).ok()?;
    let mut jpeg = Vec::new();
    picture.write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY)).ok()?;
    let (kind, bytes) = if png.len() <= jpeg.len() * 3 / 2 { ("png", png) } else { ("jpeg", jpeg) };
    Some(format!("data:image/{kind};base64,{}", base64::engine::general_purpose::STANDARD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_png(folder: &Path, name: &str, width: u32, height: u32) {
        image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 90])).save(folder.join(name)).unwrap();
    }

    #[test]
    fn an_image_is_embedded_once_and_small() {
        let folder = tempfile::tempdir().unwrap();
        write_png(folder.path(), "a.png", 600, 300);
        let mut gallery = Gallery::new(ImageSource::Folder(folder.path().to_path_buf()), 1 << 20);
        assert_eq!(gallery.add("", "a.png"), Some(0));
        assert_eq!(gallery.add("", "a.png"), Some(0));
        assert_eq!(gallery.thumbnails.len(), 1);
        let shown = &gallery.thumbnails[0];
        assert_eq!((shown.width, shown.height), (600, 300));
        let (_, base64) = shown.data_uri.split_once("base64,").unwrap();
        let small = image::load_from_memory(&base64::engine::general_purpose::STANDARD.decode(base64).unwrap()).unwrap();
        assert_eq!((small.width(), small.height()), (256, 128));
    }

    #[test]
    fn nothing_outside_the_folder_and_nothing_broken_is_shown() {
        let outside = tempfile::tempdir().unwrap();
        write_png(outside.path(), "secret.png", 8, 8);
        let folder = outside.path().join("data");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("broken.png"), b"\x89PNG\r\n\x1a\nnonsense").unwrap();
        let root = folder.to_string_lossy().into_owned();
        let mut gallery = Gallery::new(ImageSource::DataRoot, 1 << 20);
        let absolute = outside.path().join("secret.png").to_string_lossy().into_owned();
        for name in ["../secret.png", absolute.as_str(), "broken.png", "missing.png", ""] {
            assert_eq!(gallery.add(&root, name), None, "{name}");
        }
        assert!(gallery.thumbnails.is_empty());
        assert_eq!(Gallery::new(ImageSource::Omit, 1 << 20).add(&root, "broken.png"), None);
    }

    #[test]
    fn the_budget_holds() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.png", "b.png", "c.png"] {
            write_png(folder.path(), name, 64, 64);
        }
        let mut gallery = Gallery::new(ImageSource::Folder(folder.path().to_path_buf()), 1 << 20);
        gallery.add("", "a.png");
        let one = gallery.thumbnails[0].data_uri.len();
        let mut tight = Gallery::new(ImageSource::Folder(folder.path().to_path_buf()), one * 2 + one / 2);
        let shown: Vec<bool> = ["a.png", "b.png", "c.png"].map(|name| tight.add("", name).is_some()).to_vec();
        assert_eq!(shown, [true, true, false]);
        assert!(tight.is_full());
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
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("bomb.png"), bomb).unwrap();
        assert!(thumbnail(folder.path(), "bomb.png", &ImageStore::default()).is_none());
    }
}
