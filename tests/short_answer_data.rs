//! Every benchmark that asks for short answers on tiny data of each form in which its data may be had: samples, prompts,
//! references, pictures, full marks for the right answers; and the result files of other programs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod table_support;

use std::collections::BTreeSet;
use std::path::Path;

use llava_gauge::benchmark::{Benchmark, BenchmarkSpec, ImageStore, Reference, Sample, SampleImage, predictions};
use llava_gauge::compare::{ScoredSample, summarise_scored};
use llava_gauge::score::{Answered, complete, metrics, score_in_category};
use parquet::basic::Compression;
use serde_json::{Value, json};
use table_support::{Column, Folder, base64, png, texts, write_parquet};

/// A benchmark's TOML file without the numbers of rows, which tiny data have not.
fn tiny_toml(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benchmarks").join(format!("{name}.toml"));
    let text = std::fs::read_to_string(path).unwrap();
    let mut kept: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with("rows = [")) {
        match line.split_once(", rows = [") {
            Some((before, _)) => kept.push(format!("{before} }},")),
            None => kept.push(line.to_owned()),
        }
    }
    kept.join("\n")
}

/// What a form's data must give.
struct Expected {
    keys: &'static [&'static str],
    category: Option<&'static str>,
    /// The first prompt.
    prompt: &'static str,
    /// Right answers, one a sample; empty where they are withheld.
    answers: &'static [&'static str],
}

const SHORT: &str = "\nAnswer the question using a single word or phrase.";

/// Loads a form, looks at its samples and scores its right answers.
fn check(name: &str, form: &str, folder: &Folder, expected: &Expected) -> Benchmark {
    let benchmark = folder.load().unwrap_or_else(|error| panic!("{name} {form}: {error}"));
    let shown = format!("{name} {form}");
    assert_eq!(benchmark.broken, [], "{shown}");
    assert_eq!(benchmark.spec.data.form, form, "{shown}");
    let keys: Vec<&str> = benchmark.samples.iter().map(|sample| sample.key.as_str()).collect();
    assert_eq!(keys, expected.keys, "{shown}");
    assert_eq!(benchmark.samples[0].category.as_deref(), expected.category, "{shown}");
    assert_eq!(benchmark.samples[0].prompt, expected.prompt, "{shown}");
    for sample in &benchmark.samples {
        let [image] = sample.images.as_slice() else { panic!("{shown}: {} images", sample.images.len()) };
        let bytes = match image {
            SampleImage::Embedded(image) => ImageStore::default().read(image).unwrap(),
            SampleImage::File(path) => std::fs::read(path).unwrap_or_else(|error| panic!("{shown}: {path:?}: {error}")),
        };
        assert!(bytes.starts_with(b"\x89PNG"), "{shown}");
    }
    if expected.answers.is_empty() {
        assert!(benchmark.samples.iter().all(|sample| sample.reference == Reference::Withheld), "{shown}");
    } else {
        let primary = primary(&benchmark, expected.answers);
        let best = metrics(&benchmark.spec.scorer)[0].scale * sums(&benchmark);
        assert!((primary - best).abs() < 1e-9, "{shown}: {primary} instead of {best}");
    }
    benchmark
}

/// The best value of the primary metric in its scale: MME's is the sum of two shares over categories.
fn sums(benchmark: &Benchmark) -> f64 {
    let metric = &metrics(&benchmark.spec.scorer)[0];
    let categories: BTreeSet<_> = benchmark.samples.iter().map(|sample| sample.category.as_deref()).collect();
    if metric.sum_over_categories { 2.0 * (categories.len() - 1) as f64 } else { 1.0 }
}

fn primary(benchmark: &Benchmark, texts: &[&str]) -> f64 {
    let scorer = &benchmark.spec.scorer;
    let owned: Vec<(Sample, String)> =
        benchmark.samples.iter().zip(texts.iter()).map(|(sample, text)| (sample.clone(), (*text).to_owned())).collect();
    let mut answers: Vec<Answered<'_>> = owned
        .iter()
        .map(|(sample, text)| Answered {
            cluster: &sample.cluster,
            category: sample.category.as_deref(),
            reference: &sample.reference,
            text,
            score: score_in_category(scorer, &sample.reference, sample.category.as_deref(), text),
        })
        .collect();
    complete(scorer, &mut answers);
    let scored: Vec<ScoredSample<'_>> = answers
        .iter()
        .map(|answer| ScoredSample {
            cluster: answer.cluster,
            category: answer.category,
            contributions: &answer.score.contributions,
        })
        .collect();
    summarise_scored(&metrics(scorer), &scored)[0].estimate.value
}

fn picture(shade: u8) -> Vec<u8> {
    png(3, 2, [shade, 0, 0])
}

