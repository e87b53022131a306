//! Windows of groups that an engine answers together: prepared together, and stored one by one as they finish.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use super::conductor::{Answers, Asked, Asking, Behind, Conductor, FinishedGroup, PrompterStop, SampleAnswer};
use super::error::RunError;
use super::images::PreparedImages;
use super::loader::LoadedGroup;
use super::plan::PlannedGroup;
use super::record::PreparedPrompt;
use crate::engine::{Engine, GroupAnswer, ImageGroup, Request, WindowSink};

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
    closed: bool,
}

impl WindowSink for Sink<'_, '_> {
    fn finished(&mut self, index: usize, answer: GroupAnswer) {
        let Some(Waiting { group, prompts, image_ms }) = self.waiting.get_mut(index).and_then(Option::take) else { return };
        let samples = answer.answers.into_iter().map(|answer| answer.map(SampleAnswer::Generated)).collect();
        let answer = Ok(Answers { samples, timings: answer.timings });
        self.closed |= self.sender.send(Behind::Group(FinishedGroup { group, prompts, answer, image_ms })).is_err();
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
    ) -> Result<Asking, RunError> {
        let stop = PrompterStop { prompter: self.prompter };
        let mut waiting = Vec::with_capacity(window.len());
        let mut prepared: Vec<(PreparedImages, Vec<Request<'_>>)> = Vec::with_capacity(window.len());
        for group in window {
            let loaded = images.recv().map_err(|_| RunError::Thread("image loading"))?;
            let (prompts, asked) = self.prompts(group, &loaded);
            let image_ms = loaded.image_ms;
            let mut requests = Vec::with_capacity(asked.len());
            for one in asked {
                if let Asked::Generate(segments) = one {
                    requests.push(Request { segments, max_new_tokens: self.max_new_tokens, stop: &stop });
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
            if sender.send(Behind::Group(FinishedGroup { group, prompts, answer, image_ms })).is_err() {
                return Ok(Asking::Closed);
            }
        }
        let groups: Vec<ImageGroup<'_>> =
            prepared.iter().map(|(images, requests)| ImageGroup { images: &images.images, requests }).collect();
        let mut sink = Sink { waiting, sender, stop: self.stop, closed: false };
        engine.answer_window(&groups, &mut sink)?;
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
