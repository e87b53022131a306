//! What integration tests share.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::{Path, PathBuf};

use assert_cmd::Command;

/// The project's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The program, in the project's root, without progress.
pub fn gauge(arguments: &[&str]) -> Command {
    let mut command = assert_cmd::cargo::cargo_bin_cmd!("llava-gauge");
    command.current_dir(root()).env("NO_COLOR", "1").arg("--no-progress").args(arguments);
    command
}

/// Runs the program, expects success, and returns standard output.
pub fn gauge_output(arguments: &[&str]) -> String {
    let output = gauge(arguments).assert().success().get_output().stdout.clone();
    String::from_utf8(output).unwrap()
}

/// Runs the program with `--json` output, expects success, and parses it.
pub fn gauge_json(arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&gauge_output(arguments)).unwrap()
}

/// Runs the program, expects this exit code, and returns standard error.
pub fn gauge_fails(arguments: &[&str], code: i32) -> String {
    let output = gauge(arguments).assert().code(code).get_output().stderr.clone();
    String::from_utf8(output).unwrap()
}

/// Path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Records of every run below `folder` by run directory, in log order, without their timings, as JSON text; beside them
/// the summaries without latencies.
pub fn results_without_timings(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(current) = folders.pop() {
        for entry in std::fs::read_dir(&current).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
            if name.ends_with("samples.jsonl") {
                for line in std::fs::read_to_string(&path).unwrap().lines() {
                    let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
                    let record = value["record"].as_object_mut().unwrap();
                    record.remove("timings");
                    found.push((name.clone(), serde_json::to_string(record).unwrap()));
                }
            } else if name.ends_with("summary.json") {
                let mut value: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
                let summary = value.as_object_mut().unwrap();
                summary.remove("latency");
                summary.remove("peak_memory_bytes");
                let header = summary["header"].as_object_mut().unwrap();
                header.remove("started");
                // Of what ran the graphs, how many nodes there were: fewer where they had been joined before, in a cache.
                header.remove("execution");
                // Half of what was free when it began, unless it was given; what is planned with it still counts.
                if let Some(memory) = header.get_mut("memory").and_then(serde_json::Value::as_object_mut) {
                    memory.remove("kv_memory_bytes");
                }
                found.push((name.clone(), serde_json::to_string(summary).unwrap()));
            }
        }
    }
    // Stable by file, so that the order of the records within a log still counts.
    found.sort_by(|left, right| left.0.cmp(&right.0));
    found
}
