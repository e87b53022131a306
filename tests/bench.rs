//! Measuring: sweeps, counts of operations against numbers worked out by hand, statistics of given samples, formats, and the verb on
//! shipped packages. No test looks at how long anything takes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use common::{gauge_fails, gauge_json, gauge_output, root, text};
use llava_gauge::bench::{
    BenchResult, Conditions, PackageFacts, Ratio, Series, Sweeps, Test, decode_cost, expand, image_cost, packed_cost,
    parse_sweep, prefill_cost, summarise, to_csv, to_markdown, to_table,
};
use llava_gauge::engine::runtime::doctor::Machine;
use llava_gauge::export::{StageShapes, stage_shapes};
use proptest::prelude::*;

#[test]
fn sweeps_are_lists_steps_and_factors() {
    assert_eq!(parse_sweep("1,6,32", 1).unwrap(), [1, 6, 32]);
    assert_eq!(parse_sweep("128-512+128", 1).unwrap(), [128, 256, 384, 512]);
    assert_eq!(parse_sweep("128-1000*2,7", 1).unwrap(), [128, 256, 512, 7]);
    assert_eq!(parse_sweep("0-4+2", 0).unwrap(), [0, 2, 4]);
    for wrong in ["", "0", "a", "1,", "5-3+1", "1-5", "0-5*2", "1-5*1", "1-2000+1", "-3", "1048577", "1-5+", "1-1048576+0"] {
        let message = parse_sweep(wrong, 1).unwrap_err().to_string();
        assert!(message.contains(&format!("{wrong:?} is no list of sizes")), "{message}");
    }
}

proptest! {
    #[test]
    fn no_text_breaks_the_parsers(text in "[-+*,@x0-9a-z ]{0,24}") {
        let _ = parse_sweep(&text, 1);
        let _ = expand(&[text], &sweeps());
    }
}

fn sweeps() -> Sweeps {
    Sweeps {
        prefill: vec![16, 32],
        decode: vec![8],
        depth: vec![0, 64],
        rows: vec![1, 6],
        questions: vec![2],
        new_tokens: vec![4, 5],
    }
}

fn names(asked: &[&str]) -> Vec<String> {
    let asked: Vec<String> = asked.iter().map(|text| (*text).to_owned()).collect();
    expand(&asked, &sweeps()).unwrap().iter().map(Test::name).collect()
}

#[test]
fn tests_alone_stand_for_sweeps_and_with_sizes_for_themselves() {
    assert_eq!(names(&["img", "prefill", "prefill 16"]), ["img", "prefill 16", "prefill 32"]);
    assert_eq!(names(&["decode"]), ["decode 8@0", "decode 8@0x6", "decode 8@64", "decode 8@64x6"]);
    assert_eq!(names(&["decode 3@7x2", "decode 3@7"]), ["decode 3@7x2", "decode 3@7"]);
    assert_eq!(names(&["questions", "questions 9x1", "score"]), ["questions 2x4", "questions 2x5", "questions 9x1", "score 2"]);
    // What a test is called is read as that test.
    for name in ["img", "prefill 5", "decode 3@7x2", "decode 3@0", "questions 9x1", "score 4"] {
        assert_eq!(names(&[name]), [name]);
    }
    for wrong in
        ["", "image", "img 3", "prefill 0", "prefill x", "decode 3@", "decode @3", "decode 3@1x0", "questions 2x", "score 1x1"]
    {
        let message = expand(&[wrong.to_owned()], &sweeps()).unwrap_err().to_string();
        assert!(message.contains(&format!("{wrong:?} is no test")), "{message}");
    }
}

/// M1: 24 layers of 896, queries 896, keys 128, feed-forward 4864, vocabulary 32064; CLIP ViT-L/14-336 with 23 layers used.
fn m1() -> StageShapes {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(root().join("src/export/synth/shapes/M1.json"), folder.path().join("config.json")).unwrap();
    stage_shapes(folder.path()).unwrap()
}

