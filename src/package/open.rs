//! Opening a package folder. Nothing in it is believed: sizes, names, graph contents and shapes are checked against the
//! manifest before ONNX Runtime sees a byte.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::contents::{Contents, port};
use super::flavor::GraphFlavor;
use super::kind::PackageKind;
use super::manifest::{FORMAT, LanguageModelStage, MANIFEST_FILE, Manifest};
use super::{FileRecord, PackageError, PromptTemplate, TensorDtype, TensorLocation};
use crate::guard::files::{GuardError, contained, read_text_capped};
use crate::onnx::{Dimension, TensorPort, proto::data_type};

/// Largest manifest; a real one has a few kilobytes.
pub(super) const MANIFEST_LIMIT_BYTES: u64 = 1 << 20;

/// A model package that was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Package {
    /// The folder.
    pub root: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
    /// SHA-256 of the canonical manifest text in lower-case hexadecimal. As the manifest pins every file, it stands for
    /// the whole package.
    pub identity: String,
}

impl Package {
    /// Opens a package folder: reads `package.toml`, checks that every file exists with its recorded length, that every
    /// name stays inside the folder, and that the graphs' inputs, outputs, operator domains and external tensors are what
    /// the manifest says. File contents are not hashed; see [`Package::verify_hashes`].
    pub fn open(root: &Path) -> Result<Self, PackageError> {
        let path = root.join(MANIFEST_FILE);
        if !path.is_file() {
            return Err(PackageError::NoManifest { root: root.to_path_buf() });
        }
        let text = read_text_capped(&path, MANIFEST_LIMIT_BYTES)?;
        check_format(&path, &text)?;
        PackageKind::Llava.expect(root, &text)?;
        let manifest = Manifest::from_text(&text)
            .map_err(|error| PackageError::Manifest { path: path.clone(), reason: error.to_string() })?;
        let identity =
            manifest.identity().map_err(|error| PackageError::Manifest { path: path.clone(), reason: error.to_string() })?;
        let package = Self { root: root.to_path_buf(), manifest, identity };
        package.check()?;
        Ok(package)
    }

    /// A package that another program wrote, under the manifest that was made for it: `root` was recognised by
    /// [`recognise`](super::foreign::recognise), so that its graphs and their external files are checked already. Checks
    /// the rest of the manifest.
    pub fn of_foreign(root: &Path, manifest: Manifest) -> Result<Self, PackageError> {
        let identity = manifest
            .identity()
            .map_err(|error| PackageError::Manifest { path: root.join(MANIFEST_FILE), reason: error.to_string() })?;
        let package = Self { root: root.to_path_buf(), manifest, identity };
        if !is_plain_name(&package.manifest.name) {
            return Err(package.field("name", format!("{:?}", package.manifest.name), PLAIN_NAME));
        }
        package.contents().check_files()?;
        package.check_sizes()?;
        Ok(package)
    }

    /// The path of a file that the manifest lists.
    pub fn path(&self, name: &str) -> Result<PathBuf, PackageError> {
        self.record("file", name)?;
        Ok(contained(&self.root, name)?)
    }

    /// Reads every file and compares its SHA-256 with the manifest.
    pub fn verify_hashes(&self) -> Result<(), PackageError> {
        self.contents().verify_hashes()
    }

    fn field(&self, field: impl Into<String>, found: impl ToString, expected: impl Into<String>) -> PackageError {
        self.contents().field(field, found, expected)
    }

    fn record(&self, field: &str, name: &str) -> Result<&FileRecord, PackageError> {
        self.contents().record(field, name)
    }

