//! Multiple choice, NLVR2 and LLaVA-Interleave Bench against the official evaluations: recorded results (`fixtures/score`, made by
//! running their Python code), real answers where the folder of real data is there, and metrics over groups of answers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use llava_gauge::benchmark::{ChoiceParser, InterleaveVariant, MetricSpec, Reference, ScorerRule, ScorerSpec};
use llava_gauge::score::{Answered, SampleScore, complete, metrics, needs_all_answers, score};
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

fn array(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn index(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn strings(value: &Value) -> Vec<String> {
    array(value).iter().map(|item| text(item).to_owned()).collect()
}

fn lists(value: &Value) -> Vec<Vec<String>> {
    array(value).iter().map(strings).collect()
}

fn choice(parser: ChoiceParser) -> ScorerSpec {
    ScorerSpec::new(ScorerRule::Choice { parser })
}

fn option_reference(options: &[String], answer: usize) -> Reference {
    Reference::Choice { options: options.to_vec(), answer }
}

/// One answer of a set.
struct Case {
    cluster: String,
    category: Option<String>,
    reference: Reference,
    text: String,
}

fn case(cluster: impl Into<String>, category: Option<&str>, reference: Reference, text: &str) -> Case {
    Case { cluster: cluster.into(), category: category.map(str::to_owned), reference, text: text.to_owned() }
}

/// Scores a whole set, as a run does.
fn score_all(scorer: &ScorerSpec, cases: &[Case]) -> Vec<SampleScore> {
    let mut answers: Vec<Answered<'_>> = cases
        .iter()
        .map(|case| Answered {
            cluster: &case.cluster,
            category: case.category.as_deref(),
            reference: &case.reference,
            text: &case.text,
            score: score(scorer, &case.reference, &case.text),
        })
        .collect();
    complete(scorer, &mut answers);
    answers.into_iter().map(|answer| answer.score).collect()
}

/// The value of a metric as its specification says: a ratio of sums, or the mean of such ratios over categories.
fn value(scorer: &ScorerSpec, name: &str, cases: &[Case], scores: &[SampleScore]) -> f64 {
    let spec: MetricSpec = metrics(scorer).into_iter().find(|metric| metric.name == name).unwrap();
    let mut sums: BTreeMap<Option<&str>, (f64, f64)> = BTreeMap::new();
    for (case, score) in cases.iter().zip(scores) {
        if let Some(contribution) = score.contributions.get(name) {
            let category = if spec.mean_over_categories { case.category.as_deref() } else { None };
            let (numerator, denominator) = sums.entry(category).or_default();
            *numerator += contribution.numerator;
            *denominator += contribution.denominator;
        }
    }
    sums.values().map(|(numerator, denominator)| numerator / denominator).sum::<f64>() / sums.len() as f64
}

fn assert_close(ours: f64, theirs: f64) {
    assert!((ours - theirs).abs() < 1e-9, "{ours} and {theirs}");
}

/// Whether the answer counts as right.
fn right(scorer: &ScorerSpec, reference: &Reference, text: &str) -> bool {
    let scored = score(scorer, reference, text);
    let value = scored.value.unwrap();
    assert!(value == 0.0 || value == 1.0);
    assert!(scored.parsed.is_some() || value == 0.0, "an unparsed answer is wrong: {text:?}");
    value == 1.0
}

#[test]
fn letters_are_read_as_by_each_official_rule() {
    let recorded = fixture("choice_letters.json");
    let options = lists(&recorded["options"]);
    let rules: Vec<ChoiceParser> = strings(&recorded["rules"])
        .iter()
        .map(|name| ChoiceParser::ALL.into_iter().find(|parser| parser.as_str() == name).unwrap())
        .collect();
    let cases = array(&recorded["cases"]);
    assert!(cases.len() >= 1000 && rules.len() == 7, "{}", cases.len());
    let mut science_qa = Vec::new();
    for case in cases {
        let reference = option_reference(&options[index(&case[0])], index(&case[1]));
        for (parser, expected) in rules.iter().zip(text(&case[3]).chars()) {
            let ours = right(&choice(*parser), &reference, text(&case[2]));
            assert_eq!(ours, expected == '1', "{} on {:?} against {reference:?}", parser.as_str(), text(&case[2]));
            if *parser == ChoiceParser::ScienceQa {
                science_qa.push(f64::from(u8::from(ours)));
            }
        }
    }
    assert_close(100.0 * science_qa.iter().sum::<f64>() / science_qa.len() as f64, number(&recorded["science_qa_accuracy"]));
}

#[test]
fn mmbench_options_and_rotations_are_judged_as_by_the_official_evaluators() {
    let recorded = fixture("choice_mmbench.json");
    let options = lists(&recorded["options"]);
    let parsers = [ChoiceParser::Mmbench, ChoiceParser::MmbenchVlmevalkit];
    let cases = array(&recorded["cases"]);
    assert!(cases.len() >= 1000, "{}", cases.len());
    for case in cases {
        let options = &options[index(&case[0])];
        for (parser, expected) in parsers.iter().zip([&case[2], &case[3]]) {
            let parsed = score(&choice(*parser), &option_reference(options, 0), text(&case[1])).parsed;
            // VLMEvalKit's Z stands for none of the options.
            let expected = Some(text(expected)).filter(|letter| !["", "Z"].contains(letter));
            assert_eq!(parsed.as_deref(), expected, "{} on {:?} with {options:?}", parser.as_str(), text(&case[1]));
        }
    }
    for (rule, parser) in parsers.iter().enumerate() {
        let scorer = choice(*parser);
        let mut cases = Vec::new();
        for (group, row) in array(&recorded["groups"]).iter().enumerate() {
            let options = &options[index(&row[0])];
            for (turn, answer) in array(&row[1]).iter().enumerate() {
                let turned = [&options[turn..], &options[..turn]].concat();
                cases.push(case(group.to_string(), None, option_reference(&turned, index(&answer[1])), text(&answer[0])));
            }
        }
        let scores = score_all(&scorer, &cases);
        for (group, row) in array(&recorded["groups"]).iter().enumerate() {
            let of_group = cases.iter().zip(&scores).filter(|(case, _)| case.cluster == group.to_string());
            let hit: f64 = of_group.map(|(_, score)| score.contributions["circular_accuracy"].numerator).sum();
            assert_close(hit, number(&row[2 + rule]));
        }
        assert_close(value(&scorer, "circular_accuracy", &cases, &scores), number(&recorded["circular"][rule]));
        let vanilla = value(&scorer, "accuracy", &cases, &scores);
        assert!(vanilla > number(&recorded["circular"][rule]), "{vanilla}: rotations are harder than single questions");
    }
}

#[test]
fn mmmu_questions_with_and_without_options_are_scored_as_officially() {
    let recorded = fixture("choice_mmmu.json");
    let options = lists(&recorded["options"]);
    let cases = array(&recorded["cases"]);
    assert!(cases.len() >= 1000, "{}", cases.len());
    let mut set = Vec::new();
    for row in cases {
        let reference = option_reference(&options[index(&row[0])], index(&row[1]));
        let parsed = score(&choice(ChoiceParser::Mmmu), &reference, text(&row[2])).parsed;
        assert_eq!(
            parsed.as_deref(),
            Some(text(&row[3])).filter(|letter| !letter.is_empty()),
            "{:?}, {reference:?}",
            text(&row[2])
        );
        set.push(case("-", None, reference, text(&row[2])));
    }
    let scorer = choice(ChoiceParser::MmmuOfficialRandom);
    let scores = score_all(&scorer, &set);
    assert_close(value(&scorer, "accuracy", &set, &scores), number(&recorded["accuracy_with_random_choices"]));
    let drawn = scores.iter().filter(|score| score.detail["drawn_at_random"].is_string()).count();
    assert!(drawn > 100 && scores.iter().filter(|score| score.parsed.is_none()).count() == drawn, "{drawn}");

    let recorded = fixture("choice_mmmu_open.json");
    let answers = lists(&recorded["answers"]);
    let cases = array(&recorded["cases"]);
    assert!(cases.len() >= 1000, "{}", cases.len());
    for row in cases {
        let reference = Reference::Answers { answers: answers[index(&row[0])].clone() };
        let scored = score(&choice(ChoiceParser::Mmmu), &reference, text(&row[1]));
        assert_eq!(scored.value, row[2].as_f64(), "{:?} against {reference:?}", text(&row[1]));
        assert!(scored.contributions.contains_key("open_accuracy"));
    }
}

#[test]
fn mantis_eval_is_scored_as_officially() {
    let recorded = fixture("choice_mantis.json");
    let (options, answers) = (lists(&recorded["options"]), lists(&recorded["answers"]));
    let scorer = choice(ChoiceParser::Mantis);
    let (cases, short) = (array(&recorded["cases"]), array(&recorded["short"]));
    assert!(cases.len() >= 1000 && short.len() >= 1000, "{} and {}", cases.len(), short.len());
    for row in cases {
        let reference = option_reference(&options[index(&row[0])], index(&row[1]));
        assert_eq!(score(&scorer, &reference, text(&row[2])).value, row[3].as_f64(), "{:?} against {reference:?}", text(&row[2]));
    }
    for row in short {
        let reference = Reference::Answers { answers: answers[index(&row[0])][..1].to_vec() };
        assert_eq!(score(&scorer, &reference, text(&row[1])).value, row[2].as_f64(), "{:?} against {reference:?}", text(&row[1]));
    }
}

#[test]
fn nlvr2_accuracy_and_consistency_are_the_official_ones() {
    let recorded = fixture("nlvr2.json");
    let scorer = ScorerSpec::new(ScorerRule::Nlvr2);
    let mut cases = Vec::new();
    for row in array(&recorded["cases"]) {
        let identifier: Vec<&str> = text(&row[0]).split('-').collect();
        let group = format!("{}-{}--{}", identifier[0], identifier[1], identifier[3]);
        let reference = Reference::YesNo { yes: text(&row[1]) == "True" };
        assert_eq!(score(&scorer, &reference, text(&row[2])).value, row[3].as_f64(), "{:?}", text(&row[2]));
        cases.push(case(group, None, reference, text(&row[2])));
    }
    assert!(cases.len() >= 1000, "{}", cases.len());
    let scores = score_all(&scorer, &cases);
    assert_close(value(&scorer, "accuracy", &cases, &scores), number(&recorded["accuracy"]));
    assert_close(value(&scorer, "consistency", &cases, &scores), number(&recorded["consistency"]));
}

#[test]
fn interleave_answers_sub_tasks_and_groups_are_scored_as_officially() {
    let recorded = fixture("interleave.json");
    let sub_tasks = strings(&recorded["sub_tasks"]);
    let rows = array(&recorded["cases"]);
    assert!(rows.len() >= 1000, "{}", rows.len());
    for (variant, column) in [(InterleaveVariant::Official, 4), (InterleaveVariant::Lmms, 5)] {
        let scorer = ScorerSpec::new(ScorerRule::Interleave { variant });
        let cases: Vec<Case> = rows
            .iter()
            .map(|row| {
                let reference = Reference::OpenOrClosed { answer: text(&row[1]).to_owned(), open: index(&row[3]) == 1 };
                case("-", Some(&sub_tasks[index(&row[0])]), reference, text(&row[2]))
            })
            .collect();
        let scores = score_all(&scorer, &cases);
        for ((row, case), score) in rows.iter().zip(&cases).zip(&scores) {
            assert_eq!(score.value, row[column].as_f64(), "{variant:?}: {:?} against {:?}", case.text, case.reference);
        }
        if variant == InterleaveVariant::Lmms {
            assert_close(value(&scorer, "group_mean", &cases, &scores), number(&recorded["lmms_overall"]));
            continue;
        }
        for (sub_task, expected) in recorded["datasets"].as_object().unwrap() {
            let of_task = cases.iter().zip(&scores).filter(|(case, _)| case.category.as_deref() == Some(sub_task));
            let values: Vec<f64> = of_task.filter_map(|(_, score)| score.value).collect();
            assert_close(values.iter().sum::<f64>() / values.len() as f64, number(expected));
        }
        let mean = |object: &Value| {
            let values: Vec<f64> = object.as_object().unwrap().values().map(number).collect();
            values.iter().sum::<f64>() / values.len() as f64
        };
        assert_close(value(&scorer, "group_mean", &cases, &scores), mean(&recorded["groups"]));
        assert_close(value(&scorer, "sub_task_mean", &cases, &scores), mean(&recorded["datasets"]));
    }
}

#[test]
fn blink_s_headline_is_the_mean_over_tasks() {
    let recorded = fixture("choice_blink_mean.json");
    let scorer = choice(ChoiceParser::Blink);
    let options = ["a", "b", "c", "d"].map(str::to_owned);
    let answer = |letter: &str| "ABCD".find(letter.trim_matches(['(', ')'])).unwrap();
    let cases: Vec<Case> = array(&recorded["cases"])
        .iter()
        .map(|row| case("-", Some(text(&row[0])), option_reference(&options, answer(text(&row[1]))), text(&row[2])))
        .collect();
    let scores = score_all(&scorer, &cases);
    assert_close(value(&scorer, "mean_task_accuracy", &cases, &scores), number(&recorded["total"]));
    assert_eq!(metrics(&scorer)[0].name, "mean_task_accuracy");
}
