//! What may not be compared, and how it is said.

use llava_gauge::benchmark::Reference;
use llava_gauge::compare::{CompareError, CompareOptions, RunDifference, compare, compare_with};
use llava_gauge::report::terminal::prompt_changes;
use llava_gauge::store::{JudgeIdentity, Run};

use super::compare_support::{grid, pair};

#[track_caller]
fn refused(base: &Run, new: &Run) -> Vec<RunDifference> {
    match compare(&[base.clone(), new.clone()], 1.0) {
        Err(CompareError::NotComparable { differences }) => differences,
        other => panic!("{other:?}"),
    }
}

fn fields(differences: &[RunDifference]) -> Vec<&str> {
    differences.iter().map(|difference| difference.field.as_str()).collect()
}

#[test]
fn other_words_of_the_benchmark_are_refused_and_shown() {
    let base = grid("base", 5, 2, |_| true);
    let mut new = grid("new", 5, 2, |_| true);
    new.header.benchmark.samples_sha256 = "ff".repeat(32);
    for record in &mut new.records {
        record.prompt = "USER: <image>\nAnswer in one word.".into();
    }
    let found = refused(&base, &new);
    assert_eq!(fields(&found), ["the hash of the sample set", "the prompt of sample \"q0\" (as of 10 samples)"]);
    let prompts = found[1].prompts.as_ref().unwrap();
    assert_eq!((prompts.samples, prompts.base.as_str()), (10, "USER: <image>"));
    assert_eq!(found[1].new_value, "\"USER: <image>\\nAnswer in one word.\"");
    // The same difference under one sum is the template's, and is noted.
    new.header.benchmark.samples_sha256.clone_from(&base.header.benchmark.samples_sha256);
    let noted = pair(&base, &new).prompt_difference.unwrap();
    assert_eq!((noted.key.as_str(), noted.samples), ("q0", 10));
    assert_eq!(prompt_changes(&noted, 80), ["    USER: <image>{+⏎ Answer in one word.+}"]);
}

#[test]
fn other_questions_are_named() {
    let base = grid("base", 5, 2, |_| true);
    let mut new = grid("new", 6, 2, |_| true);
    new.header.benchmark.samples_sha256 = "ff".repeat(32);
    new.records.remove(0);
    new.records[3].reference = Reference::YesNo { yes: false };
    let found = refused(&base, &new);
    let hash = "the hash of the sample set";
    // One record is missing, so nobody knows which samples there are.
    new.complete = false;
    assert_eq!(fields(&refused(&base, &new)), [hash, "sample \"q4\""]);
    assert_eq!(fields(&found), [hash, "the sample set", "sample \"q4\""]);
    assert_eq!(found[1].base_value, "with 1 that the other run has not, the first being \"q0\"");
    assert_eq!(found[1].new_value, "with 2 that the other run has not, the first being \"q10\"");
}

#[test]
fn answers_that_were_had_in_another_way_are_refused() {
    let base = grid("base", 5, 2, |_| true);
    let mut new = grid("new", 5, 2, |_| false);
    new.header.settings.answering = Some("likelihood of letters, sum".into());
    let found = refused(&base, &new);
    assert_eq!(fields(&found), ["the way in which answers are had"]);
    assert_eq!((found[0].base_value.as_str(), found[0].new_value.as_str()), ("generated", "likelihood of letters, sum"));

    // A limit on length is of no matter until it cuts.
    let mut new = grid("new", 5, 2, |_| false);
    new.header.settings.max_new_tokens = 128;
    assert!(pair(&base, &new).notes.iter().any(|note| note.starts_with("longest answer in tokens, which no answer met: 16")));
    let mut cut = base.clone();
    cut.records[1].stop_reason = "max_new_tokens".into();
    let found = refused(&cut, &new);
    assert_eq!(fields(&found), ["the longest answer"]);
    assert_eq!(found[0].base_value, "16 tokens, which cut off 1 answers");
    let across = CompareOptions { across_settings: true, ..CompareOptions::default() };
    let told = compare_with(&[cut.clone(), new.clone()], &across).unwrap();
    let note = "longest answer in tokens, which 1 answers met: 16 in the first run, 128 in the second";
    assert!(told.pairs[0].notes.iter().any(|found| found == note), "{:?}", told.pairs[0].notes);
    new.header.settings.max_new_tokens = 16;
    assert!(compare(&[cut, new], 1.0).is_ok());
}

#[test]
fn later_runs_that_the_first_does_not_tell_apart_are_refused_too() {
    let judged = |name: &str, model: &str| {
        let mut run = grid(name, 5, 2, |_| true);
        run.judge = Some(JudgeIdentity {
            model: model.into(),
            endpoint: "local".into(),
            rule: "r/1".into(),
            settings: "s".into(),
            unparsed_replies: 0,
            failed_replies: 0,
            prompt_tokens: 0,
            reply_tokens: 0,
            reported_models: vec![],
            cached_replies: 0,
            cost: None,
        });
        run
    };
    let unjudged = grid("a", 5, 2, |_| true);
    let (one, other) = (judged("b", "one"), judged("c", "other"));
    assert_eq!(fields(&refused(&one, &other)), ["the judge"]);
    let noted = pair(&unjudged, &one);
    assert!(noted.notes.contains(&"the answers are: not judged in the first run, judged in the second".to_owned()));
    let Err(CompareError::NotComparable { differences }) = compare(&[unjudged, one, other], 1.0) else { panic!("compared") };
    assert_eq!(fields(&differences), ["the judge"]);
}
