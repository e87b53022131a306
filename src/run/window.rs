//! Windows of groups that an engine answers together: prepared together, and stored one by one as they finish.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use super::conductor::{Answers, Asked, Asking, Behind, Conductor, FinishedGroup, Questions, SampleAnswer};
use super::error::RunError;
use super::images::PreparedImages;
use super::loader::LoadedGroup;
use super::meter::{Between, Meter};
use super::plan::PlannedGroup;
use super::record::PreparedPrompt;
use super::stop::SampleStop;
use crate::engine::{Engine, GroupAnswer, ImageGroup, Request, Segment, WindowSink};

/// A group that the engine is answering.
struct Waiting<'g> {
    group: &'g PlannedGroup,
    prompts: Vec<Result<PreparedPrompt, String>>,
    image_ms: f64,
}

/// Takes the engine's answers and hands them on to the store.
struct Sink<'s, 'g> {
    waiting: Vec<Option<Waiting<'g>>>,
    sender: &'s SyncSender<Behind<'g>>,
    stop: &'s AtomicBool,
    between: Between,
    closed: bool,
}

impl WindowSink for Sink<'_, '_> {
    fn finished(&mut self, index: usize, answer: GroupAnswer) {
        let Some(Waiting { group, prompts, image_ms }) = self.waiting.get_mut(index).and_then(Option::take) else { return };
        let samples = answer.answers.into_iter().map(|answer| answer.map(SampleAnswer::Generated)).collect();
        let answer = Ok(Answers { samples, timings: answer.timings });
        self.closed |=
            self.sender.send(Behind::Group(FinishedGroup { group, prompts, answer, image_ms, between: self.between })).is_err();
    }

    fn stopped(&self) -> bool {
        self.closed || self.stop.load(Ordering::Relaxed)
    }
}

impl Conductor<'_> {
    /// Asks the questions of a window, all of which are generated. Groups without a question for the engine, because their
    /// images or prompts are broken, are stored first.
    pub(super) fn ask_window<'g>(
        &self,
        engine: &mut dyn Engine,
        window: &'g [PlannedGroup],
        (images, sender): (&Receiver<LoadedGroup<'_>>, &SyncSender<Behind<'g>>),
        meter: &mut Meter,
    ) -> Result<Asking, RunError> {
        let mut waiting = Vec::with_capacity(window.len());
        let mut broken = Vec::new();
        let mut prepared: Vec<(PreparedImages, Vec<Vec<Segment>>, Vec<SampleStop<'_>>)> = Vec::with_capacity(window.len());
        for group in window {
            let loaded = meter.wait(|| images.recv()).map_err(|_| RunError::Thread("image loading"))?;
            let Questions { prompts, asked } = loaded.questions;
            let image_ms = loaded.image_ms;
            let asked = asked.into_iter().filter_map(|one| match one {
                Asked::Generate(segments, stop) => Some((segments, stop)),
                Asked::Rank(..) => None,
            });
            let (segments, stops): (Vec<_>, Vec<_>) = asked.unzip();
            let waits = Waiting { group, prompts, image_ms };
            match loaded.images {
                Ok(images) if !segments.is_empty() => {
                    waiting.push(Some(waits));
                    prepared.push((images, segments, stops));
                }
                Ok(_) => broken.push((waits, Ok(Answers::default()))),
                Err(message) => broken.push((waits, Err(message))),
            }
        }
        let mut requests: Vec<Vec<Request<'_>>> = Vec::with_capacity(prepared.len());
        for (_, segments, stops) in &prepared {
            let mut of_group = Vec::with_capacity(segments.len());
            for (segments, stop) in segments.iter().zip(stops) {
                of_group.push(Request { segments: segments.clone(), max_new_tokens: self.max_new_tokens, stop });
            }
            requests.push(of_group);
        }
        let groups = prepared.iter().zip(&requests);
        let groups: Vec<ImageGroup<'_>> =
            groups.map(|((images, ..), requests)| ImageGroup { images: &images.images, requests }).collect();
        let between = meter.engine_begins().shared_by(window.len());
        for (Waiting { group, prompts, image_ms }, answer) in broken {
            if sender.send(Behind::Group(FinishedGroup { group, prompts, answer, image_ms, between })).is_err() {
                return Ok(Asking::Closed);
            }
        }
        let mut sink = Sink { waiting, sender, stop: self.stop, between, closed: false };
        if !groups.is_empty() {
            engine.answer_window(&groups, &mut sink)?;
        }
        meter.engine_ends();
        if sink.closed {
            return Ok(Asking::Closed);
        }
        match sink.waiting.iter().flatten().next() {
            None => Ok(Asking::Answered),
            Some(_) if self.stop.load(Ordering::Relaxed) => Ok(Asking::Stopped),
            // A group that is left without a reason would be missing from the run for good.
            Some(_) => Err(RunError::Thread("decoding")),
        }
    }
}
