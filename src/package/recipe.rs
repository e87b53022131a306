//! Recipes: how a checkpoint wants its images and prompts prepared. Versions of LLaVA are data here, not branches elsewhere.

use serde::{Deserialize, Serialize};

/// How an image that is not square is fitted to the square input of the vision tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AspectMode {
    /// Shortest-edge resize, then centre crop (LLaVA v1, and `image_aspect_ratio` absent or `square`).
    Square,
    /// Expand to a square filled with the mean colour, then resize (LLaVA-1.5 `image_aspect_ratio = "pad"`).
    Pad,
}

/// Resampling filter, as Pillow names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resample {
    /// Pillow `NEAREST` (0).
    Nearest,
    /// Pillow `LANCZOS` (1).
    Lanczos,
    /// Pillow `BILINEAR` (2).
    Bilinear,
    /// Pillow `BICUBIC` (3), a = -0.5.
    Bicubic,
}

/// Target of the resize step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResizeRule {
    /// The shorter edge becomes this many pixels; the longer keeps the ratio, truncated as transformers does.
    ShortestEdge(u32),
    /// Exactly this height and width in pixels.
    Exact {
        /// Target height in pixels.
        height: u32,
        /// Target width in pixels.
        width: u32,
    },
}

/// Everything needed to turn image bytes into the pixel tensor that the reference would make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageRecipe {
    /// How images that are not square are fitted.
    pub aspect: AspectMode,
    /// Fill colour of `AspectMode::Pad`, RGB; LLaVA uses `int(mean * 255)` per channel.
    pub pad_colour: [u8; 3],
    /// Resize step; `None` when the checkpoint says `do_resize = false`.
    pub resize: Option<ResizeRule>,
    /// Resampling filter of the resize step.
    pub resample: Resample,
    /// Centre crop `[height, width]` in pixels after the resize; `None` when `do_center_crop = false`.
    pub centre_crop: Option<[u32; 2]>,
    /// Multiplier on 0..255 values, normally 1/255; `None` when `do_rescale = false`.
    pub rescale_factor: Option<f64>,
    /// Per-channel mean subtracted after rescaling; `None` when `do_normalize = false`.
    pub mean: Option<[f64; 3]>,
    /// Per-channel standard deviation divided by after the mean; `None` when `do_normalize = false`.
    pub std: Option<[f64; 3]>,
    /// Cutting a picture into tiles that are encoded one by one (any-res); `None` before LLaVA-1.6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiling: Option<Tiling>,
    /// Where the recipe came from, for people: file and keys, and any override by name.
    pub origin: String,
}

/// Any-res tiling (`image_aspect_ratio = "anyres…"`): the picture is fitted into the best of several sizes and cut into
/// square tiles there; before them stands a view of the whole picture, squashed to one tile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tiling {
    /// Sizes `[height, width]` in pixels that the tiled picture may have, in the checkpoint's order, because the first of
    /// equally good ones is taken. Each is a multiple of `tile`.
    pub pinpoints: Vec<[u32; 2]>,
    /// Side of a tile in pixels: the vision tower's input.
    pub tile: u32,
    /// Whether a prompt with several images leaves each untiled, fitted by [`ImageRecipe::aspect`] (OneVision, Interleave).
    pub only_single_images: bool,
    /// How the rows of the tiles become the image's rows.
    pub merge: TileMerge,
}

/// How the projected rows of all tiles become the rows of one image (`mm_patch_merge_type` and what goes with it).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TileMerge {
    /// In which order the rows stand.
    pub order: TileOrder,
    /// Whether the rows of the whole view come first; false for `nobase`.
    pub base_view: bool,
    /// Whether the learned row `image_newline` ends each line of the grid, and an image of one tile.
    pub newline: bool,
    /// `anyres_max_N`: a grid of more than about N tiles' rows is scaled down to as many, bilinearly. Only for
    /// [`TileOrder::SpatialUnpad`], as in both references.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_tiles: Option<u32>,
    /// `maxpool2x2`: the largest of each two by two rows stands for the four. LLaVA-NeXT then leaves padding where it is and
    /// ends no line of a grid with a newline.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub max_pool: bool,
    /// How the size of the picture within the grid is rounded.
    pub unpad_rounding: UnpadRounding,
}

/// Order of the rows of tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TileOrder {
    /// Tile after tile.
    Flat,
    /// Line after line of the whole grid.
    Spatial,
    /// As `Spatial`, without the lines and columns that only show padding.
    SpatialUnpad,
}

/// How `unpad_image` rounds the picture's side within the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnpadRounding {
    /// `int(side * scale)`, as LLaVA's own code.
    Truncate,
    /// `int(round(side * scale, 7))`, as transformers.
    SevenDigits,
}

