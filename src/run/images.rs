//! The images of a prompt, from files to what the engine takes, with the rows that each will have in the prompt.

use std::path::{Path, PathBuf};

use crate::benchmark::{ImageStore, SampleImage};
use crate::engine::ImageTiles;
use crate::image::{ImageError, LoadedImage};
use crate::package::{ImageRecipe, Manifest};

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

    /// The images of a group of samples, or the first one's error as text.
    pub fn of_group(images: &[SampleImage], store: &ImageStore, manifest: &Manifest) -> Result<Self, String> {
        let found = images.iter().map(|image| FoundImage::of(image, store)).collect::<Result<Vec<_>, _>>()?;
        Self::of(&found, manifest).map_err(|error| error.to_string())
    }

    /// The images of samples, each a file or the contents of one with its name for messages.
    pub(super) fn of(images: &[FoundImage], manifest: &Manifest) -> Result<Self, ImageError> {
        let recipe = manifest.image.for_images(images.len());
        let mut prepared = Self::default();
        for image in images {
            prepared.push(image.load(&recipe)?, manifest).map_err(|error| in_file(image.path(), error))?;
        }
        Ok(prepared)
    }

    /// The same from the contents of image files.
    pub fn decode<'a>(files: impl ExactSizeIterator<Item = &'a [u8]>, manifest: &Manifest) -> Result<Self, ImageError> {
        let recipe = manifest.image.for_images(files.len());
        let mut prepared = Self::default();
        for bytes in files {
            prepared.push(load_bytes(bytes, &recipe)?, manifest)?;
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

/// Where an image is, or what was in a data file.
pub(super) enum FoundImage {
    /// A file.
    File(PathBuf),
    /// The contents of a file, and where it was, for messages.
    Bytes(PathBuf, Vec<u8>),
}

impl FoundImage {
    /// Finds an image; one that lies in a data file is read.
    pub(super) fn of(image: &SampleImage, store: &ImageStore) -> Result<Self, String> {
        match image {
            SampleImage::File(path) => Ok(Self::File(path.clone())),
            SampleImage::Embedded(embedded) => {
                let bytes = store.read(embedded).map_err(|error| error.to_string())?;
                Ok(Self::Bytes(PathBuf::from(image.display()), bytes))
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Bytes(path, _) => path,
        }
    }

    /// Decodes and preprocesses the image by itself.
    pub(super) fn load(&self, recipe: &ImageRecipe) -> Result<LoadedImage, ImageError> {
        match self {
            Self::File(path) => crate::image::load(path, recipe),
            Self::Bytes(path, bytes) => load_bytes(bytes, recipe).map_err(|error| in_file(path, error)),
        }
    }
}

fn load_bytes(bytes: &[u8], recipe: &ImageRecipe) -> Result<LoadedImage, ImageError> {
    let image = crate::image::decode(bytes)?;
    let pixels = crate::image::preprocess(&image, recipe)?;
    Ok(LoadedImage { pixels, width: image.width(), height: image.height() })
}

fn in_file(path: &Path, source: ImageError) -> ImageError {
    ImageError::InFile { path: path.to_path_buf(), source: Box::new(source) }
}
