//! CLIP packages: opening them with what their verbs need, and running them on benchmarks.

use std::path::Path;

use anyhow::anyhow;

use super::exit::{Exit, Failure};
use super::progress::{Overall, RunProgress};
use super::run::{StopSignal, Suite, benchmark_identity, environment, finish};
use super::{Globals, clock, model, shipped};
use crate::benchmark::Benchmark;
use crate::engine::{ClipEncoder, Scheduling};
use crate::package::{ClipPackage, PackageKind, Precision, Quantisation};
use crate::prompt::ClipTokenizer;
use crate::run::{ClipConductor, Plan, execution};
use crate::store::{ModelIdentity, Run, RunHeader, RunSettings, RunWriter};

/// A CLIP package that is ready to compare.
pub struct ClipModel {
    /// The package.
    pub package: ClipPackage,
    /// Its tokenizer.
    pub tokenizer: ClipTokenizer,
    /// Its encoders.
    pub encoder: ClipEncoder,
}

/// What a run of a CLIP package records as scheduling.
const SCHEDULING: &str = "embeddings";

/// Opens `given` (a path, or the name of a shipped package) and loads its graphs.
pub fn load(given: &Path, globals: &Globals) -> Result<ClipModel, Failure> {
    load_opened(ClipPackage::open(&shipped::package_path(given))?, globals)
}

/// Loads the graphs of a package that is open.
pub fn load_opened(package: ClipPackage, globals: &Globals) -> Result<ClipModel, Failure> {
    crate::run::reset_peak_memory();
    let tokenizer = ClipTokenizer::open(&package)?;
    let encoder = ClipEncoder::load(&package, &model::engine_options(globals, Scheduling::default()))?;
    Ok(ClipModel { package, tokenizer, encoder })
}

/// What a run records of its package.
pub fn identity(package: &ClipPackage) -> ModelIdentity {
    let manifest = &package.manifest;
    // The name that the manifest has for it.
    let name = |precision: Precision| match serde_json::to_value(precision) {
        Ok(serde_json::Value::String(name)) => name,
        _ => "unknown".to_owned(),
    };
    ModelIdentity {
        name: manifest.name.clone(),
        identity: package.identity.clone(),
        precision: format!("{}/{}", name(manifest.precision.vision), name(manifest.precision.text)),
        template: "class templates".to_owned(),
        image_recipe: manifest.image.summary(),
        weight_bytes: super::model::weight_bytes(&manifest.files),
        quantisation: manifest.quantisation.as_ref().map(Quantisation::lines).unwrap_or_default(),
        flavor: (!manifest.flavor.is_contrib()).then(|| manifest.flavor.as_str().to_owned()),
    }
}

/// The kind of each package of a suite. A package on a benchmark that its kind cannot answer is refused before anything runs.
pub fn kinds(suite: &Suite, benchmarks: &[Benchmark]) -> Result<Vec<PackageKind>, Failure> {
    let mut kinds = Vec::with_capacity(suite.models.len());
    for given in &suite.models {
        let kind = PackageKind::of(&shipped::package_path(given))?;
        if let Some(benchmark) = benchmarks.iter().find(|benchmark| !fits(kind, benchmark)) {
            let (needed, asks) = if benchmark.spec.compares_embeddings() {
                (PackageKind::Clip, "compares images with texts")
            } else {
                (PackageKind::Llava, "asks for answers in words")
            };
            let error = anyhow!(
                "{} is a {} package, which {}; the benchmark {} {asks} and needs a {} package",
                given.display(),
                kind.name(),
                kind.does(),
                benchmark.spec.name,
                needed.name()
            );
            return Err(Failure::new(Exit::Setup, error));
        }
        kinds.push(kind);
    }
    Ok(kinds)
}

/// Whether a package of this kind can be run on the benchmark.
pub fn fits(kind: PackageKind, benchmark: &Benchmark) -> bool {
    (kind == PackageKind::Clip) == benchmark.spec.compares_embeddings()
}

/// Runs one package on one benchmark, into its run directory.
pub fn run_one(
    suite: &Suite,
    globals: &Globals,
    model: &mut ClipModel,
    benchmark: &Benchmark,
    stop: &StopSignal,
    overall: &mut Overall,
) -> Result<Run, Failure> {
    let plan = Plan::new(&benchmark.samples, suite.limit);
    let options = model::engine_options(globals, suite.scheduling.at_load());
    let header = RunHeader {
        memory: None,
        execution: Some(execution(&model.encoder.placement(), &options)),
        format: crate::store::FORMAT,
        started: clock::now_rfc3339(),
        tag: suite.label.tag.clone(),
        commit: suite.label.commit.clone(),
        model: identity(&model.package),
        benchmark: benchmark_identity(benchmark, &plan),
        settings: RunSettings {
            max_new_tokens: 0,
            provider: globals.provider.provider.as_str().to_owned(),
            provider_options: globals.provider.summary(),
            intra_op_threads: options.intra_op_threads,
            scheduling: SCHEDULING.to_owned(),
            scheduling_reason: None,
            prompt_sha256: None,
            answering: None,
            low_memory: globals.loading.low_memory,
            ..Default::default()
        },
        environment: environment(model.encoder.runtime(), &globals.provider),
    };
    let directory = suite.output.join(&header.model.name).join(&header.benchmark.name);
    let label = format!("{} · {}", header.model.name, header.benchmark.name);
    let (mut writer, recovered) = RunWriter::open_or_resume(&directory, &header)?;
    suite.label.warn_if_kept(writer.header(), &directory);
    let conductor = ClipConductor {
        benchmark,
        plan: &plan,
        tokenizer: &model.tokenizer,
        image_recipe: &model.package.manifest.image,
        stop: stop.flag(),
    };
    let mut progress = RunProgress::new(label, &header.benchmark, globals.no_progress, overall);
    let outcome = conductor.run(&mut model.encoder, &mut writer, &recovered, &mut progress)?;
    finish(benchmark, &directory, writer, outcome)
}
