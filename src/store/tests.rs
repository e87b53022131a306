//! Fault injection: every byte of truncation, every failing operation, damaged lines, unstorable records.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::disk::{Disk, RealDisk};
use super::*;
use crate::benchmark::{Contribution, MetricSpec, PixelBox, Reference};

pub(super) fn header() -> RunHeader {
    RunHeader {
        memory: None,
        execution: None,
        format: FORMAT,
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
            samples: 12,
            samples_available: 12,
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

pub(super) fn record(index: usize) -> SampleRecord {
    SampleRecord {
        key: format!("q{index}"),
        cluster: format!("image{}", index / 3),
        category: None,
        images: vec![format!("image{}.png", index / 3)],
        question: "Is there a cat?\nAnswer \u{201c}yes\u{201d} or \"no\".".into(),
        prompt: "USER: <image>".into(),
        prompt_sha256: "01".repeat(32),
        prompt_tokens: 30,
        reference: Reference::Region { region: PixelBox { x1: 0.1, y1: 1.0 / 3.0, x2: 9.0, y2: 1e-300 }, width: 10, height: 10 },
        token_ids: vec![index as u32, 2],
        text: "{\"record\":\u{0}\"crc32\"}\n".into(),
        log_probability: -0.1 / (index + 3) as f64,
        stop_reason: "eos".into(),
        parsed: Some("yes".into()),
        score: Some(1.0),
        contributions: [("accuracy".to_owned(), Contribution { numerator: 1.0, denominator: 1.0 })].into(),
        detail: serde_json::json!({"z": 0.1 + 0.2, "a": [1, null]}),
        failure: None,
        timings: SampleTimings { ttft_ms: 12.3, tpot_ms: None, group: GroupTimings { questions: 3, ..Default::default() } },
    }
}

fn records(range: std::ops::Range<usize>) -> Vec<SampleRecord> {
    range.map(record).collect()
}

/// Fails the operation with the given number, and all later ones if `persistent`; appends write a part before they fail.
struct FaultyDisk {
    calls: Arc<AtomicUsize>,
    failing: usize,
    persistent: bool,
}

impl FaultyDisk {
    fn fails(&self) -> bool {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        call == self.failing || (self.persistent && call > self.failing)
    }

    fn check(&self) -> io::Result<()> {
        if self.fails() { Err(io::Error::other("injected")) } else { Ok(()) }
    }
}

impl Disk for FaultyDisk {
    fn create_directory(&mut self, path: &Path) -> io::Result<()> {
        self.check()?;
        RealDisk.create_directory(path)
    }
    fn open_log(&mut self, path: &Path) -> io::Result<File> {
        self.check()?;
        RealDisk.open_log(path)
    }
    fn write_file(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if self.fails() {
            std::fs::write(path, &bytes[..bytes.len() / 2])?;
            return Err(io::Error::other("injected"));
        }
        std::fs::write(path, bytes)
    }
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.check()?;
        RealDisk.rename(from, to)
    }
    fn sync_directory(&mut self, _: &Path) -> io::Result<()> {
        self.check()
    }
    fn append(&mut self, log: &mut File, bytes: &[u8]) -> io::Result<()> {
        if self.fails() {
            log.write_all(&bytes[..bytes.len() * 2 / 3])?;
            return Err(io::Error::other("injected"));
        }
        RealDisk.append(log, bytes)
    }
    fn sync(&mut self, _: &File) -> io::Result<()> {
        // Forcing bytes onto the medium changes nothing that a test can see, and takes most of its time.
        self.check()
    }
    fn truncate(&mut self, log: &File, length_bytes: u64) -> io::Result<()> {
        self.check()?;
        RealDisk.truncate(log, length_bytes)
    }
}

/// A disk on which nothing fails.
fn quick_disk() -> Box<dyn Disk> {
    Box::new(FaultyDisk { calls: Arc::default(), failing: usize::MAX, persistent: false })
}

/// Writes a whole run of twelve records in groups of three; the number of acknowledged records stands in `acknowledged`.
fn whole_run(disk: Box<dyn Disk>, directory: &Path, acknowledged: &mut usize) -> Result<(), StoreError> {
    let (mut writer, recovered) = RunWriter::open_with(disk, directory, &header())?;
    assert!(recovered.len() >= *acknowledged, "{} of {acknowledged} acknowledged records", recovered.len());
    assert_eq!(recovered, records(0..recovered.len()));
    let mut next = recovered.len();
    while next < 12 {
        // What is missing of a group of three: a write cut short may have left a part of one.
        let end = (next / 3 + 1) * 3;
        writer.append(&records(next..end))?;
        (*acknowledged, next) = (end, end);
    }
    writer.finish(b"{\"done\":true}\n")
}

#[test]
fn every_failing_operation_leaves_a_run_that_continues() {
    let clean = tempfile::tempdir().unwrap();
    whole_run(Box::new(RealDisk), clean.path(), &mut 0).unwrap();
    let clean_log = std::fs::read(clean.path().join(LOG_FILE)).unwrap();
    for persistent in [false, true] {
        for failing in 0.. {
            let directory = tempfile::tempdir().unwrap();
            let run = directory.path().join("model/pope");
            let mut acknowledged = 0;
            let calls = Arc::new(AtomicUsize::new(0));
            let disk = FaultyDisk { calls: Arc::clone(&calls), failing, persistent };
            let outcome = whole_run(Box::new(disk), &run, &mut acknowledged);
            if calls.load(Ordering::Relaxed) <= failing {
                outcome.unwrap();
                assert!(failing > 10, "the whole run has more operations than {failing}");
                break;
            }
            assert!(outcome.is_err(), "operation {failing} failed unnoticed");
            // What is there reads as a valid run, or as none at all.
            match Run::open(&run) {
                Ok(read) => assert_eq!(&read.records[..acknowledged], &records(0..acknowledged)),
                Err(StoreError::File(_)) => assert_eq!(acknowledged, 0),
                Err(error) => panic!("operation {failing}: {error}"),
            }
            // The summary is whole or absent.
            if let Ok(summary) = std::fs::read(run.join(SUMMARY_FILE)) {
                assert_eq!(summary, b"{\"done\":true}\n");
            }
            whole_run(quick_disk(), &run, &mut acknowledged).unwrap();
            assert!(std::fs::read(run.join(LOG_FILE)).unwrap() == clean_log, "operation {failing}");
            assert!(Run::open(&run).unwrap().complete);
        }
    }
}

#[test]
fn an_append_that_failed_can_be_made_again_by_the_same_writer() {
    let directory = tempfile::tempdir().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    // The first operation of an append is the write, the second the sync.
    for operation in 0..2 {
        let run = directory.path().join(operation.to_string());
        let (mut writer, _) = RunWriter::open_with(quick_disk(), &run, &header()).unwrap();
        let next = calls.load(Ordering::Relaxed);
        let failing = next + operation;
        writer.disk_for_test(Box::new(FaultyDisk { calls: Arc::clone(&calls), failing, persistent: false }));
        assert!(writer.append(&records(0..3)).is_err());
        writer.append(&records(0..3)).unwrap();
        writer.append(&records(3..6)).unwrap();
        assert_eq!(Run::open(&run).unwrap().records, records(0..6));
        // Nothing works any more: the writer gives up, and the acknowledged records stay.
        let next = calls.load(Ordering::Relaxed);
        writer.disk_for_test(Box::new(FaultyDisk { calls: Arc::clone(&calls), failing: next, persistent: true }));
        assert!(writer.append(&records(6..9)).is_err());
        assert!(matches!(writer.append(&records(6..9)), Err(StoreError::Broken { .. })));
        drop(writer);
        assert_eq!(Run::open(&run).unwrap().records[..6], records(0..6));
    }
}

#[test]
fn a_log_cut_at_any_byte_keeps_every_whole_record() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, _) = RunWriter::open_or_resume(directory.path(), &header()).unwrap();
    writer.append(&records(0..4)).unwrap();
    drop(writer);
    let path = directory.path().join(LOG_FILE);
    let whole = std::fs::read(&path).unwrap();
    let ends: Vec<usize> = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(index, _)| index + 1).collect();
    assert_eq!(ends.len(), 4);
    for length in 0..=whole.len() {
        let kept = ends.iter().filter(|end| **end <= length).count();
        std::fs::write(&path, &whole[..length]).unwrap();
        let read = Run::open(directory.path()).unwrap();
        assert_eq!(read.records, records(0..kept), "cut at byte {length}");
        let torn = length - kept.checked_sub(1).map_or(0, |last| ends[last]);
        let expected = if torn == 0 { vec![] } else { vec![LogNote::TornTail { bytes: torn }] };
        assert_eq!(read.notes, expected);
        // Reading changes nothing; continuing cuts the torn tail and goes on from there.
        assert_eq!(std::fs::metadata(&path).unwrap().len() as usize, length);
        let (mut writer, recovered) = RunWriter::open_with(quick_disk(), directory.path(), &header()).unwrap();
        assert_eq!(recovered, records(0..kept));
        writer.append(&records(kept..4)).unwrap();
        drop(writer);
        assert!(std::fs::read(&path).unwrap() == whole, "cut at byte {length}");
    }
}

