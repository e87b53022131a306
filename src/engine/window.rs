//! Decoding across images: the questions of a window's groups, each in a slot of its own.
//!
//! Each image is encoded, and its prompts are prefilled, as in the packed tree and in the same runs, so that a first token has
//! the same bits. Then the cache rows of a question are copied to a free slot, and all slots decode together. A slot that gets
//! free is taken by the next question that is prefilled; if there is none, the next questions are prefilled first, while the
//! others wait. When nothing is left to join, the batch shrinks as questions finish, so that the last of them do not pay for
//! empty slots.
//!
//! What happens in which order depends on the window and its limits alone, never on time.

use std::collections::VecDeque;
use std::time::Instant;

use super::embedding::EmbeddingTable;
use super::ort_engine::OrtEngine;
use super::plan::{self, Demand, Row};
use super::sampling;
use super::slots::{SlotBatch, SlotToken};
use super::tree::{Growing, Member, NotFinite, Outcome, Tree, embed};
use super::types::{EngineError, GroupAnswer, ImageGroup, RequestFailure, StageTimings, WindowSink};
use super::vision::{EncodedImage, milliseconds};
use crate::package::RowLayout;

/// A group's prompts, spelled out, and what they share.
struct Prompts {
    layouts: Vec<Result<RowLayout, String>>,
    /// Position in the group, and rows.
    rows: Vec<(usize, Vec<Row>)>,
    prefix: usize,
}

/// A group's work as far as it is done.
struct Work {
    answers: Vec<Option<Outcome>>,
    timings: StageTimings,
    /// When its first image was encoded, from which its times count.
    started: Option<Instant>,
    encoded: Vec<Option<EncodedImage>>,
    /// Packs that are still to be prefilled.
    packs_left: usize,
}

/// Questions of one group that are prefilled together.
struct Job {
    group: usize,
    members: Vec<Demand>,
}

/// A question with its first token. It waits in the language model's own cache, or sits in a slot.
struct Question<'a> {
    group: usize,
    growing: Growing<'a>,
    /// Its rows in the cache so far.
    length: usize,
}

/// A window at work.
struct Window<'a, 'g> {
    groups: &'a [ImageGroup<'g>],
    prompts: &'a [Prompts],
    works: Vec<Work>,
    jobs: VecDeque<Job>,
    /// Prefilled questions whose rows are still in the language model's own cache.
    waiting: VecDeque<Question<'a>>,
    seats: Vec<Option<Question<'a>>>,
    /// The group whose prefix is in the language model's own cache.
    prefilled: Option<usize>,
}

