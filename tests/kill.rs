//! `kill -9` at random moments loses nothing: the continued run ends like an uninterrupted one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]
#![cfg(unix)]

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{gauge, results_without_timings, text};

/// Kills in an ordinary test run; the environment variable asks for more.
fn kills() -> u32 {
    std::env::var("LLAVA_GAUGE_KILLS").ok().and_then(|value| value.parse().ok()).unwrap_or(12)
}

const MODELS: [&str; 4] = ["pico-llava-1.5", "pico-llava-1.5-stage1", "pico-llava-v1", "pico-llava-next"];
const BENCHMARKS: [&str; 5] = ["pico-vqa", "pico-pope", "pico-textvqa", "pico-refcoco", "pico-fineprint"];

/// Images by themselves, as all of these were run before images decoded together.
fn by_image(output: &str) -> Vec<String> {
    arguments(&MODELS, &BENCHMARKS, "packed-tree", output)
}

/// Several images together, in so little memory that slots are taken again and again.
fn across_images(output: &str) -> Vec<String> {
    let mut arguments = arguments(&MODELS[..2], &["pico-caption", "pico-vqa", "pico-textvqa"], "across-images", output);
    arguments.extend(["--kv-memory".to_owned(), "4MiB".to_owned()]);
    arguments
}

fn arguments(models: &[&str], benchmarks: &[&str], scheduling: &str, output: &str) -> Vec<String> {
    let words = ["run", "--model"].iter().chain(models).chain(&["--benchmark"]).chain(benchmarks);
    let more = ["--scheduling", scheduling, "-o", output];
    let words = words.chain(&more);
    words.map(|&word| word.to_owned()).collect()
}

/// A small multiplicative generator: moments need to be scattered and repeatable, nothing more.
struct Moments(u64);

impl Moments {
    fn next_unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / (1_u64 << 31) as f64
    }
}

#[test]
fn a_run_killed_at_random_moments_ends_like_an_uninterrupted_one() {
    killed_runs_end_alike(by_image, 1000);
}

#[test]
fn a_run_across_images_killed_at_random_moments_ends_like_an_uninterrupted_one() {
    killed_runs_end_alike(across_images, 500);
}

fn killed_runs_end_alike(arguments: fn(&str) -> Vec<String>, least_records: usize) {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let started = Instant::now();
    let all = arguments(text(&whole));
    gauge(&all.iter().map(String::as_str).collect::<Vec<_>>()).assert().success();
    let duration = started.elapsed();
    let expected = results_without_timings(&whole);
    assert!(expected.len() > least_records, "more than {least_records} records, found {}", expected.len());

    let mut moments = Moments(20_261_123);
    let mut killed = 0;
    let mut rounds = 0;
    while killed < kills() {
        rounds += 1;
        let output = folder.path().join(format!("killed-{rounds}"));
        // Each attempt lives for up to a quarter of the whole run, so that a round sees several kills at all stages.
        loop {
            let mut child = Command::new(env!("CARGO_BIN_EXE_llava-gauge"))
                .current_dir(common::root())
                .args(arguments(text(&output)))
                .arg("--no-progress")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let life = duration.mul_f64(0.25 * moments.next_unit()).max(Duration::from_millis(20));
            let deadline = Instant::now() + life;
            let mut exited = None;
            while exited.is_none() && (killed >= kills() || Instant::now() < deadline) {
                exited = child.try_wait().unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
            match exited {
                Some(status) => {
                    assert!(status.success(), "round {rounds}: {status}");
                    break;
                }
                None => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    killed += 1;
                }
            }
        }
        assert!(results_without_timings(&output) == expected, "round {rounds}, after {killed} kills, ended differently");
        std::fs::remove_dir_all(&output).unwrap();
    }
    eprintln!("{killed} kills in {rounds} rounds, {} records and summaries each", expected.len());
}
