//! `package inspect | verify | compare`.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::exit::{Exit, Failure};
use super::{Globals, VerbResult, clip_package, model, package_compare, shipped, terminal};
use crate::engine::{PlacementOptions, Scheduling};
use crate::guard::escape;
use crate::package::{GraphFlavor, Manifest, PackageKind, Quantisation};
use crate::run::{ProviderCheck, VerifyReport, execution, has_parity_fixture, verify_package, verify_provider};
use crate::store::Execution;

/// Verbs about packages.
#[derive(Debug, Subcommand)]
pub enum PackageVerb {
    /// Show what a package holds, without loading its graphs
    Inspect(InspectArguments),
    /// Replay the parity fixture and compare every stage with the reference
    Verify(VerifyArguments),
    /// Lead packages of one checkpoint along the answers of the first: how far do their next tokens lie apart?
    Compare(package_compare::PackageCompareArguments),
}

/// Arguments of `package inspect`.
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// Package folder, or the name of a shipped package
    package: PathBuf,
    /// Precision to take where another program's folder has several, such as fp16 or embed_tokens=fp16,decoder_model_merged=q4
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Also hash every file and compare with the manifest
    #[arg(long)]
    hashes: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `package verify`.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// Package folder, or the name of a shipped package
    package: PathBuf,
    /// Precision to take where another program's folder has several, such as fp16 or embed_tokens=fp16,decoder_model_merged=q4
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    /// Package of the same checkpoint whose parity fixture is replayed [default: the package itself]
    #[arg(long, value_name = "PACKAGE")]
    reference: Option<PathBuf>,
    /// Also compare each stage alone, and then the whole, with the CPU in fp32, which runs the package of --reference or the package
    /// itself; prompts are made up where there is no parity fixture. Done by itself where --provider is not cpu
    #[arg(long)]
    stages: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Inspection<'a> {
    format: u32,
    identity: &'a str,
    hashes_checked: bool,
    manifest: &'a Manifest,
}

/// Runs the verb.
pub fn run(verb: PackageVerb, globals: &Globals) -> VerbResult {
    match verb {
        PackageVerb::Inspect(arguments) => inspect(&arguments),
        PackageVerb::Verify(arguments) => verify(&arguments, globals),
        PackageVerb::Compare(arguments) => package_compare::run(&arguments, globals),
    }
}

fn inspect(arguments: &InspectArguments) -> VerbResult {
    let root = shipped::package_path(&arguments.package);
    if PackageKind::of(&root)? == PackageKind::Clip {
        return clip_package::inspect(&root, arguments.hashes, arguments.json);
    }
    let package = model::open(&arguments.package, arguments.variant.as_deref())?;
    if arguments.hashes {
        package.verify_hashes()?;
    }
    let manifest = &package.manifest;
    if arguments.json {
        let inspection = Inspection { format: 1, identity: &package.identity, hashes_checked: arguments.hashes, manifest };
        terminal::print_json(&inspection)?;
        return Ok(Exit::Success);
    }
    let identity = model::identity(&package);
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    let clean = escape::terminal;
    let mut lines = vec![
        format!("{}  ({})", clean(&manifest.name), package.root.display()),
        format!("identity   {}", package.identity),
        format!(
            "source     {}{} {:?}, tensors {}",
            manifest.source.version.as_deref().map(|version| format!("LLaVA {}, ", clean(version))).unwrap_or_default(),
            clean(&manifest.source.model_type),
            manifest.source.format,
            clean(&manifest.source.checkpoint_dtype)
        ),
        format!("precision  vision/projector/llm {}", identity.precision),
    ];
    lines.extend(quantisation_lines(manifest.quantisation.as_ref()));
    lines.extend(GraphFlavor::of_name(&manifest.llm.flavor).map(operators_line));
    lines.extend(manifest.llm.compute.map(|compute| format!("computes   in {0}, key-value cache in {0}", compute.as_str())));
    lines.extend([
        format!(
            "vision     {} px, patch {}, {} tokens × {}, layer {}, {}",
            manifest.vision.image_size,
            manifest.vision.patch_size,
            manifest.vision.tokens_per_image,
            manifest.vision.hidden_size,
            manifest.vision.feature_layer,
            clean(&manifest.vision.feature_select)
        ),
        format!(
            "projector  {} {} → {}{}",
            clean(&manifest.projector.kind),
            manifest.projector.input_size,
            manifest.projector.output_size,
            if manifest.projector.image_newline.is_some() { ", with a newline row" } else { "" }
        ),
        format!(
            "llm        {} layers × {}, {} heads ({} kv) × {}, vocabulary {}, up to {} positions{}",
            manifest.llm.layers,
            manifest.llm.hidden_size,
            manifest.llm.attention_heads,
            manifest.llm.key_value_heads,
            manifest.llm.head_size,
            manifest.llm.vocabulary_size,
            manifest.llm.maximum_positions,
            manifest.llm.sliding_window.map(|window| format!(", window of {window}")).unwrap_or_default()
        ),
        format!("image      {} — {}", clean(&identity.image_recipe), clean(&manifest.image.origin)),
        format!("prompt     {}, eos {:?}", clean(&identity.template), manifest.prompt.eos_token_ids),
        format!("files      {} ({:.1} MB)", manifest.files.len(), bytes as f64 / 1e6),
    ]);
    if let Some(foreign) = &manifest.foreign {
        let (scheme, reason) = foreign.decoder.scheme();
        lines.push(format!("layout     {}: {}", foreign.layout.as_str(), clean(&foreign.choice)));
        lines.push(format!(
            "graphs     {}, {}, {}",
            clean(&manifest.vision.graph),
            clean(&foreign.embedding.graph),
            clean(&manifest.llm.graph)
        ));
        let merge = if foreign.embedding.image_features.is_some() { "the embedding graph" } else { "this program" };
        lines.push(format!("images     merged into the prompt by {merge}"));
        lines.push(format!("scheduling {}: {reason}; what holds is tried when it is loaded", scheme.as_str()));
    }
    if arguments.hashes {
        lines.push("hashes     all equal to the manifest".to_owned());
    }
    terminal::print(&lines.join("\n"))?;
    Ok(Exit::Success)
}

