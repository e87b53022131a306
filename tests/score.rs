//! The scorers against the official evaluators: recorded scores (`fixtures/score`, made by running their Python code), known
//! corner cases, and properties that hold for any text.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use llava_gauge::benchmark::{
    Benchmark, BenchmarkSpec, BoxSpace, Contribution, PixelBox, Reference, RetrievalDirection, Sample, ScorerRule, ScorerSpec,
    ThresholdRule, VqaVariant,
};
use llava_gauge::score::{
    SampleScore, intersection_over_union, m4c_accuracy, m4c_normalise, metrics, official_accuracy, official_normalise, parse_box,
    says_yes, score, to_original_pixels,
};
use proptest::prelude::*;
use serde_json::Value;

fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/score").join(name);
    serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap()
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

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

const OFFICIAL: ScorerRule = ScorerRule::Vqa { variant: VqaVariant::Official };
const M4C: ScorerRule = ScorerRule::Vqa { variant: VqaVariant::M4c };
const PADDED: ScorerRule = ScorerRule::Grounding { box_space: BoxSpace::PaddedSquare, threshold_rule: ThresholdRule::AtLeast };
const ORIGINAL: ScorerRule = ScorerRule::Grounding { box_space: BoxSpace::Original, threshold_rule: ThresholdRule::AtLeast };

/// The ratio of sums of a metric in per cent.
fn percent(scores: &[SampleScore], metric: &str) -> f64 {
    let (numerator, denominator) = scores.iter().fold((0.0, 0.0), |(numerator, denominator), score| {
        let Contribution { numerator: n, denominator: d } = score.contributions[metric];
        (numerator + n, denominator + d)
    });
    100.0 * numerator / denominator
}

#[test]
fn vqa_accuracy_and_normalisation_equal_the_official_code_to_the_last_bit() {
    let recorded = fixture("official_vqa.json");
    let texts = strings(&recorded["strings"]);
    let text = |value: &Value| texts[value.as_u64().unwrap() as usize].as_str();
    let references: Vec<Vec<String>> = recorded["references"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row.as_array().unwrap().iter().map(|value| text(value).to_owned()).collect())
        .collect();
    let cases = recorded["cases"].as_array().unwrap();
    assert!(cases.len() >= 1000, "{}", cases.len());
    for case in cases {
        let answers = &references[case[0].as_u64().unwrap() as usize];
        let prediction = text(&case[1]);
        assert_eq!(official_normalise(prediction), text(&case[2]), "official normalisation of {prediction:?}");
        assert_eq!(m4c_normalise(prediction), text(&case[3]), "m4c normalisation of {prediction:?}");
        let (official, _) = official_accuracy(answers, prediction);
        assert_eq!(100.0 * official, case[4].as_f64().unwrap(), "official accuracy of {prediction:?} against {answers:?}");
        let (m4c, _) = m4c_accuracy(answers, prediction);
        assert_eq!(100.0 * m4c, case[5].as_f64().unwrap(), "m4c accuracy of {prediction:?} against {answers:?}");
    }
}

#[test]
fn pope_parsing_and_totals_equal_the_official_code() {
    let recorded = fixture("official_pope.json");
    let mut cases = 0;
    for group in recorded["groups"].as_array().unwrap() {
        let mut cells = [0_u64; 4];
        let mut scores = Vec::new();
        for case in group["cases"].as_array().unwrap() {
            let [prediction, label, counted_as] = [0, 1, 2].map(|index| case[index].as_str().unwrap());
            assert_eq!(says_yes(prediction), counted_as == "yes", "{prediction:?}");
            let scored = score(&ScorerSpec::new(ScorerRule::Pope), &Reference::YesNo { yes: label == "yes" }, prediction);
            let cell = ["tp", "fp", "tn", "fn"].iter().position(|cell| scored.detail["cell"] == *cell).unwrap();
            cells[cell] += 1;
            scores.push(scored);
            cases += 1;
        }
        let expected: Vec<u64> =
            group["confusion_tp_fp_tn_fn"].as_array().unwrap().iter().map(|value| value.as_u64().unwrap()).collect();
        assert_eq!(cells.to_vec(), expected);
        for metric in ["accuracy", "precision", "recall", "f1", "yes_ratio"] {
            // The official F1 goes through precision and recall; the ratio of counts may differ in the last bits.
            let difference = percent(&scores, metric) - 100.0 * group[metric].as_f64().unwrap();
            assert!(difference.abs() < 1e-10, "{metric}: {difference}");
        }
    }
    assert!(cases >= 1000, "{cases}");
}

