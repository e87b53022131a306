//! What the three graphs take and give, by their headers, and refusing by name what this program cannot run.

use std::path::{Path, PathBuf};

use super::genai::GenaiConfig;
use super::layout::GraphFile;
use super::names::{layer_of, pattern_of};
use super::{
    CacheInterface, DecoderInterface, EmbeddingInterface, ForeignGraphs, ForeignLayout, GraphSizes, MergedFeatures, Port,
    PortType, VisionInterface,
};
use crate::onnx::{Dimension, TensorPort};
use crate::package::PackageError;

/// Most decoder layers.
const LAYER_LIMIT: usize = 1024;

/// Names of inputs and outputs that a layout uses.
pub(super) struct Names {
    pixel_values: String,
    image_features: String,
    input_ids: String,
    merged_features: String,
    embedding_output: String,
    inputs_embeds: String,
    attention_mask: String,
    position_ids: String,
    logits: String,
    /// Patterns of past key, past value, present key, present value, where the layout gives them.
    cache: Option<[String; 4]>,
    shared_buffer: bool,
}

impl Names {
    /// The names that transformers' exporters and mobius use; cache names are found by their form.
    pub fn usual() -> Self {
        let own = str::to_owned;
        Self {
            pixel_values: own("pixel_values"),
            image_features: own("image_features"),
            input_ids: own("input_ids"),
            merged_features: own("image_features"),
            embedding_output: own("inputs_embeds"),
            inputs_embeds: own("inputs_embeds"),
            attention_mask: own("attention_mask"),
            position_ids: own("position_ids"),
            logits: own("logits"),
            cache: None,
            shared_buffer: false,
        }
    }

    /// The names that `genai_config.json` gives.
    pub fn from_genai(config: &GenaiConfig) -> Result<Self, PackageError> {
        let usual = Self::usual();
        Ok(Self {
            pixel_values: config.name("vision", "inputs", "pixel_values", &usual.pixel_values)?,
            image_features: config.name("vision", "outputs", "image_features", &usual.image_features)?,
            input_ids: config.name("embedding", "inputs", "input_ids", &usual.input_ids)?,
            merged_features: config.name("embedding", "inputs", "image_features", &usual.merged_features)?,
            embedding_output: config.name("embedding", "outputs", "inputs_embeds", &usual.embedding_output)?,
            inputs_embeds: config.name("decoder", "inputs", "inputs_embeds", &usual.inputs_embeds)?,
            attention_mask: config.name("decoder", "inputs", "attention_mask", &usual.attention_mask)?,
            position_ids: config.name("decoder", "inputs", "position_ids", &usual.position_ids)?,
            logits: config.name("decoder", "outputs", "logits", &usual.logits)?,
            cache: Some([
                config.pattern("inputs", "past_key_names", "past_key_values.%d.key")?,
                config.pattern("inputs", "past_value_names", "past_key_values.%d.value")?,
                config.pattern("outputs", "present_key_names", "present.%d.key")?,
                config.pattern("outputs", "present_value_names", "present.%d.value")?,
            ]),
            shared_buffer: config.flag(&["search", "past_present_share_buffer"])?.unwrap_or(false),
        })
    }
}

/// Reads the interfaces of vision, embedding and decoder graph.
pub(super) fn interface(
    root: &Path,
    layout: ForeignLayout,
    choice: String,
    names: Names,
    graphs: [&GraphFile; 3],
) -> Result<(ForeignGraphs, GraphSizes), PackageError> {
    let [vision, embedding, decoder] = graphs.map(|graph| Header { path: root.join(&graph.name), graph });
    let mut sizes = GraphSizes::default();
    let vision = vision.vision(&names, &mut sizes)?;
    let embedding = embedding.embedding(&names, &mut sizes)?;
    let decoder = decoder.decoder(&names, &mut sizes)?;
    Ok((ForeignGraphs { layout, choice, vision, embedding, decoder }, sizes))
}

struct Header<'a> {
    path: PathBuf,
    graph: &'a GraphFile,
}

