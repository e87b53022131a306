//! Submission files equal to what the official converters make of the same answers, to the byte where they are JSON and cell by
//! cell where they are a workbook (`fixtures/submission/make_expected.py`); and refusals of what would be submitted by mistake.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::io::Read;
use std::path::{Path, PathBuf};

use common::{gauge, gauge_fails, root, text};
use llava_gauge::benchmark::{MetricSpec, Reference, SubmissionFormat};
use llava_gauge::store::{
    BenchmarkIdentity, DataFacts, Environment, Failure, ModelIdentity, Run, RunHeader, RunSettings, RunWriter, SampleRecord,
    SampleTimings,
};
use llava_gauge::submission::{SubmissionRequest, make};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/submission").join(name)
}

#[derive(Deserialize)]
struct Answer {
    text: String,
    mmbench_index: usize,
    scienceqa_parsed: Option<String>,
}

fn answers() -> Vec<Answer> {
    serde_json::from_slice(&std::fs::read(fixture("answers.json")).unwrap()).unwrap()
}

fn header(benchmark: &str, samples: usize, available: usize) -> RunHeader {
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
            name: benchmark.into(),
            title: benchmark.into(),
            scorer: "vqa-official/1".into(),
            samples_sha256: "cd".repeat(32),
            samples,
            samples_available: available,
            data_root: "data".into(),
            data: None,
            metrics: vec![MetricSpec {
                name: "vqa_accuracy".into(),
                scale: 100.0,
                higher_is_better: Some(true),
                primary: true,
                mean_over_categories: false,
                sum_over_categories: false,
                points: false,
            }],
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

fn record(key: String, text: &str) -> SampleRecord {
    SampleRecord {
        cluster: key.clone(),
        key,
        category: None,
        images: vec!["image.png".into()],
        question: "What?".into(),
        prompt: "USER: <image>\nWhat?".into(),
        prompt_sha256: "01".repeat(32),
        prompt_tokens: 600,
        reference: Reference::Withheld,
        token_ids: vec![3869],
        text: text.into(),
        log_probability: -1.0,
        stop_reason: "eos".into(),
        parsed: None,
        score: None,
        contributions: Default::default(),
        detail: Value::Null,
        failure: None,
        timings: SampleTimings::default(),
    }
}

/// A run of all recorded answers, with these keys.
struct Made {
    folder: tempfile::TempDir,
    benchmark: &'static str,
    records: Vec<SampleRecord>,
    available: usize,
    planned: usize,
    /// Rows of the data that are no samples.
    broken_rows: usize,
}

impl Made {
    fn new(benchmark: &'static str, key: impl Fn(usize, &Answer) -> String) -> Self {
        let records: Vec<SampleRecord> =
            answers().iter().enumerate().map(|(place, answer)| record(key(place, answer), &answer.text)).collect();
        let count = records.len();
        Self { folder: tempfile::tempdir().unwrap(), benchmark, records, available: count, planned: count, broken_rows: 0 }
    }

    fn write(&self) -> PathBuf {
        let directory = self.folder.path().join("run");
        let _ = std::fs::remove_dir_all(&directory);
        let mut header = header(self.benchmark, self.planned, self.available);
        if self.broken_rows > 0 {
            let facts = DataFacts { form: "parquet".into(), broken_rows: self.broken_rows, broken: vec!["row 3".into()] };
            header.benchmark.data = Some(facts);
        }
        let (mut writer, _) = RunWriter::open_or_resume(&directory, &header).unwrap();
        writer.append(&self.records).unwrap();
        directory
    }

    fn make(&self, format: SubmissionFormat, questions: Option<&Path>, allow_missing: bool) -> Result<Vec<u8>, String> {
        let run = Run::open(&self.write()).unwrap();
        let request = SubmissionRequest { format, questions, allow_missing };
        make(&run, &request).map(|submission| submission.bytes).map_err(|error| error.to_string())
    }
}

fn assert_bytes(found: &[u8], expected: &str) {
    let expected_bytes = std::fs::read(fixture(expected)).unwrap();
    assert_eq!(String::from_utf8_lossy(found), String::from_utf8_lossy(&expected_bytes), "{expected}");
}

#[test]
fn files_are_those_of_the_official_converters() {
    use SubmissionFormat::{Captions, Docvqa, Gqa, MmVet, SeedBench, StVqa, Vizwiz};
    type Key = fn(usize, &Answer) -> String;
    let cases: [(SubmissionFormat, Key, &str); 7] = [
        (Vizwiz, |place, _| format!("VizWiz_test_{place:08}.jpg"), "vizwiz.json"),
        (Gqa, |place, _| format!("2020{place:04}"), "gqa.json"),
        (SeedBench, |place, _| (101_669 + place).to_string(), "seed-bench.jsonl"),
        (MmVet, |place, _| format!("v1_{place}"), "mm-vet.json"),
        (Docvqa, |place, _| (500 + place).to_string(), "docvqa.json"),
        (StVqa, |place, _| (500 + place).to_string(), "st-vqa.json"),
        (Captions, |place, _| (500 + place).to_string(), "captions.json"),
    ];
    for (format, key, expected) in cases {
        let made = Made::new("made", key);
        assert_bytes(&made.make(format, None, false).unwrap(), expected);
        assert_eq!(format.extension(), Path::new(expected).extension().unwrap().to_str().unwrap());
    }
    // LLaVA's bare numbers are MM-Vet's ids too.
    assert_bytes(&Made::new("made", |place, _| place.to_string()).make(MmVet, None, false).unwrap(), "mm-vet.json");
}

#[test]
fn an_answer_that_was_cut_once_decided_is_not_submitted() {
    let mut made = Made::new("made", |place, _| place.to_string());
    made.records[1].stop_reason = "decided".into();
    let error = made.make(SubmissionFormat::SeedBench, None, false).unwrap_err();
    assert!(error.contains("sample 1") && error.contains("stop_when_decided"), "{error}");
}

#[test]
fn questions_of_other_splits_are_empty_in_a_vqa_submission() {
    let made = Made::new("vqav2_test_dev", |place, _| (1000 + 3 * place).to_string());
    let questions = fixture("vqa_questions.json");
    assert_bytes(&made.make(SubmissionFormat::Vqa, Some(&questions), false).unwrap(), "vqa.json");
    // Without the file of questions, those of the run alone.
    let alone: Vec<Value> = serde_json::from_slice(&made.make(SubmissionFormat::Vqa, None, false).unwrap()).unwrap();
    let all: Vec<Value> = serde_json::from_slice(&std::fs::read(fixture("vqa.json")).unwrap()).unwrap();
    assert_eq!(alone, all.into_iter().step_by(3).collect::<Vec<_>>());
    // LLaVA's own question files are JSON Lines.
    let lines = made.folder.path().join("questions.jsonl");
    let rows: Value = serde_json::from_slice(&std::fs::read(&questions).unwrap()).unwrap();
    let rows: String = rows["questions"].as_array().unwrap().iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(&lines, rows).unwrap();
    assert_bytes(&made.make(SubmissionFormat::Vqa, Some(&lines), false).unwrap(), "vqa.json");
}

#[test]
fn scienceqa_has_what_was_chosen() {
    let mut made = Made::new("scienceqa", |place, _| place.to_string());
    for (place, (record, answer)) in made.records.iter_mut().zip(answers()).enumerate() {
        let options = (0..2 + place % 4).map(|option| format!("option {option}")).collect();
        record.reference = Reference::Choice { options, answer: (place + 1) % 2 };
        record.parsed = answer.scienceqa_parsed;
    }
    assert_bytes(&made.make(SubmissionFormat::Scienceqa, None, false).unwrap(), "scienceqa.json");
    made.records[3].reference = Reference::Withheld;
    let message = made.make(SubmissionFormat::Scienceqa, None, false).unwrap_err();
    assert!(message.contains("sample 3: expected a question with options"), "{message}");
}

#[test]
fn mmmu_has_letters_and_open_answers() {
    let mut made = Made::new("mmmu_test", |place, _| format!("test_Accounting_{place}"));
    made.records.truncate(5);
    (made.planned, made.available) = (5, 5);
    let choice = || Reference::Choice { options: vec!["a".into(); 4], answer: 0 };
    for (record, (reference, said, parsed)) in made.records.iter_mut().zip([
        (choice(), "I think that it is (B).", Some("B")),
        (Reference::Withheld, " (C). ", None),
        (Reference::Withheld, "neither", None),
        (Reference::Answers { answers: vec!["36".into()] }, "36 watts", Some("36")),
        (choice(), "A", None),
    ]) {
        record.reference = reference;
        record.text = said.into();
        record.parsed = parsed.map(str::to_owned);
    }
    let found = String::from_utf8(made.make(SubmissionFormat::Mmmu, None, false).unwrap()).unwrap();
    let expected = r#"{"test_Accounting_0": "B", "test_Accounting_1": "C", "test_Accounting_2": "neither", "test_Accounting_3": "36 watts", "test_Accounting_4": "A"}"#;
    assert_eq!(found, expected);
}

/// The parts of a workbook by name.
fn part(workbook: &[u8], name: &str) -> String {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(workbook)).unwrap();
    let mut text = String::new();
    archive.by_name(name).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_workbook_is_the_one_that_openpyxl_has_read() {
    let made = Made::new("mmbench", |_, answer| answer.mmbench_index.to_string());
    let questions = fixture("mmbench.tsv");
    let workbook = made.make(SubmissionFormat::Mmbench, Some(&questions), false).unwrap();
    if let Some(target) = std::env::var_os("LLAVA_GAUGE_WRITE_WORKBOOK") {
        std::fs::write(target, &workbook).unwrap();
    }
    let sheet = part(&workbook, "xl/worksheets/sheet1.xml");
    let checksum: String = Sha256::digest(sheet.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let recorded = std::fs::read_to_string(fixture("mmbench.sheet.sha256")).unwrap();
    assert_eq!(checksum, recorded.trim(), "see make_expected.py --check");
    // The cells themselves, so that the record is no mere number here.
    let cells: Vec<Vec<Value>> = serde_json::from_slice(&std::fs::read(fixture("mmbench.cells.json")).unwrap()).unwrap();
    let rows: Vec<&str> = sheet.split("<row ").skip(1).collect();
    assert_eq!(rows.len(), cells.len());
    for (row, cells) in rows.iter().zip(&cells) {
        assert_eq!(row.matches("<c ").count(), cells.iter().filter(|cell| !cell.is_null()).count(), "{row}");
        for cell in cells {
            match cell {
                Value::String(value) => assert!(row.contains(&llava_gauge::guard::escape::xml(value)), "{row}: {value:?}"),
                Value::Number(value) => assert!(row.contains(&format!("<v>{value}</v>")), "{row}: {value}"),
                _ => {}
            }
        }
    }
    assert_eq!(made.make(SubmissionFormat::Mmbench, Some(&questions), false).unwrap(), workbook, "the same bytes again");
}

#[test]
fn what_lacks_answers_is_refused_unless_allowed() {
    let made = || Made::new("made", |place, _| (1000 + 3 * place).to_string());
    let failure = Failure { kind: "image".into(), message: "no such file".into() };
    let mut unfinished = made();
    unfinished.records.truncate(17);
    let mut limited = made();
    limited.available = 500;
    let mut broken = made();
    broken.broken_rows = 2;
    let mut failed = made();
    failed.records[4].failure = Some(failure);
    failed.records[4].text.clear();
    for (made, part, entries, empty) in [
        (&unfinished, "3 of 20 questions have no record yet", 17, 0),
        (&limited, "only 20 of the 500 questions were selected", 20, 0),
        (&failed, "1 of 20 questions failed", 20, 1),
        (&broken, "2 rows of the data could not be read", 20, 0),
    ] {
        let message = made.make(SubmissionFormat::Vqa, None, false).unwrap_err();
        assert!(message.contains(part) && message.contains("--allow-missing"), "{message}");
        let run = Run::open(&made.write()).unwrap();
        let request = SubmissionRequest { format: SubmissionFormat::Vqa, questions: None, allow_missing: true };
        let submission = make(&run, &request).unwrap();
        assert_eq!((submission.entries, submission.empty), (entries, empty));
    }
    let entries: Vec<Value> = serde_json::from_slice(&failed.make(SubmissionFormat::Vqa, None, true).unwrap()).unwrap();
    assert_eq!(entries[4], serde_json::json!({"question_id": 1012, "answer": ""}));
}

#[test]
fn what_does_not_fit_is_named() {
    let made = Made::new("made", |place, _| if place == 2 { "x2".to_owned() } else { place.to_string() });
    let folder = made.folder.path();
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let all: String = made.records.iter().map(|record| format!("{{\"question_id\": \"{}\"}}\n", record.key)).collect();
    let short = write("short.jsonl", "{\"question_id\": 1}\n");
    let long = write("long.jsonl", &format!("{all}{{\"question_id\": 77}}\n"));
    let twice = write("twice.jsonl", &format!("{all}{{\"question_id\": 1}}\n"));
    let other = write("other.json", "[{\"image\": \"a.jpg\"}]");
    let broken = write("broken.jsonl", "{\"question_id\": 1}\n{\"question_id\": \n");
    let list = write("list.json", "{\"questions\": 3}");
    let none = write("none.json", "[]");
    let ragged = write("ragged.tsv", "index\tA\n1\n");
    let unindexed = write("unindexed.tsv", "question\tA\nx\ty\n");
    use SubmissionFormat::{Docvqa, MmVet, Mmbench, SeedBench, Vqa};
    for (format, questions, part) in [
        (Docvqa, None, "sample x2: expected an integer as its id, found x2"),
        (Vqa, Some(&short), "expected a question of"),
        (SeedBench, Some(&long), "1 questions of"),
        (Vqa, Some(&twice), "row 21: expected each question once, found 1 again"),
        (Vqa, Some(&other), "row 1: expected a row with `question_id`, found an object without it"),
        (Vqa, Some(&broken), "row 2: expected JSON, or JSON Lines, found"),
        (Vqa, Some(&list), "expected a list of questions, found a number"),
        (Vqa, Some(&none), "expected questions, found none"),
        (MmVet, Some(&short), "the format mm-vet takes no file of questions"),
        (Mmbench, None, "give it with --questions FILE"),
        (Mmbench, Some(&ragged), "row 1: expected 2 values"),
        (Mmbench, Some(&unindexed), "expected a column `index`, found question, A"),
        (Mmbench, Some(&folder.join("absent.tsv")), "expected a table of tab-separated values"),
    ] {
        let message = made.make(format, questions.map(PathBuf::as_path), false).unwrap_err();
        assert!(message.contains(part), "{format:?}: {message}");
    }
    // A question that is not asked is an empty line where that is allowed.
    let lines = String::from_utf8(made.make(SeedBench, Some(&long), true).unwrap()).unwrap();
    assert!(lines.ends_with("{\"question_id\": \"77\", \"prediction\": \"\"}\n"), "{lines}");
}

#[test]
fn the_verb_writes_the_file_of_a_run() {
    let made = Made::new("vqav2", |place, _| (1000 + 3 * place).to_string());
    let directory = made.write();
    let output = gauge(&["submit", text(&directory)]).assert().success().get_output().clone();
    let path = directory.join("submission.json");
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), text(&path));
    assert!(String::from_utf8(output.stderr).unwrap().contains("20 entries in the format vqa"));
    let expected = made.make(SubmissionFormat::Vqa, None, false).unwrap();
    let directory = made.write();
    let target = made.folder.path().join("out.json");
    let questions = fixture("vqa_questions.json");
    gauge(&["submit", text(&directory), "-o", text(&target), "--questions", text(&questions)]).assert().success();
    assert_bytes(&std::fs::read(&target).unwrap(), "vqa.json");
    gauge(&["submit", text(&directory), "-o", text(&target), "--format", "vqa"]).assert().success();
    assert_eq!(std::fs::read(&target).unwrap(), expected);

    let message = gauge_fails(&["submit", text(&directory), "--format", "pope"], 96);
    assert!(message.contains("no submission format is called \"pope\"; there are vqa, vizwiz"), "{message}");
    let message = gauge_fails(&["submit", text(&directory), "--format", "mmbench"], 96);
    assert!(message.contains("--questions FILE"), "{message}");
    let unknown = Made::new("mine", |place, _| place.to_string());
    let message = gauge_fails(&["submit", text(&unknown.write())], 96);
    assert!(message.contains("the benchmark mine names no submission format"), "{message}");
    let mut unfinished = Made::new("vqav2", |place, _| place.to_string());
    unfinished.records.truncate(3);
    let message = gauge_fails(&["submit", text(&unfinished.write())], 106);
    assert!(message.contains("17 of 20 questions have no record yet"), "{message}");
    let directory = unfinished.write();
    gauge(&["submit", text(&directory), "--allow-missing"]).assert().success();
    gauge_fails(&["submit", text(&directory), "--allow-missing", "-o", "/nonexistent/folder/file.json"], 110);
    gauge_fails(&["submit", text(unfinished.folder.path().join("nothing").as_path())], 106);
}