impl OrtEngine {
    /// Answers a window in the way that its schedule says. Memory that runs out halves the slots, and what is not finished then
    /// is begun anew.
    pub(super) fn answer_across(&mut self, groups: &[ImageGroup<'_>], sink: &mut dyn WindowSink) -> Result<(), EngineError> {
        let mut pending: Vec<usize> = (0..groups.len()).collect();
        while self.limits.slots > 1 && !pending.is_empty() && !sink.stopped() {
            let mut done = Vec::new();
            let outcome = self.run_window(groups, &pending, &mut done, sink);
            pending.retain(|index| !done.contains(index));
            match outcome {
                Ok(true) => return Ok(()),
                // The window does not fit: group by group, then.
                Ok(false) => break,
                Err(error) if error.is_out_of_memory() => {
                    self.limits.slots /= 2;
                    let slots = self.limits.slots;
                    self.notes.push(format!("memory ran out; from now on at most {slots} sequences decode together"));
                }
                Err(error) => return Err(error),
            }
        }
        for index in pending {
            if sink.stopped() {
                break;
            }
            if let Some(group) = groups.get(index) {
                let answer = self.answer_group(group)?;
                sink.finished(index, answer);
            }
        }
        Ok(())
    }

    /// Runs the groups `pending` of a window; each that is finished is told to `sink` and `done`. `false`: there is no room for
    /// two of its sequences.
    fn run_window(
        &mut self,
        groups: &[ImageGroup<'_>],
        pending: &[usize],
        done: &mut Vec<usize>,
        sink: &mut dyn WindowSink,
    ) -> Result<bool, EngineError> {
        let mut works: Vec<Work> = Vec::with_capacity(groups.len());
        let mut prompts: Vec<Prompts> = Vec::with_capacity(groups.len());
        for (index, group) in groups.iter().enumerate() {
            let mut answers: Vec<Option<Outcome>> = group.requests.iter().map(|_| None).collect();
            let wanted = pending.contains(&index);
            let layouts = if wanted { self.layouts(group.images) } else { Vec::new() };
            let rows = if wanted { self.fitting_prompts(group, &layouts, &mut answers)? } else { Vec::new() };
            let prefix = plan::shared_prefix(rows.iter().map(|(_, rows)| rows.as_slice()));
            prompts.push(Prompts { layouts, rows, prefix });
            works.push(Work { answers, timings: StageTimings::default(), started: None, encoded: Vec::new(), packs_left: 0 });
        }
        let Some(room) = self.room(groups, &prompts) else { return Ok(false) };

        let mut jobs: Vec<(usize, Job)> = Vec::new();
        for (index, ((group, prompts), work)) in groups.iter().zip(&prompts).zip(&mut works).enumerate() {
            // Answers grow in the slots: here only prompts need room.
            let demand = |(request, rows): &(usize, Vec<Row>)| Demand {
                request: *request,
                suffix_rows: rows.len() - prompts.prefix,
                max_new_tokens: 0,
            };
            let demands: Vec<Demand> = prompts.rows.iter().map(demand).collect();
            let packs = plan::packs(prompts.prefix, &demands, self.limits.packed_tokens, room.prefill_tokens);
            work.packs_left = packs.len();
            let longest = |request: &super::types::Request<'_>| request.max_new_tokens;
            let longest = group.requests.iter().map(longest).max().unwrap_or(0);
            jobs.extend(packs.into_iter().map(|pack| (longest, Job { group: index, members: pack.members })));
        }
        // The longest answers first, so that none is left to decode alone in the end; otherwise the groups' own order.
        jobs.sort_by_key(|(longest, _)| std::cmp::Reverse(*longest));
        self.model.reserve(room.prefill_tokens)?;
        let mut batch = SlotBatch::new(&mut self.model, room.slots, room.capacity)?;
        let mut window = Window {
            groups,
            prompts: &prompts,
            works,
            jobs: jobs.into_iter().map(|(_, job)| job).collect(),
            waiting: VecDeque::new(),
            seats: (0..batch.slots()).map(|_| None).collect(),
            prefilled: None,
        };
        for &index in pending {
            window.report(index, done, sink);
        }
        while !sink.stopped() {
            window.take_seats(self, &mut batch)?;
            if window.waiting.is_empty() && window.has_free_seat() && !window.jobs.is_empty() {
                if let Some(group) = window.prefill(self)? {
                    window.report(group, done, sink);
                }
                continue;
            }
            let Some(smaller) = window.shrink(self, batch)? else { break };
            batch = smaller;
            for group in window.step(self, &mut batch)? {
                window.report(group, done, sink);
            }
        }
        Ok(true)
    }

    /// What fits into the budget of this window; `None` if there is no room for two sequences and a prompt that is prefilled.
    fn room(&self, groups: &[ImageGroup<'_>], prompts: &[Prompts]) -> Option<Room> {
        let (mut capacity, mut longest_prompt, mut all, mut questions) = (0, 0, 0, 0);
        for (group, prompts) in groups.iter().zip(prompts) {
            let mut together = prompts.prefix;
            for (request, rows) in &prompts.rows {
                let new = group.requests.get(*request).map_or(1, |request| request.max_new_tokens);
                // The last token is not fed to the model.
                capacity = capacity.max(rows.len().saturating_add(new));
                longest_prompt = longest_prompt.max(rows.len());
                together += rows.len() - prompts.prefix;
                questions += 1;
            }
            all = all.max(together);
        }
        let prefill_tokens = all.min(longest_prompt.max(self.limits.cache_tokens / 4)).min(self.model.stage().maximum_positions);
        let slots = self.limits.cache_tokens.saturating_sub(prefill_tokens) / capacity.max(1);
        let slots = slots.min(self.limits.slots);
        let needed = questions.clamp(1, 2);
        (slots >= needed).then_some(Room { prefill_tokens, capacity, slots: slots.min(questions.max(1)) })
    }
}

/// Tokens and slots that a window may use.
struct Room {
    /// Of the cache in which prompts are prefilled.
    prefill_tokens: usize,
    /// Of each slot.
    capacity: usize,
    slots: usize,
}

impl<'a> Window<'a, '_> {
    fn has_free_seat(&self) -> bool {
        self.seats.iter().any(Option::is_none)
    }

    /// Tells a group's answers once it has all of them.
    fn report(&mut self, group: usize, done: &mut Vec<usize>, sink: &mut dyn WindowSink) {
        let Some(work) = self.works.get_mut(group) else { return };
        if done.contains(&group) || work.answers.iter().any(Option::is_none) {
            return;
        }
        let answers = std::mem::take(&mut work.answers).into_iter().flatten().collect();
        done.push(group);
        sink.finished(group, GroupAnswer { answers, timings: work.timings });
    }

    fn answer(&mut self, group: usize, request: usize, outcome: Outcome) {
        if let Some(slot) = self.works.get_mut(group).and_then(|work| work.answers.get_mut(request)) {
            *slot = Some(outcome);
        }
    }

    /// Gives free slots to questions that wait for one.
    fn take_seats(&mut self, engine: &mut OrtEngine, batch: &mut SlotBatch) -> Result<(), EngineError> {
        for (slot, seat) in self.seats.iter_mut().enumerate() {
            if seat.is_some() {
                continue;
            }
            let Some(mut question) = self.waiting.pop_front() else { break };
            let started = Instant::now();
            question.length = batch.take_rows(&mut engine.model, slot, &question.growing.visible)?;
            if let Some(work) = self.works.get_mut(question.group) {
                work.timings.decode_ms += milliseconds(started);
            }
            *seat = Some(question);
        }
        Ok(())
    }

    /// Prefills the next questions, with their image first if it is not encoded yet, and gives their group.
    fn prefill(&mut self, engine: &mut OrtEngine) -> Result<Option<usize>, EngineError> {
        let Some(job) = self.jobs.pop_front() else { return Ok(None) };
        let (prompts, groups): (&'a [Prompts], _) = (self.prompts, self.groups);
        let (Some(prompts), Some(group), Some(work)) =
            (prompts.get(job.group), groups.get(job.group), self.works.get_mut(job.group))
        else {
            return Ok(None);
        };
        let started = *work.started.get_or_insert_with(Instant::now);
        if work.encoded.is_empty() {
            let rows = prompts.rows.iter().flat_map(|(_, rows)| rows);
            let wanted = rows.filter_map(|row| if let Row::Image { image, row: 0 } = row { Some(*image) } else { None });
            work.encoded = engine.encode(group.images, &prompts.layouts, wanted.collect(), false, &mut work.timings)?;
        }
        let mut tree = Tree::new(&mut engine.model, &engine.embedding, &work.encoded, started, &mut work.timings);
        if self.prefilled == Some(job.group) {
            tree.prefix = prompts.prefix;
        } else if let (true, Some((_, rows))) = (prompts.prefix > 0, prompts.rows.first()) {
            tree.prefill_prefix(rows.get(..prompts.prefix).unwrap_or_default())?;
        }
        let mut members: Vec<Member<'a>> = Vec::with_capacity(job.members.len());
        for demand in &job.members {
            let rows = prompts.rows.iter().find(|(request, _)| *request == demand.request);
            if let (Some((request, rows)), Some(asked)) = (rows, group.requests.get(demand.request)) {
                let suffix = rows.get(prompts.prefix..).unwrap_or_default();
                members.push(Member { request: *request, suffix, max_new_tokens: asked.max_new_tokens, stop: asked.stop });
            }
        }
        let prefilled = tree.prefill_pack(&members)?;
        self.prefilled = Some(job.group);
        work.packs_left = work.packs_left.saturating_sub(1);
        match prefilled {
            Ok(growing) => {
                if work.packs_left == 0 {
                    work.encoded.clear();
                }
                for growing in growing {
                    if growing.stop_reason.is_some() {
                        self.answer(job.group, growing.member.request, Ok(growing.finish()));
                    } else {
                        self.waiting.push_back(Question { group: job.group, growing, length: 0 });
                    }
                }
            }
            // A NaN spreads to every row of its run: each question again, alone, as in the packed tree.
            Err(NotFinite { step }) => match job.members.as_slice() {
                [demand] => self.answer(job.group, demand.request, Err(RequestFailure::NonFiniteLogits { step })),
                several => {
                    work.packs_left += several.len();
                    for demand in several.iter().rev() {
                        self.jobs.push_front(Job { group: job.group, members: vec![*demand] });
                    }
                }
            },
        }
        Ok(Some(job.group))
    }

    /// Halves the batch as often as its questions allow when none can join any more; `None` when none is left.
    fn shrink(&mut self, engine: &mut OrtEngine, batch: SlotBatch) -> Result<Option<SlotBatch>, EngineError> {
        let taken = self.seats.iter().flatten().count();
        if taken == 0 {
            return Ok(None);
        }
        if !self.jobs.is_empty() || !self.waiting.is_empty() || 2 * taken > batch.slots() {
            return Ok(Some(batch));
        }
        let kept: Vec<SlotToken> = self.tokens().map(|(token, _)| token).collect();
        self.seats.retain(Option::is_some);
        batch.shrunk(&mut engine.model, &kept).map(Some)
    }

    /// The questions that decode, with their slots.
    fn tokens(&self) -> impl Iterator<Item = (SlotToken, &Question<'a>)> {
        let seats = self.seats.iter().enumerate();
        seats.filter_map(|(slot, seat)| seat.as_ref().map(|seat| (SlotToken { slot, length: seat.length }, seat)))
    }

    /// One token for each question in a slot; gives the groups of which a question has finished.
    fn step(&mut self, engine: &mut OrtEngine, batch: &mut SlotBatch) -> Result<Vec<usize>, EngineError> {
        let started = Instant::now();
        let (tokens, newest): (Vec<SlotToken>, Vec<u32>) =
            self.tokens().map(|(token, question)| (token, question.growing.token_ids.last().copied().unwrap_or(0))).unzip();
        let table: &EmbeddingTable = &engine.embedding;
        let mut write =
            |index: usize, target: &mut [f32]| embed(table, &[], Row::Token(newest.get(index).copied().unwrap_or(0)), target);
        let logits = batch.step(&mut engine.model, &tokens, &mut write)?;
        let choices: Vec<_> = logits.map(sampling::greedy).collect();
        let share_ms = milliseconds(started) / tokens.len().max(1) as f64;
        let (mut finished, mut stepped) = (Vec::new(), Vec::new());
        for (token, choice) in tokens.iter().zip(choices) {
            let Some(seat) = self.seats.get_mut(token.slot) else { continue };
            let Some(question) = seat.as_mut() else { continue };
            let group = question.group;
            let Some(work) = self.works.get_mut(group) else { continue };
            work.timings.decode_ms += share_ms;
            if !stepped.contains(&group) {
                stepped.push(group);
                work.timings.decode_steps += 1;
            }
            question.length += 1;
            let request = question.growing.member.request;
            let outcome = match choice {
                Some(choice) => {
                    question.growing.push(choice, work.started.map_or(0.0, milliseconds));
                    if question.growing.stop_reason.is_none() {
                        continue;
                    }
                    match seat.take() {
                        Some(question) => Ok(question.growing.finish()),
                        None => continue,
                    }
                }
                None => {
                    let step = question.growing.token_ids.len();
                    *seat = None;
                    Err(RequestFailure::NonFiniteLogits { step })
                }
            };
            self.answer(group, request, outcome);
            if !finished.contains(&group) {
                finished.push(group);
            }
        }
        Ok(finished)
    }
}
