//! Judging from the command line: runs of a shipped package, predictions made elsewhere, and a judge of this machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;
mod judge_support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{root, text};
use judge_support::{Act, Server, error};
use serde_json::{Value, json};

const KEY: &str = "sk-very-secret-0123456789";
const MODEL: &str = "pico-llava-1.5";

/// A benchmark in the format of MM-Vet on the shipped pictures: its TOML file.
fn benchmark(folder: &Path, samples: usize) -> PathBuf {
    let mut names: Vec<String> = std::fs::read_dir(root().join("benchmarks/pico/images"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let capabilities = [json!(["rec"]), json!(["ocr", "math"]), json!(["rec", "spat"])];
    let questions: serde_json::Map<String, Value> = (0..samples)
        .map(|index| {
            let row = json!({
                "imagename": names[index / 2], "question": format!("What is in picture {index}?"), "answer": "a ring<OR>a circle",
                "capability": capabilities[index % 3],
            });
            (format!("v1_{index}"), row)
        })
        .collect();
    std::fs::write(folder.join("mm-vet.json"), Value::Object(questions).to_string()).unwrap();
    let images = folder.join("images");
    std::fs::create_dir(&images).unwrap();
    for name in &names[..samples.div_ceil(2)] {
        std::fs::copy(root().join("benchmarks/pico/images").join(name), images.join(name)).unwrap();
    }
    let toml = std::fs::read_to_string(root().join("benchmarks/mm_vet.toml")).unwrap();
    let toml = toml.replace("name = \"mm_vet\"", "name = \"small-vet\"").replace("root = \"mm_vet\"", "root = \".\"");
    let toml = toml.replace("rows = [218]\n", "").replace("max_new_tokens = 1024", "max_new_tokens = 6");
    let path = folder.join("small-vet.toml");
    std::fs::write(&path, toml).unwrap();
    path
}

/// The program with a key in its environment, and no cache of judges' replies.
fn gauge(arguments: &[&str]) -> assert_cmd::Command {
    let mut command = common::gauge(arguments);
    command.env("OPENAI_API_KEY", KEY).env_remove("LLAVA_GAUGE_JUDGE_CACHE");
    command
}

/// Standard output and standard error, and that neither has the key.
fn outputs(command: &mut assert_cmd::Command, code: i32) -> (String, String) {
    let assert = command.assert().code(code);
    let output = assert.get_output();
    let (out, err) = (String::from_utf8(output.stdout.clone()).unwrap(), String::from_utf8(output.stderr.clone()).unwrap());
    assert!(!out.contains(KEY) && !err.contains(KEY));
    (out, err)
}

fn judge_options(server: &Server) -> Vec<&str> {
    vec!["--judge-url", &server.url, "--judge-model", "judge-1", "--no-judge-cache", "--judge-wait", "0.01", "--judge-tries", "2"]
}

/// No file below a folder has the key in it.
fn no_secrets(folder: &Path) {
    let mut folders = vec![folder.to_path_buf()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(KEY.len()).any(|part| part == KEY.as_bytes()), "{}", path.display());
            files += 1;
        }
    }
    assert!(files > 0);
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A run of six answers without a judge: its folder, the run directory.
fn unjudged_run() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let toml = benchmark(folder.path(), 6);
    let runs = folder.path().join("runs");
    let (out, err) = outputs(&mut gauge(&["run", "--model", MODEL, "--benchmark", text(&toml), "-o", text(&runs)]), 0);
    assert!(err.contains("llava-gauge judge") && err.contains("--judge-url"), "{err}");
    assert!(out.contains("6 of 6 answers have no score"), "{out}");
    let directory = runs.join(MODEL).join("small-vet");
    assert!(!directory.join("scores.json").exists());
    (folder, directory)
}

