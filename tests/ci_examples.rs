//! The ready-made files for continuous integration: they parse, their steps are the script, and the script ends with the code
//! of the gate.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;
mod gate_support;

use std::path::Path;
use std::process::Command;

use common::{root, text};
use gate_support::{bad, good, write};
use llava_gauge::compare::gate::Policy;
use yaml_rust2::{Yaml, YamlLoader};

fn example(name: &str) -> String {
    std::fs::read_to_string(root().join("examples/ci").join(name)).unwrap()
}

fn yaml(name: &str) -> Yaml {
    YamlLoader::load_from_str(&example(name)).unwrap_or_else(|error| panic!("{name}: {error}")).remove(0)
}

#[test]
fn the_policy_is_one() {
    Policy::parse(&example("gate.toml")).unwrap();
}

#[test]
fn the_workflow_and_the_snippet_call_the_script() {
    let workflow = yaml("workflow.yml");
    let job = &workflow["jobs"]["gate"];
    let steps = job["steps"].as_vec().unwrap();
    let commands: Vec<&str> = steps.iter().filter_map(|step| step["run"].as_str()).collect();
    assert_eq!(commands, ["cargo build --release --locked", "bash ci/gate.sh"]);
    let snippet = yaml("gitlab-ci.yml");
    let script: Vec<&str> = snippet["gate"]["script"].as_vec().unwrap().iter().filter_map(Yaml::as_str).collect();
    assert_eq!(script, commands);
    // What the script reads is what both give it, and what it writes is what both keep.
    let script = example("gate.sh");
    for variables in [&job["env"], &snippet["gate"]["variables"]] {
        for name in variables.as_hash().unwrap().keys().filter_map(Yaml::as_str) {
            assert!(script.contains(&format!("${{{name}:")), "{name}");
        }
    }
    assert!(script.contains("junit=$results/junit.xml") && script.contains("github-comment=$results/comment.md"));
    assert_eq!(snippet["gate"]["artifacts"]["reports"]["junit"].as_str(), Some("results/junit.xml"));
    let comment = steps.iter().find_map(|step| step["with"]["script"].as_str()).unwrap();
    assert!(comment.contains("results/comment.md") && comment.contains("<!-- llava-gauge:report -->"));
    // Exit code 5 alone is a warning at GitLab.
    assert_eq!(snippet["gate"]["allow_failure"]["exit_codes"].as_i64(), Some(5));
}

fn script(folder: &Path, variables: &[(&str, &str)]) -> (i32, String) {
    let mut command = Command::new("bash");
    command.arg(root().join("examples/ci/gate.sh")).current_dir(root());
    for name in ["MODEL", "BENCHMARKS", "BASELINE", "POLICY", "RUNS", "RESULTS", "LIMIT", "BASELINES", "GITHUB_STEP_SUMMARY"] {
        command.env_remove(name);
    }
    command.env("GAUGE", assert_cmd::cargo::cargo_bin!("llava-gauge")).env("RESULTS", folder.join("results"));
    command.env("BASELINES", folder.join("baselines")).env("NO_COLOR", "1").envs(variables.iter().copied());
    let output = command.output().unwrap();
    let shown = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap(), shown)
}

#[test]
fn the_script_ends_with_the_code_of_the_gate() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    write(&good("a", "pope"), &place("base"));
    write(&bad("b", "pope"), &place("worse"));
    let mut part = good("b", "pope");
    part.records.truncate(190);
    write(&part, &place("part"));
    let policy = place("gate.toml");
    std::fs::write(&policy, "[benchmark.pope]\nmargin = 2\n").unwrap();
    let base = place("base");
    for (new, code) in [("base", 0), ("part", 5), ("worse", 100)] {
        let new = place(new);
        let summary = place("step-summary.md");
        let variables =
            [("RUNS", text(&new)), ("BASELINE", text(&base)), ("POLICY", text(&policy)), ("GITHUB_STEP_SUMMARY", text(&summary))];
        let (found, shown) = script(folder.path(), &variables);
        assert_eq!(found, code, "{shown}");
        for file in
            ["junit.xml", "summary.md", "comment.md", "accuracy.json", "latency.json", "bencher.json", "report/index.html"]
        {
            assert!(place("results").join(file).is_file(), "{file}: {shown}");
        }
        assert_eq!(std::fs::read(&summary).unwrap(), std::fs::read(place("results/summary.md")).unwrap());
        std::fs::remove_file(&summary).unwrap();
        std::fs::remove_dir_all(place("results")).unwrap();
    }
    let (code, shown) = script(folder.path(), &[("RUNS", text(&base))]);
    assert!(code == 1 && shown.contains("name a baseline"), "{code}: {shown}");
}

/// On the shipped packages: the package against itself passes, its first training stage is worse.
#[test]
fn the_script_runs_and_gates_shipped_packages() {
    let folder = tempfile::tempdir().unwrap();
    let baselines = folder.path().join("baselines");
    let first = folder.path().join("first");
    common::gauge(&["run", "--model", "pico-llava-1.5", "--benchmark", "pico-vqa", "--limit", "90", "-o", text(&first)])
        .assert()
        .success();
    common::gauge(&["baseline", "save", "main", text(&first), "--allow-limited", "--baselines", text(&baselines)])
        .assert()
        .success();
    let policy = folder.path().join("gate.toml");
    // Times differ where tests run side by side, and the two packages are of one size.
    std::fs::write(&policy, "[defaults]\nminimum_samples = 60\nsize.max_ratio = 1.05\n").unwrap();
    for (model, code) in [("pico-llava-1.5", 0), ("pico-llava-1.5-stage1", 100)] {
        let runs = folder.path().join(model);
        let variables = [
            ("MODEL", model),
            ("BENCHMARKS", "pico-vqa"),
            ("BASELINE", "main"),
            ("LIMIT", "90"),
            ("RUNS", text(&runs)),
            ("POLICY", text(&policy)),
        ];
        let (found, shown) = script(folder.path(), &variables);
        assert_eq!(found, code, "{model}: {shown}");
    }
}
