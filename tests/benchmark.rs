//! Benchmarks as a user meets them: built-in and own TOML files, the official data formats with what may be wrong in them,
//! and prediction files of other programs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use llava_gauge::benchmark::predictions::{self, Prediction};
use llava_gauge::benchmark::{
    Benchmark, BenchmarkError, BenchmarkSpec, Conversation, DataFormat, Exchange, PixelBox, Reference, Sample, samples_sha256,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/benchmark")
}

/// The folder of real data files, which lies beside the project where there is one.
fn shared_data() -> Option<PathBuf> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = ["../shared/data", "../../shared/data"].iter().map(|place| project.join(place)).find(|place| place.is_dir());
    if found.is_none() {
        eprintln!("skipped: no folder ../shared/data with the real data files");
    }
    found
}

/// A benchmark in a folder of its own, whose files a test may spoil.
struct Folder(TempDir);

impl Folder {
    /// Copies a benchmark of `fixtures/benchmark`: `<name>.toml` and the files it names.
    fn of(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(fixtures().join(name)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// Changes a JSON file.
    fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut value: Value = serde_json::from_slice(&std::fs::read(self.path(name)).unwrap()).unwrap();
        change(&mut value);
        self.write(name, value.to_string());
    }

    /// Replaces text in a file, which must be there.
    fn replace(&self, name: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from:?}");
        self.write(name, text.replacen(from, to, 1));
    }

    fn load(&self) -> Result<Benchmark, BenchmarkError> {
        Benchmark::load(self.path("benchmark.toml").to_str().unwrap(), None)
    }

    /// The error that loading gives, with the folder's own path cut out.
    fn error(&self) -> String {
        let message = self.load().unwrap_err().to_string();
        message.replace(&format!("{}/", self.0.path().display()), "")
    }

    fn predictions(&self, text: impl AsRef<[u8]>) -> Result<predictions::Predictions, BenchmarkError> {
        predictions::read(&self.write("answers", text), &self.load().unwrap(), false)
    }

