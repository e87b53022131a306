//! Damaged and hostile tables: errors and broken rows, never a panic that reaches anyone; round trips of generated rows; and, on
//! request, a million rows.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod table_support;

use llava_gauge::benchmark::{Benchmark, DataChoice, ImageStore, Reference, SampleImage};
use parquet::basic::Compression;
use proptest::prelude::*;
use serde_json::{Value, json};
use table_support::{Column, Folder, base64, png, texts, toml, write_parquet};

fn own(file: &str) -> Folder {
    Folder::new(&toml(
        &format!(
            "[data]\nroot = \".\"\nformat = \"table\"\nfiles = [\"{file}\"]\nkey = \"{{id}}\"\nquestion = \"{{question}}\"\n\
             images = [\"{{image}}\"]\n[data.reference]\nkind = \"answers\"\nanswers = \"answers\""
        ),
        "template = \"{question}\"",
        "kind = \"vqa\"\nvariant = \"official\"",
    ))
}

/// Reads everything, pictures too; what goes wrong is an error, and the number of rows told stays small.
fn read_all(folder: &Folder) -> Result<usize, String> {
    let benchmark = folder.load()?;
    let store = ImageStore::default();
    for image in benchmark.samples.iter().flat_map(|sample| &sample.images) {
        if let SampleImage::Embedded(image) = image {
            store.read(image).map_err(|error| error.to_string())?;
        }
    }
    Ok(benchmark.samples.len() + benchmark.broken.len())
}

fn parquet_bytes(compression: Compression) -> (Folder, Vec<u8>) {
    let folder = own("x.parquet");
    let columns = [
        Column::Integer("id", (0..40).collect()),
        Column::Text("question", (0..40).map(|index| (index % 7 > 0).then(|| format!("question {index}"))).collect()),
        Column::Image(
            "image",
            (0..40).map(|index| (index % 5 > 0).then(|| (Some(png(3, 3, [index as u8, 0, 0])), None))).collect(),
        ),
        Column::Texts("answers", (0..40).map(|index| vec!["a".to_owned(); index % 4]).collect()),
    ];
    write_parquet(&folder.path("x.parquet"), &columns, 16, compression);
    let bytes = std::fs::read(folder.path("x.parquet")).unwrap();
    assert_eq!(read_all(&folder), Ok(40));
    (folder, bytes)
}

#[test]
fn a_cut_parquet_file_is_an_error() {
    let (folder, bytes) = parquet_bytes(Compression::SNAPPY);
    for length in (0..bytes.len()).step_by(bytes.len() / 60).chain([bytes.len() - 1, bytes.len() - 4, bytes.len() - 8]) {
        folder.write("x.parquet", &bytes[..length]);
        let message = read_all(&folder).unwrap_err();
        assert!(message.contains("x.parquet") && message.contains("parquet"), "{length}: {message}");
    }
    let mut magic = bytes.clone();
    magic.splice(..4, *b"NOPE");
    let end = magic.len() - 4;
    magic.splice(end.., *b"NOPE");
    folder.write("x.parquet", magic);
    assert!(read_all(&folder).unwrap_err().contains("expected a parquet file"));
    // A footer that is said to be as long as a file can be.
    let mut footer = bytes;
    let end = footer.len() - 8;
    footer.splice(end..end + 4, u32::MAX.to_le_bytes());
    folder.write("x.parquet", footer);
    assert!(read_all(&folder).is_err());
}

#[test]
fn spoilt_parquet_files_never_end_the_program() {
    // The library says on standard error where it panicked; that is caught, and not of interest here.
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = std::panic::catch_unwind(|| {
        for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY] {
            let (folder, bytes) = parquet_bytes(compression);
            let mut state = 0x9e37_79b9_u64;
            for _ in 0..400 {
                let mut spoilt = bytes.clone();
                for _ in 0..3 {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let place = (state >> 33) as usize % spoilt.len();
                    spoilt[place] = (state >> 20) as u8;
                }
                folder.write("x.parquet", &spoilt);
                if let Ok(rows) = read_all(&folder) {
                    assert!(rows <= 1000, "{rows} rows out of 40");
                }
            }
        }
    });
    std::panic::set_hook(quiet);
    assert!(result.is_ok());
}

