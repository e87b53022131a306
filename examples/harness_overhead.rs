//! What the program itself costs per sample: a whole run over the shipped benchmarks with an engine that answers at once from a
//! script, so that nothing but the harness is left. Real images are decoded and resized, prompts rendered and tokenised, answers
//! scored, records written and synced.
//!
//! ```sh
//! cargo run --release --example harness_overhead            # each shipped benchmark, five runs
//! cargo run --release --example harness_overhead -- pico-vqa 20
//! ```
//!
//! Two figures stand side by side: the wall time per sample, in which decoding images is the larger part, and the program's own
//! share as runs record it (`harness_ms` of the group timings): prompts, tokens and handing on, which is what would hold up a real engine.
#![allow(clippy::unwrap_used, reason = "a measurement stops at the first surprise")]

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use llava_gauge::benchmark::{Benchmark, samples_sha256};
use llava_gauge::engine::{MockAnswer, MockEngine};
use llava_gauge::package::Package;
use llava_gauge::prompt::Prompter;
use llava_gauge::run::{Conductor, Plan, Progress, ProgressUpdate};
use llava_gauge::score;
use llava_gauge::store::{
    BenchmarkIdentity, Environment, FORMAT, ModelIdentity, RunHeader, RunSettings, RunWriter, SampleRecord,
};

const BENCHMARKS: [&str; 6] = ["pico-vqa", "pico-pope", "pico-textvqa", "pico-refcoco", "pico-mme", "pico-caption"];

/// Tokens of each answer, as many as short answers have.
const ANSWER_TOKENS: usize = 8;

#[derive(Default)]
struct Sums {
    samples: usize,
    harness_ms: f64,
    image_wait_ms: f64,
    image_ms: f64,
}

impl Progress for Sums {
    fn update(&mut self, _: &ProgressUpdate) {}

    fn records(&mut self, new: &[SampleRecord]) {
        self.samples += new.len();
        if let Some(record) = new.first() {
            let group = &record.timings.group;
            self.harness_ms += group.harness_ms.unwrap();
            self.image_wait_ms += group.image_wait_ms.unwrap();
            self.image_ms += group.image_ms;
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let only = arguments.next();
    let repetitions: usize = arguments.next().map_or(5, |text| text.parse().unwrap());
    let package = Package::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("exports/pico-llava-1.5")).unwrap();
    let prompter = Prompter::open(&package).unwrap();
    println!(
        "benchmark      samples   wall µs/sample   harness µs/sample   waiting for images   decoding images   (medians of {repetitions})"
    );
    for name in BENCHMARKS.into_iter().filter(|name| only.as_deref().is_none_or(|only| only == *name)) {
        let benchmark = Benchmark::load(name, None).unwrap();
        let plan = Plan::new(&benchmark.samples, None);
        let mut runs: Vec<[f64; 4]> = (0..repetitions).map(|_| once(&benchmark, &plan, &prompter, &package)).collect();
        let median = |column: usize, runs: &mut Vec<[f64; 4]>| {
            runs.sort_by(|left, right| left[column].total_cmp(&right[column]));
            runs[runs.len() / 2][column]
        };
        let [wall, harness, waiting, decoding] = [0, 1, 2, 3].map(|column| median(column, &mut runs));
        println!("{name:<14} {:>7} {wall:>16.1} {harness:>19.1} {waiting:>20.1} {decoding:>17.1}", plan.samples());
    }
}

/// Microseconds per sample of one run: wall, harness, waiting for images, decoding images.
fn once(benchmark: &Benchmark, plan: &Plan, prompter: &Prompter, package: &Package) -> [f64; 4] {
    let folder = std::env::temp_dir().join(format!("llava-gauge-harness-overhead-{}", std::process::id()));
    let header = header(benchmark, plan);
    let (mut writer, recovered) = RunWriter::open_or_resume(&folder, &header).unwrap();
    let mut engine = MockEngine::new(|_, index| Ok(Ok(MockAnswer::new(vec![5 + index as u32 % 7; ANSWER_TOKENS]))));
    let stop = AtomicBool::new(false);
    let conductor = Conductor {
        benchmark,
        plan,
        prompter,
        manifest: &package.manifest,
        max_new_tokens: ANSWER_TOKENS,
        answering: Default::default(),
        stop: &stop,
    };
    let mut sums = Sums::default();
    let started = Instant::now();
    conductor.run(&mut engine, &mut writer, &recovered, &mut sums).unwrap();
    writer.finish(b"{}\n").unwrap();
    let wall_ms = started.elapsed().as_secs_f64() * 1e3;
    std::fs::remove_dir_all(&folder).unwrap();
    [wall_ms, sums.harness_ms, sums.image_wait_ms, sums.image_ms].map(|ms| 1e3 * ms / sums.samples.max(1) as f64)
}

fn header(benchmark: &Benchmark, plan: &Plan) -> RunHeader {
    RunHeader {
        memory: None,
        format: FORMAT,
        started: "2026-01-01T00:00:00Z".into(),
        tag: None,
        commit: None,
        model: ModelIdentity {
            name: "mock".into(),
            identity: "0".repeat(64),
            precision: "none".into(),
            template: "vicuna_v1".into(),
            image_recipe: "pad".into(),
            weight_bytes: None,
            quantisation: Vec::new(),
            flavor: None,
        },
        benchmark: BenchmarkIdentity {
            name: benchmark.spec.name.clone(),
            title: benchmark.spec.title.clone(),
            scorer: benchmark.spec.scorer.identity(),
            samples_sha256: samples_sha256(plan.sample_indices().map(|index| &benchmark.samples[index])),
            samples: plan.samples(),
            samples_available: benchmark.samples.len(),
            data_root: ".".into(),
            metrics: score::metrics(&benchmark.spec.scorer),
            data: None,
        },
        settings: RunSettings {
            max_new_tokens: ANSWER_TOKENS,
            provider: "mock".into(),
            intra_op_threads: 1,
            ..Default::default()
        },
        environment: Environment {
            program_version: env!("CARGO_PKG_VERSION").into(),
            runtime_version: "none".into(),
            runtime_sha256: "0".repeat(64),
            platform: "any".into(),
            processor: "any".into(),
            physical_cores: 1,
            memory_bytes: 0,
        },
    }
}
