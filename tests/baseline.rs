//! Baselines: saving, listing, showing, updating, removing; damage and interruption.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;
mod gate_support;

use std::path::{Path, PathBuf};

use common::{gauge, gauge_fails, gauge_json, gauge_output, text};
use gate_support::{bad, good, write};

struct Place {
    folder: tempfile::TempDir,
    baselines: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let baselines = folder.path().join("baselines");
        Self { folder, baselines }
    }

    fn runs(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The arguments with the folder of baselines.
    fn with<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        [arguments, &["--baselines", text(&self.baselines)]].concat()
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(current) = waiting.pop() {
        for entry in std::fs::read_dir(current).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { waiting.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

#[test]
fn a_baseline_lives_from_save_to_remove() {
    let place = Place::new();
    let mut first = good("a", "pope");
    first.header.tag = Some("v1.0".into());
    write(&first, &place.runs("first"));
    write(&good("a", "gqa"), &place.runs("first"));
    let (first, second) = (place.runs("first"), place.runs("second"));
    assert!(gauge_output(&place.with(&["baseline", "list"])).starts_with("no baselines in "));
    let saved = gauge_output(&place.with(&["baseline", "save", "main", text(&first)]));
    assert!(saved.contains("with 2 runs"), "{saved}");
    // Never over an existing one.
    let error = gauge_fails(&place.with(&["baseline", "save", "main", text(&first)]), 96);
    assert!(error.contains("baseline update"), "{error}");
    let listed = gauge_output(&place.with(&["baseline", "list"]));
    assert!(listed.starts_with("main  saved 20") && listed.contains("2 runs of a, tag v1.0"), "{listed}");
    let shown = gauge_output(&place.with(&["baseline", "show", "main"]));
    assert!(
        shown.contains("a (identity of , fp32/fp32/fp32) on pope: 200 samples, yes-no/1") && shown.contains("75.0"),
        "{shown}"
    );
    let shown = gauge_json(&place.with(&["baseline", "show", "main", "--json"]));
    assert_eq!(shown["baseline"]["runs"][0]["samples"], 200);
    assert_eq!(shown["runs"].as_array().unwrap().len(), 2);

    // Gates find it by name, by path and by tag; the runs it was made of may go.
    std::fs::remove_dir_all(&first).unwrap();
    write(&bad("a", "pope"), &second);
    write(&good("a", "gqa"), &second);
    for given in ["main", text(&place.baselines.join("main")), "v1.0"] {
        let error = gauge(&place.with(&["gate", text(&second), "--baseline", given])).assert().code(100);
        let shown = String::from_utf8(error.get_output().stdout.clone()).unwrap();
        assert!(shown.starts_with("Failed against main: 1 of 4 gates."), "{given}: {shown}");
    }
    let error = gauge_fails(&place.with(&["gate", text(&second), "--baseline", "mian"]), 96);
    assert!(error.contains("\"mian\" is no saved baseline") && error.contains("it has main"), "{error}");

    // An update shows what it blesses, and does nothing unless told to.
    let update = place.with(&["baseline", "update", "main", text(&second)]);
    let before = files_below(&place.baselines);
    let assert = gauge(&update).assert().code(96);
    let shown = String::from_utf8(assert.get_output().stdout.clone()).unwrap();
    assert!(shown.contains("regressed"), "{shown}");
    assert!(String::from_utf8_lossy(&assert.get_output().stderr).contains("nothing was changed"));
    assert_eq!(files_below(&place.baselines), before);
    let done = gauge_output(&[&update[..], &["--yes"]].concat());
    assert!(done.contains("regressed") && done.trim_end().ends_with("with 2 runs"), "{done}");
    gauge(&place.with(&["gate", text(&second), "--baseline", "main"])).assert().code(0);
    // Only one set of copies stays.
    let copies = std::fs::read_dir(place.baselines.join("main")).unwrap().count();
    assert_eq!(copies, 2, "baseline.toml and one folder");

    // Other samples do not compare; that too is said and can be blessed.
    let mut other = good("b", "pope");
    other.header.benchmark.samples_sha256 = "ee".repeat(32);
    write(&other, &place.runs("third"));
    let update = place.with(&["baseline", "update", "main", text(&place.runs("third")).to_owned().leak(), "--yes", "--json"]);
    let json = gauge_json(&update);
    assert!(json["not_comparable"].as_str().unwrap().contains("sample set"), "{json}");
    assert_eq!(json["added"], serde_json::json!(["b on pope"]));
    assert_eq!(json["removed"], serde_json::json!(["a on gqa", "a on pope"]));
    assert_eq!(json["written"], true);

    gauge_output(&place.with(&["baseline", "remove", "main"]));
    assert!(!place.baselines.join("main").exists());
    gauge_fails(&place.with(&["baseline", "show", "main"]), 96);
}

#[test]
fn runs_that_are_not_whole_are_refused() {
    let place = Place::new();
    let mut part = good("a", "pope");
    part.records.truncate(100);
    let directory = write(&part, &place.runs("part"));
    let error = gauge_fails(&place.with(&["baseline", "save", "main", text(&directory)]), 106);
    assert!(error.contains("incomplete: 100 of 200 samples"), "{error}");
    let mut limited = good("b", "pope");
    limited.header.benchmark.samples_available = 900;
    let directory = write(&limited, &place.runs("limited"));
    let error = gauge_fails(&place.with(&["baseline", "save", "main", text(&directory)]), 106);
    assert!(error.contains("limited to 200 of 900 samples") && error.contains("--allow-limited"), "{error}");
    assert!(!place.baselines.exists(), "a refusal writes nothing");
    gauge_output(&place.with(&["baseline", "save", "main", text(&directory), "--allow-limited"]));
    let shown = gauge_output(&place.with(&["baseline", "show", "main"]));
    assert!(shown.contains("200 of 900 samples (limited)"), "{shown}");
    let mut twice = good("b", "pope");
    twice.header.started = "2026-11-24T07:00:00Z".into();
    let other = write(&twice, &place.runs("twice"));
    let error = gauge_fails(&place.with(&["baseline", "save", "two", text(&directory), text(&other), "--allow-limited"]), 96);
    assert!(error.contains("a baseline keeps one"), "{error}");
    for name in ["../main", "", "-x", "a/b", "a b", &"x".repeat(101)] {
        gauge(&place.with(&["baseline", "save", "--allow-limited", "--", name, text(&directory)])).assert().failure();
    }
}

#[test]
fn damage_and_halves_are_named() {
    let place = Place::new();
    let runs = place.runs("runs");
    write(&good("a", "pope"), &runs);
    let save = place.with(&["baseline", "save", "main", text(&runs)]);
    gauge_output(&save);
    let main = place.baselines.join("main");
    let gate = place.with(&["gate", text(&runs), "--baseline", "main"]);
    let log = files_below(&main).into_iter().find(|path| path.ends_with("samples.jsonl")).unwrap();
    let whole = std::fs::read(&log).unwrap();

    let mut flipped = whole.clone();
    *flipped.iter_mut().find(|byte| **byte == b'7').unwrap() = b'8';
    for (bytes, expected) in [(&whole[..whole.len() / 2], "bytes, found"), (&flipped[..], "expected SHA-256")] {
        std::fs::write(&log, bytes).unwrap();
        let error = gauge_fails(&gate, 106);
        assert!(
            error.contains("baseline \"main\" is damaged") && error.contains("samples.jsonl") && error.contains(expected),
            "{error}"
        );
        assert!(gauge_output(&place.with(&["baseline", "list"])).contains("is damaged"));
    }
    std::fs::remove_file(&log).unwrap();
    assert!(gauge_fails(&gate, 106).contains("found none"));
    std::fs::write(&log, &whole).unwrap();
    gauge(&gate).assert().code(0);

    let description = main.join("baseline.toml");
    let toml = std::fs::read_to_string(&description).unwrap();
    let cases = [
        (toml.replace("format = 1", "format = 9"), "format: expected 1, found 9"),
        (toml.replace("saved =", "svaed ="), "svaed"),
        (toml.replace("folder = \"runs-", "folder = \"../runs-"), "is not a plain path below"),
        (toml[..toml.len() / 2].to_owned(), "baseline.toml"),
        (String::new(), "missing field"),
    ];
    for (content, expected) in cases {
        std::fs::write(&description, content).unwrap();
        let error = gauge_fails(&gate, 106);
        assert!(error.contains(expected), "{expected}: {error}");
    }
    std::fs::remove_file(&description).unwrap();
    let error = gauge_fails(&gate, 106);
    assert!(error.contains("half-written"), "{error}");
    assert!(gauge_output(&place.with(&["baseline", "list"])).contains("half-written"));
    // Saving again heals it.
    gauge_output(&save);
    gauge(&gate).assert().code(0);

    // Nothing that is not a baseline's is removed.
    std::fs::write(main.join("notes.txt"), "mine").unwrap();
    let error = gauge_fails(&place.with(&["baseline", "remove", "main"]), 106);
    assert!(error.contains("notes.txt") && error.contains("nothing was removed"), "{error}");
    assert!(log.exists() && description.exists());
}
