//! From a name to samples.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::BenchmarkError;
use super::places::{self, DataChoice};
use super::readers::{self, BrokenRow, Read};
use super::spec::BenchmarkSpec;
use super::spec_file::BUILT_IN;
use super::task::Task;
use super::types::{Conversation, Sample};
use crate::guard::files::read_text_capped;

/// The largest TOML file that is read.
const SPEC_LIMIT_BYTES: u64 = 1 << 20;

/// A benchmark with its samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Benchmark {
    /// What it is.
    pub spec: BenchmarkSpec,
    /// All samples in file order.
    pub samples: Vec<Sample>,
    /// The data folder.
    pub data_root: PathBuf,
    /// What is to be done with the samples, and what all of them share.
    pub task: Task,
    /// Rows of the data that are no samples because they could not be read.
    pub broken: Vec<BrokenRow>,
}

impl Benchmark {
    /// Loads a built-in benchmark by name, or any by the path of its TOML file. `data_override` takes the place of the
    /// data folder that the file names.
    ///
    /// Without it, the data are looked for as [`DataChoice`] says. Image files need not exist.
    pub fn load(name_or_toml_path: &str, data_override: Option<&Path>) -> Result<Self, BenchmarkError> {
        Self::load_chosen(name_or_toml_path, &DataChoice { data: data_override, ..DataChoice::default() })
    }

    /// The same with a choice among the forms of the data.
    pub fn load_chosen(name_or_toml_path: &str, choice: &DataChoice<'_>) -> Result<Self, BenchmarkError> {
        let (spec, beside) = find_spec(name_or_toml_path)?;
        Self::of(spec, beside.as_deref(), choice)
    }

    /// Loads the data of a specification whose file lies in the folder `beside`.
    pub fn of(mut spec: BenchmarkSpec, beside: Option<&Path>, choice: &DataChoice<'_>) -> Result<Self, BenchmarkError> {
        let (form, data_root) = places::find(&spec, beside, choice)?;
        spec.data = form;
        let Read { samples, task, broken } = readers::read(&spec, &data_root)?;
        Ok(Self { spec, samples, data_root, task, broken })
    }

    /// Reads the samples of a benchmark one after another, for what looks at each once: of tables, none is kept, however many
    /// there are. Gives the number of broken rows.
    pub fn visit(
        name_or_toml_path: &str,
        choice: &DataChoice<'_>,
        each: &mut dyn FnMut(Sample),
    ) -> Result<usize, BenchmarkError> {
        let (mut spec, beside) = find_spec(name_or_toml_path)?;
        let (form, data_root) = places::find(&spec, beside.as_deref(), choice)?;
        spec.data = form;
        readers::visit(&spec, &data_root, each)
    }

    /// What a built-in benchmark, or one given by the path of its TOML file, is; its data are not read.
    pub fn specification(name_or_toml_path: &str) -> Result<BenchmarkSpec, BenchmarkError> {
        Ok(find_spec(name_or_toml_path)?.0)
    }

    /// [`samples_sha256`] of all samples.
    pub fn samples_sha256(&self) -> String {
        samples_sha256(&self.samples)
    }
}

/// SHA-256, hexadecimal, over key, question, prompt, reference and earlier turns of each sample in order. Two runs answer the
/// same questions exactly if it is equal. Every part is preceded by its length in bytes, so that parts cannot run together.
pub fn samples_sha256<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> String {
    let mut hasher = Sha256::new();
    for sample in samples {
        // A reference holds strings, integers, booleans and finite numbers, which always serialise.
        let reference = serde_json::to_string(&sample.reference).unwrap_or_default();
        for part in [&sample.key, &sample.question, &sample.prompt, &reference] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        // Not for questions of their own, whose sums are older than conversations.
        if sample.conversation != Conversation::default() {
            let conversation = serde_json::to_string(&sample.conversation).unwrap_or_default();
            hasher.update((conversation.len() as u64).to_le_bytes());
            hasher.update(conversation.as_bytes());
        }
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The specification and, if it was read from a file, the folder of that file.
pub(super) fn find_spec(name_or_toml_path: &str) -> Result<(BenchmarkSpec, Option<PathBuf>), BenchmarkError> {
    if let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == name_or_toml_path) {
        return Ok((BenchmarkSpec::parse(text, Path::new(&format!("{name}.toml")))?, None));
    }
    let given = Path::new(name_or_toml_path);
    let in_folder = Path::new("benchmarks").join(format!("{name_or_toml_path}.toml"));
    let is_toml = given.extension().is_some_and(|extension| extension == "toml");
    let path = if is_toml || given.is_file() {
        given
    } else if !name_or_toml_path.contains(['/', '\\']) && in_folder.is_file() {
        &in_folder
    } else {
        let known = BUILT_IN.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        return Err(BenchmarkError::Unknown { name: name_or_toml_path.to_owned(), known });
    };
    let text = read_text_capped(path, SPEC_LIMIT_BYTES)?;
    Ok((BenchmarkSpec::parse(&text, path)?, path.parent().map(Path::to_path_buf)))
}
