//! Tables: every kind of file, every kind of reference, images in files and in cells, and what may be wrong with them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod table_support;

use llava_gauge::benchmark::{Benchmark, ImageStore, Reference, Sample, SampleImage};
use parquet::basic::Compression;
use table_support::{Column, Folder, base64, png, texts, toml, write_parquet};

const VQA: (&str, &str) = ("template = \"{question} Shortly.\"", "kind = \"vqa\"\nvariant = \"official\"");

fn vqa(data: &str) -> String {
    toml(data, VQA.0, VQA.1)
}

fn answers(sample: &Sample) -> Vec<String> {
    match &sample.reference {
        Reference::Answers { answers } => answers.clone(),
        other => panic!("{other:?}"),
    }
}

fn good(folder: &Folder) -> Benchmark {
    let benchmark = folder.load().unwrap();
    assert_eq!(benchmark.broken, []);
    benchmark
}

fn bytes_of(image: &SampleImage) -> Vec<u8> {
    match image {
        SampleImage::Embedded(image) => ImageStore::default().read(image).unwrap(),
        SampleImage::File(path) => std::fs::read(path).unwrap(),
    }
}

const FIELDS: &str = r#"
root = "."
format = "table"
key = "{id}"
question = "{question}"
images = ["images/{image_id:03}.png"]
cluster = "{image_id}"
category = "{kind}"
[data.reference]
kind = "answers"
answers = "answer"
repeat = 10
"#;

const JSON: &str = r#"[{"id": 1, "question": "What?", "image_id": 7, "kind": "open", "answer": "a, \"b\""},
    {"id": 2, "question": "Where\nis it?", "image_id": 7, "kind": "other", "answer": "ü]"}]"#;

#[test]
fn the_same_rows_in_every_kind_of_file_are_the_same_samples() {
    let lines = "{\"id\": 1, \"question\": \"What?\", \"image_id\": 7, \"kind\": \"open\", \"answer\": \"a, \\\"b\\\"\"}\n\n\
        {\"id\": 2, \"question\": \"Where\\nis it?\", \"image_id\": 7, \"kind\": \"other\", \"answer\": \"ü]\"}\n";
    let csv = "id,question,image_id,kind,answer\n1,What?,7,open,\"a, \"\"b\"\"\"\n2,\"Where\nis it?\",7,other,ü]\n";
    let by_key = r#"{"meta": {"x": [1]}, "data": {"rows": {"1": {"question": "What?", "image_id": 7, "kind": "open", "answer": "a, \"b\""},
        "2": {"question": "Where\nis it?", "image_id": 7, "kind": "other", "answer": "ü]"}}}}"#;
    let gzip = |text: &str| {
        use std::io::Write as _;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let mut hashes = Vec::new();
    for (name, content, member) in [
        ("rows.json", JSON.as_bytes().to_vec(), ""),
        ("sequence.json", lines.as_bytes().to_vec(), ""),
        ("rows.jsonl", lines.as_bytes().to_vec(), ""),
        ("rows.jsonl.gz", gzip(lines), ""),
        ("rows.json.gz", gzip(JSON), ""),
        ("nested.json", format!("{{\"a\": {{\"b\": {JSON}}}}}").into_bytes(), "member = \"a.b\"\n"),
        ("keyed.json", by_key.as_bytes().to_vec(), "member = \"data.rows\"\n"),
        ("rows.csv", csv.as_bytes().to_vec(), ""),
        ("bom.csv", format!("\u{feff}{}", csv.replace('\n', "\r\n").replace("Where\r\n", "Where\n")).into_bytes(), ""),
        ("rows.tsv", csv.replace("a, ", "a; ").replace(',', "\t").replace("a; ", "a, ").into_bytes(), ""),
    ] {
        let fields = if name == "keyed.json" { FIELDS.replace("{id}", "{@key}") } else { FIELDS.to_owned() };
        let folder = Folder::new(&vqa(&format!("[data]\nfiles = [\"{name}\"]\n{member}{fields}")));
        folder.write(name, content);
        let benchmark = good(&folder);
        assert_eq!(benchmark.samples.len(), 2, "{name}");
        let second = &benchmark.samples[1];
        assert_eq!(
            (second.key.as_str(), second.cluster.as_str(), second.category.as_deref()),
            ("2", "7", Some("other")),
            "{name}"
        );
        assert_eq!(second.prompt, "Where\nis it? Shortly.", "{name}");
        assert_eq!(answers(&benchmark.samples[0]), vec!["a, \"b\""; 10], "{name}");
        assert!(second.images[0].file().unwrap().ends_with("images/007.png"), "{name}");
        hashes.push(benchmark.samples_sha256());
    }
    let folder = Folder::new(&vqa(&format!("[data]\nfiles = [\"rows-*.parquet\"]\n{FIELDS}")));
    for (shard, id, question, kind, answer) in [("1", 1, "What?", "open", "a, \"b\""), ("2", 2, "Where\nis it?", "other", "ü]")]
    {
        let columns = [
            Column::Integer("id", vec![id]),
            Column::Text("question", texts(&[question])),
            Column::Integer("image_id", vec![7]),
            Column::Text("kind", texts(&[kind])),
            Column::Text("answer", texts(&[answer])),
        ];
        write_parquet(&folder.path(&format!("rows-{shard}.parquet")), &columns, 1, Compression::SNAPPY);
    }
    hashes.push(good(&folder).samples_sha256());
    hashes.dedup();
    assert_eq!(hashes.len(), 1);
}

