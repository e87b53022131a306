//! What judges are asked and what their replies are worth, against the official code (`fixtures/score/make_judge_scores.py`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod table_support;

use std::path::{Path, PathBuf};

use llava_gauge::benchmark::{Benchmark, JudgeContext, Reference, RelativeScore, Sample, ScorerRule, ScorerSpec};
use llava_gauge::compare::{ScoredSample, summarise_scored};
use llava_gauge::judge::{ChatRequest, JudgeRule, Role, Subject};
use llava_gauge::score::{SampleScore, Verdict, judged, metrics, read_reply, score};
use parquet::basic::Compression;
use serde_json::Value;
use sha2::{Digest, Sha256};
use table_support::{Column, base64, png, texts as some_texts, write_parquet};

const COCO: ScorerRule = bench(JudgeContext::Coco, RelativeScore::RatioOfMeans);

// Relative score, ten times the mean rating of the first and of the second assistant.
const ALPACA: [f64; 3] = [120.8, 72.9, 88.0];
const BARD: [f64; 3] = [98.7, 83.0, 81.9];
const GPT35: [f64; 3] = [92.1, 86.6, 79.8];
const LLAMA: [f64; 3] = [135.3, 64.1, 86.8];

const fn bench(context: JudgeContext, relative_score: RelativeScore) -> ScorerRule {
    ScorerRule::LlavaBench { context, relative_score }
}

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/score").join(name);
    std::fs::read_to_string(path).unwrap()
}

