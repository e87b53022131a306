//! How a run is scheduled: which of the ways, over how many slots, and what memory that takes. Pure code, decided before the
//! first question from what is known of all of them, so that a run that is continued is scheduled as it was begun.

use super::options::Scheduling;
use crate::package::LanguageModelStage;

/// Most sequences that decode together across images. A run of sixteen rows already multiplies about as long as it reads the
/// weights, so that more would save little and keep more cache.
pub const MAXIMUM_SLOTS: usize = 16;

/// Rows of a run whose multiplications take as long as reading the weights once, which every run does whatever its rows:
/// measured in fp32 on two cores (43 ms a step of one row, 3.7 ms a row of a long run).
const ROWS_PER_WEIGHT_PASS: f64 = 12.0;

/// Least share of a run's estimated work that decoding across images must save to be chosen: what it saves on answers that are
/// shorter than estimated is less, and it has a price, the copies of cache rows.
const LEAST_SAVING: f64 = 0.2;

/// Questions in a window for each slot: the more, the smaller the share of the end of a window, where slots run empty; and
/// the more is asked again where a run is cut off.
const QUESTIONS_PER_SLOT: usize = 4;

/// Most bytes of prepared pictures that the groups of a window may hold.
const WINDOW_IMAGE_BYTES: usize = 256 << 20;

/// What is known of a run before it begins. Prompt lengths are estimates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunShape {
    /// Groups of questions that share their images.
    pub groups: usize,
    /// Questions of all groups.
    pub questions: usize,
    /// Questions of the largest group.
    pub largest_group: usize,
    /// Most rows that the images of a group take in a prompt.
    pub image_tokens: usize,
    /// Bytes of the prepared pictures of a group, at most.
    pub image_bytes: usize,
    /// Tokens of a question's own text, about.
    pub question_tokens: usize,
    /// Longest answer in tokens; 0 where given answers are ranked.
    pub max_new_tokens: usize,
}

/// How a run is scheduled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The way.
    pub scheduling: Scheduling,
    /// Why, where there was a choice.
    pub reason: Option<String>,
    /// Sequences that decode together across images; 1 otherwise.
    pub slots: usize,
    /// Groups of a window, which are asked again together.
    pub window_groups: usize,
    /// Most tokens that the key-value caches may hold together.
    pub cache_tokens: usize,
}

/// Bytes that a run is expected to need at most, beside the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Key-value caches.
    pub cache_bytes: u64,
    /// Logits.
    pub logits_bytes: u64,
    /// Prepared pictures.
    pub image_bytes: u64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { scheduling: Scheduling::PackedTree, reason: None, slots: 1, window_groups: 1, cache_tokens: usize::MAX }
    }
}

/// Bytes of one token in the key-value cache.
pub fn cache_bytes_per_token(stage: &LanguageModelStage) -> usize {
    let number_bytes = usize::try_from(stage.cache_dtype().bytes()).unwrap_or(usize::MAX);
    [2, stage.layers, stage.key_value_heads, stage.head_size, number_bytes].into_iter().fold(1, usize::saturating_mul)
}

impl Schedule {
    /// Schedules a run: as `wanted`, or, if it is `None`, in the way that takes the least estimated work, by
    /// `saving_across_images`. `kv_memory_bytes` bounds the caches; `no_batches` says why several
    /// sequences cannot decode at once, if they cannot.
    pub fn plan(
        wanted: Option<Scheduling>,
        shape: &RunShape,
        stage: &LanguageModelStage,
        kv_memory_bytes: u64,
        no_batches: Option<&str>,
    ) -> Self {
        let per_token = cache_bytes_per_token(stage).max(1);
        let cache_tokens = usize::try_from(kv_memory_bytes).unwrap_or(usize::MAX) / per_token;
        let whole = |scheduling, reason| Self { scheduling, reason, slots: 1, window_groups: 1, cache_tokens };
        let asked_for = wanted == Some(Scheduling::AcrossImages);
        match wanted {
            Some(Scheduling::AcrossImages) | None => {}
            Some(other) => return whole(other, None),
        }
        if shape.max_new_tokens == 0 {
            let reason = "given answers are ranked, not generated".to_owned();
            return whole(Scheduling::PackedTree, asked_for.then_some(reason));
        }
        let slots = slots(shape, cache_tokens);
        let saving = saving_across_images(shape, slots);
        if !asked_for && saving < LEAST_SAVING {
            return whole(Scheduling::PackedTree, None);
        }
        if let Some(reason) = no_batches {
            return whole(Scheduling::PackedTree, Some(reason.to_owned()));
        }
        if slots < 2 {
            let reason = format!("{cache_tokens} tokens of key-value cache are too few to decode across images");
            return whole(Scheduling::PackedTree, Some(reason));
        }
        let reason = "few questions an image and long answers: estimated to be less work than image by image";
        let reason = (!asked_for).then(|| reason.to_owned());
        let questions_per_group = shape.questions.div_ceil(shape.groups.max(1)).max(1);
        let by_questions = (QUESTIONS_PER_SLOT * slots).div_ceil(questions_per_group);
        let by_images = WINDOW_IMAGE_BYTES / shape.image_bytes.max(1);
        Self {
            scheduling: Scheduling::AcrossImages,
            reason,
            slots,
            window_groups: by_questions.min(by_images).max(1),
            cache_tokens,
        }
    }

