//! The built-in benchmarks of captions and of regions, each form of their data, on small files of the same make; pickles that are
//! no data; and scoring from the command line.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod table_support;

use std::path::{Path, PathBuf};

use llava_gauge::benchmark::{Benchmark, DataChoice, PixelBox, Reference, Sample, SampleImage, ScorerRule};
use parquet::basic::Compression;
use serde_json::json;
use table_support::{Column, Folder, png, write_parquet};

const QUESTION: &str = "Provide a one-sentence caption for the provided image.";

/// A folder with the TOML file of a built-in benchmark, which then permits any number of rows.
fn built_in(name: &str) -> Folder {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("benchmarks/{name}.toml"));
    let text = std::fs::read_to_string(path).unwrap();
    let mut kept = String::new();
    for line in text.lines().filter(|line| !line.starts_with("rows = ")) {
        match line.split_once(", rows = [") {
            Some((before, _)) => kept.push_str(&format!("{before} }},\n")),
            None => kept.push_str(&format!("{line}\n")),
        }
    }
    Folder::new(&kept)
}

fn load(folder: &Folder, form: &str) -> Result<Benchmark, String> {
    let choice = DataChoice { form: Some(form), ..DataChoice::default() };
    Benchmark::load_chosen(folder.path("benchmark.toml").to_str().unwrap(), &choice).map_err(|error| error.to_string())
}

fn captions(sample: &Sample) -> Vec<&str> {
    match &sample.reference {
        Reference::Answers { answers } => answers.iter().map(String::as_str).collect(),
        other => panic!("{other:?}"),
    }
}

fn file_of(sample: &Sample) -> String {
    match &sample.images[0] {
        SampleImage::File(path) => path.display().to_string(),
        SampleImage::Embedded(image) => panic!("{image:?}"),
    }
}

/// Key, category and captions of each sample, after a check of what all have in common.
fn summary(benchmark: &Benchmark) -> Vec<(String, Option<String>, Vec<String>)> {
    assert!(benchmark.broken.is_empty(), "{:?}", benchmark.broken);
    let one = |sample: &Sample| {
        assert_eq!((sample.prompt.as_str(), sample.question.as_str()), (QUESTION, QUESTION));
        assert_eq!((&sample.cluster, sample.images.len()), (&sample.key, 1));
        (sample.key.clone(), sample.category.clone(), captions(sample).into_iter().map(str::to_owned).collect())
    };
    benchmark.samples.iter().map(one).collect()
}

fn rows(rows: &[(&str, Option<&str>, &[&str])]) -> Vec<(String, Option<String>, Vec<String>)> {
    let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    rows.iter().map(|(key, category, texts)| ((*key).to_owned(), category.map(str::to_owned), own(texts))).collect()
}

fn embedded(count: u8) -> Column {
    Column::Image("image", (0..count).map(|index| Some((Some(png(4, 3, [index, 0, 0])), Some("x.png".to_owned())))).collect())
}

fn texts(rows: &[&[&str]]) -> Vec<Vec<String>> {
    rows.iter().map(|row| row.iter().map(|text| (*text).to_owned()).collect()).collect()
}