impl Header<'_> {
    fn refuse(&self, field: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) -> PackageError {
        PackageError::Field { path: self.path.clone(), field: field.into(), found: found.into(), expected: expected.into() }
    }

    fn input(&self, name: &str) -> Option<&TensorPort> {
        self.graph.summary.inputs.iter().find(|port| port.name == name)
    }

    fn output(&self, name: &str) -> Option<&TensorPort> {
        self.graph.summary.outputs.iter().find(|port| port.name == name)
    }

    /// A port that must be there, of one of these types and ranks.
    fn need(&self, kind: &str, name: &str, types: &[PortType], ranks: &[usize]) -> Result<(&TensorPort, Port), PackageError> {
        let (found, all) = match kind {
            "input" => (self.input(name), &self.graph.summary.inputs),
            _ => (self.output(name), &self.graph.summary.outputs),
        };
        let Some(found) = found else {
            let names: Vec<&str> = all.iter().map(|port| port.name.as_str()).take(12).collect();
            return Err(self.refuse(format!("{kind} {name:?}"), format!("missing among {}", names.join(", ")), "present"));
        };
        let port = self.typed(kind, found, types)?;
        // A graph may leave an output's shape out.
        let untold = kind == "output" && found.shape.is_empty();
        if !untold && !ranks.contains(&found.shape.len()) {
            let expected = ranks.iter().map(usize::to_string).collect::<Vec<_>>().join(" or ");
            let found_rank = format!("of rank {}", found.shape.len());
            return Err(self.refuse(format!("{kind} {name:?}"), found_rank, format!("of rank {expected}")));
        }
        Ok((found, port))
    }

    fn typed(&self, kind: &str, found: &TensorPort, types: &[PortType]) -> Result<Port, PackageError> {
        match port_type(found.element).filter(|dtype| types.contains(dtype)) {
            Some(dtype) => Ok(Port { name: found.name.clone(), dtype }),
            None => {
                let expected: Vec<String> = types.iter().map(|dtype| format!("{dtype:?}").to_lowercase()).collect();
                let found_type = format!("of ONNX type {}", found.element);
                let expected = format!("of type {}", expected.join(", "));
                Err(self.refuse(format!("{kind} {:?}", found.name), found_type, expected))
            }
        }
    }

    /// Refuses inputs that nobody here would feed.
    fn refuse_other_inputs(&self, known: impl Fn(&str) -> bool, hint: &str) -> Result<(), PackageError> {
        match self.graph.summary.inputs.iter().find(|port| !known(&port.name)) {
            None => Ok(()),
            Some(other) => Err(self.refuse(format!("input {:?}", other.name), "an input that this program does not know", hint)),
        }
    }

    fn vision(&self, names: &Names, sizes: &mut GraphSizes) -> Result<VisionInterface, PackageError> {
        let floats = [PortType::F32, PortType::F16];
        let pixels = self.input(&names.pixel_values);
        if let Some(pixels) = pixels.filter(|pixels| pixels.shape.len() == 5) {
            let found = format!("of rank {}", pixels.shape.len());
            let expected = "of rank 4: a graph that takes the tiles of an any-res picture has no reference in this layout";
            return Err(self.refuse(format!("input {:?}", pixels.name), found, expected));
        }
        let (pixels, pixel_values) = self.need("input", &names.pixel_values, &floats, &[4])?;
        self.refuse_other_inputs(
            |name| name == names.pixel_values,
            "pixels alone: graphs of any-res models, which take image sizes as well, have no reference in this layout",
        )?;
        match pixels.shape.as_slice() {
            [_, Dimension::Fixed(channels), ..] if *channels != 3 => {
                return Err(self.refuse(format!("input {:?}", pixels.name), format!("of {channels} channels"), "of 3"));
            }
            [_, _, Dimension::Fixed(height), Dimension::Fixed(width)] => sizes.image = Some([*height, *width]),
            _ => {}
        }
        let (features, image_features) = self.need("output", &names.image_features, &floats, &[2, 3])?;
        if let [_, tokens, _] = features.shape.as_slice() {
            sizes.tokens_per_image = fixed(tokens);
        }
        self.agree(&mut sizes.hidden_size, features.shape.last(), &image_features.name)?;
        Ok(VisionInterface { pixel_values, image_features })
    }

    fn embedding(&self, names: &Names, sizes: &mut GraphSizes) -> Result<EmbeddingInterface, PackageError> {
        let (_, input_ids) = self.need("input", &names.input_ids, &[PortType::I64, PortType::I32], &[2])?;
        let floats = [PortType::F32, PortType::F16, PortType::Bf16];
        let (embeds, inputs_embeds) = self.need("output", &names.embedding_output, &floats, &[3])?;
        let image_features = match self.input(&names.merged_features) {
            None => None,
            Some(_) => {
                let (found, port) = self.need("input", &names.merged_features, &[PortType::F32, PortType::F16], &[2, 3])?;
                self.agree(&mut sizes.hidden_size, found.shape.last(), &port.name)?;
                Some(MergedFeatures { port, rank: found.shape.len() })
            }
        };
        self.refuse_other_inputs(
            |name| name == names.input_ids || name == names.merged_features,
            "ids, and image features where the graph merges them",
        )?;
        self.agree(&mut sizes.hidden_size, embeds.shape.last(), &inputs_embeds.name)?;
        Ok(EmbeddingInterface { graph: self.graph.name.clone(), input_ids, inputs_embeds, image_features })
    }

    fn decoder(&self, names: &Names, sizes: &mut GraphSizes) -> Result<DecoderInterface, PackageError> {
        let floats = [PortType::F32, PortType::F16, PortType::Bf16];
        if self.input(&names.inputs_embeds).is_none() && self.input("input_ids").is_some() {
            let expected = "rows that may be an image's: this decoder takes token ids alone, so it is of a text model";
            return Err(self.refuse(format!("input {:?}", names.inputs_embeds), "missing", expected));
        }
        let (embeds, inputs_embeds) = self.need("input", &names.inputs_embeds, &floats, &[3])?;
        self.agree(&mut sizes.hidden_size, embeds.shape.last(), &inputs_embeds.name)?;
        let (found, logits) = self.need("output", &names.logits, &floats, &[2, 3])?;
        let last_row_only = match found.shape.as_slice() {
            [_, rows, _] => fixed(rows) == Some(1),
            [_, _] => true,
            _ => false,
        };
        sizes.vocabulary_size = found.shape.last().and_then(fixed);

        let integers = [PortType::I64, PortType::I32];
        let optional = |name: &str, types: &[PortType], ranks: &[usize]| -> Result<Option<Port>, PackageError> {
            self.input(name).map(|_| self.need("input", name, types, ranks).map(|(_, port)| port)).transpose()
        };
        if let Some(positions) = self.input(&names.position_ids).filter(|positions| positions.shape.len() == 3) {
            let expected = "of rank 2: positions of three axes (mRoPE) are not LLaVA's";
            return Err(self.refuse(format!("input {:?}", positions.name), "of rank 3", expected));
        }
        let attention_mask = optional(&names.attention_mask, &integers, &[2])?;
        let attention_bias = optional("attention_bias", &[PortType::F32, PortType::F16], &[4])?;
        let position_ids = optional(&names.position_ids, &integers, &[2])?;
        let use_cache_branch = optional("use_cache_branch", &[PortType::Bool], &[1])?;
        let keep = ["num_logits_to_keep", "logits_to_keep"].into_iter().find(|name| self.input(name).is_some());
        let logits_to_keep = keep.map_or(Ok(None), |name| optional(name, &integers, &[0, 1]))?;
        let cache = self.cache(names, sizes)?;
        let patterns: Vec<&str> = cache.iter().flat_map(|cache| [cache.past_key.as_str(), cache.past_value.as_str()]).collect();
        let others = [&attention_mask, &attention_bias, &position_ids, &use_cache_branch, &logits_to_keep];
        let known = |name: &str| {
            name == inputs_embeds.name
                || others.iter().any(|port| port.as_ref().is_some_and(|port| port.name == name))
                || patterns.iter().any(|pattern| layer_of(pattern, name).is_some())
        };
        self.refuse_other_inputs(known, "rows, mask or bias, positions, keys and values of earlier rows")?;
        if cache.is_some() && attention_mask.is_none() && attention_bias.is_none() {
            let expected = "attention_mask or attention_bias, without which cached rows cannot be told from padding";
            return Err(self.refuse("inputs", "neither attention_mask nor attention_bias", expected));
        }
        let has = |operator: &str| self.graph.summary.operators.contains_key(operator);
        let grouped_query_attention = has("GroupQueryAttention");
        let dynamic_quantisation = has("DynamicQuantizeLinear") || has("DynamicQuantizeMatMul");
        Ok(DecoderInterface {
            inputs_embeds,
            logits,
            last_row_only,
            attention_mask,
            attention_bias,
            position_ids,
            use_cache_branch,
            logits_to_keep,
            cache,
            grouped_query_attention,
            dynamic_quantisation,
        })
    }

    fn cache(&self, names: &Names, sizes: &mut GraphSizes) -> Result<Option<CacheInterface>, PackageError> {
        let [past_key, past_value, present_key, present_value] = match &names.cache {
            Some(patterns) => patterns.clone(),
            None => {
                let inputs = self.patterns(&self.graph.summary.inputs, &["past_key_values", "past"]);
                let outputs = self.patterns(&self.graph.summary.outputs, &["present_key_values", "present"]);
                match (inputs, outputs) {
                    ([Some(past_key), Some(past_value)], [Some(present_key), Some(present_value)]) => {
                        [past_key, past_value, present_key, present_value]
                    }
                    ([None, None], _) => return Ok(None),
                    _ => {
                        let expected = "inputs past_key_values.N.key and .value, and outputs present.N.key and .value";
                        return Err(self.refuse("cache", "one half of its names only", expected));
                    }
                }
            }
        };
        let layers = self.graph.summary.inputs.iter().filter_map(|port| layer_of(&past_key, &port.name)).max();
        let Some(layers) = layers.map(|layer| layer.saturating_add(1)) else {
            if names.cache.is_some() {
                return Err(self.refuse(format!("inputs {past_key:?}"), "missing", "one for each layer"));
            }
            return Ok(None);
        };
        if layers > LAYER_LIMIT {
            return Err(self.refuse("layers", layers.to_string(), format!("at most {LAYER_LIMIT}")));
        }
        let floats = [PortType::F32, PortType::F16, PortType::Bf16];
        let mut dtype = None;
        for layer in 0..layers {
            for (kind, pattern) in
                [("input", &past_key), ("input", &past_value), ("output", &present_key), ("output", &present_value)]
            {
                let name = super::layer_name(pattern, layer);
                let (found, port) = self.need(kind, &name, &floats, &[4])?;
                if *dtype.get_or_insert(port.dtype) != port.dtype {
                    let expected = "of one number type for all keys and values";
                    return Err(self.refuse(format!("{kind} {name:?}"), format!("{:?}", port.dtype), expected));
                }
                let [_, heads, rows, width] = found.shape.as_slice() else { continue };
                if let (Dimension::Fixed(rows), true) = (rows, kind == "input") {
                    let found = format!("for {rows} rows exactly");
                    let expected = "of any number of rows: caches of a fixed size (static cache) are not supported";
                    return Err(self.refuse(format!("input {name:?}"), found, expected));
                }
                self.agree(&mut sizes.key_value_heads, Some(heads), &name)?;
                self.agree(&mut sizes.head_size, Some(width), &name)?;
            }
        }
        sizes.layers = Some(layers);
        let dtype = dtype.unwrap_or(PortType::F32);
        let shared_buffer = names.shared_buffer;
        Ok(Some(CacheInterface { past_key, past_value, present_key, present_value, dtype, shared_buffer }))
    }

    /// The patterns of keys and of values among these ports.
    fn patterns(&self, ports: &[TensorPort], prefixes: &[&str]) -> [Option<String>; 2] {
        let mut found = [None, None];
        for (pattern, part) in ports.iter().filter_map(|port| pattern_of(&port.name, prefixes)) {
            let slot = if part == "key" { 0 } else { 1 };
            if let Some(place) = found.get_mut(slot) {
                place.get_or_insert(pattern);
            }
        }
        found
    }

    /// Keeps the first fixed size and refuses another one.
    fn agree(&self, known: &mut Option<usize>, dimension: Option<&Dimension>, port: &str) -> Result<(), PackageError> {
        let Some(size) = dimension.and_then(fixed) else { return Ok(()) };
        if *known.get_or_insert(size) == size {
            return Ok(());
        }
        let expected = known.map_or_else(String::new, |known| format!("{known}, as elsewhere in the package"));
        Err(self.refuse(format!("a dimension of {port:?}"), size.to_string(), expected))
    }
}

fn fixed(dimension: &Dimension) -> Option<usize> {
    match dimension {
        Dimension::Fixed(size) => Some(*size),
        Dimension::Named(_) => None,
    }
}

/// `TensorProto.DataType` → the types that ports may have.
fn port_type(element: i32) -> Option<PortType> {
    match element {
        1 => Some(PortType::F32),
        6 => Some(PortType::I32),
        7 => Some(PortType::I64),
        9 => Some(PortType::Bool),
        10 => Some(PortType::F16),
        16 => Some(PortType::Bf16),
        _ => None,
    }
}