fn json(name: &str) -> Value {
    serde_json::from_str(&fixture(name)).unwrap()
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

/// A number of the fixture, which JSON has no NaN and no infinity for.
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

fn rating(value: f64) -> bool {
    (0.0..=1000.0).contains(&value)
}

#[test]
fn replies_are_read_as_the_official_scripts_read_them() {
    let (mut cases, mut read) = (0, [0; 3]);
    for line in fixture("judge_replies.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let reply = row[0].as_str().unwrap();
        cases += 1;

        // -1 marks what the script cannot read; numbers that are no rating count as unread here.
        let (reference, answer) = (number(&row[1][0]), number(&row[1][1]));
        let expected = (rating(reference) && rating(answer)).then_some(Verdict::Ratings { reference, answer });
        assert_eq!(read_reply(&COCO, reply), expected, "{reply:?}");
        let with_ratio = expected.filter(|_| reference > 0.0);
        let mean_of_ratios = bench(JudgeContext::InTheWild, RelativeScore::MeanOfRatios);
        assert_eq!(read_reply(&mean_of_ratios, reply), with_ratio, "{reply:?}");
        read[0] += usize::from(expected.is_some());

        let found = read_reply(&ScorerRule::LlavaMedChat, reply);
        let expected = row[2].as_array().map(|values| values.iter().map(number).collect::<Vec<_>>());
        let expected = expected.filter(|values| values[..2].iter().all(|value| rating(*value)));
        match (found, &expected) {
            (Some(Verdict::Ratings { reference, answer }), Some(values)) => {
                assert_eq!([reference, answer], values[..2], "{reply:?}");
                assert!((100.0 * (answer / reference) - values[2]).abs() < 1e-9, "{reply:?}");
            }
            (None, None) => {}
            _ => panic!("{reply:?}: {found:?}, the script {expected:?}"),
        }
        read[1] += usize::from(found.is_some());

        let expected = Some(&row[3]).filter(|value| !value.is_null()).map(number).filter(|value| value.is_finite());
        assert_eq!(read_reply(&ScorerRule::MmVet, reply), expected.map(Verdict::Correctness), "{reply:?}");
        read[2] += usize::from(expected.is_some());
    }
    assert!(cases >= 1500 && read.iter().all(|count| *count >= 150), "{cases} {read:?}");
}

#[test]
fn a_match_is_one_word() {
    let read = |reply| read_reply(&ScorerRule::JudgeMatch, reply);
    for reply in ["correct", "Correct", " CORRECT.\n", "correct."] {
        assert_eq!(read(reply), Some(Verdict::Match(true)), "{reply:?}");
    }
    assert_eq!(read("Incorrect."), Some(Verdict::Match(false)));
    for reply in
        ["", "not correct", "correct, because", "correct incorrect", "yes", "correct\nincorrect", "**correct**", "c orrect"]
    {
        assert_eq!(read(reply), None, "{reply:?}");
    }
}

/// The first 16 digits over roles and texts as Python's `json.dumps` writes them.
fn digest(request: &ChatRequest) -> String {
    let role = |role: Role| if role == Role::System { "system" } else { "user" };
    let text = |text: &str| serde_json::to_string(text).unwrap();
    let parts = request.messages.iter().map(|message| format!("[\"{}\", {}]", role(message.role), text(&message.content)));
    let listed = format!("[{}]", parts.collect::<Vec<_>>().join(", "));
    Sha256::digest(listed.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Compares a request with one of the fixture: its texts in full, or their digest.
fn compare_request(request: &ChatRequest, expected: &Value, what: &str) {
    let messages = if expected.is_array() { expected } else { &expected["messages"] };
    if let Some(messages) = messages.as_array() {
        assert_eq!(request.messages.len(), messages.len(), "{what}");
        for (message, expected) in request.messages.iter().zip(messages) {
            assert_eq!(serde_json::to_value(message.role).unwrap(), expected["role"], "{what}");
            assert_eq!(message.content, expected["content"].as_str().unwrap(), "{what}");
        }
    } else {
        assert_eq!(digest(request), expected["digest"].as_str().unwrap(), "{what}");
    }
    for (name, value) in [("temperature", request.temperature), ("max_tokens", request.max_tokens.map(f64::from))] {
        if let Some(expected) = expected.get(name) {
            assert_eq!(value, expected.as_f64(), "{what}: {name}");
        }
    }
}

fn subject<'a>(sample: &'a Sample, answer: &'a str) -> Subject<'a> {
    Subject {
        key: &sample.key,
        question: &sample.question,
        category: sample.category.as_deref(),
        reference: &sample.reference,
        answer,
    }
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

fn write_lines(path: &Path, rows: &Value) {
    let lines: String = rows.as_array().unwrap().iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(path, lines).unwrap();
}

/// A benchmark on data in a folder: the built-in file without its number of rows.
fn load(name: &str, folder: &Path) -> Benchmark {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("benchmarks/{name}.toml"))).unwrap();
    let text: String = text.lines().filter(|line| !line.starts_with("rows = ")).map(|line| format!("{line}\n")).collect();
    let path = folder.join("benchmark.toml");
    std::fs::write(&path, text).unwrap();
    Benchmark::load(path.to_str().unwrap(), Some(folder)).unwrap()
}

fn judge_rule(benchmark: &Benchmark) -> JudgeRule {
    JudgeRule::new(benchmark.spec.scorer.rule, None, None).unwrap()
}

#[test]
fn llava_bench_prompts_are_the_official_ones() {
    let recorded = json("judge_prompts.json");
    for (set, name, files) in [
        ("coco", "llava_bench_coco", ["qa90_questions.jsonl", "qa90_gpt4_answer.jsonl", "caps_boxes_coco2014_val_80.jsonl"]),
        ("in_the_wild", "llava_bench_in_the_wild", ["questions.jsonl", "answers_gpt4.jsonl", "context.jsonl"]),
    ] {
        let recorded = &recorded[set];
        let folder = tempfile::tempdir().unwrap();
        for (file, member) in files.iter().zip(["questions", "answers", "contexts"]) {
            write_lines(&folder.path().join(file), &recorded[member]);
        }
        let benchmark = load(name, folder.path());
        assert_eq!(benchmark.samples.len(), 9);
        let rule = judge_rule(&benchmark);
        for ((sample, answer), expected) in
            benchmark.samples.iter().zip(texts(&recorded["predictions"])).zip(recorded["requests"].as_array().unwrap())
        {
            let request = rule.request("gpt-4-0314", &subject(sample, answer), 1).unwrap();
            compare_request(&request, expected, &format!("{set} {}", sample.key));
        }
    }
}

#[test]
fn llava_bench_coco_prompts_on_the_real_data() {
    let Some(data) = shared_data() else { return };
    let recorded = json("judge_prompts.json");
    let benchmark = Benchmark::load("llava_bench_coco", Some(&data.join("llava_bench_coco"))).unwrap();
    assert_eq!(benchmark.samples.len(), 90);
    assert!(benchmark.samples[0].images[0].display().ends_with("val2014/COCO_val2014_000000441147.jpg"));
    let rule = judge_rule(&benchmark);
    let digests = texts(&recorded["llava_bench_coco"]["digests"]);
    assert_eq!(digests.len(), 90);
    for ((sample, answer), expected) in
        benchmark.samples.iter().zip(texts(&recorded["llava_bench_coco"]["predictions"])).zip(digests)
    {
        assert_eq!(digest(&rule.request("m", &subject(sample, answer), 1).unwrap()), expected, "{}", sample.key);
    }
}

#[test]
fn llava_med_prompts_are_the_official_ones() {
    let recorded = &json("judge_prompts.json")["llava_med_chat"];
    let folder = tempfile::tempdir().unwrap();
    write_lines(&folder.path().join("llava_med_eval_qa50_qa.jsonl"), &recorded["questions"]);
    let benchmark = load("llava_med_chat", folder.path());
    let rule = judge_rule(&benchmark);
    let requests = recorded["requests"].as_array().unwrap();
    assert_eq!((benchmark.samples.len(), requests.len()), (6, 6));
    for ((sample, answer), expected) in benchmark.samples.iter().zip(texts(&recorded["predictions"])).zip(requests) {
        let request = rule.request("gpt-4-0314", &subject(sample, answer), 1).unwrap();
        compare_request(&request, expected, &sample.key);
        assert_eq!((request.temperature, request.max_tokens), (Some(0.0), None));
    }
}

#[test]
fn mm_vet_asks_what_the_official_script_asks() {
    let recorded = &json("judge_prompts.json")["mm_vet"];
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mm-vet.json"), recorded["questions"].to_string()).unwrap();
    let benchmark = load("mm_vet", folder.path());
    let rule = judge_rule(&benchmark);
    assert_eq!(benchmark.samples.len(), 7);
    let mut compared = 0;
    for (sample, answer) in benchmark.samples.iter().zip(texts(&recorded["predictions"])) {
        // The script's sixth request gets a reply that it does not look at.
        let requests = recorded["requests"][&sample.key].as_array().unwrap();
        for (index, expected) in requests.iter().take(rule.attempts()).enumerate() {
            let request = rule.request("gpt-4-0613", &subject(sample, answer), index + 1).unwrap();
            compare_request(&request, expected, &format!("{} {index}", sample.key));
            compared += 1;
        }
    }
    assert!(compared > 10, "{compared}");
    let request = rule.request("m", &subject(&benchmark.samples[0], texts(&recorded["predictions"])[0]), 1).unwrap();
    assert_eq!(request.messages[0].content, recorded["first"].as_str().unwrap());
}

fn value_of(scorer: &ScorerSpec, scores: &[(Option<String>, SampleScore)], metric: &str) -> f64 {
    let samples: Vec<ScoredSample<'_>> = scores
        .iter()
        .map(|(category, score)| ScoredSample {
            cluster: "x",
            category: category.as_deref(),
            contributions: &score.contributions,
        })
        .collect();
    let found = summarise_scored(&metrics(scorer), &samples);
    found.iter().find(|summary| summary.name == metric).unwrap().estimate.value
}

#[test]
fn mm_vet_scores_are_the_official_ones() {
    let recorded = json("judge_mm_vet.json");
    let rule = JudgeRule::new(ScorerRule::MmVet, None, None).unwrap();
    let scorer = ScorerSpec::new(ScorerRule::MmVet);
    let (mut scores, mut unread) = (Vec::new(), 0);
    for (key, replies) in recorded["replies"].as_object().unwrap() {
        let mut capabilities: Vec<String> = texts(&recorded["capabilities"][key]).into_iter().map(str::to_owned).collect();
        capabilities.sort();
        let category = Some(capabilities.join("_"));
        let reference = Reference::Judged { answer: "a".to_owned(), context: None, capabilities };
        let official = recorded["scores"][key].as_f64().unwrap();
        let asked = recorded["asked"][key].as_u64().unwrap() as usize;
        let read = texts(replies).into_iter().take(rule.attempts()).find_map(|reply| read_reply(rule.scorer(), reply));
        match read {
            Some(verdict) => {
                let score = judged(rule.scorer(), &reference, category.as_deref(), verdict);
                assert_eq!(score.value, Some(official), "{key}");
                scores.push((category, score));
            }
            None => {
                assert_eq!((official, asked), (0.0, rule.attempts() + 1), "{key}");
                unread += 1;
            }
        }
    }
    assert!(unread > 5 && scores.len() > 80, "{unread} {}", scores.len());
    for (name, expected) in recorded["readable_table"].as_object().unwrap() {
        let metric = if name == "total" { "mm_vet_score" } else { name };
        let found = value_of(&scorer, &scores, metric);
        assert!((found - expected.as_f64().unwrap()).abs() < 1e-9, "{name}: {found}, {expected}");
    }
    for (name, expected) in recorded["readable_integrations"].as_object().unwrap() {
        let members: Vec<_> = scores.iter().filter(|(category, _)| category.as_deref() == Some(name)).cloned().collect();
        let found = value_of(&scorer, &members, "mm_vet_score");
        assert!((found - expected.as_f64().unwrap()).abs() < 1e-9, "{name}: {found}, {expected}");
    }
    // With 0 for replies that cannot be read, as the script has it.
    let shares: f64 = scores.iter().filter_map(|(_, score)| score.value).sum();
    let official = recorded["table"]["total"].as_f64().unwrap();
    assert!((100.0 * shares / (scores.len() + unread) as f64 - official).abs() < 1e-9);
}

/// `round(x, digits)` of Python for the sizes here.
fn round(value: f64, digits: usize) -> f64 {
    format!("{value:.digits$}").parse().unwrap()
}

#[test]
fn every_stored_review_is_read_and_summarised_as_llava_does() {
    let Some(data) = shared_data() else { return };
    let scorer = ScorerSpec::new(COCO);
    // Output of summarize_gpt_review.py on the four files.
    for (name, expected) in [
        ("review_alpaca-13b_vicuna-13b.jsonl", ALPACA),
        ("review_bard_vicuna-13b.jsonl", BARD),
        ("review_gpt35_vicuna-13b.jsonl", GPT35),
        ("review_llama-13b_vicuna-13b.jsonl", LLAMA),
    ] {
        let text = std::fs::read_to_string(data.join("llava_bench_coco").join(name)).unwrap();
        let (mut ours, mut by_hand) = (Vec::new(), Vec::new());
        for line in text.lines() {
            let review: Value = serde_json::from_str(line).unwrap();
            let (first, second) = (review["score"][0].as_f64().unwrap(), review["score"][1].as_f64().unwrap());
            let stored = Verdict::Ratings { reference: first, answer: second };
            match read_reply(&COCO, review["text"].as_str().unwrap()) {
                Some(read) => assert_eq!(read, stored, "{name}"),
                // The judge solves the three problems of mathematics first; their scores were put in by hand.
                None => by_hand.push(review["question_id"].as_u64().unwrap()),
            }
            let reference = Reference::Judged { answer: String::new(), context: None, capabilities: Vec::new() };
            ours.push((None, judged(&COCO, &reference, None, stored)));
        }
        assert_eq!((ours.len(), by_hand.as_slice()), (80, [68, 69, 70].as_slice()), "{name}");
        let [relative, first, second] =
            ["relative_score", "reference_rating", "answer_rating"].map(|metric| value_of(&scorer, &ours, metric));
        // The script rounds the means before it divides.
        let (first, second) = (round(first / 10.0, 3), round(second / 10.0, 3));
        assert_eq!([round(second / first * 100.0, 1), round(first * 10.0, 1), round(second * 10.0, 1)], expected, "{name}");
        assert!((relative - expected[0]).abs() < 0.06, "{name}: {relative}");
    }
}

#[test]
fn scores_of_the_other_rules() {
    let reference =
        Reference::Judged { answer: "a".to_owned(), context: Some("c".to_owned()), capabilities: vec!["mri".to_owned()] };
    let verdict = Verdict::Ratings { reference: 8.0, answer: 6.0 };
    let score = judged(&ScorerRule::LlavaMedChat, &reference, Some("conversation"), verdict);
    let names: Vec<&str> = score.contributions.keys().map(String::as_str).collect();
    assert_eq!(names, ["answer_rating", "conversation", "mri", "reference_rating", "relative_score"]);
    assert_eq!((score.value, score.contributions["mri"].numerator), (Some(0.6), 0.75));
    let score = judged(&COCO, &reference, Some("conv"), verdict);
    let ratio = score.contributions["relative_score"];
    assert_eq!((ratio.numerator, ratio.denominator, score.parsed.as_deref()), (6.0, 8.0, Some("8 6")));
    let score = judged(&ScorerRule::JudgeMatch, &reference, None, Verdict::Match(true));
    assert_eq!((score.value, score.contributions["judged_accuracy"].numerator), (Some(1.0), 1.0));
}

#[test]
fn an_answer_alone_has_no_score_and_is_not_unparsed() {
    let reference = Reference::Judged { answer: "a".to_owned(), context: None, capabilities: Vec::new() };
    for rule in ScorerRule::all().into_iter().filter(ScorerRule::needs_judge) {
        let scored = score(&ScorerSpec::new(rule), &reference, "an answer");
        assert_eq!((scored.value, scored.parsed.as_deref()), (None, Some("an answer")), "{}", rule.identity());
        assert!(scored.contributions.is_empty() && scored.detail.get("error").is_none());
        assert_eq!(ScorerRule::by_name(&rule.identity()), Some(rule));
    }
}

#[test]
fn a_sample_without_a_prompt_names_what_is_missing() {
    let reference = Reference::Judged { answer: "a".to_owned(), context: None, capabilities: Vec::new() };
    let subject = Subject { key: "k7", question: "q", category: Some("poem"), reference: &reference, answer: "x" };
    let error = |rule| JudgeRule::new(rule, None, None).unwrap().request("m", &subject, 1).unwrap_err().to_string();
    assert!(error(COCO).contains("\"k7\"") && error(COCO).contains("\"poem\"") && error(COCO).contains("complex, conv, detail"));
    assert!(error(ScorerRule::LlavaMedChat).contains("context"));
    assert!(JudgeRule::new(ScorerRule::Pope, None, None).is_none());
}

/// What the judge is asked about an answer "x" to every sample.
fn asked(benchmark: &Benchmark) -> Vec<String> {
    let rule = judge_rule(benchmark);
    let ask = |sample: &Sample| rule.request("m", &subject(sample, "x"), 1).unwrap().messages.last().unwrap().content.clone();
    benchmark.samples.iter().map(ask).collect()
}

#[test]
fn other_forms_of_the_same_data_ask_the_same() {
    let pictures: Vec<Vec<u8>> = (0..3).map(|shade| png(4, 4, [shade, 0, 0])).collect();
    let image = || Column::Image("image", pictures.iter().map(|bytes| Some((Some(bytes.clone()), None))).collect());

    // MM-Vet: the release, parquet with the capabilities as one text, and VLMEvalKit's TSV.
    let questions = ["What is x?", "Why, \"so\"?", "Where?"];
    let answers = ["-1<AND>-5", "a<OR>b", "there"];
    let capabilities = ["ocr,math", "rec", "rec,know,gen"];
    let keys = ["v1_0", "v1_1", "v1_2"];
    let folder = tempfile::tempdir().unwrap();
    let rows: serde_json::Map<String, Value> = (0..3)
        .map(|index| {
            let capability: Vec<&str> = capabilities[index].split(',').collect();
            let row = serde_json::json!({
                "imagename": format!("{index}.png"), "question": questions[index], "answer": answers[index], "capability": capability,
            });
            (keys[index].to_owned(), row)
        })
        .collect();
    std::fs::write(folder.path().join("mm-vet.json"), Value::Object(rows).to_string()).unwrap();
    let official = load("mm_vet", folder.path());
    let folder = tempfile::tempdir().unwrap();
    let columns = [
        Column::Text("question_id", some_texts(&keys)),
        Column::Text("question", some_texts(&questions)),
        Column::Text("answer", some_texts(&answers)),
        Column::Text("capability", some_texts(&capabilities)),
        image(),
    ];
    write_parquet(&folder.path().join("data/test-00000-of-00001.parquet"), &columns, 2, Compression::SNAPPY);
    let parquet = load("mm_vet", folder.path());
    let folder = tempfile::tempdir().unwrap();
    let mut tsv = "index\timage\tquestion\tanswer\tcategory\n".to_owned();
    for index in 0..3 {
        let picture = base64(&pictures[index]);
        let question = questions[index].replace('"', "\"\"");
        tsv += &format!("{index}\t{picture}\t\"{question}\"\t{}\t\"{}\"\n", answers[index], capabilities[index]);
    }
    std::fs::write(folder.path().join("MMVet.tsv"), tsv).unwrap();
    let tsv = load("mm_vet", folder.path());
    for form in [&parquet, &tsv] {
        assert_eq!(asked(form), asked(&official));
        for (sample, expected) in form.samples.iter().zip(&official.samples) {
            assert_eq!((&sample.reference, &sample.category), (&expected.reference, &expected.category));
            assert_eq!(sample.prompt, expected.prompt);
        }
    }
    assert_eq!(parquet.samples[2].category.as_deref(), Some("gen_know_rec"));
    assert_eq!(parquet.samples[0].key, "v1_0");

    // LLaVA-Bench (In-the-Wild): the release, parquet with captions as a list, and VLMEvalKit's TSV.
    let folder = tempfile::tempdir().unwrap();
    let categories = ["conv", "detail", "complex"];
    let lines = |row: &dyn Fn(usize) -> Value| (0..3).map(|index| format!("{}\n", row(index))).collect::<String>();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    let question = |index: usize| serde_json::json!({ "question_id": index, "image": format!("{index}.jpg"), "text": questions[index], "category": categories[index] });
    write("questions.jsonl", lines(&question));
    write("answers_gpt4.jsonl", lines(&|index| serde_json::json!({ "question_id": index, "text": answers[index] })));
    let context = |index| serde_json::json!({ "image": format!("{index}.jpg"), "caption": format!("Caption {index}.\nMore.") });
    write("context.jsonl", lines(&context));
    let official = load("llava_bench_in_the_wild", folder.path());
    let captions: Vec<Vec<String>> = (0..3).map(|index| vec![format!("Caption {index}."), "More.".to_owned()]).collect();
    for caption in [
        Column::Texts("caption", captions),
        Column::Text("caption", (0..3).map(|index| Some(format!("Caption {index}.\nMore."))).collect()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let columns = [
            Column::Integer("question_id", vec![0, 1, 2]),
            Column::Text("question", some_texts(&questions)),
            Column::Text("gpt_answer", some_texts(&answers)),
            Column::Text("category", some_texts(&categories)),
            image(),
            caption,
        ];
        write_parquet(&folder.path().join("data/train-00000-of-00001.parquet"), &columns, 3, Compression::UNCOMPRESSED);
        assert_eq!(asked(&load("llava_bench_in_the_wild", folder.path())), asked(&official));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut tsv = "index\timage\tquestion\tgpt4_ans\tcaption\tcategory\n".to_owned();
    for index in 0..3 {
        let picture = base64(&pictures[index]);
        let question = questions[index].replace('"', "\"\"");
        tsv += &format!(
            "{index}\t{picture}\t\"{question}\"\t{}\t\"Caption {index}.\nMore.\"\t{}\n",
            answers[index], categories[index]
        );
    }
    std::fs::write(folder.path().join("LLaVABench.tsv"), tsv).unwrap();
    assert_eq!(asked(&load("llava_bench_in_the_wild", folder.path())), asked(&official));
}

#[test]
fn broken_files_are_named_with_row_and_field() {
    let error = |name: &str, files: &[(&str, &str)]| {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in files {
            std::fs::write(folder.path().join(file), text).unwrap();
        }
        let text =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("benchmarks/{name}.toml"))).unwrap();
        let text: String = text.lines().filter(|line| !line.starts_with("rows = ")).map(|line| format!("{line}\n")).collect();
        let path = folder.path().join("benchmark.toml");
        std::fs::write(&path, text).unwrap();
        Benchmark::load(path.to_str().unwrap(), Some(folder.path())).unwrap_err().to_string()
    };
    let question = r#"{"question_id": 1, "image": "a.jpg", "text": "q", "category": "conv"}"#;
    let answer = r#"{"question_id": 1, "text": "a"}"#;
    let context = r#"{"image": "a.jpg", "caption": "c"}"#;
    let wild = |questions: &str, answers: &str, contexts: &str| {
        error(
            "llava_bench_in_the_wild",
            &[("questions.jsonl", questions), ("answers_gpt4.jsonl", answers), ("context.jsonl", contexts)],
        )
    };
    for (found, words) in [
        (wild(&format!("{question}\n{question}"), answer, context), &["questions.jsonl, row 2", "question_id", "again"][..]),
        (wild(question, r#"{"question_id": 2, "text": "a"}"#, context), &["question_id", "answers_gpt4.jsonl", "no answer"]),
        (wild(question, &format!("{answer}\n{{\"question_id\": 3, \"text\": \"\"}}"), context), &["answers_gpt4.jsonl", "\"3\""]),
        (wild(question, answer, r#"{"image": "b.jpg", "caption": "c"}"#), &["row 1", "`image`", "context.jsonl"]),
        (wild(question, answer, r#"{"image": "a.jpg"}"#), &["context.jsonl, row 1", "caption"]),
        (wild(question, answer, r#"{"image": "a.jpg", "caption": 7}"#), &["context.jsonl, row 1", "caption"]),
        (
            wild(&question.replace("a.jpg", "../a.jpg"), answer, r#"{"image": "../a.jpg", "caption": "c"}"#),
            &["below the data folder"],
        ),
        (error("mm_vet", &[("mm-vet.json", "[]")]), &["mm-vet.json", "object of questions"]),
        (
            error(
                "mm_vet",
                &[("mm-vet.json", r#"{"v1_0": {"imagename": "a", "question": "q", "answer": "a", "capability": ["fly"]}}"#)],
            ),
            &["row 1", "capability", "\"fly\""],
        ),
        (error("llava_med_chat", &[("llava_med_eval_qa50_qa.jsonl", "{}")]), &["row 1", "question_id"]),
        (
            error(
                "llava_med_chat",
                &[(
                    "llava_med_eval_qa50_qa.jsonl",
                    r#"{"question_id": 1, "image": "a", "text": "q", "type": "conversation", "domain": {"mri": false}}"#,
                )],
            ),
            &["domain", "chest_xray"],
        ),
    ] {
        assert!(words.iter().all(|word| found.contains(word)), "{found}: {words:?}");
    }
}
