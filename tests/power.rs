//! `power`: how many samples a benchmark needs, from past runs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;
mod gate_support;

use common::{gauge, gauge_fails, gauge_json, gauge_output, text};
use gate_support::{Scored, bad, good, grid, run, write};
use llava_gauge::compare::{PowerBasis, PowerSettings, plan_power};
use llava_gauge::stats::{Generator, normal_quantile, t_quantile};
use llava_gauge::store::Run;
use serde_json::Value;

fn settings(discordance: f64) -> PowerSettings {
    PowerSettings { alpha: 0.05, power: 0.8, drops: vec![0.5, 1.0, 2.0, 5.0], discordance }
}

/// `images` with `each` questions; an image's questions share a draw with probability 0.6, so their correlation is 0.36.
fn alike(package: &str, images: usize, each: usize) -> Run {
    let mut generator = Generator::new(3);
    let mut samples: Vec<Scored> = Vec::new();
    for image in 0..images {
        let shared = generator.uniform() < 0.7;
        for _ in 0..each {
            let own = generator.uniform() < 0.7;
            let right = if generator.uniform() < 0.6 { shared } else { own };
            samples.push((image, Some(f64::from(u8::from(right)))));
        }
    }
    run(package, "pope", &samples)
}

#[test]
fn the_table_of_the_specification_comes_out() {
    // Percentage points for n samples, one an image, by the share of answers that change.
    let table: [(usize, [f64; 3]); 6] = [
        (200, [4.43, 6.26, 8.86]),
        (500, [2.80, 3.96, 5.60]),
        (1_000, [1.98, 2.80, 3.96]),
        (2_000, [1.40, 1.98, 2.80]),
        (5_000, [0.89, 1.25, 1.77]),
        (12_578, [0.56, 0.79, 1.12]),
    ];
    for (n, row) in table {
        let runs = [grid("base", "pope", n, 1, |index| index % 2 == 0)];
        for (discordance, expected) in [0.05, 0.10, 0.20].into_iter().zip(row) {
            let plan = plan_power(&runs, &settings(discordance)).unwrap();
            let found = plan.benchmarks[0].minimum_detectable_effect.unwrap();
            // The table has normal quantiles; the plan those of the t-test that will be made.
            let degrees = n as f64 - 1.0;
            let t = t_quantile(0.975, degrees).unwrap() + t_quantile(0.8, degrees).unwrap();
            let normal = normal_quantile(0.975).unwrap() + normal_quantile(0.8).unwrap();
            let by_normal = found * normal / t;
            assert!((by_normal - expected).abs() <= 0.005, "n {n}, {discordance}: expected {expected}, found {by_normal}");
            assert!(found >= by_normal && found < by_normal * 1.006, "n {n}: t {found}, normal {by_normal}");
        }
    }
}

#[test]
fn clusters_multiply_what_is_needed() {
    // 200 images with 6 questions each against 1,200 images with one: the same scores.
    let clustered = alike("base", 200, 6);
    let mut alone = clustered.clone();
    for (index, record) in alone.records.iter_mut().enumerate() {
        record.cluster = format!("image{index}");
    }
    let with = plan_power(&[clustered], &settings(0.1)).unwrap().benchmarks.remove(0);
    let without = plan_power(&[alone], &settings(0.1)).unwrap().benchmarks.remove(0);
    let effect = with.design_effect.unwrap();
    // 1 + 5 · 0.36 = 2.8; 200 images tell the correlation to within 0.04, so the effect to within 0.2 (three of them: 0.6).
    assert!((effect - 2.8).abs() < 0.6, "{effect}");
    assert!((with.intraclass_correlation.unwrap() - 0.36).abs() < 0.12);
    assert_eq!(without.intraclass_correlation, None);
    let ratio = (with.standard_error.unwrap() / without.standard_error.unwrap()).powi(2);
    assert!((ratio - effect).abs() < 1e-9, "{ratio} {effect}");
    // √(deff · d / n), in percentage points.
    let by_hand = 100.0 * (effect * 0.1 / 1200.0).sqrt();
    assert!((with.standard_error.unwrap() - by_hand).abs() < 1e-9, "{by_hand}");
    // Samples grow with the variance, but for the few that degrees of freedom cost.
    let needed = |plan: &llava_gauge::compare::BenchmarkPower| plan.drops[1].samples.unwrap() as f64;
    assert!((needed(&with) / needed(&without) / effect - 1.0).abs() < 0.01);
    assert_eq!(with.drops[1].images.unwrap() * 6, with.drops[1].samples.unwrap());
}

