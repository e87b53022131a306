//! Many runs over time: change points as the reference finds them, series of comparable runs only, and pages that hold what
//! they must and run nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should stop where it failed")]

mod common;
mod made_runs;

use std::path::Path;

use common::{gauge, gauge_fails, gauge_json, gauge_output, text};
use made_runs::{header, write};
use serde_json::{Value, json};

/// 30 runs of one package whose accuracy falls by 20 points at run 18, and whose vision encoder gets faster at run 9.
fn thirty_runs(root: &Path) {
    for run in 0..30 {
        let right = if run < 18 { 80 } else { 60 } + [0, 1, 2, 1][run % 4];
        let vision_ms = if run < 9 { 50.0 } else { 30.0 } + [0.0, 0.6, 0.3][run % 3];
        let started = format!("2026-01-{:02}T08:00:00Z", run + 1);
        // The last number of every commit tells the run.
        let tagged = |header: &mut Value| {
            header["commit"] = json!(format!("abcdef00{run:02}"));
            if run % 5 == 0 {
                header["tag"] = json!(format!("release-{run}"));
            }
        };
        write(&root.join(format!("{run:02}/pack/yes-no")), &header("pack", 100, &started, tagged), right, vision_ms);
    }
}

fn series<'a>(history: &'a Value, measure: &str) -> Vec<&'a Value> {
    history["series"].as_array().unwrap().iter().filter(|series| series["measure"] == measure).collect()
}

#[test]
fn change_points_are_those_of_apache_otava() {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/change_points/expected.json")).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert!(cases.len() >= 30);
    for case in cases {
        let values: Vec<f64> = case["series"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
        let found = llava_gauge::stats::change_points(&values, 30, 0.001, 0.0);
        // Only changes by more than 6 % of the level.
        let large = llava_gauge::stats::change_points(&values, 30, 0.001, 0.06).strong;
        for (list, expected) in [(&found.strong, &case["strong"]), (&found.weak, &case["weak"]), (&large, &case["large"])] {
            let expected = expected.as_array().unwrap();
            let name = &case["name"];
            let places: Vec<u64> = expected.iter().map(|point| point["index"].as_u64().unwrap()).collect();
            assert_eq!(list.iter().map(|point| point.index as u64).collect::<Vec<_>>(), places, "{name}");
            for (point, expected) in list.iter().zip(expected) {
                for (found, field) in [(point.mean_before, "mean_before"), (point.mean_after, "mean_after")] {
                    assert!((found - expected[field].as_f64().unwrap()).abs() < 1e-9, "{name} {field}");
                }
                // The tail of t over the whole range of p-values: ten digits of it agree.
                let p_value = expected["p_value"].as_f64().unwrap();
                assert!(
                    (point.p_value - p_value).abs() <= 1e-9 * p_value.max(1e-300) + 1e-15,
                    "{name}: {} {p_value}",
                    point.p_value
                );
            }
        }
    }
}

#[test]
fn levels_that_changed_are_found_and_said_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    thirty_runs(folder.path());
    let output = folder.path().join("out");
    let history = gauge_json(&["history", text(folder.path()), "--json", "-o", text(&output)]);
    assert_eq!(history["format"], 1);
    assert_eq!(history["runs"].as_array().unwrap().len(), 30);
    let accuracy = series(&history, "accuracy")[0];
    assert_eq!(accuracy["points"].as_array().unwrap().len(), 30);
    let changes = accuracy["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!(changes[0]["point"], 18);
    assert_eq!(changes[0]["better"], false);
    assert!(changes[0]["strong"].as_bool().unwrap());
    // 18 runs of 80 + (0, 1, 2, 1), repeated, and 12 of 60 + (2, 1, 0, 1), repeated.
    assert!((changes[0]["mean_before"].as_f64().unwrap() - 80.0 - 17.0 / 18.0).abs() < 1e-9);
    assert!((changes[0]["mean_after"].as_f64().unwrap() - 61.0).abs() < 1e-9);
    let time = series(&history, "per_question_ms")[0];
    assert_eq!(time["changes"][0]["point"], 9);
    assert_eq!(time["changes"][0]["better"], true);
    assert!(series(&history, "weight_bytes")[0]["changes"].as_array().unwrap().is_empty());
    // The JSON file is what was printed.
    let file: Value = serde_json::from_slice(&std::fs::read(output.join("history.json")).unwrap()).unwrap();
    assert_eq!(file, history);

    let table = gauge_output(&["history", text(folder.path())]);
    for said in ["30 runs by date", "pack · yes-no", "80.9 → 61.0 % (−19.9 points, worse", "from abcdef0018", "better, p"] {
        assert!(table.contains(said), "{said} is not in\n{table}");
    }
    let plain = gauge_output(&["history", text(folder.path()), "--ascii"]);
    assert!(plain.is_ascii(), "{plain}");
    assert!(plain.contains("80.9 -> 61.0 %"));
    for (name, said) in [("history.html", "61.0 % (−19.9 points, worse"), ("history.md", "61.0 % (−19.9 points, worse")] {
        let page = std::fs::read_to_string(output.join(name)).unwrap();
        assert!(page.contains(said), "{name}");
    }
}

#[test]
fn runs_are_put_in_the_order_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    thirty_runs(folder.path());
    let by_tag = gauge_json(&["history", text(folder.path()), "--json", "--by", "tag"]);
    let tags: Vec<&str> = by_tag["runs"].as_array().unwrap().iter().map(|run| run["tag"].as_str().unwrap()).collect();
    assert_eq!(tags, ["release-0", "release-5", "release-10", "release-15", "release-20", "release-25"]);
    assert_eq!(by_tag["notes"], json!(["24 runs are left out: without a tag"]));
    // A tag stands where its first run does, its later runs beside it.
    let again = header("pack", 100, "2026-02-01T08:00:00Z", |header| header["tag"] = json!("release-5"));
    write(&folder.path().join("again/pack/yes-no"), &again, 80, 30.0);
    // Two runs that were started in the same second stand by their folders.
    for name in ["b", "a"] {
        let same = header("other", 100, "2026-02-02T08:00:00Z", |header| header["tag"] = json!(name));
        write(&folder.path().join(format!("same-{name}/other/yes-no")), &same, 80, 30.0);
    }
    let by_tag = gauge_json(&["history", text(folder.path()), "--json", "--by", "tag"]);
    let tags: Vec<&str> = by_tag["runs"].as_array().unwrap().iter().map(|run| run["tag"].as_str().unwrap()).collect();
    assert_eq!(tags[..4], ["release-0", "release-5", "release-5", "release-10"]);
    assert_eq!(tags[7..], ["a", "b"]);
    // One of two packages, and another metric.
    let other = gauge_json(&["history", text(folder.path()), "--json", "--package", "other", "--metric", "yes_ratio"]);
    assert_eq!(other["runs"].as_array().unwrap().len(), 2);
    assert_eq!(series(&other, "yes_ratio")[0]["points"][0]["estimate"]["value"], 80.0);
    assert!(series(&other, "accuracy").is_empty());
}