#[test]
fn coco_captions_come_in_three_forms_with_the_same_keys() {
    let folder = built_in("coco_caption_val2014");
    let official = json!({
        "info": {}, "licenses": [],
        "images": [
            {"id": 391895, "file_name": "COCO_val2014_000000391895.jpg", "height": 360, "width": 640},
            {"id": 42, "file_name": "COCO_val2014_000000000042.jpg", "height": 480, "width": 640},
        ],
        "annotations": [
            {"id": 1, "image_id": 42, "caption": "A shoe rack."},
            {"id": 2, "image_id": 391895, "caption": "A man on a motorcycle."},
            {"id": 3, "image_id": 42, "caption": "Shoes\n"},
        ],
    });
    folder.write("coco/annotations/captions_val2014.json", official.to_string());
    let karpathy = json!({"dataset": "coco", "images": [
        {"filepath": "val2014", "filename": "COCO_val2014_000000391895.jpg", "imgid": 0, "cocoid": 391895, "split": "test",
         "sentids": [7], "sentences": [{"raw": "A man on a motorcycle.", "tokens": ["a"], "imgid": 0, "sentid": 7}]},
        {"filepath": "train2014", "filename": "COCO_train2014_000000000009.jpg", "imgid": 1, "cocoid": 9, "split": "train",
         "sentids": [8], "sentences": [{"raw": "Not asked.", "tokens": [], "imgid": 1, "sentid": 8}]},
        {"filepath": "val2014", "filename": "COCO_val2014_000000000042.jpg", "imgid": 2, "cocoid": 42, "split": "restval",
         "sentids": [9, 10], "sentences": [{"raw": "A shoe rack."}, {"raw": "Shoes\n"}]},
    ]});
    folder.write("coco/dataset_coco.json", karpathy.to_string());
    let columns = [
        Column::Text(
            "question_id",
            vec![Some("COCO_val2014_000000391895.jpg".to_owned()), Some("COCO_val2014_000000000042.jpg".to_owned())],
        ),
        embedded(2),
        Column::Text("question", vec![Some("Please carefully observe".to_owned()), None]),
        Column::Texts("answer", texts(&[&["A man on a motorcycle."], &["A shoe rack.", "Shoes\n"]])),
        Column::Integer("id", vec![391895, 42]),
    ];
    write_parquet(&folder.path("coco_caption/data/val-00000-of-00001.parquet"), &columns, 1, Compression::SNAPPY);
    let expected = rows(&[("391895", None, &["A man on a motorcycle."]), ("42", None, &["A shoe rack.", "Shoes\n"])]);
    for form in ["official", "karpathy", "parquet"] {
        let benchmark = load(&folder, form).unwrap();
        assert_eq!(summary(&benchmark), expected, "{form}");
        assert_eq!(benchmark.spec.scorer.rule, ScorerRule::Caption);
        if form != "parquet" {
            assert!(file_of(&benchmark.samples[0]).ends_with("coco/val2014/COCO_val2014_000000391895.jpg"), "{form}");
        }
    }
    // The first form whose files are there is read without a choice.
    assert_eq!(summary(&folder.load().unwrap()), expected);
}

#[test]
fn karpathy_s_splits_take_only_their_images() {
    for (name, root, file, id, key) in [
        ("coco_caption_karpathy", "coco", "dataset_coco.json", json!({"cocoid": 5}), "5"),
        ("flickr30k", "flickr30k", "dataset_flickr30k.json", json!({}), "1007129816.jpg"),
    ] {
        let folder = built_in(name);
        let image = |split: &str, filename: &str| {
            let mut row =
                json!({"filename": filename, "split": split, "sentences": [{"raw": "A \u{201c}man\u{201d}."}, {"raw": "Two."}]});
            row.as_object_mut().unwrap().extend(id.as_object().unwrap().clone());
            row
        };
        let images = json!({"images": [image("train", "1.jpg"), image("test", "1007129816.jpg"), image("val", "2.jpg")]});
        folder.write(&format!("{root}/{file}"), images.to_string());
        let benchmark = load(&folder, "karpathy").unwrap();
        assert_eq!(summary(&benchmark), rows(&[(key, None, &["A \u{201c}man\u{201d}.", "Two."])]), "{name}");
        assert!(file_of(&benchmark.samples[0]).ends_with("1007129816.jpg"));
    }
}

