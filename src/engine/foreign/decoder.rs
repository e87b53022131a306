//! The decoder graph: rows, mask, positions and cache in, logits and cache out.

use std::borrow::Cow;

use ort::session::SessionInputValue;

use super::super::plan::HIDDEN;
use super::super::session::{Graph, runtime_error};
use super::super::types::EngineError;
use super::cache::KeyValues;
use super::values::{floats, integers, shape, truth, widened};
use crate::package::LanguageModelStage;
use crate::package::foreign::{CacheInterface, DecoderInterface, layer_name};

/// The decoder.
pub(super) struct Decoder {
    graph: Graph,
    interface: DecoderInterface,
    stage: LanguageModelStage,
}

/// Who may look at whom in a run.
pub(super) enum Visible {
    /// 1 for each cached and new row that counts, `[batch, past + new]`; new rows see what stands before them.
    Mask(Vec<i64>),
    /// Added to the scores, `[1, 1, new, past + new]`.
    Bias(Vec<f32>),
}

/// A run.
pub(super) struct Run<'a> {
    /// `[batch, new, hidden_size]`.
    pub embeds: Vec<f32>,
    /// Sequences.
    pub batch: usize,
    /// New rows of each.
    pub new: usize,
    pub visible: Visible,
    /// `[batch, new]`.
    pub positions: Vec<i64>,
    pub past: Option<&'a KeyValues>,
    /// Rows of the first sequence whose logits are wanted; `None` wants the last row of each sequence.
    pub rows: Option<Vec<usize>>,
}

impl Decoder {
    pub fn new(graph: Graph, interface: DecoderInterface, stage: LanguageModelStage) -> Self {
        Self { graph, interface, stage }
    }

    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    pub fn graph_mut(&mut self) -> &mut Graph {
        &mut self.graph
    }

    pub fn interface(&self) -> &DecoderInterface {
        &self.interface
    }

    pub fn stage(&self) -> &LanguageModelStage {
        &self.stage
    }

    /// Bytes that the cache takes for one row of one sequence.
    pub fn cache_row_bytes(&self) -> usize {
        let stage = &self.stage;
        let width = match self.interface.cache.as_ref().map(|cache| cache.dtype) {
            Some(crate::package::foreign::PortType::F32) | None => 4,
            Some(_) => 2,
        };
        2 * stage.layers * stage.key_value_heads * stage.head_size * width
    }

    /// One sequence, all of whose rows count, after what is in the cache already.
    pub fn extend(&mut self, embeds: Vec<f32>, past: Option<&KeyValues>) -> Result<(Vec<f32>, Option<KeyValues>), EngineError> {
        let new = embeds.len() / self.stage.hidden_size.max(1);
        let before = past.map_or(0, |past| past.rows);
        let run = Run {
            embeds,
            batch: 1,
            new,
            visible: Visible::Mask(vec![1; before + new]),
            positions: (before..before + new).map(|position| position as i64).collect(),
            past,
            rows: None,
        };
        let (logits, cache) = self.run(run)?;
        Ok((logits.into_iter().next().unwrap_or_default(), cache))
    }

