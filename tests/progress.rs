//! What `run` says while it runs where nobody looks at a terminal, and how runs are labelled.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should stop where it failed")]

mod common;

use std::path::Path;

use common::{gauge, root, text};
use serde_json::Value;

/// Runs two packages' worth of one small benchmark and gives standard output and error.
fn run(output: &Path, more: &[&str], environment: &[(&str, &str)]) -> (String, String) {
    let mut command = assert_cmd::cargo::cargo_bin_cmd!("llava-gauge");
    for name in ["GITHUB_SHA", "CI_COMMIT_SHA"] {
        command.env_remove(name);
    }
    let asserted = command
        .current_dir(root())
        .args([
            "run",
            "--model",
            "pico-llava-1.5",
            "pico-llava-v1",
            "--benchmark",
            "pico-pope",
            "--limit",
            "24",
            "-o",
            text(output),
        ])
        .args(more)
        .envs(environment.iter().copied())
        .assert()
        .success();
    let output = asserted.get_output();
    (String::from_utf8(output.stdout.clone()).unwrap(), String::from_utf8(output.stderr.clone()).unwrap())
}

fn header(output: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(output.join("pico-llava-1.5/pico-pope/run.json")).unwrap()).unwrap()
}

#[test]
fn plain_lines_say_where_each_run_stands() {
    let folder = tempfile::tempdir().unwrap();
    let labels = ["--tag", "nightly", "--commit", "0123abc"];
    let (_, said) = run(folder.path(), &labels, &[("GITHUB_SHA", "not this one")]);
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("24/24")).collect();
    assert_eq!(lines.len(), 2, "{said}");
    let rest = lines[0].strip_prefix("pico-llava-1.5 · pico-pope: 24/24 ").unwrap();
    let facts: Vec<&str> = rest.split(", ").collect();
    // The mean over POPE's splits has no running value; the score does.
    assert!(facts[0].starts_with("score ") || facts[0].contains('%'), "{rest}");
    assert!(facts.iter().any(|fact| fact.ends_with(" questions/s")), "{rest}");
    assert!(facts.iter().any(|fact| fact.contains("prefill ") && fact.contains(" %")), "{rest}");
    assert!(facts.contains(&"run 1 of 2"), "{rest}");
    assert!(facts.iter().any(|fact| fact.starts_with("whole eta ")), "{rest}");
    assert!(!rest.contains(", eta "), "a run that is done has no time left: {rest}");
    assert!(lines[1].contains("run 2 of 2") && !lines[1].contains("whole"), "{}", lines[1]);
    assert!(!said.contains('\u{1b}') && !said.contains('\r'));
    let stored = header(folder.path());
    assert_eq!((stored["tag"].as_str(), stored["commit"].as_str()), (Some("nightly"), Some("0123abc")));

    // The same command again: complete already, and the labels stay whatever is asked now.
    let (_, said) = run(folder.path(), &["--tag", "other"], &[("CI_COMMIT_SHA", "456def")]);
    assert_eq!(said.matches("already complete").count(), 2, "{said}");
    assert!(said.contains("keeps its tag: \"nightly\"") && said.contains("keeps its commit: \"0123abc\""), "{said}");
    assert_eq!(header(folder.path())["tag"], "nightly");
}

#[test]
fn labels_come_from_the_suite_or_from_ci_and_silence_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (_, said) = run(&folder.path().join("a"), &["--no-progress"], &[("GITHUB_SHA", "feedbeef"), ("CI_COMMIT_SHA", "second")]);
    assert!(!said.contains("24/24"), "{said}");
    let stored = header(&folder.path().join("a"));
    assert_eq!((stored.get("tag"), stored["commit"].as_str()), (None, Some("feedbeef")));

    let suite = folder.path().join("suite.toml");
    let output = folder.path().join("b");
    let write = |tag: &str| {
        let text =
            format!("models = [\"pico-llava-1.5\"]\nbenchmarks = [\"pico-pope\"]\nlimit = 4\ntag = {tag}\ncommit = \"0a1b\"\n");
        std::fs::write(&suite, text).unwrap();
    };
    write("\"from the suite\"");
    gauge(&["run", text(&suite), "-o", text(&output), "--commit", "given"]).assert().success();
    let stored = header(&output);
    assert_eq!((stored["tag"].as_str(), stored["commit"].as_str()), (Some("from the suite"), Some("given")));
    write("\"two\\nlines\"");
    gauge(&["run", text(&suite), "-o", text(&output)]).assert().code(96);
    gauge(&["run", "--model", "pico-llava-1.5", "--benchmark", "pico-pope", "-o", text(&output), "--tag", " "]).assert().code(96);
}
