//! The shapes that are known by name: configurations as their authors published them, without what transformers fills in.

/// A shape known by name.
#[derive(Clone, Copy, Debug)]
pub struct KnownShape {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Its `config.json`.
    pub(super) config: &'static str,
}

macro_rules! shapes {
    ($($name:literal: $about:literal,)*) => {
        [$(KnownShape { name: $name, about: $about, config: include_str!(concat!("shapes/", $name, ".json")) }),*]
    };
}

/// All of them, the real ones first.
pub fn known_shapes() -> [KnownShape; 8] {
    shapes! {
        "llava-1.5-7b": "CLIP ViT-L/14-336, LLaMA 7B (Vicuna), fp16",
        "llava-1.5-13b": "CLIP ViT-L/14-336, LLaMA 13B (Vicuna), fp16",
        "llava-1.6-mistral-7b": "CLIP ViT-L/14-336 on tiles, Mistral 7B, fp16",
        "llava-1.6-vicuna-7b": "CLIP ViT-L/14-336 on tiles, LLaMA 7B (Vicuna), fp16",
        "onevision-0.5b": "SigLIP so400m/14-384 on tiles, Qwen2 0.5B with a tied head, fp16",
        "M1": "CLIP ViT-L/14-336, LLaMA-type 0.4B (hidden 896, 24 layers), fp32; the shape that performance is quoted on",
        "M2": "CLIP ViT-L/14-336, TinyLlama 1.1B, fp32",
        "pico": "a few layers of everything, fp32; for tests",
    }
}
