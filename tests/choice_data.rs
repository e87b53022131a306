//! The data of the multiple-choice benchmarks and of those with several images, each in every form that it may be had in: tiny
//! files of that form, read by the benchmark's own TOML file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod table_support;

use std::path::{Path, PathBuf};
use std::process::Command;

use llava_gauge::benchmark::predictions;
use llava_gauge::benchmark::{Benchmark, DataChoice, Reference, Sample};
use llava_gauge::score::{Answered, complete, score};
use parquet::basic::Compression;
use serde_json::json;
use table_support::{Column, Folder, base64, png, texts, write_parquet};

/// A benchmark's own TOML file, except that it permits any number of rows and looks for its data beside itself.
fn folder(name: &str) -> Folder {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benchmarks").join(format!("{name}.toml"));
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("rows = ")).map(|line| match line.starts_with("root = ") {
        true => "root = \".\"",
        false => line,
    });
    Folder::new(&lines.collect::<Vec<_>>().join("\n"))
}

fn load(folder: &Folder, form: &str) -> Benchmark {
    let choice = DataChoice { form: Some(form), ..DataChoice::default() };
    let benchmark = Benchmark::load_chosen(folder.path("benchmark.toml").to_str().unwrap(), &choice).unwrap();
    assert!(benchmark.broken.is_empty(), "{:?}", benchmark.broken);
    assert_eq!(benchmark.spec.data.form, form);
    benchmark
}

fn parquet(folder: &Folder, name: &str, columns: &[Column]) {
    write_parquet(&folder.path(name), columns, 100, Compression::SNAPPY);
}

fn picture(shade: u8) -> Vec<u8> {
    png(4, 4, [shade, 0, 0])
}

fn cell(shade: u8) -> Option<(Option<Vec<u8>>, Option<String>)> {
    Some((Some(picture(shade)), None))
}

fn rows(values: &[&[&str]]) -> Vec<Vec<String>> {
    values.iter().map(|row| row.iter().map(|text| (*text).to_owned()).collect()).collect()
}

fn tsv(columns: &[&str], rows: &[Vec<String>]) -> String {
    let mut writer = csv::WriterBuilder::new().delimiter(b'\t').from_writer(Vec::new());
    writer.write_record(columns).unwrap();
    for row in rows {
        writer.write_record(row).unwrap();
    }
    String::from_utf8(writer.into_inner().unwrap()).unwrap()
}

fn choice(options: &[&str], answer: usize) -> Reference {
    Reference::Choice { options: options.iter().map(|option| (*option).to_owned()).collect(), answer }
}

/// What matters of a sample.
fn seen(sample: &Sample) -> (&str, &str, Option<&str>, &str, usize, &Reference) {
    let Sample { key, cluster, category, prompt, images, reference, .. } = sample;
    (key, cluster, category.as_deref(), prompt, images.len(), reference)
}

const LETTER: &str = "Answer with the option's letter from the given choices directly.";

/// The right answer to a sample in the words that its benchmark wants.
fn perfect(sample: &Sample) -> String {
    match &sample.reference {
        Reference::Choice { answer, .. } => char::from(b'A' + *answer as u8).to_string(),
        Reference::Answers { answers } => answers[0].clone(),
        Reference::YesNo { yes } => if *yes { "True" } else { "False" }.to_owned(),
        Reference::OpenOrClosed { answer, .. } => answer.clone(),
        other => panic!("{other:?}"),
    }
}

/// Every right answer counts, in every metric.
fn perfect_answers_score_full_marks(benchmark: &Benchmark) {
    let answers: Vec<String> = benchmark.samples.iter().map(perfect).collect();
    let mut scored: Vec<Answered<'_>> = benchmark
        .samples
        .iter()
        .zip(&answers)
        .map(|(sample, text)| Answered {
            cluster: &sample.cluster,
            category: sample.category.as_deref(),
            reference: &sample.reference,
            text,
            score: score(&benchmark.spec.scorer, &sample.reference, text),
        })
        .collect();
    complete(&benchmark.spec.scorer, &mut scored);
    for answered in scored {
        assert!(answered.score.value.is_some_and(|value| (value - 1.0).abs() < 1e-8), "{:?}", answered.reference);
        assert!(answered.score.contributions.contains_key(&benchmark.spec.scorer.primary_metric));
        for (name, contribution) in &answered.score.contributions {
            assert!((contribution.numerator - contribution.denominator).abs() < 1e-8, "{name}");
        }
    }
}

