//! The run directory as its users meet it: killed writers, two writers, other runs, other formats, discovery.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should stop where it failed")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use llava_gauge::benchmark::{Contribution, MetricSpec, Reference};
use llava_gauge::stats::Generator;
use llava_gauge::store::{
    BenchmarkIdentity, DeterminismClass, Environment, Execution, GroupTimings, LogNote, ModelIdentity, Run, RunHeader,
    RunSettings, RunWriter, SampleRecord, SampleTimings, StoreError, canonical_without_timings, discover, read_header,
};

const SAMPLES: usize = 60_000;
const GROUP: usize = 6;

fn header() -> RunHeader {
    RunHeader {
        memory: None,
        execution: None,
        format: 1,
        started: "2025-11-23T07:00:00Z".into(),
        tag: None,
        commit: None,
        model: ModelIdentity {
            name: "pico".into(),
            identity: "ab".repeat(32),
            precision: "fp32/fp32/fp32".into(),
            template: "vicuna_v1".into(),
            image_recipe: "pad 64px bicubic".into(),
            weight_bytes: None,
            quantisation: Vec::new(),
            flavor: None,
        },
        benchmark: BenchmarkIdentity {
            name: "pope".into(),
            title: "POPE".into(),
            scorer: "yes-no/1".into(),
            samples_sha256: "cd".repeat(32),
            samples: SAMPLES,
            samples_available: SAMPLES,
            data_root: "data".into(),
            metrics: vec![MetricSpec {
                name: "accuracy".into(),
                scale: 100.0,
                higher_is_better: Some(true),
                primary: true,
                mean_over_categories: false,
                sum_over_categories: false,
                points: false,
            }],
            data: None,
        },
        settings: RunSettings {
            max_new_tokens: 16,
            provider: "cpu".into(),
            intra_op_threads: 2,
            scheduling: "packed-tree".into(),
            scheduling_reason: None,
            prompt_sha256: None,
            answering: None,
            ..Default::default()
        },
        environment: Environment {
            program_version: "0.1.0".into(),
            runtime_version: "1.31.1".into(),
            runtime_sha256: "ef".repeat(32),
            platform: "linux x86_64".into(),
            processor: "a processor".into(),
            physical_cores: 2,
            memory_bytes: 1 << 34,
        },
    }
}

/// Everything but the timings is a function of the index.
fn record(index: usize, clock: f64) -> SampleRecord {
    SampleRecord {
        key: format!("q{index}"),
        cluster: format!("image{}", index / GROUP),
        category: Some(["random", "popular", "adversarial"][index % 3].into()),
        images: vec![format!("image{}.png", index / GROUP)],
        question: "Is there a dog in the image? ".repeat(1 + index % 7),
        prompt: "USER: <image>\nIs there a dog in the image?".into(),
        prompt_sha256: "01".repeat(32),
        prompt_tokens: 600,
        reference: Reference::YesNo { yes: index.is_multiple_of(2) },
        token_ids: vec![3869, 2],
        text: "Yes".into(),
        log_probability: -1.0 / (index + 3) as f64,
        stop_reason: "eos".into(),
        parsed: Some("yes".into()),
        score: Some(f64::from(u8::from(index.is_multiple_of(2)))),
        contributions: [("accuracy".to_owned(), Contribution { numerator: 1.0, denominator: 1.0 })].into(),
        detail: serde_json::json!({"cell": "TP"}),
        failure: None,
        timings: SampleTimings {
            ttft_ms: clock,
            tpot_ms: Some(clock / 3.0),
            group: GroupTimings { questions: GROUP, vision_ms: clock, ..Default::default() },
        },
    }
}

const CHILD: &str = "LLAVA_GAUGE_TEST_RUN_DIRECTORY";

/// Not a test of its own: the process that `a_killed_writer_loses_nothing_acknowledged` kills.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let clock = std::time::Instant::now();
    let (mut writer, recovered) = RunWriter::open_or_resume(Path::new(&directory), &header()).unwrap();
    let mut out = std::io::stdout().lock();
    let mut next = recovered.len();
    while next < SAMPLES {
        let end = ((next / GROUP + 1) * GROUP).min(SAMPLES);
        let group: Vec<SampleRecord> = (next..end).map(|index| record(index, clock.elapsed().as_secs_f64())).collect();
        writer.append(&group).unwrap();
        next = end;
        writeln!(out, "acknowledged {next}").unwrap();
        out.flush().unwrap();
    }
}

/// The number in a whole line `acknowledged 12`; the last line can be cut short, and then says nothing.
fn acknowledged_in(line: &str) -> Option<usize> {
    line.strip_suffix('\n')?.strip_prefix("acknowledged ")?.parse().ok()
}