#[test]
fn images_in_parquet_are_found_and_shared() {
    let pictures: Vec<Vec<u8>> = (0..3).map(|index| png(8, 6, [index * 80, 0, 0])).collect();
    let image = |index: usize| Some((Some(pictures[index].clone()), Some(format!("{index}.png"))));
    let order = [0, 0, 1, 2, 1];
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(Default::default())] {
        let folder = Folder::new(&vqa(
            "[data]\nroot = \".\"\nformat = \"table\"\nfiles = [\"data/test-*.parquet\"]\nkey = \"{id}\"\nquestion = \"{question}\"\n\
             images = [\"{image}\"]\n[data.reference]\nkind = \"answers\"\nanswers = \"answers\"",
        ));
        let columns = [
            Column::Integer("id", (0..5).collect()),
            Column::Image("image", order.iter().map(|&index| image(index)).collect()),
            Column::Text("question", texts(&["a", "b", "c", "d", "e"])),
            Column::Texts("answers", (0..5).map(|index| vec![format!("x{index}"); 3]).collect()),
        ];
        write_parquet(&folder.path("data/test-00000-of-00001.parquet"), &columns, 2, compression);
        let benchmark = good(&folder);
        assert_eq!(answers(&benchmark.samples[3]), ["x3"; 3]);
        for (sample, index) in benchmark.samples.iter().zip(order) {
            assert_eq!(bytes_of(&sample.images[0]), pictures[index], "{}", sample.key);
        }
        assert_eq!(benchmark.samples[0].images, benchmark.samples[1].images);
        assert_eq!(benchmark.samples[2].images, benchmark.samples[4].images);
        assert_ne!(benchmark.samples[0].images, benchmark.samples[2].images);
        assert_eq!(benchmark.samples[2].cluster, benchmark.samples[4].cluster);
        assert_eq!(
            benchmark.samples[4].images[0].text(&benchmark.data_root),
            "data/test-00000-of-00001.parquet#row=3&column=image"
        );
        // One store that is asked forwards and backwards.
        let store = ImageStore::default();
        for index in [0, 2, 3, 1, 4, 0] {
            let SampleImage::Embedded(image) = &benchmark.samples[index].images[0] else { panic!("no embedded image") };
            assert_eq!(store.read(image).unwrap(), pictures[order[index]]);
        }
    }
}

#[test]
fn images_may_be_bytes_lists_or_paths() {
    let pictures: Vec<Vec<u8>> = (0..3).map(|index| png(4, 4, [index * 80, 9, 0])).collect();
    let folder = Folder::new(&vqa(
        "[data]\nroot = \".\"\nformat = \"table\"\nfiles = [\"x.parquet\"]\nkey = \"{id}\"\nquestion = \"q\"\n\
         images = [\"{left}\", \"{all[]}\", \"{other}\"]\nimage_id = \"{id}\"\ncluster = \"{id}\"\n[data.reference]\nkind = \"answers\"\nanswers = \"id\"",
    ));
    folder.write("z.png", &pictures[2]);
    let columns = [
        Column::Text("id", texts(&["a", "b"])),
        Column::Binary("left", vec![None, Some(pictures[0].clone())]),
        Column::Images("all", vec![vec![pictures[0].clone(), pictures[1].clone()], vec![]]),
        Column::Image("other", vec![Some((None, Some("z.png".to_owned()))), None]),
    ];
    write_parquet(&folder.path("x.parquet"), &columns, 10, Compression::SNAPPY);
    let benchmark = good(&folder);
    let found = |index: usize| benchmark.samples[index].images.iter().map(bytes_of).collect::<Vec<_>>();
    assert_eq!(found(0), pictures);
    assert_eq!(found(1), [pictures[0].clone()]);
    assert!(benchmark.samples[0].images[2].file().is_some());
    assert_ne!(benchmark.samples[0].images[0], benchmark.samples[0].images[1]);
}

