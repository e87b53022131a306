//! Which norms and weights are smoothed, and by which factors.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::ExportError;
use super::super::architecture::RequiredTensor;
use super::super::checkpoint::FoundTensor;
use super::super::numbers::ShardMaps;
use super::super::quantise::{InputStatistics, Scheme, Schemes, raise_maxima, smoothing_factors};
use super::WeightPlan;

/// Factors by canonical name.
pub(super) type Factors = BTreeMap<String, Arc<Vec<f32>>>;

/// Numbers that are looked at together; 16 MiB.
const BATCH: usize = 4 << 20;

/// Norms by the end of their names, and the linear layers that take what they give.
const FOLLOWERS: [(&str, &str, &[&str]); 4] = [
    ("llm", "input_layernorm", &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    ("llm", "post_attention_layernorm", &["mlp.gate_proj", "mlp.up_proj"]),
    ("vision", "layer_norm1", &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    ("vision", "layer_norm2", &["mlp.fc1"]),
];

impl WeightPlan {
    /// The factors of all norms whose layers multiply in int8 and whose inputs are known.
    pub(super) fn smoothing_factors(
        &self,
        required: &[RequiredTensor],
        tensors: &BTreeMap<String, FoundTensor>,
        schemes: &Schemes,
    ) -> Result<Factors, ExportError> {
        let mut factors = Factors::new();
        let Some(calibration) = self.calibration.as_ref().filter(|calibration| calibration.smoothing > 0.0) else {
            return Ok(factors);
        };
        for norm in required {
            let Some((layer, followers)) = followers(&norm.name) else { continue };
            let weights: Vec<String> = followers.iter().map(|name| format!("{layer}.{name}.weight")).collect();
            let shape = |name: &str| required.iter().find(|one| one.name == *name).map(|one| one.shape.as_slice());
            let in_int8 = |name: &String| shape(name).is_some_and(|shape| schemes.of(name, shape) == Scheme::Int8);
            let known = weights.first().and_then(|name| calibration.inputs.get(name.trim_end_matches(".weight")));
            let Some(statistics) = known.filter(|_| weights.iter().all(in_int8)) else { continue };
            let mut maximum = vec![0.0; statistics.absolute_maximum.len()];
            for name in &weights {
                if let Some(found) = tensors.get(name) {
                    self.raise_maxima(found, &mut maximum)?;
                }
            }
            let found = Arc::new(smoothing_factors(&statistics.absolute_maximum, &maximum, calibration.smoothing));
            factors.extend(weights.into_iter().map(|name| (name, Arc::clone(&found))));
            let bias = norm.name.replace(".weight", ".bias");
            if tensors.contains_key(&bias) {
                factors.insert(bias, Arc::clone(&found));
            }
            factors.insert(norm.name.clone(), found);
        }
        Ok(factors)
    }

    fn raise_maxima(&self, found: &FoundTensor, maximum: &mut [f32]) -> Result<(), ExportError> {
        let mut maps = ShardMaps::new(&self.shards);
        let numbers = maps.numbers(found)?;
        let step = (BATCH / maximum.len().max(1)).max(1) * maximum.len().max(1);
        let mut values = Vec::new();
        for start in (0..numbers.count()).step_by(step) {
            numbers.read(start..(start + step).min(numbers.count()), &mut values);
            raise_maxima(maximum, &values);
        }
        Ok(())
    }

    /// What is known of the inputs of a linear layer, `name` being its weight's: after smoothing, if it is smoothed. Statistics of
    /// another number of inputs are another model's.
    pub(super) fn statistics(&self, name: &str, inputs: usize) -> Result<Option<Arc<InputStatistics>>, ExportError> {
        let layer = name.trim_end_matches(".weight");
        let Some(statistics) = self.calibration.as_ref().and_then(|calibration| calibration.inputs.get(layer)) else {
            return Ok(None);
        };
        let found = statistics.mean_square.len();
        if found != inputs {
            let (found, expected) = (format!("has {found} inputs in {layer}"), format!("the {inputs} of the checkpoint"));
            return Err(ExportError::Option { option: "the calibrating package".to_owned(), found, expected });
        }
        Ok(Some(match self.factors.get(name) {
            Some(factors) => Arc::new(statistics.divided(factors)),
            None => Arc::clone(statistics),
        }))
    }
}

/// The layer of a norm that can be smoothed, and the linear layers behind it.
fn followers(norm: &str) -> Option<(&str, &'static [&'static str])> {
    let stem = norm.strip_suffix(".weight")?;
    FOLLOWERS.iter().find_map(|(stage, name, followers)| {
        let layer = stem.strip_suffix(name)?.strip_suffix('.')?;
        (layer.split('.').next() == Some(stage)).then_some((layer, *followers))
    })
}