/// Kills a writer 200 times at random moments, 25 times in each of eight run directories that it continues each time.
#[cfg(unix)]
#[test]
fn a_killed_writer_loses_nothing_acknowledged() {
    let mut generator = Generator::new(1);
    let (mut torn, mut kept) = (0, 0);
    for _ in 0..8 {
        let (more_torn, more_kept) = kill_in_one_directory(&mut generator, 25);
        (torn, kept) = (torn + more_torn, kept + more_kept);
    }
    println!("{kept} records after the kills, {torn} torn tails");
    assert!(kept > 500, "the writers got to write: {kept}");
}

/// Torn tails met, and records kept at the end.
#[cfg(unix)]
fn kill_in_one_directory(generator: &mut Generator, kills: usize) -> (usize, usize) {
    let directory = tempfile::tempdir().unwrap();
    let (mut torn, mut kept) = (0, 0);
    for kill in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture"])
            .env(CHILD, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut acknowledged = 0;
        let mut line = String::new();
        if kill % 2 == 0 {
            // Die anywhere, even before the directory is open.
            std::thread::sleep(Duration::from_micros(generator.below(12_000) as u64));
        } else {
            // Die while writing.
            while acknowledged == 0 && output.read_line(&mut line).unwrap() > 0 {
                acknowledged = acknowledged_in(&line).unwrap_or(acknowledged);
                line.clear();
            }
            std::thread::sleep(Duration::from_micros(generator.below(4_000) as u64));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        while output.read_line(&mut line).unwrap() > 0 {
            acknowledged = acknowledged_in(&line).unwrap_or(acknowledged);
            line.clear();
        }
        if !directory.path().join("run.json").exists() {
            assert_eq!(acknowledged, 0);
            continue;
        }
        let run = Run::open(directory.path()).unwrap();
        assert!(run.records.len() >= acknowledged.max(kept), "kill {kill}: {} of {acknowledged}", run.records.len());
        assert!(run.notes.iter().all(|note| matches!(note, LogNote::TornTail { .. })), "{:?}", run.notes);
        torn += run.notes.len();
        kept = run.records.len();
    }
    let run = Run::open(directory.path()).unwrap();
    for (index, found) in run.records.iter().enumerate() {
        assert_eq!(canonical_without_timings(found), canonical_without_timings(&record(index, 0.0)));
    }
    (torn, kept)
}

#[test]
fn equal_runs_have_equal_logs_apart_from_timings() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("a"), directory.path().join("b"));
    let (mut writer, _) = RunWriter::open_or_resume(&first, &header()).unwrap();
    writer.append(&(0..12).map(|index| record(index, 1.5)).collect::<Vec<_>>()).unwrap();
    writer.finish(b"{}").unwrap();
    for group in 0..2 {
        // Interrupted after each group.
        let (mut writer, recovered) = RunWriter::open_or_resume(&second, &header()).unwrap();
        assert_eq!(recovered.len(), group * 6);
        writer.append(&(group * 6..group * 6 + 6).map(|index| record(index, 1.5)).collect::<Vec<_>>()).unwrap();
    }
    let read = |run: &Path| std::fs::read(run.join("samples.jsonl")).unwrap();
    assert!(read(&first) == read(&second), "the logs differ");
    assert_eq!(std::fs::read(first.join("summary.json")).unwrap(), b"{}");
    assert_ne!(canonical_without_timings(&record(1, 0.0)), canonical_without_timings(&record(2, 0.0)));
    // Numbers come back to the last digit, whatever their decimals.
    assert_eq!(Run::open(&first).unwrap().records[7], record(7, 1.5));
}

#[test]
fn a_second_writer_is_refused_while_the_first_lives() {
    let directory = tempfile::tempdir().unwrap();
    let (writer, _) = RunWriter::open_or_resume(directory.path(), &header()).unwrap();
    let error = RunWriter::open_or_resume(directory.path(), &header()).map(|_| ()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }));
    assert!(error.to_string().ends_with("is being written by another process; wait for it, or choose another output folder"));
    // Reading goes on.
    assert!(!Run::open(directory.path()).unwrap().complete);
    drop(writer);
    RunWriter::open_or_resume(directory.path(), &header()).unwrap();
}

