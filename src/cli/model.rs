//! Opens a package together with what its verbs need: prompts, and the engine.

use std::path::Path;

use super::Globals;
use super::exit::{Exit, Failure};
use super::shipped;
use crate::benchmark::Benchmark;
use crate::engine::provider::RunExtent;
use crate::engine::{EngineOptions, LoadedEngine, Provider, Scheduling};
use crate::guard::escape;
use crate::package::{FileRecord, GraphFlavor, Package, Precision, PromptTemplate, Quantisation, foreign};
use crate::prompt::Prompter;
use crate::run::{Plan, run_extent, unknown_extent};
use crate::store::ModelIdentity;

/// A package that is ready to be asked.
pub struct Model {
    /// The package.
    pub package: Package,
    /// Its prompt side.
    pub prompter: Prompter,
    /// Its engine.
    pub engine: LoadedEngine,
}

/// Opens `given`: the path of a package, our own or another program's, or the name of a shipped package. `variant` asks for
/// a precision where another program's folder has several.
pub fn open(given: &Path, variant: Option<&str>) -> Result<Package, Failure> {
    let path = shipped::package_path(given);
    if foreign::is_foreign(&path) {
        return Ok(crate::export::adopt(&path, variant)?);
    }
    let package = Package::open(&path)?;
    match variant {
        None => Ok(package),
        Some(name) => {
            let error = anyhow::anyhow!(
                "--variant {name}: {} is a package of this program, which has one precision; only folders in the layout of \
                 transformers.js have several",
                path.display()
            );
            Err(Failure::new(Exit::Setup, error))
        }
    }
}

/// Opens `given` (see [`open`]) and loads its graphs.
pub fn load(given: &Path, variant: Option<&str>, globals: &Globals, scheduling: Scheduling) -> Result<Model, Failure> {
    load_opened(open(given, variant)?, globals, scheduling)
}

/// Loads the graphs of a package, of which nothing is known that they will be asked.
pub fn load_opened(package: Package, globals: &Globals, scheduling: Scheduling) -> Result<Model, Failure> {
    load_planned(package, globals, scheduling, &[])
}

/// What a package will be asked: a benchmark, which of it, and the longest answer in tokens.
pub type AskedOf<'a> = (&'a Benchmark, Plan, usize);

/// Loads the graphs of a package to ask it all of this.
pub fn load_planned(
    package: Package,
    globals: &Globals,
    scheduling: Scheduling,
    asked: &[AskedOf<'_>],
) -> Result<Model, Failure> {
    crate::run::reset_peak_memory();
    let prompter = Prompter::open(&package)?;
    let mut options = engine_options(globals, scheduling);
    if options.provider.provider == Provider::TensorRt {
        let extents = asked.iter().map(|(benchmark, plan, max_new_tokens)| {
            run_extent((*benchmark, plan), (&prompter, &package.manifest), *max_new_tokens, &options)
        });
        let extent = extents.reduce(RunExtent::with).unwrap_or_else(|| unknown_extent(&package.manifest, &options));
        options.provider.tensorrt.shapes = Some(extent.shapes());
    }
    let engine = LoadedEngine::load(&package, &options)?;
    if let (Some(foreign), false) = (&package.manifest.foreign, globals.no_progress) {
        let (scheduling, reason) = engine.scheduling();
        eprintln!(
            "{}: {} layout, {}; questions run {scheduling}: {}",
            escape::terminal(&package.manifest.name),
            foreign.layout.as_str(),
            escape::terminal(&foreign.choice),
            escape::terminal(reason.unwrap_or_default())
        );
    }
    Ok(Model { package, prompter, engine })
}

/// Engine options from the global ones.
pub fn engine_options(globals: &Globals, scheduling: Scheduling) -> EngineOptions {
    globals.loading.apply(EngineOptions {
        ort_library: globals.ort_library.clone(),
        intra_op_threads: globals.threads.unwrap_or_else(crate::engine::physical_cores),
        scheduling,
        provider: globals.provider.clone(),
        placement: globals.placement,
        ..EngineOptions::default()
    })
}

/// Bytes of the graphs and weights of a package: of all its files but texts, the tokenizer, and the reference values that
/// `package verify` reads.
pub fn weight_bytes(files: &[FileRecord]) -> Option<u64> {
    const OTHERS: [&str; 6] = [".json", ".jinja", ".toml", ".txt", ".model", "parity.safetensors"];
    let counts = |file: &&FileRecord| !OTHERS.iter().any(|ending| file.name.ends_with(ending));
    Some(files.iter().filter(counts).map(|file| file.bytes).sum()).filter(|bytes| *bytes > 0)
}

/// What a run records of its package.
pub fn identity(package: &Package) -> ModelIdentity {
    let manifest = &package.manifest;
    let mut stages = [manifest.precision.vision, manifest.precision.projector, manifest.precision.llm].map(Precision::as_str);
    if let (Some(_), [_, projector, _]) = (&manifest.foreign, &mut stages) {
        *projector = "in vision";
    }
    ModelIdentity {
        name: manifest.name.clone(),
        identity: package.identity.clone(),
        precision: stages.join("/"),
        template: match &manifest.prompt.template {
            PromptTemplate::Conversation(name) => name.clone(),
            PromptTemplate::ChatTemplate(file) => format!("chat template {file}"),
        },
        image_recipe: manifest.image.summary(),
        weight_bytes: weight_bytes(&manifest.files),
        quantisation: manifest.quantisation.as_ref().map(Quantisation::lines).unwrap_or_default(),
        flavor: (manifest.llm.flavor == GraphFlavor::Standard.as_str()).then(|| manifest.llm.flavor.clone()),
    }
}