#[test]
fn a_damaged_byte_costs_at_most_its_own_record() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, _) = RunWriter::open_or_resume(directory.path(), &header()).unwrap();
    writer.append(&records(0..3)).unwrap();
    drop(writer);
    let path = directory.path().join(LOG_FILE);
    let whole = std::fs::read(&path).unwrap();
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let second = first + whole[first..].iter().position(|byte| *byte == b'\n').unwrap();
    for (offset, flip) in (first..second).flat_map(|offset| [(offset, 1_u8), (offset, 0x80)]) {
        let mut damaged = whole.clone();
        damaged[offset] ^= flip;
        // A flip that makes a line end splits the line; one record is lost all the same.
        let scanned = log::scan(&damaged);
        let intact = [record(0), record(2)];
        if scanned.notes.is_empty() {
            // Only a field name of the envelope, or a letter case of the checksum, could pass; neither does.
            panic!("byte {offset} was changed unnoticed");
        }
        assert_eq!(scanned.records, intact, "byte {offset}");
        assert!(scanned.notes.iter().all(|note| matches!(note, LogNote::DamagedLine { line: 2 | 3, .. })), "{:?}", scanned.notes);
    }
    let mut damaged = whole.clone();
    damaged[first + 40] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let (mut writer, recovered) = RunWriter::open_or_resume(directory.path(), &header()).unwrap();
    assert_eq!(recovered, [record(0), record(2)]);
    assert!(writer.notes()[0].to_string().starts_with("line 2 is damaged"), "{}", writer.notes()[0]);
    writer.append(&[record(1)]).unwrap();
    drop(writer);
    let read = Run::open(directory.path()).unwrap();
    assert_eq!(read.records, [record(0), record(2), record(1)]);
    assert_eq!(read.notes.len(), 1);
}

