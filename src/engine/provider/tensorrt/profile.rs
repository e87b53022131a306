//! Shape profiles: the least, usual and greatest size of every dynamic input of a graph, from what a run will ask of it. TensorRT builds
//! an engine for exactly this range, so that nothing is built anew in the middle of a run.
//!
//! The least, the usual and the greatest sizes each fit together, because TensorRT tries the graph with them. Sequences that decode side by
//! side would need engines for as many times the longest prompt, so that there is one sequence only.

use crate::package::{Dimension, TensorPort};

/// A range of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The least.
    pub minimum: usize,
    /// The one for which the engine is made fast.
    pub optimum: usize,
    /// The greatest.
    pub maximum: usize,
}

impl Extent {
    /// A range from one to `maximum`, at least 1; `optimum` is kept inside.
    pub fn up_to(maximum: usize, optimum: usize) -> Self {
        let maximum = maximum.max(1);
        Self { minimum: 1, optimum: optimum.clamp(1, maximum), maximum }
    }
}

/// Sizes of everything that a run gives to the graphs of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShapePlan {
    /// Tiles of a run of the vision encoder or the projector.
    pub images: Extent,
    /// Rows of a tile, as the projector takes them.
    pub tokens_per_image: Extent,
    /// New tokens of each sequence of a run of the language model.
    pub sequence: Extent,
    /// Tokens of a sequence, earlier ones included: the width of the attention bias.
    pub total: Extent,
    /// Rows that the key-value cache has room for.
    pub capacity: Extent,
    /// Rows of a run whose logits are wanted.
    pub rows: Extent,
    /// Texts of a run of CLIP's text encoder.
    pub texts: Extent,
    /// Tokens of such a text.
    pub text_tokens: Extent,
}

/// What is known of a run before its graphs are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunExtent {
    /// Tiles of the largest image.
    pub tiles: usize,
    /// Rows of a tile.
    pub tokens_per_image: usize,
    /// Tokens of the longest prompt, image rows included.
    pub longest_prompt: usize,
    /// Tokens of the longest question by itself with all answers that are ranked.
    pub longest_question: usize,
    /// Questions of the largest group.
    pub largest_group: usize,
    /// Longest answer in tokens; 0 where given answers are ranked.
    pub max_new_tokens: usize,
    /// Most suffix tokens of a packed run, [`EngineOptions::max_packed_tokens`](super::super::super::EngineOptions).
    pub max_packed_tokens: usize,
    /// Positions of the language model.
    pub maximum_positions: usize,
}

/// Tiles that run through the encoder together, at most; see `vision::TILES_PER_RUN`.
const TILES_PER_RUN: usize = 8;
/// The cache grows in steps of this many rows; see `decoder::CAPACITY_STEP_ROWS`.
const CAPACITY_STEP_ROWS: usize = 256;
/// Texts that run through CLIP's text encoder together, at most; see `clip::TEXTS_AT_ONCE`.
const TEXTS_PER_RUN: usize = 64;
/// Tokens of a text of CLIP.
const CLIP_TEXT_TOKENS: usize = 77;

impl RunExtent {
    /// A run of which nothing more is known: a few questions of any length about one image.
    pub fn unknown() -> Self {
        Self {
            tiles: TILES_PER_RUN,
            tokens_per_image: 576,
            longest_prompt: 4096,
            longest_question: 512,
            largest_group: 8,
            max_new_tokens: 256,
            max_packed_tokens: 1024,
            maximum_positions: 4096,
        }
    }

    /// One range for two runs on the same graphs.
    pub fn with(self, other: Self) -> Self {
        Self {
            tiles: self.tiles.max(other.tiles),
            tokens_per_image: self.tokens_per_image.max(other.tokens_per_image),
            longest_prompt: self.longest_prompt.max(other.longest_prompt),
            longest_question: self.longest_question.max(other.longest_question),
            largest_group: self.largest_group.max(other.largest_group),
            max_new_tokens: self.max_new_tokens.max(other.max_new_tokens),
            max_packed_tokens: self.max_packed_tokens.max(other.max_packed_tokens),
            maximum_positions: self.maximum_positions.max(other.maximum_positions),
        }
    }

