//! Likelihoods of candidates on a decoder that another program wrote: packed, on the cache of their question, or each alone,
//! as the package's way allows.

use std::ops::Range;
use std::time::Instant;

use super::super::candidates::{self, Collected, Limits, Question};
use super::super::options::Scheduling;
use super::super::plan::{self, Row};
use super::super::tree_candidates::{Branching, PackOutcome, RankedCandidate, rank, rank_apart, take};
use super::super::types::{ChoiceGroup, EngineError, LikelihoodAnswer, StageTimings};
use super::super::vision::milliseconds;
use super::ForeignEngine;
use super::answer::Group;
use super::cache::KeyValues;
use super::decoder::{Run, Visible};
use super::packed::visible_bias;
use crate::package::foreign::CacheScheme;

impl ForeignEngine {
    /// The likelihoods of all candidates of a group.
    pub(in crate::engine) fn likelihoods(&mut self, group: &ChoiceGroup<'_>) -> Result<LikelihoodAnswer, EngineError> {
        candidates::check(group, self.decoder.stage().vocabulary_size, self.embedder.unembeddable())?;
        let segments: Vec<&[_]> = group.requests.iter().map(|request| request.segments.as_slice()).collect();
        let prompts = self.spelled_out(group.images, &segments)?;
        let mut timings = StageTimings::default();
        let mut collected: Vec<Collected> =
            group.requests.iter().map(|request| Collected::new(request.candidates.len())).collect();
        let mut fitting = Vec::with_capacity(prompts.len());
        for (index, ((rows, request), collected)) in prompts.iter().zip(group.requests).zip(&mut collected).enumerate() {
            match self.fits(rows, request.longest_candidate()) {
                Ok(()) => fitting.push((index, rows.as_slice())),
                Err(failure) => collected.fail(failure),
            }
        }
        match self.options.scheduling {
            Scheduling::PackedTree | Scheduling::AcrossImages => self.rank_some(group, &fitting, &mut collected, &mut timings)?,
            Scheduling::OneByOne => {
                for prompt in &fitting {
                    self.rank_some(group, std::slice::from_ref(prompt), &mut collected, &mut timings)?;
                }
            }
        }
        let answers = collected.into_iter().enumerate().map(|(index, collected)| collected.finish(index));
        Ok(LikelihoodAnswer { answers: answers.collect::<Result<_, _>>()?, timings })
    }

