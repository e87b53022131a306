//! Where two versions of a stage part: hidden states after each layer, and each layer by itself.

use ndarray::{Array2, Array4, Axis};

use super::divergence::{Look, prepared, tensor_divergence};
use super::pair::{Mix, PackagePair, stage_name};
use super::{SwapEngine, SwapError};
use crate::compare::{DivergenceStart, LayerDivergence, Side, Stage};
use crate::engine::{EngineError, EngineOptions, LayerProbe};
use crate::package::{Package, layered_stage};
use crate::run::sample_segments;
use crate::stats::RowDivergence;

/// Images and prompts that are looked at layer by layer. All hidden states of all of them are in memory together.
const IMAGES: usize = 4;

/// A layer that itself differs by no more than this share of its hidden state is equal: rounding of single precision, added up over
/// a layer's products.
const ROUNDING: f64 = 1e-5;

/// What the layers say.
#[derive(Default)]
pub struct DeepLook {
    /// Every layer of the stages that differ.
    pub layers: Vec<LayerDivergence>,
    /// Where they part.
    pub starts: Vec<DivergenceStart>,
    /// What there is to say beside.
    pub notes: Vec<String>,
}

/// Inputs of a stage: tiles `[tiles, 3, height, width]`, or the rows of a prompt.
enum Input {
    Pixels(Array4<f32>),
    Prompt(Array2<f32>),
}

/// Inputs of the vision encoder and of the language model, each of the base package and of the new one.
type Inputs = [[Vec<Input>; 2]; 2];

/// Hidden states after each layer, by input.
type States = Vec<Vec<Array2<f32>>>;

