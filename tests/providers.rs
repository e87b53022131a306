//! `--provider` as a user meets it on a machine that cannot fulfil it: refused with the true reasons, never replaced by the processor.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::path::Path;

use common::{gauge, gauge_fails, gauge_json, gauge_output, text};
use serde_json::Value;

const ASK: [&str; 4] = ["ask", "pico-llava-1.5", "--prompt", "x"];

/// The program's own cache folder is `cache`, and no variable names a library.
#[track_caller]
fn fails_with_cache(arguments: &[&str], cache: &Path, code: i32) -> String {
    let mut command = gauge(arguments);
    command.env("XDG_CACHE_HOME", cache).env_remove("ORT_DYLIB_PATH").env_remove("NVIDIA_TF32_OVERRIDE");
    String::from_utf8(command.assert().code(code).get_output().stderr.clone()).unwrap()
}

/// The library of the build for the processor, which every machine of these tests has.
fn processor_library() -> String {
    gauge_json(&["doctor", "--json"])["runtime"]["library"].as_str().unwrap().to_owned()
}

#[test]
fn options_that_do_not_belong_to_the_provider_are_wrong_usage() {
    let cases: [(&[&str], &str); 10] = [
        (&["--device-index", "1"], "--device-index is for --provider cuda or tensorrt, found --provider cpu"),
        (&["--device-memory", "2GiB"], "--device-memory is for"),
        (&["--tf32"], "--tf32 is for"),
        (&["--cudnn-search", "heuristic"], "--cudnn-search is for"),
        (&["--attention-backend", "math"], "--attention-backend is for"),
        (&["--cuda-libs", "/opt/cuda"], "--cuda-libs is for"),
        (
            &["--provider", "cuda", "--tensorrt-cache", "off"],
            "--tensorrt-cache is for --provider tensorrt, found --provider cuda",
        ),
        (&["--provider", "cuda", "--tensorrt-precision", "fp16"], "--tensorrt-precision is for --provider tensorrt"),
        (&["--tensorrt-builder-level", "5"], "--tensorrt-builder-level is for --provider tensorrt, found --provider cpu"),
        (&["--provider", "cuda", "--low-memory"], "--low-memory is about weights packed for the processor"),
    ];
    for (options, expected) in cases {
        let error = gauge_fails(&[&ASK, options].concat(), 2);
        assert!(error.contains(expected), "{options:?}: {error}");
    }
    for options in [&["--provider", "gpu"][..], &["--provider", "cuda", "--cudnn-search", "best"], &["--device-memory", "much"]] {
        gauge_fails(&[&ASK, options].concat(), 2);
    }
    gauge_fails(&[&ASK, &["--provider", "tensorrt", "--tensorrt-builder-level", "6"][..]].concat(), 2);
}

#[test]
fn without_the_build_for_gpus_nothing_runs_and_the_error_says_how_it_is_installed() {
    let cache = tempfile::tempdir().unwrap();
    let output = cache.path().join("runs");
    let benchmark = ["run", "--model", "pico-llava-1.5", "--benchmark", "pico-vqa", "--limit", "6", "-o", text(&output)];
    for provider in ["cuda", "tensorrt"] {
        for verb in [&ASK[..], &benchmark, &["bench", "pico-llava-1.5"], &["doctor"]] {
            let error = fails_with_cache(&[verb, &["--provider", provider]].concat(), cache.path(), 92);
            // What `doctor` finds stands in its own output.
            if verb != ["doctor"] {
                assert!(error.contains(&format!("--provider {provider} cannot be used here")), "{verb:?}: {error}");
                assert!(error.contains("ONNX Runtime for GPUs is not installed"), "{verb:?}: {error}");
                assert!(error.contains("`llava-gauge runtime install --flavor cuda`"), "{verb:?}: {error}");
            }
        }
    }
    assert!(!output.exists(), "no run was begun");
    assert!(!cache.path().join("llava-gauge").exists(), "nothing was fetched");
}

