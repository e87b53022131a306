//! Questions packed into one run behind a shared prefix, for decoders that take an attention bias: as [`super::super::tree`]
//! does with our own graphs, but with a cache that grows by a copy at each step.

use std::ops::Range;
use std::time::Instant;

use super::super::plan::HIDDEN;
use super::super::sampling::{self, Choice};
use super::super::types::EngineError;
use super::super::vision::milliseconds;
use super::answer::{Asked, Group};
use super::cache::KeyValues;
use super::decoder::{Run, Visible};
use crate::engine::RequestFailure;

/// Writes a row of the bias: 0 in the visible ranges, hidden elsewhere.
pub(super) fn visible_bias(row: &mut [f32], visible: &[Range<usize>]) {
    row.fill(HIDDEN);
    for range in visible {
        if let Some(columns) = row.get_mut(range.clone()) {
            columns.fill(0.0);
        }
    }
}

impl<'a> Group<'a> {
    /// Answers a pack over the prefix. If a logit is not finite the pack is thrown away and each question runs alone, because
    /// a NaN spreads to every row of its run.
    pub(super) fn answer_pack(&mut self, pack: &mut [Asked<'a>], prefix: Option<&KeyValues>) -> Result<(), EngineError> {
        match (self.run_pack(pack, prefix)?, pack.len()) {
            (Ok(()), _) => Ok(()),
            (Err(step), 1) => {
                pack.iter_mut().for_each(|asked| asked.fail(RequestFailure::NonFiniteLogits { step }));
                Ok(())
            }
            (Err(_), _) => pack.chunks_mut(1).try_for_each(|one| {
                one.iter_mut().for_each(Asked::restart);
                self.answer_pack(one, prefix)
            }),
        }
    }

    /// Runs a pack to its end, or to the step whose logits are not finite.
    fn run_pack(&mut self, pack: &mut [Asked<'a>], prefix: Option<&KeyValues>) -> Result<Result<(), usize>, EngineError> {
        let started = Instant::now();
        let shared = prefix.map_or(0, |prefix| prefix.rows);
        let new: usize = pack.iter().map(|asked| asked.suffix.len()).sum();
        let total = shared + new;
        let (mut embeds, mut positions, mut rows) = (Vec::new(), Vec::with_capacity(new), Vec::with_capacity(pack.len()));
        let mut bias = vec![0.0; new * total];
        let mut visible: Vec<Vec<Range<usize>>> = Vec::with_capacity(pack.len());
        let mut bias_rows = bias.chunks_exact_mut(total.max(1));
        let mut start = shared;
        for asked in pack.iter() {
            embeds.extend(self.embed(asked.suffix)?);
            for (index, row) in (0..asked.suffix.len()).zip(&mut bias_rows) {
                visible_bias(row, &[0..shared, start..start + index + 1]);
                positions.push((shared + index) as i64);
            }
            let end = start + asked.suffix.len();
            rows.push((end - shared).saturating_sub(1));
            visible.push(vec![0..shared, start..end]);
            start = end;
        }
        let run = Run { embeds, batch: 1, new, visible: Visible::Bias(bias), positions, past: prefix, rows: Some(rows) };
        let (logits, mut cache) = self.decoder.run(run)?;
        self.timings.prefill_ms += milliseconds(started);
        self.timings.prefill_tokens += new;
        let Some(chosen) = choices(&logits) else { return Ok(Err(0)) };
        let now = milliseconds(self.started);
        let mut active: Vec<usize> = (0..pack.len()).collect();
        take(pack, &mut active, &chosen, now);

        let mut step = 0;
        while !active.is_empty() {
            let started = Instant::now();
            step += 1;
            let length = cache.as_ref().map_or(0, |cache| cache.rows);
            let (new, total) = (active.len(), length + active.len());
            let mut bias = vec![0.0; new * total];
            let (mut tokens, mut positions) = (Vec::with_capacity(new), Vec::with_capacity(new));
            for (slot, (&index, row)) in active.iter().zip(bias.chunks_exact_mut(total.max(1))).enumerate() {
                let (Some(asked), Some(visible)) = (pack.get(index), visible.get_mut(index)) else { continue };
                match visible.last_mut() {
                    Some(range) if range.end == length + slot => range.end += 1,
                    _ => visible.push(length + slot..length + slot + 1),
                }
                visible_bias(row, visible);
                tokens.push(asked.newest());
                positions.push((shared + asked.suffix.len() + asked.generated()) as i64 - 1);
            }
            let embeds = self.embedder.embed_tokens(&tokens)?;
            let (past, rows) = (cache.as_ref(), Some((0..new).collect()));
            let run = Run { embeds, batch: 1, new, visible: Visible::Bias(bias), positions, past, rows };
            let (logits, next) = self.decoder.run(run)?;
            cache = next;
            self.timings.decode_ms += milliseconds(started);
            self.timings.decode_steps += 1;
            let Some(chosen) = choices(&logits) else { return Ok(Err(step)) };
            take(pack, &mut active, &chosen, milliseconds(self.started));
        }
        Ok(Ok(()))
    }
}

/// A token for each row; `None` if any is not finite.
fn choices(logits: &[Vec<f32>]) -> Option<Vec<Choice>> {
    logits.iter().map(|row| sampling::greedy(row)).collect()
}

/// Hands the tokens out and keeps those questions active that go on.
fn take(pack: &mut [Asked<'_>], active: &mut Vec<usize>, choices: &[Choice], now_ms: f64) {
    let mut choices = choices.iter();
    active.retain(|&index| match (pack.get_mut(index), choices.next()) {
        (Some(asked), Some(choice)) => asked.push(*choice, now_ms),
        _ => false,
    });
}
