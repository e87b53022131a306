//! Data of every form end to end: runs on pictures inside parquet and TSV files, questions of the user's own, broken rows, and
//! what the command line says of data.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;
mod table_support;

use common::{gauge, gauge_fails, gauge_json, gauge_output, root, text};
use parquet::basic::Compression;
use serde_json::{Value, json};
use table_support::{Column, Folder, base64, texts, toml, write_parquet};

/// Names and bytes of shipped pictures.
fn pictures(count: usize) -> Vec<(String, Vec<u8>)> {
    let folder = root().join("benchmarks/pico/images");
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let read =
        |path: &std::path::PathBuf| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap());
    names.iter().take(count).map(read).collect()
}

const QUESTIONS: [&str; 6] =
    ["Is there a circle?", "How many shapes?", "Which colour?", "Is it red?", "What is left?", "Is there a star?"];

/// Two questions on each of three pictures, in three forms.
fn benchmark() -> Folder {
    let pictures = pictures(3);
    let form = |name: &str, file: &str, images: &str| {
        format!(
            "[[data]]\nform = \"{name}\"\nroot = \".\"\nformat = \"table\"\nfiles = [\"{file}\"]\nkey = \"{{id}}\"\ncluster = \"{{name}}\"\n\
             question = \"{{question}}\"\nimages = [\"{images}\"]\n[data.reference]\nkind = \"answers\"\nanswers = \"answer\"\nrepeat = 10\n"
        )
    };
    let folder = Folder::new(&toml(
        &[
            form("files", "rows.jsonl", "pictures/{name}"),
            form("parquet", "data/test-*.parquet", "{image}"),
            form("tsv", "rows.tsv", "{image}"),
        ]
        .concat(),
        "template = \"{question}\\nAnswer the question using a single word or phrase.\"",
        "kind = \"vqa\"\nvariant = \"official\"",
    ));
    let row = |index: usize| &pictures[index / 2];
    for (name, bytes) in &pictures {
        folder.write(&format!("pictures/{name}"), bytes);
    }
    let lines: Vec<String> = QUESTIONS
        .iter()
        .enumerate()
        .map(|(index, question)| json!({"id": index, "name": row(index).0, "question": question, "answer": "yes"}).to_string())
        .collect();
    folder.write("rows.jsonl", lines.join("\n"));
    let columns = [
        Column::Integer("id", (0..6).collect()),
        Column::Text("name", (0..6).map(|index| Some(row(index).0.clone())).collect()),
        Column::Image("image", (0..6).map(|index| Some((Some(row(index).1.clone()), None))).collect()),
        Column::Text("question", texts(&QUESTIONS)),
        Column::Text("answer", texts(&["yes"; 6])),
    ];
    write_parquet(&folder.path("data/test-00000-of-00001.parquet"), &columns, 4, Compression::SNAPPY);
    let mut tsv = "id\tname\timage\tquestion\tanswer\n".to_owned();
    for (index, question) in QUESTIONS.iter().enumerate() {
        tsv.push_str(&format!("{index}\t{}\t{}\t{question}\tyes\n", row(index).0, base64(&row(index).1)));
    }
    folder.write("rows.tsv", tsv);
    folder
}

/// Texts and group sizes of a run, and its header.
fn run_of(folder: &Folder, form: &str) -> (Vec<(String, u64)>, Vec<String>, Value) {
    let output = folder.path(&format!("runs-{form}"));
    let toml = folder.path("benchmark.toml");
    let arguments = ["run", "--model", "pico-llava-1.5", "--benchmark", text(&toml), "--form", form, "-o", text(&output)];
    gauge(&arguments).assert().success();
    let directory = output.join("pico-llava-1.5/own");
    let log = std::fs::read_to_string(directory.join("samples.jsonl")).unwrap();
    let records: Vec<Value> = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["record"].clone()).collect();
    assert!(records.iter().all(|record| record.get("failure").is_none()), "{records:?}");
    let answers = records
        .iter()
        .map(|record| (record["text"].as_str().unwrap().to_owned(), record["timings"]["group"]["questions"].as_u64().unwrap()))
        .collect();
    let images = records.iter().map(|record| record["images"][0].as_str().unwrap().to_owned()).collect();
    (answers, images, serde_json::from_slice(&std::fs::read(directory.join("run.json")).unwrap()).unwrap())
}