#[test]
fn llava_s_published_confusion_counts_give_its_published_f1() {
    // LLaVA-1.5-7B on the random split of 2,910 rows (haotian-liu/LLaVA issue 626): 1183 TP, 31 FP, 1379 TN, 317 FN.
    let answers = |count: usize, yes: bool, text: &'static str| std::iter::repeat_n((yes, text), count);
    let all = answers(1183, true, "Yes").chain(answers(31, false, "Yes")).chain(answers(1379, false, "No"));
    let scores: Vec<SampleScore> = all
        .chain(answers(317, true, "No"))
        .map(|(yes, text)| score(&ScorerSpec::new(ScorerRule::Pope), &Reference::YesNo { yes }, text))
        .collect();
    assert_eq!(scores.len(), 2910);
    assert_eq!(format!("{:.3}", percent(&scores, "f1")), "87.178");
}

#[test]
fn boxes_are_parsed_and_matched_as_in_lmms_eval() {
    let recorded = fixture("official_grounding.json");
    let cases = recorded["cases"].as_array().unwrap();
    assert!(cases.len() >= 1000, "{}", cases.len());
    for case in cases {
        let text = case[0].as_str().unwrap();
        let expected: Option<Vec<f64>> =
            case[4].as_array().map(|numbers| numbers.iter().map(|number| number.as_str().unwrap().parse().unwrap()).collect());
        assert_eq!(parse_box(text).map(|numbers| numbers.to_vec()), expected, "{text:?}");
        let corner = |index: usize| case[3][index].as_f64().unwrap();
        let reference = Reference::Region {
            region: PixelBox { x1: corner(0), y1: corner(1), x2: corner(2), y2: corner(3) },
            width: case[1].as_u64().unwrap() as u32,
            height: case[2].as_u64().unwrap() as u32,
        };
        let scored = score(&ScorerSpec::new(ORIGINAL), &reference, text);
        let iou = scored.detail["iou"].as_f64().unwrap();
        // lmms-eval computes in shares of the image, we in pixels: the same up to rounding.
        assert!((iou - case[5].as_f64().unwrap()).abs() < 1e-9, "{text:?}: {iou}");
        for (index, (metric, threshold)) in
            [("acc@0.1", 0.1), ("acc@0.3", 0.3), ("acc@0.5", 0.5), ("acc@0.7", 0.7), ("acc@0.9", 0.9)].into_iter().enumerate()
        {
            if (iou - threshold).abs() > 1e-9 {
                assert_eq!(scored.contributions[metric].numerator, case[6][index].as_f64().unwrap(), "{text:?} {metric}");
            }
        }
    }
}

/// Checks the four golden files of a folder.
fn check_goldens(folder: &Path) {
    let read = |name: &str| -> Value { serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap() };
    for case in read("vqa_normalise.json").as_array().unwrap() {
        let text = case["in"].as_str().unwrap();
        assert_eq!(official_normalise(text), case["vqa_official_head"], "{text:?}");
        assert_eq!(m4c_normalise(text), case["llava_m4c"], "{text:?}");
    }
    for case in read("vqa_official_accuracy.json").as_array().unwrap() {
        let (answers, text) = (strings(&case["answers"]), case["pred"].as_str().unwrap());
        assert_eq!(100.0 * official_accuracy(&answers, text).0, case["official_vqa_head_percent"], "{answers:?} {text:?}");
        assert_eq!(100.0 * m4c_accuracy(&answers, text).0, case["llava_m4c"], "{answers:?} {text:?}");
    }
    for case in read("vqa_soft_scores.json").as_array().unwrap() {
        let answers = strings(&case["answers"]);
        for (text, expected) in case["scores"].as_object().unwrap() {
            // The file has one decimal; 0.9 as a mean of ten is 0.9 only up to rounding.
            assert!((m4c_accuracy(&answers, text).0 - expected.as_f64().unwrap()).abs() < 1e-12, "{answers:?} {text:?}");
        }
    }
    for case in read("yesno_parse.json")["pope_official"].as_array().unwrap() {
        let text = case["in"].as_str().unwrap();
        assert_eq!(says_yes(text), case["out"] == "yes", "{text:?}");
    }
}