#[test]
fn runs_that_cannot_be_compared_begin_anew() {
    let folder = tempfile::tempdir().unwrap();
    let at = |day: usize| format!("2026-03-{day:02}T00:00:00Z");
    let mut day = 0;
    let mut add = |change: &dyn Fn(&mut Value)| {
        day += 1;
        write(&folder.path().join(format!("{day}")), &header("pack", 10, &at(day), change), 7, 30.0);
    };
    add(&|_| {});
    add(&|_| {});
    add(&|header| header["benchmark"]["samples_sha256"] = json!("99".repeat(32)));
    add(&|header| header["benchmark"]["scorer"] = json!("yes-no/2"));
    add(&|header| header["environment"]["processor"] = json!("another processor"));
    add(&|_| {});
    let history = gauge_json(&["history", text(folder.path()), "--json"]);
    let lengths = |measure: &str| -> Vec<usize> {
        series(&history, measure).iter().map(|series| series["points"].as_array().unwrap().len()).collect()
    };
    // The machine matters for times alone, the scorer for scores alone, and the size of the weights depends on neither.
    assert_eq!(lengths("accuracy"), [4, 1, 1]);
    assert_eq!(lengths("per_question_ms"), [4, 1, 1]);
    assert_eq!(lengths("weight_bytes"), [6]);
    let begins: Vec<&str> =
        series(&history, "accuracy").iter().skip(1).map(|series| series["begins"].as_str().unwrap()).collect();
    assert!(begins[0].contains("samples: 999999999999 (10) instead of cdcdcdcdcdcd (10)"), "{begins:?}");
    assert!(begins[1].contains("scorer: yes-no/2 instead of yes-no/1"), "{begins:?}");
    let times = series(&history, "per_question_ms");
    assert!(times[2]["begins"].as_str().unwrap().contains("another processor"));
    let table = gauge_output(&["history", text(folder.path())]);
    assert!(table.contains("accuracy (part 2)") && table.contains("begins anew: samples"), "{table}");
}

