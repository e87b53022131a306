//! Answering the questions of one image on a decoder that another program wrote: a shared prefix whose cache every question
//! starts from, and a batch of answers that are decoded together where the graph can.

use std::time::Instant;

use super::super::plan::Row;
use super::super::sampling::{self, Choice};
use super::super::types::{EngineError, Generation, RequestFailure, StageTimings, StopReason, StopRule};
use super::super::vision::milliseconds;
use super::cache::{KeyValues, Padding, Sequence};
use super::decoder::Decoder;
use super::embedder::Embedder;
use super::images::ImageRows;
use super::probe::{Way, step};
use crate::package::foreign::PortType;

/// Memory that the caches of one batch may take; a graph of another program writes a new cache at each step, so that there
/// are two of them.
const BATCH_LIMIT_BYTES: usize = 1 << 30;
/// Most questions of one batch.
const BATCH_LIMIT: usize = 32;

/// A question while it is being answered.
pub(super) struct Asked<'a> {
    /// Position in the group.
    pub request: usize,
    /// Its rows after the shared prefix, at least 1.
    pub suffix: &'a [Row],
    pub max_new_tokens: usize,
    pub stop: &'a dyn StopRule,
    /// A token that cannot be fed back: the image token, where the embedding graph merges images.
    unembeddable: Option<u32>,
    token_ids: Vec<u32>,
    log_probabilities: Vec<f32>,
    first_token_ms: f64,
    last_token_ms: f64,
    stop_reason: Option<StopReason>,
    failure: Option<RequestFailure>,
}

impl<'a> Asked<'a> {
    pub fn new(
        request: usize,
        suffix: &'a [Row],
        max_new_tokens: usize,
        stop: &'a dyn StopRule,
        unembeddable: Option<u32>,
    ) -> Self {
        Self {
            request,
            suffix,
            max_new_tokens,
            stop,
            unembeddable,
            token_ids: Vec::new(),
            log_probabilities: Vec::new(),
            first_token_ms: 0.0,
            last_token_ms: 0.0,
            stop_reason: None,
            failure: None,
        }
    }

    /// Takes a token; whether the answer goes on.
    pub fn push(&mut self, choice: Choice, now_ms: f64) -> bool {
        if self.token_ids.is_empty() {
            self.first_token_ms = now_ms;
        }
        self.last_token_ms = now_ms;
        self.token_ids.push(choice.token);
        self.log_probabilities.push(choice.log_probability);
        self.stop_reason = self.stop.check(&self.token_ids);
        if self.stop_reason.is_none() && self.token_ids.len() >= self.max_new_tokens {
            self.stop_reason = Some(StopReason::MaxNewTokens);
        }
        if self.stop_reason.is_none() && Some(choice.token) == self.unembeddable {
            self.fail(RequestFailure::ImageToken { step: self.token_ids.len() - 1 });
            return false;
        }
        self.stop_reason.is_none()
    }

    /// Takes the logits of a step; whether the answer goes on.
    fn choose(&mut self, logits: &[f32], now_ms: f64) -> bool {
        match sampling::greedy(logits) {
            Some(choice) => self.push(choice, now_ms),
            None => {
                self.fail(RequestFailure::NonFiniteLogits { step: self.token_ids.len() });
                false
            }
        }
    }

    pub fn fail(&mut self, failure: RequestFailure) {
        self.failure = Some(failure);
    }

    /// Forgets what was generated.
    pub fn restart(&mut self) {
        *self = Self::new(self.request, self.suffix, self.max_new_tokens, self.stop, self.unembeddable);
    }

    pub fn newest(&self) -> u32 {
        self.token_ids.last().copied().unwrap_or(0)
    }

    pub fn generated(&self) -> usize {
        self.token_ids.len()
    }

    pub fn finish(mut self) -> (usize, Result<Generation, RequestFailure>) {
        if let Some(failure) = self.failure {
            return (self.request, Err(failure));
        }
        let decoded_tokens = self.token_ids.len();
        let stop_reason = self.stop_reason.unwrap_or(StopReason::MaxNewTokens);
        if stop_reason == StopReason::EndOfSequence {
            self.token_ids.pop();
            self.log_probabilities.pop();
        }
        let generation = Generation {
            token_ids: self.token_ids,
            log_probabilities: self.log_probabilities,
            stop_reason,
            first_token_ms: self.first_token_ms,
            remaining_tokens_ms: self.last_token_ms - self.first_token_ms,
            decoded_tokens,
        };
        (self.request, Ok(generation))
    }
}

