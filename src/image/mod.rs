//! The image room: bytes of an image file → the pixel tensor that the reference implementation would make.
//!
//! Owns decoding (with the pixels that Pillow's `Image.open(file).convert("RGB")` gives), cutting into any-res tiles,
//! padding, resizing, cropping and normalising. How a checkpoint wants its images is data, [`crate::package::ImageRecipe`],
//! never a branch here. It must not know models, prompts or benchmarks.
//!
//! Image files are untrusted: sizes are checked before anything is allocated for the pixels, and every decoder in this
//! room is safe Rust that returns an error instead of panicking.

mod bmp;
mod decode;
mod error;
mod geometry;
mod gif;
mod jpeg;
mod limits;
mod pixels;
mod png;
mod preprocess;
mod resample;
mod tile;
mod webp;

pub use decode::decode;
pub use error::{ImageError, ImageFormat};
pub use limits::{MAX_DECODE_BYTES, MAX_FILE_BYTES, MAX_PIXELS, MAX_SIDE_PIXELS, MAX_TILED_PIXELS};
pub use pixels::RgbImage8;
pub use preprocess::{LoadedImage, fit, load, preprocess};