#[test]
fn operations_are_those_counted_by_hand() {
    let shapes = m1();
    // Weights of a layer before attention: 896 · (896 + 2 · 128) = 1,032,192; after it: 896² + 3 · 896 · 4864 = 13,877,248.
    let prefill = prefill_cost(&shapes.llm, 0, 636, 1);
    // 2 · (24 · 636 · 1,032,192 + (23 · 636 + 1) · 13,877,248)
    assert_eq!(prefill.linear, 437_531_279_360.0);
    assert_eq!(prefill.head, 57_458_688.0);
    // 24 · 4 · 896 · (636 · 637 / 2)
    assert_eq!(prefill.attention, 17_423_917_056.0);
    assert_eq!((prefill.linear_weights, prefill.head_weights), (357_826_560.0, 28_729_344.0));
    assert_eq!(prefill.cache_bytes, 15_630_336.0);
    let decode = decode_cost(&shapes.llm, 637, 6);
    assert_eq!((decode.linear, decode.head, decode.attention), (4_293_918_720.0, 344_752_128.0, 328_753_152.0));
    // 24 · 4 · 896 · 6 · (25 · 611 + 25 · 26 / 2)
    assert_eq!(packed_cost(&shapes.llm, 611, 25, 6, 6).attention, 86_016.0 * 93_600.0);
    // One question on top of a prefix costs what the same rows cost on top of a past.
    assert_eq!(packed_cost(&shapes.llm, 611, 25, 1, 1), prefill_cost(&shapes.llm, 611, 25, 1));
    let (encoder, projector) = image_cost(&shapes);
    // 2 · (576 · 588 · 1024 + 23 · 577 · (4 · 1024² + 2 · 1024 · 4096))
    assert_eq!(encoder.linear, 334_669_283_328.0);
    // 23 · 4 · 577² · 1024
    assert_eq!(encoder.attention, 31_364_575_232.0);
    // 2 · 576 · (1024 · 896 + 896²)
    assert_eq!(projector.linear, 1_981_808_640.0);
}

#[test]
fn statistics_say_no_more_than_the_samples_support() {
    let test = Test::Prefill { tokens: 100 };
    let summary = summarise(&test, &[40.0, 10.0, 20.0, 30.0]).unwrap();
    assert_eq!((summary.n, summary.median_ms, summary.min_ms, summary.max_ms), (4, 25.0, 10.0, 40.0));
    assert_eq!((summary.per_second, summary.spread), (4_000.0, 1.2));
    let many = |count: u32| summarise(&test, &(1..=count).map(f64::from).collect::<Vec<_>>()).unwrap();
    assert_eq!((many(43).p90_ms, many(458).p99_ms), (None, None));
    assert!(many(44).p90_ms.is_some() && many(459).p99_ms.is_some());
    assert_eq!(summarise(&test, &[]), None);

    let ratio = Ratio::of(&[100.0; 3], &[50.0; 3]).unwrap();
    assert!((ratio.value - 0.5).abs() < 1e-12);
    // Two pairs whose logarithms are ±0.1: standard error 0.1, one degree of freedom, t = 12.7062.
    let ratio = Ratio::of(&[1.0, 1.0], &[0.1_f64.exp(), (-0.1_f64).exp()]).unwrap();
    let [low, high] = ratio.interval.unwrap();
    assert!((ratio.value - 1.0).abs() < 1e-12 && (high.ln() - 1.270_62).abs() < 1e-5 && (low.ln() + 1.270_62).abs() < 1e-5);
    assert_eq!(Ratio::of(&[1.0], &[2.0]).unwrap().interval, None);
    assert_eq!(Ratio::of(&[], &[]), None);
    assert_eq!(Ratio::of(&[0.0], &[0.0]), None);
}

fn made_result() -> BenchResult {
    let facts = |name: &str, precision: &str| PackageFacts {
        name: name.to_owned(),
        folder: format!("packages/{name}"),
        identity: "00".repeat(32),
        precision: [precision; 3].map(str::to_owned),
        disk_bytes: 1_500_000_000,
        load_ms: 812.0,
        load_memory_bytes: Some(1_400_000_000),
        scheduling: "packed-tree".to_owned(),
    };
    let questions = Test::Questions { questions: 6, new_tokens: 8 };
    let series =
        |package, test, samples_ms: &[f64]| Series { package, test, samples_ms: samples_ms.to_vec(), stages_ms: Vec::new() };
    let mut slow = series(0, questions, &[5_000.0, 5_100.0, 5_200.0]);
    slow.stages_ms = vec![[2_000.0, 50.0, 2_450.0, 500.0]; 3];
    BenchResult {
        packages: vec![facts("plain", "fp32"), facts("=a|b,\"c\"", "int8")],
        series: vec![
            series(0, Test::Image, &[2_000.0, 2_010.0, 2_020.0]),
            series(1, Test::Image, &[800.0, 804.0, 1_100.0]),
            slow,
            series(1, questions, &[2_000.0, 2_040.0, 2_080.0]),
        ],
        machine: Machine {
            operating_system: "Linux".to_owned(),
            architecture: "x86_64".to_owned(),
            cpu: "A Processor".to_owned(),
            cpu_features: vec!["avx2".to_owned(), "fma".to_owned()],
            physical_cores: 2,
            logical_cores: 2,
            memory_total_bytes: 1 << 34,
            memory_available_bytes: 1 << 33,
        },
        roofline: None,
        conditions: Conditions { seconds: 30.0, processors: 2, load_average: Some(3.0), ..Conditions::default() },
        peak_memory_bytes: Some(3_000_000_000),
        provider: "cpu".to_owned(),
        threads: 2,
        warmup: 1,
        runtime_version: "1.31.1".to_owned(),
        started_at: "2026-01-01T00:00:00Z".to_owned(),
    }
}