/// A group at work.
pub(super) struct Group<'a> {
    pub decoder: &'a mut Decoder,
    pub embedder: &'a mut Embedder,
    pub images: &'a [Option<ImageRows>],
    pub started: Instant,
    pub timings: &'a mut StageTimings,
}

impl<'a> Group<'a> {
    /// What the language model sees of these rows.
    pub fn embed(&mut self, rows: &[Row]) -> Result<Vec<f32>, EngineError> {
        self.embedder.embed(rows, self.images)
    }

    /// Runs the rows that all questions share.
    pub fn prefill_prefix(&mut self, rows: &[Row]) -> Result<Option<KeyValues>, EngineError> {
        if rows.is_empty() {
            return Ok(None);
        }
        let started = Instant::now();
        let embeds = self.embed(rows)?;
        let (_, cache) = self.decoder.extend(embeds, None)?;
        self.timings.prefill_ms += milliseconds(started);
        self.timings.prefill_tokens += rows.len();
        Ok(cache)
    }

    /// Answers questions that start from the prefix's cache.
    pub fn answer(&mut self, questions: &mut [Asked<'a>], prefix: Option<&KeyValues>, way: &Way) -> Result<(), EngineError> {
        if !way.remembers {
            return questions.iter_mut().try_for_each(|asked| self.answer_without_cache(asked));
        }
        let shared = prefix.map_or(0, |prefix| prefix.rows);
        let mut rest = questions;
        while !rest.is_empty() {
            let count = match way.batch {
                None => 1,
                Some(_) => batch_size(rest, shared, self.decoder.cache_row_bytes()),
            };
            let (now, later) = rest.split_at_mut(count.min(rest.len()));
            self.answer_batch(now, prefix, way.batch)?;
            rest = later;
        }
        Ok(())
    }

    /// Every token runs the whole sequence, for graphs without a usable cache.
    fn answer_without_cache(&mut self, asked: &mut Asked<'a>) -> Result<(), EngineError> {
        let started = Instant::now();
        let mut embeds = self.embed(asked.suffix)?;
        let (logits, _) = self.decoder.extend(embeds.clone(), None)?;
        self.timings.prefill_ms += milliseconds(started);
        self.timings.prefill_tokens += asked.suffix.len();
        let mut going_on = asked.choose(&logits, milliseconds(self.started));
        while going_on {
            let started = Instant::now();
            embeds.extend(self.embedder.embed_tokens(&[asked.newest()])?);
            let (logits, _) = self.decoder.extend(embeds.clone(), None)?;
            self.timings.decode_ms += milliseconds(started);
            self.timings.decode_steps += 1;
            going_on = asked.choose(&logits, milliseconds(self.started));
        }
        Ok(())
    }

    fn answer_batch(
        &mut self,
        questions: &mut [Asked<'a>],
        prefix: Option<&KeyValues>,
        batch: Option<Padding>,
    ) -> Result<(), EngineError> {
        let mut active = Vec::with_capacity(questions.len());
        for (index, asked) in questions.iter_mut().enumerate() {
            let started = Instant::now();
            let embeds = self.embed(asked.suffix)?;
            let (logits, cache) = self.decoder.extend(embeds, prefix)?;
            self.timings.prefill_ms += milliseconds(started);
            self.timings.prefill_tokens += asked.suffix.len();
            if asked.choose(&logits, milliseconds(self.started))
                && let Some(cache) = cache
            {
                active.push((index, cache));
            }
        }
        if let (Some(padding), true) = (batch, active.len() > 1) {
            return self.decode_together(questions, active, padding);
        }
        for (index, mut cache) in active {
            let Some(asked) = questions.get_mut(index) else { continue };
            loop {
                let started = Instant::now();
                let embeds = self.embedder.embed_tokens(&[asked.newest()])?;
                let (logits, next) = self.decoder.extend(embeds, Some(&cache))?;
                self.timings.decode_ms += milliseconds(started);
                self.timings.decode_steps += 1;
                match next {
                    Some(next) if asked.choose(&logits, milliseconds(self.started)) => cache = next,
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// One token of each question at a time. When an answer ends, the others move into a smaller batch.
    fn decode_together(
        &mut self,
        questions: &mut [Asked<'a>],
        active: Vec<(usize, KeyValues)>,
        padding: Padding,
    ) -> Result<(), EngineError> {
        let dtype = self.decoder.interface().cache.as_ref().map_or(PortType::F32, |cache| cache.dtype);
        let started = Instant::now();
        let mut lengths: Vec<usize> = active.iter().map(|(_, cache)| cache.rows).collect();
        let mut places: Vec<usize> = active.iter().map(|(index, _)| *index).collect();
        let own: Vec<Sequence<'_>> = active.iter().map(|(_, cache)| Sequence { cache, place: 0, length: cache.rows }).collect();
        let mut cache = KeyValues::stack(&own, dtype, padding)?;
        drop(active);
        self.timings.decode_ms += milliseconds(started);
        while !places.is_empty() {
            let started = Instant::now();
            let tokens: Vec<u32> = places.iter().filter_map(|&index| questions.get(index)).map(Asked::newest).collect();
            let embeds = self.embedder.embed_tokens(&tokens)?;
            let (logits, next) = step(self.decoder, embeds, &cache, &lengths, padding)?;
            lengths.iter_mut().for_each(|length| *length += 1);
            let now = milliseconds(self.started);
            let going_on: Vec<bool> = places
                .iter()
                .zip(&logits)
                .map(|(&index, logits)| questions.get_mut(index).is_some_and(|asked| asked.choose(logits, now)))
                .collect();
            let Some(next) = next else { break };
            cache = next;
            if going_on.contains(&false) {
                let kept: Vec<usize> = (0..places.len()).filter(|&place| going_on.get(place) == Some(&true)).collect();
                let sequence = |&place: &usize| lengths.get(place).map(|&length| Sequence { cache: &cache, place, length });
                let sequences: Vec<Sequence<'_>> = kept.iter().filter_map(sequence).collect();
                let smaller = KeyValues::stack(&sequences, dtype, padding)?;
                lengths = sequences.iter().map(|sequence| sequence.length).collect();
                places = kept.iter().filter_map(|&place| places.get(place).copied()).collect();
                cache = smaller;
            }
            self.timings.decode_ms += milliseconds(started);
            self.timings.decode_steps += 1;
        }
        Ok(())
    }
}

/// How many of the next questions go into one batch.
fn batch_size(questions: &[Asked<'_>], shared: usize, row_bytes: usize) -> usize {
    let rows = |asked: &Asked<'_>| shared.saturating_add(asked.suffix.len()).saturating_add(asked.max_new_tokens);
    let mut longest = 0;
    let fits = questions.iter().take(BATCH_LIMIT).enumerate().take_while(|(index, asked)| {
        longest = longest.max(rows(asked));
        longest.saturating_mul(row_bytes).saturating_mul(index + 1) <= BATCH_LIMIT_BYTES
    });
    fits.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct EndsAt(u32);

    impl StopRule for EndsAt {
        fn check(&self, token_ids: &[u32]) -> Option<StopReason> {
            (token_ids.last() == Some(&self.0)).then_some(StopReason::EndOfSequence)
        }
    }

    fn choice(token: u32) -> Choice {
        Choice { token, log_probability: -0.5 }
    }

    #[test]
    fn a_token_that_cannot_be_fed_back_fails_its_question_only_if_the_answer_would_go_on() {
        let stop = EndsAt(2);
        let mut asked = Asked::new(3, &[], 4, &stop, Some(16));
        assert!(asked.push(choice(5), 1.0));
        assert!(!asked.push(choice(16), 2.0));
        assert_eq!(asked.finish(), (3, Err(RequestFailure::ImageToken { step: 1 })));

        let mut last = Asked::new(3, &[], 1, &stop, Some(16));
        assert!(!last.push(choice(16), 1.0));
        let generation = last.finish().1.unwrap();
        assert_eq!((generation.token_ids, generation.stop_reason), (vec![16], StopReason::MaxNewTokens));

        let mut ended = Asked::new(3, &[], 4, &stop, None);
        assert!(ended.push(choice(16), 1.0));
        assert!(!ended.push(choice(2), 2.0));
        let generation = ended.finish().1.unwrap();
        assert_eq!((generation.token_ids, generation.decoded_tokens), (vec![16], 2));
    }

    #[test]
    fn a_batch_is_bounded_by_the_memory_of_its_longest() {
        let stop = EndsAt(2);
        let row = Row::Token(1);
        let (short, long) = ([row; 2], [row; 90]);
        let asked = |suffix, new| Asked::new(0, suffix, new, &stop, None);
        let questions = [asked(&short[..], 8), asked(&short[..], 8), asked(&long[..], 10), asked(&short[..], 8)];
        assert_eq!(batch_size(&questions, 0, 1), 4);
        // Two of 10 rows fit, a third would make them all 100 rows long.
        assert_eq!(batch_size(&questions, 0, BATCH_LIMIT_BYTES / 100), 2);
        assert_eq!(batch_size(&questions, 0, BATCH_LIMIT_BYTES), 1, "a single question is always a batch");
        assert_eq!(batch_size(&questions, usize::MAX, usize::MAX), 1);
    }
}