/// A TSV file as pandas writes it: cells with a tab, a quote or a line break stand in quotes.
fn tsv(header: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |text: &String| {
        if text.contains(['\t', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.clone() }
    };
    let mut output = header.join("\t") + "\n";
    for row in rows {
        output += &row.iter().map(cell).collect::<Vec<_>>().join("\t");
        output.push('\n');
    }
    output
}

/// A parquet column of pictures as `datasets` writes it.
fn pictures(count: u8) -> Column {
    Column::Image("image", (0..count).map(|shade| Some((Some(picture(shade)), None))).collect())
}

fn parquet(folder: &Folder, name: &str, columns: &[Column]) {
    write_parquet(&folder.path(name), columns, 2, Compression::ZSTD(Default::default()));
}

fn folder(name: &str) -> Folder {
    Folder::new(&tiny_toml(name))
}

/// Ten annotators of VizWiz.
fn ten(answer: &str) -> Value {
    Value::from(vec![json!({"answer": answer, "answer_confidence": "yes"}); 10])
}

#[test]
fn gqa() {
    let expected = Expected {
        keys: &["201307251", "201640614"],
        category: Some("verify"),
        prompt: "Is it overcast?\nAnswer the question using a single word or phrase.",
        answers: &["No.", "Red"],
    };
    let official = folder("gqa");
    let question = |image: &str, question: &str, answer: &str, kind: &str| json!({"imageId": image, "question": question, "answer": answer, "types": {"structural": kind, "semantic": "global"}});
    let rows = json!({"201307251": question("n1", "Is it overcast?", "no", "verify"),
        "201640614": question("n1", "Which colour?", "red", "query")});
    official.write("gqa/testdev_balanced_questions.json", rows.to_string());
    official.write("gqa/images/n1.jpg", picture(1));
    let benchmark = check("gqa", "official", &official, &expected);
    assert_eq!(benchmark.samples[1].cluster, "n1");

    let results = official.write(
        "results.json",
        json!([{"questionId": "201640614", "prediction": "red"},
        {"questionId": "201307251", "prediction": "yes"}])
        .to_string(),
    );
    let found = predictions::read(&results, &benchmark, false).unwrap();
    assert_eq!(found.found[0].text, "yes");

    let folder_of_parquet = folder("gqa");
    let columns = [
        Column::Text("id", texts(&["201307251", "201640614"])),
        Column::Text("imageId", texts(&["n1", "n1"])),
        Column::Text("question", texts(&["Is it overcast?", "Which colour?"])),
        Column::Text("answer", texts(&["no", "red"])),
    ];
    parquet(&folder_of_parquet, "gqa/testdev_balanced_instructions/testdev-00000-of-00001.parquet", &columns);
    let columns = [Column::Text("id", texts(&["n0", "n1"])), pictures(2)];
    parquet(&folder_of_parquet, "gqa/testdev_balanced_images/testdev-00000-of-00001.parquet", &columns);
    let benchmark = check("gqa", "parquet", &folder_of_parquet, &Expected { category: None, ..expected });
    assert_eq!(benchmark.samples[0].images, benchmark.samples[1].images, "one picture, two questions");

    let folder_of_tsv = folder("gqa");
    let rows = [["0", "Is it overcast?", "no"], ["1", "Which colour?", "red"]];
    let rows: Vec<Vec<String>> = rows
        .iter()
        .enumerate()
        .map(|(index, row)| row.iter().map(|cell| (*cell).to_owned()).chain([base64(&picture(index as u8))]).collect())
        .collect();
    folder_of_tsv.write("gqa/GQA_TestDev_Balanced.tsv", tsv(&["index", "question", "answer", "image"], &rows));
    check("gqa", "vlmevalkit-tsv", &folder_of_tsv, &Expected { keys: &["0", "1"], category: None, ..expected });
}

#[test]
fn vizwiz() {
    let expected = Expected {
        keys: &["VizWiz_val_00000000.jpg", "VizWiz_val_00000001.jpg"],
        category: Some("answerable 0"),
        prompt: "What is this?\nWhen the provided information is insufficient, respond with 'Unanswerable'.\nAnswer the question \
                 using a single word or phrase.",
        answers: &["Unanswerable", "a soup can"],
    };
    let official = folder("vizwiz");
    let row = |number: u32, answer: &str, answerable: u8| {
        json!({"image": format!("VizWiz_val_{number:08}.jpg"), "question": "What is this?", "answers": ten(answer),
            "answer_type": "other", "answerable": answerable})
    };
    official.write("vizwiz/val.json", json!([row(0, "unanswerable", 0), row(1, "soup can", 1)]).to_string());
    for number in 0..2 {
        official.write(&format!("vizwiz/val/VizWiz_val_{number:08}.jpg"), picture(number));
    }
    let benchmark = check("vizwiz", "official", &official, &expected);
    let results = official.write(
        "results.json",
        json!([{"image": "VizWiz_val_00000001.jpg", "answer": "can"}, {"image": "VizWiz_val_00000000.jpg", "answer": "x"}])
            .to_string(),
    );
    let found = predictions::read(&results, &benchmark, false).unwrap();
    assert_eq!((found.form, found.found[1].text.as_str()), ("VizWiz results", "can"));
    let unknown = official.write("unknown.json", json!([{"image": "VizWiz_val_9.jpg", "answer": "can"}]).to_string());
    let message = predictions::read(&unknown, &benchmark, true).unwrap_err().to_string();
    assert!(message.contains("row 1, field `image`") && message.contains("VizWiz_val_9.jpg"), "{message}");

    let folder_of_parquet = folder("vizwiz");
    let annotators = |answer: &str| vec![answer.to_owned(); 10];
    let columns = [
        Column::Text("question_id", texts(&["VizWiz_val_00000000", "VizWiz_val_00000001"])),
        pictures(2),
        Column::Text("question", texts(&["What is this?", "What is this?"])),
        Column::Texts("answers", vec![annotators("unanswerable"), annotators("soup can")]),
    ];
    parquet(&folder_of_parquet, "vizwiz/data/val-00000-of-00001.parquet", &columns);
    check("vizwiz", "parquet", &folder_of_parquet, &Expected { category: None, ..expected });

    let folder_of_tsv = folder("vizwiz");
    let list = |answer: &str| format!("['{}']", [answer; 10].join("', '"));
    let rows: Vec<Vec<String>> = ["unanswerable", "soup can"]
        .iter()
        .enumerate()
        .map(|(index, answer)| vec![index.to_string(), "What is this?".to_owned(), list(answer), base64(&picture(index as u8))])
        .collect();
    folder_of_tsv.write("vizwiz/VizWiz.tsv", tsv(&["index", "question", "answers", "image"], &rows));
    check("vizwiz", "vlmevalkit-tsv", &folder_of_tsv, &Expected { keys: &["0", "1"], category: None, ..expected });

    let short = folder("vizwiz");
    let mut wrong = row(0, "x", 1);
    wrong["answers"].as_array_mut().unwrap().pop();
    short.write("vizwiz/val.json", json!([row(1, "x", 1), wrong]).to_string());
    let broken = short.load().unwrap().broken;
    assert!(broken[0].message.contains("row 2") && broken[0].message.contains("10 answers"), "{broken:?}");
}

#[test]
fn documents_and_infographics() {
    for (name, parquet_folder, split, official, forms, image_column, image_folder, tsv_name) in [
        ("docvqa", "DocVQA", "validation", "val_v1.0", &["official", "official-with-types"][..], "image", "", "DocVQA_VAL"),
        ("docvqa_test", "DocVQA", "test", "test_v1.0", &["official"], "image", "", "DocVQA_TEST"),
        (
            "infovqa",
            "InfographicVQA",
            "validation",
            "infographicsVQA_val_v1.0",
            &["official", "official-with-types"],
            "image_local_name",
            "images/",
            "InfoVQA_VAL",
        ),
        (
            "infovqa_test",
            "InfographicVQA",
            "test",
            "infographicsVQA_test_v1.0",
            &["official"],
            "image_local_name",
            "images/",
            "InfoVQA_TEST",
        ),
    ] {
        let root = name.trim_end_matches("_test");
        let withheld = name.ends_with("_test");
        let expected = || Expected {
            keys: &["337", "338"],
            category: None,
            prompt: "Which year?\nAnswer the question using a single word or phrase.",
            answers: if withheld { &[] } else { &["1,986", "ITC limited"] },
        };
        for form in forms {
            let official_folder = folder(name);
            let row = |id: u32, question: &str, answers: Value| {
                let mut row = json!({"questionId": id, "question": question, "question_types": ["layout"], "docId": 1});
                row[image_column] = json!(format!("{id}.png"));
                if !withheld {
                    row["answers"] = answers;
                }
                row
            };
            let rows = json!({"dataset_name": "SP-DocVQA", "dataset_split": "val", "data": [
                row(337, "Which year?", json!(["1986", "1,986"])), row(338, "Who?", json!(["ITC Limited"]))]});
            let types = if *form == "official" { "" } else { "_withQT" };
            official_folder.write(&format!("{root}/{official}{types}.json"), rows.to_string());
            for id in [337, 338] {
                official_folder.write(&format!("{root}/{image_folder}{id}.png"), picture(1));
            }
            let benchmark = check(name, form, &official_folder, &expected());
            let results = json!([{"questionId": 338, "answer": "ITC"}, {"questionId": 337, "answer": "7"}]);
            let results = official_folder.write("results.json", results.to_string());
            assert_eq!(predictions::read(&results, &benchmark, false).unwrap().found[0].text, "7");
        }
        let folder_of_parquet = folder(name);
        let mut columns = vec![
            Column::Text("questionId", texts(&["337", "338"])),
            Column::Text("question", texts(&["Which year?", "Who?"])),
            pictures(2),
        ];
        let answers = |answers: &[&str]| answers.iter().map(|answer| (*answer).to_owned()).collect::<Vec<_>>();
        let lists =
            if withheld { vec![Vec::new(), Vec::new()] } else { vec![answers(&["1986", "1,986"]), answers(&["ITC Limited"])] };
        columns.push(Column::Texts("answers", lists));
        parquet(&folder_of_parquet, &format!("{root}/{parquet_folder}/{split}-00000-of-00006.parquet"), &columns);
        check(name, "parquet", &folder_of_parquet, &expected());

        let folder_of_tsv = folder(name);
        let rows: Vec<Vec<String>> = [("337", "Which year?", "['1986', '1,986']"), ("338", "Who?", "['ITC Limited']")]
            .iter()
            .map(|(id, question, answer)| {
                vec![(*id).to_owned(), (*question).to_owned(), (*answer).to_owned(), base64(&picture(2))]
            })
            .collect();
        folder_of_tsv.write(&format!("{root}/{tsv_name}.tsv"), tsv(&["index", "question", "answer", "image"], &rows));
        check(name, "vlmevalkit-tsv", &folder_of_tsv, &expected());
    }
}

#[test]
fn chartqa() {
    let expected = Expected {
        keys: &["1.png: How many?", "2.png: Which colour?", "1.png: What share?"],
        category: Some("human"),
        prompt: "How many?\nAnswer the question with a single word.",
        answers: &["14.7", "gray", "0.2"],
    };
    let official = folder("chartqa");
    let row = |image: &str, query: &str, label: &str| json!({"imgname": image, "query": query, "label": label});
    official.write(
        "chartqa/test_human.json",
        json!([row("1.png", "How many?", "14"), row("2.png", "Which colour?", "Gray")]).to_string(),
    );
    official.write("chartqa/test_augmented.json", json!([row("1.png", "What share?", "20%")]).to_string());
    for name in ["1.png", "2.png"] {
        official.write(&format!("chartqa/png/{name}"), picture(3));
    }
    let benchmark = check("chartqa", "official", &official, &expected);
    assert_eq!(benchmark.samples[2].category.as_deref(), Some("augmented"));

    let folder_of_parquet = folder("chartqa");
    let columns = [
        Column::Text("type", texts(&["human_test", "human_test", "augmented_test"])),
        Column::Text("question", texts(&["How many?", "Which colour?", "What share?"])),
        Column::Text("answer", texts(&["14", "Gray", "20%"])),
        pictures(3),
    ];
    parquet(&folder_of_parquet, "chartqa/data/test-00000-of-00001.parquet", &columns);
    let keys = &["1", "2", "3"];
    check("chartqa", "parquet", &folder_of_parquet, &Expected { keys, category: Some("human_test"), ..expected });

    let folder_of_tsv = folder("chartqa");
    let rows: Vec<Vec<String>> = [("1", "How many?", "14"), ("2", "Which colour?", "Gray"), ("3", "What share?", "20%")]
        .iter()
        .map(|(id, question, answer)| vec![(*id).to_owned(), (*question).to_owned(), (*answer).to_owned(), base64(&picture(2))])
        .collect();
    folder_of_tsv.write("chartqa/ChartQA_TEST.tsv", tsv(&["index", "question", "answer", "image"], &rows));
    check("chartqa", "vlmevalkit-tsv", &folder_of_tsv, &Expected { keys, category: None, ..expected });
}

#[test]
fn ocr_bench() {
    let kind = "Handwritten Mathematical Expression Recognition";
    let expected = Expected {
        keys: &["IIIT5K/7", "HME100k/7"],
        category: Some("Regular Text Recognition"),
        prompt: "what is written in the image?\nAnswer the question using a single word or phrase.",
        answers: &["It says CENTRE.", "\\frac{a}{b}"],
    };
    let official = folder("ocrbench");
    let row = |id: u32, kind: &str, answers: Value| {
        json!({"dataset_name": if id == 0 { "IIIT5K" } else { "HME100k" }, "id": 7, "image_path": format!("{id}.png"), "type": kind, "answers": answers,
            "question": if id == 0 { "what is written in the image?" } else { "Write the expression." }})
    };
    let rows = json!([row(0, "Regular Text Recognition", json!(["CENTRE"])), row(900, kind, json!("\\frac { a } { b }"))]);
    official.write("ocrbench/OCRBench.json", rows.to_string());
    for id in [0, 900] {
        official.write(&format!("ocrbench/OCRBench_Images/{id}.png"), picture(1));
    }
    let benchmark = check("ocrbench", "official", &official, &expected);
    let mut results = rows.clone();
    results[1]["predict"] = json!("\\frac{a}{b}");
    let path = official.write("results.json", results.to_string());
    let found = predictions::read(&path, &benchmark, true).unwrap();
    assert_eq!((found.form, found.found.len(), found.missing.as_slice()), ("OCRBench results", 1, &["IIIT5K/7".to_owned()][..]));

    let folder_of_parquet = folder("ocrbench");
    let columns = [
        Column::Text("dataset", texts(&["IIIT5K", "HME100k"])),
        Column::Text("question", texts(&["what is written in the image?", "Write the expression."])),
        Column::Text("question_type", texts(&["Regular Text Recognition", kind])),
        Column::Texts("answer", vec![vec!["CENTRE".to_owned()], vec!["\\frac { a } { b }".to_owned()]]),
        pictures(2),
    ];
    parquet(&folder_of_parquet, "ocrbench/data/test-00000-of-00001.parquet", &columns);
    let benchmark = check("ocrbench", "parquet", &folder_of_parquet, &Expected { keys: &["1", "2"], ..expected });
    // Without ids in the data the rows of a result file are taken in order.
    let found = predictions::read(&path, &benchmark, true).unwrap();
    assert_eq!((found.found[0].key.as_str(), found.missing.as_slice()), ("2", &["1".to_owned()][..]));
    let unknown = official.write("unknown.json", json!([results[1]]).to_string());
    let message = predictions::read(&unknown, &benchmark, true).unwrap_err().to_string();
    assert!(message.contains("row 1, field `id`") && message.contains("HME100k/7"), "{message}");

    let folder_of_tsv = folder("ocrbench");
    let rows = [
        ["0", "what is written in the image?", "['CENTRE']", "Regular Text Recognition"],
        ["900", "Write the expression.", "['\\\\frac { a } { b }']", kind],
    ];
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).chain([base64(&picture(5))]).collect()).collect();
    folder_of_tsv.write("ocrbench/OCRBench.tsv", tsv(&["index", "question", "answer", "category", "image"], &rows));
    check("ocrbench", "vlmevalkit-tsv", &folder_of_tsv, &Expected { keys: &["0", "900"], ..expected });
}