#[test]
fn scienceqa_in_each_form() {
    let problems = json!({
        "7": {"question": "Which?", "choices": ["x", "y"], "answer": 1, "hint": "Look.", "image": "image.png", "split": "test",
              "subject": "natural science", "grade": "grade4"},
        "8": {"question": "How?", "choices": ["p", "q", "r"], "answer": 0, "hint": "", "image": null, "split": "test",
              "subject": "language science", "grade": "grade9"},
        "9": {"question": "No.", "choices": ["p", "q"], "answer": 0, "hint": "", "image": "image.png", "split": "train",
              "subject": "social science", "grade": "grade9"},
    });
    let first = format!("Context: Look.\nWhich?\nA. x\nB. y\n{LETTER}");
    let second = format!("How?\nA. p\nB. q\nC. r\n{LETTER}");
    let all = folder("scienceqa");
    all.write("problems.json", problems.to_string());
    let benchmark = load(&all, "official");
    assert_eq!(benchmark.samples.len(), 2);
    let category = "natural science, grade4";
    assert_eq!(
        seen(&benchmark.samples[0]),
        ("7", "images/test/7/image.png", Some(category), first.as_str(), 1, &choice(&["x", "y"], 1))
    );
    assert_eq!(
        seen(&benchmark.samples[1]),
        ("8", "8", Some("language science, grade9"), second.as_str(), 0, &choice(&["p", "q", "r"], 0))
    );
    perfect_answers_score_full_marks(&benchmark);
    let pictures = folder("scienceqa_img");
    pictures.write("problems.json", problems.to_string());
    let only = load(&pictures, "official").samples;
    assert_eq!(only.iter().map(seen).collect::<Vec<_>>(), [seen(&benchmark.samples[0])]);

    for (name, config, count) in [("scienceqa", "ScienceQA-FULL", 2), ("scienceqa_img", "ScienceQA-IMG", 1)] {
        let folder = folder(name);
        let columns = [
            Column::Image("image", vec![cell(1), None]),
            Column::Text("question", texts(&["Which?", "How?"])),
            Column::Texts("choices", rows(&[&["x", "y"], &["p", "q", "r"]])),
            Column::Integer("answer", vec![1, 0]),
            Column::Text("hint", texts(&["Look.", ""])),
            Column::Text("subject", texts(&["natural science", "language science"])),
            Column::Text("grade", texts(&["grade4", "grade9"])),
        ];
        parquet(&folder, &format!("{config}/test-00000-of-00001.parquet"), &columns);
        let benchmark = load(&folder, "parquet");
        assert_eq!(benchmark.samples.len(), count);
        assert_eq!((benchmark.samples[0].key.as_str(), benchmark.samples[0].prompt.as_str()), ("1", first.as_str()));
        assert_eq!(benchmark.samples[0].reference, choice(&["x", "y"], 1));
        perfect_answers_score_full_marks(&benchmark);
    }
    let columns = ["index", "question", "hint", "A", "B", "C", "D", "E", "answer", "category", "image"];
    let row = ["3", "Which?", "", "x", "y", "", "", "", "B", "maps"].map(str::to_owned);
    pictures.write("ScienceQA_TEST.tsv", tsv(&columns, &[row.into_iter().chain([base64(&picture(1))]).collect()]));
    let benchmark = load(&pictures, "vlmevalkit-tsv");
    let prompt = format!("Which?\nA. x\nB. y\n{LETTER}");
    let (key, _, category, asked, images, reference) = seen(&benchmark.samples[0]);
    assert_eq!((key, category, asked, images, reference), ("3", Some("maps"), prompt.as_str(), 1, &choice(&["x", "y"], 1)));
}

