//! What runs where, as the program tells it: on the CPU the proof is trivial and goes the same way as on a GPU.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::path::{Path, PathBuf};

use common::{gauge, gauge_fails, gauge_json, gauge_output, root, text};
use llava_gauge::engine::{ClipEncoder, EngineOptions, GraphPlacement, LoadedEngine, PlacementOptions};
use llava_gauge::package::{ClipPackage, Package};
use llava_gauge::store::{DeterminismClass, Run};
use serde_json::Value;

const CPU: &str = "CPUExecutionProvider";

fn shipped(name: &str) -> PathBuf {
    root().join("exports").join(name)
}

fn options(probe: bool) -> EngineOptions {
    EngineOptions {
        placement: PlacementOptions { probe, ..PlacementOptions::default() },
        intra_op_threads: 2,
        ..EngineOptions::default()
    }
}

fn all_on_the_cpu(graphs: &[GraphPlacement], names: &[&str], measured: bool) {
    let found: Vec<&str> = graphs.iter().map(|graph| graph.graph.as_str()).collect();
    assert_eq!(found, names);
    for graph in graphs {
        assert_eq!((graph.provider.as_str(), graph.node_share(), graph.elsewhere.len()), (CPU, 1.0, 0), "{graph:?}");
        assert!(graph.nodes > 0, "{graph:?}");
        match measured {
            true => assert_eq!((graph.time_share, graph.copy_time_share), (Some(1.0), Some(0.0)), "{graph:?}"),
            false => assert_eq!((graph.time_share, graph.copy_time_share), (None, None), "{graph:?}"),
        }
    }
}

/// Our own packages, those of other programs, and CLIP's: every kind of engine reads its placement back, with a
/// measured run and without.
#[test]
fn every_kind_of_package_tells_what_runs_its_graphs() {
    let tiny = Package::open(&root().join("tests/fixtures/engine/tiny")).unwrap();
    let pico = Package::open(&shipped("pico-llava-1.5")).unwrap();
    let foreign = llava_gauge::export::adopt(&root().join("tests/fixtures/foreign/transformers-js"), None).unwrap();
    let foreign_graphs = [
        foreign.manifest.vision.graph.as_str(),
        foreign.manifest.foreign.as_ref().unwrap().embedding.graph.as_str(),
        foreign.manifest.llm.graph.as_str(),
    ];
    let clip = ClipPackage::open(&shipped("pico-clip")).unwrap();
    for probe in [false, true] {
        let own = ["vision.onnx", "projector.onnx", "llm.onnx"];
        all_on_the_cpu(&LoadedEngine::load(&pico, &options(probe)).unwrap().placement(), &own, probe);
        all_on_the_cpu(&ClipEncoder::load(&clip, &options(probe)).unwrap().placement(), &["vision.onnx", "text.onnx"], probe);
    }
    all_on_the_cpu(&LoadedEngine::load(&foreign, &options(false)).unwrap().placement(), &foreign_graphs, false);
    // The smallest graphs may take less than a microsecond, which is no time to take shares of; the nodes count then.
    for package in [&tiny, &foreign] {
        let placed = LoadedEngine::load(package, &options(true)).unwrap().placement();
        assert!(placed.len() == 3 && placed.iter().all(|graph| graph.nodes > 0));
        for graph in placed {
            assert_eq!((graph.share(), graph.node_share()), (1.0, 1.0), "{graph:?}");
        }
    }
}

/// Nothing is left behind among the temporary files, and measuring changes no answer.
#[test]
fn measuring_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let verify = |more: &[&str]| {
        let mut command = gauge(&[&["package", "verify", "pico-llava-1.5", "--json"], more].concat());
        let output = command.env("TMPDIR", folder.path()).assert().success().get_output().stdout.clone();
        serde_json::from_slice::<Value>(&output).unwrap()
    };
    let report = verify(&[]);
    // ONNX Runtime keeps a file of its own there.
    let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let ours: Vec<_> = names.filter(|name| name.to_string_lossy().contains("llava-gauge")).collect();
    assert!(ours.is_empty(), "{ours:?}");
    assert_eq!((&report["format"], &report["passed"]), (&1.into(), &true.into()));
    assert_eq!(report["tokens"], report["tokens_equal"]);
    let execution = &report["execution"];
    assert_eq!((&execution["provider"], &execution["determinism"]), (&CPU.into(), &"D0".into()));
    let graphs = execution["graphs"].as_array().unwrap();
    assert_eq!(graphs.len(), 3);
    for graph in graphs {
        assert_eq!((&graph["node_share"], &graph["time_share"]), (&1.0.into(), &1.0.into()), "{graph}");
    }
    assert!(report.get("provider_check").is_none());
}