#[test]
fn the_real_ocr_bench_file_with_its_gold_answers_gives_1000() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["../shared/data/ocrbench", "../../shared/data/ocrbench"].map(|place| project.join(place));
    let Some(data) = folders.iter().find(|place| place.is_dir()) else {
        eprintln!("skipped: no folder ../shared/data with the real data files");
        return;
    };
    let benchmark = Benchmark::load("ocrbench", Some(data)).unwrap();
    assert_eq!((benchmark.samples.len(), benchmark.broken.len()), (1000, 0));
    let mut rows: Vec<Value> = serde_json::from_slice(&std::fs::read(data.join("OCRBench.json")).unwrap()).unwrap();
    for row in &mut rows {
        let gold = if row["answers"].is_array() { row["answers"][0].clone() } else { row["answers"].clone() };
        row["predict"] = gold;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    std::fs::write(&path, Value::from(rows).to_string()).unwrap();
    let found = predictions::read(&path, &benchmark, false).unwrap();
    let texts: Vec<&str> = found.found.iter().map(|found| found.text.as_str()).collect();
    assert_eq!(primary(&benchmark, &texts), 1000.0);
}

#[test]
fn covers_of_books_and_text_in_scenes() {
    let expected = Expected {
        keys: &["0760324999/0", "0760324999/1"],
        category: None,
        prompt: "Who wrote this book?\nAnswer the question using a single word or phrase.",
        answers: &[" brian laban ", "yes"],
    };
    let official = folder("ocr_vqa");
    let rows = json!({
        "1": {"imageURL": "x", "questions": ["Left out?"], "answers": ["Yes"], "split": 1},
        "0760324999": {"imageURL": "x.jpg", "questions": ["Who wrote this book?", "Is this a car book?"], "answers": ["Brian Laban", "Yes"], "split": 3}});
    official.write("ocr_vqa/dataset.json", rows.to_string());
    official.write("ocr_vqa/images/0760324999.jpg", picture(1));
    let benchmark = check("ocr_vqa", "official", &official, &expected);
    assert_eq!(benchmark.samples[0].cluster, benchmark.samples[1].cluster);

    let folder_of_tsv = folder("ocr_vqa");
    let rows: Vec<Vec<String>> = [("7", "Who wrote this book?", "Brian Laban"), ("8", "Is this a car book?", "Yes")]
        .iter()
        .map(|(id, question, answer)| vec![(*id).to_owned(), (*question).to_owned(), (*answer).to_owned(), base64(&picture(2))])
        .collect();
    folder_of_tsv.write("ocr_vqa/OCRVQA_TEST.tsv", tsv(&["index", "question", "answer", "image"], &rows));
    check("ocr_vqa", "vlmevalkit-tsv", &folder_of_tsv, &Expected { keys: &["7", "8"], ..expected });

    for (name, file, answers) in [("st_vqa", "train_task_3.json", &["Bud light"][..]), ("st_vqa_test", "test_task_3.json", &[])] {
        let official = folder(name);
        let mut row = json!({"question": "Which brand?", "question_id": 11, "file_path": "coco-text/a.jpg", "set_name": "x"});
        if name == "st_vqa" {
            row["answers"] = json!(["bud light", "budlight"]);
        }
        official.write(&format!("st_vqa/{file}"), json!({"data": [row]}).to_string());
        official.write("st_vqa/coco-text/a.jpg", picture(1));
        let prompt = "Which brand?\nAnswer the question using a single word or phrase.";
        let expected = Expected { keys: &["11"], category: None, prompt, answers };
        check(name, "official", &official, &expected);
        if name == "st_vqa_test" {
            let folder_of_parquet = folder(name);
            let columns =
                [Column::Text("question_id", texts(&["11"])), Column::Text("question", texts(&["Which brand?"])), pictures(1)];
            parquet(&folder_of_parquet, "st_vqa/data/test-00000-of-00002.parquet", &columns);
            check(name, "parquet", &folder_of_parquet, &expected);
        }
    }
}

