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