#[test]
fn mmbench_in_each_form() {
    let columns = [
        "index",
        "question",
        "hint",
        "A",
        "B",
        "C",
        "D",
        "answer",
        "category",
        "image",
        "source",
        "l2-category",
        "comment",
        "split",
    ];
    // Three options in each of their rotations; the rotated rows have an index of another million.
    let row = |index: &str, options: [&str; 3], answer: &str, hint: &str, image: &str| -> Vec<String> {
        let [a, b, c] = options;
        [index, "Which?", hint, a, b, c, "", answer, "OCR", image, "s", "l2", "", "dev"].map(str::to_owned).to_vec()
    };
    let image = base64(&picture(1));
    let official = |image_of_rotations: &str| {
        [
            row("5", ["x", "y", "z"], "B", "Look.", &image),
            row("1000005", ["y", "z", "x"], "A", "Look.", image_of_rotations),
            row("2000005", ["z", "x", "y"], "C", "Look.", image_of_rotations),
            row("6", ["yes", "no", "nan"], "A", "nan", &image),
        ]
    };
    for (name, file, toolkit, suffix) in [
        ("mmbench_dev", "mmbench_dev_20230712.tsv", "MMBench_DEV_EN.tsv", LETTER),
        ("mmbench_cn_dev", "mmbench_dev_cn_20231003.tsv", "MMBench_DEV_CN.tsv", "请直接回答选项字母。"),
        ("mmbench_test", "mmbench_test_20230712.tsv", "MMBench_TEST_EN.tsv", LETTER),
        ("mmbench_cn_test", "mmbench_test_cn_20231003.tsv", "MMBench_TEST_CN.tsv", "请直接回答选项字母。"),
    ] {
        let folder = folder(name);
        folder.write(file, tsv(&columns, &official(&image)));
        // VLMEvalKit's file names the row that has the picture.
        folder.write(toolkit, tsv(&columns, &official("5")));
        let text = |values: [&str; 4]| texts(&values);
        let split = if name.ends_with("test") { "test" } else { "dev" };
        let parquet_columns = [
            Column::Integer("index", vec![5, 1_000_005, 2_000_005, 6]),
            Column::Text("question", text(["Which?"; 4])),
            Column::Text("hint", text(["Look.", "Look.", "Look.", "nan"])),
            Column::Text("answer", text(["B", "A", "C", "A"])),
            Column::Text("A", text(["x", "y", "z", "yes"])),
            Column::Text("B", text(["y", "z", "x", "no"])),
            Column::Text("C", text(["z", "x", "y", "nan"])),
            Column::Text("D", text(["nan"; 4])),
            Column::Text("category", text(["OCR"; 4])),
            Column::Image("image", vec![cell(1), cell(1), cell(1), cell(1)]),
        ];
        parquet(&folder, &format!("data/{split}-00000-of-00001.parquet"), &parquet_columns);
        let first = format!("Look.\nWhich?\nA. x\nB. y\nC. z\n{suffix}");
        let last = format!("Which?\nA. yes\nB. no\n{suffix}");
        for form in ["official", "vlmevalkit-tsv", "parquet"] {
            let benchmark = load(&folder, form);
            assert_eq!(benchmark.samples.len(), 4, "{name} {form}");
            let keys: Vec<(&str, &str)> =
                benchmark.samples.iter().map(|sample| (sample.key.as_str(), sample.cluster.as_str())).collect();
            assert_eq!(keys, [("5", "5"), ("1000005", "5"), ("2000005", "5"), ("6", "6")]);
            assert_eq!(benchmark.samples[0].prompt, first);
            assert_eq!(benchmark.samples[3].prompt, last);
            // Rotations show one picture.
            assert_eq!(benchmark.samples[0].images, benchmark.samples[2].images);
            if name.ends_with("test") && form != "vlmevalkit-tsv" {
                assert!(benchmark.samples.iter().all(|sample| sample.reference == Reference::Withheld));
            } else {
                assert_eq!(benchmark.samples[2].reference, choice(&["z", "x", "y"], 2));
                perfect_answers_score_full_marks(&benchmark);
            }
        }
    }
}

#[test]
fn seed_bench_in_each_form() {
    let folder = folder("seed_bench");
    let question = |id: &str, kind: &str| {
        json!({"question_id": id, "question": "Which?", "choice_a": "w", "choice_b": "x", "choice_c": "y", "choice_d": "z",
               "answer": "C", "data_type": kind, "data_id": "12_34", "question_type_id": 5})
    };
    folder.write(
        "SEED-Bench.json",
        json!({"question_type": {"Scene Understanding": 1}, "questions": [question("101669", "image"), question("v1", "video")]})
            .to_string(),
    );
    let reference = choice(&["w", "x", "y", "z"], 2);
    let prompt = format!("Which?\nA. w\nB. x\nC. y\nD. z\n{LETTER}");
    let benchmark = load(&folder, "official");
    assert_eq!(benchmark.samples.len(), 1, "videos are left out");
    assert_eq!(seen(&benchmark.samples[0]), ("101669", "SEED-Bench-image/12_34", Some("5"), prompt.as_str(), 1, &reference));
    let text = |value: &str| texts(&[value, value]);
    let columns = [
        Column::Text("question_id", texts(&["101669", "v1"])),
        Column::Text("question", text("Which?")),
        Column::Text("choice_a", text("w")),
        Column::Text("choice_b", text("x")),
        Column::Text("choice_c", text("y")),
        Column::Text("choice_d", text("z")),
        Column::Text("answer", text("C")),
        Column::Text("data_type", texts(&["image", "video"])),
        Column::Integer("question_type_id", vec![5, 10]),
        Column::Images("image", vec![vec![picture(1)], vec![picture(1), picture(2)]]),
    ];
    parquet(&folder, "data/test-00000-of-00002.parquet", &columns);
    let benchmark = load(&folder, "parquet");
    assert_eq!(benchmark.samples.len(), 1);
    let (key, _, category, asked, images, answer) = seen(&benchmark.samples[0]);
    assert_eq!((key, category, asked, images, answer), ("101669", Some("5"), prompt.as_str(), 1, &reference));
    perfect_answers_score_full_marks(&benchmark);
    let row = ["0", "Which?", "w", "x", "y", "z", "C", "Scene Understanding"].map(str::to_owned);
    let columns = ["index", "question", "A", "B", "C", "D", "answer", "category", "image"];
    folder.write("SEEDBench_IMG.tsv", tsv(&columns, &[row.into_iter().chain([base64(&picture(1))]).collect()]));
    let benchmark = load(&folder, "vlmevalkit-tsv");
    assert_eq!((benchmark.samples[0].prompt.as_str(), &benchmark.samples[0].reference), (prompt.as_str(), &reference));
}

