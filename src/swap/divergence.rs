//! Both versions of each stage on the same input: the base package's.

use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::{Array3, Axis};

use super::pair::{Mix, PackagePair};
use super::{SwapEngine, SwapError};
use crate::benchmark::{Benchmark, ImageStore, Sample};
use crate::compare::{Side, StageDivergence, TensorDivergence, TokenDivergence};
use crate::engine::{EngineError, ImageStages, ImageTiles, Request, StopReason, StopRule, Trace};
use crate::run::{Plan, PlannedGroup, PreparedImages, sample_segments};
use crate::stats::{RowDivergence, divergence_of_logits};

/// How much is looked at.
#[derive(Clone, Copy, Debug)]
pub struct DivergenceSettings {
    /// Most images, over all benchmarks.
    pub images: usize,
    /// Most prompts of one image.
    pub prompts_per_image: usize,
}

/// A benchmark and the samples of it that are asked.
pub struct Look<'a> {
    /// The benchmark.
    pub benchmark: &'a Benchmark,
    /// What is asked.
    pub plan: &'a Plan,
}

const BASE: Mix = [Side::Base; 3];
const NEW: Mix = [Side::New; 3];

/// Ends every answer after its first token, the only one that is looked at.
struct FirstToken;

impl StopRule for FirstToken {
    fn check(&self, _: &[u32]) -> Option<StopReason> {
        Some(StopReason::MaxNewTokens)
    }
}

/// Sums over all images.
#[derive(Default)]
struct Sums {
    images: usize,
    vision: RowDivergence,
    projector: RowDivergence,
    llm: TokenSums,
    whole: TokenSums,
    not_finite: bool,
}

#[derive(Default)]
struct TokenSums {
    prompts: usize,
    sum: f64,
    largest: f64,
    agreeing: usize,
}

impl TokenSums {
    /// Adds the first tokens of one prompt; false if a logit is not finite.
    fn add(&mut self, base: &Trace, new: &Trace) -> bool {
        let row = |trace: &Trace| trace.logits.rows().into_iter().next().map(|row| row.to_vec()).unwrap_or_default();
        let (base_row, new_row) = (row(base), row(new));
        // Output heads padded to unequal sizes: the distributions over the ids that both have.
        let shared = base_row.len().min(new_row.len());
        let logits = base_row.get(..shared).zip(new_row.get(..shared));
        let Some(divergence) = logits.and_then(|(base, new)| divergence_of_logits(base, new)) else { return false };
        self.prompts += 1;
        self.sum += divergence;
        self.largest = self.largest.max(divergence);
        self.agreeing += usize::from(base.token_ids.first() == new.token_ids.first());
        true
    }

    fn finish(&self) -> Option<TokenDivergence> {
        let prompts = self.prompts as f64;
        (self.prompts > 0).then(|| TokenDivergence {
            prompts: self.prompts,
            mean_kl: self.sum / prompts,
            max_kl: self.largest,
            top1_agreement: self.agreeing as f64 / prompts,
        })
    }
}

/// A finished sum; `None` without rows.
pub(super) fn tensor_divergence(sum: &RowDivergence) -> Option<TensorDivergence> {
    Some(TensorDivergence {
        rows: sum.rows(),
        mean_cosine: sum.mean_cosine()?,
        min_cosine: sum.smallest_cosine(),
        relative_error: sum.relative_error()?,
    })
}

