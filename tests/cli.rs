//! The command line as a user meets it: outputs, JSON fields, error texts and exit codes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use common::{gauge, gauge_fails, gauge_json, gauge_output, root, text};
use serde_json::Value;

fn image() -> String {
    let folder = root().join("benchmarks/pico/images");
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names[0].to_str().unwrap().to_owned()
}

#[test]
fn help_names_every_verb_and_exit_code() {
    let help = gauge_output(&["--help"]);
    for verb in ["demo", "run", "compare", "report", "export", "ask", "score", "package", "benchmarks", "models", "doctor"] {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb} is missing:\n{help}");
    }
    for code in ["92", "96", "101", "102", "104", "106", "110", "130"] {
        assert!(help.contains(&format!(" {code}  ")), "{code} is missing:\n{help}");
    }
}

#[test]
fn ask_prints_the_answer_alone() {
    let answer = gauge_output(&["ask", "pico-llava-1.5", "--image", &image(), "--prompt", "Describe the image."]);
    assert!(!answer.trim().is_empty());
    assert_eq!(answer.lines().count(), 1, "{answer}");
}

#[test]
fn ask_json_shows_prompt_tokens_and_timings() {
    let image = image();
    let arguments =
        ["ask", "pico-llava-1.5", "--image", &image, "--prompt", "Describe the image.", "--max-new-tokens", "5", "--json"];
    let answer = gauge_json(&arguments);
    let prompt = answer["prompt"].as_str().unwrap();
    assert!(prompt.contains("<image>\nDescribe the image.") && prompt.ends_with("ASSISTANT:"), "{prompt}");
    let ids = answer["prompt_token_ids"].as_array().unwrap();
    let span: Vec<usize> = answer["image_spans"][0].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
    assert_eq!(span[1] - span[0], 64, "an image takes 64 rows");
    assert!(ids[span[0]..span[1]].windows(2).all(|pair| pair[0] == pair[1]));
    assert_ne!(ids[span[0]], ids[span[1]]);
    let tokens = answer["token_ids"].as_array().unwrap();
    assert_eq!(tokens.len(), answer["logprobs"].as_array().unwrap().len());
    assert!(answer["logprobs"].as_array().unwrap().iter().all(|value| value.as_f64().unwrap() <= 0.0));
    assert!(["eos", "max_new_tokens"].contains(&answer["stop_reason"].as_str().unwrap()));
    for stage in ["load", "image", "vision", "projector", "prefill", "decode", "time_to_first_token"] {
        assert!(answer["timings_ms"][stage].as_f64().unwrap() >= 0.0, "{stage}");
    }
}

#[test]
fn a_raw_prompt_is_taken_as_it_is() {
    let image = image();
    let templated = gauge_json(&["ask", "pico-llava-1.5", "--image", &image, "--prompt", "Describe the image.", "--json"]);
    let prompt = templated["prompt"].as_str().unwrap();
    let raw = gauge_json(&["ask", "pico-llava-1.5", "--image", &image, "--raw-prompt", "--prompt", prompt, "--json"]);
    for field in ["prompt", "prompt_token_ids", "token_ids", "text", "logprobs"] {
        assert_eq!(raw[field], templated[field], "{field}");
    }
}

#[test]
fn marks_and_images_must_agree() {
    let error = gauge_fails(&["ask", "pico-llava-1.5", "--raw-prompt", "--prompt", "<image>\nWhat?"], 96);
    assert!(error.contains("1 image marks") && error.contains("0 images"), "{error}");
}

#[test]
fn an_unknown_benchmark_is_a_setup_error() {
    let error = gauge_fails(&["run", "--model", "pico-llava-1.5", "--benchmark", "no-such-benchmark"], 96);
    assert!(error.contains("no-such-benchmark") && error.contains("pico-vqa"), "it should list what there is: {error}");
}

#[test]
fn a_folder_that_is_no_package_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let error = gauge_fails(&["package", "inspect", text(folder.path())], 102);
    assert!(error.contains("package.toml"), "{error}");
}

#[test]
fn a_missing_runtime_is_an_environment_error() {
    let error = gauge_fails(&["--ort-lib", "/nowhere/libonnxruntime.so", "ask", "pico-llava-1.5", "--prompt", "x"], 92);
    assert!(error.contains("/nowhere/libonnxruntime.so"), "{error}");
}