#[test]
fn golden_values_are_reproduced() {
    check_goldens(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/score/goldens"));
    if let Some(shared) = shared_data() {
        check_goldens(&shared.join("goldens"));
    }
}

#[test]
fn unanimous_references_are_compared_as_they_are_only_by_the_official_variant() {
    let answers = vec!["yes".to_owned(); 10];
    let reference = Reference::Answers { answers };
    let value = |rule, text| score(&ScorerSpec::new(rule), &reference, text).value;
    assert_eq!(value(OFFICIAL, "Yes"), Some(0.0));
    assert_eq!(value(OFFICIAL, " yes\n"), Some(1.0));
    assert_eq!(value(M4C, "Yes"), Some(1.0));
    assert_eq!(value(ScorerRule::Textvqa, "Yes."), Some(1.0));
}

#[test]
fn answers_that_say_nothing_are_unparsed_and_still_scored() {
    let region = PixelBox { x1: 0.0, y1: 0.0, x2: 10.0, y2: 10.0 };
    let grounding = score(&ScorerSpec::new(PADDED), &Reference::Region { region, width: 10, height: 10 }, "the left one");
    assert_eq!((grounding.parsed, grounding.value), (None, Some(0.0)));
    assert_eq!(grounding.contributions["acc@0.5"].denominator, 1.0);
    assert_eq!(grounding.detail["predicted_box"], Value::Null);
    // The official rule counts whatever is not a no as yes.
    let pope = score(&ScorerSpec::new(ScorerRule::Pope), &Reference::YesNo { yes: true }, "a red bus");
    assert_eq!((pope.parsed.as_deref(), pope.value, &pope.detail["counted_as"]), (None, Some(1.0), &Value::from("yes")));
    let vqa = score(&ScorerSpec::new(OFFICIAL), &Reference::Answers { answers: vec!["yes".to_owned(); 10] }, " \n");
    assert_eq!((vqa.parsed, vqa.value, vqa.contributions["vqa_accuracy"].denominator), (None, Some(0.0), 1.0));
}

#[test]
fn a_box_in_the_padded_square_is_moved_back_to_the_image() {
    // 640 × 480: the image stands 80 pixels below the top of a 640-pixel square.
    let predicted = to_original_pixels([0.25, 0.25, 0.5, 0.5], BoxSpace::PaddedSquare, 640, 480);
    assert_eq!(predicted, PixelBox { x1: 160.0, y1: 80.0, x2: 320.0, y2: 240.0 });
    // An odd remainder is rounded down, as the padding does: (640 − 427) / 2 = 106.
    let predicted = to_original_pixels([0.0, 0.5, 1.0, 1.0], BoxSpace::PaddedSquare, 640, 427);
    assert_eq!(predicted, PixelBox { x1: 0.0, y1: 214.0, x2: 640.0, y2: 427.0 });
    let scored = score(
        &ScorerSpec::new(PADDED),
        &Reference::Region { region: PixelBox { x1: 160.0, y1: 80.0, x2: 320.0, y2: 240.0 }, width: 640, height: 480 },
        "[0.25, 0.25, 0.5, 0.5]",
    );
    assert_eq!((scored.value, scored.parsed.as_deref()), (Some(1.0), Some("[0.25, 0.25, 0.5, 0.5]")));
    assert_eq!(scored.detail["predicted_box"], serde_json::json!([160.0, 80.0, 320.0, 240.0]));
    assert_eq!(scored.detail["reference_box"], scored.detail["predicted_box"]);
    assert_eq!(scored.detail["iou"], 1.0);
}

#[test]
fn an_iou_of_exactly_one_half_counts_only_with_at_least() {
    let reference = Reference::Region { region: PixelBox { x1: 0.0, y1: 0.0, x2: 64.0, y2: 64.0 }, width: 64, height: 64 };
    let value = |threshold_rule| {
        let rule = ScorerRule::Grounding { box_space: BoxSpace::Original, threshold_rule };
        score(&ScorerSpec::new(rule), &reference, "[0, 0, 1, 0.5]").value
    };
    assert_eq!((value(ThresholdRule::AtLeast), value(ThresholdRule::Above)), (Some(1.0), Some(0.0)));
}

#[test]
fn every_metric_of_a_scorer_gets_a_contribution_and_the_primary_one_comes_first() {
    for spec in BenchmarkSpec::list().unwrap() {
        let listed = metrics(&spec.scorer);
        assert_eq!(listed.iter().filter(|metric| metric.primary).count(), 1, "{}", spec.name);
        assert!(listed[0].primary && listed[0].name == spec.scorer.primary_metric);
        let mut names: Vec<&str> = listed.iter().map(|metric| metric.name.as_str()).collect();
        assert_eq!(names.len(), spec.scorer.rule.metric_names().len());
        assert!(names.iter().all(|name| spec.scorer.rule.metric_names().contains(name)));
        // Their metrics need categories and all answers: tests/score_short_answers.rs.
        if matches!(spec.scorer.rule, ScorerRule::ShortAnswer(_)) {
            continue;
        }
        let region = PixelBox { x1: 0.0, y1: 0.0, x2: 1.0, y2: 1.0 };
        let retrieval = |direction| Reference::Retrieval { direction, relevant: vec!["no".to_owned()], candidates: 10 };
        let references = match spec.scorer.rule {
            ScorerRule::Pope => vec![Reference::YesNo { yes: false }],
            ScorerRule::Grounding { .. } => vec![Reference::Region { region, width: 1, height: 1 }],
            ScorerRule::Vqa { .. } | ScorerRule::Textvqa => vec![Reference::Answers { answers: vec![String::new(); 10] }],
            ScorerRule::LlavaMed => {
                [true, false].map(|open| Reference::OpenOrClosed { answer: "no".to_owned(), open }).into_iter().collect()
            }
            ScorerRule::ZeroShot => vec![Reference::Class { label: "no".to_owned(), classes: 10 }],
            ScorerRule::ShortAnswer(_) => Vec::new(),
            ScorerRule::Retrieval => vec![retrieval(RetrievalDirection::ImageToText), retrieval(RetrievalDirection::TextToImage)],
            // Some of their metrics need all answers; score_choice.rs looks at them.
            ScorerRule::Choice { .. } | ScorerRule::Nlvr2 | ScorerRule::Interleave { .. } => continue,
            ScorerRule::ChoiceLikelihood => vec![Reference::Choice { options: vec!["no".to_owned(); 4], answer: 1 }],
        };
        // Ten lines, so that rankings are long enough for every cut-off.
        let answer = "no\n".repeat(10);
        let scored: BTreeSet<String> =
            references.iter().flat_map(|reference| score(&spec.scorer, reference, &answer).contributions.into_keys()).collect();
        names.sort_unstable();
        assert_eq!(scored.iter().map(String::as_str).collect::<Vec<_>>(), names, "{}", spec.name);
    }
    let pope = metrics(&ScorerSpec::new(ScorerRule::Pope));
    assert!(pope[0].mean_over_categories && pope[1..].iter().all(|metric| !metric.mean_over_categories));
}

#[test]
fn a_reference_of_another_kind_contributes_to_nothing() {
    let scored = score(&ScorerSpec::new(ScorerRule::Pope), &Reference::Answers { answers: Vec::new() }, "yes");
    assert!(scored.contributions.is_empty() && scored.detail["error"].is_string());
}

/// An answer that must score full marks.
fn perfect_answer(sample: &Sample, box_space: BoxSpace, decimals: usize) -> String {
    match &sample.reference {
        Reference::YesNo { yes } => if *yes { "yes" } else { "no" }.to_owned(),
        Reference::Answers { answers } => {
            let count = |answer: &String| answers.iter().filter(|other| *other == answer).count();
            answers.iter().max_by_key(|answer| count(answer)).unwrap().clone()
        }
        Reference::OpenOrClosed { answer, .. } => answer.clone(),
        Reference::Class { label, .. } => label.clone(),
        Reference::Retrieval { relevant, .. } => relevant[0].clone(),
        Reference::Choice { .. } | Reference::Judged { .. } | Reference::Withheld => unreachable!("no such benchmark here"),
        Reference::Region { region, width, height } => {
            let (width, height) = (f64::from(*width), f64::from(*height));
            let side = width.max(height);
            let (scale_x, scale_y, left, top) = match box_space {
                BoxSpace::PaddedSquare => (side, side, ((side - width) / 2.0).floor(), ((side - height) / 2.0).floor()),
                BoxSpace::Original => (width, height, 0.0, 0.0),
            };
            let numbers = [
                (region.x1 + left) / scale_x,
                (region.y1 + top) / scale_y,
                (region.x2 + left) / scale_x,
                (region.y2 + top) / scale_y,
            ];
            let numbers: Vec<String> = numbers.iter().map(|number| format!("{number:.decimals$}")).collect();
            format!("[{}]", numbers.join(", "))
        }
    }
}

fn score_all(benchmark: &Benchmark, answer: impl Fn(&Sample) -> String) -> Vec<SampleScore> {
    benchmark.samples.iter().map(|sample| score(&benchmark.spec.scorer, &sample.reference, &answer(sample))).collect()
}

#[test]
fn gold_answers_to_the_real_pope_files_score_100() {
    let Some(shared) = shared_data() else { return };
    let benchmark = Benchmark::load("pope", Some(&shared.join("pope"))).unwrap();
    assert_eq!(benchmark.samples.len(), 9000);
    for split in ["random", "popular", "adversarial"] {
        let labels = benchmark.samples.iter().filter(|sample| sample.category.as_deref() == Some(split));
        let (yes, no): (Vec<_>, Vec<_>) = labels.partition(|sample| sample.reference == Reference::YesNo { yes: true });
        assert_eq!((yes.len(), no.len()), (1500, 1500), "{split}");
    }
    let gold = score_all(&benchmark, |sample| perfect_answer(sample, BoxSpace::Original, 2));
    for metric in ["f1", "accuracy", "precision", "recall"] {
        assert_eq!(percent(&gold, metric), 100.0, "{metric}");
    }
    assert_eq!(percent(&gold, "yes_ratio"), 50.0);
    let always_yes = score_all(&benchmark, |_| "Yes".to_owned());
    let expected = [("accuracy", 50.0), ("precision", 50.0), ("recall", 100.0), ("yes_ratio", 100.0), ("f1", 200.0 / 3.0)];
    for (metric, value) in expected {
        assert!((percent(&always_yes, metric) - value).abs() < 1e-9, "{metric}");
    }
}

/// Unpacks a gzip file with the system's own program.
fn gunzip(path: &Path) -> Option<Vec<u8>> {
    let output = Command::new("gzip").arg("-dc").arg(path).stderr(Stdio::null()).output().ok()?;
    output.status.success().then_some(output.stdout)
}

#[test]
fn perfect_boxes_on_the_real_refcoco_files_score_100() {
    let Some(shared) = shared_data() else { return };
    for (name, rows) in [("refcoco", 10_834), ("refcocog", 4_896)] {
        let Some(json) = gunzip(&shared.join("refcoco").join(format!("{name}_val.json.gz"))) else {
            eprintln!("skipped: gzip cannot unpack {name}_val.json.gz");
            continue;
        };
        let folder = tempfile::tempdir().unwrap();
        std::fs::File::create(folder.path().join("val.json")).unwrap().write_all(&json).unwrap();
        for space in ["padded_square", "original"] {
            let text = format!(
                "name = \"x\"\ntitle = \"x\"\nlicence = \"x\"\nsource = \"x\"\n[data]\nroot = \".\"\nformat = \"refcoco-minigpt4\"\n\
                 splits = [{{ name = \"val\", file = \"val.json\", rows = [{rows}] }}]\nimage = \"{{image}}.jpg\"\n\
                 [prompt]\ntemplate = \"{{question}}\"\nsource = \"x\"\n[generation]\nmax_new_tokens = 1\n\
                 [scorer]\nkind = \"grounding\"\nbox_space = \"{space}\"\nthreshold_rule = \">=\"\n"
            );
            let toml = folder.path().join("x.toml");
            std::fs::write(&toml, text).unwrap();
            let benchmark = Benchmark::load(toml.to_str().unwrap(), None).unwrap();
            assert_eq!(benchmark.samples.len(), rows);
            let space = if space == "original" { BoxSpace::Original } else { BoxSpace::PaddedSquare };
            let exact = score_all(&benchmark, |sample| perfect_answer(sample, space, 6));
            assert_eq!(percent(&exact, "acc@0.9"), 100.0, "{name} {space:?}");
            // LLaVA writes two decimals, which costs IoU but never as much as half of it.
            let rounded = score_all(&benchmark, |sample| perfect_answer(sample, space, 2));
            eprintln!(
                "{name} {space:?}, two decimals: acc@0.5 {:.4}, acc@0.7 {:.2}, acc@0.9 {:.2}, mean IoU {:.2}",
                percent(&rounded, "acc@0.5"),
                percent(&rounded, "acc@0.7"),
                percent(&rounded, "acc@0.9"),
                percent(&rounded, "mean_iou")
            );
            assert_eq!(percent(&rounded, "acc@0.5"), 100.0, "{name} {space:?}");
        }
    }
}

#[test]
fn perfect_answers_to_the_shipped_benchmarks_score_high() {
    for (name, metric, least) in [
        // Annotators disagree, so the best answer to some questions is worth less than 1.
        ("pico-vqa", "vqa_accuracy", 95.0),
        ("pico-pope", "f1", 100.0),
        ("pico-textvqa", "vqa_accuracy", 95.0),
        ("pico-refcoco", "acc@0.5", 100.0),
    ] {
        let benchmark = Benchmark::load(name, None).unwrap();
        let perfect = score_all(&benchmark, |sample| perfect_answer(sample, BoxSpace::PaddedSquare, 2));
        assert!(percent(&perfect, metric) >= least, "{name}: {}", percent(&perfect, metric));
        let empty = score_all(&benchmark, |_| String::new());
        assert!(empty.iter().all(|scored| scored.parsed.is_none()), "{name}");
    }
}

fn any_box() -> impl Strategy<Value = PixelBox> {
    prop::array::uniform4(prop_oneof![-10.0..700.0_f64, prop::num::f64::ANY]).prop_map(|[x1, y1, x2, y2]| PixelBox {
        x1,
        y1,
        x2,
        y2,
    })
}

fn any_answer() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[\\[\\]0-9., \\-]{0,40}",
        "[;/\\[\\]\"{}()=+_\\-><@`,?!. a-zA-Z0-9'\\n\\t]{0,60}",
        prop::array::uniform4(-2.0..3.0_f64).prop_map(|[a, b, c, d]| format!("[{a:.3}, {b:.3}, {c:.3}, {d:.3}]")),
    ]
}