    fn contents(&self) -> Contents<'_> {
        Contents { root: &self.root, files: &self.manifest.files }
    }

    fn check(&self) -> Result<(), PackageError> {
        if !is_plain_name(&self.manifest.name) {
            return Err(self.field("name", format!("{:?}", self.manifest.name), PLAIN_NAME));
        }
        self.contents().check_files()?;
        self.check_stages()?;
        let embedding = &self.manifest.llm.embedding;
        self.check_tensor("llm.embedding", embedding, &[None, Some(self.manifest.llm.hidden_size)])?;
        self.check_embedding_scales()?;
        self.check_quantisation()?;
        self.check_tiling()?;
        if let PromptTemplate::ChatTemplate(name) = &self.manifest.prompt.template {
            self.record("prompt.template.chat-template", name)?;
        }
        let (vision, projector, llm) = (&self.manifest.vision, &self.manifest.projector, &self.manifest.llm);
        self.contents().check_flavor(self.flavor()?, &[&vision.graph, &projector.graph, &llm.graph])?;
        let named = Dimension::named;
        let f32_port = |name: &str, shape: Vec<Dimension>| port(name, data_type::FLOAT, shape);
        let pixels = vec![named("images"), 3.into(), vision.image_size.into(), vision.image_size.into()];
        let features = vec![named("images"), vision.tokens_per_image.into(), vision.hidden_size.into()];
        self.contents().check_graph(&vision.graph, &[f32_port("pixel_values", pixels)], &[f32_port("features", features)])?;
        let projector_input = vec![named("images"), named("tokens"), projector.input_size.into()];
        let projector_output = vec![named("images"), named("tokens"), projector.output_size.into()];
        self.contents().check_graph(
            &projector.graph,
            &[f32_port("features", projector_input)],
            &[f32_port("image_embeds", projector_output)],
        )?;
        let language_model = |batch: Dimension| {
            let (inputs, outputs) = language_model_ports(llm, batch);
            self.contents().check_graph(&llm.graph, &inputs, &outputs)
        };
        match language_model(named("batch")) {
            // Graphs that were exported earlier take one sequence at a time.
            Err(error @ PackageError::Field { .. }) => language_model(1.into()).map_err(|_| error),
            checked => checked,
        }
    }

    /// Sizes that the program computes with, kept in sane ranges, and stages that fit together.
    fn check_stages(&self) -> Result<(), PackageError> {
        self.check_sizes()?;
        match &self.manifest.foreign {
            None => Ok(()),
            Some(_) => Err(self.field("foreign", "present", "absent in a package.toml")),
        }
    }

    /// The flavour that the manifest names.
    fn flavor(&self) -> Result<GraphFlavor, PackageError> {
        let name = self.manifest.llm.flavor.as_str();
        let expected = "\"contrib\" or \"standard\"";
        GraphFlavor::of_name(name).ok_or_else(|| self.field("llm.flavor", format!("{name:?}"), expected))
    }

    fn check_sizes(&self) -> Result<(), PackageError> {
        let (vision, projector, llm) = (&self.manifest.vision, &self.manifest.projector, &self.manifest.llm);
        let ranges = [
            ("vision.image_size", vision.image_size, 4096),
            ("vision.patch_size", vision.patch_size, 4096),
            ("vision.hidden_size", vision.hidden_size, 1 << 20),
            ("vision.tokens_per_image", vision.tokens_per_image, 1 << 20),
            ("projector.input_size", projector.input_size, 1 << 20),
            ("projector.output_size", projector.output_size, 1 << 20),
            ("llm.hidden_size", llm.hidden_size, 1 << 20),
            ("llm.layers", llm.layers, 1024),
            ("llm.attention_heads", llm.attention_heads, 4096),
            ("llm.key_value_heads", llm.key_value_heads, 4096),
            ("llm.head_size", llm.head_size, 4096),
            ("llm.vocabulary_size", llm.vocabulary_size, 1 << 22),
            ("llm.maximum_positions", llm.maximum_positions, 1 << 24),
            ("prompt.context_tokens", self.manifest.prompt.context_tokens, 1 << 24),
        ];
        for (field, value, limit) in ranges {
            if value == 0 || value > limit {
                return Err(self.field(field, value, format!("1 to {limit}")));
            }
        }
        if projector.input_size != vision.hidden_size {
            return Err(self.field("projector.input_size", projector.input_size, format!("vision's {}", vision.hidden_size)));
        }
        if projector.output_size != llm.hidden_size {
            return Err(self.field("projector.output_size", projector.output_size, format!("llm's {}", llm.hidden_size)));
        }
        Ok(())
    }

    /// An 8-bit embedding table has a scale for each row, and no other has any.
    fn check_embedding_scales(&self) -> Result<(), PackageError> {
        let (embedding, scales) = (&self.manifest.llm.embedding, self.manifest.llm.embedding_scales.as_ref());
        match (embedding.dtype, scales) {
            (TensorDtype::I8, Some(scales)) if scales.dtype == TensorDtype::F32 => {
                self.check_tensor("llm.embedding_scales", scales, &[embedding.shape.first().copied()])
            }
            (TensorDtype::I8, Some(scales)) => {
                Err(self.field("llm.embedding_scales.dtype", format!("{:?}", scales.dtype).to_lowercase(), "f32"))
            }
            (TensorDtype::I8, None) => {
                Err(self.field("llm.embedding_scales", "missing", "the scales of the 8-bit embedding table"))
            }
            (_, Some(_)) => Err(self.field("llm.embedding_scales", "present", "absent, as the embedding table is not in 8 bits")),
            (_, None) => Ok(()),
        }
    }

    /// The record of what was quantised is of the stages that there are.
    fn check_quantisation(&self) -> Result<(), PackageError> {
        let precision = self.manifest.precision;
        let stages = [("vision", precision.vision), ("projector", precision.projector), ("llm", precision.llm)];
        let fault = self.manifest.quantisation.as_ref().and_then(|record| record.fault(&stages));
        fault.map_or(Ok(()), |(field, found, expected)| Err(self.field(field, found, expected)))
    }

    /// The tiling fits the vision tower, and its newline row is there.
    fn check_tiling(&self) -> Result<(), PackageError> {
        let (vision, projector) = (&self.manifest.vision, &self.manifest.projector);
        let newline = projector.image_newline.as_ref();
        if let Some(location) = newline {
            self.check_tensor("projector.image_newline", location, &[Some(projector.output_size)])?;
            if location.dtype == TensorDtype::I8 {
                return Err(self.field("projector.image_newline.dtype", "i8", "f32, f16 or bf16"));
            }
        }
        let Some(tiling) = &self.manifest.image.tiling else { return Ok(()) };
        let side = self.manifest.patches_per_side();
        if let Some((field, found, expected)) = tiling.faults(vision.image_size, vision.tokens_per_image, side) {
            return Err(self.field(field, found, expected));
        }
        if tiling.merge.newline && newline.is_none() {
            let expected = "the row that image.tiling.merge.newline asks for";
            return Err(self.field("projector.image_newline", "missing", expected));
        }
        Ok(())
    }

    /// A tensor of this shape (`None`: any size) that lies inside a file of the package.
    fn check_tensor(&self, field: &str, tensor: &TensorLocation, shape: &[Option<usize>]) -> Result<(), PackageError> {
        let record = self.record(&format!("{field}.file"), &tensor.file)?;
        let fits = |(found, expected): (&usize, &Option<usize>)| expected.is_none_or(|expected| *found == expected);
        if tensor.shape.len() != shape.len() || !tensor.shape.iter().zip(shape).all(fits) {
            let sizes: Vec<String> = shape.iter().map(|size| size.map_or("rows".to_owned(), |size| size.to_string())).collect();
            return Err(self.field(format!("{field}.shape"), format!("{:?}", tensor.shape), format!("[{}]", sizes.join(", "))));
        }
        let size = |bytes: u64, &dim: &usize| bytes.checked_mul(dim as u64);
        let expected = tensor.shape.iter().try_fold(tensor.dtype.bytes(), size).unwrap_or(u64::MAX);
        if tensor.bytes != expected {
            return Err(self.field(format!("{field}.bytes"), tensor.bytes, format!("{expected} for its shape")));
        }
        if tensor.offset.checked_add(tensor.bytes).is_none_or(|end| end > record.bytes) {
            let found = format!("{} + {}", tensor.offset, tensor.bytes);
            return Err(self.field(format!("{field}.offset"), found, format!("inside the {} bytes of the file", record.bytes)));
        }
        Ok(())
    }
}

