//! Every exit code of the published table is met by the command that documents it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;
mod gate_support;

use std::path::{Path, PathBuf};

use common::{gauge, gauge_output, text};
use gate_support::{bad, good, run, write};

struct Runs {
    _folder: tempfile::TempDir,
    base: PathBuf,
    worse: PathBuf,
    part: PathBuf,
    failing: PathBuf,
    other: PathBuf,
    damaged: PathBuf,
}

fn runs() -> Runs {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let mut part = good("b", "pope");
    part.records.truncate(150);
    let failing: Vec<_> = (0..200).map(|index| (index / 5, (index % 10 != 0).then_some(1.0))).collect();
    let mut other = good("b", "pope");
    other.header.benchmark.samples_sha256 = "ee".repeat(32);
    write(&good("a", "pope"), &place("base"));
    write(&bad("b", "pope"), &place("worse"));
    write(&part, &place("part"));
    write(&run("b", "pope", &failing), &place("failing"));
    write(&other, &place("other"));
    let damaged = write(&good("b", "pope"), &place("damaged")).join("samples.jsonl");
    let text = std::fs::read_to_string(&damaged).unwrap();
    std::fs::write(&damaged, text.replacen("Question 3?", "Question 4?", 1)).unwrap();
    Runs {
        base: place("base"),
        worse: place("worse"),
        part: place("part"),
        failing: place("failing"),
        other: place("other"),
        damaged: place("damaged"),
        _folder: folder,
    }
}

#[track_caller]
fn gates_to(new: &Path, base: &Path, more: &[&str], code: i32) -> String {
    let arguments = [&["gate", text(new), "--baseline", text(base)], more].concat();
    let output = gauge(&arguments).assert().code(code).get_output().clone();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The codes of the table that `--help` prints.
fn published() -> Vec<i32> {
    let help = gauge_output(&["--help"]);
    let (_, table) = help.split_once("Exit codes:").expect("the table stands in the help");
    table.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

#[test]
fn the_table_lists_what_these_tests_meet() {
    let mut codes = published();
    codes.sort_unstable();
    // 143 stands beside 130.
    assert_eq!(codes, [0, 1, 2, 4, 5, 92, 96, 100, 101, 102, 104, 106, 110, 130]);
}

#[test]
fn gates_end_with_the_code_of_their_result() {
    let runs = runs();
    assert!(gates_to(&runs.base, &runs.base, &[], 0).starts_with("Passed"));
    assert!(gates_to(&runs.part, &runs.base, &[], 5).contains("outstanding"));
    assert!(gates_to(&runs.worse, &runs.base, &[], 100).contains("regressed"));
    assert!(gates_to(&runs.failing, &runs.base, &[], 101).contains("samples without an answer"));
    assert!(gates_to(&runs.other, &runs.base, &[], 104).contains("sample set"));
    assert!(gates_to(&runs.damaged, &runs.base, &[], 106).contains("damaged"));
    assert!(gates_to(&runs.base, &runs.base, &["--policy", "/nowhere/gate.toml"], 96).contains("/nowhere/gate.toml"));
    assert!(gates_to(&runs.base, Path::new("no-such-baseline"), &[], 96).contains("no-such-baseline"));
    gates_to(&runs.base, &runs.base, &["--frobnicate"], 2);
    gates_to(&runs.base, &runs.base, &["--export", "junit=/proc/no/such/file"], 110);
}

#[test]
fn other_verbs_end_with_the_code_of_what_was_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let runs = runs();
    let limit = ["run", "--model", "pico-llava-1.5", "--benchmark", "pico-vqa", "--limit", "0", "-o", text(folder.path())];
    gauge(&limit).assert().code(4);
    gauge(&["--ort-lib", "/nowhere/libonnxruntime.so", "ask", "pico-llava-1.5", "--prompt", "x"]).assert().code(92);
    gauge(&["run", "--model", "pico-llava-1.5", "--benchmark", "no-such-benchmark"]).assert().code(96);
    gauge(&["package", "inspect", text(folder.path())]).assert().code(102);
    gauge(&["compare", text(&runs.base), text(&runs.other)]).assert().code(104);
    gauge(&["compare", text(&runs.part)]).assert().code(106);
    gauge(&["report", text(&runs.base), "-o", "/proc/no/such/folder"]).assert().code(110);
    // A closed standard output is no error, but a full one is an unexpected failure.
    if Path::new("/dev/full").exists() {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("llava-gauge"));
        let status = command.args(["compare", text(&runs.base)]).stdout(full).stderr(std::process::Stdio::null()).status();
        assert_eq!(status.unwrap().code(), Some(1));
    }
}

/// A signal ends a run after the group in work, with its own code; the same command continues.
#[cfg(unix)]
#[test]
fn signals_end_with_their_own_codes() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("llava-gauge"));
        let output = folder.path().join("runs");
        command.current_dir(common::root()).args(["--no-progress", "run", "--model", "pico-llava-1.5", "--benchmark"]);
        command.args(["pico-vqa", "pico-pope", "pico-textvqa", "-o", text(&output)]);
        let mut child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        // The first record says that the handlers are in place.
        let log = output.join("pico-llava-1.5/pico-vqa/samples.jsonl");
        let started = || std::fs::metadata(&log).is_ok_and(|log| log.len() > 0);
        for _ in 0..6_000 {
            if started() || child.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(started(), "the run has begun");
        let sent = std::process::Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
}