/// Columns of two MMMU questions, one with two pictures and options, one open-ended.
fn mmmu_columns(split: &str) -> Vec<Column> {
    let mut columns = vec![
        Column::Text("id", texts(&[&format!("{split}_Art_Theory_1"), &format!("{split}_Math_2")])),
        Column::Text("question", texts(&["Same as <image 1>? <image 2>", "How many in <image 1>?"])),
        Column::Text("options", texts(&["['x', \"y's\"]", "[]"])),
        Column::Text("answer", texts(&["B", "['24/7', '3.429']"])),
    ];
    for (name, cells) in [("image_1", vec![cell(1), cell(2)]), ("image_2", vec![cell(3), None])] {
        columns.push(Column::Image(name, cells));
    }
    for name in ["image_3", "image_4", "image_5", "image_6", "image_7"] {
        columns.push(Column::Image(name, vec![None, None]));
    }
    columns
}

#[test]
fn mmmu_in_each_form() {
    let first = format!("Same as <image 1>? <image 2>\n(A) x\n(B) y's\n\n{LETTER}");
    let second = "How many in <image 1>?\nAnswer the question using a single word or phrase.";
    let answers = Reference::Answers { answers: vec!["24/7".to_owned(), "3.429".to_owned()] };
    let validation = folder("mmmu_val");
    parquet(&validation, "Art_Theory/validation-00000-of-00001.parquet", &mmmu_columns("validation"));
    parquet(&validation, "data/validation-00000-of-00001.parquet", &mmmu_columns("validation"));
    for form in ["official", "parquet"] {
        let choice_of = DataChoice { form: Some(form), ..DataChoice::default() };
        let benchmark = Benchmark::load_chosen(validation.path("benchmark.toml").to_str().unwrap(), &choice_of).unwrap();
        // The official pattern finds the other folder's file as well, whose rows are then repetitions.
        assert_eq!(benchmark.samples.len(), 2, "{form}: {:?}", benchmark.broken);
        let (key, _, category, prompt, images, reference) = seen(&benchmark.samples[0]);
        assert_eq!(
            (key, category, prompt, images, reference),
            ("validation_Art_Theory_1", Some("Art_Theory"), first.as_str(), 2, &choice(&["x", "y's"], 1))
        );
        let (key, _, category, prompt, images, reference) = seen(&benchmark.samples[1]);
        assert_eq!((key, category, prompt, images, reference), ("validation_Math_2", Some("Math"), second, 1, &answers));
        assert!(!benchmark.samples[0].conversation.images_at_marks);
        perfect_answers_score_full_marks(&benchmark);
    }
    let columns = ["index", "question", "A", "B", "C", "D", "E", "F", "G", "H", "I", "answer", "category", "split", "image"];
    let row = |index: &str, a: &str, b: &str, answer: &str, split: &str, image: String| -> Vec<String> {
        let cells = [index, "Which <image 1>?", a, b, "", "", "", "", "", "", "", answer, "Math", split].map(str::to_owned);
        cells.into_iter().chain([image]).collect()
    };
    let two = format!("['{}', '{}']", base64(&picture(1)), base64(&picture(2)));
    let rows = [
        row("1", "x", "y", "B", "validation", two),
        row("2", "", "", "12", "validation", base64(&picture(1))),
        row("3", "x", "y", "B", "dev", base64(&picture(1))),
    ];
    validation.write("MMMU_DEV_VAL.tsv", tsv(&columns, &rows));
    let benchmark = load(&validation, "vlmevalkit-tsv");
    assert_eq!(benchmark.samples.len(), 2);
    assert_eq!((benchmark.samples[0].images.len(), &benchmark.samples[0].reference), (2, &choice(&["x", "y"], 1)));
    assert_eq!(benchmark.samples[1].reference, Reference::Answers { answers: vec!["12".to_owned()] });

    let test = folder("mmmu_test");
    parquet(&test, "Art_Theory/test-00000-of-00001.parquet", &mmmu_columns("test"));
    let benchmark = load(&test, "official");
    assert_eq!((benchmark.samples[0].prompt.as_str(), benchmark.samples[1].prompt.as_str()), (first.as_str(), second));
    assert!(benchmark.samples.iter().all(|sample| sample.reference == Reference::Withheld));
}