/// Looks at the vision encoder and the language model layer by layer, where they differ.
pub fn look_deep(
    pair: &PackagePair,
    engine: &mut SwapEngine,
    looks: &[Look<'_>],
    options: &EngineOptions,
) -> Result<DeepLook, SwapError> {
    let mut deep = DeepLook::default();
    let (inputs, other_lengths) = inputs(pair, engine, looks)?;
    if other_lengths {
        let note =
            "the packages' prompts have unequal lengths, so the layers of the llm stage are compared on the first package's rows";
        deep.notes.push(note.to_owned());
    }
    for (stage, [base_inputs, new_inputs]) in [Stage::Vision, Stage::Llm].into_iter().zip(inputs) {
        if pair.changes(stage).is_empty() || base_inputs.is_empty() {
            continue;
        }
        // One at a time, so that no more than one copy of a stage's weights is loaded beside the engine's.
        let run = |package: &Package, inputs: &[Input], given: Option<&States>| states(package, stage, inputs, given, options);
        let Some(base) = run(&pair.base, &base_inputs, None)? else {
            deep.notes.push(format!(
                "the layers of the {} stage cannot be looked at: its graph is not one of this program",
                stage.as_str()
            ));
            continue;
        };
        let new = run(&pair.new, &new_inputs, None)?;
        let layers = base.first().map_or(0, Vec::len);
        let Some(new) = new.filter(|new| new.first().map_or(0, Vec::len) == layers) else {
            deep.notes.push(format!("the layers of the {} stage are not compared: there are {layers} in the first package and another number in the second", stage.as_str()));
            continue;
        };
        let (base_alone, new_alone) = (run(&pair.base, &base_inputs, Some(&base))?, run(&pair.new, &new_inputs, Some(&base))?);
        let (Some(base_alone), Some(new_alone)) = (base_alone, new_alone) else { continue };
        let mut found = Vec::with_capacity(layers);
        for layer in 0..layers {
            let (together, alone) = (compared(&base, &new, layer), compared(&base_alone, &new_alone, layer));
            let (Some(divergence), Some(alone)) = (tensor_divergence(&together), tensor_divergence(&alone)) else {
                deep.notes.push(format!("layer {layer} of the {} stage gives no numbers that can be compared", stage.as_str()));
                continue;
            };
            found.push(LayerDivergence { stage, layer, divergence, alone });
        }
        deep.starts.extend(start(stage, &found));
        deep.layers.extend(found);
    }
    Ok(deep)
}

/// The first layer that itself differs, and the one that differs most.
fn start(stage: Stage, layers: &[LayerDivergence]) -> Option<DivergenceStart> {
    let first = layers.iter().find(|layer| layer.alone.relative_error > ROUNDING)?.layer;
    let largest = layers.iter().max_by(|left, right| left.alone.relative_error.total_cmp(&right.alone.relative_error))?.layer;
    Some(DivergenceStart { stage, first, largest })
}

fn compared(base: &States, new: &States, layer: usize) -> RowDivergence {
    let mut sum = RowDivergence::default();
    for (base, new) in base.iter().zip(new) {
        let (Some(base), Some(new)) = (base.get(layer), new.get(layer)) else { continue };
        if let (Some(base_values), Some(new_values)) = (base.as_slice(), new.as_slice()) {
            // Prompts of unequal length have no corresponding rows.
            sum.add(base_values, new_values, base.ncols());
        }
    }
    sum
}

/// The hidden states of all inputs. With `given`, each layer is alone and gets the state that these hold before it. `None` if the
/// graph has no layers that are known.
fn states(
    package: &Package,
    stage: Stage,
    inputs: &[Input],
    given: Option<&States>,
    options: &EngineOptions,
) -> Result<Option<States>, SwapError> {
    let Some(model) = layered_stage(package, stage_name(stage), given.is_some())? else { return Ok(None) };
    let mut probe = LayerProbe::load(package, stage_name(stage), model, options)?;
    let mut found = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.iter().enumerate() {
        let given: &[Array2<f32>] = match given.and_then(|given| given.get(index)) {
            Some(states) => states.split_last().map_or(&[], |(_, before)| before),
            None => &[],
        };
        found.push(match input {
            Input::Pixels(pixels) => probe.vision(pixels.view(), given)?,
            Input::Prompt(rows) => probe.language(rows, given)?,
        });
    }
    Ok(Some(found))
}

/// Inputs of vision encoder and language model on either side: each package's own pixels, as the image recipe belongs to the vision
/// encoder; the base package's image rows between each package's own token rows. Where templates give prompts of unequal lengths,
/// which have no corresponding rows, the base package's rows are the input of both, and the second value says so.
fn inputs(pair: &PackagePair, engine: &mut SwapEngine, looks: &[Look<'_>]) -> Result<(Inputs, bool), SwapError> {
    let mut found = Inputs::default();
    let mut other_lengths = false;
    let [vision, language] = &mut found;
    let (base_mix, llm_mix): (Mix, Mix) = ([Side::Base; 3], [Side::Base, Side::Base, Side::New]);
    for (index, look) in looks.iter().enumerate() {
        let share = IMAGES.saturating_sub(vision[0].len()).div_ceil(looks.len() - index);
        let until = vision[0].len() + share;
        for group in look.plan.groups.iter().filter(|group| !group.images.is_empty()) {
            if vision[0].len() >= until {
                break;
            }
            let Some([base_images, new_images]) = prepared(pair, group) else { continue };
            let sample = group.samples.first().and_then(|index| look.benchmark.samples.get(*index));
            let Some(sample) = sample else { continue };
            let mut embedded = |mix| -> Result<Option<Array2<f32>>, SwapError> {
                let Ok(segments) = sample_segments(pair.prompter(mix), sample) else { return Ok(None) };
                match engine.with(mix)?.embedded_prompt(&base_images, &segments) {
                    Ok(rows) => Ok(Some(rows)),
                    Err(EngineError::Request { .. }) => Ok(None),
                    Err(error) => Err(error.into()),
                }
            };
            let (Some(base_rows), Some(new_rows)) = (embedded(base_mix)?, embedded(llm_mix)?) else { continue };
            let (Some(base_image), Some(new_image)) = (base_images.first(), new_images.first()) else { continue };
            // The first tile shows the whole picture.
            let tile = |pixels: &Array4<f32>| Input::Pixels(pixels.slice_axis(Axis(0), (0..1).into()).to_owned());
            vision[0].push(tile(&base_image.pixels));
            vision[1].push(tile(&new_image.pixels));
            let new_rows = if new_rows.dim() == base_rows.dim() {
                new_rows
            } else {
                other_lengths = true;
                base_rows.clone()
            };
            language[0].push(Input::Prompt(base_rows));
            language[1].push(Input::Prompt(new_rows));
        }
    }
    Ok((found, other_lengths))
}