#[test]
fn hostile_cells_are_broken_rows() {
    let picture = base64(&png(4, 4, [1, 2, 3]));
    let spoilt = format!("{}$$$", picture.get(..picture.len() - 8).unwrap());
    let folder = own("x.tsv");
    let rows = [
        format!("1\t{picture}\tq\ta"),
        format!("2\t{spoilt}\tq\ta"),
        "3\tdata:image/png,plain\tq\ta".to_owned(),
        "4\t../../etc/passwd\tq\ta".to_owned(),
        "5\t/etc/passwd\tq\ta".to_owned(),
        format!("6\t['{picture}', '{spoilt}']\tq\ta"),
        format!("7\t{}\tq\ta", "A".repeat(5000)),
        "8\ta\0b\tq\ta".to_owned(),
        "9\t\tq".to_owned(),
    ];
    folder.write("x.tsv", format!("id\timage\tquestion\tanswers\n{}\n", rows.join("\n")));
    let benchmark = folder.load().unwrap();
    let keys: Vec<&str> = benchmark.samples.iter().map(|sample| sample.key.as_str()).collect();
    // Row 7 is base64 of nothing known: its question fails when the picture is decoded.
    assert_eq!(keys, ["1", "7"], "{:?}", benchmark.broken);
    let found: Vec<String> = benchmark.broken.iter().map(|row| row.message.clone()).collect();
    for (message, (row, reason)) in found.iter().zip([
        (3, "expected a picture as base64"),
        (4, ""),
        (5, "an image below the data folder"),
        (6, "an image below the data folder"),
        (7, "expected a picture as base64"),
        (9, "an image below the data folder"),
        (10, "expected 4 cells"),
    ]) {
        assert!(message.contains(&format!("x.tsv, row {row},")) && message.contains(reason), "{row} {reason}: {found:?}");
    }
}

#[test]
fn a_quote_that_is_never_closed_is_an_error() {
    let folder = own("x.csv");
    folder.write("x.csv", "id,question,image,answers\n1,q,,a\n2,q,,\"a\n3,q,,a\n4,q,,a\n");
    let message = folder.load().unwrap_err();
    assert!(message.contains("x.csv") && message.contains("a cell of row 3 that is never closed"), "{message}");
    folder.write("x.csv", "id,question,image,answers\n1,5\" pipe,,a\n2,\"q\nr\",,a\"\n");
    assert_eq!(folder.load().unwrap().samples.len(), 2);
}

#[test]
fn pictures_with_classes_or_captions_are_read_from_parquet() {
    let picture = |shade: u8| Some((Some(png(4, 4, [shade, 0, 0])), Some(format!("{shade}.png"))));
    let head = "name = \"own\"\ntitle = \"Own\"\nlicence = \"CC0\"\nsource = \"here\"\n";
    let folder = Folder::new(&format!(
        "{head}[data]\nroot = \".\"\nformat = \"zero-shot\"\nlabels = \"val-*.parquet\"\nclass_names = \"names.json\"\ntemplates = \"templates.json\"\n\
         image = \"{{image}}\"\n[scorer]\nkind = \"zero-shot\"\n"
    ));
    folder.write("names.json", "[\"cat\", \"dog\"]");
    folder.write("templates.json", "[\"a {c}\"]");
    let columns = [Column::Image("image", vec![picture(1), picture(2)]), Column::Integer("label", vec![1, 0])];
    write_parquet(&folder.path("val-1.parquet"), &columns, 1, Compression::SNAPPY);
    let columns = [Column::Image("image", vec![picture(3)]), Column::Text("label", texts(&["dog"]))];
    write_parquet(&folder.path("val-2.parquet"), &columns, 1, Compression::SNAPPY);
    let benchmark = folder.load().unwrap();
    let labels: Vec<(&str, String)> = benchmark
        .samples
        .iter()
        .map(|sample| match &sample.reference {
            Reference::Class { label, .. } => (sample.key.as_str(), label.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(labels, [("1.png", "dog".to_owned()), ("2.png", "cat".to_owned()), ("3.png", "dog".to_owned())]);
    let wrong = [Column::Image("image", vec![None]), Column::Integer("label", vec![1])];
    write_parquet(&folder.path("val-3.parquet"), &wrong, 1, Compression::SNAPPY);
    assert!(folder.load().unwrap_err().contains("val-3.parquet, row 1, field `image`: expected a picture"));

    let folder = Folder::new(&format!(
        "{head}[data]\nroot = \".\"\nformat = \"retrieval\"\ncaptions = \"x.parquet\"\nimage = \"{{image}}\"\n[scorer]\nkind = \"retrieval\"\n"
    ));
    let columns = [
        Column::Image("image", vec![picture(1), picture(2)]),
        Column::Texts("caption", vec![vec!["one".to_owned(), "eins".to_owned()], vec!["two".to_owned()]]),
    ];
    write_parquet(&folder.path("x.parquet"), &columns, 10, Compression::SNAPPY);
    let benchmark = folder.load().unwrap();
    assert_eq!(benchmark.samples.len(), 5);
    assert!(matches!(benchmark.samples[0].images[0], SampleImage::Embedded(_)));
}

/// Cells that could be mistaken for something else.
fn cell() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,12}",
        "[\\PC\n\t\r\"',;\\\\]{0,12}",
        Just("nan".to_owned()),
        Just("\u{feff}x".to_owned()),
        Just("[1, 2]".to_owned()),
        Just("{\"a\": 1}".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn generated_rows_come_back_from_every_kind_of_text_file(cells in prop::collection::vec((cell(), cell()), 1..6)) {
        // An empty cell is no question.
        let rows: Vec<(String, String)> =
            cells.into_iter().map(|(question, answer)| (format!("q{question}"), format!("a{answer}"))).collect();
        let write = |delimiter: u8| {
            let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(Vec::new());
            writer.write_record(["id", "question", "image", "answers"]).unwrap();
            for (index, (question, answer)) in rows.iter().enumerate() {
                writer.write_record([&index.to_string(), question, "", answer]).unwrap();
            }
            writer.into_inner().unwrap()
        };
        let objects: Vec<Value> = rows
            .iter()
            .enumerate()
            .map(|(index, (question, answer))| json!({"id": index, "question": question, "image": null, "answers": answer}))
            .collect();
        let lines: Vec<String> = objects.iter().map(Value::to_string).collect();
        for (name, content) in [
            ("x.csv", write(b',')),
            ("x.tsv", write(b'\t')),
            ("x.jsonl", lines.join("\n").into_bytes()),
            ("x.json", serde_json::to_vec_pretty(&objects).unwrap()),
        ] {
            let folder = own(name);
            folder.write(name, content);
            let benchmark = folder.load().unwrap();
            prop_assert_eq!(&benchmark.broken, &[], "{}", name);
            let found: Vec<(String, String)> = benchmark
                .samples
                .iter()
                .map(|sample| match &sample.reference {
                    Reference::Answers { answers } => (sample.question.clone(), answers.join("|")),
                    other => panic!("{other:?}"),
                })
                .collect();
            prop_assert_eq!(&found, &rows, "{}", name);
        }
    }

    #[test]
    fn any_bytes_are_an_error_or_rows(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0_usize..4) {
        let name = ["x.csv", "x.tsv", "x.jsonl", "x.json"][kind];
        let folder = own(name);
        folder.write(name, &bytes);
        let _ = read_all(&folder);
        // Behind a good beginning.
        let mut begun = [&b"id\tquestion\timage\tanswers\n1\tq\t\ta\n"[..], b"id,question,image,answers\n1,q,,a\n",
            b"{\"id\": 1, \"question\": \"q\", \"image\": null, \"answers\": \"a\"}\n", b"[{\"id\": 1, \"question\": \"q\", "][kind].to_vec();
        begun.extend(&bytes);
        folder.write(name, &begun);
        let _ = read_all(&folder);
    }
}

/// The largest resident set so far in bytes, as Linux tells it.
fn peak_resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) * 1024
}

