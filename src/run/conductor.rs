//! The loop: images ahead on rayon, the engine in the middle, scoring and storing behind it on a thread of their own.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::error::RunError;
use super::images::PreparedImages;
use super::loader::{self, LoadedGroup};
use super::meter::{Between, Meter};
use super::plan::{Plan, PlannedGroup};
use super::record::{self, GroupFacts, PreparedChoices, PreparedPrompt};
use super::stop::SampleStop;
use crate::benchmark::{Answering, Benchmark, IMAGE_MARK, Sample};
use crate::engine::{
    ChoiceGroup, ChoiceRequest, Engine, EngineError, Generation, ImageGroup, ImageTiles, Likelihoods, Request, RequestFailure,
    Segment, StageTimings, StopReason, StopRule,
};
use crate::package::Manifest;
use crate::prompt::{Finish, Piece, PromptError, Prompter, Turn};
use crate::store::{RunWriter, SampleRecord};

/// What a run has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProgressUpdate {
    /// Samples with a record, earlier attempts included.
    pub recorded: usize,
    /// Samples planned.
    pub planned: usize,
    /// Sum of the headline scores of the answered samples.
    pub score_sum: f64,
    /// Answered samples.
    pub answered: usize,
    /// Samples without an answer.
    pub failed: usize,
}

/// Told after each stored group. Called from the storing thread.
pub trait Progress: Send {
    /// One more group is stored.
    fn update(&mut self, update: &ProgressUpdate);

    /// The records that the next update counts in: first those of earlier attempts, then each stored group's.
    fn records(&mut self, _new: &[SampleRecord]) {}

    /// Something about how the run goes on that its user should know.
    fn note(&mut self, _text: &str) {}

    /// So many texts of a CLIP run are embedded, which comes before its first group.
    fn texts(&mut self, _done: usize, _total: usize) {}
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every planned sample has a record.
    Complete,
    /// The stop signal came; everything finished so far is stored.
    Interrupted,
}

/// A run of one package on one benchmark.
pub struct Conductor<'a> {
    /// The benchmark.
    pub benchmark: &'a Benchmark,
    /// What is asked.
    pub plan: &'a Plan,
    /// The package's prompt side.
    pub prompter: &'a Prompter,
    /// The package's manifest: how images are prepared, and how many rows they take.
    pub manifest: &'a Manifest,
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
    /// How answers are had.
    pub answering: Answering,
    /// Set from a signal handler to end the run after the group in work, or the step where groups decode together.
    pub stop: &'a AtomicBool,
}

/// What goes from the engine to the store.
pub(super) enum Behind<'a> {
    Group(FinishedGroup<'a>),
    Note(String),
}

/// A group on its way from the engine to the store.
pub(super) struct FinishedGroup<'a> {
    pub group: &'a PlannedGroup,
    pub prompts: Vec<Result<PreparedPrompt, String>>,
    /// Answers of the samples whose prompt is `Ok`, in order; or why there are none.
    pub answer: Result<Answers, String>,
    pub image_ms: f64,
    pub between: Between,
}

/// What the engine said to a group.
#[derive(Default)]
pub(super) struct Answers {
    /// In the order of the prompts.
    pub samples: Vec<Result<SampleAnswer, RequestFailure>>,
    pub timings: StageTimings,
}

/// What the engine said to one sample.
pub(super) enum SampleAnswer {
    Generated(Generation),
    Ranked(PreparedChoices, Likelihoods),
}

/// A sample as it is given to the engine.
pub(super) enum Asked<'a> {
    /// To be answered in the model's own words, until then.
    Generate(Vec<Segment>, SampleStop<'a>),
    /// To be answered by the most likely candidate.
    Rank(ChoiceRequest, PreparedChoices),
}

/// The questions of a group: for its records and for the engine.
pub(super) struct Questions<'a> {
    /// One of each sample: its prompt, or why there is none.
    pub prompts: Vec<Result<PreparedPrompt, String>>,
    /// Of the samples whose prompt is `Ok`, in order.
    pub asked: Vec<Asked<'a>>,
}

/// How asking a window ended.
pub(super) enum Asking {
    /// With all answers.
    Answered,
    /// The stop signal came before.
    Stopped,
    /// Nobody stores answers any more.
    Closed,
}

/// Groups that may wait for scoring and storing.
const GROUPS_BEHIND: usize = 8;