/// MME's release with a category of each kind of folder, a picture each.
fn mme_release() -> Folder {
    let release = folder("mme");
    let lines = "Is there a bus? Please answer yes or no.\tYes\nIs there a cat? Please answer yes or no.\tNo\n\n";
    release.write("mme/existence/000001.txt", lines);
    release.write("mme/existence/000001.jpg", picture(1));
    let lines = "Is this a church? Please answer yes or no.\tYes\r\nIs this a mill? Please answer yes or no.\tNo";
    release.write("mme/landmark/questions_answers_YN/a b.txt", lines);
    release.write("mme/landmark/images/a b.png", picture(2));
    let lines = "0001.png\tIs it 3? Please answer yes or no.\tYes\n0001.png\tIs it 4? Please answer yes or no.\tNo\n";
    release.write("mme/code_reasoning/code_reasoning.txt", lines);
    release.write("mme/code_reasoning/0001.png", picture(3));
    release
}

const MME: Expected = Expected {
    keys: &[
        "existence/000001.jpg/Yes",
        "existence/000001.jpg/No",
        "landmark/a b.png/Yes",
        "landmark/a b.png/No",
        "code_reasoning/0001.png/Yes",
        "code_reasoning/0001.png/No",
    ],
    category: Some("existence"),
    prompt: "Is there a bus?\nAnswer the question using a single word or phrase.",
    answers: &["Yes", "No, there is none", "yes", "no", "Yes", "No"],
};

