//! Exporting CLIP itself (`CLIPModel` of transformers, the format in which OpenAI's CLIP is published): an image graph and a
//! text graph whose outputs are compared.

mod architecture;
mod exporter;
mod graphs;
mod image;
mod tensors;
mod tokenizer;

pub use exporter::{export_clip, is_clip_checkpoint};
