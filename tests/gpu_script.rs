//! `tests/gpu/measure.py`, as far as it can go without a GPU, so that it works on the day when there is one. What it measures here
//! means nothing and is not looked at; that everything was measured is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::process::Command;

use common::root;
use serde_json::Value;

fn python() -> Option<&'static str> {
    let found = Command::new("python3").args(["-c", "import sys; sys.exit(sys.version_info < (3, 9))"]).status();
    found.is_ok_and(|status| status.success()).then_some("python3")
}

/// Runs the script on the tiny shape, and gives its exit code, what it said on standard output, and its result.
fn measure(extra: &[&str]) -> (Option<i32>, String, String, Option<Value>) {
    let scratch = tempfile::tempdir().unwrap();
    let (work, output) = (scratch.path().join("work"), scratch.path().join("reports"));
    let done = Command::new("python3")
        .arg(root().join("tests/gpu/measure.py"))
        .args(["--binary", env!("CARGO_BIN_EXE_llava-gauge"), "--provider", "cpu", "--shapes", "small", "--repetitions", "1"])
        .args(["--decode-tokens", "4", "--new-tokens", "2", "--pictures", "1", "--threads", "2", "--largest-batch", "2"])
        .arg("--work")
        .arg(&work)
        .arg("--output")
        .arg(&output)
        .args(extra)
        .output()
        .unwrap();
    let name = std::fs::read_dir(&output).ok().and_then(|files| {
        files.map(|file| file.unwrap().path()).find(|path| path.extension().is_some_and(|extension| extension == "json"))
    });
    let result = name.map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr), result)
}

#[test]
fn everything_is_measured_and_told() {
    if python().is_none() {
        eprintln!("there is no python3 from 3.9 on: the script is not run");
        return;
    }
    for (compute, flavor) in [("fp16", "contrib"), ("none", "standard")] {
        let (code, table, errors, result) = measure(&["--compute", compute, "--flavor", flavor]);
        assert_eq!(code, Some(0), "{errors}");
        let result = result.unwrap();
        let verified = &result["verified"];
        assert_eq!(verified["passed"], true, "{verified}");
        let ours = &result["llava_gauge"];
        for test in ["img", "prefill", "decode", "questions 1", "questions 6", "questions 32"] {
            let rate = ours["rates"][test]["per_second"].as_f64();
            assert!(rate.is_some_and(|rate| rate > 0.0), "{test}: {}", ours["rates"]);
            assert!(table.contains(&format!("| {test} |")), "{table}");
        }
        assert_eq!(ours["rates"]["decode"]["test"], "decode 4@76");
        assert_eq!(ours["run"]["questions"], 6);
        assert!(ours["run"]["questions_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{}", ours["run"]);
        assert_eq!(result["comparison"].as_array().unwrap().len(), 6);
        // With PyTorch and transformers they are measured, too; without, it is said what is missing.
        let reference = &result["transformers"];
        match reference["skipped"].as_str() {
            Some(reason) => assert!(reason.contains("no torch") || reason.contains("no transformers"), "{reason}"),
            None => {
                assert_eq!(reference["rates"].as_object().unwrap().len(), 4);
                assert!(result["comparison"][2]["llava_gauge_share"].as_f64().is_some_and(|share| share > 0.0));
                assert!(result["comparison"][4]["ratio_to_best"].as_f64().is_some_and(|ratio| ratio > 0.0));
            }
        }
        assert!(table.contains("These numbers only show that the script works"), "{table}");
    }
}

#[test]
fn what_fails_is_told_with_its_command() {
    if python().is_none() {
        return;
    }
    let (code, table, errors, result) = measure(&["--shapes", "no-such-shape"]);
    assert_eq!((code, table.as_str()), (Some(1), ""), "{errors}");
    assert!(errors.contains("error: exit code 96: ") && errors.contains("no-such-shape"), "{errors}");
    assert!(result.is_none());
}