/// Compares the stages on the first images of each benchmark; what there is to say about it beside. `None` where there is nothing
/// to compare: no image could be read, or some stage gives no finite numbers. It ends early once `stop` is set.
pub fn diverge(
    pair: &PackagePair,
    engine: &mut SwapEngine,
    looks: &[Look<'_>],
    settings: DivergenceSettings,
    stop: &AtomicBool,
) -> Result<(Option<StageDivergence>, Vec<String>), SwapError> {
    let (mut sums, mut notes) = (Sums::default(), Vec::new());
    for (index, look) in looks.iter().enumerate() {
        // An equal part of the images for each benchmark; what one leaves over goes to those after it.
        let share = settings.images.saturating_sub(sums.images).div_ceil(looks.len() - index);
        let until = sums.images + share;
        for group in &look.plan.groups {
            if sums.images >= until || stop.load(Ordering::Relaxed) {
                break;
            }
            if !group.images.is_empty() {
                add_group(pair, engine, look.benchmark, group, settings, &mut sums)?;
            }
        }
    }
    if sums.not_finite {
        notes.push("some stage gives numbers that are not finite, which are left out of the direct comparison".to_owned());
    }
    let sizes = [&pair.base, &pair.new].map(|package| package.manifest.llm.vocabulary_size);
    if sizes[0] != sizes[1] {
        notes.push(format!(
            "the output heads have {} and {} rows: the first token is compared over the ids of both",
            sizes[0], sizes[1]
        ));
    }
    let finished = || {
        Some(StageDivergence {
            images: sums.images,
            vision: tensor_divergence(&sums.vision)?,
            projector: tensor_divergence(&sums.projector)?,
            llm: sums.llm.finish()?,
            whole: sums.whole.finish()?,
            layers: Vec::new(),
            starts: Vec::new(),
        })
    };
    let divergence = finished();
    if divergence.is_none() && settings.images > 0 {
        notes.push(
            "the stages could not be compared directly: no image and prompt gave finite numbers in both packages".to_owned(),
        );
    }
    Ok((divergence, notes))
}

/// The images of a group as both packages prepare them; `None` if one cannot be read.
pub(super) fn prepared(pair: &PackagePair, group: &PlannedGroup) -> Option<[Vec<ImageTiles>; 2]> {
    let store = ImageStore::default();
    let of = |mix| PreparedImages::of_group(&group.images, &store, &pair.manifest(mix)).ok().map(|prepared| prepared.images);
    Some([of(BASE)?, of(NEW)?])
}

fn add_group(
    pair: &PackagePair,
    engine: &mut SwapEngine,
    benchmark: &Benchmark,
    group: &PlannedGroup,
    settings: DivergenceSettings,
    sums: &mut Sums,
) -> Result<(), SwapError> {
    let Some([base_images, new_images]) = prepared(pair, group) else { return Ok(()) };
    let samples: Vec<&Sample> = group.samples.iter().filter_map(|index| benchmark.samples.get(*index)).collect();
    let samples = samples.get(..settings.prompts_per_image).unwrap_or(&samples);
    // One mix after another, as each change of the vision encoder or the projector lets go of what is kept of the image.
    let Some(base) = image_stages(engine, BASE, &base_images)? else { return Ok(()) };
    let base_tokens = first_tokens(pair, engine, samples, BASE, &base_images)?;
    let llm_tokens = first_tokens(pair, engine, samples, [Side::Base, Side::Base, Side::New], &base_images)?;
    let Some(projector) = image_stages(engine, [Side::Base, Side::New, Side::Base], &base_images)? else { return Ok(()) };
    let Some(vision) = image_stages(engine, [Side::New, Side::Base, Side::Base], &new_images)? else { return Ok(()) };
    let new_tokens = first_tokens(pair, engine, samples, NEW, &new_images)?;

    let finite = [
        add_rows(&mut sums.vision, &base.features, &vision.features),
        add_rows(&mut sums.projector, &base.image_embeds, &projector.image_embeds),
    ];
    sums.not_finite |= finite.contains(&false);
    sums.images += group.images.len();
    for ((base, llm), new) in base_tokens.iter().zip(&llm_tokens).zip(&new_tokens) {
        let (Some(base), Some(llm), Some(new)) = (base, llm, new) else { continue };
        sums.not_finite |= !sums.llm.add(base, llm);
        sums.not_finite |= !sums.whole.add(base, new);
    }
    Ok(())
}

/// What the first two stages of a mix make of some images; `None` if they cannot take one.
fn image_stages(engine: &mut SwapEngine, mix: Mix, images: &[ImageTiles]) -> Result<Option<ImageStages>, SwapError> {
    match engine.with(mix)?.image_stages(images) {
        Ok(stages) => Ok(Some(stages)),
        Err(EngineError::Request { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Each prompt through a mix, up to its first token; `None` for a prompt that cannot be asked.
fn first_tokens(
    pair: &PackagePair,
    engine: &mut SwapEngine,
    samples: &[&Sample],
    mix: Mix,
    images: &[ImageTiles],
) -> Result<Vec<Option<Trace>>, SwapError> {
    let loaded = engine.with(mix)?;
    let mut traces = Vec::with_capacity(samples.len());
    for sample in samples {
        let Ok(segments) = sample_segments(pair.prompter(mix), sample) else {
            traces.push(None);
            continue;
        };
        let request = Request { segments, max_new_tokens: 1, stop: &FirstToken };
        traces.push(match loaded.trace_single(images, &request, None) {
            Ok(trace) => Some(trace),
            Err(EngineError::Request { .. }) => None,
            Err(error) => return Err(error.into()),
        });
    }
    Ok(traces)
}

/// Adds the rows of all tiles; false if they have no finite numbers.
fn add_rows(sum: &mut RowDivergence, base: &Array3<f32>, new: &Array3<f32>) -> bool {
    match (base.as_slice(), new.as_slice()) {
        (Some(base_values), Some(new_values)) => sum.add(base_values, new_values, base.len_of(Axis(2))),
        _ => false,
    }
}