#[test]
fn mme() {
    let release = mme_release();
    let benchmark = check("mme", "official", &release, &MME);
    assert_eq!(benchmark.samples[1].cluster, "existence/000001.jpg");
    assert_eq!(benchmark.samples[5].reference, Reference::YesNo { yes: false });

    // One file a category, as the release's evaluation reads them; and LLaVA's answers.
    for (category, lines) in [
        ("existence", "000001.jpg\tIs there a bus? Please answer yes or no.\tYes\tno\n000001.jpg\tIs there a cat?\tNo\tNo."),
        ("landmark", "a b.png\tIs this a mill? Please answer yes or no.\tNo\tY\na b.png\tIs this a church?\tYes\t"),
        ("code_reasoning", "0001.png\tIs it 3?\tYes\tyes\n0001.png\tIs it 4?\tNo\tno\n"),
    ] {
        release.write(&format!("results/{category}.txt"), lines);
    }
    let found = predictions::read(&release.path("results"), &benchmark, false).unwrap();
    let texts: Vec<&str> = found.found.iter().map(|prediction| prediction.text.as_str()).collect();
    assert_eq!((found.form, texts), ("MME results, one file a category", vec!["no", "No.", "", "Y", "yes", "no"]));
    let answer = |id: &str, question: &str, text: &str| {
        json!({"question_id": id, "prompt": format!("{question}{SHORT}"), "text": text, "model_id": "x"}).to_string() + "\n"
    };
    let lines = [
        answer("existence/000001.jpg", "Is there a cat?", "1"),
        answer("existence/000001.jpg", "Is there a bus?", "2"),
        answer("landmark/images/a b.png", "Is this a mill?", "3"),
    ];
    let path = release.write("answers.jsonl", lines.concat());
    let found = predictions::read(&path, &benchmark, true).unwrap();
    let texts: Vec<(&str, &str)> = found.found.iter().map(|found| (found.key.as_str(), found.text.as_str())).collect();
    let expected = [("existence/000001.jpg/Yes", "2"), ("existence/000001.jpg/No", "1"), ("landmark/a b.png/No", "3")];
    assert_eq!((texts, found.missing.len()), (expected.to_vec(), 3));

    // What is wrong with result files is said with file and row.
    for (name, line, part) in [
        ("existence.txt", "000001.jpg\tIs there a bus?\tYes", "four columns"),
        ("existence.txt", "000002.jpg\tIs there a bus?\tYes\tno", "existence/000002.jpg"),
        ("existence.txt", "000001.jpg\tIs there a dog?\tYes\tno", "a question about existence/000001.jpg"),
        ("nothing.txt", "", "<category>.txt"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), line).unwrap();
        let message = predictions::read(folder.path(), &benchmark, true).unwrap_err().to_string();
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    let twice = "000001.jpg\tIs there a bus?\tYes\tno\n".repeat(2);
    release.write("results/existence.txt", twice);
    let message = predictions::read(&release.path("results"), &benchmark, true).unwrap_err().to_string();
    assert!(message.contains("existence.txt, row 2"), "{message}");
}