impl Conductor<'_> {
    /// Runs what is still outstanding. `recovered` are the records that an earlier attempt left in the log of `writer`.
    ///
    /// A group that is recorded in part is asked again as a whole, because the shape of a packed run decides the last
    /// bits of its logits, and only its missing records are written: a continued run ends like an uninterrupted one. For the
    /// same reason a window whose groups decode together is asked again as a whole.
    pub fn run(
        &self,
        engine: &mut dyn Engine,
        writer: &mut RunWriter,
        recovered: &[SampleRecord],
        progress: &mut dyn Progress,
    ) -> Result<Outcome, RunError> {
        let planned = self.plan.samples();
        if planned == 0 {
            return Err(RunError::NothingSelected { benchmark: self.benchmark.spec.name.clone() });
        }
        let mut state = ProgressUpdate { planned, ..Default::default() };
        recovered.iter().for_each(|record| count(&mut state, record));
        let recorded: HashSet<String> = recovered.iter().map(|record| record.key.clone()).collect();
        // Given answers are ranked group by group.
        let window_groups = if self.answering == Answering::Generate { engine.window_groups() } else { 1 };
        let windows: Vec<&[PlannedGroup]> =
            self.plan.outstanding_windows(&self.benchmark.samples, &recorded, window_groups).collect();
        progress.records(recovered);
        progress.update(&state);

        std::thread::scope(|scope| {
            let groups = windows.iter().copied().flatten().collect();
            let images = loader::load_ahead(scope, groups, self.manifest, |group, images| self.questions(group, images));
            let (sender, receiver) = sync_channel::<Behind<'_>>(GROUPS_BEHIND);
            let storing = scope.spawn(|| self.store_behind(receiver, writer, &recorded, &mut state, progress));

            let mut outcome = Ok(Outcome::Complete);
            let mut meter = Meter::start();
            for window in windows {
                if self.stop.load(Ordering::Relaxed) {
                    outcome = Ok(Outcome::Interrupted);
                    break;
                }
                let asked = match window {
                    [group] if window_groups == 1 => self.ask_alone(engine, group, (&images, &sender), &mut meter),
                    _ => self.ask_window(engine, window, (&images, &sender), &mut meter),
                };
                let mut told = true;
                for note in engine.take_notes() {
                    told &= sender.send(Behind::Note(note)).is_ok();
                }
                match asked {
                    Ok(Asking::Answered) if told => {}
                    // The storing thread has ended with an error, which the join below returns.
                    Ok(Asking::Answered | Asking::Closed) => break,
                    Ok(Asking::Stopped) => {
                        outcome = Ok(Outcome::Interrupted);
                        break;
                    }
                    Err(error) => {
                        outcome = Err(error);
                        break;
                    }
                }
            }
            // Both threads see their channel close and end: the loader at its next send, the storing one when drained.
            drop(images);
            drop(sender);
            let stored = storing.join().map_err(|_| RunError::Thread("storing"))?;
            stored.and(outcome)
        })
    }

    /// One group by itself, from its images to the store.
    fn ask_alone<'g>(
        &self,
        engine: &mut dyn Engine,
        group: &'g PlannedGroup,
        (images, sender): (&Receiver<LoadedGroup<'_>>, &SyncSender<Behind<'g>>),
        meter: &mut Meter,
    ) -> Result<Asking, RunError> {
        let loaded = meter.wait(|| images.recv()).map_err(|_| RunError::Thread("image loading"))?;
        let finished = self.ask(engine, group, loaded, meter)?;
        Ok(if sender.send(Behind::Group(finished)).is_ok() { Asking::Answered } else { Asking::Closed })
    }

    /// Prompts, images and engine for one group. Errors of the engine that concern the whole group end the run, since a
    /// broken graph would fail every later group too.
    fn ask<'g>(
        &self,
        engine: &mut dyn Engine,
        group: &'g PlannedGroup,
        loaded: LoadedGroup<'_>,
        meter: &mut Meter,
    ) -> Result<FinishedGroup<'g>, RunError> {
        let Questions { prompts, asked } = loaded.questions;
        let between = meter.engine_begins();
        let answer = match loaded.images {
            Err(message) => Err(message),
            Ok(prepared) => Ok(self.answer(engine, &prepared.images, asked)?),
        };
        meter.engine_ends();
        Ok(FinishedGroup { group, prompts, answer, image_ms: loaded.image_ms, between })
    }

    /// The questions of a group about these images.
    fn questions(&self, group: &PlannedGroup, images: &Result<PreparedImages, String>) -> Questions<'_> {
        // The prompt of an image that could not be read is recorded too; its rows are not known, one tile's stand for them.
        let rows = match images {
            Ok(images) => images.rows.clone(),
            Err(_) => vec![self.manifest.vision.tokens_per_image; group.images.len()],
        };
        let mut asked = Vec::with_capacity(group.samples.len());
        let mut prompts = Vec::with_capacity(group.samples.len());
        for &index in &group.samples {
            let sample = &self.benchmark.samples[index];
            match self.prepare(sample, &rows) {
                Ok((prepared, one)) => {
                    asked.push(one);
                    prompts.push(Ok(prepared));
                }
                Err(error) => prompts.push(Err(error)),
            }
        }
        Questions { prompts, asked }
    }

    /// Asks the engine: at most once for what is generated and once for what is ranked. A group that has both encodes its
    /// images twice, and the time of both counts.
    fn answer(&self, engine: &mut dyn Engine, images: &[ImageTiles], asked: Vec<Asked<'_>>) -> Result<Answers, EngineError> {
        let (mut asks, mut ranked, mut choices) = (Vec::new(), Vec::new(), Vec::new());
        // Which of the two lists each sample is in.
        let mut is_ranked = Vec::with_capacity(asked.len());
        for one in asked {
            is_ranked.push(matches!(one, Asked::Rank(..)));
            match one {
                Asked::Generate(segments, stop) => asks.push((segments, stop)),
                Asked::Rank(request, prepared) => {
                    ranked.push(request);
                    choices.push(prepared);
                }
            }
        }
        let (prompts, stops): (Vec<_>, Vec<_>) = asks.into_iter().unzip();
        let request = |(segments, stop)| Request { segments, max_new_tokens: self.max_new_tokens, stop };
        let requests: Vec<Request<'_>> =
            prompts.into_iter().zip(stops.iter().map(|stop| stop as &dyn StopRule)).map(request).collect();
        let mut timings = StageTimings::default();
        let mut generated = Vec::new().into_iter();
        if !requests.is_empty() {
            let answer = engine.answer(&ImageGroup { images, requests: &requests })?;
            timings = answer.timings;
            generated = answer.answers.into_iter();
        }
        let mut likelihoods = Vec::new().into_iter();
        if !ranked.is_empty() {
            let answer = engine.likelihoods(&ChoiceGroup { images, requests: &ranked })?;
            timings = timings.plus(&answer.timings);
            likelihoods = answer.answers.into_iter();
        }
        let mut choices = choices.into_iter();
        let next = |ranked| -> Option<Result<SampleAnswer, RequestFailure>> {
            if ranked {
                let (choices, likelihoods) = (choices.next()?, likelihoods.next()?);
                return Some(likelihoods.map(|likelihoods| SampleAnswer::Ranked(choices, likelihoods)));
            }
            Some(generated.next()?.map(SampleAnswer::Generated))
        };
        Ok(Answers { samples: is_ranked.into_iter().map_while(next).collect(), timings })
    }

    /// Renders and tokenises a prompt with images of so many rows, and the candidates of its answer if it is ranked.
    fn prepare<'s>(&'s self, sample: &'s Sample, rows: &[usize]) -> Result<(PreparedPrompt, Asked<'s>), String> {
        let turns = turns(self.prompter, sample).map_err(|error| error.to_string())?;
        let text = self.prompter.render_conversation(&turns).map_err(|error| error.to_string())?;
        let length = |segments: &[Segment]| -> usize {
            let rows_of = |segment: &Segment| match segment {
                Segment::Tokens(ids) => ids.len(),
                Segment::Image(image) => rows.get(*image).copied().unwrap_or(0),
            };
            segments.iter().map(rows_of).sum()
        };
        let yes_no = self.benchmark.spec.scorer.rule.yes_no_words();
        let candidates = self.answering.candidates(&sample.reference, yes_no)?;
        let (Answering::Likelihood(rule), Some(texts)) = (self.answering, candidates) else {
            let tokenized = self.prompter.tokenize(&text).map_err(|error| error.to_string())?;
            let segments = segments(&tokenized.pieces);
            let decided_by = self.benchmark.spec.stop_when_decided.then_some((&self.benchmark.spec.scorer, &sample.reference));
            let stop = SampleStop { prompter: self.prompter, decided_by };
            return Ok((PreparedPrompt { text, tokens: length(&segments) }, Asked::Generate(segments, stop)));
        };
        let made = self.prompter.continuations(&turns, &text, &texts, rule.end_of_sequence).map_err(|error| error.to_string())?;
        let segments = segments(&made.prompt.pieces);
        let tokens = length(&segments);
        let request = ChoiceRequest { segments, candidates: made.candidates.clone() };
        let choices = PreparedChoices { texts, token_ids: made.candidates, normalise: rule.normalise };
        Ok((PreparedPrompt { text, tokens }, Asked::Rank(request, choices)))
    }

    fn store_behind(
        &self,
        groups: Receiver<Behind<'_>>,
        writer: &mut RunWriter,
        recorded: &HashSet<String>,
        state: &mut ProgressUpdate,
        progress: &mut dyn Progress,
    ) -> Result<(), RunError> {
        for behind in groups {
            let finished = match behind {
                Behind::Group(finished) => finished,
                Behind::Note(text) => {
                    progress.note(&text);
                    continue;
                }
            };
            let mut records = self.records(&finished);
            records.retain(|record| !recorded.contains(&record.key));
            writer.append(&records)?;
            records.iter().for_each(|record| count(state, record));
            progress.records(&records);
            progress.update(state);
        }
        Ok(())
    }

    fn records(&self, finished: &FinishedGroup<'_>) -> Vec<SampleRecord> {
        let timings = finished.answer.as_ref().map(|answer| answer.timings).unwrap_or_default();
        let facts = GroupFacts::new(finished.group.samples.len(), finished.image_ms, &timings).between(finished.between);
        let mut answers = finished.answer.as_ref().map(|answer| answer.samples.as_slice()).unwrap_or_default().iter();
        let no_prompt = PreparedPrompt { text: String::new(), tokens: 0 };
        let mut records = Vec::with_capacity(finished.group.samples.len());
        for (&index, prompt) in finished.group.samples.iter().zip(&finished.prompts) {
            let sample = &self.benchmark.samples[index];
            let fail = |prompt, kind: &str, message| record::failed(self.benchmark, sample, prompt, &facts, kind, message);
            records.push(match (prompt, &finished.answer) {
                (Err(message), _) => fail(&no_prompt, "prompt", message.clone()),
                (Ok(prompt), Err(message)) => fail(prompt, "image", message.clone()),
                (Ok(prompt), Ok(_)) => match answers.next() {
                    Some(Ok(SampleAnswer::Generated(generation))) => {
                        record::answered(self.benchmark, sample, prompt, &facts, self.prompter, generation)
                    }
                    Some(Ok(SampleAnswer::Ranked(choices, likelihoods))) => {
                        record::chosen(self.benchmark, sample, prompt, &facts, choices, likelihoods)
                    }
                    Some(Err(failure)) => fail(prompt, failure.kind(), failure.to_string()),
                    None => fail(prompt, "engine", "the engine returned fewer answers than questions".to_owned()),
                },
            });
        }
        records
    }
}

