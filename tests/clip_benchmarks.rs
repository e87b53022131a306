//! The formats `zero-shot` and `retrieval`, with what may be wrong in them, and rankings made elsewhere.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use llava_gauge::benchmark::{Benchmark, Query, Reference, RetrievalDirection, ScorerRule, ScorerSpec, Task, predictions};
use llava_gauge::score::score;
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

/// A copy of the small data set without its images.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/clip");
        for entry in std::fs::read_dir(fixtures).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
            }
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn replace(&self, name: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from:?}");
        self.write(name, &text.replacen(from, to, 1));
    }

    fn load(&self, toml: &str) -> Result<Benchmark, String> {
        Benchmark::load(self.path(toml).to_str().unwrap(), None)
            .map_err(|error| error.to_string().replace(&format!("{}/", self.0.path().display()), ""))
    }

    #[track_caller]
    fn refused(&self, toml: &str, parts: &[&str]) {
        let message = self.load(toml).unwrap_err();
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    }
}

#[test]
fn csv_and_json_lines_give_the_same_samples() {
    let folder = Folder::new();
    let csv = folder.load("zero_shot.toml").unwrap();
    folder.replace("zero_shot.toml", "labels.csv", "labels.jsonl");
    let jsonl = folder.load("zero_shot.toml").unwrap();
    assert_eq!(csv.samples_sha256(), jsonl.samples_sha256());
    assert_eq!(csv.samples, jsonl.samples);
    let sample = &csv.samples[0];
    let Reference::Class { label, classes: 7 } = &sample.reference else { panic!("{:?}", sample.reference) };
    assert_eq!((sample.key.as_str(), sample.category.as_ref()), ("00.png", Some(label)));
    let Task::Classify(classes) = &csv.task else { panic!("{:?}", csv.task) };
    assert_eq!(classes.texts(0), ["a photo of a red circle.", "red circle", "the red circle in a picture"]);
    assert!(csv.spec.compares_embeddings());
}

#[test]
fn class_names_and_templates_are_part_of_the_samples() {
    let folder = Folder::new();
    let before = folder.load("zero_shot.toml").unwrap().samples_sha256();
    folder.replace("templates.json", "{c}", "one {c}");
    let templates = folder.load("zero_shot.toml").unwrap().samples_sha256();
    folder.replace("class_names.json", "crane bird", "crane lorry");
    let names = folder.load("zero_shot.toml").unwrap().samples_sha256();
    assert!(before != templates && templates != names, "runs on other classes or templates must not compare");
    let pool = folder.load("retrieval.toml").unwrap().samples_sha256();
    folder.replace("captions.jsonl", ", 0", ", zero");
    assert_ne!(folder.load("retrieval.toml").unwrap().samples_sha256(), pool);
}

#[test]
fn a_class_name_that_stands_twice_needs_an_index() {
    let folder = Folder::new();
    folder.replace("class_names.json", "crane bird", "crane");
    let benchmark = folder.load("zero_shot.toml").unwrap();
    let labels: Vec<_> = benchmark.samples.iter().filter_map(|sample| sample.category.as_deref()).collect();
    assert!(labels.contains(&"crane [3]") || labels.contains(&"crane [5]"), "{labels:?}");
    folder.write("labels.csv", "image,label\n00.png,crane\n");
    folder.replace("zero_shot.toml", "rows = [14]\n", "");
    folder.refused("zero_shot.toml", &["labels.csv, row 2", "`label`", "class_index", "more than once"]);
}

#[test]
fn wrong_labels_are_refused_with_row_and_field() {
    let header = "image,label,class_index\n";
    for (rows, parts) in [
        ("00.png,yellow box,\n", &["row 2", "`label`", "one of the class names of class_names.json", "yellow box"][..]),
        ("00.png,red box,0\n", &["row 2", "either `label` or `class_index`", "both"]),
        ("00.png,,\n", &["row 2", "neither"]),
        ("00.png,,7\n", &["row 2", "`class_index`", "0 to 6", "found 7"]),
        ("00.png,,-1\n", &["row 2", "`class_index`", "a whole number"]),
        (",red box,\n", &["row 2", "`image`"]),
        ("00.png,red box,\n00.png,red box,\n", &["row 3", "each image once", "row 2"]),
        ("../x.png,red box,\n", &["row 2", "`image`", "below the data folder"]),
        ("00.png,red box\n", &["row 2", "CSV"]),
        ("", &["labels.csv", "at least one row"]),
    ] {
        let folder = Folder::new();
        folder.replace("zero_shot.toml", "rows = [14]\n", "");
        folder.write("labels.csv", &format!("{header}{rows}"));
        folder.refused("zero_shot.toml", parts);
    }
    let folder = Folder::new();
    folder.write("labels.csv", "file,class\n");
    folder.refused("zero_shot.toml", &["row 1", "a header with `image`"]);
    let folder = Folder::new();
    folder.replace("zero_shot.toml", "[14]", "[50000]");
    folder.refused("zero_shot.toml", &["50000 rows", "14 rows"]);
}