#[test]
fn a_broken_suite_file_names_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let suite = folder.path().join("suite.toml");
    std::fs::write(&suite, "models = [\"pico-llava-1.5\"]\nbenchmark = [\"pico-vqa\"]\n").unwrap();
    let error = gauge_fails(&["run", text(&suite)], 96);
    assert!(error.contains("line 2") && error.contains("benchmark"), "{error}");
}

#[test]
fn wrong_usage_is_exit_2() {
    gauge(&["run"]).assert().code(2);
    gauge(&["frobnicate"]).assert().code(2);
}

#[test]
fn doctor_reports_the_library_and_the_machine() {
    let report = gauge_json(&["doctor", "--json"]);
    let flat = report.to_string();
    assert!(flat.contains("1.31.1"), "{flat}");
    assert!(flat.contains("CPUExecutionProvider"), "{flat}");
}

#[test]
fn a_suite_file_runs_like_the_options() {
    let folder = tempfile::tempdir().unwrap();
    let suite = folder.path().join("suite.toml");
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    std::fs::write(&suite, "models = [\"pico-llava-1.5\"]\nbenchmarks = [\"pico-pope\"]\nlimit = 20\n").unwrap();
    gauge(&["run", text(&suite), "-o", text(&one)]).assert().success();
    gauge(&["run", "--model", "pico-llava-1.5", "--benchmark", "pico-pope", "--limit", "20", "-o", text(&two)])
        .assert()
        .success();
    let results = common::results_without_timings(&one);
    assert_eq!(results.len(), 21, "20 records and a summary");
    assert_eq!(results, common::results_without_timings(&two));
}

#[test]
fn unlike_runs_are_not_compared() {
    let folder = tempfile::tempdir().unwrap();
    let (few, more) = (folder.path().join("few"), folder.path().join("more"));
    let run = |limit: &str, output: &std::path::Path, model: &str| {
        gauge(&["run", "--model", model, "--benchmark", "pico-vqa", "--limit", limit, "-o", text(output)]).assert().success();
    };
    run("12", &few, "pico-llava-1.5");
    run("18", &more, "pico-llava-1.5-stage1");
    let error = gauge_fails(&["compare", text(&few), text(&more)], 104);
    assert!(error.contains("samples"), "{error}");
    run("12", &few, "pico-llava-1.5-stage1");
    let comparison = gauge_json(&["compare", text(&few), "--json"]);
    assert_eq!(comparison["pairs"][0]["paired"], 12);
}

#[test]
fn the_packed_tree_answers_like_one_question_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, single) = (folder.path().join("tree"), folder.path().join("single"));
    let suites: [(&[&str], &[&str]); 2] = [
        (
            &["pico-llava-1.5", "pico-llava-v1", "pico-llava-next"],
            &["pico-vqa", "pico-pope", "pico-textvqa", "pico-refcoco", "pico-fineprint"],
        ),
        (&["pico-llava-1.5", "pico-llava-med"], &["pico-vqa-rad"]),
    ];
    let limit = std::env::var("LLAVA_GAUGE_TREE_LIMIT").unwrap_or_else(|_| "120".to_owned());
    for (scheduling, output) in [("packed-tree", &tree), ("one-by-one", &single)] {
        for (models, benchmarks) in suites {
            let mut arguments = vec!["run", "--model"];
            arguments.extend(models);
            arguments.push("--benchmark");
            arguments.extend(benchmarks);
            arguments.extend(["--limit", &limit, "--scheduling", scheduling, "-o", text(output)]);
            gauge(&arguments).assert().success();
        }
    }
    let tokens = |folder: &std::path::Path| -> Vec<(String, String, String)> {
        common::results_without_timings(folder)
            .into_iter()
            .filter(|(name, _)| name.ends_with("samples.jsonl"))
            .map(|(name, line)| {
                let record: Value = serde_json::from_str(&line).unwrap();
                (name, record["key"].to_string(), record["token_ids"].to_string())
            })
            .collect()
    };
    let tree = tokens(&tree);
    assert!(tree.len() > 300);
    assert_eq!(tree, tokens(&single));
}