pub(super) fn count(state: &mut ProgressUpdate, record: &SampleRecord) {
    state.recorded += 1;
    match record.score {
        Some(score) => {
            state.answered += 1;
            state.score_sum += score;
        }
        None if record.failure.is_some() => state.failed += 1,
        None => {}
    }
}

/// The turns of a sample: the earlier ones, then its question.
fn turns(prompter: &Prompter, sample: &Sample) -> Result<Vec<Turn>, PromptError> {
    let conversation = &sample.conversation;
    let mut first_images = sample.images.len();
    let mut question = |text: &str| {
        if conversation.images_at_marks {
            return prompter.user_turn(text, text.matches(IMAGE_MARK).count());
        }
        Ok(Turn::user(text, std::mem::take(&mut first_images)))
    };
    let mut turns = Vec::with_capacity(2 * conversation.earlier.len() + 1);
    for exchange in &conversation.earlier {
        turns.push(question(&exchange.question)?);
        turns.push(Turn::assistant(&exchange.answer));
    }
    turns.push(question(&sample.prompt)?);
    Ok(turns)
}

/// A sample's prompt, rendered and tokenised as a run does it.
pub fn sample_segments(prompter: &Prompter, sample: &Sample) -> Result<Vec<Segment>, PromptError> {
    let text = prompter.render_conversation(&turns(prompter, sample)?)?;
    Ok(segments(&prompter.tokenize(&text)?.pieces))
}

/// Pieces of a prompt as the engine wants them.
pub fn segments(pieces: &[Piece]) -> Vec<Segment> {
    pieces
        .iter()
        .map(|piece| match piece {
            Piece::Tokens(ids) => Segment::Tokens(ids.clone()),
            Piece::Image(index) => Segment::Image(*index),
        })
        .collect()
}

/// The package's own stop rules, as the engine asks for them.
pub struct PrompterStop<'a> {
    /// Where the rules are.
    pub prompter: &'a Prompter,
}

impl StopRule for PrompterStop<'_> {
    fn check(&self, token_ids: &[u32]) -> Option<StopReason> {
        match self.prompter.finished(token_ids) {
            Finish::Eos => Some(StopReason::EndOfSequence),
            Finish::StopString => Some(StopReason::StopString),
            Finish::No => None,
        }
    }
}