    fn rank_some(
        &mut self,
        group: &ChoiceGroup<'_>,
        prompts: &[(usize, &[Row])],
        collected: &mut [Collected],
        timings: &mut StageTimings,
    ) -> Result<(), EngineError> {
        let started = Instant::now();
        let images = prompts.iter().flat_map(|(_, rows)| rows.iter());
        let images = images.filter_map(|row| if let Row::Image { image, row: 0 } = row { Some(*image) } else { None });
        let encoded = self.encode(group.images, images.collect(), timings)?;
        let scheme = self.way.scheme;
        let mut prefix = match scheme {
            CacheScheme::OneByOne => 0,
            _ => plan::shared_prefix(prompts.iter().map(|(_, rows)| *rows)),
        };
        if let (CacheScheme::PackedTree, 0, [(_, rows)]) = (scheme, prefix, prompts) {
            // The candidates of a single question share its prompt, but for the last row.
            prefix = rows.len().saturating_sub(1);
        }
        let (last_row_only, remembers) = (self.decoder.interface().last_row_only, self.way.remembers);
        let stage = self.decoder.stage();
        let limits = Limits::new(self.options.max_packed_tokens, stage.maximum_positions, stage.vocabulary_size);
        let (decoder, embedder) = (&mut self.decoder, &mut self.embedder);
        let mut work = Group { decoder, embedder, images: &encoded, started, timings };
        let shared = prompts.first().and_then(|(_, rows)| rows.get(..prefix)).unwrap_or_default();
        let cache = work.prefill_prefix(shared)?;

        let mut questions = Vec::with_capacity(prompts.len());
        for &(request, rows) in prompts {
            let tokens = group.requests.get(request).map(|request| request.candidates.as_slice()).unwrap_or_default();
            let candidate_tokens = tokens.iter().map(Vec::len).collect();
            questions.push(Question { request, suffix_rows: rows.len().saturating_sub(prefix), candidate_tokens });
        }
        let member = |request: usize, numbers: Range<usize>| -> Option<Branching<'_>> {
            let (_, rows) = prompts.iter().find(|(index, _)| *index == request)?;
            let tokens = &group.requests.get(request)?.candidates;
            let candidates = numbers.filter_map(|number| Some((number, tokens.get(number)?.as_slice()))).collect();
            Some(Branching { request, suffix: rows.get(prefix..)?, candidates })
        };
        let mut take = |ranked| take(ranked, collected, milliseconds(started));
        if scheme == CacheScheme::PackedTree && !last_row_only {
            for pack in candidates::packs(prefix, &questions, limits) {
                let members: Vec<_> =
                    pack.parts.iter().filter_map(|part| member(part.request, part.candidates.clone())).collect();
                take(work.rank_pack(&members, cache.as_ref())?);
            }
            return Ok(());
        }
        for question in &questions {
            let Some(member) = member(question.request, 0..question.candidate_tokens.len()) else { continue };
            let ranked = match (scheme, remembers) {
                (CacheScheme::OneByOne, _) | (_, false) => work.rank_alone(&member, cache.as_ref(), last_row_only)?,
                _ => work.rank_on_cache(&member, cache.as_ref(), last_row_only)?,
            };
            take(ranked);
        }
        Ok(())
    }
}