#[test]
fn mme_in_other_forms_and_broken() {
    let folder_of_parquet = folder("mme");
    let ids = [
        "existence/000001.jpg",
        "existence/000001.jpg",
        "landmark/a b.png",
        "landmark/a b.png",
        "code_reasoning/0001.png",
        "code_reasoning/0001.png",
    ];
    let questions = ["Is there a bus?", "Is there a cat?", "Is this a church?", "Is this a mill?", "Is it 3?", "Is it 4?"]
        .map(|question| format!("{question} Please answer yes or no."));
    let columns = [
        Column::Text("question_id", texts(&ids)),
        Column::Image("image", (0..6).map(|index| Some((Some(picture(index / 2)), None))).collect()),
        Column::Text("question", texts(&questions.each_ref().map(String::as_str))),
        Column::Text("answer", texts(&["Yes", "No", "Yes", "No", "Yes", "No"])),
        Column::Text("category", texts(&["existence", "existence", "landmark", "landmark", "code_reasoning", "code_reasoning"])),
    ];
    parquet(&folder_of_parquet, "mme/data/test-00000-of-00004.parquet", &columns);
    let in_parquet = check("mme", "parquet", &folder_of_parquet, &MME);
    // The same questions, prompts and references as the release has.
    assert_eq!(in_parquet.samples_sha256(), mme_release().load().unwrap().samples_sha256());

    let folder_of_tsv = folder("mme");
    let rows: Vec<Vec<String>> = (0..6)
        .map(|index| {
            let (category, _) = ids[index].split_once('/').unwrap();
            let answer = if index % 2 == 0 { "Yes" } else { "No" };
            let cells =
                [index.to_string(), ids[index].to_owned(), questions[index].clone(), answer.to_owned(), category.to_owned()];
            cells.into_iter().chain([base64(&picture(index as u8 / 2))]).collect()
        })
        .collect();
    folder_of_tsv.write("mme/MME.tsv", tsv(&["index", "image_path", "question", "answer", "category", "image"], &rows));
    check("mme", "vlmevalkit-tsv", &folder_of_tsv, &Expected { keys: &["0", "1", "2", "3", "4", "5"], ..MME });

    for (file, lines, part) in [
        ("existence/1.txt", "Is it?\tMaybe", "row 1, field `answer`"),
        ("existence/1.txt", "Is it?", "row 1"),
        ("existence/1.txt", "\nIs it?\tYes\nIs it?\tYes\nIs it?\tYes", "row 4"),
        ("existence/1.txt", "../../x.png\tIs it?\tYes", "below the data folder"),
        ("existence/note.md", "", "1 row"),
        ("painting/1.txt", "Is it?\tYes", "existence/"),
    ] {
        let release = folder("mme");
        release.write(&format!("mme/{file}"), lines);
        let message = release.load().unwrap_err();
        assert!(
            message.contains(part) || part == "1 row" && message.contains("at least one row"),
            "{part:?} is not in {message:?}"
        );
    }
    // A release that was cut short.
    let release = mme_release();
    let whole = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("benchmarks/mme.toml")).unwrap();
    release.write("benchmark.toml", whole);
    assert!(release.load().unwrap_err().contains("expected 2374 rows, found 6 rows"));
}