#[test]
fn base64_in_text_files_is_found_and_rows_may_name_an_earlier_one() {
    let (first, second) = (png(5, 5, [1, 2, 3]), png(5, 5, [200, 2, 3]));
    let (one, two) = (base64(&first), base64(&second));
    let tsv = format!(
        "index\timage\tquestion\tanswer\n10\t{one}\tq0\tx\n11\t10\tq1\ty\n12\t{two}\tq2\tz\n13\t['{one}', '{two}']\tq3\tw\n14\timages/f.png\tq4\tv\n"
    );
    let rows: Vec<String> = [
        ("10", format!("\"{one}\"")),
        ("12", format!("\"data:image/png;base64,{two}\"")),
        ("13", format!("[\"{one}\", \"{two}\"]")),
    ]
    .iter()
    .map(|(index, image)| format!("{{\"index\": {index}, \"image\": {image}, \"question\": \"q\", \"answer\": \"x\"}}"))
    .collect();
    for (name, content) in [("x.tsv", tsv), ("x.jsonl", rows.join("\n")), ("x.json", format!("  [{}]", rows.join(" , ")))] {
        let folder = Folder::new(&vqa(&format!(
            "[data]\nroot = \".\"\nformat = \"table\"\nfiles = [\"{name}\"]\nkey = \"{{index}}\"\nquestion = \"{{question}}\"\n\
             images = [\"{{image}}\"]\n[data.reference]\nkind = \"answers\"\nanswers = \"answer\""
        )));
        folder.write("images/f.png", &first);
        folder.write(name, content);
        let benchmark = good(&folder);
        for sample in &benchmark.samples {
            let found: Vec<Vec<u8>> = sample.images.iter().map(bytes_of).collect();
            let expected = match sample.key.as_str() {
                "12" => vec![second.clone()],
                "13" => vec![first.clone(), second.clone()],
                _ => vec![first.clone()],
            };
            assert_eq!(found, expected, "{name} {}", sample.key);
        }
        if name == "x.tsv" {
            assert_eq!(benchmark.samples[0].images, benchmark.samples[1].images);
            assert_eq!(benchmark.samples.len(), 5);
        }
    }
}

fn reference_of(scorer: &str, reference: &str, rows: &str) -> Result<Vec<Reference>, Vec<String>> {
    let folder = Folder::new(&toml(
        &format!(
            "[data]\nroot = \".\"\nformat = \"table\"\nfiles = [\"x.json\"]\nkey = \"{{@row}}\"\nquestion = \"q\"\n\
             images = [\"{{image}}\"]\nabsent_is_empty = true\n[data.reference]\n{reference}"
        ),
        "template = \"{question}\"",
        scorer,
    ));
    folder.write("i.png", png(100, 50, [1, 2, 3]));
    folder.write("x.json", rows);
    let benchmark = folder.load().unwrap();
    match benchmark.broken.is_empty() {
        true => Ok(benchmark.samples.into_iter().map(|sample| sample.reference).collect()),
        false => Err(benchmark.broken.into_iter().map(|row| row.message).collect()),
    }
}

/// What is wrong with the only row.
fn broken(scorer: &str, reference: &str, row: &str) -> String {
    let mut messages = reference_of(scorer, reference, &format!("[{row}]")).unwrap_err();
    assert_eq!(messages.len(), 1);
    assert!(messages[0].contains("x.json, row 1, field"), "{messages:?}");
    messages.remove(0)
}