    fn prediction_error(&self, text: impl AsRef<[u8]>) -> String {
        let message = self.predictions(text).unwrap_err().to_string();
        message.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

fn texts(predictions: &predictions::Predictions) -> Vec<(&str, &str)> {
    predictions.found.iter().map(|Prediction { key, text }| (key.as_str(), text.as_str())).collect()
}

#[test]
fn every_built_in_benchmark_reads_and_is_called_as_its_file() {
    let specs = BenchmarkSpec::list().unwrap();
    let mut names: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
    for spec in &specs {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benchmarks").join(format!("{}.toml", spec.name));
        let from_file = BenchmarkSpec::parse(&std::fs::read_to_string(&file).unwrap(), &file).unwrap();
        assert_eq!(&from_file, spec);
        assert!(spec.prompt.text().contains("{question}"));
    }
    // No file in the folder is forgotten.
    let mut files: Vec<String> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("benchmarks"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    files.sort();
    assert_eq!(names, files);
}

#[test]
fn shipped_benchmarks_differ_from_the_real_ones_in_name_and_files_only() {
    let specs = BenchmarkSpec::list().unwrap();
    let spec = |name: &str| specs.iter().find(|spec| spec.name == name).unwrap();
    for (shipped, real) in [
        ("pico-vqa", "vqav2"),
        ("pico-pope", "pope"),
        ("pico-textvqa", "textvqa"),
        ("pico-refcoco", "refcoco"),
        ("pico-fineprint", "textvqa"),
        ("pico-vqa-rad", "vqa_rad"),
        ("pico-zeroshot", "imagenet_zero_shot"),
        ("pico-retrieval", "coco_retrieval"),
    ] {
        let (shipped, real) = (spec(shipped), spec(real));
        assert_eq!(shipped.prompt, real.prompt);
        assert_eq!(shipped.scorer, real.scorer);
        assert_eq!(shipped.max_new_tokens, real.max_new_tokens);
        assert_eq!(std::mem::discriminant(&shipped.data.format), std::mem::discriminant(&real.data.format));
    }
}

#[test]
fn shipped_benchmarks_load_with_every_image_in_place() {
    for (name, samples) in [
        ("pico-vqa", 625),
        ("pico-pope", 450),
        ("pico-textvqa", 180),
        ("pico-refcoco", 279),
        ("pico-fineprint", 120),
        ("pico-vqa-rad", 400),
        ("pico-zeroshot", 112),
        // Every image looks for its caption and every caption for its image.
        ("pico-retrieval", 250),
    ] {
        let benchmark = Benchmark::load(name, None).unwrap();
        assert_eq!(benchmark.samples.len(), samples, "{name}");
        for sample in &benchmark.samples {
            assert!(
                sample.images.iter().all(|image| image.file().is_some_and(Path::is_file)),
                "{name} {}: {:?}",
                sample.key,
                sample.images
            );
        }
        assert_eq!(benchmark.samples_sha256().len(), 64);
    }
}

#[test]
fn names_that_are_no_benchmark_are_answered_with_those_that_are() {
    let message = Benchmark::load("vqav3", None).unwrap_err().to_string();
    assert!(message.contains("\"vqav3\"") && message.contains("pope, mme"), "{message}");
    let message = Benchmark::load("missing/own.toml", None).unwrap_err().to_string();
    assert!(message.contains("missing/own.toml"), "{message}");
    let message = Benchmark::load("vqav2", Some(Path::new("nowhere"))).unwrap_err().to_string();
    assert!(message.contains("looked in nowhere") && message.contains("--data"), "{message}");
}

#[test]
fn vqa_samples_join_questions_and_annotations() {
    let benchmark = Folder::of("vqav2").load().unwrap();
    let sample = &benchmark.samples[0];
    assert_eq!((sample.key.as_str(), sample.cluster.as_str()), ("262148000", "262148"));
    assert!(sample.images[0].file().unwrap().ends_with("val2014/COCO_val2014_000000262148.jpg"), "{:?}", sample.images);
    assert_eq!(sample.prompt, format!("{}\nAnswer the question using a single word or phrase.", sample.question));
    assert_eq!(sample.category.as_deref(), Some("other"));
    assert!(matches!(&sample.reference, Reference::Answers { answers } if answers.len() == 10));
    let keys: Vec<&str> = benchmark.samples.iter().map(|sample| sample.key.as_str()).collect();
    assert_eq!(keys, ["262148000", "262148001", "393225000", "393225001"]); // file order of the questions
}

#[test]
fn what_is_wrong_in_vqa_files_is_said_with_file_row_and_field() {
    let row = |list: &'static str, index: usize| move |value: &mut Value| value[list][index].clone();
    let spoil = |file: &str, change: &dyn Fn(&mut Value)| {
        let folder = Folder::of("vqav2");
        folder.edit(file, |value| change(value));
        folder.error()
    };
    let check = |found: String, parts: &[&str]| {
        for part in parts {
            assert!(found.contains(part), "{found:?} has no {part:?}");
        }
    };
    let (questions, annotations) = ("questions.json", "annotations.json");
    check(
        spoil(questions, &|v| {
            let again = row("questions", 1)(v);
            v["questions"].as_array_mut().unwrap().push(again);
        }),
        &["questions.json, row 5, field `question_id`", "262148001 again, first in row 2"],
    );
    check(
        spoil(annotations, &|v| {
            let again = row("annotations", 0)(v);
            v["annotations"].as_array_mut().unwrap().push(again);
        }),
        &["annotations.json, row 5, field `question_id`", "each question once"],
    );
    check(
        spoil(annotations, &|v| drop(v["annotations"].as_array_mut().unwrap().remove(1))),
        &["questions.json, row", "a question that annotations.json annotates", "found"],
    );
    check(
        spoil(questions, &|v| drop(v["questions"].as_array_mut().unwrap().remove(0))),
        &["annotations.json, row", "a question of questions.json", "262148000"],
    );
    check(
        spoil(questions, &|v| v["questions"][2]["image_id"] = json!(7)),
        &["questions.json, row 3, field `image_id`", "expected image 393225 as in annotations.json, found 7"],
    );
    check(
        spoil(annotations, &|v| drop(v["annotations"][0]["answers"].as_array_mut().unwrap().pop())),
        &["annotations.json, row 1, field `answers`: expected 10 answers, found 9"],
    );
    check(
        spoil(annotations, &|v| v["annotations"][0]["answers"][3]["answer_id"] = json!(1)),
        &["row 1, field `answers.answer_id`: expected each annotator once, found 1 twice"],
    );
    check(
        spoil(questions, &|v| v["questions"][1]["question"] = json!(5)),
        &["questions.json, row 2, field `question`: expected a string, found invalid type: integer `5`"],
    );
    check(
        spoil(questions, &|v| drop(v["questions"][1].as_object_mut().unwrap().shift_remove("image_id"))),
        &["questions.json, row 2, field `image_id`: expected a value, found only the members"],
    );
    check(spoil(questions, &|v| *v = json!({ "rows": [] })), &["questions.json", "the array `questions`", "rows"]);
    check(spoil(questions, &|v| *v = json!([])), &["questions.json", "a JSON object with the array `questions`"]);
    check(
        spoil(questions, &|v| {
            for rows in v["questions"].as_array_mut().unwrap() {
                rows["image_id"] = json!("../../../etc/passwd");
            }
        }),
        &["row 1, field `image_id`"],
    );
    let folder = Folder::of("vqav2");
    folder.write(annotations, "{");
    check(folder.error(), &["annotations.json", "EOF"]);
    folder.write(annotations, [0xff, 0xfe]);
    check(folder.error(), &["annotations.json", "UTF-8"]);
    std::fs::remove_file(folder.path(annotations)).unwrap();
    check(folder.error(), &["annotations.json", "no such file"]);
}

#[test]
fn an_image_may_be_missing_but_not_lie_outside_of_the_data() {
    let folder = Folder::of("pope");
    assert!(folder.load().unwrap().samples.iter().all(|sample| !sample.images[0].file().unwrap().exists()));
    for name in ["../outside.jpg", "/etc/passwd", "", "a/../../b.jpg"] {
        let folder = Folder::of("pope");
        let row = json!({ "question_id": 1, "image": name, "text": "Is there a dog in the image?", "label": "yes" });
        folder.write("coco_pope_popular.json", lines(&[row]));
        let message = folder.error();
        assert!(message.contains("coco_pope_popular.json, row 1, field `image`"), "{message}");
    }
}

#[cfg(unix)]
#[test]
fn an_image_may_not_be_a_link_out_of_the_data() {
    let outside = tempfile::NamedTempFile::new().unwrap();
    let folder = Folder::of("pope");
    let image = folder.load().unwrap().samples[0].images[0].file().unwrap().to_path_buf();
    std::fs::create_dir_all(image.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(outside.path(), &image).unwrap();
    assert!(folder.error().contains("an image below the data folder"));
}

#[test]
fn pope_samples_have_their_split_in_key_and_category() {
    let benchmark = Folder::of("pope").load().unwrap();
    let first = &benchmark.samples[0];
    assert_eq!(first.key, "random/1");
    assert_eq!(first.cluster, "COCO_val2014_000000310196.jpg");
    assert_eq!(first.category.as_deref(), Some("random"));
    assert_eq!(first.reference, Reference::YesNo { yes: true });
    let folder = Folder::of("pope");
    folder.replace("coco_pope_random.json", "\"label\": \"no\"", "\"label\": \"No\"");
    let message = folder.error();
    assert!(message.contains("field `label`: expected yes or no, found \"No\""), "{message}");
    let folder = Folder::of("pope");
    folder.replace("coco_pope_random.json", "\"question_id\": 2,", "\"question_id\": 1,");
    assert!(folder.error().contains("row 2, field `question_id`: expected each question once, found 1 again"));
}

#[test]
fn both_releases_of_pope_are_accepted_and_a_cut_file_is_not() {
    let Some(shared) = shared_data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let keep = |rows: usize| {
        for split in ["random", "popular", "adversarial"] {
            let name = format!("coco_pope_{split}.json");
            let text = std::fs::read_to_string(shared.join("pope").join(&name)).unwrap();
            let rows = if split == "random" { rows } else { 3000 };
            let text: String = text.lines().take(rows).map(|line| format!("{line}\n")).collect();
            std::fs::write(folder.path().join(&name), text).unwrap();
        }
        Benchmark::load("pope", Some(folder.path()))
    };
    assert_eq!(keep(3000).unwrap().samples.len(), 9000);
    assert_eq!(keep(2910).unwrap().samples.len(), 8910);
    let message = keep(2909).unwrap_err().to_string();
    assert!(message.contains("expected 2910 or 3000 rows, found 2909 rows"), "{message}");
}

#[test]
fn textvqa_samples_keep_ocr_tokens_for_the_prompt_that_wants_them() {
    let folder = Folder::of("textvqa");
    let benchmark = folder.load().unwrap();
    let sample = &benchmark.samples[0];
    assert_eq!((sample.key.as_str(), sample.cluster.as_str()), ("34602", "003a8ae2ef43b901"));
    assert!(sample.images[0].file().unwrap().ends_with("train_images/003a8ae2ef43b901.jpg"));
    assert_eq!(sample.category, None);
    folder.replace("benchmark.toml", "{question}\\n", "{question}\\nReference OCR token: {ocr_tokens}\\n");
    let prompt = &folder.load().unwrap().samples[0].prompt;
    assert_eq!(
        prompt,
        "what is the brand of this camera?\nReference OCR token: DAKOTA, DIGITAL\nAnswer the question using a single word or phrase."
    );
    folder.replace("benchmark.toml", "annotations =", "ocr = \"ocr.json\"\nannotations =");
    folder.write("ocr.json", r#"{"data":[{"image_id":"003a8ae2ef43b901","ocr_tokens":["A"]},{"image_id":"x","ocr_tokens":[]}]}"#);
    let message = folder.error();
    assert!(message.contains("row 3, field `image_id`: expected an image of ocr.json"), "{message}");
    let folder = Folder::of("textvqa");
    folder.edit("annotations.json", |value| value["data"][1]["answers"] = json!(["a", "b"]));
    assert!(folder.error().contains("row 2, field `answers`: expected 10 answers, found 2"));
}

#[test]
fn refcoco_boxes_become_corners_and_the_image_loses_its_reference_number() {
    let benchmark = Folder::of("refcoco").load().unwrap();
    let sample = &benchmark.samples[0];
    assert_eq!((sample.key.as_str(), sample.cluster.as_str()), ("val/0", "COCO_train2014_000000580957"));
    assert!(sample.images[0].file().unwrap().ends_with("train2014/COCO_train2014_000000580957.jpg"));
    let Reference::Region { region, width, height } = sample.reference else { panic!("{:?}", sample.reference) };
    assert_eq!((width, height), (640, 428));
    assert_eq!((region.x1, region.y1), (468.3, 0.91));
    assert!((region.x2 - 640.0).abs() < 1e-9 && (region.y2 - 117.03).abs() < 1e-9);
    for (field, value, part) in [
        ("bbox", json!([600, 0, 100, 10]), "field `bbox`: expected x, y, width, height of a box within 640 × 428"),
        ("bbox", json!([1, 1, 0, 10]), "field `bbox`"),
        ("bbox", json!([1, 1, 10]), "field `bbox`: expected an array of length 4, found invalid length 3"),
        ("width", json!(0), "at least 1 × 1 pixels, found 0 × 428"),
        ("img_id", json!("nounderscore"), "field `img_id`: expected <image>_<reference>"),
        ("height", json!(-1), "field `height`: expected u32"),
    ] {
        let folder = Folder::of("refcoco");
        folder.edit("refcoco_val.json", |rows| rows[0][field] = value);
        let message = folder.error();
        assert!(message.contains("refcoco_val.json, row 1") && message.contains(part), "{message}");
    }
}

#[test]
fn llava_conversations_keep_earlier_turns_and_places_of_images() {
    let folder = Folder::of("llava_conversations");
    let benchmark = folder.load().unwrap();
    let [plain, pair, turns, late, text] = &benchmark.samples[..] else { panic!("{}", benchmark.samples.len()) };
    assert_eq!((plain.key.as_str(), plain.cluster.as_str(), &plain.conversation), ("1", "a.png", &Conversation::default()));
    assert_eq!(plain.prompt, "What is this?\nAnswer the question using a single word or phrase.");
    assert_eq!(plain.reference, Reference::Answers { answers: vec!["A cat.".to_owned(); 10] });
    assert_eq!((pair.images.len(), pair.cluster.as_str(), pair.category.as_deref()), (2, "a.png b.png", Some("pairs")));
    assert!(pair.conversation.images_at_marks && pair.conversation.earlier.is_empty());
    assert!(pair.images[1].file().unwrap().ends_with("pictures/b.png"), "{:?}", pair.images);
    assert_eq!(pair.question, "<image>\nIs it like <image>?");
    let exchange = Exchange { question: "<image>\nWhat is this?".to_owned(), answer: "A dog.".to_owned() };
    assert_eq!(turns.conversation, Conversation { earlier: vec![exchange], images_at_marks: true });
    assert_eq!((turns.question.as_str(), turns.images.len()), ("Is it red?", 1));
    assert!(late.conversation.images_at_marks && late.conversation.earlier.len() == 1);
    assert_eq!((text.images.len(), text.cluster.as_str()), (0, "text"));
    // One of ten equal annotators: right is 1, all else 0.
    let score =
        |sample: &Sample, answer: &str| llava_gauge::score::score(&benchmark.spec.scorer, &sample.reference, answer).value;
    assert_eq!((score(turns, "Yes."), score(turns, "no")), (Some(1.0), Some(0.0)));
    // JSON Lines are the same.
    let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(folder.path("questions.json")).unwrap()).unwrap();
    folder.write("questions.json", lines(&rows));
    assert_eq!(folder.load().unwrap().samples, benchmark.samples);
    // Whoever answers can hand answers in under the ids.
    let answers: Vec<Value> =
        benchmark.samples.iter().map(|sample| json!({"question_id": sample.key, "prompt": "", "text": "yes"})).collect();
    assert_eq!(folder.predictions(lines(&answers)).unwrap().found.len(), 5);
    // An earlier turn is part of what is asked.
    let sum = benchmark.samples_sha256();
    folder.replace("questions.json", "A dog.", "A hog.");
    assert_ne!(folder.load().unwrap().samples_sha256(), sum);
}

#[test]
fn what_is_wrong_in_llava_conversations_is_said() {
    let cases: [(&str, &str, &str); 9] = [
        (r#""id": 1"#, r#""id": "two""#, "questions.json, row 2, field `id`: expected each conversation once, found two again"),
        (r#""a.png", "conv"#, r#""../a.png", "conv"#, "row 1, field `image`: expected an image below the data folder"),
        (r#""image": "a.png""#, r#""image": 7"#, "row 1, field `image`: expected"),
        (
            "like <image>",
            "like it",
            "row 2, field `conversations`: expected <image> once for each of the 2 images, or nowhere, found 1",
        ),
        ("A cat.\"", "<image>\"", "row 1, field `conversations`: expected no <image> in an answer"),
        (
            r#""gpt", "value": "A cat."}]"#,
            r#""human", "value": "A"}]"#,
            "row 1, field `conversations`: expected turns of human and gpt",
        ),
        (r#", {"from": "gpt", "value": "A cat."}]"#, "]", "the last of gpt, found otherwise from turn 1"),
        (r#"[{"from": "human", "value": "What is this?"}, {"from": "gpt", "value": "A cat."}]"#, "[]", "found no turn"),
        (r#""from": "human""#, r#""from": "system""#, "row 1, field `conversations`: expected"),
    ];
    for (from, to, expected) in cases {
        let folder = Folder::of("llava_conversations");
        folder.replace("questions.json", from, to);
        let error = folder.error();
        assert!(error.contains(expected), "{expected:?} is not in {error:?}");
    }
    let folder = Folder::of("llava_conversations");
    folder.replace("benchmark.toml", "questions = \"questions.json\"", "annotations = \"questions.json\"");
    assert!(folder.error().contains("`annotations` has no use with the format `llava-conversations`"), "{}", folder.error());
    let folder = Folder::of("llava_conversations");
    folder.replace("benchmark.toml", "kind = \"vqa\"\nvariant = \"m4c\"", "kind = \"pope\"");
    assert!(folder.error().contains("cannot score data of this format"));
}

#[test]
fn what_is_wrong_in_a_toml_file_is_said_with_its_line() {
    for (from, to, parts) in [
        ("title =", "titel =", vec!["line 2", "titel"]),
        ("format = \"vqav2\"", "format = \"vqa\"", vec!["line 8", "unknown variant `vqa`"]),
        ("max_new_tokens = 128", "max_new_tokens = 0", vec!["line 18", "expected 1 to 4096 new tokens, found 0"]),
        ("max_new_tokens = 128", "max_new_tokens = \"many\"", vec!["line 18", "invalid type"]),
        ("variant = \"official\"", "", vec!["line 20", "the scorer `vqa` needs the field `variant`"]),
        ("variant = \"official\"", "variant = \"mine\"", vec!["line 22", "unknown variant `mine`"]),
        ("kind = \"vqa\"", "kind = \"grounding\"", vec!["line 21", "cannot score data of this format"]),
        ("kind = \"vqa\"", "kind = \"textvqa\"", vec!["line 22", "the field `variant` has no use"]),
        ("kind = \"vqa\"", "kind = \"vqa\"\nprimary_metric = \"f1\"", vec!["line 22", "vqa_accuracy", "\"f1\""]),
        ("{question}", "{questions}", vec!["line 14", "expected {question}"]),
        ("image_id:012", "image", vec!["line 11", "{image_id}"]),
        ("questions =", "splits = []\nquestions =", vec!["line 9", "the field `splits` has no use with the format `vqav2`"]),
        ("questions = \"questions.json\"", "", vec!["line 6", "needs the field `questions`"]),
        ("name = \"vqav2-excerpt\"", "name = \"../up\"", vec!["line 1", "`name` must be"]),
    ] {
        let folder = Folder::of("vqav2");
        folder.replace("benchmark.toml", from, to);
        let message = folder.error();
        assert!(message.starts_with("benchmark.toml: "), "{message}");
        for part in parts {
            assert!(message.contains(part), "{from:?} -> {to:?}: {message:?} has no {part:?}");
        }
    }
}

#[test]
fn the_hash_of_samples_tells_any_change_and_their_order() {
    let benchmark = Folder::of("vqav2").load().unwrap();
    let whole = benchmark.samples_sha256();
    assert_eq!(whole, Folder::of("vqav2").load().unwrap().samples_sha256());
    let changed = |change: fn(&mut Benchmark)| {
        let mut other = benchmark.clone();
        change(&mut other);
        other.samples_sha256()
    };
    assert_ne!(whole, changed(|b| b.samples.swap(0, 1)));
    assert_ne!(whole, changed(|b| b.samples[0].prompt.push(' ')));
    assert_ne!(whole, changed(|b| b.samples[0].question.push(' ')));
    assert_ne!(whole, changed(|b| b.samples[0].reference = Reference::YesNo { yes: true }));
    // Moving a letter from one part to the next is a change, too.
    assert_ne!(
        changed(|b| (b.samples[0].key, b.samples[0].question) = ("ab".to_owned(), "c".to_owned())),
        changed(|b| (b.samples[0].key, b.samples[0].question) = ("a".to_owned(), "bc".to_owned()))
    );
    assert_ne!(whole, samples_sha256(&benchmark.samples[..3]));
}

#[test]
fn official_vqa_results_are_joined_by_id_and_must_be_whole() {
    let folder = Folder::of("vqav2");
    let row = |id: u64, answer: &str| json!({ "question_id": id, "answer": answer });
    let all = [row(393225001, "d"), row(262148000, "a"), row(262148001, "b"), row(393225000, "c")];
    let read = folder.predictions(json!(all).to_string()).unwrap();
    assert_eq!(read.form, "VQA results");
    assert_eq!(texts(&read), [("262148000", "a"), ("262148001", "b"), ("393225000", "c"), ("393225001", "d")]);
    let part = json!(all[..3]).to_string();
    let message = folder.prediction_error(&part);
    assert!(message.contains("an answer to each of the 4 samples") && message.contains("\"393225000\""), "{message}");
    let allowed = predictions::read(&folder.write("part", part), &folder.load().unwrap(), true).unwrap();
    assert_eq!((allowed.found.len(), allowed.missing), (3, vec!["393225000".to_owned()]));
    let twice = [row(262148000, "a"), row(262148000, "a")];
    assert!(folder.prediction_error(json!(twice).to_string()).contains("row 2, field `question_id`: expected each sample once"));
    let unknown = [row(1, "a")];
    assert!(folder.prediction_error(json!(unknown).to_string()).contains("row 1, field `question_id`: expected a sample of"));
    let number = json!([{ "question_id": 262148000, "answer": 2 }]);
    assert!(folder.prediction_error(number.to_string()).contains("field `answer`: expected a string"));
    // The form of LLaVA's answers joins the same way.
    let llava: Vec<Value> = all
        .iter()
        .map(|row| json!({ "question_id": row["question_id"], "prompt": "?", "text": row["answer"], "answer_id": "x", "metadata": {} }))
        .collect();
    assert_eq!(texts(&folder.predictions(lines(&llava)).unwrap()), texts(&read));
}

#[test]
fn the_official_fake_results_are_read() {
    let Some(shared) = shared_data() else { return };
    let folder = Folder::of("vqav2");
    let ids = 1..=10;
    let question = |id| json!({ "question_id": id, "image_id": 1, "question": "?" });
    let answers: Vec<Value> = (1..=10).map(|id| json!({ "answer": "donut", "answer_id": id })).collect();
    let annotation = |id| json!({ "question_id": id, "image_id": 1, "answer_type": "other", "answers": answers });
    folder.write("questions.json", json!({ "questions": ids.clone().map(question).collect::<Vec<_>>() }).to_string());
    folder.write("annotations.json", json!({ "annotations": ids.map(annotation).collect::<Vec<_>>() }).to_string());
    let path = shared.join("vqa_v2/OpenEnded_mscoco_train2014_fake_results.json");
    let read = predictions::read(&path, &folder.load().unwrap(), false).unwrap();
    let answers: Vec<&str> = read.found.iter().map(|prediction| prediction.text.as_str()).collect();
    assert_eq!(answers, ["donut", "donut", "donut", "yellow", "yellow", "yellow", "yes", "yes", "2", "2"]);
}

#[test]
fn plain_answers_and_our_own_log_are_joined_by_key() {
    let folder = Folder::of("pope");
    let keys: Vec<String> = folder.load().unwrap().samples.iter().map(|sample| sample.key.clone()).collect();
    let plain: Vec<Value> = keys.iter().map(|key| json!({ "key": key, "text": key })).collect();
    let read = folder.predictions(lines(&plain)).unwrap();
    assert!(texts(&read).iter().all(|(key, text)| key == text) && read.form == "plain");
    let log = |failed: usize| -> String {
        let rows: Vec<Value> = keys
            .iter()
            .enumerate()
            .map(|(index, key)| {
                let failure = if index == failed { json!({ "kind": "image", "message": "x" }) } else { Value::Null };
                json!({ "record": { "key": key, "text": key, "cluster": "c", "failure": failure }, "crc32": "00000000" })
            })
            .collect();
        lines(&rows)
    };
    assert_eq!(texts(&folder.predictions(log(usize::MAX)).unwrap()), texts(&read));
    assert!(folder.prediction_error(log(1)).contains("none to 1 of them"));
    // A torn last line is one answer less, no more.
    let torn = log(usize::MAX);
    let torn = &torn[..torn.len() - 10];
    assert!(folder.prediction_error(torn).contains("none to 1 of them"));
    assert!(folder.prediction_error("").contains("an empty file"));
    assert!(folder.prediction_error("{\"a\": 1}\n").contains("answer"));
    assert!(folder.prediction_error("not json\n").contains("row 1"));
}

/// LLaVA's answer rows of one split; each answer is the sample's key.
fn pope_rows(benchmark: &Benchmark, split: &str) -> Vec<Value> {
    let samples = benchmark.samples.iter().filter(|sample| sample.category.as_deref() == Some(split));
    samples
        .enumerate()
        .map(|(index, sample)| json!({ "question_id": index + 1, "prompt": sample.prompt, "text": sample.key, "model_id": "m" }))
        .collect()
}

#[test]
fn pope_answers_are_aligned_by_position_whatever_the_order_of_the_splits() {
    let folder = Folder::of("pope");
    let benchmark = folder.load().unwrap();
    let rows = |order: [&str; 3]| -> Vec<Value> { order.iter().flat_map(|split| pope_rows(&benchmark, split)).collect() };
    for order in
        [["random", "popular", "adversarial"], ["adversarial", "popular", "random"], ["popular", "random", "adversarial"]]
    {
        let read = folder.predictions(lines(&rows(order))).unwrap();
        assert!(texts(&read).iter().all(|(key, text)| key == text), "{order:?}");
    }
    let orders = ["random", "adversarial", "popular"];
    // Without prompts, the benchmark's own order is all there is to go by.
    let bare: Vec<Value> =
        rows(orders).iter().map(|row| json!({ "question_id": row["question_id"], "text": row["text"] })).collect();
    assert!(texts(&folder.predictions(lines(&bare)).unwrap()).iter().all(|(key, text)| key == text));
    // A category says it outright.
    let mut named: Vec<Value> = Vec::new();
    for split in ["popular", "adversarial", "random"] {
        for mut row in pope_rows(&benchmark, split) {
            row["category"] = json!(split);
            row.as_object_mut().unwrap().shift_remove("prompt");
            named.push(row);
        }
    }
    assert!(texts(&folder.predictions(lines(&named)).unwrap()).iter().all(|(key, text)| key == text));
    // POPE's own answer form, and its release with misspelt questions.
    let official: Vec<Value> = benchmark
        .samples
        .iter()
        .map(|sample| json!({ "question": sample.question.replace("image", "imange"), "answer": sample.key }))
        .collect();
    let read = folder.predictions(lines(&official)).unwrap();
    assert!(texts(&read).iter().all(|(key, text)| key == text) && read.form == "POPE answers");
    // One file a split.
    let answers = folder.path("by-split");
    std::fs::create_dir(&answers).unwrap();
    for split in orders {
        std::fs::write(answers.join(format!("llava_{split}.jsonl")), lines(&pope_rows(&benchmark, split))).unwrap();
    }
    let read = predictions::read(&answers, &benchmark, false).unwrap();
    assert!(texts(&read).iter().all(|(key, text)| key == text));
}

#[test]
fn misaligned_pope_answers_are_refused() {
    let folder = Folder::of("pope");
    let benchmark = folder.load().unwrap();
    let rows: Vec<Value> = ["random", "popular", "adversarial"].iter().flat_map(|split| pope_rows(&benchmark, split)).collect();
    let message = folder.prediction_error(lines(&rows[1..]));
    assert!(message.contains("aligned by position, found"), "{message}");
    let mut shifted = rows.clone();
    shifted.swap(1, 3);
    let message = folder.prediction_error(lines(&shifted));
    assert!(message.contains("row 2, field `prompt`: expected the question"), "{message}");
    let mut named = rows;
    for row in &mut named {
        row["category"] = json!("other");
    }
    assert!(folder.prediction_error(lines(&named)).contains("answers of the split random"));
}

#[test]
fn textvqa_answers_are_joined_by_image_and_question_in_each_of_llava_s_prompts() {
    let folder = Folder::of("textvqa");
    let samples = folder.load().unwrap().samples;
    let suffix = "Answer the question using a single word or phrase.";
    let prompts: [fn(&str) -> String; 4] = [
        |question| format!("{question}\nAnswer the question using a single word or phrase."),
        |question| format!("{question}\nReference OCR token: a, b\nAnswer the question using a single word or phrase."),
        |question| format!("Reference OCR token: a, b\n{question}\nAnswer the question using a single word or phrase."),
        |question| format!("OCR tokens: a, b. Question: {question} Short answer:"),
    ];
    for prompt in prompts {
        let row = |sample: &llava_gauge::benchmark::Sample| json!({ "question_id": sample.cluster, "prompt": prompt(&sample.question.to_uppercase()), "text": sample.key });
        let rows: Vec<Value> = samples.iter().rev().map(row).collect();
        let read = folder.predictions(lines(&rows)).unwrap();
        assert!(texts(&read).iter().all(|(key, text)| key == text));
        assert!(folder.prediction_error(lines(&[rows[0].clone(), rows[0].clone()])).contains("each sample once"));
    }
    let row = json!({ "question_id": samples[0].cluster, "prompt": format!("what else?\n{suffix}"), "text": "x" });
    assert!(folder.prediction_error(lines(&[row])).contains("a question of image 003a8ae2ef43b901"));
}

#[test]
fn refcoco_answers_are_joined_by_row_number_or_key() {
    let folder = Folder::of("refcoco");
    let samples = folder.load().unwrap().samples;
    let row = |(index, sample): (usize, &llava_gauge::benchmark::Sample)| json!({ "question_id": index, "prompt": sample.prompt, "text": sample.key });
    let mut rows: Vec<Value> = samples.iter().enumerate().map(row).collect();
    assert!(texts(&folder.predictions(lines(&rows)).unwrap()).iter().all(|(key, text)| key == text));
    rows[1]["question_id"] = json!(samples[1].key);
    assert!(texts(&folder.predictions(lines(&rows)).unwrap()).iter().all(|(key, text)| key == text));
    rows[0]["prompt"] = json!("Where is the elephant?");
    assert!(folder.prediction_error(lines(&rows)).contains("row 1, field `prompt`"));
}

#[test]
fn a_data_folder_given_by_hand_takes_the_place_of_the_named_one() {
    let folder = Folder::of("pope");
    let elsewhere = Folder::of("pope");
    elsewhere.replace("coco_pope_random.json", "snowboard", "skateboard");
    let benchmark = Benchmark::load(folder.path("benchmark.toml").to_str().unwrap(), Some(elsewhere.0.path())).unwrap();
    assert_eq!(benchmark.data_root, elsewhere.0.path());
    assert!(benchmark.samples[0].question.contains("skateboard"));
    assert!(matches!(benchmark.spec.data.format, DataFormat::Pope { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn spoilt_files_are_errors_and_never_panics(
        file in prop::sample::select(vec![
            ("vqav2", "questions.json"),
            ("vqav2", "annotations.json"),
            ("vqav2", "benchmark.toml"),
            ("pope", "coco_pope_random.json"),
            ("textvqa", "annotations.json"),
            ("refcoco", "refcoco_val.json"),
            ("refcoco", "benchmark.toml"),
        ]),
        at in 0.0..1.0_f64,
        bytes in prop::collection::vec(any::<u8>(), 0..4),
        cut in any::<bool>(),
    ) {
        let folder = Folder::of(file.0);
        let mut content = std::fs::read(folder.path(file.1)).unwrap();
        let at = ((content.len() as f64) * at) as usize;
        if cut {
            content.truncate(at);
        }
        let end = (at + bytes.len()).min(content.len());
        content.splice(at..end, bytes);
        folder.write(file.1, content);
        if let Ok(benchmark) = folder.load() {
            for sample in &benchmark.samples {
                if let Reference::Region { region: PixelBox { x1, x2, .. }, width, .. } = sample.reference {
                    prop_assert!(0.0 <= x1 && x1 <= x2 && x2 <= f64::from(width));
                }
            }
        }
    }

    #[test]
    fn spoilt_predictions_are_errors_and_never_panics(
        name in prop::sample::select(vec!["vqav2", "pope", "textvqa", "refcoco"]),
        text in prop_oneof![
            any::<String>(),
            "(\\{\"(question_id|key|record|prompt|text|answer|category)\":(1|\"a\"|null|\\{\\}|\\[\\])\\}\n){0,6}",
            "\\[(\\{\"question_id\":(1|\"a\")\\},?){0,3}\\]",
        ],
    ) {
        let folder = Folder::of(name);
        prop_assert!(folder.predictions(text).is_err());
    }
}