#[test]
fn a_finished_run_is_judged_later_rescored_and_reported() {
    let (folder, directory) = unjudged_run();
    let server = Server::start(|_, seen| {
        let question = seen.content().lines().last().unwrap();
        // Picture 4 is never read.
        let again = question.starts_with("Predict");
        Act::Say(if again || question.contains("picture 4?") { "of" } else { "0.5" }.to_owned())
    });
    let mut arguments = vec!["judge", text(&directory), "--json", "--judge-price-in", "10", "--judge-price-out", "30"];
    arguments.extend(judge_options(&server));
    let (out, err) = outputs(&mut gauge(&arguments), 0);
    assert!(err.contains("5 of 6 answers scored by judge-1") && err.contains("cost 0.0"), "{err}");
    let summary: Value = serde_json::from_str(&out).unwrap();
    let run = &summary["runs"][0];
    assert_eq!((run["unscored"].as_u64(), run["unparsed"].as_u64()), (Some(1), Some(0)));
    assert_eq!((run["judge"]["unparsed_replies"].as_u64(), run["judge"]["failed_replies"].as_u64()), (Some(1), Some(0)));
    assert_eq!(
        (run["judge"]["model"].as_str(), run["judge"]["reported_models"][0].as_str()),
        (Some("judge-1"), Some("judge-2026-01-01"))
    );
    assert_eq!(run["metrics"][0]["name"], "mm_vet_score");
    assert_eq!(
        (run["metrics"][0]["estimate"]["value"].as_f64(), run["metrics"][0]["estimate"]["n"].as_u64()),
        (Some(50.0), Some(5))
    );
    let categories: Vec<&str> =
        run["categories"].as_array().unwrap().iter().map(|row| row["category"].as_str().unwrap()).collect();
    assert_eq!(categories, ["math_ocr", "rec", "rec_spat"]);
    assert_eq!(server.count(), 5 + 5);

    // The same command again asks nobody.
    outputs(&mut gauge(&arguments), 0);
    assert_eq!(server.count(), 10);
    // Scored again from the stored replies alone: the same scores.
    let before = json_file(&directory.join("scores.json"));
    let (_, err) = outputs(&mut gauge(&["rescore", text(&directory)]), 0);
    assert!(err.contains("mm-vet/1"), "{err}");
    let after = json_file(&directory.join("scores.json"));
    assert_eq!(
        (&before["samples"], &before["judge"]["unparsed_replies"]),
        (&after["samples"], &after["judge"]["unparsed_replies"])
    );
    assert_eq!(server.count(), 10);

    // Reports say who judged and what is missing.
    let report = folder.path().join("report");
    outputs(&mut gauge(&["report", text(&directory), "-o", text(&report)]), 0);
    for (name, who) in
        [("report.md", "judge\\-1"), ("index.html", "judge-1"), ("results.json", "judge-1"), ("results.csv", "judge-1")]
    {
        let file = std::fs::read_to_string(report.join(name)).unwrap();
        assert!(file.contains(who) || file.contains("judge-1"), "{name}");
        if name != "results.csv" && name != "results.json" {
            assert!(
                file.contains("1 reply could not be read") && file.contains("1 of 6 answers have no score"),
                "{name}: {file}"
            );
        }
    }
    // Without a judge the run goes on where it is and keeps its scores.
    let toml = folder.path().join("small-vet.toml");
    let runs = folder.path().join("runs");
    let (out, err) = outputs(&mut gauge(&["run", "--model", MODEL, "--benchmark", text(&toml), "-o", text(&runs)]), 0);
    assert!(out.contains("50.0") && !err.contains("llava-gauge judge"), "{out}{err}");
    no_secrets(folder.path());
}

#[test]
fn a_refusal_is_an_error_of_the_environment_and_what_came_before_is_kept() {
    let (folder, directory) = unjudged_run();
    let server = Server::start(|number, seen| match number {
        0..2 => Act::Say("0.5".to_owned()),
        2 => Act::Status(
            401,
            Vec::new(),
            error("invalid_api_key", &format!("Incorrect API key {}", seen.header("authorization").unwrap())),
        ),
        _ => Act::Say("1.0".to_owned()),
    });
    let mut arguments = vec!["judge", text(&directory), "--judge-parallel", "1"];
    arguments.extend(judge_options(&server));
    let (_, err) = outputs(&mut gauge(&arguments), 92);
    assert!(err.contains("401") && err.contains("[key]"), "{err}");
    assert!(!directory.join("scores.json").exists());
    outputs(&mut gauge(&arguments), 0);
    assert_eq!(server.count(), 3 + 4);
    no_secrets(folder.path());
}

#[test]
fn too_many_answers_without_a_reply_are_a_failure_and_only_those_are_asked_again() {
    let (_folder, directory) = unjudged_run();
    let server =
        Server::start(
            |number, seen| {
                if number < 8 && seen.content().contains("picture 2?") { Act::Close } else { Act::Say("0.5".to_owned()) }
            },
        );
    let mut arguments = vec!["judge", text(&directory)];
    arguments.extend(judge_options(&server));
    let (out, err) = outputs(&mut gauge(&arguments), 101);
    assert!(err.contains("no reply to 16.7 %") && out.contains("1 answer got none"), "{out}{err}");
    let first = server.count();
    arguments.extend(["--max-failed", "20"]);
    outputs(&mut gauge(&arguments), 0);
    assert!(server.count() - first <= 2, "{}", server.count() - first);
}