impl Tiling {
    /// The number of grids, such as `5 grids`.
    fn grids(&self) -> String {
        let count = self.pinpoints.len();
        if count == 1 { "1 grid".to_owned() } else { format!("{count} grids") }
    }
}

impl TileMerge {
    /// The merging in a few words, in LLaVA's names, such as `spatial_unpad, max 9`.
    fn summary(&self) -> String {
        let mut summary = match self.order {
            TileOrder::Flat => "flat",
            TileOrder::Spatial => "spatial",
            TileOrder::SpatialUnpad => "spatial_unpad",
        }
        .to_owned();
        for (set, name) in [(self.max_pool, "_maxpool2x2"), (!self.base_view, "_nobase")] {
            if set {
                summary.push_str(name);
            }
        }
        if let Some(tiles) = self.maximum_tiles {
            summary.push_str(&format!(", max {tiles}"));
        }
        summary
    }
}

impl ImageRecipe {
    /// The recipe in a few words, such as `pad, 336 px, bicubic` or `any-res, 5 grids of 336 px, bicubic, spatial_unpad`.
    pub fn summary(&self) -> String {
        let aspect = match self.aspect {
            AspectMode::Square => "square",
            AspectMode::Pad => "pad",
        };
        let size = match (self.centre_crop, self.resize) {
            (Some([height, width]), _) if height == width => format!("{height} px"),
            (Some([height, width]), _) => format!("{width}×{height} px"),
            (None, Some(ResizeRule::ShortestEdge(edge))) => format!("shortest edge {edge} px"),
            (None, Some(ResizeRule::Exact { height, width })) => format!("{width}×{height} px"),
            (None, None) => "as it is".to_owned(),
        };
        let resample = match self.resample {
            Resample::Nearest => "nearest",
            Resample::Lanczos => "lanczos",
            Resample::Bilinear => "bilinear",
            Resample::Bicubic => "bicubic",
        };
        let Some(tiling) = &self.tiling else { return format!("{aspect}, {size}, {resample}") };
        let several = if tiling.only_single_images { format!(", several images {aspect}") } else { String::new() };
        format!("any-res, {} of {size}, {resample}, {}{several}", tiling.grids(), tiling.merge.summary())
    }
}

/// Names of the conversation templates that a recipe can name: those of `conv_templates` in LLaVA and LLaVA-NeXT, `simple`
/// of LLaVA's first release, and two of LLaVA-Med under names of their own, as their texts differ from LLaVA's.
pub const CONVERSATIONS: [&str; 31] = [
    "chatml_direct",
    "default",
    "gemma_instruct",
    "llama_2",
    "llava_llama_2",
    "llava_llama_2_mmtag",
    "llava_llama_2_simple",
    "llava_llama_3",
    "llava_med_simple",
    "llava_med_vicuna_v1",
    "llava_mistral_instruct",
    "llava_v0",
    "llava_v0_mmtag",
    "llava_v1",
    "llava_v1_mmtag",
    "mistral_direct",
    "mistral_instruct",
    "mistral_orca",
    "mistral_zephyr",
    "mpt",
    "plain",
    "qwen_1_5",
    "qwen_2",
    "qwen_2_5",
    "simple",
    "v0",
    "v0_mmtag",
    "v0_plain",
    "v1",
    "v1_mmtag",
    "vicuna_v1",
];

/// Which text wraps a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromptTemplate {
    /// A conversation template of LLaVA's `conversation.py`, one of [`CONVERSATIONS`].
    Conversation(String),
    /// A Hugging Face chat template (Jinja), by its file name inside the package.
    ChatTemplate(String),
}

/// How a prompt with image marks becomes tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenizationMode {
    /// Original LLaVA (`tokenizer_image_token`): split at `<image>`, tokenise each chunk with BOS, keep one BOS.
    Chunks,
    /// Hugging Face: the whole string, where `<image>` is an added token that is expanded to the image's rows.
    WholeString,
}

/// Everything needed to turn a question into the token sequence that the reference would make, and to know when to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptRecipe {
    /// Which text wraps a question.
    pub template: PromptTemplate,
    /// How the rendered prompt is tokenised.
    pub tokenization: TokenizationMode,
    /// The mark that stands for one image in a rendered prompt, normally `<image>`.
    pub image_mark: String,
    /// Token id of the image mark (`WholeString` only; the original format has none and splices at -200).
    pub image_token_id: Option<u32>,
    /// `mm_use_im_start_end`: wrap each image mark in `<im_start>` and `<im_end>`.
    pub image_start_end: bool,
    /// Beginning-of-sequence token id, if the tokenizer adds one.
    pub bos_token_id: Option<u32>,
    /// Ids that end generation.
    pub eos_token_ids: Vec<u32>,
    /// Strings that end generation and are trimmed from the answer.
    pub stop_strings: Vec<String>,
    /// Longest prompt in tokens, image rows included, that the checkpoint was made for.
    pub context_tokens: usize,
}