/// Which operators the graphs of one of our own packages are made of.
pub(super) fn operators_line(flavor: GraphFlavor) -> String {
    let meaning = match flavor {
        GraphFlavor::Contrib => "fused ones of ONNX Runtime beside standard ones",
        GraphFlavor::Standard => "standard ones alone",
    };
    format!("operators  {}: {meaning}", flavor.as_str())
}

/// One line for each part of a package that has fewer bits, and one for what guided it.
pub(super) fn quantisation_lines(record: Option<&Quantisation>) -> Vec<String> {
    let lines = record.map(Quantisation::lines).unwrap_or_default();
    lines.iter().map(|line| format!("           {}", escape::terminal(line))).collect()
}

fn verify(arguments: &VerifyArguments, globals: &Globals) -> VerbResult {
    let root = shipped::package_path(&arguments.package);
    let reference = arguments.reference.as_deref().map(shipped::package_path);
    if PackageKind::of(&root)? == PackageKind::Clip {
        return clip_package::verify(&root, reference.as_deref(), arguments.json, globals);
    }
    // Verifying is the time to measure what runs where, on the CPU too.
    let globals = Globals { placement: PlacementOptions { probe: true, ..globals.placement }, ..globals.clone() };
    let mut model = model::load(&arguments.package, arguments.variant.as_deref(), &globals, Scheduling::PackedTree)?;
    let execution = execution(&model.engine.placement(), model.engine.options());
    let stages = arguments.stages || model.engine.options().provider.provider.is_gpu();
    let with_fixture = has_parity_fixture(reference.as_deref().unwrap_or(&root));
    let parity = match stages && !with_fixture {
        true => None,
        false => Some(verify_package(&model.package, reference.as_deref(), &model.prompter, &mut model.engine)?),
    };
    let mut check = None;
    if stages {
        let other = reference.as_deref().map(|reference| model::open(reference, None)).transpose()?;
        let other = other.as_ref().unwrap_or(&model.package);
        check = Some(verify_provider(&model.package, other, &model.prompter, model.engine)?);
    }
    let passed = parity.as_ref().is_none_or(|parity| parity.passed) && check.as_ref().is_none_or(|check| check.passed);
    if arguments.json {
        terminal::print_json(&verify_json(&model.package.manifest.name, parity.as_ref(), &execution, check.as_ref(), passed)?)?;
    } else {
        let mut text = execution_text(&execution);
        text.extend(parity.as_ref().map(table));
        text.extend(check.as_ref().map(stage_table));
        terminal::print(&text.join("\n"))?;
    }
    Ok(if passed { Exit::Success } else { Exit::TooManyFailures })
}

