//! The tensors that a configuration implies, under the names that transformers gives them in a file, in its order, and how their
//! numbers are spread.

use super::super::architecture::{IMAGE_NEWLINE, LlavaArchitecture};
use super::super::families::Checkpoint;
use super::super::vision_architecture::VisionFamily;
use super::SynthError;
use super::numbers::Fill;
use super::small_files::Tokens;

/// A tensor to be made.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    /// Name in the file.
    pub name: String,
    pub shape: Vec<usize>,
    pub fill: Fill,
}

impl Tensor {
    /// Numbers; saturates where no disk could hold them.
    pub fn count(&self) -> u64 {
        self.shape.iter().fold(1, |count: u64, &size| count.saturating_mul(size as u64))
    }
}

/// All tensors of a checkpoint, those included that LLaVA never uses: layers after the selected one, the last norm and the pooling
/// head of the vision tower.
pub(super) fn list(checkpoint: &Checkpoint, outliers: bool) -> Result<Vec<Tensor>, SynthError> {
    let mut architecture = checkpoint.architecture.clone();
    let vision = &mut architecture.vision;
    vision.used_layers = vision.layers;
    let (width, wide, family) = (vision.hidden_size, vision.intermediate_size, vision.family);
    let mut tensors: Vec<(String, Vec<usize>)> =
        architecture.required_tensors().into_iter().map(|tensor| (tensor.name, tensor.shape)).collect();
    let mut add = |name: &str, shape: &[usize]| tensors.push((format!("vision.{name}"), shape.to_vec()));
    add("post_layernorm.weight", &[width]);
    add("post_layernorm.bias", &[width]);
    let vision_config = checkpoint.config.object("vision_config")?;
    let head = match &vision_config {
        Some(config) => config.flag("vision_use_head")?.unwrap_or(true),
        None => false,
    };
    if family == VisionFamily::Siglip && head {
        add("head.probe", &[1, 1, width]);
        add("head.attention.in_proj_weight", &[3 * width, width]);
        add("head.attention.in_proj_bias", &[3 * width]);
        add("head.attention.out_proj.weight", &[width, width]);
        add("head.attention.out_proj.bias", &[width]);
        add("head.layernorm.weight", &[width]);
        add("head.layernorm.bias", &[width]);
        add("head.mlp.fc1.weight", &[wide, width]);
        add("head.mlp.fc1.bias", &[wide]);
        add("head.mlp.fc2.weight", &[width, wide]);
        add("head.mlp.fc2.bias", &[width]);
    }
    tensors.sort_by_cached_key(|(name, _)| order(name, family));
    let bos = Tokens::read(checkpoint)?.first();
    let made = tensors.into_iter().map(|(name, shape)| {
        let mut fill = spread(&name, &shape, architecture.llm.tied);
        if outliers {
            add_outliers(&mut fill, &name, &architecture, bos);
        }
        Tensor { name: file_name(&name), shape, fill }
    });
    Ok(made.collect())
}

/// The place of a tensor in the state of transformers' model: part, layer, place in the layer.
fn order(name: &str, family: VisionFamily) -> (usize, usize, usize, String) {
    let (part, rest) = name.split_once('.').unwrap_or((name, ""));
    if name == IMAGE_NEWLINE {
        return (0, 0, 0, String::new());
    }
    if name == "llm.lm_head.weight" {
        return (9, 0, 0, String::new());
    }
    let layer = rest.split_once("layers.").and_then(|(_, rest)| rest.split_once('.'));
    let number = layer.and_then(|(number, _)| number.parse::<usize>().ok()).unwrap_or(0);
    let inside = layer.map_or(rest, |(_, inside)| inside);
    // Weights before biases.
    let of_list = |list: &[&str]| list.iter().position(|first| inside.starts_with(first)).unwrap_or(list.len());
    let weight_first = if inside.ends_with("weight") { "0" } else { "1" }.to_owned();
    let attention = ["self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.out_proj"];
    match part {
        "vision" if layer.is_some() => {
            let [k, v, q, out] = attention;
            let place = match family {
                VisionFamily::Clip => of_list(&[k, v, q, out, "layer_norm1", "mlp.fc1", "mlp.fc2", "layer_norm2"]),
                VisionFamily::Siglip => of_list(&["layer_norm1", k, v, q, out, "layer_norm2", "mlp.fc1", "mlp.fc2"]),
            };
            (2, number, place, weight_first)
        }
        "vision" if rest.starts_with("embeddings.") || rest.starts_with("pre_layrnorm") => {
            let place = of_list(&[
                "embeddings.class",
                "embeddings.patch",
                "embeddings.position",
                "pre_layrnorm.weight",
                "pre_layrnorm.bias",
            ]);
            (1, 0, place, weight_first)
        }
        "vision" => {
            let head = [
                "post_layernorm",
                "head.probe",
                "head.attention.in_proj_weight",
                "head.attention.in_proj_bias",
                "head.attention.out_proj",
                "head.layernorm",
                "head.mlp.fc1",
                "head.mlp.fc2",
            ];
            (3, 0, of_list(&head), weight_first)
        }
        "projector" => (4, 0, of_list(&["linear_1", "linear_2"]), weight_first),
        _ if layer.is_some() => {
            let list = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"];
            let [q, k, v, o] = list;
            let list =
                [q, k, v, o, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "input_layernorm", "post_attention_layernorm"];
            (6, number, of_list(&list), weight_first)
        }
        _ if rest.starts_with("embed_tokens") => (5, 0, 0, weight_first),
        _ => (7, 0, 0, weight_first),
    }
}