#[test]
fn ai2d_and_blink_in_each_form() {
    let ai2d = folder("ai2d");
    let prompt = format!("Which?\nA. x\nB. y\n{LETTER}");
    for part in ["data/test-00000-of-00002.parquet", "data/test-00001-of-00002.parquet"] {
        let columns = [
            Column::Text("question", texts(&["Which?"])),
            Column::Texts("options", rows(&[&["x", "y"]])),
            Column::Text("answer", texts(&["1"])),
            Column::Image("image", vec![cell(1)]),
        ];
        parquet(&ai2d, part, &columns);
    }
    let benchmark = load(&ai2d, "parquet");
    let keys: Vec<&str> = benchmark.samples.iter().map(|sample| sample.key.as_str()).collect();
    assert_eq!(keys, ["1", "2"], "rows are numbered through all files");
    assert_eq!(
        (benchmark.samples[1].prompt.as_str(), &benchmark.samples[1].reference),
        (prompt.as_str(), &choice(&["x", "y"], 1))
    );
    assert_eq!(benchmark.samples[0].cluster, benchmark.samples[1].cluster, "the same diagram");
    perfect_answers_score_full_marks(&benchmark);
    let row = ["0", "Which?", "x", "y", "", "", "B"].map(str::to_owned);
    let columns = ["index", "question", "A", "B", "C", "D", "answer", "image"];
    ai2d.write("AI2D_TEST.tsv", tsv(&columns, &[row.into_iter().chain([base64(&picture(1))]).collect()]));
    let benchmark = load(&ai2d, "vlmevalkit-tsv");
    assert_eq!(
        (benchmark.samples[0].prompt.as_str(), &benchmark.samples[0].reference),
        (prompt.as_str(), &choice(&["x", "y"], 1))
    );

    let blink = folder("blink_val");
    for (task, shade) in [("Art_Style", 1), ("Counting", 9)] {
        let columns = [
            Column::Text("idx", texts(&[&format!("val_{task}_1")])),
            Column::Text("sub_task", texts(&[task])),
            Column::Text("prompt", texts(&["Which of the two?\n(A) the second\n(B) the third"])),
            Column::Texts("choices", rows(&[&["the second", "the third"]])),
            Column::Text("answer", texts(&["(B)"])),
            Column::Image("image_1", vec![cell(shade)]),
            Column::Image("image_2", vec![cell(shade + 1)]),
            Column::Image("image_3", vec![None]),
            Column::Image("image_4", vec![None]),
        ];
        parquet(&blink, &format!("{task}/val-00000-of-00001.parquet"), &columns);
    }
    let benchmark = load(&blink, "official");
    let (key, _, category, prompt, images, reference) = seen(&benchmark.samples[1]);
    assert_eq!(
        (key, category, prompt, images, reference),
        (
            "val_Counting_1",
            Some("Counting"),
            "Which of the two?\n(A) the second\n(B) the third",
            2,
            &choice(&["the second", "the third"], 1)
        )
    );
    perfect_answers_score_full_marks(&benchmark);
}

#[test]
fn nlvr2_in_each_form() {
    for (name, split) in [("nlvr2_dev", "dev"), ("nlvr2_test", "test1")] {
        let folder = folder(name);
        let line = |pair: usize, label: &str| {
            json!({"identifier": format!("{split}-850-{pair}-1"), "sentence": "There are six bottles.", "label": label,
                   "left_url": "https://left", "right_url": "https://right"})
            .to_string()
        };
        let lines = format!("{}\n{}\n", line(0, "True"), line(2, "False"));
        for (form, file) in [
            ("official", format!("{split}.json")),
            ("balanced", format!("balanced_{split}.json")),
            ("unbalanced", format!("unbalanced_{split}.json")),
        ] {
            folder.write(&file, &lines);
            let benchmark = load(&folder, form);
            assert_eq!(
                seen(&benchmark.samples[1]),
                (
                    format!("{split}-850-2-1").as_str(),
                    format!("{split}-850-1").as_str(),
                    None,
                    "Here is a statement about the images. Is it true or false?\nThere are six bottles.\nAnswer with True or False.",
                    2,
                    &Reference::YesNo { yes: false }
                )
            );
            let names: Vec<String> = benchmark.samples[1].images.iter().map(|image| image.text(&benchmark.data_root)).collect();
            assert_eq!(names, [format!("{split}/{split}-850-2-img0.png"), format!("{split}/{split}-850-2-img1.png")]);
            perfect_answers_score_full_marks(&benchmark);
        }
    }
}

#[test]
fn mantis_eval_with_and_without_options() {
    let folder = folder("mantis_eval");
    let columns = [
        Column::Text("id", texts(&["mantis_eval_0", "mantis_eval_1", "mantis_eval_2"])),
        Column::Text("question_type", texts(&["multi-choice", "short-answer", "multi-choice"])),
        Column::Text("question", texts(&["<image> and <image>: which?", "How many in both?", "Which?"])),
        Column::Images("images", vec![vec![picture(1), picture(2)], vec![picture(3), picture(4)], vec![picture(5)]]),
        Column::Texts("options", rows(&[&["the first", "the second"], &[], &["(A) x", "(B) y"]])),
        Column::Text("answer", texts(&["B", "4", "A"])),
        Column::Text("category", texts(&["reasoning", "count", "reasoning"])),
    ];
    parquet(&folder, "mantis_eval/test-00000-of-00001.parquet", &columns);
    let benchmark = load(&folder, "official");
    let asked: Vec<(&str, usize, bool)> = benchmark
        .samples
        .iter()
        .map(|sample| (sample.prompt.as_str(), sample.images.len(), sample.conversation.images_at_marks))
        .collect();
    let short = "<image><image>Given the images, answer the following short answer vqa question:\nQ: How many in both?\nYou can first \
                 give your analysis, and then give your final answer as \"Final Answer:\"";
    let first = format!("<image> and <image>: which?\n (A) the first\n (B) the second\n{LETTER}");
    let third = format!("<image>Which?\n (A) x\n (B) y\n{LETTER}");
    assert_eq!(asked, [(first.as_str(), 2, true), (short, 2, true), (third.as_str(), 1, true)]);
    assert_eq!(benchmark.samples[1].reference, Reference::Answers { answers: vec!["4".to_owned()] });
    assert_eq!(benchmark.samples[0].category.as_deref(), Some("reasoning"));
    perfect_answers_score_full_marks(&benchmark);
}

