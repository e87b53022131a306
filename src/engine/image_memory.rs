//! What the first two stages made of images, kept while several mixes of stages are run on the same images.

use std::collections::HashMap;
use std::sync::Arc;

use ndarray::Array3;
use sha2::{Digest, Sha256};

use super::types::ImageTiles;

/// SHA-256 of the pixels and the size of the picture.
type ImageKey = [u8; 32];

/// Features and rows by image, up to a limit. Mixes go through the images in one order again and again, in which the oldest entry
/// is the one that is wanted next: whatever came first stays, and what does not fit is computed each time.
pub(super) struct ImageMemory {
    limit_bytes: usize,
    used_bytes: usize,
    features: HashMap<ImageKey, Arc<Vec<Array3<f32>>>>,
    rows: HashMap<ImageKey, Arc<[f32]>>,
}

/// What is known of an image.
pub(super) struct Remembered {
    pub key: ImageKey,
    /// The vision encoder's features, one array a run.
    pub features: Option<Arc<Vec<Array3<f32>>>>,
    /// The merged rows of the projector.
    pub rows: Option<Arc<[f32]>>,
}

impl ImageMemory {
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, used_bytes: 0, features: HashMap::new(), rows: HashMap::new() }
    }

    /// What is known of this image.
    pub fn of(&self, image: &ImageTiles) -> Remembered {
        let mut hasher = Sha256::new();
        for number in image.pixels.shape().iter().map(|size| *size as u64).chain([image.width.into(), image.height.into()]) {
            hasher.update(number.to_le_bytes());
        }
        let mut bytes = Vec::with_capacity(1 << 16);
        for value in &image.pixels {
            bytes.extend_from_slice(&value.to_le_bytes());
            if bytes.len() >= 1 << 16 {
                hasher.update(&bytes);
                bytes.clear();
            }
        }
        hasher.update(&bytes);
        let key = hasher.finalize().into();
        Remembered { key, features: self.features.get(&key).cloned(), rows: self.rows.get(&key).cloned() }
    }

    /// Keeps what was computed, as far as it fits. No features are given where they were known.
    pub fn keep(&mut self, key: ImageKey, features: Vec<Array3<f32>>, rows: &[f32]) {
        let size: usize = features.iter().map(|run| run.len() * size_of::<f32>()).sum();
        if !features.is_empty() && self.fits(size) {
            self.features.insert(key, Arc::new(features));
        }
        if !self.rows.contains_key(&key) && self.fits(size_of_val(rows)) {
            self.rows.insert(key, rows.into());
        }
    }

    fn fits(&mut self, bytes: usize) -> bool {
        let fits = self.used_bytes.saturating_add(bytes) <= self.limit_bytes;
        self.used_bytes += if fits { bytes } else { 0 };
        fits
    }

    /// Another vision encoder is in use.
    pub fn forget_all(&mut self) {
        self.features.clear();
        self.rows.clear();
        self.used_bytes = 0;
    }

    /// Another projector is in use.
    pub fn forget_rows(&mut self) {
        self.used_bytes -= self.rows.values().map(|rows| size_of_val(rows.as_ref())).sum::<usize>().min(self.used_bytes);
        self.rows.clear();
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array4;

    use super::*;

    fn image(value: f32) -> ImageTiles {
        ImageTiles { pixels: Array4::from_elem((1, 3, 2, 2), value), width: 2, height: 2 }
    }

    #[test]
    fn what_fits_is_kept_and_forgotten_with_its_stage() {
        // Room for features of 8 numbers and rows of 4 of one image, and for the rows of another.
        let mut memory = ImageMemory::new((8 + 4 + 4) * 4);
        let features = || vec![Array3::from_elem((1, 2, 4), 1.0)];
        let key = memory.of(&image(0.0)).key;
        memory.keep(key, features(), &[1.0; 4]);
        let other = memory.of(&image(1.0)).key;
        assert_ne!(key, other);
        memory.keep(other, features(), &[2.0; 4]);
        let known = memory.of(&image(0.0));
        assert!(known.features.is_some() && known.rows.as_deref() == Some(&[1.0; 4][..]));
        let known = memory.of(&image(1.0));
        assert!(known.features.is_none() && known.rows.as_deref() == Some(&[2.0; 4][..]));
        memory.forget_rows();
        let known = memory.of(&image(0.0));
        assert!(known.features.is_some() && known.rows.is_none());
        // The room of the rows is free again.
        memory.keep(other, features(), &[2.0; 4]);
        assert!(memory.of(&image(1.0)).features.is_some());
        memory.forget_all();
        assert!(memory.of(&image(0.0)).features.is_none());
    }

    #[test]
    fn a_picture_of_another_size_is_another_image() {
        let memory = ImageMemory::new(0);
        assert_ne!(memory.of(&image(0.5)).key, memory.of(&ImageTiles { width: 3, ..image(0.5) }).key);
    }
}
