//! `models`: what can be exported and run, and what shows it.

use clap::Args;
use serde::Serialize;

use super::exit::Exit;
use super::{VerbResult, terminal};
use crate::export::{OtherSource, SupportedModel, other_sources, supported};
use crate::package::SourceFormat;

/// Arguments of `models`.
#[derive(Debug, Args)]
pub struct ModelsArguments {
    /// Print as a Markdown table
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Models {
    format: u32,
    models: Vec<Model>,
    others: Vec<Other>,
}

#[derive(Debug, Serialize)]
struct Model {
    version: &'static str,
    format: SourceFormat,
    classes: &'static str,
    tower: &'static str,
    projector: &'static str,
    language_model: &'static str,
    images: &'static str,
    /// Random checkpoints of `tests/parity/configurations.py` whose greedy tokens equal the reference's.
    evidence: &'static [&'static str],
    /// Those that `cargo test` asks from a record.
    recorded: &'static [&'static str],
}

#[derive(Debug, Serialize)]
struct Other {
    what: &'static str,
    how: &'static str,
    evidence: &'static [&'static str],
}

/// Runs the verb.
pub fn run(arguments: &ModelsArguments) -> VerbResult {
    if arguments.json {
        terminal::print_json(&Models {
            format: 1,
            models: supported().iter().map(model).collect(),
            others: other_sources().iter().map(other).collect(),
        })?;
    } else if arguments.markdown {
        terminal::print(&markdown())?;
    } else {
        terminal::print(&plain())?;
    }
    Ok(Exit::Success)
}

fn model(row: &SupportedModel) -> Model {
    Model {
        version: row.version,
        format: row.format,
        classes: row.classes,
        tower: row.tower,
        projector: row.projector,
        language_model: row.language_model,
        images: row.images,
        evidence: row.evidence,
        recorded: row.recorded,
    }
}

fn other(source: &OtherSource) -> Other {
    Other { what: source.what, how: source.how, evidence: source.evidence }
}

fn format_name(format: SourceFormat) -> &'static str {
    match format {
        SourceFormat::HuggingFace => "Hugging Face",
        SourceFormat::Original => "original",
    }
}

/// The tables of the README.
fn markdown() -> String {
    let mut lines = vec![
        "| LLaVA | format | tower | projector | language model | images | parity rows |".to_owned(),
        "| --- | --- | --- | --- | --- | --- | --- |".to_owned(),
    ];
    for row in supported() {
        let rows = row.evidence.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" ");
        let images = row.images.replace('<', "\\<");
        lines.push(format!(
            "| {} | {} | {} | {} | {} | {images} | {rows} |",
            row.version,
            format_name(row.format),
            row.tower,
            row.projector,
            row.language_model
        ));
    }
    lines.extend(["", "| also | how | shown by |", "| --- | --- | --- |"].map(str::to_owned));
    for source in other_sources() {
        let evidence = source.evidence.iter().map(|file| format!("`{file}`")).collect::<Vec<_>>().join(", ");
        lines.push(format!("| {} | {} | {evidence} |", source.what, source.how));
    }
    lines.join("\n")
}

/// One block a row, which needs no width.
fn plain() -> String {
    let mut blocks = Vec::new();
    for row in supported() {
        let mut block = format!("LLaVA {}, {} format ({})\n", row.version, format_name(row.format), row.classes);
        for (name, value) in [
            ("tower", row.tower),
            ("projector", row.projector),
            ("language model", row.language_model),
            ("images", row.images),
            ("parity rows", &row.evidence.join(", ")),
        ] {
            block.push_str(&format!("  {name:<15} {value}\n"));
        }
        blocks.push(block);
    }
    for source in other_sources() {
        blocks.push(format!("{}\n  {}\n  {:<15} {}\n", source.what, source.how, "shown by", source.evidence.join(", ")));
    }
    blocks.join("\n").trim_end().to_owned()
}
