//! How far answers would come again by themselves, and what that says about differences.

use llava_gauge::compare::PairDeterminism;
use llava_gauge::store::{DeterminismClass, Execution, Run};

use super::compare_support::{grid, pair};

fn on(provider: &str, mut run: Run) -> Run {
    run.header.settings.provider = provider.to_owned();
    run.header.execution = DeterminismClass::of_provider(provider).map(|determinism| Execution {
        provider: provider.to_owned(),
        determinism,
        minimum_placement: 0.99,
        graphs: Vec::new(),
    });
    run
}

/// A run of one package with 200 questions; `changed` of its answers read otherwise, with the same score.
fn answers(provider: &str, changed: usize) -> Run {
    let mut run = on(provider, grid("a", 100, 2, |_| true));
    for record in run.records.iter_mut().take(changed) {
        record.text.push('!');
        record.token_ids.push(9);
    }
    run
}

fn note<'a>(notes: &'a [String], words: &str) -> Option<&'a str> {
    notes.iter().map(String::as_str).find(|note| note.contains(words))
}

#[test]
fn the_same_run_again_is_expected_to_be_identical() {
    let again = pair(&answers("cpu", 0), &answers("cpu", 0));
    let expected = PairDeterminism {
        base: DeterminismClass::D0,
        new: DeterminismClass::D0,
        same_package: true,
        same_conditions: true,
        differing_answers: 0,
    };
    assert_eq!(again.determinism, Some(expected));
    assert_eq!(note(&again.notes, "class"), None);

    let changed = pair(&answers("cpu", 0), &answers("cpu", 3));
    assert_eq!(changed.determinism.unwrap().differing_answers, 3);
    let said = note(&changed.notes, "class D0 promises the same answers").unwrap();
    assert!(said.starts_with("3 of 200 answers differ, the first being \"q0\","), "{said}");

    // Where a condition differs that answers may depend on, a difference is no surprise.
    let unlike: [fn(&mut Run); 6] = [
        |run| run.header.settings.intra_op_threads = 4,
        |run| run.header.settings.scheduling = "one-by-one".into(),
        |run| run.header.environment.processor = "another".into(),
        |run| run.header.environment.runtime_sha256 = "12".repeat(32),
        |run| run.header.environment.program_version = "0.2.0".into(),
        |run| run.header.model.identity = "another".into(),
    ];
    for change in unlike {
        let mut other = answers("cpu", 3);
        change(&mut other);
        let pair = pair(&answers("cpu", 0), &other);
        assert_eq!((pair.determinism.unwrap().same_conditions, note(&pair.notes, "promises")), (false, None));
    }
    // Why it was scheduled so is no condition.
    let mut other = answers("cpu", 3);
    other.header.settings.scheduling_reason = Some("memory".into());
    assert!(pair(&answers("cpu", 0), &other).determinism.unwrap().same_conditions);
}

#[test]
fn runs_of_unlike_classes_are_compared_with_a_word_on_their_noise() {
    let across = pair(&answers("cpu", 0), &answers("cuda", 1));
    assert_eq!(across.determinism.map(|found| (found.base, found.new)), Some((DeterminismClass::D0, DeterminismClass::D1)));
    let said = note(&across.notes, "determinism class").unwrap();
    assert_eq!(
        said,
        "the runs are of determinism class D0 (the same answers in every run) and D1 (CUDA, at least 99.5 % the same answers in every \
         run): differences below the class's noise, 0.5 % of the answers, are not the checkpoint's"
    );
    let across = pair(&answers("tensorrt", 0), &answers("cuda", 1));
    assert!(note(&across.notes, "class D2 (TensorRT").unwrap().contains("an engine built anew"), "{:?}", across.notes);
}

#[test]
fn two_runs_of_a_package_on_a_gpu_are_measured_by_their_class() {
    let within = pair(&answers("cuda", 0), &answers("cuda", 1));
    let said = note(&within.notes, "of one package").unwrap();
    assert_eq!(said, "1 of 200 answers differ between two runs of one package, no more than the 0.5 % that class D1 explains");
    let beyond = pair(&answers("cuda", 0), &answers("cuda", 2));
    assert!(note(&beyond.notes, "more than the 0.5 % that class D1 explains").unwrap().starts_with("2 of 200"));
    let rebuilt = pair(&answers("tensorrt", 0), &answers("tensorrt", 2));
    assert!(note(&rebuilt.notes, "only if the engines were built anew").is_some());
    // Two packages on a GPU: the class is named beside the difference.
    let mut other = answers("cuda", 2);
    other.header.model.identity = "another".into();
    assert!(note(&pair(&answers("cuda", 0), &other).notes, "both runs are of determinism class D1").is_some());
}

#[test]
fn older_runs_have_the_class_of_their_provider_and_predictions_none() {
    let old = |provider: &str| {
        let mut run = answers(provider, 0);
        run.header.execution = None;
        run
    };
    assert_eq!(pair(&old("cpu"), &old("cuda")).determinism.map(|found| found.new), Some(DeterminismClass::D1));
    assert_eq!(pair(&old("cpu"), &old("predictions")).determinism, None);
}