proptest! {
    #[test]
    fn no_answer_panics_and_every_score_is_a_share(
        text in any_answer(),
        answers in prop::collection::vec(any_answer(), 0..12),
        reference in any_answer(),
        yes in any::<bool>(),
        region in any_box(),
        width in 0_u32..2000,
        height in 0_u32..2000,
    ) {
        let references = [
            Reference::Answers { answers },
            Reference::YesNo { yes },
            Reference::Region { region, width, height },
            Reference::OpenOrClosed { answer: reference.clone(), open: yes },
            Reference::Class { label: reference.clone(), classes: width as usize },
            Reference::Retrieval {
                direction: if yes { RetrievalDirection::ImageToText } else { RetrievalDirection::TextToImage },
                relevant: vec![reference],
                candidates: height as usize,
            },
        ];
        let ranked = [ScorerRule::LlavaMed, ScorerRule::ZeroShot, ScorerRule::Retrieval];
        for rule in [OFFICIAL, M4C, ScorerRule::Textvqa, ScorerRule::Pope, PADDED, ORIGINAL].into_iter().chain(ranked) {
            for reference in &references {
                let scored = score(&ScorerSpec::new(rule), reference, &text);
                prop_assert!(scored.value.is_some_and(|value| (0.0..=1.0).contains(&value)), "{:?}", scored.value);
                for contribution in scored.contributions.values() {
                    prop_assert!(contribution.numerator >= 0.0 && contribution.numerator <= contribution.denominator);
                }
            }
        }
    }

    #[test]
    fn iou_is_a_symmetric_share(first in any_box(), second in any_box()) {
        let iou = intersection_over_union(&first, &second);
        prop_assert!((0.0..=1.0).contains(&iou), "{iou}");
        prop_assert_eq!(iou, intersection_over_union(&second, &first));
    }

    #[test]
    fn a_box_overlaps_itself_wholly(x in 0.0..600.0_f64, y in 0.0..600.0_f64, width in 0.1..600.0_f64, height in 0.1..600.0_f64) {
        let region = PixelBox { x1: x, y1: y, x2: x + width, y2: y + height };
        prop_assert!((intersection_over_union(&region, &region) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn normalising_leaves_single_spaces_and_no_articles(text in any_answer()) {
        for normalised in [official_normalise(&text), m4c_normalise(&text)] {
            let words: Vec<&str> = normalised.split(' ').collect();
            prop_assert!(normalised.is_empty() || words.iter().all(|word| !word.is_empty()));
            prop_assert!(!words.iter().any(|word| ["a", "an", "the"].contains(word)));
        }
    }
}