#[test]
fn run_judges_what_it_has_answered_and_a_kill_loses_no_reply() {
    let folder = tempfile::tempdir().unwrap();
    let toml = benchmark(folder.path(), 8);
    let runs = folder.path().join("runs");
    let server = Server::start(|_, _| Act::SayLate("0.5".to_owned(), Duration::from_millis(300)));
    let mut arguments = vec!["--no-progress", "run", "--model", MODEL, "--benchmark", text(&toml), "-o", text(&runs)];
    arguments.extend(["--judge-parallel", "1"]);
    arguments.extend(judge_options(&server));
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("llava-gauge"))
        .current_dir(root())
        .env("OPENAI_API_KEY", KEY)
        .args(&arguments)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let log = runs.join(MODEL).join("small-vet").join("judge.jsonl");
    let lines = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
    let end = std::time::Instant::now() + Duration::from_secs(120);
    while lines() < 3 && std::time::Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = lines();
    assert!((3..8).contains(&kept), "{kept}");
    let asked = server.count();
    let (out, _) = outputs(&mut gauge(&arguments[1..]), 0);
    assert!(out.contains("50.0"), "{out}");
    assert_eq!(lines(), 8);
    assert_eq!(server.count() - asked, 8 - kept);
    no_secrets(folder.path());
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_cleanly_and_the_same_command_continues() {
    let (_folder, directory) = unjudged_run();
    let server = Server::start(|_, _| Act::SayLate("0.5".to_owned(), Duration::from_millis(200)));
    let mut arguments = vec!["judge", text(&directory), "--judge-parallel", "1"];
    arguments.extend(judge_options(&server));
    let child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("llava-gauge"))
        .current_dir(root())
        .args(&arguments)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(120);
    while server.count() < 2 && std::time::Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{err}");
    assert!(err.contains("interrupted") && err.contains("the same command continues"), "{err}");
    assert!(!directory.join("scores.json").exists());
    outputs(&mut gauge(&arguments), 0);
    assert_eq!(server.count(), 6, "nothing was asked twice");
}

#[test]
fn predictions_made_elsewhere_are_judged() {
    let folder = tempfile::tempdir().unwrap();
    let toml = benchmark(folder.path(), 4);
    let predictions = folder.path().join("answers.jsonl");
    let lines: String = (0..4)
        .map(|index| json!({ "question_id": format!("v1_{index}"), "text": format!("thing {index}") }).to_string() + "\n")
        .collect();
    std::fs::write(&predictions, lines).unwrap();
    let base = ["score", text(&toml), "--predictions", text(&predictions), "--json", "--samples"];
    let (out, err) = outputs(&mut gauge(&base), 0);
    let unjudged: Value = serde_json::from_str(&out).unwrap();
    assert!(err.contains("--judge-url"), "{err}");
    assert_eq!((unjudged["unscored"].as_u64(), unjudged["metrics"].as_object().unwrap().len()), (Some(4), 0));

    let server = Server::start(|_, seen| Act::Say(if seen.content().contains("thing 3") { "1.0" } else { "0.0" }.to_owned()));
    let (cache, log) = (folder.path().join("cache"), folder.path().join("replies.jsonl"));
    let mut arguments = base.to_vec();
    arguments.extend([
        "--judge-url",
        &server.url,
        "--judge-model",
        "m",
        "--judge-cache",
        text(&cache),
        "--judge-log",
        text(&log),
    ]);
    let (out, _) = outputs(&mut gauge(&arguments), 0);
    let judged: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((judged["metrics"]["mm_vet_score"]["value"].as_f64(), judged["unscored"].as_u64()), (Some(25.0), Some(0)));
    assert_eq!(
        (judged["samples"][3]["score"].as_f64(), judged["judge"]["endpoint"].as_str()),
        (Some(1.0), Some(server.url.as_str()))
    );
    assert_eq!(server.count(), 4);
    // From the log, and from the cache without the log.
    outputs(&mut gauge(&arguments), 0);
    std::fs::remove_file(&log).unwrap();
    let (out, _) = outputs(&mut gauge(&arguments), 0);
    let cached: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((server.count(), cached["judge"]["cached_replies"].as_u64()), (4, Some(4)));
    no_secrets(folder.path());
}

#[test]
fn questions_of_ones_own_are_matched_by_a_judge() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("my.jsonl");
    let rows: String = (0..4)
        .map(|index| {
            let row =
                json!({ "id": index, "question": format!("Which shape is it in {index}?"), "answers": ["a ring", "a circle"] });
            format!("{row}\n")
        })
        .collect();
    std::fs::write(&data, rows).unwrap();
    let predictions = folder.path().join("answers.jsonl");
    let lines: String =
        (0..4).map(|index| format!("{}\n", json!({ "key": index.to_string(), "text": format!("shape {index}") }))).collect();
    std::fs::write(&predictions, lines).unwrap();
    let server = Server::start(|_, seen| {
        let content = seen.content();
        assert!(content.contains("[Reference answers]\n- a ring\n- a circle\n\n[Answer]\nshape "), "{content}");
        Act::Say(if content.contains("shape 1\n") { "Correct." } else { "incorrect" }.to_owned())
    });
    let mut arguments =
        vec!["score", "--data", text(&data), "--metric", "judge-match", "--predictions", text(&predictions), "--json"];
    arguments.extend(judge_options(&server));
    let (out, _) = outputs(&mut gauge(&arguments), 0);
    let scores: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (scores["scorer"].as_str(), scores["metrics"]["judged_accuracy"]["value"].as_f64()),
        (Some("judge-match/1"), Some(25.0))
    );
}