#[test]
fn llava_interleave_in_each_form() {
    for (name, file, config) in [
        ("llava_interleave_in_domain", "multi_image_in_domain.json", "in_domain"),
        ("llava_interleave_out_domain", "multi_image_out_domain.json", "out_of_domain"),
        ("llava_interleave_multi_view", "multi_view_in_domain.json", "multi_view_in_domain"),
    ] {
        let folder = folder(name);
        let row = |id: i64, dataset: &str, kind: &str, question: &str, answer: &str| {
            json!({"sample_id": id, "image": ["Split1/a.jpg", "Split1/b.jpg"], "metadata": {"dataset": dataset, "question_type": kind},
                   "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]})
        };
        let data = json!([
            row(0, "Spot-the-Diff", "open-ended", "<image><image>What differs?", "the car has moved"),
            row(0, "RAVEN", "multi-choice", "<image><image>Which? A. x B. y", "B"),
        ]);
        folder.write(file, data.to_string());
        let benchmark = load(&folder, "official");
        let open = Reference::OpenOrClosed { answer: "the car has moved".to_owned(), open: true };
        assert_eq!(
            seen(&benchmark.samples[0]),
            ("Spot-the-Diff/0", "Split1/a.jpg|Split1/b.jpg", Some("Spot-the-Diff"), "<image>\n<image>\nWhat differs?", 2, &open)
        );
        assert!(benchmark.samples[0].conversation.images_at_marks);
        assert_eq!(benchmark.samples[1].reference, Reference::OpenOrClosed { answer: "B".to_owned(), open: false });
        perfect_answers_score_full_marks(&benchmark);
        let mut columns = vec![
            Column::Integer("sample_id", vec![0, 0]),
            Column::Text("sub_task", texts(&["Spot-the-Diff", "RAVEN"])),
            Column::Text("question_type", texts(&["open-ended", "multi-choice"])),
            Column::Text("question", texts(&["<image><image>What differs?", "<image><image>Which? A. x B. y"])),
            Column::Text("answer", texts(&["the car has moved", "B"])),
        ];
        const IMAGES: [&str; 16] = [
            "image_0", "image_1", "image_2", "image_3", "image_4", "image_5", "image_6", "image_7", "image_8", "image_9",
            "image_10", "image_11", "image_12", "image_13", "image_14", "image_15",
        ];
        for (number, name) in IMAGES.into_iter().enumerate() {
            columns.push(Column::Image(
                name,
                if number < 2 { vec![cell(number as u8), cell(number as u8)] } else { vec![None, None] },
            ));
        }
        parquet(&folder, &format!("{config}/test-00000-of-00001.parquet"), &columns);
        let other = load(&folder, "parquet");
        for (one, other) in benchmark.samples.iter().zip(&other.samples) {
            assert_eq!(
                (&one.key, &one.prompt, &one.reference, &one.category),
                (&other.key, &other.prompt, &other.reference, &other.category)
            );
            assert_eq!(other.images.len(), 2);
        }
    }
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

#[test]
fn the_real_nlvr2_file_loads_and_perfect_answers_are_consistent() {
    let Some(data) = shared_data() else { return };
    let output = Command::new("gzip").arg("-dc").arg(data.join("nlvr2/balanced_dev.json.gz")).output().unwrap();
    assert!(output.status.success());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("balanced_dev.json"), output.stdout).unwrap();
    // The TOML file as it is, with the number of rows that it wants.
    let choice = DataChoice { data: Some(folder.path()), ..DataChoice::default() };
    let benchmark = Benchmark::load_chosen("nlvr2_dev", &choice).unwrap();
    assert_eq!((benchmark.samples.len(), benchmark.broken.len()), (2300, 0));
    assert_eq!(benchmark.spec.data.form, "balanced", "the first form whose files are there");
    assert!(benchmark.samples.iter().all(|sample| sample.images.len() == 2));
    perfect_answers_score_full_marks(&benchmark);
}

/// Answers of a file, in the order of the samples.
fn answers(path: &Path, benchmark: &Benchmark) -> (Vec<String>, &'static str) {
    let read = predictions::read(path, benchmark, false).unwrap();
    (read.found.into_iter().map(|prediction| prediction.text).collect(), read.form)
}

#[test]
fn answers_in_the_files_of_each_benchmark() {
    let validation = folder("mmmu_val");
    parquet(&validation, "Art_Theory/validation-00000-of-00001.parquet", &mmmu_columns("validation"));
    let mmmu = load(&validation, "official");
    let by_key = json!({"validation_Math_2": "3.429", "validation_Art_Theory_1": "B"});
    let total = validation.write("total_val_output.json", by_key.to_string());
    assert_eq!(answers(&total, &mmmu), (vec!["B".to_owned(), "3.429".to_owned()], "answers by key"));
    for (subject, id, response) in [("Art_Theory", "validation_Art_Theory_1", "(A) x"), ("Math", "validation_Math_2", "7")] {
        let rows = json!([{"id": id, "question_type": "multiple-choice", "response": response}]);
        validation.write(&format!("outputs/{subject}/output.json"), rows.to_string());
    }
    let expected = (vec!["(A) x".to_owned(), "7".to_owned()], "MMMU responses");
    assert_eq!(answers(&validation.path("outputs"), &mmmu), expected);

    let blink_folder = folder("blink_val");
    let columns = [
        Column::Text("idx", texts(&["val_Counting_1", "val_Counting_2"])),
        Column::Text("sub_task", texts(&["Counting", "Counting"])),
        Column::Text("prompt", texts(&["How many?", "How many?"])),
        Column::Texts("choices", rows(&[&["1", "2"], &["1", "2"]])),
        Column::Text("answer", texts(&["(B)", "(A)"])),
        Column::Image("image_1", vec![cell(1), cell(2)]),
        Column::Image("image_2", vec![None, None]),
        Column::Image("image_3", vec![None, None]),
        Column::Image("image_4", vec![None, None]),
    ];
    parquet(&blink_folder, "Counting/val-00000-of-00001.parquet", &columns);
    let blink = load(&blink_folder, "official");
    let row =
        |idx: &str, prediction: &str| json!({"idx": idx, "answer": "(B)", "full_prediction": "<s> x", "prediction": prediction});
    let output =
        json!({"val": [row("val_Counting_1", "(B)"), row("val_Counting_2", "(Z)")], "test": [row("test_Counting_1", "(A)")]});
    let file = blink_folder.write("outputs/Counting.json", output.to_string());
    let expected = (vec!["(B)".to_owned(), "(Z)".to_owned()], "BLINK outputs");
    assert_eq!(answers(&file, &blink), expected);
    assert_eq!(answers(&blink_folder.path("outputs"), &blink), expected);

    let nlvr2_folder = folder("nlvr2_dev");
    let line = |pair: usize| json!({"identifier": format!("dev-1-{pair}-0"), "sentence": "S.", "label": "True"}).to_string();
    nlvr2_folder.write("dev.json", format!("{}\n{}\n", line(0), line(1)));
    let nlvr2 = load(&nlvr2_folder, "official");
    let file = nlvr2_folder.write("predictions.csv", "dev-1-1-0,False\ndev-1-0-0,True\n");
    assert_eq!(answers(&file, &nlvr2), (vec!["True".to_owned(), "False".to_owned()], "NLVR2 predictions"));
    let file = nlvr2_folder.write("predictions.tsv", "prediction\tid\nFalse\tdev-1-1-0\n\"True\tindeed\"\tdev-1-0-0\n");
    assert_eq!(answers(&file, &nlvr2), (vec!["True\tindeed".to_owned(), "False".to_owned()], "table"));
    let file = nlvr2_folder.write(
        "seed.jsonl",
        "{\"question_id\": \"dev-1-0-0\", \"prediction\": \"x\"}\n{\"question_id\": \"dev-1-1-0\", \"prediction\": \"y\"}",
    );
    assert_eq!(answers(&file, &nlvr2), (vec!["x".to_owned(), "y".to_owned()], "answers"));
    let file = nlvr2_folder.write("llava.jsonl", "{\"question_id\": \"dev-1-0-0\", \"prompt\": \"\", \"text\": \"x\"}\n{\"question_id\": \"dev-1-1-0\", \"prompt\": \"\", \"text\": \"y\"}");
    assert_eq!(answers(&file, &nlvr2), (vec!["x".to_owned(), "y".to_owned()], "answers"));
    let file =
        nlvr2_folder.write("results.json", json!({"acc": 1.0, "outputs": {"dev-1-0-0": "x", "dev-1-1-0": "y"}}).to_string());
    assert_eq!(answers(&file, &nlvr2), (vec!["x".to_owned(), "y".to_owned()], "ScienceQA results"));
    let mantis = "{\"id\": \"dev-1-0-0\", \"prediction\": {\"raw_answer\": \"x\", \"correct\": true}}\n{\"id\": \"dev-1-1-0\", \"prediction\": {\"raw_answer\": \"y\"}}\n";
    let file = nlvr2_folder.write("mantis.jsonl", mantis);
    assert_eq!(answers(&file, &nlvr2), (vec!["x".to_owned(), "y".to_owned()], "Mantis results"));

    let interleave_folder = folder("llava_interleave_in_domain");
    let row = json!([{"sample_id": 3, "image": ["a.jpg"], "metadata": {"dataset": "RAVEN", "question_type": "multi-choice"},
                      "conversations": [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "B"}]}]);
    interleave_folder.write("multi_image_in_domain.json", row.to_string());
    let interleave = load(&interleave_folder, "official");
    let line = json!({"dataset": "RAVEN", "sample_id": 3, "pred_response": "B", "gt_response": "B"});
    let file = interleave_folder.write("result.jsonl", line.to_string());
    assert_eq!(answers(&file, &interleave), (vec!["B".to_owned()], "LLaVA-Interleave results"));
}

#[test]
fn a_workbook_of_mmbench_answers_is_read_as_pandas_wrote_it() {
    let folder = folder("mmbench_dev");
    let columns = ["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image"];
    let row = |index: &str| -> Vec<String> {
        let cells = [index, "Which?", "", "x", "y", "z", "", "B", "OCR"].map(str::to_owned);
        cells.into_iter().chain([base64(&picture(1))]).collect()
    };
    folder.write("mmbench_dev_20230712.tsv", tsv(&columns, &["5", "1000005", "2000005", "6"].map(row)));
    let benchmark = load(&folder, "official");
    let workbook = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/benchmark/mmbench/predictions.xlsx");
    let expected = [" B. \u{732b} & <cat> \"x\"\nline", "A\n", "", "7"].map(str::to_owned).to_vec();
    assert_eq!(answers(&workbook, &benchmark), (expected, "table"));
    // Damaged in many places, it is an error or other answers, never a panic.
    let bytes = std::fs::read(&workbook).unwrap();
    for place in (0..bytes.len()).step_by(61) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x55;
        let _ = predictions::read(&folder.write("damaged.xlsx", damaged), &benchmark, true);
        let _ = predictions::read(&folder.write("short.xlsx", &bytes[..place]), &benchmark, true);
    }
    let message = predictions::read(&folder.write("text.xlsx", "no workbook"), &benchmark, false).unwrap_err().to_string();
    assert!(message.contains("text.xlsx: expected an Excel workbook"), "{message}");
}

