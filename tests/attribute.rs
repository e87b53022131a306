//! `attribute` on shipped packages and on packages that are damaged in one stage on purpose: which stage is to blame?
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod attribute_support;
mod common;
mod export_support;

use std::fs;
use std::path::Path;

use attribute_support::{Damage, package_with};
use common::{gauge, gauge_fails, gauge_json, gauge_output, root, text};
use export_support::copy_folder;
use llava_gauge::compare::{Attribution, Stage, StageContribution};
use llava_gauge::store::{Run, SampleRecord};

const BASE: &str = "pico-llava-1.5";

fn attribution(arguments: &[&str]) -> Attribution {
    serde_json::from_value(gauge_json(&[&["attribute"], arguments, &["--json"]].concat())).unwrap()
}

fn part(parts: &[StageContribution], stage: Stage) -> &StageContribution {
    parts.iter().find(|part| part.stage == stage).unwrap()
}

/// What a model said, timings aside: key, tokens, log-probability, score and prompt of each sample.
type Said<'a> = (&'a str, &'a [u32], f64, Option<f64>, &'a str);

fn answers(run: &Run) -> Vec<Said<'_>> {
    let said = |record: &'_ SampleRecord| (record.log_probability, record.score);
    run.records
        .iter()
        .map(|record| {
            let (log_probability, score) = said(record);
            (record.key.as_str(), record.token_ids.as_slice(), log_probability, score, record.prompt_sha256.as_str())
        })
        .collect()
}

/// Runs base and damaged package, expects this exit code of the gate and gives what it printed.
fn gated(folder: &Path, package: &Path, questions: &str, code: i32) -> String {
    let runs = folder.join("runs");
    // As mixes are run, so that the last bits are the same.
    let scheduling = ["--scheduling", "packed-tree"];
    let asked = ["run", "--model", BASE, text(package), "--benchmark", "pico-vqa", "--limit", questions, "-o", text(&runs)];
    gauge(&[&asked[..], &scheduling].concat()).assert().success();
    let name = package.file_name().unwrap().to_str().unwrap();
    let (baseline, new) = (runs.join(BASE), runs.join(name));
    let output = gauge(&["gate", text(&new), "--baseline", text(&baseline)]).assert().code(code).get_output().clone();
    String::from_utf8(output.stdout).unwrap()
}

/// A package damaged in one stage fails the gate, and stage swapping blames that stage. The two mixes are the packages themselves.
fn is_caught(name: &str, damage: Damage, stage: Stage) {
    let folder = tempfile::tempdir().unwrap();
    let package = package_with(folder.path(), name, &[damage]);
    let said = gated(folder.path(), &package, "240", 100);
    assert!(said.contains("vqa_accuracy"), "{said}");

    let output = folder.path().join("swapped");
    let arguments = [BASE, text(&package), "--benchmark", "pico-vqa", "--limit", "240", "-o", text(&output)];
    let found = attribution(&arguments);
    assert_eq!((found.base.as_str(), found.new.as_str()), (BASE, name));
    let others: Vec<Stage> = Stage::ALL.into_iter().filter(|other| *other != stage).collect();
    assert_eq!(found.equal_stages, others, "{name}");
    let [benchmark] = found.benchmarks.as_slice() else { panic!("one benchmark") };
    assert_eq!((benchmark.n, benchmark.mixes.len()), (240, 2));
    let loss = -benchmark.difference.value;
    assert!(loss > 3.0 && benchmark.difference.interval.unwrap()[1] < 0.0, "{name} loses {loss} points");
    assert!(part(&benchmark.stages, stage).share.unwrap() >= 0.8, "{name}: {:?}", benchmark.stages);
    for other in others {
        assert_eq!(part(&benchmark.stages, other).contribution.value, 0.0);
    }
    let mixed = if stage == Stage::Vision {
        "new-base-base"
    } else if stage == Stage::Projector {
        "base-new-base"
    } else {
        "base-base-new"
    };
    for (mix, run) in [("base-base-base", BASE), (mixed, name)] {
        let swapped = Run::open(&output.join(mix).join("pico-vqa")).unwrap();
        let alone = Run::open(&folder.path().join("runs").join(run).join("pico-vqa")).unwrap();
        assert_eq!(answers(&swapped), answers(&alone), "{name}: the mix {mix} answers as the package does");
        assert_eq!(swapped.header.model, alone.header.model);
    }
    // The direct comparison sees it in the same stage and nowhere else.
    let divergence = found.divergence.unwrap();
    let errors = [divergence.vision.relative_error, divergence.projector.relative_error, divergence.llm.mean_kl];
    for (error, place) in errors.into_iter().zip(Stage::ALL) {
        assert_eq!(error > 0.0, place == stage, "{name}: {errors:?}");
    }
    assert!(divergence.whole.mean_kl > 0.0 && divergence.whole.top1_agreement < 1.0);
}