#[test]
#[ignore = "makes a file of a million rows; run with --release and --ignored"]
fn a_million_rows_stream_in_flat_memory() {
    const ROWS: usize = 1_000_000;
    const GROUP: usize = 10_000;
    let folder = Folder::new(&toml(
        "[data]\nroot = \".\"\nformat = \"table\"\nfiles = [\"x-*.parquet\"]\nkey = \"{id}\"\nquestion = \"{question}\"\n\
         images = [\"images/{image_id:012}.jpg\"]\ncluster = \"{image_id}\"\n[data.reference]\nkind = \"answers\"\nanswers = \"answers\"",
        "template = \"{question}\"",
        "kind = \"vqa\"\nvariant = \"official\"",
    ));
    for shard in 0..ROWS / 100_000 {
        let ids = shard * 100_000..(shard + 1) * 100_000;
        let columns = [
            Column::Integer("id", ids.clone().map(|id| id as i64).collect()),
            Column::Integer("image_id", ids.clone().map(|id| id as i64 / 5).collect()),
            Column::Text("question", ids.clone().map(|id| Some(format!("What is the colour of thing number {id}?"))).collect()),
            Column::Texts("answers", ids.map(|id| vec![format!("answer {}", id % 1000); 10]).collect()),
        ];
        write_parquet(&folder.path(&format!("x-{shard}.parquet")), &columns, GROUP, Compression::SNAPPY);
    }
    let toml = folder.path("benchmark.toml");
    let started = std::time::Instant::now();
    let (mut rows, mut early) = (0_usize, 0);
    let broken = Benchmark::visit(toml.to_str().unwrap(), &DataChoice::default(), &mut |sample| {
        assert!(!sample.prompt.is_empty());
        rows += 1;
        if rows == ROWS / 10 {
            early = peak_resident_bytes();
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    let late = peak_resident_bytes();
    println!(
        "{rows} rows in {seconds:.2} s, {:.0} rows/s; peak {} MB at a tenth, {} MB at the end",
        rows as f64 / seconds,
        early >> 20,
        late >> 20
    );
    assert_eq!((rows, broken.unwrap()), (ROWS, 0));
    assert!(rows as f64 / seconds > 20_000.0);
    assert!(late <= early + (16 << 20), "memory grew from {early} to {late} bytes");
}