#[test]
fn wrong_class_names_and_templates_are_refused() {
    for (file, text, parts) in [
        ("class_names.json", "{\"shapes\": []}", &["class_names.json", "at least one"][..]),
        ("class_names.json", "{\"shapes\": [\"a\", \" \"]}", &["no empty text"]),
        ("class_names.json", "{\"shapes\": [1]}", &["class names that are texts"]),
        ("class_names.json", "{\"others\": [\"a\"]}", &["under \"shapes\"", "others"]),
        ("class_names.json", "[\"a\"]", &["an object with \"shapes\""]),
        ("class_names.json", "nonsense", &["class_names.json", "JSON"]),
        ("templates.json", "{\"shapes\": [\"{c}\", \"a photo.\"]}", &["templates.json, row 2", "a text with {c}", "a photo."]),
        ("templates.json", "{\"shapes\": [\"{class}\"]}", &["templates.json, row 1", "{class}"]),
    ] {
        let folder = Folder::new();
        folder.write(file, text);
        folder.refused("zero_shot.toml", parts);
    }
    let folder = Folder::new();
    folder.replace("zero_shot.toml", "set = \"shapes\"\n", "");
    folder.refused("zero_shot.toml", &["picked by `set`", "other", "shapes"]);
    folder.write("class_names.json", "[\"red circle\"]");
    folder.write("templates.json", "[\"{c}\"]");
    folder.write("labels.csv", "image,label\n00.png,red circle\n");
    folder.replace("zero_shot.toml", "rows = [14]\n", "");
    assert_eq!(folder.load("zero_shot.toml").unwrap().samples.len(), 1, "plain lists need no set");
}

#[test]
fn wrong_specifications_are_refused_with_their_place() {
    for (file, from, to, part) in [
        ("zero_shot.toml", "kind = \"zero-shot\"", "kind = \"retrieval\"", "cannot score data of this format"),
        ("zero_shot.toml", "templates = \"templates.json\"\n", "", "the format `zero-shot` needs the field `templates`"),
        ("zero_shot.toml", "set = ", "annotations = \"x\"\nset = ", "`annotations` has no use with the format `zero-shot`"),
        ("zero_shot.toml", "[scorer]", "[generation]\nmax_new_tokens = 5\n\n[scorer]", "`generation` has no use"),
        (
            "zero_shot.toml",
            "kind = \"zero-shot\"",
            "kind = \"zero-shot\"\nprimary_metric = \"f1\"",
            "expected one of the metrics acc@1",
        ),
        ("retrieval.toml", "captions = \"captions.jsonl\"\n", "", "the format `retrieval` needs the field `captions`"),
    ] {
        let folder = Folder::new();
        folder.replace(file, from, to);
        folder.refused(file, &[part, "line "]);
    }
}

#[test]
fn every_image_and_every_caption_is_a_query() {
    let folder = Folder::new();
    folder.write(
        "captions.jsonl",
        &[json!({"image": "a.png", "captions": ["a cat", "it\n sleeps"]}), json!({"image": "b.png", "captions": ["a cat"]})]
            .map(|row| row.to_string())
            .join("\n"),
    );
    let benchmark = folder.load("retrieval.toml").unwrap();
    let keys: Vec<&str> = benchmark.samples.iter().map(|sample| sample.key.as_str()).collect();
    assert_eq!(keys, ["image/a.png", "caption/0", "caption/1", "image/b.png", "caption/2"]);
    let Task::Retrieve(set) = &benchmark.task else { panic!("{:?}", benchmark.task) };
    assert_eq!(set.caption_labels, ["a cat [0]", "it sleeps", "a cat [2]"]);
    assert_eq!(set.queries, [Query::Image(0), Query::Caption(0), Query::Caption(1), Query::Image(1), Query::Caption(2)]);
    let relevant = |sample: usize| match &benchmark.samples[sample].reference {
        Reference::Retrieval { relevant, direction, candidates } => (relevant.clone(), *direction, *candidates),
        other => panic!("{other:?}"),
    };
    let captions = vec!["a cat [0]".to_owned(), "it sleeps".to_owned()];
    assert_eq!(relevant(0), (captions, RetrievalDirection::ImageToText, 3));
    assert_eq!(relevant(4), (vec!["b.png".to_owned()], RetrievalDirection::TextToImage, 2));
    for (row, part) in [
        (json!({"image": "a.png", "captions": []}), "no caption"),
        (json!({"image": "a.png", "captions": ["x", "  "]}), "an empty one"),
        (json!({"image": "a.png", "captions": "x"}), "`captions`"),
        (json!({"captions": ["x"]}), "`image`"),
    ] {
        folder.write("captions.jsonl", &row.to_string());
        folder.refused("retrieval.toml", &["captions.jsonl, row 1", part]);
    }
}