fn stage<'a>(report: &'a Value, name: &str) -> &'a Value {
    let stages = report["provider_check"]["stages"].as_array().unwrap();
    stages.iter().find(|stage| stage["stage"] == name).unwrap()
}

#[test]
fn stages_of_a_package_are_compared_with_the_cpu() {
    // Against itself every stage is the same to the bit.
    let report = gauge_json(&["package", "verify", "pico-llava-1.5", "--stages", "--json"]);
    let check = &report["provider_check"];
    assert_eq!((&report["passed"], &check["passed"]), (&true.into(), &true.into()), "{check:#}");
    assert_eq!((&check["prompts"], &check["least_equal_tokens"]), (&"parity fixture".into(), &1.0.into()));
    assert_eq!(check["tokens"], check["tokens_equal"]);
    for name in ["vision", "projector", "llm", "whole"] {
        assert_eq!(stage(&report, name)["difference"]["max_absolute"], 0.0, "{name}");
    }
    // So is one whose images are tiled, and one of another program, which has no stages to take apart.
    let report = gauge_json(&["package", "verify", "pico-llava-next", "--stages", "--json"]);
    assert_eq!(report["provider_check"]["passed"], true, "{report:#}");
    let foreign = root().join("tests/fixtures/foreign/transformers-js");
    let report = gauge_json(&["package", "verify", text(&foreign), "--stages", "--json"]);
    assert_eq!(report["provider_check"]["stages"].as_array().unwrap().len(), 1, "{report:#}");
    assert_eq!(stage(&report, "whole")["difference"]["max_absolute"], 0.0);

    let shown = gauge_output(&["package", "verify", "pico-llava-1.5", "--stages"]);
    for expected in [
        "llm.onnx: CPUExecutionProvider 100 % of ",
        " nodes, 100 % of their time",
        "determinism class D0: the same answers in every run",
        "on cpu against pico-llava-1.5 on the CPU in fp32",
        "PASSED: next tokens ",
    ] {
        assert!(shown.contains(expected), "{expected:?} in {shown}");
    }
}