#[test]
fn wrong_answer_files_are_refused_with_their_place() {
    let folder = folder("nlvr2_dev");
    let line = |pair: usize| json!({"identifier": format!("dev-1-{pair}-0"), "sentence": "S.", "label": "True"}).to_string();
    folder.write("dev.json", format!("{}\n{}\n", line(0), line(1)));
    let nlvr2 = load(&folder, "official");
    let refused = |name: &str, content: &str, reasons: &[&str]| {
        let file = folder.write(name, content);
        let message = predictions::read(&file, &nlvr2, false).unwrap_err().to_string();
        for reason in reasons {
            assert!(message.contains(reason), "{name}: {message}");
        }
    };
    refused("a.csv", "dev-1-0-0,True\ndev-1-0-0,True\n", &["a.csv, row 2", "identifier", "each sample once"]);
    refused("b.csv", "dev-1-0-0,True\ndev-9-9-9,True\n", &["row 2", "a sample of the benchmark", "dev-9-9-9"]);
    refused("c.csv", "dev-1-0-0,True\ndev-1-1-0\n", &["row 2", "prediction", "a row of 1 cells"]);
    refused("d.csv", "id,answer\ndev-1-0-0,True\n", &["row 1", "the columns `prediction` and one of index", "answer"]);
    refused("e.csv", "dev-1-0-0,True\n", &["an answer to each of the 2 samples", "dev-1-1-0"]);
    refused("f.csv", "", &["an answer to each of the 2 samples"]);
    refused("g.json", "{\"dev-1-0-0\": \"True\", \"dev-1-1-0\": 5}", &["row 2", "dev-1-1-0", "a text", "5"]);
    refused("h.json", "{\"dev-1-0-0\": \"True\", \"dev-1-0-0\": \"False\"}", &["each sample once"]);
    refused("i.json", "{\"outputs\": [1]}", &["outputs", "an object of texts"]);
    refused("j.json", "{\"val\": [{\"idx\": \"dev-1-0-0\"}]}", &["row 1", "prediction", "only the members"]);
    refused("k.json", "[{\"id\": \"dev-1-0-0\", \"response\": 7}]", &["row 1", "response", "a string"]);
    let mixed = "{\"id\": \"dev-1-0-0\", \"prediction\": {\"raw_answer\": \"x\"}}\n{\"id\": \"dev-1-1-0\", \"prediction\": []}";
    refused("l.jsonl", mixed, &["row 2", "prediction"]);
    refused("m.json", "{}", &["row 1", "only the members"]);
}