#[test]
fn other_captions_are_read_from_their_files_and_from_parquet() {
    let folder = built_in("coco_caption_val2017");
    let official =
        json!({"images": [{"id": 7, "file_name": "000000000007.jpg"}], "annotations": [{"image_id": 7, "caption": "One."}]});
    folder.write("coco/annotations/captions_val2017.json", official.to_string());
    let columns = [embedded(1), Column::Integer("id", vec![7]), Column::Texts("answer", texts(&[&["One."]]))];
    write_parquet(&folder.path("coco_caption2017/data/val-0.parquet"), &columns, 9, Compression::ZSTD(Default::default()));
    for form in ["official", "parquet"] {
        assert_eq!(summary(&load(&folder, form).unwrap()), rows(&[("7", None, &["One."])]), "{form}");
    }

    let folder = built_in("flickr30k_all");
    folder.write("flickr30k/results_20130124.token", "a.jpg#0\tTwo men .\nb.jpg#0\tA #1 dog .\n\na.jpg#1\tMen\n");
    let columns = [
        embedded(2),
        Column::Texts("caption", texts(&[&["Two men .", "Men"], &["A #1 dog ."]])),
        Column::Text("filename", vec![Some("a.jpg".to_owned()), Some("b.jpg".to_owned())]),
    ];
    write_parquet(&folder.path("flickr30k_all/data/test-0.parquet"), &columns, 9, Compression::SNAPPY);
    for form in ["official", "parquet"] {
        let expected = rows(&[("a.jpg", None, &["Two men .", "Men"]), ("b.jpg", None, &["A #1 dog ."])]);
        assert_eq!(summary(&load(&folder, form).unwrap()), expected, "{form}");
    }

    let folder = built_in("nocaps");
    let official = json!({
        "images": [{"id": 0, "open_images_id": "x", "file_name": "x.jpg", "domain": "near-domain"},
                   {"id": 1, "open_images_id": "y", "file_name": "y.jpg", "domain": "out-domain"}],
        "annotations": [{"image_id": 1, "caption": "Y."}, {"image_id": 0, "caption": "X."}],
    });
    folder.write("nocaps/nocaps_val_4500_captions.json", official.to_string());
    let columns =
        [embedded(2), Column::Integer("image_id", vec![0, 1]), Column::Texts("annotations_captions", texts(&[&["X."], &["Y."]]))];
    write_parquet(&folder.path("nocaps/data/validation-0.parquet"), &columns, 9, Compression::SNAPPY);
    let expected = rows(&[("0", Some("near-domain"), &["X."]), ("1", Some("out-domain"), &["Y."])]);
    assert_eq!(summary(&load(&folder, "official").unwrap()), expected);
    assert_eq!(summary(&load(&folder, "parquet").unwrap()), rows(&[("0", None, &["X."]), ("1", None, &["Y."])]));

    let folder = built_in("textcaps");
    let row = |image: &str, caption: &str| json!({"image_id": image, "caption_str": caption, "reference_strs": ["x"], "set_name": "val"});
    folder.write(
        "textcaps/TextCaps_0.1_val.json",
        json!({"data": [row("a", "One"), row("b", "Two"), row("a", "Three")]}).to_string(),
    );
    let columns = [
        embedded(2),
        Column::Text("image_id", vec![Some("a".to_owned()), Some("b".to_owned())]),
        Column::Texts("caption_str", texts(&[&["One", "Three"], &["Two"]])),
    ];
    write_parquet(&folder.path("textcaps/data/val-0.parquet"), &columns, 9, Compression::SNAPPY);
    for form in ["official", "parquet"] {
        let benchmark = load(&folder, form).unwrap();
        assert_eq!(summary(&benchmark), rows(&[("a", None, &["One", "Three"]), ("b", None, &["Two"])]), "{form}");
    }
    assert!(file_of(&load(&folder, "official").unwrap().samples[0]).ends_with("textcaps/train_images/a.jpg"));
}

#[test]
fn captions_of_test_splits_are_withheld() {
    let folder = built_in("nocaps_test");
    folder.write(
        "nocaps/nocaps_test_image_info.json",
        json!({"images": [{"id": 3, "file_name": "z.jpg", "domain": "in-domain"}]}).to_string(),
    );
    write_parquet(
        &folder.path("nocaps/data/test-0.parquet"),
        &[embedded(1), Column::Integer("image_id", vec![3])],
        9,
        Compression::SNAPPY,
    );
    let textcaps = built_in("textcaps_test");
    textcaps.write("textcaps/TextCaps_0.1_test.json", json!({"data": [{"image_id": "3"}]}).to_string());
    let columns = [embedded(1), Column::Text("image_id", vec![Some("3".to_owned())])];
    write_parquet(&textcaps.path("textcaps/data/test-0.parquet"), &columns, 9, Compression::SNAPPY);
    for folder in [&folder, &textcaps] {
        for form in ["official", "parquet"] {
            let benchmark = load(folder, form).unwrap();
            assert_eq!((benchmark.samples.len(), benchmark.samples[0].key.as_str()), (1, "3"));
            assert_eq!(benchmark.samples[0].reference, Reference::Withheld, "{form}");
        }
    }
    folder.write(
        "nocaps/nocaps_test_image_info.json",
        json!({"images": [{"id": 3, "file_name": "z.jpg"}], "annotations": [{"image_id": 3, "caption": "x"}]}).to_string(),
    );
    assert!(load(&folder, "official").unwrap_err().contains("withheld"));
}

