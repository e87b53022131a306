//! The engine of a package, whoever wrote it.

use super::foreign::ForeignEngine;
use super::options::EngineOptions;
use super::ort_engine::{OrtEngine, Trace};
use super::placement::GraphPlacement;
use super::runtime::RuntimeInfo;
use super::schedule::{MemoryNeed, RunShape, Schedule};
use super::types::{
    ChoiceGroup, Engine, EngineError, GroupAnswer, ImageGroup, ImageTiles, LikelihoodAnswer, Request, WindowSink,
};
use crate::package::Package;

/// A loaded package: one of our own graphs, or one that another program wrote.
pub struct LoadedEngine(Kind);

enum Kind {
    Own(Box<OrtEngine>),
    Foreign(Box<ForeignEngine>),
}

impl LoadedEngine {
    /// Loads a package, with ONNX Runtime loaded first if it is not yet.
    pub fn load(package: &Package, options: &EngineOptions) -> Result<Self, EngineError> {
        Ok(Self(match &package.manifest.foreign {
            None => Kind::Own(Box::new(OrtEngine::load(package, options)?)),
            Some(foreign) => Kind::Foreign(Box::new(ForeignEngine::load(package, foreign, options)?)),
        }))
    }

    /// The engine of our own graphs; `None` for a package that another program wrote.
    pub fn own(&mut self) -> Option<&mut OrtEngine> {
        match &mut self.0 {
            Kind::Own(engine) => Some(engine),
            Kind::Foreign(_) => None,
        }
    }

    /// How questions share work, as run records name it, and why; there is nothing to explain where it is what was asked for.
    pub fn scheduling(&self) -> (&'static str, Option<&str>) {
        match &self.0 {
            Kind::Own(engine) => (engine.options().scheduling.as_str(), engine.scheduling_reason()),
            Kind::Foreign(engine) => {
                let (scheme, reason) = engine.scheme();
                (scheme.as_str(), Some(reason))
            }
        }
    }

    /// From now on runs questions as scheduled. A package that another program wrote keeps its own way.
    pub fn set_schedule(&mut self, schedule: &Schedule) {
        match &mut self.0 {
            Kind::Own(engine) => engine.set_schedule(schedule),
            Kind::Foreign(_) => {}
        }
    }

    /// Why several sequences cannot decode at once, if they cannot; `None` for a package that another program wrote, which is not
    /// scheduled by us.
    pub fn no_batches(&self) -> Option<Option<&str>> {
        match &self.0 {
            Kind::Own(engine) => Some(engine.no_batches()),
            Kind::Foreign(_) => None,
        }
    }

    /// What a run of this shape, scheduled so, will need beside the weights; of a package that another program wrote
    /// it is not known.
    pub fn memory_need(&self, schedule: &Schedule, shape: &RunShape) -> Option<MemoryNeed> {
        match &self.0 {
            Kind::Own(engine) => Some(schedule.memory(shape, engine.language_model(), engine.options().max_packed_tokens)),
            Kind::Foreign(_) => None,
        }
    }

    /// What runs the nodes of each graph.
    pub fn placement(&self) -> Vec<GraphPlacement> {
        match &self.0 {
            Kind::Own(engine) => engine.placement(),
            Kind::Foreign(engine) => engine.placement(),
        }
    }

    /// The library in use.
    pub fn runtime(&self) -> &RuntimeInfo {
        match &self.0 {
            Kind::Own(engine) => engine.runtime(),
            Kind::Foreign(engine) => engine.runtime(),
        }
    }

    /// The settings in use.
    pub fn options(&self) -> &EngineOptions {
        match &self.0 {
            Kind::Own(engine) => engine.options(),
            Kind::Foreign(engine) => engine.options(),
        }
    }

    /// Milliseconds that loading took, the runtime included if this engine was the first, and the self-check of a package
    /// that another program wrote.
    pub fn load_ms(&self) -> f64 {
        match &self.0 {
            Kind::Own(engine) => engine.load_ms(),
            Kind::Foreign(engine) => engine.load_ms(),
        }
    }

    /// [`OrtEngine::trace_single`]; `features` is empty where the projector is inside the vision graph.
    pub fn trace_single(
        &mut self,
        images: &[ImageTiles],
        request: &Request<'_>,
        forced: Option<&[u32]>,
    ) -> Result<Trace, EngineError> {
        match &mut self.0 {
            Kind::Own(engine) => engine.trace_single(images, request, forced),
            Kind::Foreign(engine) => engine.trace_single(images, request, forced),
        }
    }
}

impl Engine for LoadedEngine {
    fn answer(&mut self, group: &ImageGroup<'_>) -> Result<GroupAnswer, EngineError> {
        match &mut self.0 {
            Kind::Own(engine) => engine.answer(group),
            Kind::Foreign(engine) => engine.answer(group),
        }
    }

    fn answer_window(&mut self, groups: &[ImageGroup<'_>], sink: &mut dyn WindowSink) -> Result<(), EngineError> {
        match &mut self.0 {
            Kind::Own(engine) => engine.answer_window(groups, sink),
            Kind::Foreign(engine) => {
                for (index, group) in groups.iter().enumerate() {
                    if sink.stopped() {
                        break;
                    }
                    let answer = engine.answer(group)?;
                    sink.finished(index, answer);
                }
                Ok(())
            }
        }
    }

    fn window_groups(&self) -> usize {
        match &self.0 {
            Kind::Own(engine) => engine.window_groups(),
            Kind::Foreign(_) => 1,
        }
    }

    fn take_notes(&mut self) -> Vec<String> {
        match &mut self.0 {
            Kind::Own(engine) => engine.take_notes(),
            Kind::Foreign(_) => Vec::new(),
        }
    }

    fn likelihoods(&mut self, group: &ChoiceGroup<'_>) -> Result<LikelihoodAnswer, EngineError> {
        match &mut self.0 {
            Kind::Own(engine) => engine.likelihoods(group),
            Kind::Foreign(engine) => engine.likelihoods(group),
        }
    }
}