#[test]
fn a_build_for_the_processor_is_told_apart() {
    let (library, cache) = (processor_library(), tempfile::tempdir().unwrap());
    for (provider, words) in [("cuda", "CUDA execution provider"), ("tensorrt", "TensorRT execution provider")] {
        let options = ["--provider", provider, "--ort-lib", &library];
        let error = fails_with_cache(&[&ASK[..], &options].concat(), cache.path(), 92);
        assert!(error.contains(&format!("{words} is not enabled in this build")), "{error}");
        assert!(error.contains(&library) && error.contains("runtime install --flavor cuda"), "{error}");
    }
}

#[test]
fn a_folder_without_the_libraries_is_named_among_those_looked_in() {
    let folder = tempfile::tempdir().unwrap();
    let named = folder.path().join("cuda");
    let report = gauge_json(&["doctor", "--json", "--cuda-libs", text(&named)]);
    let gpu = &report["gpu"];
    assert_eq!(gpu["folders"][0], text(&named));
    let libraries = gpu["libraries"].as_array().unwrap();
    let names: Vec<&str> = libraries.iter().map(|library| library["library"].as_str().unwrap()).collect();
    for library in ["libcudart.so.13", "libcublasLt.so.13", "libcudnn.so.9", "libnvinfer.so.10"] {
        assert!(names.contains(&library), "{names:?}");
    }
    let providers = gpu["providers"].as_array().unwrap();
    assert_eq!(providers.iter().map(|provider| &provider["provider"]).collect::<Vec<_>>(), ["cuda", "tensorrt"]);
    for provider in providers {
        let reasons = provider["reasons"].as_array().unwrap();
        assert_eq!(provider["ready"], Value::Bool(reasons.is_empty()), "ready if and only if nothing is in the way");
        let missing = libraries.iter().filter(|library| library["required"] == true && library["path"].is_null());
        let reasons: String = reasons.iter().filter_map(Value::as_str).collect();
        for library in missing.filter(|library| provider["provider"] == "tensorrt" || library["part"] != "TensorRT") {
            assert!(reasons.contains(library["library"].as_str().unwrap()), "{library} is not told: {reasons}");
            assert!(reasons.contains(text(&named)), "{reasons}");
        }
    }

    // A library that is there is shown where it was found.
    std::fs::create_dir(&named).unwrap();
    std::fs::write(named.join("libcudart.so.13"), b"").unwrap();
    let table = gauge_output(&["doctor", "--cuda-libs", text(&named)]);
    assert!(table.contains(&format!("libcudart.so.13: {}", named.join("libcudart.so.13").display())), "{table}");
}

#[test]
fn the_build_for_the_processor_is_installed_once() {
    processor_library();
    let installed = gauge_json(&["runtime", "install", "--json"]);
    assert_eq!((&installed["format"], &installed["flavor"], &installed["source"]), (&1.into(), &"cpu".into(), &"cache".into()));
    assert_eq!(installed["files"].as_array().unwrap().len(), 1);
    assert!(gauge_output(&["runtime", "install", "--flavor", "cpu"]).contains("was installed already"));
}

#[test]
fn runs_record_the_provider() {
    let folder = tempfile::tempdir().unwrap();
    gauge(&[
        "run",
        "--model",
        "pico-llava-1.5",
        "--benchmark",
        "pico-vqa",
        "--limit",
        "6",
        "--provider",
        "cpu",
        "-o",
        text(folder.path()),
    ])
    .assert()
    .success();
    let header = std::fs::read_to_string(folder.path().join("pico-llava-1.5/pico-vqa/run.json")).unwrap();
    let header: Value = serde_json::from_str(&header).unwrap();
    assert_eq!(header["settings"]["provider"], "cpu");
    assert!(header["settings"].get("provider_options").is_none(), "there is nothing to tell");
}