#[test]
fn another_run_is_refused_with_every_field_that_differs() {
    let directory = tempfile::tempdir().unwrap();
    RunWriter::open_or_resume(directory.path(), &header()).unwrap();
    // What cannot change answers may differ, and the stored header stays.
    let mut later = header();
    later.started = "2025-11-24T00:00:00Z".into();
    later.environment.memory_bytes = 1;
    later.environment.processor = "another".into();
    later.benchmark.data_root = "/elsewhere".into();
    later.execution = Some(Execution {
        provider: "CPUExecutionProvider".into(),
        determinism: DeterminismClass::D0,
        minimum_placement: 0.99,
        graphs: vec![],
    });
    let (writer, _) = RunWriter::open_or_resume(directory.path(), &later).unwrap();
    assert_eq!(writer.header(), &header());
    drop(writer);
    assert_eq!(read_header(directory.path()).unwrap(), header());
    later.settings.max_new_tokens = 32;
    later.environment.runtime_version = "1.32.0".into();
    later.benchmark.metrics[0].scale = 1.0;
    let error = RunWriter::open_or_resume(directory.path(), &later).map(|_| ()).unwrap_err();
    let StoreError::OtherRun { differences, .. } = &error else { panic!("{error}") };
    let fields: Vec<&str> = differences.iter().map(|difference| difference.field.as_str()).collect();
    assert_eq!(fields, ["benchmark.metrics", "settings.max_new_tokens", "environment.runtime_version"]);
    assert!(error.to_string().contains("settings.max_new_tokens: expected 16, found 32"), "{error}");
}

#[test]
fn unreadable_headers_say_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.json");
    assert!(matches!(Run::open(directory.path()), Err(StoreError::File(_))));
    std::fs::write(&path, "{\"format\": 7, \"something\": \"new\"}").unwrap();
    let error = Run::open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::Format { expected: 1, found: 7, .. }));
    assert!(error.to_string().contains("run format 7, and this program reads format 1"), "{error}");
    assert!(matches!(RunWriter::open_or_resume(directory.path(), &header()), Err(StoreError::Format { found: 7, .. })));
    std::fs::write(&path, "{\"format\": 1}").unwrap();
    assert!(Run::open(directory.path()).unwrap_err().to_string().contains("missing field `started`"));
    std::fs::write(&path, "not json").unwrap();
    assert!(matches!(Run::open(directory.path()), Err(StoreError::Header { .. })));
    // Fields that a later program adds do not matter.
    let mut value = serde_json::to_value(header()).unwrap();
    value["later"] = serde_json::json!([1]);
    std::fs::write(&path, value.to_string()).unwrap();
    assert_eq!(read_header(directory.path()).unwrap(), header());
    // Samples without a header belong to nobody.
    let orphan = tempfile::tempdir().unwrap();
    std::fs::write(orphan.path().join("samples.jsonl"), "{}\n").unwrap();
    assert!(matches!(RunWriter::open_or_resume(orphan.path(), &header()), Err(StoreError::HeaderMissing { .. })));
    assert_eq!(std::fs::read(orphan.path().join("samples.jsonl")).unwrap(), b"{}\n");
}

#[test]
fn repeated_samples_count_once() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, _) = RunWriter::open_or_resume(directory.path(), &header()).unwrap();
    writer.append(&[record(0, 1.0), record(1, 1.0)]).unwrap();
    drop(writer);
    let path = directory.path().join("samples.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let first = text.lines().next().unwrap();
    std::fs::write(&path, format!("{text}{first}\n")).unwrap();
    let run = Run::open(directory.path()).unwrap();
    assert_eq!(run.records, [record(0, 1.0), record(1, 1.0)]);
    assert_eq!(run.notes, [LogNote::DuplicateKey { line: 3, key: "q0".into() }]);
}

#[test]
fn runs_are_found_at_any_depth_once_and_in_order() {
    let root = tempfile::tempdir().unwrap();
    for name in ["b/pope", "a/vqa/deep", "a/pope", "single"] {
        RunWriter::open_or_resume(&root.path().join(name), &header()).unwrap();
    }
    std::fs::create_dir_all(root.path().join("empty/er")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(root.path(), root.path().join("a/loop")).unwrap();
    let below = |paths: &[PathBuf]| -> Vec<String> {
        let found = discover(paths).unwrap();
        found.iter().map(|path| path.strip_prefix(root.path()).unwrap().display().to_string()).collect()
    };
    assert_eq!(below(&[root.path().to_path_buf()]), ["a/pope", "a/vqa/deep", "b/pope", "single"]);
    // The order of the paths stays: the first one is the base of a comparison.
    let paths = ["b", "a/pope", "b/pope", "a"].map(|name| root.path().join(name));
    assert_eq!(below(&paths), ["b/pope", "a/pope", "a/vqa/deep"]);
    assert!(matches!(discover(&[root.path().join("empty")]), Err(StoreError::NoRuns { .. })));
    assert!(matches!(discover(&[root.path().join("absent")]), Err(StoreError::Disk { .. })));
    assert_eq!(discover(&[]).unwrap(), Vec::<PathBuf>::new());
}