    /// The shapes that follow.
    ///
    /// A run of the language model is a prompt in one piece, a pack of questions, or one token each of a pack's questions. What a
    /// pack can need is the longest prompt, all its questions within the limit of a pack, and all answers; the positions bound it,
    /// as they bound a pack. The engine is made fast for decoding, which has most of the runs.
    pub fn shapes(&self) -> ShapePlan {
        // Each question of a pack has at least a row.
        let together = self.largest_group.min(self.max_packed_tokens).max(1);
        let questions = together.saturating_mul(self.longest_question).min(self.max_packed_tokens.max(self.longest_question));
        let sequence = self.longest_prompt.max(questions).max(together);
        let answers = together.saturating_mul(self.max_new_tokens);
        let positions = self.maximum_positions.max(1);
        let total = self.longest_prompt.saturating_add(questions).saturating_add(answers).min(positions);
        let capacity = total.next_multiple_of(CAPACITY_STEP_ROWS).min(positions);
        let usual = self.longest_prompt.saturating_add(self.max_new_tokens / 2);
        ShapePlan {
            images: Extent::up_to(self.tiles.min(TILES_PER_RUN), self.tiles.min(TILES_PER_RUN)),
            tokens_per_image: Extent {
                minimum: self.tokens_per_image,
                optimum: self.tokens_per_image,
                maximum: self.tokens_per_image,
            },
            sequence: Extent::up_to(sequence.min(positions), together),
            total: Extent::up_to(capacity, usual),
            capacity: Extent::up_to(capacity, usual.next_multiple_of(CAPACITY_STEP_ROWS)),
            rows: Extent::up_to(questions.max(together), together),
            texts: Extent::up_to(TEXTS_PER_RUN, TEXTS_PER_RUN),
            text_tokens: Extent::up_to(CLIP_TEXT_TOKENS, 16),
        }
    }
}

impl Default for ShapePlan {
    /// Of a run of which nothing is known, on a package of which nothing is known.
    fn default() -> Self {
        Self { tokens_per_image: Extent::up_to(4096, 576), ..RunExtent::unknown().shapes() }
    }
}

impl ShapePlan {
    /// The range of a dynamic dimension, by the name that it has in our graphs; `None` for another name.
    fn extent(&self, input: &str, dimension: &str) -> Option<Extent> {
        Some(match (input, dimension) {
            (_, "images") => self.images,
            ("features", "tokens") => self.tokens_per_image,
            ("input_ids", "tokens") => self.text_tokens,
            // The rows of the one sequence.
            ("inputs_embeds", "tokens") | (_, "sequence") => self.sequence,
            (_, "batch") => Extent::up_to(1, 1),
            (_, "total") => self.total,
            (_, "capacity") => self.capacity,
            (_, "rows") => self.rows,
            (_, "texts") => self.texts,
            _ => return None,
        })
    }
}

/// The three shapes of every dynamic input, as ONNX Runtime's provider takes them: `name:1x3x336x336,other:1x16`. Empty if the graph has
/// no dynamic input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine::provider) struct Profile {
    /// `trt_profile_min_shapes`.
    pub minimum: String,
    /// `trt_profile_opt_shapes`.
    pub optimum: String,
    /// `trt_profile_max_shapes`.
    pub maximum: String,
}

/// The profile of a graph with these inputs. The error names an input of which the plan says nothing: TensorRT wants all or none.
pub(in crate::engine::provider) fn profile(inputs: &[TensorPort], plan: &ShapePlan) -> Result<Profile, String> {
    let mut shapes: [Vec<String>; 3] = Default::default();
    for input in inputs {
        if input.shape.iter().all(|dimension| matches!(dimension, Dimension::Fixed(_))) {
            continue;
        }
        if input.name.contains([':', ',']) {
            return Err(format!("input {:?}: a name for a shape profile has no colon and no comma", input.name));
        }
        let mut sizes: [Vec<String>; 3] = Default::default();
        for dimension in &input.shape {
            let extent = match dimension {
                Dimension::Fixed(size) => Extent { minimum: *size, optimum: *size, maximum: *size },
                Dimension::Named(name) => plan.extent(&input.name, name).ok_or_else(|| {
                    format!(
                        "input {:?} has a dimension {name:?}, of which the plan of a run says nothing, so that TensorRT cannot be \
                         told its range",
                        input.name
                    )
                })?,
            };
            for (list, size) in sizes.iter_mut().zip([extent.minimum, extent.optimum, extent.maximum]) {
                list.push(size.to_string());
            }
        }
        for (list, sizes) in shapes.iter_mut().zip(sizes) {
            list.push(format!("{}:{}", input.name, sizes.join("x")));
        }
    }
    let [minimum, optimum, maximum] = shapes.map(|list| list.join(","));
    Ok(Profile { minimum, optimum, maximum })
}