#[test]
fn records_that_json_cannot_hold_are_refused_before_anything_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, _) = RunWriter::open_or_resume(directory.path(), &header()).unwrap();
    let mut broken = record(1);
    broken.log_probability = f64::NEG_INFINITY;
    let error = writer.append(&[record(0), broken]).unwrap_err().to_string();
    assert_eq!(error, "sample \"q1\" cannot be stored: log_probability is not a finite number");
    let mut broken = record(1);
    broken.contributions.insert("f1".into(), Contribution { numerator: f64::NAN, denominator: 1.0 });
    assert!(writer.append(&[broken]).unwrap_err().to_string().contains("contributions.f1"));
    assert!(matches!(writer.append(&[record(0), record(0)]), Err(StoreError::DuplicateKey { .. })));
    assert_eq!(std::fs::metadata(directory.path().join(LOG_FILE)).unwrap().len(), 0);
    writer.append(&[record(0)]).unwrap();
    assert!(matches!(writer.append(&[record(0)]), Err(StoreError::DuplicateKey { .. })));
    writer.append(&[]).unwrap();
    assert_eq!(Run::open(directory.path()).unwrap().records, [record(0)]);
}

/// A finished run of two samples in `folder`, told from others by its start.
fn finished_run(folder: &Path, started: &str) -> Run {
    let mut header = header();
    header.started = started.to_owned();
    (header.benchmark.samples, header.benchmark.samples_available) = (2, 2);
    let (mut writer, _) = RunWriter::open_or_resume(folder, &header).unwrap();
    writer.append(&records(0..2)).unwrap();
    writer.finish(b"{}").unwrap();
    Run::open(folder).unwrap()
}

/// Whatever operation fails, once or for ever, a baseline is the old one, the new one, or named as half-written; and saving
/// again makes it whole.
#[test]
fn an_interrupted_save_leaves_the_old_baseline_or_the_new_one() {
    use super::baseline::save_with;
    let folder = tempfile::tempdir().unwrap();
    let old = finished_run(&folder.path().join("old"), "2026-01-01T00:00:00Z");
    let new = finished_run(&folder.path().join("new"), "2026-02-02T00:00:00Z");
    let saving = Saving { name: "main", saved: "2026-03-03T00:00:00Z", allow_limited: false, replace: true };
    for (with_old, persistent) in [(false, false), (false, true), (true, false), (true, true)] {
        for failing in 0.. {
            let baselines = folder.path().join(format!("baselines-{with_old}-{persistent}-{failing}"));
            let before =
                with_old.then(|| save_with(quick_disk().as_mut(), &baselines, saving, std::slice::from_ref(&old)).unwrap());
            let mut disk = FaultyDisk { calls: Arc::default(), failing, persistent };
            let saved = save_with(&mut disk, &baselines, saving, std::slice::from_ref(&new));
            let own = baselines.join("main");
            match (Baseline::open(&own), &before) {
                (Ok(found), _) if found.runs[0].started == new.header.started => {}
                (Ok(found), Some(before)) => {
                    assert_eq!(found, *before);
                    assert!(saved.is_err());
                }
                (Err(BaselineError::Half { .. }), None) => assert!(saved.is_err()),
                (found, _) => panic!("operation {failing}: {found:?}"),
            }
            if saved.is_ok() {
                assert!(failing > 5, "every operation was made to fail");
                break;
            }
            save_with(quick_disk().as_mut(), &baselines, saving, std::slice::from_ref(&new)).unwrap();
            assert_eq!(Baseline::open(&own).unwrap().runs[0].started, new.header.started);
        }
    }
}
