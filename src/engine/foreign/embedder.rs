//! The embedding graph: token ids to rows, and image rows into their places.

use std::borrow::Cow;

use ort::session::SessionInputValue;

use super::super::plan::Row;
use super::super::session::{Graph, runtime_error};
use super::super::types::EngineError;
use super::images::ImageRows;
use super::values::{floats, integers, shape, widened};
use crate::package::foreign::EmbeddingInterface;

/// The embedding graph.
pub(super) struct Embedder {
    graph: Graph,
    interface: EmbeddingInterface,
    /// Token id whose places a merging graph fills with image rows; any id where the rows are filled in here.
    image_token: u32,
    width: usize,
}

impl Embedder {
    pub fn new(graph: Graph, interface: EmbeddingInterface, image_token: u32, width: usize) -> Self {
        Self { graph, interface, image_token, width }
    }

    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    pub fn graph_mut(&mut self) -> &mut Graph {
        &mut self.graph
    }

    /// What the language model sees of these rows, `[rows, hidden_size]`. A part of a prompt may begin or end within an
    /// image: the rows that are asked for are all that is merged.
    pub fn embed(&mut self, rows: &[Row], images: &[Option<ImageRows>]) -> Result<Vec<f32>, EngineError> {
        let ids: Vec<i64> = rows
            .iter()
            .map(|row| match row {
                Row::Token(token) => i64::from(*token),
                Row::Image { .. } => i64::from(self.image_token),
            })
            .collect();
        let mut merged = Vec::new();
        if self.interface.image_features.is_some() {
            for row in rows.iter().filter(|row| matches!(row, Row::Image { .. })) {
                merged.extend_from_slice(image_row(*row, images, self.width)?);
            }
        }
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = vec![(
            Cow::from(&self.interface.input_ids.name),
            integers(self.interface.input_ids.dtype, &[1, ids.len()], &ids)?.into(),
        )];
        if let Some(features) = &self.interface.image_features {
            let count = merged.len() / self.width.max(1);
            let shape: &[usize] = if features.rank == 3 { &[1, count, self.width] } else { &[count, self.width] };
            inputs.push((Cow::from(&features.port.name), floats(features.port.dtype, shape, merged)?.into()));
        }
        let mut outputs = self.graph.session.run(inputs).map_err(runtime_error("running the embedding graph"))?;
        let name = &self.interface.inputs_embeds.name;
        let embeds = outputs.remove(name);
        drop(outputs);
        let embeds = embeds.ok_or_else(|| self.graph.wrong(format!("gave no `{name}`")))?;
        let expected = [1, rows.len(), self.width];
        if shape(&embeds) != expected {
            return Err(self.graph.wrong(format!("output `{name}` has shape {:?}, expected {expected:?}", shape(&embeds))));
        }
        let values = widened(&embeds, self.interface.inputs_embeds.dtype, 0, rows.len() * self.width)?;
        let mut values = values.ok_or_else(|| self.graph.wrong(format!("gave no `{name}`")))?;
        if self.interface.image_features.is_none() {
            for (row, target) in rows.iter().zip(values.chunks_exact_mut(self.width.max(1))) {
                if matches!(row, Row::Image { .. }) {
                    target.copy_from_slice(image_row(*row, images, self.width)?);
                }
            }
        }
        Ok(values)
    }

    /// Rows of text tokens.
    pub fn embed_tokens(&mut self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        let rows: Vec<Row> = tokens.iter().map(|&token| Row::Token(token)).collect();
        self.embed(&rows, &[])
    }

    /// The token that the graph takes for an image's place and not for text.
    pub fn unembeddable(&self) -> Option<u32> {
        self.interface.image_features.as_ref().map(|_| self.image_token)
    }

    /// Token id that stands for an image's row.
    pub fn image_token(&self) -> u32 {
        self.image_token
    }
}

fn image_row(row: Row, images: &[Option<ImageRows>], width: usize) -> Result<&[f32], EngineError> {
    let found = match row {
        Row::Image { image, row } => {
            let rows = images.get(image).and_then(Option::as_ref);
            rows.and_then(|rows| rows.chunks_exact(width.max(1)).nth(row))
        }
        Row::Token(_) => None,
    };
    // Requests are checked before anything runs, so that this is a broken promise between this room's own parts.
    found.ok_or_else(|| EngineError::Runtime { doing: "embedding a prompt".to_owned(), message: format!("there is no {row:?}") })
}
