//! The self-check at load: what the decoder graph's interface allows is tried on a few tokens, and only what gives the
//! logits of the plainest way of running them is used.

use super::super::options::Scheduling;
use super::super::types::EngineError;
use super::cache::{KeyValues, Padding, Sequence};
use super::decoder::{Decoder, Run, Visible};
use super::embedder::Embedder;
use super::packed::visible_bias;
use crate::package::foreign::{CacheScheme, PortType};

/// Tokens of the longer trial sequence.
const TRIAL_TOKENS: usize = 6;
/// Attempts at finding tokens whose logits are finite.
const ATTEMPTS: usize = 4;
/// Largest accepted difference between two ways of running the same rows, as a share of the largest logit. Rounding order
/// alone gives about 1e-6 in 32 bits and 1e-3 in 16 bits; a wrong mask or position gives far more than either limit.
const LIMIT_32_BITS: f32 = 1e-4;
const LIMIT_16_BITS: f32 = 1e-2;
/// Graphs that quantise by the range of a run's rows give other logits whenever other rows run with one, by more than a wrong
/// cache might. They only have to show that they run on a cache and give numbers; nothing is shared with them.
const LIMIT_QUANTISED: f32 = f32::INFINITY;

/// How questions run, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub scheme: CacheScheme,
    /// For people.
    pub reason: String,
    /// Whether a sequence goes on from its cache; otherwise every token runs the whole sequence again.
    pub remembers: bool,
    /// How sequences of several lengths share a decode step; `None` decodes them one at a time.
    pub batch: Option<Padding>,
}

/// Chooses the way. An error means that the graph cannot run even a single plain sequence.
pub(super) fn choose(decoder: &mut Decoder, embedder: &mut Embedder, wanted: Scheduling) -> Result<Way, EngineError> {
    let (planned, because) = decoder.interface().scheme();
    let Some(mut trial) = Trial::new(decoder, embedder)? else {
        let reason = "the logits of every trial sequence are not finite".to_owned();
        return Ok(Way { scheme: CacheScheme::OneByOne, reason, remembers: true, batch: None });
    };
    let alone = |reason: String, remembers| Way { scheme: CacheScheme::OneByOne, reason, remembers, batch: None };
    if decoder.interface().cache.is_none() {
        return Ok(alone(format!("{because}: each token runs its whole sequence again"), false));
    }
    if let Err(difference) = trial.single_step(decoder) {
        return Ok(alone(format!("a token after cached ones {difference}: each token runs its whole sequence again"), false));
    }
    if wanted == Scheduling::OneByOne {
        return Ok(alone("as asked for".to_owned(), true));
    }
    if planned == CacheScheme::OneByOne {
        return Ok(alone(because.to_owned(), true));
    }
    if let Err(difference) = trial.shared_chunk(decoder) {
        return Ok(alone(format!("a run of several tokens after cached ones {difference}"), true));
    }
    let mut not_packed = String::new();
    if planned == CacheScheme::PackedTree {
        match trial.packed(decoder) {
            Ok(()) => {
                let reason = format!("{because}; tried and proven at load");
                return Ok(Way { scheme: CacheScheme::PackedTree, reason, remembers: true, batch: None });
            }
            Err(difference) => not_packed = format!("two questions packed into one run {difference}; "),
        }
    }
    // Grouped-query attention counts its rows from the first; other graphs take a mask and positions.
    let order = match decoder.interface().grouped_query_attention {
        true => [Padding::Right, Padding::Left],
        false => [Padding::Left, Padding::Right],
    };
    let (mut batch, mut not_batched) = (None, String::new());
    for padding in order {
        match trial.batched(decoder, padding) {
            Ok(()) => {
                batch = Some(padding);
                break;
            }
            Err(difference) if not_batched.is_empty() => not_batched = difference,
            Err(_) => {}
        }
    }
    let decoding = match batch {
        Some(_) => "answers are decoded in a batch; tried and proven at load".to_owned(),
        None => format!("answers are decoded one at a time, as a batch of two {not_batched}"),
    };
    let reason = format!("{not_packed}{because}; {decoding}");
    Ok(Way { scheme: CacheScheme::SharedPrefix, reason, remembers: true, batch })
}