#[test]
fn two_runs_tell_what_changes() {
    let folder = tempfile::tempdir().unwrap();
    let first = write(&good("first", "pope"), folder.path());
    let second = write(&bad("second", "pope"), folder.path());
    let output = gauge_output(&["power", "--from", text(&first), text(&second)]);
    insta::assert_snapshot!(output.replace('\u{202f}', " "));
    let plan = gauge_json(&["power", "--from", text(&first), text(&second), "--json"]);
    assert_eq!(plan["format"], 1);
    let plan = &plan["benchmarks"][0];
    assert_eq!((plan["basis"].as_str().unwrap(), plan["metric"].as_str().unwrap()), ("measured", "accuracy"));
    assert_eq!((plan["base"].as_str().unwrap(), plan["new"].as_str().unwrap()), ("first", "second"));
    // The comparison of the same runs has the same standard error and, below the discordance, the same smallest drop.
    let comparison = gauge_json(&["compare", text(&first), text(&second), "--json"]);
    let metric = &comparison["pairs"][0]["metrics"][0];
    assert_eq!(plan["standard_error"], metric["difference"]["standard_error"]);
    assert_eq!(plan["fixed"], comparison["pairs"][0]["fixed"]);
    assert_eq!(plan["broken"], comparison["pairs"][0]["broken"]);
    let changed = plan["broken"].as_f64().unwrap() / 200.0;
    assert_eq!(plan["discordance"].as_f64().unwrap(), changed);
    let smallest = plan["minimum_detectable_effect"].as_f64().unwrap();
    assert!(smallest <= 100.0 * changed);
    assert_eq!(smallest, metric["minimum_detectable_effect"].as_f64().unwrap());
    // What these samples show with 80 % they show with 80 %, and no more samples are needed for it.
    let drop = smallest.to_string();
    let at = gauge_json(&["power", "--from", text(&first), text(&second), "--drop", &drop, "--json"]);
    let at = &at["benchmarks"][0]["drops"][0];
    assert!((at["detection_probability"].as_f64().unwrap() - 0.8).abs() < 1e-9, "{at}");
    let larger = (smallest * 1.0001).to_string();
    let at = gauge_json(&["power", "--from", text(&first), text(&second), "--drop", &larger, "--json"]);
    assert_eq!(
        (&at["benchmarks"][0]["drops"][0]["images"], &at["benchmarks"][0]["drops"][0]["samples"]),
        (&40.into(), &200.into())
    );
    assert_eq!(at["benchmarks"][0]["drops"][0]["runs_suffice"], true);
}

#[test]
fn one_run_needs_an_assumption_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = alike("only", 50, 4);
    run.header.benchmark.samples_available = 9_000;
    let directory = write(&run, folder.path());
    let output = gauge_output(&["power", "--from", text(&directory)]);
    insta::assert_snapshot!(output.replace('\u{202f}', " "));
    assert!(output.contains("assumed: 10.0 % of the scores change"), "{output}");
    // The benchmark has enough for two points but these samples do not.
    let plan = gauge_json(&["power", "--from", text(&directory), "--drop", "2", "--drop", "0.1", "--json"]);
    let drops = plan["benchmarks"][0]["drops"].as_array().unwrap();
    let enough: Vec<(bool, bool)> = drops
        .iter()
        .map(|drop| (drop["runs_suffice"].as_bool().unwrap(), drop["benchmark_suffices"].as_bool().unwrap()))
        .collect();
    assert_eq!(enough, [(false, true), (false, false)]);
    // A fifth of the answers changing needs twice the samples of a tenth, but for a few.
    let samples = |percent: &str| -> f64 {
        let arguments = ["power", "--from", text(&directory), "--drop", "1", "--discordance", percent, "--json"];
        gauge_json(&arguments)["benchmarks"][0]["drops"][0]["samples"].as_f64().unwrap()
    };
    assert!((samples("20") / samples("10") - 2.0).abs() < 0.01);
}

#[test]
fn no_more_changes_than_between_unrelated_packages() {
    // 2 % wrong: two unrelated packages of this accuracy differ in 2 · 0.02 · 0.98 of the answers.
    let plan = plan_power(&[grid("base", "pope", 1_000, 1, |index| index % 50 != 0)], &settings(0.2)).unwrap();
    let plan = &plan.benchmarks[0];
    assert!((plan.discordance - 2.0 * 0.02 * 0.98).abs() < 1e-4, "{}", plan.discordance);
    assert!(plan.notes.iter().any(|note| note.contains("unrelated packages")), "{:?}", plan.notes);
    // A drop of 5 points needs 5 % of the answers to change at least, so the plan counts with that.
    let error = |points: f64| {
        let drop = plan.drops.iter().find(|drop| drop.points == points).unwrap();
        drop.samples.unwrap() as f64 * points * points
    };
    assert!((error(5.0) / error(2.0) - 0.05 / plan.discordance).abs() < 0.02, "{} {}", error(5.0), error(2.0));
}

