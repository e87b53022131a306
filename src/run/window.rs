//! Windows of groups that an engine answers together: prepared together, and stored one by one as they finish.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use super::conductor::{Answers, Asked, Asking, Behind, Conductor, FinishedGroup, SampleAnswer};
use super::error::RunError;
use super::images::PreparedImages;
use super::loader::LoadedGroup;
use super::meter::{Between, Meter};
use super::plan::PlannedGroup;
use super::record::PreparedPrompt;
use super::stop::SampleStop;
use crate::engine::{Engine, GroupAnswer, ImageGroup, Request, Segment, StopRule, WindowSink};

/// A group that the engine is answering.
struct Waiting<'g> {
    group: &'g PlannedGroup,
    prompts: Vec<Result<PreparedPrompt, String>>,
    image_ms: f64,
}

/// Takes the engine's answers and hands them on to the store.
struct Sink<'s, 'g> {
    waiting: Vec<Option<Waiting<'g>>>,
    /// What came before the engine's work on the window, a group's equal share of it.
    between: Between,
    sender: &'s SyncSender<Behind<'g>>,
    stop: &'s AtomicBool,
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
        images: &Receiver<LoadedGroup>,
        sender: &SyncSender<Behind<'g>>,
        meter: &mut Meter,
    ) -> Result<Asking, RunError> {
        let mut waiting = Vec::with_capacity(window.len());
        let mut prepared: Vec<(PreparedImages, Vec<(Vec<Segment>, SampleStop<'_>)>)> = Vec::with_capacity(window.len());
        for group in window {
            let loaded = meter.wait(|| images.recv()).map_err(|_| RunError::Thread("image loading"))?;
            let (prompts, asked) = self.prompts(group, &loaded);
            let image_ms = loaded.image_ms;
            let mut requests = Vec::with_capacity(asked.len());
            for one in asked {
                if let Asked::Generate(segments, stop) = one {
                    requests.push((segments, stop));
                }
            }
            let answer = match loaded.images {
                Ok(images) if !requests.is_empty() => {
                    waiting.push(Some(Waiting { group, prompts, image_ms }));
                    prepared.push((images, requests));
                    continue;
                }
                Ok(_) => Ok(Answers::default()),
                Err(message) => Err(message),
            };
            let between = Between::default();
            if sender.send(Behind::Group(FinishedGroup { group, prompts, answer, image_ms, between })).is_err() {
                return Ok(Asking::Closed);
            }
        }
        let mut images_of = Vec::with_capacity(prepared.len());
        let mut stops = Vec::with_capacity(prepared.len());
        let mut segments_of = Vec::with_capacity(prepared.len());
        for (images, asked) in prepared {
            let (segments, group_stops): (Vec<Vec<Segment>>, Vec<SampleStop<'_>>) = asked.into_iter().unzip();
            images_of.push(images);
            segments_of.push(segments);
            stops.push(group_stops);
        }
        let requests: Vec<Vec<Request<'_>>> = segments_of
            .into_iter()
            .zip(&stops)
            .map(|(segments, stops)| {
                let request = |(segments, stop)| Request { segments, max_new_tokens: self.max_new_tokens, stop };
                segments.into_iter().zip(stops.iter().map(|stop| stop as &dyn StopRule)).map(request).collect()
            })
            .collect();
        let groups: Vec<ImageGroup<'_>> =
            images_of.iter().zip(&requests).map(|(images, requests)| ImageGroup { images: &images.images, requests }).collect();
        let between = meter.engine_begins().shared_by(waiting.len());
        let mut sink = Sink { waiting, between, sender, stop: self.stop, closed: false };
        engine.answer_window(&groups, &mut sink)?;
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