    /// What a run of this shape needs at most, as far as it can be told beforehand.
    pub fn memory(&self, shape: &RunShape, stage: &LanguageModelStage, max_packed_tokens: usize) -> MemoryNeed {
        let suffixes = shape.largest_group.max(1).saturating_mul(shape.question_tokens);
        let packed = suffixes.min(max_packed_tokens.max(shape.question_tokens));
        let together = (packed / shape.question_tokens.max(1)).max(1);
        let prefill = shape.image_tokens.saturating_add(packed);
        let tokens = match self.scheduling {
            Scheduling::AcrossImages => prefill.saturating_add(self.slots.saturating_mul(longest(shape))),
            Scheduling::PackedTree => prefill.saturating_add(together.saturating_mul(shape.max_new_tokens)),
            Scheduling::OneByOne => longest(shape),
        };
        let bytes = |count: usize, each: usize| count.saturating_mul(each) as u64;
        let rows = if self.scheduling == Scheduling::OneByOne { 1 } else { together.max(self.slots) };
        MemoryNeed {
            cache_bytes: bytes(tokens.min(self.cache_tokens), cache_bytes_per_token(stage)),
            logits_bytes: bytes(rows, stage.vocabulary_size.saturating_mul(size_of::<f32>())),
            image_bytes: bytes(self.window_groups, shape.image_bytes),
        }
    }
}

/// Tokens of a question with the longest answer.
fn longest(shape: &RunShape) -> usize {
    shape.image_tokens.saturating_add(shape.question_tokens).saturating_add(shape.max_new_tokens)
}

/// Slots that fit beside the cache in which prompts are prefilled.
fn slots(shape: &RunShape, cache_tokens: usize) -> usize {
    let prefill = shape.image_tokens.saturating_add(shape.question_tokens);
    let fitting = cache_tokens.saturating_sub(prefill) / longest(shape).max(1);
    fitting.min(MAXIMUM_SLOTS).min(shape.questions)
}