#[test]
fn what_is_wrong_in_files_of_captions_is_said_with_file_and_row() {
    let folder = built_in("coco_caption_val2014");
    let image = json!({"id": 1, "file_name": "a.jpg"});
    for (file, parts) in [
        (json!({"images": [image], "annotations": []}), ["row 1", "at least one caption", "\"1\""]),
        (
            json!({"images": [image, image], "annotations": [{"image_id": 1, "caption": "x"}]}),
            ["row 2", "each image once", "row 1"],
        ),
        (json!({"images": [image], "annotations": [{"image_id": 2, "caption": "x"}]}), ["row 1", "image_id", "\"2\""]),
        (json!({"images": [image], "annotations": [{"image_id": 1, "text": "x"}]}), ["row 1", "caption", "image_id"]),
        (json!({"images": [image], "annotations": [{"image_id": 1, "caption": 5}]}), ["row 1", "caption", "5"]),
        (
            json!({"images": [{"id": 1, "file_name": "../a.jpg"}], "annotations": [{"image_id": 1, "caption": "x"}]}),
            ["row 1", "below the data folder", ".."],
        ),
        (json!({"images": [image]}), ["annotations", "captions_val2014.json", "images"]),
        (json!({"images": [], "annotations": []}), ["at least one row", "0 rows", "captions_val2014.json"]),
        (json!([1]), ["captions_val2014.json", "JSON object", "array"]),
    ] {
        folder.write("coco/annotations/captions_val2014.json", file.to_string());
        let message = load(&folder, "official").unwrap_err();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
    let folder = built_in("flickr30k_all");
    for line in ["a.jpg#0 no tab", "a.jpg\tno number", "a.jpg#x\tno number"] {
        folder.write("flickr30k/results_20130124.token", format!("b.jpg#0\tFine\n{line}\n"));
        let message = load(&folder, "official").unwrap_err();
        assert!(message.contains("results_20130124.token, row 2") && message.contains("a tab and a caption"), "{message}");
    }
}

/// The small files in the form of RefCOCO's release.
fn release() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/benchmark/refcoco_refs")
}

/// A folder with RefCOCO's two forms; the pickle in the protocol of its name.
fn refcoco(name: &str, pickle: &str, by: &str) -> Folder {
    let folder = built_in(name);
    let set = name.trim_end_matches("_caption");
    let file = |name: &str| std::fs::read(release().join(name)).unwrap();
    folder.write(&format!("refcoco/{set}/refs({by}).p"), file(pickle));
    folder.write(&format!("refcoco/{set}/instances.json"), file("instances.json"));
    let expected: serde_json::Value = serde_json::from_slice(&file("expected.json")).unwrap();
    for split in ["val", "testA"] {
        folder.write(&format!("refcoco/{set}_{split}.json"), expected[split].to_string());
    }
    let toml = std::fs::read_to_string(folder.path("benchmark.toml")).unwrap();
    // There is nothing of testB here.
    let toml = toml.replace(", \"testB\"]", "]");
    let toml: String = toml.lines().filter(|line| !line.contains("name = \"testB\"")).map(|line| format!("{line}\n")).collect();
    folder.write("benchmark.toml", toml);
    folder
}

#[test]
fn the_released_pickles_give_the_samples_of_minigpt_4_s_files() {
    for (name, pickle) in [("refcoco", "refs(unc).p"), ("refcoco+", "refs(umd).p")] {
        let folder = refcoco(name, pickle, "unc");
        let official = load(&folder, "official").unwrap();
        let refs = load(&folder, "refs").unwrap();
        assert_eq!(official.samples.len(), 6, "{name}");
        assert_eq!(official.samples, refs.samples, "{name}");
        let keys: Vec<&str> = refs.samples.iter().map(|sample| sample.key.as_str()).collect();
        assert_eq!(keys, ["val/0", "val/1", "val/2", "val/3", "testA/0", "testA/1"]);
        assert_eq!(refs.samples[5].question, "caf\u{e9} table \u{201c}left\u{201d}");
        let region = PixelBox { x1: 10.0, y1: 0.0, x2: 20.0, y2: 100.0 };
        assert_eq!(refs.samples[5].reference, Reference::Region { region, width: 51, height: 100 });
        assert!(file_of(&refs.samples[5]).ends_with("refcoco/train2014/COCO_train2014_000000000500.jpg"));
    }
}