#[test]
fn a_package_of_this_machine_judges_in_words_alone() {
    let (_folder, directory) = unjudged_run();
    let (out, err) = outputs(&mut gauge(&["judge", text(&directory), "--judge", MODEL, "--no-judge-cache", "--json"]), 0);
    let summary: Value = serde_json::from_str(&out).unwrap();
    let judge = &summary["runs"][0]["judge"];
    assert!(judge["model"].as_str().unwrap().starts_with(&format!("{MODEL}@")), "{judge}");
    assert_eq!(
        (judge["endpoint"].as_str(), judge["settings"].as_str()),
        (Some("local"), Some("greedy, 3 tokens, up to 2 prompts an answer"))
    );
    // A model that has only learnt to name shapes is no judge: what it says cannot be read, and that is said.
    let (unread, failed) = (judge["unparsed_replies"].as_u64().unwrap(), judge["failed_replies"].as_u64().unwrap());
    assert_eq!(
        unread
            + failed
            + summary["runs"][0]["metrics"]
                .as_array()
                .unwrap()
                .first()
                .map_or(0, |metric| metric["estimate"]["n"].as_u64().unwrap()),
        6,
        "{err}"
    );
    assert_eq!(failed, 0, "text alone is answered: {err}");
    assert!(judge["prompt_tokens"].as_u64().unwrap() > 100 && judge["reply_tokens"].as_u64().unwrap() > 0, "{judge}");
}

#[test]
fn runs_of_different_judges_are_not_compared() {
    let (folder, directory) = unjudged_run();
    let server = Server::start(|_, _| Act::Say("0.5".to_owned()));
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    for name in ["run.json", "samples.jsonl"] {
        std::fs::copy(directory.join(name), other.join(name)).unwrap();
    }
    let judge = |run: &Path, model: &str| {
        let arguments = ["judge", text(run), "--judge-url", &server.url, "--judge-model", model, "--no-judge-cache"];
        outputs(&mut gauge(&arguments), 0);
    };
    judge(&directory, "a");
    judge(&other, "b");
    let (_, err) = outputs(&mut gauge(&["compare", text(&directory), text(&other)]), 104);
    assert!(err.contains("the judge is a (mm-vet/1") && err.contains("b (mm-vet/1"), "{err}");
    judge(&other, "a");
    outputs(&mut gauge(&["compare", text(&directory), text(&other)]), 0);
}

#[test]
fn wrong_options_are_found_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let toml = benchmark(folder.path(), 2);
    let runs = folder.path().join("runs");
    let base = ["run", "--model", MODEL, "--benchmark", text(&toml), "-o", text(&runs)];
    for (options, code, word) in [
        (&["--judge-url", "ftp://a", "--judge-model", "m"][..], 96, "https://"),
        (&["--judge-url", "https://user:pass@a/v1", "--judge-model", "m"], 96, "password"),
        (&["--judge-url", "https://a/v1", "--judge-model", "m", "--judge-key-env", "NO_SUCH_VARIABLE"], 96, "NO_SUCH_VARIABLE"),
        (&["--judge-url", "http://a.example/v1", "--judge-model", "m", "--judge-key-env", "OPENAI_API_KEY"], 96, "clear text"),
        (&["--judge-url", "https://a/v1", "--judge-model", "m", "--judge-rate", "0"], 96, "--judge-rate"),
        (&["--judge-url", "https://a/v1", "--judge-model", "m", "--judge-timeout", "0"], 96, "--judge-timeout"),
        (&["--judge-url", "https://a/v1"], 2, "--judge-model"),
        (&["--judge", "no-such-package"], 102, "no-such-package"),
    ] {
        let mut arguments = base.to_vec();
        arguments.extend(options);
        let (_, err) = outputs(&mut gauge(&arguments), code);
        assert!(err.contains(word) && !err.contains("user:pass"), "{options:?}: {err}");
        assert!(!runs.exists());
    }
    let (_, err) = outputs(&mut gauge(&["judge", text(folder.path())]), 106);
    assert!(err.contains("no run"), "{err}");
}