    /// Runs the graph; gives the wanted logits, one list per row, and the cache with the new rows.
    pub fn run(&mut self, run: Run<'_>) -> Result<(Vec<Vec<f32>>, Option<KeyValues>), EngineError> {
        let Run { embeds, batch, new, visible, positions, past, rows } = run;
        let (interface, stage) = (&self.interface, &self.stage);
        let before = past.map_or(0, |past| past.rows);
        let total = before + new;
        if embeds.len() != batch * new * stage.hidden_size || new == 0 {
            return Err(self.graph.wrong(format!("{} numbers were prepared for {batch} × {new} rows", embeds.len())));
        }
        let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::with_capacity(6 + 2 * stage.layers);
        let (mask, bias) = match visible {
            Visible::Mask(mask) => {
                let bias = interface.attention_bias.is_some().then(|| causal_bias(&mask, batch, new, total));
                (mask, bias)
            }
            Visible::Bias(bias) => (vec![1; batch * total], Some(bias)),
        };
        inputs.push((
            Cow::from(&interface.inputs_embeds.name),
            floats(interface.inputs_embeds.dtype, &[batch, new, stage.hidden_size], embeds)?.into(),
        ));
        if let Some(port) = &interface.attention_mask {
            inputs.push((Cow::from(&port.name), integers(port.dtype, &[batch, total], &mask)?.into()));
        }
        if let (Some(port), Some(bias)) = (&interface.attention_bias, bias) {
            inputs.push((Cow::from(&port.name), floats(port.dtype, &[batch, 1, new, total], bias)?.into()));
        }
        if let Some(port) = &interface.position_ids {
            inputs.push((Cow::from(&port.name), integers(port.dtype, &[batch, new], &positions)?.into()));
        }
        if let Some(port) = &interface.use_cache_branch {
            inputs.push((Cow::from(&port.name), truth(before > 0)?.into()));
        }
        if let Some(port) = &interface.logits_to_keep {
            // 0 keeps all rows.
            let keep = i64::from(rows.is_none());
            let is_scalar =
                self.graph.session.inputs().iter().any(|outlet| {
                    outlet.name() == port.name && outlet.dtype().tensor_shape().is_none_or(|shape| shape.is_empty())
                });
            let shape: &[usize] = if is_scalar { &[] } else { &[1] };
            inputs.push((Cow::from(&port.name), integers(port.dtype, shape, &[keep])?.into()));
        }
        let nothing;
        if let Some(cache) = &interface.cache {
            let past = match past {
                Some(past) => past,
                None => {
                    nothing = KeyValues::empty(2 * stage.layers, batch, stage.key_value_heads, stage.head_size, cache.dtype)?;
                    &nothing
                }
            };
            for (name, value) in cache_names(&cache.past_key, &cache.past_value, stage.layers).zip(&past.values) {
                inputs.push((Cow::from(name), value.into()));
            }
        }
        let mut outputs = self.graph.session.run(inputs).map_err(runtime_error("running the decoder"))?;
        let logits = outputs.remove(&interface.logits.name);
        let present = interface.cache.as_ref().map(|cache| {
            cache_names(&cache.present_key, &cache.present_value, stage.layers)
                .map(|name| outputs.remove(&name).ok_or(name))
                .collect::<Result<Vec<_>, _>>()
        });
        drop(outputs);
        let missing = |name: &str| self.graph.wrong(format!("gave no `{name}`"));
        let logits = logits.ok_or_else(|| missing(&interface.logits.name))?;
        let present = present.transpose().map_err(|name| missing(&name))?;
        let cache = match (present, &interface.cache) {
            (Some(values), Some(interface)) => Some(self.checked(values, interface, batch, total)?),
            _ => None,
        };

        // `[batch, rows, vocabulary]`, or without the middle where the graph gives the last row alone.
        let found = shape(&logits);
        let vocabulary = stage.vocabulary_size;
        let given = match *found.as_slice() {
            [sequences, given, width] if sequences == batch && width == vocabulary && given > 0 => given,
            [sequences, width] if sequences == batch && width == vocabulary => 1,
            _ => {
                let message =
                    format!("output `{}` has shape {found:?}, expected [{batch}, rows, {vocabulary}]", interface.logits.name);
                return Err(self.graph.wrong(message));
            }
        };
        let wanted: Vec<usize> = match rows {
            Some(rows) if given == new => rows,
            Some(_) => return Err(self.graph.wrong(format!("gave logits of {given} rows of {new}"))),
            None => (0..batch).map(|sequence| (sequence + 1) * given - 1).collect(),
        };
        let read = |row: usize| -> Result<Vec<f32>, EngineError> {
            let row = widened(&logits, interface.logits.dtype, row.saturating_mul(vocabulary), vocabulary)?;
            row.ok_or_else(|| missing(&interface.logits.name))
        };
        Ok((wanted.into_iter().map(read).collect::<Result<_, _>>()?, cache))
    }

    /// The cache that the graph gave, if it has the rows that it must have.
    fn checked(
        &self,
        values: Vec<ort::value::DynValue>,
        interface: &CacheInterface,
        batch: usize,
        rows: usize,
    ) -> Result<KeyValues, EngineError> {
        let expected = [batch, self.stage.key_value_heads, rows, self.stage.head_size];
        let names = cache_names(&interface.present_key, &interface.present_value, self.stage.layers);
        match values.iter().zip(names).find(|(value, _)| shape(value) != expected) {
            None => Ok(KeyValues { values, rows }),
            Some((value, name)) => {
                Err(self.graph.wrong(format!("output `{name}` has shape {:?}, expected {expected:?}", shape(value))))
            }
        }
    }
}

/// Names of keys and values of each layer in turn.
fn cache_names(key: &str, value: &str, layers: usize) -> impl Iterator<Item = String> {
    (0..layers).flat_map(move |layer| [layer_name(key, layer), layer_name(value, layer)])
}

/// A bias `[batch, 1, new, total]` that lets each new row see the rows before it that the mask counts.
fn causal_bias(mask: &[i64], batch: usize, new: usize, total: usize) -> Vec<f32> {
    let mut bias = Vec::with_capacity(batch * new * total);
    for sequence in mask.chunks_exact(total.max(1)).take(batch) {
        for row in 0..new {
            let last = total - new + row;
            bias.extend(sequence.iter().enumerate().map(|(column, &counts)| {
                let seen = column <= last && counts != 0;
                if seen { 0.0 } else { HIDDEN }
            }));
        }
    }
    bias
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bias_hides_padding_and_what_comes_later() {
        let (o, x) = (0.0, HIDDEN);
        // Two new rows after two cached ones; the first row of the second sequence is padding.
        let bias = causal_bias(&[1, 1, 1, 1, 0, 1, 1, 1], 2, 2, 4);
        assert_eq!(bias, [o, o, o, x, o, o, o, o, x, o, o, x, x, o, o, o]);
    }

    #[test]
    fn cache_names_go_layer_by_layer() {
        let names: Vec<String> = cache_names("past.%d.key", "past.%d.value", 2).collect();
        assert_eq!(names, ["past.0.key", "past.0.value", "past.1.key", "past.1.value"]);
    }
}