#[test]
fn pictures_in_files_in_parquet_and_in_tsv_give_the_same_run() {
    let folder = benchmark();
    let (answers, images, header) = run_of(&folder, "files");
    assert!(answers.iter().all(|(_, questions)| *questions == 2), "{answers:?}");
    assert!(images[0].starts_with("pictures/"), "{images:?}");
    for form in ["parquet", "tsv"] {
        let (same, images, other) = run_of(&folder, form);
        assert_eq!(answers, same, "{form}");
        assert_eq!(header["benchmark"]["samples_sha256"], other["benchmark"]["samples_sha256"], "{form}");
        assert_eq!(other["benchmark"]["data"]["form"], form);
        assert_eq!(images[0], images[1], "{form}");
        assert!(images[0].contains("#row="), "{images:?}");
        // The report shows the pictures.
        let report = folder.path(&format!("report-{form}"));
        gauge(&["report", text(&folder.path(&format!("runs-{form}"))), "-o", text(&report)]).assert().success();
        let page = std::fs::read_to_string(report.join("index.html")).unwrap();
        assert!(page.contains("data:image/"), "{form}");
    }
    // The same command again finds nothing to do.
    run_of(&folder, "parquet");
    let runs: Vec<std::path::PathBuf> = ["files", "parquet"].iter().map(|form| folder.path(&format!("runs-{form}"))).collect();
    gauge(&["compare", text(&runs[0].join("pico-llava-1.5/own")), text(&runs[1].join("pico-llava-1.5/own"))]).assert().success();
}

#[test]
fn own_questions_need_no_toml_file() {
    let folder = benchmark();
    let output = folder.path("own-runs");
    for (path, question) in [("rows.tsv", "image"), ("rows.jsonl", "name")] {
        let file = folder.path(path);
        if question == "name" {
            let lines = std::fs::read_to_string(&file).unwrap().replace("\"name\":\"", "\"image\":\"pictures/");
            std::fs::write(&file, lines).unwrap();
        }
        let arguments =
            ["run", "--model", "pico-llava-1.5", "--data", text(&file), "--metric", "vqa", "-o", text(&output), "--json"];
        let summary = gauge_json(&arguments);
        assert_eq!(summary["runs"][0]["failed"], 0, "{path}");
        std::fs::rename(output.join("pico-llava-1.5/rows"), output.join(format!("{question}-run"))).unwrap();
    }
    let predictions: Vec<String> =
        (0..6).map(|index| json!({"id": index, "answer": if index < 3 { "Yes." } else { "no" }}).to_string()).collect();
    let predictions = folder.write("predictions.jsonl", predictions.join("\n"));
    let file = folder.path("rows.jsonl");
    let arguments = ["score", "--data", text(&file), "--metric", "vqa-m4c", "--predictions", text(&predictions), "--json"];
    let scores = gauge_json(&arguments);
    assert_eq!(scores["benchmark"], "rows");
    assert_eq!(scores["metrics"]["vqa_accuracy"]["value"], 50.0);
    let error = gauge_fails(&["score", "--data", text(&file), "--metric", "nonsense", "--predictions", text(&predictions)], 96);
    assert!(error.contains("yes-no") && error.contains("grounding"), "{error}");
    let error = gauge_fails(&["score", "--data", text(&file), "--metric", "grounding", "--predictions", text(&predictions)], 102);
    assert!(error.contains("box or bbox or region"), "{error}");
}