#[test]
fn medical() {
    let slake_row = |qid: u32, language: &str, answer: &str, kind: &str| {
        json!({"img_id": 1, "img_name": "xmlab1/source.jpg", "question": if language == "en" { "Which organ?" } else { "哪个器官？" },
            "answer": answer, "q_lang": language, "location": "Lung", "modality": "CT", "answer_type": kind, "base_type": "vqa",
            "content_type": "Organ", "triple": ["vhead", "_", "_"], "qid": qid})
    };
    let rows = json!([slake_row(1, "en", "Lung", "OPEN"), slake_row(2, "en", "Yes", "CLOSED"), slake_row(3, "zh", "肺", "OPEN")]);
    for (name, expected) in [
        ("slake", Expected { keys: &["1", "2"], category: Some("OPEN"), prompt: "Which organ?", answers: &["lung", "yes"] }),
        (
            "slake_lmms",
            Expected {
                keys: &["1", "2"],
                category: Some("Organ"),
                prompt: "Which organ?\nAnswer the question using a single word or phrase.",
                answers: &["Lung.", "true"],
            },
        ),
        (
            "slake_zh",
            Expected {
                keys: &["3"],
                category: Some("Organ"),
                prompt: "哪个器官？\n请用一个词或短语回答问题。",
                answers: &["肺。"],
            },
        ),
    ] {
        let official = folder(name);
        official.write("slake/test.json", rows.to_string());
        official.write("slake/imgs/xmlab1/source.jpg", picture(1));
        check(name, "official", &official, &expected);
    }
    let turns = |question: &str, answer: &str| json!([{"from": "human", "value": format!("{question}\n<image>")}, {"from": "gpt", "value": answer}]);
    let rows = json!([
        {"id": "1", "image": "a.jpg", "answer_type": "OPEN", "conversations": turns("Which organ?", "Lung")},
        {"id": "2", "image": "a.jpg", "answer_type": "CLOSED", "conversations": turns("Is it?", "Yes")}]);
    for name in ["slake", "path_vqa"] {
        let kept = folder(name);
        kept.write(&format!("{name}/llava_med_test.json"), rows.to_string());
        kept.write(&format!("{name}/images/a.jpg"), picture(1));
        let expected = Expected { keys: &["1", "2"], category: Some("open"), prompt: "Which organ?", answers: &["lung", "yes"] };
        check(name, "llava-med", &kept, &expected);
    }
    let folder_of_parquet = folder("path_vqa");
    let columns = [
        pictures(2),
        Column::Text("question", texts(&["Which organ?", "Is it?"])),
        Column::Text("answer", texts(&["lung", "yes"])),
    ];
    parquet(&folder_of_parquet, "path_vqa/data/test-00000-of-00003.parquet", &columns);
    let expected = Expected { keys: &["1", "2"], category: None, prompt: "Which organ?", answers: &["lung", "yes"] };
    let benchmark = check("path_vqa", "parquet", &folder_of_parquet, &expected);
    let open = |sample: &Sample| matches!(sample.reference, Reference::OpenOrClosed { open: true, .. });
    assert!(open(&benchmark.samples[0]) && !open(&benchmark.samples[1]));
}