#[test]
fn regions_are_described_from_their_place_in_the_padded_square() {
    for (name, pickle) in [("refcoco_caption", "refs(umd).p"), ("refcoco+_caption", "refs(unc).p")] {
        let folder = refcoco(name, pickle, "unc");
        let (official, refs) = (load(&folder, "official").unwrap(), load(&folder, "refs").unwrap());
        assert_eq!(official.samples, refs.samples, "{name}");
        let first = &refs.samples[0];
        assert_eq!(
            (first.key.as_str(), first.cluster.as_str()),
            ("val/COCO_train2014_000000000900_1", "COCO_train2014_000000000900")
        );
        assert_eq!(first.prompt, "Please provide a short description for this region: [0.0, 0.17, 1.0, 0.5].");
        assert_eq!(captions(first), ["upper half", "bowl of carrots", "bowl of carrots"]);
        assert_eq!(refs.samples.len(), 3);
        assert_eq!(refs.spec.scorer.rule, ScorerRule::Caption);
    }
    let folder = refcoco("refcocog_caption", "refs(umd).p", "umd");
    let toml = std::fs::read_to_string(folder.path("benchmark.toml")).unwrap().replace("[\"val\", \"test\"]", "[\"testA\"]");
    folder.write("benchmark.toml", toml);
    assert_eq!(load(&folder, "refs").unwrap().samples[0].question, "[0.34, 0.0, 0.44, 1.0]");
}

#[test]
fn spoilt_and_hostile_pickles_are_refused() {
    let folder = refcoco("refcoco", "refs(umd).p", "unc");
    let good = std::fs::read(release().join("refs(umd).p")).unwrap();
    let refused = |bytes: &[u8]| {
        folder.write("refcoco/refcoco/refs(unc).p", bytes);
        load(&folder, "refs").unwrap_err()
    };
    assert!(refused(b"cposix\nsystem\n(S'touch x'\ntR.").contains("names posix.system"));
    assert!(refused(b"\x80\x02}q\x00.").contains("expected a list of references, found a dictionary"));
    assert!(refused(b"\x80\x02]q\x00.").contains("references of the split \"val\""));
    assert!(refused(b"\x80\x02]K\x01a.").contains("refs(unc).p, row 1"));
    assert!(refused(b"").contains("ends in the middle"));
    for end in (0..good.len() - 1).step_by(7) {
        let message = refused(&good[..end]);
        assert!(message.contains("no pickle of plain data"), "{end}: {message}");
    }
    // Whatever byte is spoilt, the answer is samples or an error.
    for at in (0..good.len()).step_by(3) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x15;
        folder.write("refcoco/refcoco/refs(unc).p", &bytes);
        let _ = load(&folder, "refs");
    }
    folder.write("refcoco/refcoco/refs(unc).p", &good);
    let instances = std::fs::read_to_string(release().join("instances.json")).unwrap();
    for (from, to, part) in [
        ("\"id\": 13,", "\"id\": 99,", "ann_id"),
        ("\"image_id\": 500", "\"image_id\": 501", "image_id"),
        ("[10, 0, 10, 100]", "[10, 0, 90, 100]", "bbox"),
    ] {
        folder.write("refcoco/refcoco/instances.json", instances.replacen(from, to, 1));
        let message = load(&folder, "refs").unwrap_err();
        assert!(message.contains(part) && message.contains("row "), "{message}");
    }
}

#[test]
fn captions_are_scored_from_the_command_line_in_the_servers_form() {
    let folder = built_in("coco_caption_val2014");
    let names = ["a man rides a wave on a surfboard", "two dogs play in the snow", "a red bus stops at the corner"];
    let images: Vec<_> = (0..3).map(|id| json!({"id": id, "file_name": format!("{id}.jpg")})).collect();
    let annotations: Vec<_> = names.iter().enumerate().map(|(id, text)| json!({"image_id": id, "caption": text})).collect();
    folder.write("coco/annotations/captions_val2014.json", json!({"images": images, "annotations": annotations}).to_string());
    let answers: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(id, text)| json!({"image_id": id, "caption": format!("{}.", text.to_uppercase())}))
        .collect();
    let predictions = folder.write("results.json", json!(answers).to_string());
    let output = assert_cmd::Command::cargo_bin("llava-gauge")
        .unwrap()
        .args([
            "score",
            folder.path("benchmark.toml").to_str().unwrap(),
            "--json",
            "--predictions",
            predictions.to_str().unwrap(),
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let scores: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(scores["scorer"], "caption/1");
    for (metric, expected) in [("cider", 1000.0), ("bleu4", 100.0), ("bleu1", 100.0), ("rouge_l", 100.0)] {
        let value = scores["metrics"][metric]["value"].as_f64().unwrap();
        // BLEU adds 1e-9 to its counts.
        assert!((value - expected).abs() < 1e-5, "{metric}: {value}");
    }
    assert_eq!(scores["metrics"]["cider"]["primary"], true);
}