/// The replay of the fixture, if there was one, with what ran the graphs and the comparison with the CPU.
fn verify_json(
    package: &str,
    parity: Option<&VerifyReport>,
    execution: &Execution,
    check: Option<&ProviderCheck>,
    passed: bool,
) -> Result<serde_json::Value, Failure> {
    let mut value = match parity {
        Some(parity) => serde_json::to_value(parity).context("cannot serialise the report")?,
        None => serde_json::json!({ "format": 1, "package": package }),
    };
    if let Some(fields) = value.as_object_mut() {
        fields.insert("passed".to_owned(), passed.into());
        fields.insert("execution".to_owned(), serde_json::to_value(execution).context("cannot serialise the placement")?);
        if let Some(check) = check {
            let check = serde_json::to_value(check).context("cannot serialise the comparison")?;
            fields.insert("provider_check".to_owned(), check);
        }
    }
    Ok(value)
}

/// What ran the graphs, a line each, and how far the answers would come again.
pub(super) fn execution_text(execution: &Execution) -> Vec<String> {
    let mut lines: Vec<String> = execution.lines().iter().map(|line| escape::terminal(line)).collect();
    lines.push(format!("determinism class {}: {}", execution.determinism.as_str(), execution.determinism.meaning()));
    lines
}

/// The comparison with the CPU.
fn stage_table(check: &ProviderCheck) -> String {
    let mut lines = vec![
        format!(
            "on {} against {} on the CPU in fp32, {} prompts ({})",
            check.provider,
            escape::terminal(&check.reference),
            check.cases,
            check.prompts
        ),
        format!("{:10} {:13} {:>9} {:>9} {:>9}", "stage", "output", "max", "relative", "limit"),
    ];
    lines.extend(check.stages.iter().map(|stage| {
        format!(
            "{:10} {:13} {:9.1e} {:9.1e} {:9.0e}  {}",
            stage.stage,
            stage.output,
            stage.difference.max_absolute,
            stage.difference.relative,
            stage.limit,
            if stage.passed { "ok" } else { "TOO LARGE" }
        )
    }));
    let least = check.least_equal_tokens.map_or_else(
        || "counted only, as the precision decides by the errors".to_owned(),
        |least| format!("at least {} %", 100.0 * least),
    );
    lines.push(format!(
        "{}: next tokens {}/{} equal ({least})",
        if check.passed { "PASSED" } else { "FAILED" },
        check.tokens_equal,
        check.tokens
    ));
    lines.join("\n")
}

/// What decides about a package with fewer bits, as a line of its own.
pub(super) fn relative_note(error: f64, limit: Option<f64>) -> String {
    limit.map_or_else(String::new, |limit| {
        format!("\nweights have fewer bits than the reference's: its tokens are counted, the relative logit error of {error:.1e} decides (limit {limit})")
    })
}

fn table(report: &VerifyReport) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{} against {}\n", escape::terminal(&report.package), escape::terminal(&report.reference));
    let width = report.cases.iter().map(|case| case.name.chars().count()).max().unwrap_or(0).max(4);
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{:width$}  {:>9} {:>8}  {:>9} {:>9}  {:>9} {:>9}  {:>9} {:>9}  {:>7}  tokens",
        "case", "pixels", "≤1/255", "vision", "rel", "projector", "rel", "logits", "rel", "prompt"
    );
    let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1e}"));
    for case in &report.cases {
        let _ = writeln!(
            text,
            "{:width$}  {:9.1e} {:7.2}%  {:>9} {:>9}  {:9.1e} {:9.1e}  {:9.1e} {:9.1e}  {:>7}  {}/{}",
            escape::terminal(&case.name),
            case.pixels.max_absolute,
            100.0 * case.pixels_within_one_level,
            shown(case.features.map(|features| features.max_absolute)),
            shown(case.features.map(|features| features.relative)),
            case.image_embeds.max_absolute,
            case.image_embeds.relative,
            case.logits.max_absolute,
            case.logits.relative,
            if case.prompt_tokens_equal { "equal" } else { "DIFFERS" },
            case.tokens_equal,
            case.tokens
        );
    }
    let _ = writeln!(
        text,
        "{}: greedy tokens {}/{} equal, max logit error {:.1e} (limit {:.0e}), pixels within 1/255 for {:.3} % (limit {:.1} %)",
        if report.passed { "PASSED" } else { "FAILED" },
        report.tokens_equal,
        report.tokens,
        report.max_logit_error,
        report.max_logit_error_limit,
        100.0 * report.pixels_within_one_level,
        100.0 * report.pixels_limit
    );
    text.push_str(relative_note(report.relative_logit_error, report.relative_logit_error_limit).trim_start());
    text
}
