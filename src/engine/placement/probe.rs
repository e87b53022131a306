//! The first runs of a package's graphs, which are measured: small ones on made-up content, as times and places do not
//! depend on it.

use ndarray::Array4;

use super::super::clip::ClipEncoder;
use super::super::options::EngineOptions;
use super::super::ort_engine::OrtEngine;
use super::super::types::EngineError;
use super::{GraphPlacement, measures};

/// Tokens of the measured prefill, which decoding goes on from.
const PREFILL_TOKENS: usize = 16;

/// Measured steps of decoding.
const DECODE_STEPS: usize = 3;

/// Times that a graph with one kind of run is run. The first does not count, as it holds what is done only once.
pub(in crate::engine) const PROBE_RUNS: usize = 3;

impl OrtEngine {
    /// Runs every graph a few times, if they are measured, and refuses the package if too little of a graph runs on the
    /// provider that was asked for.
    pub(in crate::engine) fn prove_placement(&mut self) -> Result<(), EngineError> {
        if measures(&self.options) {
            for _ in 0..PROBE_RUNS {
                self.encoder.run_empty_tile()?;
            }
            let positions = self.model.stage().maximum_positions;
            let steps = DECODE_STEPS.min(positions.saturating_sub(1));
            let tokens = vec![0; PREFILL_TOKENS.min(positions.saturating_sub(steps)).max(1)];
            for _ in 0..PROBE_RUNS {
                self.measure_fill(&tokens, steps)?;
            }
            if steps > 0 {
                self.measure_decode(tokens.len(), 1, &vec![0; steps])?;
            }
        }
        let options = &self.options;
        for graph in self.encoder.graphs_mut() {
            graph.settle(options)?;
        }
        self.model.graph_mut().settle(options)
    }

    /// What runs the nodes of each graph: the vision encoder's, the projector's and the language model's.
    pub fn placement(&self) -> Vec<GraphPlacement> {
        let [vision, projector] = self.encoder.graphs();
        [vision, projector, self.model.graph()].map(|graph| graph.placed.found().clone()).to_vec()
    }
}

impl ClipEncoder {
    /// As [`OrtEngine::prove_placement`].
    pub(in crate::engine) fn prove_placement(&mut self, options: &EngineOptions) -> Result<(), EngineError> {
        if measures(options) {
            let pixels = Array4::zeros((1, 3, self.image_size(), self.image_size()));
            for _ in 0..PROBE_RUNS {
                self.embed_images(&pixels)?;
                self.embed_texts(&[vec![0]])?;
            }
        }
        for graph in self.graphs_mut() {
            graph.settle(options)?;
        }
        Ok(())
    }

    /// What runs the nodes of both graphs.
    pub fn placement(&self) -> Vec<GraphPlacement> {
        self.graphs().map(|graph| graph.placed.found().clone()).to_vec()
    }
}