#[test]
fn noise_on_the_projector_is_caught() {
    is_caught("noisy-projector", Damage::ProjectorNoise(0.5), Stage::Projector);
}

#[test]
fn a_language_model_of_four_bits_is_caught() {
    is_caught("int4-llm", Damage::LlmInt4, Stage::Llm);
}

#[test]
fn a_vision_tower_from_another_seed_is_caught() {
    is_caught("reseeded-vision", Damage::VisionReseeded, Stage::Vision);
}

/// Where every stage has changed a little, as after more training, all eight mixes are run, and the stage with the damage still has
/// at least four fifths of the loss. The same command again asks nothing and finds the same.
#[test]
fn the_damaged_stage_is_found_among_stages_that_all_changed() {
    let folder = tempfile::tempdir().unwrap();
    let package = package_with(folder.path(), "worn", &[Damage::Jitter(0.01), Damage::ProjectorNoise(0.5)]);
    let output = folder.path().join("swapped");
    let arguments = [BASE, text(&package), "--benchmark", "pico-vqa", "pico-pope", "--limit", "120", "-o", text(&output)];
    let found = attribution(&arguments);
    assert!(found.equal_stages.is_empty());
    for benchmark in &found.benchmarks {
        assert_eq!((benchmark.n, benchmark.mixes.len()), (120, 8));
        let sum: f64 = benchmark.stages.iter().map(|stage| stage.contribution.value).sum();
        assert!((sum - benchmark.difference.value).abs() < 1e-9);
        let projector = part(&benchmark.stages, Stage::Projector);
        assert!(projector.share.unwrap() >= 0.8, "{}: {:?}", benchmark.benchmark, benchmark.stages);
        let interval = projector.contribution.interval.unwrap();
        assert!(interval[1] < 0.0, "{interval:?}");
    }
    let divergence = found.divergence.as_ref().unwrap();
    assert!(divergence.projector.relative_error > 5.0 * divergence.vision.relative_error);
    assert!(divergence.llm.mean_kl < 0.1 * divergence.whole.mean_kl, "{:?} {:?}", divergence.llm, divergence.whole);
    assert!((16..=32).contains(&divergence.images), "{}", divergence.images);

    let file = fs::read_to_string(output.join("attribution.json")).unwrap();
    assert_eq!(serde_json::from_str::<Attribution>(&file).unwrap(), found);
    let log = output.join("new-base-new/pico-vqa/samples.jsonl");
    let before = fs::read(&log).unwrap();
    assert_eq!(attribution(&arguments), found);
    assert_eq!(fs::read(&log).unwrap(), before);
    // Mixes are run directories that other verbs read, under names that say what they are.
    let runs = gauge_json(&["compare", text(&output), "--json"]);
    let names: Vec<&str> =
        runs["runs"].as_array().unwrap().iter().map(|run| run["header"]["model"]["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"pico-llava-1.5 with vision and llm of worn"), "{names:?}");
    // A folder that is about other packages is left alone.
    let error = gauge_fails(&["attribute", BASE, "pico-llava-1.5-stage1", "--benchmark", "pico-vqa", "-o", text(&output)], 96);
    assert!(error.contains("attribution.json") && error.contains("worn"), "{error}");
}

/// The same for the other two damages.
#[test]
fn each_damaged_stage_is_found_among_stages_that_all_changed() {
    for (name, damage, stage) in
        [("worn-llm", Damage::LlmInt4, Stage::Llm), ("worn-vision", Damage::VisionReseeded, Stage::Vision)]
    {
        let folder = tempfile::tempdir().unwrap();
        let package = package_with(folder.path(), name, &[Damage::Jitter(0.01), damage]);
        let found = attribution(&[BASE, text(&package), "--benchmark", "pico-vqa", "--limit", "240", "--divergence-images", "0"]);
        let [benchmark] = found.benchmarks.as_slice() else { panic!("one benchmark") };
        assert_eq!((benchmark.n, benchmark.mixes.len()), (240, 8), "{name}");
        let damaged = part(&benchmark.stages, stage);
        assert!(
            damaged.share.unwrap() >= 0.8 && damaged.contribution.interval.unwrap()[1] < 0.0,
            "{name}: {:?}",
            benchmark.stages
        );
    }
}

#[test]
fn an_undamaged_export_passes_and_nothing_is_attributed() {
    let folder = tempfile::tempdir().unwrap();
    let package = package_with(folder.path(), "exported-again", &[Damage::None]);
    gated(folder.path(), &package, "60", 0);
    let found = attribution(&[BASE, text(&package), "--benchmark", "pico-vqa", "--limit", "60"]);
    assert_eq!(found.equal_stages, Stage::ALL);
    let benchmark = &found.benchmarks[0];
    assert_eq!((benchmark.n, benchmark.mixes.len(), benchmark.difference.value), (60, 1, 0.0));
    assert!(benchmark.stages.iter().all(|stage| stage.contribution.value == 0.0 && stage.share.is_none()));
    let divergence = found.divergence.unwrap();
    assert_eq!(
        (divergence.vision.relative_error, divergence.projector.relative_error, divergence.whole.mean_kl),
        (0.0, 0.0, 0.0)
    );
    assert_eq!(divergence.whole.top1_agreement, 1.0);
    assert!(found.notes.iter().any(|note| note.contains("nothing to attribute")), "{:?}", found.notes);
}

/// The layer that was damaged is the one at which the packages part: what comes after it differs only because of it.
#[test]
fn a_deep_look_finds_the_layer() {
    let folder = tempfile::tempdir().unwrap();
    for (name, damages, vision, llm) in [
        ("vision-layer", &[Damage::Layer("vision_tower", 1, 0.3)][..], Some(1), None),
        ("llm-layer", &[Damage::Layer("language_model", 2, 0.3)], None, Some(2)),
        ("both", &[Damage::Layer("vision_tower", 3, 0.3), Damage::Layer("language_model", 0, 0.3)], Some(3), Some(0)),
    ] {
        let package = package_with(folder.path(), name, damages);
        let found = attribution(&[BASE, text(&package), "--benchmark", "pico-vqa", "--limit", "12", "--deep"]);
        let divergence = found.divergence.unwrap();
        for (stage, damaged, layers) in [(Stage::Vision, vision, 4), (Stage::Llm, llm, 4)] {
            let looked: Vec<_> = divergence.layers.iter().filter(|layer| layer.stage == stage).collect();
            let start = divergence.starts.iter().find(|start| start.stage == stage);
            let Some(damaged) = damaged else {
                assert!(looked.is_empty() && start.is_none(), "{name}: an equal stage is not looked at");
                continue;
            };
            assert_eq!(looked.len(), layers, "{name}");
            assert_eq!(start.map(|start| (start.first, start.largest)), Some((damaged, damaged)), "{name}");
            for layer in looked {
                // Equal layers on equal states are equal to the bit; after the damage all states differ.
                assert_eq!(layer.alone.relative_error > 0.0, layer.layer == damaged, "{name}: {layer:?}");
                assert_eq!(layer.divergence.relative_error > 0.0, layer.layer >= damaged, "{name}: {layer:?}");
            }
        }
    }
}

/// LLaVA-1.5 and v1: other recipes, prompts and head sizes, but the same shapes between stages.
#[test]
fn versions_of_the_family_can_be_mixed() {
    let found = attribution(&[BASE, "pico-llava-v1", "--benchmark", "pico-vqa", "--limit", "60", "--deep"]);
    assert!(found.notes.iter().any(|note| note.contains("image recipe")), "{:?}", found.notes);
    assert!(found.notes.iter().any(|note| note.contains("prompt recipe")), "{:?}", found.notes);
    let benchmark = &found.benchmarks[0];
    let sum: f64 = benchmark.stages.iter().map(|stage| stage.contribution.value).sum();
    assert!((sum - benchmark.difference.value).abs() < 1e-9);
    // Their prompts have unequal lengths, and still every layer of both stages can be looked at.
    assert!(found.notes.iter().any(|note| note.contains("unequal lengths")), "{:?}", found.notes);
    let layers = found.divergence.unwrap().layers;
    for stage in [Stage::Vision, Stage::Llm] {
        assert_eq!(layers.iter().filter(|layer| layer.stage == stage).count(), 4, "{layers:?}");
    }
}

#[test]
fn the_table_says_who_is_to_blame() {
    let said = gauge_output(&["attribute", BASE, "pico-llava-1.5-stage1", "--benchmark", "pico-vqa", "--limit", "60"]);
    for wanted in
        ["loses", "points against pico-llava-1.5", "language model", "projector", "whole difference", "mean cosine", "60 samples"]
    {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    assert!(said.lines().all(|line| line.chars().count() <= 100), "{said}");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let refused = |new: &str, code: i32| gauge_fails(&["attribute", BASE, new, "--benchmark", "pico-vqa"], code);
    let error = refused("pico-llava-next", 104);
    assert!(error.contains("image.tiling") && error.contains("pico-llava-next"), "{error}");
    let tiny = root().join("tests/fixtures/engine/tiny");
    let error = refused(text(&tiny), 104);
    for field in ["vision.hidden_size is 96", "projector.output_size is 128", "llm.hidden_size is 128"] {
        assert!(error.contains(field), "{field}: {error}");
    }
    let foreign = root().join("tests/fixtures/foreign/genai");
    let error = refused(text(&foreign), 104);
    assert!(error.contains("onnxruntime-genai") && error.contains("compare"), "{error}");
    assert!(refused("pico-clip", 102).contains("CLIP"), "another kind of package");

    let folder = tempfile::tempdir().unwrap();
    let swapped = folder.path().join("swapped-tokens");
    copy_folder(&root().join("exports/pico-llava-1.5"), &swapped);
    let tokenizer = fs::read_to_string(swapped.join("tokenizer.json")).unwrap();
    let exchanged = tokenizer.replacen(": 500,", ": ___,", 1).replacen(": 501,", ": 500,", 1).replacen(": ___,", ": 501,", 1);
    assert_ne!(tokenizer, exchanged);
    fs::write(swapped.join("tokenizer.json"), exchanged).unwrap();
    let error = refused(text(&swapped), 104);
    assert!(error.contains("tokenizer.json") && error.contains("501 and 500"), "{error}");

    let setup = |benchmark: &str| gauge_fails(&["attribute", BASE, BASE, "--benchmark", benchmark], 96);
    assert!(setup("pico-zeroshot").contains("CLIP"));
    assert!(setup("no-such-benchmark").contains("no-such-benchmark"));
}