/// The share of a run's work, prefill included, that decoding across images saves over decoding image by image, where
/// answers are half as long as they may be.
///
/// Work is counted in passes over the weights. A run of n rows takes 1 + n / [`ROWS_PER_WEIGHT_PASS`] of them: prefill has many
/// rows and hardly counts the first, a decode step of few rows hardly counts the second. An image of q questions takes a step
/// of q rows for each token of an answer; across images a step has as many rows as there are slots, and serves so many
/// questions. The vision encoder is left out, and so are attention and the copies of cache rows, which are a few hundredths of a
/// pass for each question.
pub fn saving_across_images(shape: &RunShape, slots: usize) -> f64 {
    let (groups, questions) = (shape.groups as f64, shape.questions as f64);
    let (slots, steps) = (slots.max(1) as f64, shape.max_new_tokens as f64 / 2.0);
    let pass = |rows: f64| 1.0 + rows / ROWS_PER_WEIGHT_PASS;
    let prefilled = groups * shape.image_tokens as f64 + questions * shape.question_tokens as f64;
    let prefill = prefilled / ROWS_PER_WEIGHT_PASS;
    let by_image = groups * steps * pass(questions / groups.max(1.0));
    let across = (questions / slots).ceil() * steps * pass(slots);
    let saved = (by_image - across) / (prefill + by_image);
    if saved.is_finite() { saved } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage() -> LanguageModelStage {
        let text = include_str!("../../tests/fixtures/engine/tiny/package.toml");
        crate::package::Manifest::from_text(text).unwrap().llm
    }

    /// Questions of LLaVA-1.5's size.
    fn shape(groups: usize, questions_each: usize, max_new_tokens: usize) -> RunShape {
        RunShape {
            groups,
            questions: groups * questions_each,
            largest_group: questions_each,
            image_tokens: 576,
            image_bytes: 336 * 336 * 12,
            question_tokens: 64,
            max_new_tokens,
        }
    }

    fn plan(wanted: Option<Scheduling>, shape: &RunShape, cache_tokens: u64) -> Schedule {
        Schedule::plan(wanted, shape, &stage(), cache_tokens * cache_bytes_per_token(&stage()) as u64, None)
    }

    #[test]
    fn long_answers_to_few_questions_decode_across_images_and_short_ones_to_many_do_not() {
        assert_eq!(plan(None, &shape(16, 1, 256), 100_000).scheduling, Scheduling::AcrossImages, "captions");
        assert_eq!(plan(None, &shape(60, 1, 1024), 100_000).scheduling, Scheduling::AcrossImages, "conversations");
        assert_eq!(plan(None, &shape(500, 6, 16), 100_000).scheduling, Scheduling::PackedTree, "short answers");
        assert_eq!(plan(None, &shape(500, 32, 16), 100_000).scheduling, Scheduling::PackedTree, "many questions");
        assert_eq!(plan(None, &shape(1, 1, 256), 100_000).scheduling, Scheduling::PackedTree, "a single question");
        assert_eq!(plan(None, &shape(16, 1, 0), 100_000).scheduling, Scheduling::PackedTree, "given answers");
        // The more questions an image has, the less there is to be saved.
        let savings: Vec<f64> = [1, 2, 6, 16, 64].map(|questions| saving_across_images(&shape(40, questions, 64), 16)).to_vec();
        assert!(savings.is_sorted_by(|one, next| one > next), "{savings:?}");
        assert!(savings[4] < 0.0);
    }

    #[test]
    fn slots_and_windows_follow_from_the_budget() {
        // A sequence is 576 + 64 + 256 tokens, and a prompt is prefilled beside the slots.
        let captions = shape(100, 1, 256);
        assert_eq!(plan(None, &captions, 640 + 16 * 896).slots, 16);
        assert_eq!(plan(None, &captions, 640 + 16 * 896 - 1).slots, 15);
        assert_eq!(plan(None, &captions, 640 + 2 * 896).slots, 2);
        let one = plan(Some(Scheduling::AcrossImages), &captions, 640 + 896);
        assert_eq!((one.scheduling, one.slots), (Scheduling::PackedTree, 1));
        assert!(one.reason.unwrap().contains("too few"));
        assert_eq!(plan(None, &shape(3, 1, 256), 100_000).slots, 3, "no more slots than questions");

        assert_eq!(plan(None, &captions, 100_000).window_groups, 64, "four questions a slot");
        assert_eq!(plan(Some(Scheduling::AcrossImages), &shape(100, 5, 16), 100_000).window_groups, 13);
        let tiled = RunShape { image_bytes: 60 << 20, ..captions };
        assert_eq!(plan(None, &tiled, 100_000).window_groups, 4, "large pictures are held in part only");
    }

    #[test]
    fn what_cannot_decode_across_images_says_so() {
        let budget = 1 << 40;
        let across = Some(Scheduling::AcrossImages);
        let not = Some("export the checkpoint again");
        let old = Schedule::plan(across, &shape(16, 1, 256), &stage(), budget, not);
        assert_eq!(old.scheduling, Scheduling::PackedTree);
        assert!(old.reason.unwrap().contains("export the checkpoint again"));
        // Where it would not have been chosen there is nothing to say.
        assert_eq!(Schedule::plan(None, &shape(16, 32, 16), &stage(), budget, not).reason, None);
        let ranked = Schedule::plan(across, &shape(16, 1, 0), &stage(), budget, None);
        assert!(ranked.reason.unwrap().contains("ranked"));
        assert_eq!(Schedule::plan(Some(Scheduling::OneByOne), &shape(16, 1, 256), &stage(), budget, None).reason, None);
    }

    #[test]
    fn memory_is_counted_before_the_run() {
        let stage = stage();
        let token = cache_bytes_per_token(&stage) as u64;
        assert_eq!(token, 2 * 2 * 16 * 4, "two layers of one key and one value head of 16 numbers");
        let captions = shape(100, 1, 256);
        let across = plan(None, &captions, 100_000).memory(&captions, &stage, 1024);
        assert_eq!(across.cache_bytes, (640 + 16 * 896) * token);
        assert_eq!(across.logits_bytes, 16 * 97 * 4);
        assert_eq!(across.image_bytes, 64 * 336 * 336 * 12);
        let questions = shape(100, 6, 16);
        let packed = plan(None, &questions, 100_000).memory(&questions, &stage, 1024);
        assert_eq!(packed.cache_bytes, (576 + 6 * (64 + 16)) * token);
        assert_eq!(plan(None, &questions, 800).memory(&questions, &stage, 1024).cache_bytes, 800 * token);
    }
}