#[test]
fn folders_of_many_runs_are_planned_benchmark_by_benchmark() {
    let folder = tempfile::tempdir().unwrap();
    for package in ["a", "b", "c"] {
        let make = if package == "c" { bad } else { good };
        write(&make(package, "pope"), folder.path());
    }
    write(&good("a", "gqa"), folder.path());
    let plan = gauge_json(&["power", "--from", text(folder.path()), "--json"]);
    let entries: Vec<(&str, &str, Option<&str>, &str)> = plan["benchmarks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let word = |field: &str| entry[field].as_str();
            (word("benchmark").unwrap(), word("base").unwrap(), word("new"), word("basis").unwrap())
        })
        .collect();
    // Equal answers tell no spread, so there the discordance is assumed.
    let expected = [("gqa", "a", None, "assumed"), ("pope", "a", Some("b"), "assumed"), ("pope", "a", Some("c"), "measured")];
    assert_eq!(entries, expected);
    let from_c = gauge_json(&["power", "--from", text(folder.path()), "--base", "c", "--json"]);
    let pairs: Vec<(&Value, &Value)> =
        from_c["benchmarks"].as_array().unwrap().iter().map(|entry| (&entry["base"], &entry["new"])).collect();
    assert!(pairs.contains(&(&"c".into(), &"a".into())) && pairs.contains(&(&"c".into(), &"b".into())), "{pairs:?}");
}

#[test]
fn what_cannot_be_planned_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let right = write(&grid("right", "pope", 20, 2, |_| true), folder.path());
    let output = gauge(&["power", "--from", text(&right)]).assert().code(106).get_output().stdout.clone();
    let output = String::from_utf8(output).unwrap();
    assert!(output.contains("nothing can be planned from one run whose scores do not spread"), "{output}");
    let failed = write(&run("failed", "vqa", &[(0, None), (1, None)]), folder.path());
    gauge(&["power", "--from", text(&failed)]).assert().code(106);
    // Half of a run is a plan with a caution.
    let mut half = alike("half", 30, 4);
    half.header.benchmark.samples = 240;
    half.header.benchmark.samples_available = 240;
    let half = write(&half, folder.path());
    let output = gauge_output(&["power", "--from", text(&half)]);
    assert!(output.contains("! the run of half is incomplete: 120 of 240 samples"), "{output}");
}

#[test]
fn wrong_settings_and_unlike_runs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = write(&good("first", "pope"), folder.path());
    let from = ["power", "--from", text(&first)];
    for (option, value, expected) in [
        ("--drop", "0", "more than 0 and at most 100"),
        ("--drop", "-1", "more than 0 and at most 100"),
        ("--drop", "nan", "more than 0 and at most 100"),
        ("--discordance", "101", "more than 0 and at most 100"),
        ("--power", "1", "a share between 0 and 1"),
        ("--alpha", "5", "a share between 0 and 1"),
    ] {
        let value = format!("{option}={value}");
        let error = gauge_fails(&[&from[..], &[&value]].concat(), 2);
        assert!(error.contains(expected), "{value}: {error}");
    }
    let error = gauge_fails(&[&from[..], &["--power", "0.05"]].concat(), 96);
    assert!(error.contains("--power 0.05 must be more than --alpha 0.05"), "{error}");
    gauge_fails(&["power", "--from", text(&folder.path().join("nothing"))], 106);
    gauge_fails(&["power"], 2);
    let mut other = good("other", "pope");
    other.header.benchmark.samples_sha256 = "00".repeat(32);
    let other = write(&other, folder.path());
    let error = gauge_fails(&["power", "--from", text(&first), text(&other)], 104);
    assert!(error.contains("the runs cannot be compared"), "{error}");
}

#[test]
fn hostile_names_stay_text() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = alike("plain", 20, 4);
    let directory = write(&run, folder.path());
    run.header.model.name = "pa\u{1b}[31mck\u{202e}age\u{7}".into();
    run.header.benchmark.name = "po\u{1b}]0;x\u{7}pe".into();
    std::fs::write(directory.join("run.json"), serde_json::to_string(&run.header).unwrap()).unwrap();
    let output = gauge_output(&["power", "--from", text(&directory)]);
    assert!(!output.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{output:?}");
    assert!(output.contains("drop"), "{output}");
}

#[test]
fn nothing_is_measured_where_the_basis_says_assumed() {
    let runs = [good("a", "pope"), good("b", "pope")];
    let plan = plan_power(&runs, &settings(0.1)).unwrap();
    let plan = &plan.benchmarks[0];
    assert_eq!((plan.basis, plan.fixed, plan.broken), (PowerBasis::Assumed, Some(0), Some(0)));
    assert_eq!(plan.discordance, 0.1);
    assert!(plan.notes.iter().any(|note| note.contains("0 of 200 samples differs")), "{:?}", plan.notes);
}
