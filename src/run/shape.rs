//! What is known of a run before it begins, for its schedule and its need of memory.

use super::plan::Plan;
use crate::benchmark::{Answering, Benchmark};
use crate::engine::RunShape;
use crate::package::Manifest;

/// Tokens of a prompt beside the images and the question: the template's, about.
const TEMPLATE_TOKENS: usize = 48;
/// Bytes of text that make a token, about, in the languages of the benchmarks.
const BYTES_PER_TOKEN: usize = 3;
/// Bytes of a pixel of prepared pictures: three numbers of 32 bits.
const PIXEL_BYTES: usize = 12;

/// The shape of a run. Image rows are at most as told; lengths of texts are estimates, because nothing is tokenised yet.
pub fn run_shape(
    benchmark: &Benchmark,
    plan: &Plan,
    manifest: &Manifest,
    max_new_tokens: usize,
    answering: Answering,
) -> RunShape {
    let images = plan.groups.iter().map(|group| group.images.len()).max().unwrap_or(0);
    // Several images of one prompt may stay untiled, and are then fewer tiles than counted here.
    let tiles = most_tiles(manifest);
    let whole = images.saturating_mul(tiles);
    let side = manifest.vision.image_size;
    let bytes = |index: usize| benchmark.samples.get(index).map_or(0, |sample| sample.prompt.len());
    let text: usize = plan.sample_indices().map(bytes).fold(0, usize::saturating_add);
    let questions = plan.samples();
    RunShape {
        groups: plan.groups.len(),
        questions,
        largest_group: plan.groups.iter().map(|group| group.samples.len()).max().unwrap_or(0),
        image_tokens: whole.saturating_mul(manifest.vision.tokens_per_image),
        image_bytes: whole.saturating_mul(side).saturating_mul(side).saturating_mul(PIXEL_BYTES),
        question_tokens: TEMPLATE_TOKENS + text / questions.max(1) / BYTES_PER_TOKEN,
        max_new_tokens: if matches!(answering, Answering::Generate) { max_new_tokens } else { 0 },
    }
}

/// Tiles of an image, at most.
pub(super) fn most_tiles(manifest: &Manifest) -> usize {
    manifest.image.tiling.as_ref().map_or(1, |tiling| {
        let side = tiling.tile.max(1);
        let tiles = |[height, width]: &[u32; 2]| (height / side) as usize * (width / side) as usize + 1;
        tiling.pinpoints.iter().map(tiles).max().unwrap_or(1)
    })
}