#[test]
fn predictions_of_a_run_score_the_same_without_the_model() {
    let folder = tempfile::tempdir().unwrap();
    for benchmark in ["pico-vqa", "pico-pope", "pico-textvqa", "pico-refcoco"] {
        let output = folder.path().join(benchmark);
        let summary = gauge_json(&["run", "--model", "pico-llava-1.5", "--benchmark", benchmark, "-o", text(&output), "--json"]);
        let log = output.join("pico-llava-1.5").join(benchmark).join("samples.jsonl");
        let scores = gauge_json(&["score", benchmark, "--predictions", text(&log), "--json", "--samples"]);
        assert_eq!(scores["n"].as_u64(), summary["runs"][0]["records"].as_u64());
        for metric in summary["runs"][0]["metrics"].as_array().unwrap() {
            let name = metric["name"].as_str().unwrap();
            assert_eq!(scores["metrics"][name]["value"], metric["estimate"]["value"], "{benchmark} {name}");
            assert_eq!(scores["metrics"][name]["stderr"], metric["estimate"]["standard_error"], "{benchmark} {name}");
        }
        assert_eq!(scores["samples"].as_array().unwrap().len() as u64, scores["n"].as_u64().unwrap());
    }
}

#[test]
fn a_broken_image_fails_its_questions_only() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    copy(&root().join("benchmarks/pico"), &data);
    let questions: Value =
        serde_json::from_slice(&std::fs::read(data.join("v2_OpenEnded_pico_val_questions.json")).unwrap()).unwrap();
    let first = questions["questions"][0]["image_id"].as_u64().unwrap();
    let broken = walk(&data).into_iter().find(|path| text(path).contains(&format!("{first:012}"))).unwrap();
    std::fs::write(&broken, b"not an image").unwrap();
    let output = folder.path().join("runs");
    let arguments =
        ["run", "--model", "pico-llava-1.5", "--benchmark", "pico-vqa", "--data", text(&data), "-o", text(&output), "--json"];
    let summary = gauge_json(&arguments);
    let failed = summary["runs"][0]["failed"].as_u64().unwrap();
    let asked = questions["questions"].as_array().unwrap().iter().filter(|question| question["image_id"] == first).count();
    assert_eq!(failed, asked as u64);
    let log = std::fs::read_to_string(output.join("pico-llava-1.5/pico-vqa/samples.jsonl")).unwrap();
    let record: Value = serde_json::from_str(log.lines().find(|line| line.contains("\"failure\"")).unwrap()).unwrap();
    assert_eq!(record["record"]["failure"]["kind"], "image");
    assert!(record["record"]["failure"]["message"].as_str().unwrap().contains(broken.file_name().unwrap().to_str().unwrap()));
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for path in walk(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(path, target).unwrap();
    }
}

/// The table of benchmarks is the program's own, and so is the list of scorers.
#[test]
fn benchmarks_are_listed_as_their_page_says() {
    let page = std::fs::read_to_string(root().join("benchmarks/README.md")).unwrap();
    let table = gauge_output(&["benchmarks", "list", "--markdown"]);
    assert!(page.contains(table.trim()), "put the output of `llava-gauge benchmarks list --markdown` into benchmarks/README.md");
    let scorers = gauge_output(&["rescore", "--list-scorers"]);
    assert!(page.contains(scorers.trim()), "put the output of `llava-gauge rescore --list-scorers` into benchmarks/README.md");
    let listed = gauge_json(&["benchmarks", "list", "--json"]);
    for row in listed.as_array().unwrap() {
        assert!(row["licence"].as_str().is_some_and(|text| !text.is_empty()), "{row}");
        let name = row["name"].as_str().unwrap();
        assert_eq!(row["present"], name.starts_with("pico-"), "{name}");
        // Whoever lacks the data is told how to get them.
        let told = |form: &serde_json::Value| form["obtain"].as_str().is_some_and(|text| !text.is_empty());
        let somewhere = row["source"].as_str().is_some_and(|text| !text.is_empty());
        assert!(name.starts_with("pico-") || somewhere || row["forms"].as_array().unwrap().iter().all(told), "{name}");
    }
}

/// The README's table of what runs is the program's own.
#[test]
fn models_lists_what_the_readme_says() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let table = gauge_output(&["models", "--markdown"]);
    assert!(readme.contains(table.trim()), "put the output of `llava-gauge models --markdown` into the README");
    let listed = gauge_json(&["models", "--json"]);
    let versions: Vec<&str> = listed["models"].as_array().unwrap().iter().map(|row| row["version"].as_str().unwrap()).collect();
    for version in ["v0", "v1", "1.5", "NeXT", "OneVision", "Interleave", "Med v1.0", "Med v1.5"] {
        assert!(versions.contains(&version), "{version}");
    }
    let plain = gauge_output(&["models"]);
    assert!(plain.contains("LLaVA NeXT, Hugging Face format") && plain.contains("LoRA adapters"), "{plain}");
}