/// Runs one token of each sequence of a batch whose rows are padded like this. `lengths` are those before the token.
pub(super) fn step(
    decoder: &mut Decoder,
    embeds: Vec<f32>,
    cache: &KeyValues,
    lengths: &[usize],
    padding: Padding,
) -> Result<(Vec<Vec<f32>>, Option<KeyValues>), EngineError> {
    let total = cache.rows + 1;
    let mut mask = Vec::with_capacity(lengths.len() * total);
    for &length in lengths {
        let (own, rest) = (length + 1, total.saturating_sub(length + 1));
        match padding {
            Padding::Left => mask.extend(std::iter::repeat_n(0, rest).chain(std::iter::repeat_n(1, own))),
            Padding::Right => mask.extend(std::iter::repeat_n(1, own).chain(std::iter::repeat_n(0, rest))),
        }
    }
    decoder.run(Run {
        embeds,
        batch: lengths.len(),
        new: 1,
        visible: Visible::Mask(mask),
        positions: lengths.iter().map(|&length| length as i64).collect(),
        past: Some(cache),
        rows: None,
    })
}

/// A few tokens and what the graph says to them run plainly.
struct Trial {
    /// Rows of the tokens, `[TRIAL_TOKENS, hidden_size]`.
    embeds: Vec<f32>,
    width: usize,
    /// Logits after all tokens, run at once without a past.
    expected: Vec<f32>,
    limit: f32,
}

/// Why a trial was not passed, as the end of a sentence.
type Failed = String;

impl Trial {
    fn new(decoder: &mut Decoder, embedder: &mut Embedder) -> Result<Option<Self>, EngineError> {
        let vocabulary = u32::try_from(decoder.stage().vocabulary_size).unwrap_or(u32::MAX).max(1);
        let types = [decoder.interface().inputs_embeds.dtype, decoder.interface().logits.dtype];
        let cache = decoder.interface().cache.as_ref().map(|cache| cache.dtype);
        let wide = types.into_iter().chain(cache).all(|dtype| dtype == PortType::F32);
        for attempt in 0..ATTEMPTS as u32 {
            let image_token = embedder.image_token();
            let ids = (0..).map(|index: u32| (3 + attempt + 7 * index) % vocabulary).filter(|&id| id != image_token);
            let tokens: Vec<u32> = ids.take(TRIAL_TOKENS).collect();
            let embeds = embedder.embed_tokens(&tokens)?;
            let (expected, _) = decoder.extend(embeds.clone(), None)?;
            if !expected.is_empty() && expected.iter().all(|logit| logit.is_finite()) {
                let limit = match (decoder.interface().dynamic_quantisation, wide) {
                    (true, _) => LIMIT_QUANTISED,
                    (false, true) => LIMIT_32_BITS,
                    (false, false) => LIMIT_16_BITS,
                };
                return Ok(Some(Self { embeds, width: decoder.stage().hidden_size, expected, limit }));
            }
        }
        Ok(None)
    }

    fn tokens(&self, range: std::ops::Range<usize>) -> Vec<f32> {
        self.embeds.get(range.start * self.width..range.end * self.width).unwrap_or_default().to_vec()
    }