#[test]
fn every_kind_of_reference_is_read() {
    let found = reference_of(
        "kind = \"pope\"",
        "kind = \"yes-no\"\nanswer = \"a\"",
        r#"[{"a": "yes"}, {"a": " No"}, {"a": true}, {"a": "YES"}]"#,
    );
    assert_eq!(found.unwrap(), [true, false, true, true].map(|yes| Reference::YesNo { yes }));
    let message = broken("kind = \"pope\"", "kind = \"yes-no\"\nanswer = \"a\"", r#"{"a": "maybe"}"#);
    assert!(message.contains("field `a`: expected yes or no, found \"maybe\""), "{message}");

    let vqa = "kind = \"vqa\"\nvariant = \"official\"";
    let answers = |texts: &[&str]| Reference::Answers { answers: texts.iter().map(|text| (*text).to_owned()).collect() };
    let found = reference_of(
        vqa,
        "kind = \"answers\"\nanswers = \"a\"",
        r#"[{"a": "x"}, {"a": ["x", 2]}, {"a": "['p', 'q']"}, {"a": "[1, 2]"}, {"a": 3}]"#,
    );
    let expected = [answers(&["x"]), answers(&["x", "2"]), answers(&["p", "q"]), answers(&["[1, 2]"]), answers(&["3"])];
    assert_eq!(found.unwrap(), expected);
    let found = reference_of(vqa, "kind = \"answers\"\nanswers = \"a[].b\"", r#"[{"a": [{"b": "x"}, {"b": "y"}]}]"#);
    assert_eq!(found.unwrap(), [answers(&["x", "y"])]);
    let message = broken(vqa, "kind = \"answers\"\nanswers = \"a\"\ncounts = [10]", r#"{"a": ["x"]}"#);
    assert!(message.contains("expected 10 answers, found 1"), "{message}");
    let message = broken(vqa, "kind = \"answers\"\nanswers = \"a\"", r#"{"b": 1}"#);
    assert!(message.contains("at least one answer"), "{message}");

    let med = "kind = \"llava-med\"";
    let rule = "kind = \"open-or-closed\"\nanswer = \"a\"\nopen = { column = \"t\", values = [\"OPEN\"] }";
    let found = reference_of(med, rule, r#"[{"a": 2, "t": "OPEN "}, {"a": "yes", "t": "CLOSED"}]"#).unwrap();
    assert_eq!(found[0], Reference::OpenOrClosed { answer: "2".to_owned(), open: true });
    assert_eq!(found[1], Reference::OpenOrClosed { answer: "yes".to_owned(), open: false });

    let grounding = "kind = \"grounding\"\nbox_space = \"original\"\nthreshold_rule = \">=\"";
    let xywh = "kind = \"region\"\nregion = \"b\"\nregion_form = \"xywh\"";
    let found = reference_of(grounding, xywh, r#"[{"image": "i.png", "b": [10, 5, 20, 45.01]}]"#).unwrap();
    let Reference::Region { region, width, height } = &found[0] else { panic!("{found:?}") };
    assert_eq!((region.x1, region.y1, region.x2, region.y2, *width, *height), (10.0, 5.0, 30.0, 50.0, 100, 50));
    let sized = "kind = \"region\"\nregion = \"b\"\nregion_form = \"xyxy\"\nwidth = \"w\"\nheight = \"h\"";
    let found = reference_of(grounding, sized, r#"[{"b": "[1, 2, 3, 4]", "w": 4, "h": "4.0"}]"#).unwrap();
    assert!(matches!(&found[0], Reference::Region { region, width: 4, height: 4 } if region.x2 == 3.0), "{found:?}");
    for (row, reason) in [
        (r#"{"image": "i.png", "b": [10, 5, 20, 46]}"#, "a box within 100 × 50"),
        (r#"{"image": "i.png", "b": [10, 5]}"#, "x, y, width, height"),
        (r#"{"b": [1, 1, 2, 2]}"#, "an image to measure"),
        (r#"{"image": "none.png", "b": [1, 1, 2, 2]}"#, "an image to measure"),
        (r#"{"image": "../i.png", "b": [1, 1, 2, 2]}"#, "an image below the data folder"),
    ] {
        let message = broken(grounding, xywh, row);
        assert!(message.contains(reason), "{row}: {message}");
    }
}

#[test]
fn a_table_is_joined_filtered_and_taken_apart() {
    let folder = Folder::new(&vqa(
        "[data]\nroot = \".\"\nformat = \"table\"\nfiles = [{ file = \"q.json\", category = \"one\" }, \"more-*.json\"]\nmember = \"questions\"\n\
         join = [{ file = \"a.json\", member = \"annotations\", on = \"qid\", by = \"{id}\", columns = [\"answers\", \"split\"] },\n\
                 { file = \"names.json\", member = \".\", on = \"{@key}\", by = \"image\", as = \"picture\", missing = \"drop\" }]\n\
         explode = [\"texts\", \"answers\"]\nwhere = { split = [\"test\", \"val\"] }\nhaving = [\"image\"]\n\
         key = \"{id}/{@index}\"\ncluster = \"{id%10}\"\nquestion = \"{texts}\"\nimages = [\"{picture.file}\"]\n\
         [data.reference]\nkind = \"answers\"\nanswers = \"answers\"",
    ));
    folder.write(
        "q.json",
        r#"{"info": [], "questions": [{"id": 11, "texts": ["a", "b"], "image": "x"}, {"id": 12, "texts": ["c"], "image": null},
            {"id": 13, "texts": ["d"], "image": "x"}, {"id": 14, "texts": ["e"], "image": "unknown"}]}"#,
    );
    folder.write(
        "more-1.json",
        r#"{"questions": [{"id": 21, "texts": ["f", "g"], "image": "y"}, {"id": 99, "texts": ["f"], "image": "y"},
        {"id": 22, "texts": ["f"], "image": "y"}]}"#,
    );
    folder.write(
        "a.json",
        r#"{"annotations": [{"qid": 11, "answers": ["A", "B"], "split": "test"}, {"qid": 12, "answers": ["C"], "split": "test"},
            {"qid": 13, "answers": ["D"], "split": "train"}, {"qid": 14, "answers": ["E"], "split": "val"},
            {"qid": 21, "answers": ["F", "G"], "split": "val"}, {"qid": 22, "answers": ["x", "y"], "split": "val"}]}"#,
    );
    folder.write("names.json", r#"{"x": {"file": "x.png"}, "y": {"file": "y.png"}}"#);
    let benchmark = folder.load().unwrap();
    let found: Vec<_> = benchmark
        .samples
        .iter()
        .map(|sample| {
            (
                sample.key.as_str(),
                sample.cluster.as_str(),
                sample.question.as_str(),
                answers(sample).join(","),
                sample.category.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("11/0", "1", "a", "A".to_owned(), Some("one")),
            ("11/1", "1", "b", "B".to_owned(), Some("one")),
            ("21/0", "1", "f", "F".to_owned(), None),
            ("21/1", "1", "g", "G".to_owned(), None),
        ]
    );
    let messages: Vec<&str> = benchmark.broken.iter().map(|row| row.message.as_str()).collect();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[0].contains("more-1.json, row 2") && messages[0].contains("a row of") && messages[0].contains("\"99\""));
    assert!(messages[1].contains("more-1.json, row 3, field `answers`: expected as many elements as in \"texts\", 1, found 2"));
}

#[test]
fn broken_rows_are_named_and_the_others_kept() {
    let good_row = "{\"id\": 1, \"question\": \"q\", \"image_id\": 1, \"kind\": \"k\", \"answer\": \"a\"}";
    let folder = Folder::new(&vqa(&format!("[data]\nfiles = [\"x.jsonl\"]\n{FIELDS}")));
    let lines = [
        good_row.to_owned(),
        "{\"id\": 2, ".to_owned(),
        "[1, 2]".to_owned(),
        good_row.replace("\"id\": 1", "\"id\": {}"),
        good_row.replace("\"id\": 1", "\"id\": null"),
        good_row.replace("question", "text").replace("\"id\": 1", "\"id\": 3"),
        good_row.to_owned(),
        good_row.replace("\"id\": 1", "\"id\": 4"),
    ];
    folder.write("x.jsonl", lines.join("\n"));
    let benchmark = folder.load().unwrap();
    let keys: Vec<&str> = benchmark.samples.iter().map(|sample| sample.key.as_str()).collect();
    assert_eq!(keys, ["1", "4"]);
    let messages: Vec<&str> = benchmark.broken.iter().map(|row| row.message.as_str()).collect();
    for (message, (row, reason)) in messages.iter().zip([
        (2, "expected JSON, found EOF"),
        (3, "only the columns"),
        (4, "an object"),
        (5, "found nothing"),
        (6, "field `question`: expected a text or a number, found only the columns [\"id\", \"text\""),
        (7, "each sample once, found \"1\" again, first in row 1"),
    ]) {
        assert!(message.contains(&format!("x.jsonl, row {row}, field")) && message.contains(reason), "{message}");
    }
    assert_eq!(messages.len(), 6, "{messages:?}");

    let folder = Folder::new(&vqa(&format!("[data]\nfiles = [\"x.csv\"]\n{FIELDS}")));
    let csv = b"id,question,image_id,kind,answer\n1,q,1,k,a\n2,q,1,k\n3,\xff\xfe,1,k,a\n4,q,1,k,a,b\n5,q,1,k,\n6,q,1,k,a\n";
    folder.write("x.csv", csv);
    let benchmark = folder.load().unwrap();
    let keys: Vec<&str> = benchmark.samples.iter().map(|sample| sample.key.as_str()).collect();
    assert_eq!(keys, ["1", "6"]);
    for (message, (row, reason)) in benchmark.broken.iter().zip([
        (3, "expected 5 cells, as the header has, found 4"),
        (4, "field `question`: expected UTF-8 text"),
        (5, "found 6"),
        (6, "field `answer`: expected at least one answer, found 0"),
    ]) {
        assert!(message.message.contains(&format!("x.csv, row {row}")) && message.message.contains(reason), "{message:?}");
    }
}

#[test]
fn what_is_wrong_with_a_file_ends_the_reading() {
    let fields = format!("[data]\nfiles = [\"NAME\"]\n{FIELDS}");
    let cut = JSON.get(..JSON.len() - 10).unwrap();
    for (name, member, content, reason) in [
        ("x.json", "", cut.to_owned(), "the end of the file"),
        ("x.json", "", format!("{JSON} "), ""),
        ("x.json", "", "{\"a\": 1} x".to_owned(), "another object"),
        ("x.json", "", "3".to_owned(), "something else"),
        ("x.json", "", String::new(), "nothing"),
        ("x.json", "", "[]".to_owned(), "at least one row"),
        ("x.json", "member = \"rows\"\n", format!("{{\"other\": 1, \"data\": {JSON}}}"), "the members [\"other\", \"data\"]"),
        ("x.json", "rows = [3]\n", JSON.to_owned(), "expected 3 rows, found 2 rows"),
        (
            "x.csv",
            "",
            "id,question\n1,q\n".to_owned(),
            "expected a column \"answer\", found only the columns [\"id\", \"question\"]",
        ),
        ("x.csv", "", "id,id\n1,2\n".to_owned(), "\"id\" twice"),
        ("x.parquet", "", "no parquet".to_owned(), "a parquet file"),
        ("x.txt", "", "x".to_owned(), "another ending"),
        ("x-*.json", "", String::new(), "x-*.json"),
    ] {
        let folder = Folder::new(&vqa(&fields.replace("NAME", name).replacen("root", &format!("{member}root"), 1)));
        if !name.contains('*') {
            folder.write(name, &content);
        }
        match folder.load() {
            Err(message) => assert!(!reason.is_empty() && message.contains(reason), "{name} {content}: {message}"),
            Ok(_) => assert_eq!(reason, "", "{name} {content}"),
        }
    }
}

#[test]
fn prompts_have_options_context_and_marks() {
    let folder = Folder::new(&toml(
        "[data]\nroot = \".\"\nformat = \"table\"\nfiles = [\"x.tsv\"]\nkey = \"{index}\"\nquestion = \"{question}\"\ncontext = \"{hint}\"\n\
             images = [\"{image_1}\", \"{image_2}\"]\nocr_tokens = \"tokens\"\n[data.reference]\nkind = \"answers\"\nanswers = \"answer\"",
        "template = \"{context}{question}\\nTokens: {ocr_tokens}\"\ncontext = \"Hint: {context}\\n\"\nwithout_context = \"No hint.\\n\"\n\
             image_mark = \"<image {number}>\"\nremove = [\" Please.\"]",
        VQA.1,
    ));
    folder.write(
        "x.tsv",
        "index\tquestion\thint\timage_1\timage_2\ttokens\tanswer\n1\tSee <image 2>. Please.\tlook\ta.png\tb.png\t['x', 'y']\tz\n\
         2\tSee.\t\ta.png\t\t[]\tz\n",
    );
    let benchmark = good(&folder);
    let [first, second] = benchmark.samples.as_slice() else { panic!("not two samples") };
    assert_eq!(first.prompt, "<image>\nHint: look\nSee <image>.\nTokens: x, y");
    assert_eq!(first.question, "See <image 2>. Please.");
    assert!(first.conversation.images_at_marks && first.images.len() == 2);
    assert_eq!(second.prompt, "No hint.\nSee.\nTokens: ");
    assert!(!second.conversation.images_at_marks && second.images.len() == 1);
}

#[test]
fn what_is_wrong_in_the_toml_file_is_said_with_its_place() {
    let good = vqa(&format!("[data]\nfiles = [\"x.json\"]\n{FIELDS}"));
    for (from, to, reason) in [
        ("key = \"{id}\"", "key = \"id\"", "the same for all rows"),
        ("key = \"{id}\"", "", "needs the field `key`"),
        ("images = [", "image = \"{image}\"\nimages = [", "the field `image` has no use with the format `table`"),
        ("answers = \"answer\"", "answer = \"answer\"", "the field `answer` has no use with the reference `answers`"),
        ("kind = \"answers\"", "kind = \"answer\"", "unknown variant"),
        ("kind = \"answers\"\nanswers = \"answer\"\nrepeat = 10", "kind = \"yes-no\"\nanswer = \"answer\"", "cannot score"),
        ("repeat = 10", "repeat = 0", "expected 1 to 1000"),
        ("{question} Shortly.", "{question} {options} {hint}", "{hint}"),
        ("files = [\"x.json\"]", "files = []", "at least one file"),
        ("files = [\"x.json\"]", "files = [\"x.json\"]\nhub = \"lmms-lab/POPE\"", "datasets/lmms-lab/POPE"),
        ("{image_id:03}", "{image_id:3}", "width"),
    ] {
        assert!(good.contains(from), "{from}");
        let folder = Folder::new(&good.replacen(from, to, 1));
        let message = folder.load().unwrap_err();
        assert!(message.contains(reason) && (message.contains("line ") || message.contains("TOML")), "{to}: {message}");
    }
}

#[test]
fn the_first_form_that_is_there_is_read() {
    use llava_gauge::benchmark::DataChoice;
    let form = |name: &str, file: &str, more: &str| format!("[[data]]\nform = \"{name}\"\nfiles = [\"{file}\"]\n{more}{FIELDS}");
    let cache = tempfile::tempdir().unwrap();
    let folder = Folder::new(&vqa(&format!(
        "{}\n{}",
        form("official", "x.json", "obtain = \"the page of x\"\n"),
        form("parquet", "x-*.csv", "hub = \"datasets/some/Set\"\nobtain = \"a command\"\n")
    )));
    let load = |form: Option<&str>| {
        let choice = DataChoice { data: None, form, hub_cache: Some(cache.path()) };
        Benchmark::load_chosen(folder.path("benchmark.toml").to_str().unwrap(), &choice).map_err(|error| error.to_string())
    };
    let message = load(None).unwrap_err();
    for part in [
        "the form official: looked in",
        "no such file as x.json",
        "the page of x",
        "the form parquet",
        "datasets--some--Set",
        "a command",
        "--data",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(load(Some("tsv")).unwrap_err().contains("official, parquet"));
    let csv = "id,question,image_id,kind,answer\n1,What?,7,open,\"a, \"\"b\"\"\"\n2,\"Where\nis it?\",7,other,ü]\n";
    let snapshot = cache.path().join("datasets--some--Set/snapshots/abc");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::write(snapshot.join("x-1.csv"), csv).unwrap();
    let by_hub = load(None).unwrap();
    assert_eq!((by_hub.spec.data.form.as_str(), &by_hub.data_root), ("parquet", &snapshot));
    folder.write("x.json", JSON);
    let official = load(None).unwrap();
    assert_eq!(official.spec.data.form, "official");
    assert_eq!(official.samples_sha256(), by_hub.samples_sha256());
    assert_eq!(load(Some("parquet")).unwrap().data_root, snapshot);
    // A file given by hand is the form of its kind.
    let elsewhere = Folder::new("");
    let file = elsewhere.write("mine.csv", csv);
    let given = Benchmark::load(folder.path("benchmark.toml").to_str().unwrap(), Some(&file)).unwrap();
    assert_eq!((given.spec.data.form.as_str(), given.samples.len()), ("parquet", 2));
}