/// The name in a file that `save_pretrained` of transformers 5 writes.
fn file_name(name: &str) -> String {
    match name.split_once('.') {
        _ if name == IMAGE_NEWLINE => "image_newline".to_owned(),
        Some(("vision", rest)) => format!("vision_tower.{rest}"),
        Some(("projector", rest)) => format!("multi_modal_projector.{rest}"),
        Some(("llm", "lm_head.weight")) => "language_model.lm_head.weight".to_owned(),
        Some(("llm", rest)) => format!("language_model.model.{rest}"),
        _ => name.to_owned(),
    }
}

/// Standard deviations with which activations keep realistic sizes from layer to layer, and answers do not collapse.
///
/// A linear layer of gain g has deviation g/√inputs, so that it multiplies the size of its input by g. Queries and keys have gain
/// 1.4: attention scores then have a deviation of about 2, and each row looks at a few others instead of at the mean of all, which
/// would be the same for every row and would make one token the answer to everything. The head's gain 2 gives logits a
/// deviation of 2. A tied head has the deviation of a head.
fn spread(name: &str, shape: &[usize], tied: bool) -> Fill {
    let inputs: usize = shape.get(1..).unwrap_or_default().iter().product();
    let gain = |gain: f64| (gain / (inputs.max(1) as f64).sqrt()) as f32;
    let normal = |deviation: f32| Fill { mean: 0.0, deviation, channels: None, single: None };
    let is_norm = name.contains("norm") && name.ends_with("weight");
    match name.rsplit('.').nth(1).unwrap_or_default() {
        _ if is_norm => Fill { mean: 1.0, ..normal(0.1) },
        "embed_tokens" if tied => normal(gain(2.0)),
        "embed_tokens" => normal(1.0),
        "position_embedding" => normal(0.3),
        _ if name == IMAGE_NEWLINE || name.ends_with("class_embedding") || name.ends_with("probe") => normal(0.5),
        _ if name.ends_with("bias") => normal(0.02),
        "lm_head" => normal(gain(2.0)),
        "q_proj" | "k_proj" => normal(gain(1.4)),
        "linear_1" | "linear_2" | "v_proj" | "gate_proj" | "up_proj" => normal(gain(1.0)),
        _ => normal(gain(0.7)),
    }
}

/// Outlier channels of a language model.
const OUTLIER_CHANNELS: usize = 4;
/// Their activations relative to the others'.
const OUTLIER_FACTOR: f32 = 30.0;
/// The massive activation of the first token; the rows of other tokens have deviation 1.
const MASSIVE: f32 = 300.0;

/// The norms before linear layers get `OUTLIER_CHANNELS` weights 30 times as large, and the layers that read them columns 30 times
/// as small: the model computes what it computed before, but its activations have outliers that per-tensor scales cannot hold
/// (Xiao et al., *SmoothQuant*, 2023). The first token's embedding has one number of 300, which stays in the residual stream to the
/// end (Sun et al., *Massive activations in large language models*, 2024).
fn add_outliers(fill: &mut Fill, name: &str, architecture: &LlavaArchitecture, first_token: Option<u32>) {
    let width = architecture.llm.hidden_size;
    let Some(rest) = name.strip_prefix("llm.") else { return };
    let channels = || (0..OUTLIER_CHANNELS).map(|index| (2 * index + 1) * width / (2 * OUTLIER_CHANNELS)).collect();
    let reads = ["q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight", "up_proj.weight"];
    if rest.starts_with("layers.") && rest.ends_with("layernorm.weight") {
        fill.channels = Some((channels(), OUTLIER_FACTOR));
    } else if reads.iter().any(|end| rest.ends_with(end)) {
        fill.channels = Some((channels(), 1.0 / OUTLIER_FACTOR));
    } else if let ("embed_tokens.weight", Some(token)) = (rest, first_token) {
        fill.single = Some((token as usize, width / 3, MASSIVE));
    }
}
