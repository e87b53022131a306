//! Opens a package together with what its verbs need: prompts, and the engine.

use std::path::Path;

use super::Globals;
use super::exit::Failure;
use super::shipped;
use crate::engine::{EngineOptions, OrtEngine, Scheduling};
use crate::package::{Package, Precision, PromptTemplate};
use crate::prompt::Prompter;
use crate::store::ModelIdentity;

/// A package that is ready to be asked.
pub struct Model {
    /// The package.
    pub package: Package,
    /// Its prompt side.
    pub prompter: Prompter,
    /// Its engine.
    pub engine: OrtEngine,
}

/// Opens `given` (a path, or the name of a shipped package) and loads its graphs.
pub fn load(given: &Path, globals: &Globals, scheduling: Scheduling) -> Result<Model, Failure> {
    let package = Package::open(&shipped::package_path(given))?;
    let prompter = Prompter::open(&package)?;
    let engine = OrtEngine::load(&package, &engine_options(globals, scheduling))?;
    Ok(Model { package, prompter, engine })
}

/// Engine options from the global ones.
pub fn engine_options(globals: &Globals, scheduling: Scheduling) -> EngineOptions {
    EngineOptions {
        ort_library: globals.ort_library.clone(),
        intra_op_threads: globals.threads.unwrap_or_else(crate::engine::physical_cores),
        scheduling,
        ..EngineOptions::default()
    }
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
    }
}