/// A precision is compared with the fp32 package stage by stage: the error of each is its own, within the limit of its own precision.
#[test]
fn each_stage_has_its_own_error_and_limit() {
    let folder = tempfile::tempdir().unwrap();
    let mixed = folder.path().join("mixed");
    let precisions = ["--vision", "int8", "--projector", "fp32", "--llm", "fp16"];
    gauge(&[&["export", text(&shipped("pico-llava-1.5")), "-o", text(&mixed)], &precisions[..]].concat()).assert().success();
    let arguments = ["package", "verify", text(&mixed), "--reference", "pico-llava-1.5", "--stages", "--json"];
    let report = gauge_json(&arguments);
    assert_eq!(report["passed"], true, "{report:#}");
    let relative = |name: &str| stage(&report, name)["difference"]["relative"].as_f64().unwrap();
    let limit = |name: &str| stage(&report, name)["limit"].as_f64().unwrap();
    assert_eq!((limit("vision"), limit("projector"), limit("llm"), limit("whole")), (0.2, 1e-4, 0.01, 0.2));
    // The projector was not touched; what the vision encoder does is not held against it.
    assert_eq!(relative("projector"), 0.0);
    assert!(relative("vision") > 1e-4 && relative("llm") > 1e-6, "{report:#}");
    assert!(report["provider_check"]["least_equal_tokens"].is_null(), "errors decide where bits are fewer");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn the_stage_that_computes_something_else_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("package");
    copy(&shipped("pico-llava-1.5"), &package);
    // Without a fixture prompts are made up, which also needs no reference but the package itself.
    std::fs::remove_file(package.join("parity.safetensors")).unwrap();
    let manifest = package.join("package.toml");
    let mut toml: toml::Table = toml::from_str(&std::fs::read_to_string(&manifest).unwrap()).unwrap();
    toml["files"].as_array_mut().unwrap().retain(|file| file["name"].as_str() != Some("parity.safetensors"));
    std::fs::write(&manifest, toml::to_string(&toml).unwrap()).unwrap();
    let report = gauge_json(&["package", "verify", text(&package), "--stages", "--json"]);
    assert_eq!((&report["passed"], &report["provider_check"]["prompts"]), (&true.into(), &"made up".into()), "{report:#}");
    assert!(report.get("cases").is_none());
    let error = gauge_fails(&["package", "verify", text(&package)], 102);
    assert!(error.contains("no parity fixture"), "{error}");

    // The last floats of the file belong to some tensor of one stage.
    let weights = package.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let end = bytes.len() - 400 * 4;
    bytes[end..].chunks_exact_mut(4).for_each(|chunk| chunk.copy_from_slice(&3.0_f32.to_le_bytes()));
    std::fs::write(&weights, bytes).unwrap();
    let arguments = ["package", "verify", text(&package), "--reference", "pico-llava-1.5", "--stages", "--json"];
    let output = gauge(&arguments).assert().code(101).get_output().stdout.clone();
    let report: Value = serde_json::from_slice(&output).unwrap();
    let failed: Vec<&str> = report["provider_check"]["stages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|stage| stage["passed"] == false)
        .map(|stage| stage["stage"].as_str().unwrap())
        .collect();
    assert_eq!(failed.len(), 2, "one stage alone, and the whole: {failed:?}");
    assert!(failed.contains(&"whole"));
}

#[test]
fn a_run_records_its_placement_and_reports_show_it() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let arguments = ["run", "--model", "pico-llava-1.5", "--benchmark", "pico-vqa", "--limit", "10", "-o", text(&runs)];
    gauge(&arguments).assert().success();
    let directory = runs.join("pico-llava-1.5/pico-vqa");
    let header = Run::open(&directory).unwrap().header;
    let execution = header.execution.as_ref().unwrap();
    assert_eq!((execution.provider.as_str(), execution.determinism), (CPU, DeterminismClass::D0));
    assert_eq!(execution.minimum_placement, 0.99);
    assert_eq!(execution.graphs.len(), 3);
    let summary = execution.summary();
    assert!(summary.starts_with("CPUExecutionProvider 100 % of ") && summary.ends_with(" nodes"), "{summary}");

    let report = folder.path().join("report");
    gauge(&["report", text(&runs), "-o", text(&report)]).assert().success();
    let page = std::fs::read_to_string(report.join("index.html")).unwrap();
    let markdown = std::fs::read_to_string(report.join("report.md")).unwrap();
    for shown in [&page, &markdown] {
        assert!(shown.contains("CPUExecutionProvider 100 % of "), "{shown}");
        assert!(shown.contains("the same answers in every run"), "{shown}");
    }
    let comparison = gauge_json(&["compare", text(&runs), "--json"]);
    assert_eq!(comparison["runs"][0]["header"]["execution"]["provider"], CPU);

    // A header as earlier releases wrote it is read, continued, and takes the class of its provider.
    let path = directory.join("run.json");
    let mut old: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    old.as_object_mut().unwrap().remove("execution");
    std::fs::write(&path, old.to_string()).unwrap();
    let header = Run::open(&directory).unwrap().header;
    assert_eq!((header.execution.as_ref(), header.determinism()), (None, Some(DeterminismClass::D0)));
    gauge(&arguments).assert().success();
}

#[test]
fn the_doctor_shows_who_ran_the_probe() {
    let report = gauge_json(&["doctor", "--json"]);
    let placed = &report["placement"][0];
    assert_eq!((&placed["provider"], &placed["nodes"], &placed["nodes_elsewhere"]), (&CPU.into(), &1.into(), &0.into()));
    assert!(gauge_output(&["doctor"]).contains("placement   CPUExecutionProvider 100 % of 1 node of probe.onnx"));
}

#[test]
fn the_least_share_is_a_share() {
    for wrong in ["1.5", "-0.1", "NaN", "99%"] {
        let error = gauge_fails(&["package", "verify", "pico-llava-1.5", &format!("--minimum-placement={wrong}")], 2);
        assert!(error.contains("expected a share from 0 to 1"), "{error}");
    }
    gauge(&["package", "verify", "pico-llava-1.5", "--minimum-placement", "1"]).assert().success();
}
