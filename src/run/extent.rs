//! The sizes that a run will give to the graphs, found before they are loaded: TensorRT builds its engines for a range of shapes.

use super::conductor::sample_segments;
use super::plan::Plan;
use super::shape::most_tiles;
use crate::benchmark::{Answering, Benchmark, Sample};
use crate::engine::provider::RunExtent;
use crate::engine::{EngineOptions, Segment};
use crate::package::Manifest;
use crate::prompt::Prompter;

/// Longest prompt that an engine is made for where nothing is known of what will be asked.
const UNKNOWN_PROMPT_TOKENS: usize = 4096;

/// What is known of a package that will be asked anything.
pub fn unknown_extent(manifest: &Manifest, options: &EngineOptions) -> RunExtent {
    let longest = manifest.llm.maximum_positions.min(UNKNOWN_PROMPT_TOKENS);
    RunExtent {
        tiles: most_tiles(manifest),
        tokens_per_image: manifest.vision.tokens_per_image,
        longest_prompt: longest,
        max_packed_tokens: options.max_packed_tokens,
        maximum_positions: longest,
        ..RunExtent::unknown()
    }
}

/// What a benchmark will ask of a package. Every planned prompt is rendered and tokenised; image rows and the tokens of given answers
/// are upper bounds. A prompt that cannot be rendered fails its own sample later and counts for nothing here.
pub fn run_extent(
    (benchmark, plan): (&Benchmark, &Plan),
    (prompter, manifest): (&Prompter, &Manifest),
    max_new_tokens: usize,
    options: &EngineOptions,
) -> RunExtent {
    let rows = image_rows(manifest);
    let answering = benchmark.spec.answering;
    let mut extent = RunExtent {
        tiles: most_tiles(manifest),
        tokens_per_image: manifest.vision.tokens_per_image,
        longest_prompt: 1,
        longest_question: 1,
        largest_group: plan.groups.iter().map(|group| group.samples.len()).max().unwrap_or(1),
        max_new_tokens: if matches!(answering, Answering::Generate) { max_new_tokens } else { 0 },
        max_packed_tokens: options.max_packed_tokens,
        maximum_positions: manifest.llm.maximum_positions,
    };
    for sample in plan.sample_indices().filter_map(|index| benchmark.samples.get(index)) {
        let Ok(segments) = sample_segments(prompter, sample) else { continue };
        let (mut text, mut images) = (0_usize, 0_usize);
        for segment in &segments {
            match segment {
                Segment::Tokens(ids) => text += ids.len(),
                Segment::Image(_) => images += 1,
            }
        }
        let question = text + candidate_tokens(benchmark, sample);
        extent.longest_prompt = extent.longest_prompt.max(question.saturating_add(images.saturating_mul(rows)));
        extent.longest_question = extent.longest_question.max(question);
    }
    extent
}

/// Tokens of all given answers of a sample, at most: a token is at least a byte, and the end of a sequence may follow.
fn candidate_tokens(benchmark: &Benchmark, sample: &Sample) -> usize {
    let yes_no = benchmark.spec.scorer.rule.yes_no_words();
    let candidates = benchmark.spec.answering.candidates(&sample.reference, yes_no);
    candidates.ok().flatten().map_or(0, |texts| texts.iter().map(|text| text.len() + 1).sum())
}

/// Rows that an image takes in a prompt, at most: those of its tiles, and with tiles a newline row for each of their lines.
fn image_rows(manifest: &Manifest) -> usize {
    let (tiles, tokens) = (most_tiles(manifest), manifest.vision.tokens_per_image);
    let lines = if tiles > 1 { tiles.saturating_mul(tokens.isqrt() + 1) } else { 1 };
    tiles.saturating_mul(tokens).saturating_add(lines)
}