#[test]
fn ranks_count_as_in_clip_benchmark() {
    let scorer = ScorerSpec::new(ScorerRule::ZeroShot);
    let class = |classes| Reference::Class { label: "b".to_owned(), classes };
    let value = |reference: &Reference, text: &str, metric: &str| {
        score(&scorer, reference, text).contributions.get(metric).map(|contribution| contribution.numerator)
    };
    assert_eq!(value(&class(9), "b\na\nc\nd\ne", "acc@1"), Some(1.0));
    assert_eq!(value(&class(9), "a\nc\nd\ne\nb", "acc@5"), Some(1.0));
    assert_eq!(value(&class(9), "a\nc\nd\ne\nf\nb", "acc@5"), Some(0.0));
    assert_eq!(value(&class(9), "a", "acc@5"), None, "one answer does not tell what the second would have been");
    assert_eq!(value(&class(4), "a\nc\nb\nd", "acc@5"), None, "with fewer than five classes there is no acc@5");
    let retrieval = |candidates| Reference::Retrieval {
        direction: RetrievalDirection::ImageToText,
        relevant: vec!["x".to_owned(), "y".to_owned()],
        candidates,
    };
    let scored = score(&ScorerSpec::new(ScorerRule::Retrieval), &retrieval(6), "a\ny\nb\nc\nd");
    let found: Vec<(&str, f64)> = scored.contributions.iter().map(|(name, value)| (name.as_str(), value.numerator)).collect();
    let expected = [("recall@1", 0.0), ("recall@5", 1.0), ("text_retrieval_recall@1", 0.0), ("text_retrieval_recall@5", 1.0)];
    assert_eq!(found, expected, "recall@10 has no meaning among six candidates");
    assert_eq!(scored.detail["rank"], 2);
}

#[test]
fn rankings_made_elsewhere_are_read() {
    let folder = Folder::new();
    let benchmark = folder.load("zero_shot.toml").unwrap();
    let rows: String = benchmark
        .samples
        .iter()
        .enumerate()
        .map(|(index, sample)| {
            let row = match index {
                0 => json!({"key": sample.key, "text": "red box"}),
                _ => json!({"key": sample.key, "ranking": ["red box", "crane"]}),
            };
            format!("{row}\n")
        })
        .collect();
    folder.write("answers.jsonl", &rows);
    let found = predictions::read(&folder.path("answers.jsonl"), &benchmark, false).unwrap();
    assert_eq!((found.found[0].text.as_str(), found.found[1].text.as_str()), ("red box", "red box\ncrane"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn spoilt_files_are_errors_or_samples_and_never_panics(
        file in prop::sample::select(vec![
            ("zero_shot.toml", "labels.csv"),
            ("zero_shot.toml", "class_names.json"),
            ("zero_shot.toml", "templates.json"),
            ("zero_shot.toml", "zero_shot.toml"),
            ("retrieval.toml", "captions.jsonl"),
        ]),
        at in 0.0..1.0_f64,
        bytes in prop::collection::vec(any::<u8>(), 0..4),
        cut in any::<bool>(),
    ) {
        let folder = Folder::new();
        let mut content = std::fs::read(folder.path(file.1)).unwrap();
        let at = ((content.len() as f64) * at) as usize;
        if cut {
            content.truncate(at);
        }
        let end = (at + bytes.len()).min(content.len());
        content.splice(at..end, bytes);
        std::fs::write(folder.path(file.1), content).unwrap();
        if let Ok(benchmark) = folder.load(file.0) {
            for sample in &benchmark.samples {
                if let Reference::Class { label, classes } = &sample.reference {
                    prop_assert!(!label.is_empty() && *classes > 0);
                }
            }
        }
    }
}