#[test]
fn what_has_no_place_is_left_out_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let whole = header("pack", 10, "2026-03-01T00:00:00Z", |_| {});
    let first = write(&folder.path().join("1"), &whole, 7, 30.0);
    // A copy, such as a stored baseline is.
    std::fs::create_dir(folder.path().join("copy")).unwrap();
    for file in ["run.json", "samples.jsonl"] {
        std::fs::copy(first.join(file), folder.path().join("copy").join(file)).unwrap();
    }
    let partial = header("pack", 10, "2026-03-02T00:00:00Z", |_| {});
    let (mut writer, _) = llava_gauge::store::RunWriter::open_or_resume(&folder.path().join("2"), &partial).unwrap();
    writer.append(&[made_runs::record(0, true, 1.0)]).unwrap();
    drop(writer);
    let undated = header("pack", 10, "some day", |_| {});
    write(&folder.path().join("3"), &undated, 7, 30.0);
    std::fs::create_dir(folder.path().join("4")).unwrap();
    std::fs::write(folder.path().join("4/run.json"), "{").unwrap();
    let output = gauge(&["history", text(folder.path()), "--json"]).assert().success().get_output().clone();
    let history: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(history["runs"].as_array().unwrap().len(), 2);
    assert_eq!(history["runs"][1]["started"], "some day");
    let notes: Vec<&str> = history["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap()).collect();
    assert_eq!(notes.len(), 4, "{notes:?}");
    assert_eq!(notes[0], "1 run is left out: incomplete");
    assert_eq!(notes[1], "1 run stands with no date that can be read and last");
    assert_eq!(notes[2], "1 copy of a run is left out");
    assert!(notes[3].contains("run.json"), "{notes:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("run.json"));

    let only_broken = text(&folder.path().join("4")).to_owned();
    gauge_fails(&["history", &only_broken], 106);
    let only_partial = text(&folder.path().join("2")).to_owned();
    assert!(gauge_fails(&["history", &only_partial], 4).contains("incomplete"));
    gauge_fails(&["history", text(&folder.path().join("nowhere"))], 106);
    for option in ["--package", "--benchmark", "--metric"] {
        let said = gauge_fails(&["history", text(folder.path()), option, "nonesuch"], 96);
        assert!(said.contains(option) && said.contains("nonesuch") && said.contains("found"), "{said}");
    }
}

#[test]
fn nothing_from_outside_reaches_the_page_or_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let hostile = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "</style><script>alert(1)</script>",
        "</title><svg onload=alert(1)>",
        "javascript:alert(1)",
        "\u{1b}[2J\u{1b}]0;x\u{7}",
        "\u{202e}evil",
        "a|b `c` ![x](http://evil.example/)",
        "@team #1 https://evil.example",
        "--><script>alert(1)</script>",
        "{{7*7}}",
        "]]>",
        "&lt;script&gt;",
    ];
    for (index, name) in hostile.iter().enumerate() {
        for day in 1..4 {
            let started = format!("2026-04-{day:02}T{index:02}:00:00Z");
            let change = |header: &mut Value| {
                header["tag"] = json!(name);
                header["commit"] = json!(name);
                header["benchmark"]["name"] = json!(name);
                header["benchmark"]["title"] = json!(name);
                header["benchmark"]["metrics"][0]["name"] = json!("accuracy");
                // Scores of another scorer begin a new part, whose reason holds both names.
                header["benchmark"]["scorer"] = json!(if day == 3 { name } else { "yes-no/1" });
            };
            write(&folder.path().join(format!("{index}-{day}")), &header(name, 10, &started, change), 7, 30.0);
        }
    }
    let output = folder.path().join("out");
    let table =
        gauge_output(&["history", text(folder.path()), "-o", text(&output), "--title", "</title><script>alert(2)</script>"]);
    assert!(!table.chars().any(|character| character.is_control() && character != '\n'));
    assert!(!table.contains('\u{202e}'));
    let page = std::fs::read_to_string(output.join("history.html")).unwrap();
    assert!(page.contains("Content-Security-Policy"));
    for bad in ["<script", "<img", "<svg onload", "onerror=alert(1)>\"", "\u{1b}", "\u{202e}"] {
        assert!(!page.contains(bad), "{bad}");
    }
    // Attributes cannot be left: no quotation mark of a name survives.
    assert!(!page.contains("\"><img") && page.contains("&quot;&gt;&lt;img"));
    let markdown = std::fs::read_to_string(output.join("history.md")).unwrap();
    for bad in ["<script", "<img", "[x](", "https://evil", "@team", "\u{1b}", "\u{202e}"] {
        assert!(!markdown.contains(bad), "{bad}");
    }
}
