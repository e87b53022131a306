//! The images of a prompt, from files to what the engine takes, with the rows that each will have in the prompt.

use std::path::{Path, PathBuf};

use crate::engine::ImageTiles;
use crate::image::{ImageError, LoadedImage};
use crate::package::Manifest;

/// The images of one prompt, or of all prompts of a group, in order.
#[derive(Clone, Debug, Default)]
pub struct PreparedImages {
    /// For the engine.
    pub images: Vec<ImageTiles>,
    /// Rows that each takes in the prompt, in tokens.
    pub rows: Vec<usize>,
}

impl PreparedImages {
    /// Reads and preprocesses image files as `manifest` wants them. Errors name the file.
    pub fn load(files: &[PathBuf], manifest: &Manifest) -> Result<Self, ImageError> {
        let recipe = manifest.image.for_images(files.len());
        let mut prepared = Self::default();
        for file in files {
            prepared.push(crate::image::load(file, &recipe)?, manifest).map_err(|error| in_file(file, error))?;
        }
        Ok(prepared)
    }

    /// The same from the contents of image files.
    pub fn decode<'a>(files: impl ExactSizeIterator<Item = &'a [u8]>, manifest: &Manifest) -> Result<Self, ImageError> {
        let recipe = manifest.image.for_images(files.len());
        let mut prepared = Self::default();
        for bytes in files {
            let image = crate::image::decode(bytes)?;
            let pixels = crate::image::preprocess(&image, &recipe)?;
            prepared.push(LoadedImage { pixels, width: image.width(), height: image.height() }, manifest)?;
        }
        Ok(prepared)
    }

    fn push(&mut self, image: LoadedImage, manifest: &Manifest) -> Result<(), ImageError> {
        let LoadedImage { pixels, width, height } = image;
        self.rows.push(manifest.row_layout(pixels.shape().first().copied().unwrap_or(0), width, height)?.rows());
        self.images.push(ImageTiles { pixels, width, height });
        Ok(())
    }
}

fn in_file(path: &Path, source: ImageError) -> ImageError {
    ImageError::InFile { path: path.to_path_buf(), source: Box::new(source) }
}