/// What [`is_plain_name`] accepts, for messages.
pub const PLAIN_NAME: &str = "at most 120 bytes without slashes, colons and control characters, beginning with a letter or digit";

/// Whether a text may be a package's name: results are kept in folders of that name.
pub fn is_plain_name(name: &str) -> bool {
    name.len() <= 120
        && name.starts_with(char::is_alphanumeric)
        && !name.contains(|character: char| character.is_control() || matches!(character, '/' | '\\' | ':'))
}

/// The format is read before the rest, so that a newer package says so instead of naming an unknown field.
pub(super) fn check_format(path: &Path, text: &str) -> Result<(), PackageError> {
    let table: toml::Table =
        toml::from_str(text).map_err(|error| PackageError::Manifest { path: path.to_path_buf(), reason: error.to_string() })?;
    let found = table.get("format");
    if found.and_then(toml::Value::as_integer) == Some(i64::from(FORMAT)) {
        return Ok(());
    }
    Err(PackageError::Field {
        path: path.to_path_buf(),
        field: "format".to_owned(),
        found: found.map_or_else(|| "missing".to_owned(), ToString::to_string),
        expected: FORMAT.to_string(),
    })
}

/// SHA-256 of a whole file in lower-case hexadecimal, read in pieces.
pub fn sha256_of_file(path: &Path) -> Result<String, GuardError> {
    let read = |source| GuardError::Read { path: path.to_path_buf(), source };
    let mut file = File::open(path).map_err(read)?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let count = file.read(&mut buffer).map_err(read)?;
        if count == 0 {
            return Ok(hexadecimal(&hasher.finalize()));
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
}

/// Lower-case hexadecimal of some bytes.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Inputs and outputs of a language model graph, as [`LanguageModelStage`] documents them.
fn language_model_ports(llm: &LanguageModelStage, batch: Dimension) -> (Vec<TensorPort>, Vec<TensorPort>) {
    let named = Dimension::named;
    let float = |name: &str, shape: Vec<Dimension>| port(name, data_type::FLOAT, shape);
    let cache_type = match llm.cache_dtype() {
        TensorDtype::F16 => data_type::FLOAT16,
        TensorDtype::Bf16 => data_type::BFLOAT16,
        _ => data_type::FLOAT,
    };
    let cache = |name: &str, shape: Vec<Dimension>| port(name, cache_type, shape);
    let sequence = || named("sequence");
    let mut inputs = vec![
        float("inputs_embeds", vec![named("tokens"), llm.hidden_size.into()]),
        port("position_ids", data_type::INT64, vec![batch.clone(), sequence()]),
        float("attention_bias", vec![batch.clone(), 1.into(), sequence(), named("total")]),
        port("seqlens_k", data_type::INT32, vec![batch.clone()]),
        port("total_sequence_length", data_type::INT32, vec![]),
        port("logit_rows", data_type::INT64, vec![named("rows")]),
    ];
    let mut outputs = vec![float("logits", vec![named("rows"), llm.vocabulary_size.into()])];
    for layer in 0..llm.layers {
        for part in ["key", "value"] {
            let shape = vec![batch.clone(), llm.key_value_heads.into(), named("capacity"), llm.head_size.into()];
            inputs.push(cache(&format!("past_key_values.{layer}.{part}"), shape.clone()));
            outputs.push(cache(&format!("present.{layer}.{part}"), shape));
        }
    }
    (inputs, outputs)
}
