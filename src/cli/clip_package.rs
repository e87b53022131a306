//! `package inspect` and `package verify` of a CLIP package.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use super::exit::Exit;
use super::{Globals, VerbResult, clip, terminal};
use crate::engine::{PlacementOptions, Scheduling};
use crate::guard::escape::terminal as clean;
use crate::package::{ClipManifest, ClipPackage, TextPooling};
use crate::run::{ClipVerifyReport, execution, verify_clip_package};

#[derive(Serialize)]
struct Inspection<'a> {
    format: u32,
    identity: &'a str,
    hashes_checked: bool,
    manifest: &'a ClipManifest,
}

/// Shows what the package in `root` holds.
pub fn inspect(root: &Path, hashes: bool, json: bool) -> VerbResult {
    let package = ClipPackage::open(root)?;
    if hashes {
        package.verify_hashes()?;
    }
    let manifest = &package.manifest;
    if json {
        terminal::print_json(&Inspection { format: 1, identity: &package.identity, hashes_checked: hashes, manifest })?;
        return Ok(Exit::Success);
    }
    let identity = clip::identity(&package);
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    let pooling = match manifest.text.pooling {
        TextPooling::LargestId => "row of the largest token id".to_owned(),
        TextPooling::FirstEos(eos) => format!("row of the first token {eos}"),
    };
    let mut lines = vec![
        format!("{}  ({})", clean(&manifest.name), package.root.display()),
        format!("identity   {}", package.identity),
        format!("source     CLIP, tensors {}", clean(&manifest.source.checkpoint_dtype)),
        format!("precision  vision/text {}", identity.precision),
    ];
    lines.extend(super::package::quantisation_lines(manifest.quantisation.as_ref()));
    lines.push(super::package::operators_line(manifest.flavor));
    lines.extend([
        format!(
            "vision     {} px, patch {}, {} layers × {}",
            manifest.vision.image_size, manifest.vision.patch_size, manifest.vision.layers, manifest.vision.hidden_size
        ),
        format!(
            "text       {} layers × {}, vocabulary {}, up to {} tokens, {pooling}",
            manifest.text.layers, manifest.text.hidden_size, manifest.text.vocabulary_size, manifest.text.maximum_tokens
        ),
        format!("embedding  {} numbers, cosines × {:.4}", manifest.projection_size, manifest.logit_scale.exp()),
        format!("image      {} — {}", clean(&identity.image_recipe), clean(&manifest.image.origin)),
        format!("files      {} ({:.1} MB)", manifest.files.len(), bytes as f64 / 1e6),
    ]);
    if hashes {
        lines.push("hashes     all equal to the manifest".to_owned());
    }
    terminal::print(&lines.join("\n"))?;
    Ok(Exit::Success)
}

/// Replays the parity fixture of the package in `root`.
pub fn verify(root: &Path, reference: Option<&Path>, json: bool, globals: &Globals) -> VerbResult {
    // Verifying is the time to measure what runs where, on the CPU too.
    let globals = Globals { placement: PlacementOptions { probe: true, ..globals.placement }, ..globals.clone() };
    let mut model = clip::load(root, &globals)?;
    let execution = execution(&model.encoder.placement(), &super::model::engine_options(&globals, Scheduling::default()));
    let report = verify_clip_package(&model.package, reference, &model.tokenizer, &mut model.encoder)?;
    if json {
        let mut value = serde_json::to_value(&report).context("cannot serialise the report")?;
        if let Some(fields) = value.as_object_mut() {
            fields.insert("execution".to_owned(), serde_json::to_value(&execution).context("cannot serialise the placement")?);
        }
        terminal::print_json(&value)?;
    } else {
        let mut text = super::package::execution_text(&execution);
        text.push(table(&report));
        terminal::print(&text.join("\n"))?;
    }
    Ok(if report.passed { Exit::Success } else { Exit::TooManyFailures })
}

fn table(report: &ClipVerifyReport) -> String {
    let line = |name: &str, difference: &crate::run::StageDifference| {
        format!("{name:13} max {:9.1e}  relative {:9.1e}", difference.max_absolute, difference.relative)
    };
    [
        format!("{} against {}", clean(&report.package), clean(&report.reference)),
        format!("{}  within 1/255 {:.2} %", line("pixels", &report.pixels), 100.0 * report.pixels_within_one_level),
        line("image_embeds", &report.image_embeds),
        line("text_embeds", &report.text_embeds),
        line("logits", &report.logits),
        format!(
            "{}: {} images, {} texts; token ids {}/{} equal, ranks {}/{} equal, max logit error {:.1e} (limit {:.0e})",
            if report.passed { "PASSED" } else { "FAILED" },
            report.images,
            report.texts,
            report.texts_with_equal_tokens,
            report.texts,
            report.ranks_equal,
            report.ranks,
            report.logits.max_absolute,
            report.max_logit_error_limit
        ) + &super::package::relative_note(report.logits.relative, report.relative_logit_error_limit),
    ]
    .join("\n")
}