#[test]
fn broken_rows_are_told_by_every_verb() {
    let folder = benchmark();
    let mut lines: Vec<String> = std::fs::read_to_string(folder.path("rows.jsonl")).unwrap().lines().map(str::to_owned).collect();
    lines[1] = "{\"id\": 1, \"name\"".to_owned();
    folder.write("rows.jsonl", lines.join("\n"));
    let toml = folder.path("benchmark.toml");
    let (toml, output) = (text(&toml), folder.path("runs"));
    let arguments = ["run", "--model", "pico-llava-1.5", "--benchmark", toml, "-o", text(&output)];
    // One of six is more than the usual 5 %.
    let error = gauge_fails(&arguments, 101);
    assert!(
        error.contains("own: 1 rows are broken") && error.contains("rows.jsonl, row 2") && error.contains("16.7 %"),
        "{error}"
    );
    let mut patient = arguments.to_vec();
    patient.extend(["--max-failed", "20"]);
    gauge(&patient).assert().success();
    let header: Value = serde_json::from_slice(&std::fs::read(output.join("pico-llava-1.5/own/run.json")).unwrap()).unwrap();
    assert_eq!(header["benchmark"]["data"]["broken_rows"], 1);
    assert!(header["benchmark"]["data"]["broken"][0].as_str().unwrap().contains("row 2"));
    let error = gauge_fails(&["benchmarks", "check", toml], 102);
    assert!(error.contains("1 rows of the data are broken"), "{error}");
    let output = gauge(&["benchmarks", "check", toml, "--json"]).output().unwrap();
    let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(checked["broken_rows"][0].as_str().unwrap().contains("rows.jsonl, row 2"));
    let log = folder.path("runs/pico-llava-1.5/own/samples.jsonl");
    let error = gauge_fails(&["score", toml, "--predictions", text(&log)], 102);
    assert!(error.contains("--allow-broken"), "{error}");
    let scores = gauge_json(&["score", toml, "--predictions", text(&log), "--allow-broken", "--json"]);
    assert_eq!((scores["n"].as_u64(), scores["broken_rows"].as_u64()), (Some(5), Some(1)));
}

#[test]
fn benchmarks_are_listed_with_their_data() {
    let listed = gauge_json(&["benchmarks", "list", "--json"]);
    let find = |name: &str| listed.as_array().unwrap().iter().find(|line| line["name"] == name).unwrap().clone();
    let pico = find("pico-vqa");
    assert_eq!(pico["present"], true);
    assert!(
        pico["forms"][0]["found"].as_str().unwrap().ends_with("pico") && pico["forms"][0]["size_bytes"].as_u64().unwrap() > 0
    );
    let pope = find("pope");
    assert!(pope["forms"][1]["obtain"].as_str().unwrap().contains("lmms-lab/POPE"));
    assert_eq!(find("vqav2")["forms"][0]["samples"], 214_354);
    assert_eq!(pope["primary_metric"], "f1");
    let shown = gauge_output(&["benchmarks", "list"]);
    assert!(shown.contains("pico-vqa") && shown.contains("data: official in") && shown.contains("MIT"), "{shown}");
    let folder = benchmark();
    let toml = folder.path("benchmark.toml");
    let checked = gauge_output(&["benchmarks", "check", text(&toml), "--form", "parquet"]);
    assert!(checked.contains("6 questions on 3 images (0 missing)") && checked.contains("data: parquet in"), "{checked}");
    assert!(checked.contains("<image>\nIs there a circle?\nAnswer the question"), "{checked}");
}

#[test]
fn absent_data_are_answered_with_how_to_get_them() {
    let empty = tempfile::tempdir().unwrap();
    let error = gauge_fails(&["score", "pope", "--data", text(empty.path()), "--predictions", "x.jsonl"], 102);
    for part in ["coco_pope_random.json", "the form parquet", "huggingface-cli download --repo-type dataset lmms-lab/POPE"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let error = gauge_fails(&["score", "pope", "--form", "tsv", "--predictions", "x.jsonl"], 102);
    assert!(error.contains("official, parquet, parquet-pooled"), "{error}");
}