    fn compare(&self, found: &[f32], expected: &[f32]) -> Result<(), Failed> {
        let largest = expected.iter().fold(f32::MIN_POSITIVE, |largest, logit| largest.max(logit.abs()));
        let off = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max) / largest;
        // A NaN is lost in a maximum, so that finiteness is asked for apart.
        if found.len() == expected.len() && off <= self.limit && found.iter().all(|logit| logit.is_finite()) {
            return Ok(());
        }
        Err(format!("gives other logits than a plain run (off by {off:.0e} of the largest, limit {:.0e})", self.limit))
    }

    fn prefill(&self, decoder: &mut Decoder, range: std::ops::Range<usize>) -> Result<KeyValues, Failed> {
        let (_, cache) = decoder.extend(self.tokens(range), None).map_err(fails)?;
        cache.ok_or_else(|| "has no cache".to_owned())
    }

    fn single_step(&mut self, decoder: &mut Decoder) -> Result<(), Failed> {
        let cache = self.prefill(decoder, 0..TRIAL_TOKENS - 1)?;
        let (logits, _) = decoder.extend(self.tokens(TRIAL_TOKENS - 1..TRIAL_TOKENS), Some(&cache)).map_err(fails)?;
        self.compare(&logits, &self.expected)
    }

    /// Twice on the same past: the first run must leave it as it was.
    fn shared_chunk(&mut self, decoder: &mut Decoder) -> Result<(), Failed> {
        let cache = self.prefill(decoder, 0..3)?;
        for _ in 0..2 {
            let (logits, _) = decoder.extend(self.tokens(3..TRIAL_TOKENS), Some(&cache)).map_err(fails)?;
            self.compare(&logits, &self.expected)?;
        }
        Ok(())
    }

    /// The last two tokens twice over one past of four, side by side.
    fn packed(&mut self, decoder: &mut Decoder) -> Result<(), Failed> {
        let cache = self.prefill(decoder, 0..4)?;
        let (prefix, total) = (4_usize, 8);
        let mut bias = vec![0.0; 4 * total];
        for (row, target) in bias.chunks_exact_mut(total).enumerate() {
            let start = prefix + row / 2 * 2;
            visible_bias(target, &[0..prefix, start..prefix + row + 1]);
        }
        let embeds = [self.tokens(4..6), self.tokens(4..6)].concat();
        let (positions, rows) = (vec![4, 5, 4, 5], Some(vec![1, 3]));
        let run = Run { embeds, batch: 1, new: 4, visible: Visible::Bias(bias), positions, past: Some(&cache), rows };
        let (logits, _) = decoder.run(run).map_err(fails)?;
        if logits.len() != 2 {
            return Err("gives too few logits".to_owned());
        }
        logits.iter().try_for_each(|logits| self.compare(logits, &self.expected))
    }

    /// Sequences of five and of three tokens take a step together; then the shorter goes on alone from the batch's cache.
    fn batched(&mut self, decoder: &mut Decoder, padding: Padding) -> Result<(), Failed> {
        let dtype = decoder.interface().cache.as_ref().map_or(PortType::F32, |cache| cache.dtype);
        let (long, short) = (self.prefill(decoder, 0..5)?, self.prefill(decoder, 0..3)?);
        let (short_expected, short_next) = decoder.extend(self.tokens(3..4), Some(&short)).map_err(fails)?;
        let (next_expected, _) = decoder.extend(self.tokens(4..5), short_next.as_ref()).map_err(fails)?;

        let sequences = [Sequence { cache: &long, place: 0, length: 5 }, Sequence { cache: &short, place: 0, length: 3 }];
        let both = KeyValues::stack(&sequences, dtype, padding).map_err(fails)?;
        let embeds = [self.tokens(5..6), self.tokens(3..4)].concat();
        let (logits, cache) = step(decoder, embeds, &both, &[5, 3], padding).map_err(fails)?;
        let (Some(first), Some(second), Some(cache)) = (logits.first(), logits.get(1), cache) else {
            return Err("gives too few logits".to_owned());
        };
        self.compare(first, &self.expected)?;
        self.compare(second, &short_expected)?;
        let rest = KeyValues::stack(&[Sequence { cache: &cache, place: 1, length: 4 }], dtype, padding).map_err(fails)?;
        let (logits, _) = step(decoder, self.tokens(4..5), &rest, &[4], padding).map_err(fails)?;
        self.compare(logits.first().map_or(&[], Vec::as_slice), &next_expected)
    }
}

fn fails(error: EngineError) -> Failed {
    let text = match error {
        EngineError::Runtime { message, .. } | EngineError::Graph { message, .. } => message,
        other => other.to_string(),
    };
    let line = text.lines().next().unwrap_or_default();
    // ONNX Runtime names source files and the node first; what it has to say comes last.
    let line = line.rsplit_once("Status Message: ").map_or(line, |(_, message)| message);
    format!("fails ({})", line.chars().take(200).collect::<String>())
}