impl<'a> Group<'a> {
    fn rank_pack(&mut self, members: &[Branching<'_>], prefix: Option<&KeyValues>) -> Result<Vec<RankedCandidate>, EngineError> {
        rank_apart(members, &mut |members| self.run_candidates(members, prefix))
    }

    fn run_candidates(&mut self, members: &[Branching<'_>], prefix: Option<&KeyValues>) -> PackOutcome {
        let started = Instant::now();
        let shared = prefix.map_or(0, |prefix| prefix.rows);
        let (mut rows, mut visible, mut positions, mut wanted) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for member in members {
            let own = shared + rows.len()..shared + rows.len() + member.suffix.len();
            for (index, row) in member.suffix.iter().enumerate() {
                rows.push(*row);
                visible.push([0..shared, own.start..own.start + index + 1, 0..0]);
                positions.push((shared + index) as i64);
            }
            wanted.push(rows.len().saturating_sub(1));
            for (_, tokens) in &member.candidates {
                let start = shared + rows.len();
                for (index, &token) in tokens.iter().take(tokens.len().saturating_sub(1)).enumerate() {
                    wanted.push(rows.len());
                    rows.push(Row::Token(token));
                    visible.push([0..shared, own.clone(), start..start + index + 1]);
                    positions.push((shared + member.suffix.len() + index) as i64);
                }
            }
        }
        let (new, total) = (rows.len(), shared + rows.len());
        let mut bias = vec![0.0; new * total];
        for (target, visible) in bias.chunks_exact_mut(total.max(1)).zip(&visible) {
            visible_bias(target, visible);
        }
        let embeds = self.embed(&rows)?;
        let run = Run { embeds, batch: 1, new, visible: Visible::Bias(bias), positions, past: prefix, rows: Some(wanted) };
        let (logits, _) = self.decoder.run(run)?;
        self.timings.prefill_ms += milliseconds(started);
        self.timings.prefill_tokens += new;
        rank(logits.iter().map(Vec::as_slice), members)
    }

    /// Each candidate in a plain sequence of its own, from the prompt (behind `prefix`) on.
    fn rank_alone(
        &mut self,
        member: &Branching<'_>,
        prefix: Option<&KeyValues>,
        last_row_only: bool,
    ) -> Result<Vec<RankedCandidate>, EngineError> {
        let mut ranked = Vec::new();
        for &(number, tokens) in &member.candidates {
            let started = Instant::now();
            let mut rows = member.suffix.to_vec();
            let fed = tokens.iter().take(tokens.len().saturating_sub(1)).map(|&token| Row::Token(token));
            let logits = if last_row_only {
                let mut logits = Vec::with_capacity(tokens.len());
                for next in std::iter::once(None).chain(fed.map(Some)) {
                    rows.extend(next);
                    let embeds = self.embed(&rows)?;
                    logits.push(self.decoder.extend(embeds, prefix)?.0);
                    self.timings.prefill_tokens += rows.len();
                }
                logits
            } else {
                rows.extend(fed);
                let embeds = self.embed(&rows)?;
                self.timings.prefill_tokens += rows.len();
                self.row_logits(embeds, prefix, member.suffix.len().saturating_sub(1)..rows.len())?.0
            };
            self.timings.prefill_ms += milliseconds(started);
            ranked.extend(ranked_alone(member, number, tokens, &logits)?);
        }
        Ok(ranked)
    }

    /// The question once, and each candidate on top of its cache.
    fn rank_on_cache(
        &mut self,
        member: &Branching<'_>,
        prefix: Option<&KeyValues>,
        last_row_only: bool,
    ) -> Result<Vec<RankedCandidate>, EngineError> {
        let started = Instant::now();
        let embeds = self.embed(member.suffix)?;
        let (first, question) = self.decoder.extend(embeds, prefix)?;
        self.timings.prefill_ms += milliseconds(started);
        self.timings.prefill_tokens += member.suffix.len();
        let mut ranked = Vec::new();
        for &(number, tokens) in &member.candidates {
            let started = Instant::now();
            let fed = tokens.get(..tokens.len().saturating_sub(1)).unwrap_or_default();
            let mut logits = vec![first.clone()];
            if last_row_only {
                let mut cache: Option<KeyValues> = None;
                for &token in fed {
                    let embeds = self.embedder.embed_tokens(&[token])?;
                    let (row, next) = self.decoder.extend(embeds, cache.as_ref().or(question.as_ref()))?;
                    logits.push(row);
                    cache = next;
                }
            } else if !fed.is_empty() {
                let embeds = self.embedder.embed_tokens(fed)?;
                logits.extend(self.row_logits(embeds, question.as_ref(), 0..fed.len())?.0);
            }
            self.timings.prefill_ms += milliseconds(started);
            self.timings.prefill_tokens += fed.len();
            ranked.extend(ranked_alone(member, number, tokens, &logits)?);
        }
        Ok(ranked)
    }

    /// One plain sequence after what is in the cache already, with the logits of these of its new rows.
    fn row_logits(
        &mut self,
        embeds: Vec<f32>,
        past: Option<&KeyValues>,
        rows: Range<usize>,
    ) -> Result<(Vec<Vec<f32>>, Option<KeyValues>), EngineError> {
        let new = embeds.len() / self.decoder.stage().hidden_size.max(1);
        let before = past.map_or(0, |past| past.rows);
        self.decoder.run(Run {
            embeds,
            batch: 1,
            new,
            visible: Visible::Mask(vec![1; before + new]),
            positions: (before..before + new).map(|position| position as i64).collect(),
            past,
            rows: Some(rows.collect()),
        })
    }
}

/// The numbers of a candidate that ran without neighbours.
fn ranked_alone(
    member: &Branching<'_>,
    number: usize,
    tokens: &[u32],
    logits: &[Vec<f32>],
) -> Result<Vec<RankedCandidate>, EngineError> {
    let alone = [Branching { candidates: vec![(number, tokens)], ..*member }];
    let ranked = rank(logits.iter().map(Vec::as_slice), &alone)?;
    Ok(ranked.unwrap_or_else(|step| vec![RankedCandidate { request: member.request, candidate: number, outcome: Err(step) }]))
}