#[test]
fn withheld_test_splits() {
    let question = "What?\nAnswer the question using a single word or phrase.";
    let vizwiz = "What?\nWhen the provided information is insufficient, respond with 'Unanswerable'.\nAnswer the question using a \
                  single word or phrase.";
    for (name, file, content, image, key, prompt, parquet_file) in [
        (
            "vqav2_test_dev",
            "vqav2/v2_OpenEnded_mscoco_test-dev2015_questions.json",
            json!({"info": {}, "questions": [{"question_id": 42, "image_id": 7, "question": "What?"}]}),
            "vqav2/test2015/COCO_test2015_000000000007.jpg",
            "42",
            question,
            "vqav2/data/testdev-00000-of-00001.parquet",
        ),
        (
            "textvqa_test",
            "textvqa/TextVQA_0.5.1_test.json",
            json!({"data": [{"question_id": 42, "image_id": "ab", "question": "What?"}]}),
            "textvqa/test_images/ab.jpg",
            "42",
            question,
            "textvqa/data/test-00000-of-00001.parquet",
        ),
        (
            "vizwiz_test",
            "vizwiz/test.json",
            json!([{"image": "42.jpg", "question": "What?"}]),
            "vizwiz/test/42.jpg",
            "42.jpg",
            vizwiz,
            "vizwiz/data/test-00000-of-00001.parquet",
        ),
    ] {
        let keys: &'static [&'static str] = if key == "42" { &["42"] } else { &["42.jpg"] };
        let expected = Expected { keys, category: None, prompt, answers: &[] };
        let official = folder(name);
        official.write(file, content.to_string());
        official.write(image, picture(1));
        check(name, "official", &official, &expected);
        let folder_of_parquet = folder(name);
        let columns = [Column::Text("question_id", texts(&["42"])), Column::Text("question", texts(&["What?"])), pictures(1)];
        parquet(&folder_of_parquet, parquet_file, &columns);
        check(name, "parquet", &folder_of_parquet, &expected);
    }
}

#[test]
fn every_form_of_a_short_answer_benchmark_is_tested_here() {
    // Names and forms as the tests above call `check`.
    let source = include_str!("short_answer_data.rs");
    for spec in BenchmarkSpec::list().unwrap() {
        let identity = spec.scorer.identity();
        let own = ["vizwiz", "gqa", "exact", "anls", "relaxed", "ocrbench", "mme", "slake"];
        // The shipped synthetic sets have tests of their own.
        if spec.name.starts_with("pico-") || !own.iter().any(|name| identity.starts_with(name)) {
            continue;
        }
        assert!(source.contains(&format!("\"{}\"", spec.name)), "{} has no test", spec.name);
        assert!(!spec.prompt_source.is_empty() && spec.forms.iter().all(|form| form.obtain.is_some()), "{}", spec.name);
    }
}

#[test]
fn scorers_and_variants_that_do_not_suit_are_refused_with_their_place() {
    let spoilt = |name: &str, from: &str, to: &str| {
        let text = tiny_toml(name);
        assert!(text.contains(from), "{from}");
        BenchmarkSpec::parse(&text.replace(from, to), Path::new("x.toml")).unwrap_err().to_string()
    };
    for (name, from, to, part) in [
        ("gqa", "variant = \"official\"", "variant = \"m4c\"", "`official`, `lmms`"),
        ("gqa", "kind = \"gqa\"", "kind = \"mme\"", "cannot score data of this format"),
        ("gqa", "variant = \"official\"", "boundary = \">=\"", "`boundary` has no use"),
        ("docvqa", "boundary = \">=\"\n", "", "needs the field `boundary`"),
        ("docvqa", "boundary = \">=\"", "variant = \"m4c\"\nboundary = \">=\"", "`boundary` has no use"),
        ("ocr_vqa", "kind = \"exact\"", "kind = \"exact\"\nvariant = \"official\"", "`variant` has no use"),
        ("mme", "primary_metric = \"perception\"", "primary_metric = \"f1\"", "perception, cognition"),
        ("slake_lmms", "variant = \"lmms\"", "variant = \"official\"", "the variants `lmms`"),
        ("path_vqa", "except = [\"yes\", \"no\"]", "values = [], except = []", "either `values` or `except`"),
        ("mme", "format = \"mme-release\"", "format = \"mme-release\"\nquestions = \"x\"", "`questions` has no use"),
    ] {
        let message = spoilt(name, from, to);
        assert!(message.contains(part) && message.contains("line "), "{part:?} is not in {message:?}");
    }
    let lmms = tiny_toml("pope").replace("kind = \"pope\"", "kind = \"pope\"\nvariant = \"lmms\"");
    assert_eq!(BenchmarkSpec::parse(&lmms, Path::new("x.toml")).unwrap().scorer.identity(), "pope-lmms/1");
    let strict = tiny_toml("docvqa").replace("boundary = \">=\"", "boundary = \">\"");
    assert_eq!(BenchmarkSpec::parse(&strict, Path::new("x.toml")).unwrap().scorer.identity(), "anls-above/1");
}