#[test]
fn a_result_reads_the_same_in_every_format() {
    let result = made_result();
    insta::assert_snapshot!("bench_table", to_table(&result));
    insta::assert_snapshot!("bench_markdown", to_markdown(&result));
    insta::assert_snapshot!("bench_csv", to_csv(&result));
    let mut json = result.to_json();
    json["version"] = "filtered".into();
    insta::assert_json_snapshot!("bench_json", json);
}

/// All kinds of tests on two shipped packages: every sample is there, packages stand side by side, and times are positive.
#[test]
fn packages_are_measured_side_by_side() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("result.json");
    let tests = "img,prefill 16,decode 3@8x2,decode 2@0,questions 2x3,score 2";
    let arguments = ["bench", "exports/pico-llava-1.5", "exports/pico-llava-next", "--test", tests, "-r", "2", "--warmup", "0"];
    let printed = gauge_output(&[&arguments[..], &["--json", "-o", text(&file)]].concat());
    assert_eq!(printed, "");
    let result: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(result["format"], 1);
    assert_eq!(result["packages"][0]["name"], "pico-llava-1.5");
    let series = result["series"].as_array().unwrap();
    assert_eq!(series.len(), 12);
    for (index, series) in series.iter().enumerate() {
        assert_eq!(series["package"], index % 2);
        let samples = series["samples_ms"].as_array().unwrap();
        assert!(samples.len() == 2 && samples.iter().all(|ms| ms.as_f64().unwrap() > 0.0));
        assert_eq!(series["ratio_to_first_package"].is_null(), index % 2 == 0);
        assert!(series["summary"]["p90_ms"].is_null());
    }
    // A picture with tiles goes through the tower several times.
    let stages = |index: usize| series[index]["vision_projector_prefill_decode_ms"][0].clone();
    assert!(stages(0)[0].as_f64().unwrap() > 0.0 && stages(0)[3] == 0.0);
    assert!(stages(8)[2].as_f64().unwrap() > 0.0 && stages(8)[3].as_f64().unwrap() > 0.0);
}

#[test]
fn limits_are_measured_at_the_shapes_of_the_package() {
    let result =
        gauge_json(&["bench", "pico-llava-1.5", "--test", "img,decode 2@4,questions 2x2", "-r", "1", "--roofline", "--json"]);
    let limits = result["roofline"]["limits"].as_array().unwrap();
    assert_eq!(limits.len(), 3, "{limits:?}");
    // 65 rows in the tower, and a prompt of 35 + 64 + 25 tokens.
    assert_eq!(limits[0]["shape"], serde_json::json!([65, 96, 384]));
    assert_eq!(limits[1]["shape"], serde_json::json!([124, 128, 352]));
    assert!(result["roofline"]["read_gigabytes_per_second"].as_f64().unwrap() > 0.0);
    let shares = result["roofline"]["shares"].as_array().unwrap();
    assert_eq!(shares.len(), 3);
    assert!(shares.iter().all(|share| share["floor_ms"].as_f64().unwrap() > 0.0 && share["share"].as_f64().unwrap() > 0.0));
}

#[test]
fn what_cannot_be_measured_is_refused_before_loading() {
    let package = "exports/pico-llava-1.5";
    for (arguments, part) in [
        (["--test", "speed"], "is no test"),
        (["--prefill", "1-5"], "is no list of sizes"),
        (["--test", "prefill 4000"], "more than the 2048 positions of pico-llava-1.5"),
        (["--test", "decode 9@2040"], "more than the 2048 positions"),
    ] {
        let message = gauge_fails(&["bench", package, arguments[0], arguments[1]], 96);
        assert!(message.contains(part), "{message}");
    }
    gauge_fails(&["bench", package, "--repetitions", "0"], 2);
    let message = gauge_fails(&["bench", package, "--test", "img", "-o", "/nowhere/result.json"], 110);
    assert!(message.contains("/nowhere/result.json"), "{message}");
    gauge_fails(&["bench", "exports/none"], 102);
}
