//! Entry points for measuring a loaded package part by part, without tokenizer, sampling or scheduling; and for timing a small
//! model of one layer, by which the limits of the machine are found.

use std::time::Instant;

use ort::session::Session;
use ort::value::Tensor;

use super::options::EngineOptions;
use super::ort_engine::OrtEngine;
use super::placement::Placed;
use super::plan::{Row, write_windowed_bias};
use super::provider;
use super::runtime;
use super::session::{builder, runtime_error};
use super::tree;
use super::types::{EngineError, ImageTiles, StageTimings};
use super::vision::milliseconds;

/// Rows that fill the cache at a time before a measurement at a depth.
const FILL_ROWS: usize = 512;

impl OrtEngine {
    /// Encodes and projects one image.
    pub fn measure_image(&mut self, image: &ImageTiles) -> Result<StageTimings, EngineError> {
        let layouts = self.layouts(std::slice::from_ref(image));
        if let Some(Err(message)) = layouts.first() {
            return Err(EngineError::Request { index: 0, message: message.clone() });
        }
        let mut timings = StageTimings::default();
        drop(self.encode(std::slice::from_ref(image), &layouts, vec![0], false, &mut timings)?);
        Ok(timings)
    }

    /// Prefills `tokens` on top of nothing, with the logits of the last. Milliseconds.
    pub fn measure_prefill(&mut self, tokens: &[u32]) -> Result<f64, EngineError> {
        self.check_measured(tokens, tokens.len())?;
        self.model.reserve(tokens.len())?;
        let started = Instant::now();
        self.fill_and_run(0, tokens)?;
        Ok(milliseconds(started))
    }

    /// Puts `tokens` into the cache, so that decoding can be measured on top of them, with room for `more` rows.
    pub fn measure_fill(&mut self, tokens: &[u32], more: usize) -> Result<(), EngineError> {
        self.check_measured(tokens, tokens.len().saturating_add(more))?;
        self.model.reserve(tokens.len() + more)?;
        let mut past = 0;
        for part in tokens.chunks(FILL_ROWS) {
            self.fill_and_run(past, part)?;
            past += part.len();
        }
        Ok(())
    }

    /// Decodes on top of `depth` rows that [`measure_fill`](Self::measure_fill) put into the cache: a step for each slice of
    /// `tokens` of `rows`, one token for each of so many answers that grow side by side. Milliseconds of all steps.
    pub fn measure_decode(&mut self, depth: usize, rows: usize, tokens: &[u32]) -> Result<f64, EngineError> {
        self.check_measured(tokens, depth.saturating_add(tokens.len()))?;
        let (width, window) = (self.model.stage().hidden_size, self.model.stage().sliding_window);
        let rows = rows.max(1);
        let started = Instant::now();
        for (step, tokens) in tokens.chunks(rows).enumerate() {
            let past = depth + step * rows;
            let total = past + tokens.len();
            let inputs = self.model.prepare(past, tokens.len(), tokens.len())?;
            let places = inputs.embeddings.chunks_exact_mut(width.max(1)).zip(inputs.attention_bias.chunks_exact_mut(total));
            for (slot, ((token, (embedding, bias)), (position, logit_row))) in
                tokens.iter().zip(places).zip(inputs.position_ids.iter_mut().zip(inputs.logit_rows)).enumerate()
            {
                tree::embed(&self.embedding, &[], Row::Token(*token), embedding)?;
                let mut visible = Vec::with_capacity(step + 2);
                visible.push(0..depth);
                visible.extend((0..=step).map(|step| depth + step * rows + slot).map(|row| row..row + 1));
                write_windowed_bias(bias, &visible, window);
                *position = (depth + step) as i64;
                *logit_row = slot as i64;
            }
            self.model.run_unread()?;
        }
        Ok(milliseconds(started))
    }

    fn fill_and_run(&mut self, past: usize, tokens: &[u32]) -> Result<(), EngineError> {
        let rows: Vec<Row> = tokens.iter().map(|&token| Row::Token(token)).collect();
        tree::fill(&mut self.model, &self.embedding, &[], past, &rows)?;
        self.model.run_unread()?;
        Ok(())
    }

    /// Refuses what the graph or the embedding table cannot take.
    fn check_measured(&self, tokens: &[u32], total: usize) -> Result<(), EngineError> {
        let malformed = |message: String| Err(EngineError::Request { index: 0, message });
        let limit = self.model.stage().maximum_positions;
        match tokens.iter().find(|&&token| token as usize >= self.embedding.rows()) {
            Some(token) => malformed(format!("token {token} is beyond the vocabulary of {}", self.embedding.rows())),
            None if tokens.is_empty() => malformed("there is no token to run".to_owned()),
            None if total > limit => malformed(format!("{total} tokens exceed the {limit} positions of the language model")),
            None => Ok(()),
        }
    }
}

/// A small model with one input `x`, loaded as the stages of a package are.
pub struct MeasuredModel {
    session: Session,
    input: Tensor<f32>,
}

impl MeasuredModel {
    /// Makes a session of a model file in memory, for an input of this shape and content.
    pub fn load(options: &EngineOptions, model: &[u8], shape: &[usize], input: Vec<f32>) -> Result<Self, EngineError> {
        let doing = "loading a model to measure the machine";
        let loaded = runtime::load(&options.runtime(), &mut |_| {})?;
        let builder = builder(loaded, options, true).map_err(runtime_error(doing))?;
        let session = provider::register(builder, loaded, &options.provider, None)?
            .commit_from_memory(model)
            .map_err(|error| provider::loading_failed(doing, options.provider.provider, error.message()))?;
        drop(Placed::of(&session, "the model that measures the machine", options, None)?);
        let input = Tensor::from_array((shape.to_vec(), input)).map_err(runtime_error::<()>(doing))?;
        Ok(Self { session, input })
    }

    /// Runs the model once. Milliseconds.
    pub fn run(&mut self) -> Result<f64, EngineError> {
        let started = Instant::now();
        let outputs = self
            .session
            .run(ort::inputs!["x" => &self.input])
            .map_err(runtime_error("running a model to measure the machine"))?;
        drop(outputs);
        Ok(milliseconds(started))
    }
}
