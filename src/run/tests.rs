//! The conductor with an engine of our own making: what is asked, in which groups, and what is stored when something
//! breaks or stops.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::benchmark::{Benchmark, Sample};
use crate::engine::{
    Engine, EngineError, Generation, GroupAnswer, ImageGroup, RequestFailure, Segment, StageTimings, StopReason, WindowSink,
};
use crate::package::{Manifest, Package};
use crate::prompt::Prompter;
use crate::store::{BenchmarkIdentity, Environment, ModelIdentity, Run, RunHeader, RunSettings, RunWriter, SampleRecord};

/// Answers with the prompt's last token, three times; fails or stops where told.
#[derive(Default)]
struct EchoEngine<'a> {
    groups: usize,
    largest_group: usize,
    fail_group: Option<usize>,
    non_finite_every: Option<usize>,
    stop_after: Option<(usize, &'a AtomicBool)>,
    /// Groups that it takes together; it finishes the last of them first.
    window: usize,
    notes: Vec<String>,
}

impl Engine for EchoEngine<'_> {
    fn answer(&mut self, group: &ImageGroup<'_>) -> Result<GroupAnswer, EngineError> {
        self.groups += 1;
        self.largest_group = self.largest_group.max(group.requests.len());
        if self.fail_group == Some(self.groups) {
            return Err(EngineError::Runtime { doing: "testing".into(), message: "told to fail".into() });
        }
        if let Some((groups, stop)) = self.stop_after
            && self.groups >= groups
        {
            stop.store(true, Ordering::Relaxed);
        }
        let answers = group.requests.iter().enumerate().map(|(index, request)| {
            if self.non_finite_every.is_some_and(|every| index % every == 0) {
                return Err(RequestFailure::NonFiniteLogits { step: 1 });
            }
            let last = request.segments.iter().rev().find_map(|segment| match segment {
                Segment::Tokens(ids) => ids.last().copied(),
                Segment::Image(_) => None,
            });
            let id = last.unwrap_or(5);
            Ok(Generation {
                token_ids: vec![id; 3],
                log_probabilities: vec![-0.5; 3],
                stop_reason: StopReason::MaxNewTokens,
                first_token_ms: 1.0,
                remaining_tokens_ms: 4.0,
                decoded_tokens: 3,
            })
        });
        Ok(GroupAnswer { answers: answers.collect(), timings: StageTimings { vision_ms: 2.0, ..Default::default() } })
    }

    fn answer_window(&mut self, groups: &[ImageGroup<'_>], sink: &mut dyn WindowSink) -> Result<(), EngineError> {
        assert!(groups.len() <= self.window && groups.iter().all(|group| !group.requests.is_empty()));
        for (index, group) in groups.iter().enumerate().rev() {
            if sink.stopped() {
                break;
            }
            let answer = self.answer(group)?;
            sink.finished(index, answer);
        }
        Ok(())
    }

    fn window_groups(&self) -> usize {
        self.window.max(1)
    }

    fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }
}

struct Setting {
    benchmark: Benchmark,
    prompter: Prompter,
    manifest: Manifest,
    folder: tempfile::TempDir,
    stop: AtomicBool,
}

impl Setting {
    fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let package = Package::open(&root.join("exports/pico-llava-1.5")).unwrap();
        Self {
            benchmark: Benchmark::load("pico-vqa", None).unwrap(),
            prompter: Prompter::open(&package).unwrap(),
            manifest: package.manifest,
            folder: tempfile::tempdir().unwrap(),
            stop: AtomicBool::new(false),
        }
    }

    fn run(&self, engine: &mut EchoEngine<'_>, limit: usize) -> Result<Outcome, RunError> {
        let plan = Plan::new(&self.benchmark.samples, Some(limit));
        let header = header("echo", &self.benchmark.spec.name, plan.samples());
        let (mut writer, recovered) = RunWriter::open_or_resume(&self.folder.path().join("run"), &header).unwrap();
        let conductor = Conductor {
            benchmark: &self.benchmark,
            plan: &plan,
            prompter: &self.prompter,
            manifest: &self.manifest,
            max_new_tokens: 8,
            answering: Default::default(),
            stop: &self.stop,
        };
        conductor.run(engine, &mut writer, &recovered, &mut Silent)
    }

    fn records(&self) -> Vec<SampleRecord> {
        Run::open(&self.folder.path().join("run")).unwrap().records
    }
}

fn header(model: &str, benchmark: &str, samples: usize) -> RunHeader {
    RunHeader {
        memory: None,
        execution: None,
        format: crate::store::FORMAT,
        started: "2026-01-01T00:00:00Z".into(),
        tag: None,
        commit: None,
        model: ModelIdentity {
            name: model.into(),
            identity: "0".repeat(64),
            precision: "fp32/fp32/fp32".into(),
            template: "vicuna_v1".into(),
            image_recipe: "pad".into(),
            weight_bytes: None,
            quantisation: Vec::new(),
            flavor: None,
        },
        benchmark: BenchmarkIdentity {
            name: benchmark.into(),
            title: benchmark.into(),
            scorer: "vqa-official/1".into(),
            samples_sha256: "0".repeat(64),
            samples,
            samples_available: samples,
            data_root: ".".into(),
            metrics: Vec::new(),
            data: None,
        },
        settings: RunSettings {
            max_new_tokens: 8,
            provider: "cpu".into(),
            intra_op_threads: 1,
            scheduling: "packed-tree".into(),
            scheduling_reason: None,
            prompt_sha256: None,
            answering: None,
            ..Default::default()
        },
        environment: Environment {
            program_version: "0".into(),
            runtime_version: "0".into(),
            runtime_sha256: "0".repeat(64),
            platform: "test".into(),
            processor: "test".into(),
            physical_cores: 1,
            memory_bytes: 1,
        },
    }
}

struct Silent;

impl Progress for Silent {
    fn update(&mut self, _: &ProgressUpdate) {}
}

#[test]
fn questions_of_an_image_are_asked_together_and_each_is_stored_once() {
    let setting = Setting::new();
    let mut engine = EchoEngine::default();
    assert_eq!(setting.run(&mut engine, 40).unwrap(), Outcome::Complete);
    let records = setting.records();
    let keys: HashSet<_> = records.iter().map(|record| &record.key).collect();
    assert_eq!((records.len(), keys.len()), (40, 40));
    let images: HashSet<_> = records.iter().map(|record| &record.images).collect();
    assert_eq!(engine.groups, images.len());
    assert!(engine.largest_group > 1);
    let record = &records[0];
    assert!(record.prompt.contains("<image>") && record.prompt.contains(&record.question));
    assert!(record.prompt_tokens > setting.manifest.vision.tokens_per_image);
    assert_eq!(record.timings.tpot_ms, Some(2.0), "4 ms over the two tokens after the first");
    assert!(record.score.is_some() && record.failure.is_none());
}

#[test]
fn a_non_finite_answer_fails_alone() {
    let setting = Setting::new();
    setting.run(&mut EchoEngine { non_finite_every: Some(2), ..Default::default() }, 40).unwrap();
    let records = setting.records();
    let failed: Vec<_> = records.iter().filter_map(|record| record.failure.as_ref()).collect();
    assert_eq!(records.len(), 40);
    assert!(!failed.is_empty() && failed.len() < 40);
    assert!(failed.iter().all(|failure| failure.kind == "non_finite"));
    assert!(records.iter().all(|record| record.score.is_none() == record.failure.is_some()), "a failure is never scored");
}

#[test]
fn a_broken_engine_ends_the_run_and_keeps_what_was_finished() {
    let setting = Setting::new();
    let error = setting.run(&mut EchoEngine { fail_group: Some(3), ..Default::default() }, 40).unwrap_err();
    assert!(error.to_string().contains("told to fail"), "{error}");
    let before = setting.records();
    assert!(!before.is_empty() && before.len() < 40);
    setting.run(&mut EchoEngine::default(), 40).unwrap();
    let after = setting.records();
    assert_eq!(after.len(), 40);
    assert_eq!(after[..before.len()], before[..], "what was stored stays");
}

#[test]
fn a_stopped_run_continues_to_the_same_end() {
    let whole = Setting::new();
    whole.run(&mut EchoEngine::default(), 60).unwrap();

    let stopped = Setting::new();
    let signal = AtomicBool::new(false);
    let mut first = EchoEngine { stop_after: Some((2, &stopped.stop)), ..Default::default() };
    assert_eq!(stopped.run(&mut first, 60).unwrap(), Outcome::Interrupted);
    assert!(stopped.records().len() < 60);
    stopped.stop.store(signal.load(Ordering::Relaxed), Ordering::Relaxed);
    let mut second = EchoEngine::default();
    assert_eq!(stopped.run(&mut second, 60).unwrap(), Outcome::Complete);

    let stripped = |records: Vec<SampleRecord>| -> Vec<SampleRecord> {
        records.into_iter().map(|record| SampleRecord { timings: Default::default(), ..record }).collect()
    };
    assert_eq!(stripped(stopped.records()), stripped(whole.records()));
    assert_eq!(first.groups + second.groups, {
        let plan = Plan::new(&whole.benchmark.samples, Some(60));
        plan.groups.len()
    });
}

#[test]
fn windows_are_stored_as_their_groups_finish_and_asked_again_whole() {
    let stripped = |records: Vec<SampleRecord>| -> Vec<SampleRecord> {
        records.into_iter().map(|record| SampleRecord { timings: Default::default(), ..record }).collect()
    };
    let windowed = || EchoEngine { window: 4, ..Default::default() };
    let mut whole = Setting::new();
    // A picture that is not there: its group is stored without the engine.
    let plan = Plan::new(&whole.benchmark.samples, Some(60));
    let broken = plan.groups[5].samples.clone();
    let breaks = |setting: &mut Setting| {
        broken.iter().for_each(|&index| setting.benchmark.samples[index].images = vec!["not/there.png".into()]);
    };
    breaks(&mut whole);
    let mut engine = windowed();
    assert_eq!(whole.run(&mut engine, 60).unwrap(), Outcome::Complete);
    assert_eq!(engine.groups, plan.groups.len() - 1);
    let expected = stripped(whole.records());
    assert_eq!(expected.len(), 60);
    let first_of = |group: usize| &whole.benchmark.samples[plan.groups[group].samples[0]].key;
    let places = [3, 2, 1, 0, 5, 7, 6, 4].map(|group| expected.iter().position(|record| record.key == *first_of(group)).unwrap());
    assert!(places.is_sorted(), "{places:?}");
    assert!(expected.iter().any(|record| record.failure.as_ref().is_some_and(|failure| failure.kind == "image")));

    // Stopped inside the second window, after some of its groups: these are asked again, but stored once.
    for groups in [1, 2, 4, 5, 6, 7] {
        let mut stopped = Setting::new();
        breaks(&mut stopped);
        let mut first = EchoEngine { stop_after: Some((groups, &stopped.stop)), ..windowed() };
        assert_eq!(stopped.run(&mut first, 60).unwrap(), Outcome::Interrupted);
        let stored = stripped(stopped.records());
        assert_eq!(stored[..], expected[..stored.len()]);
        assert_eq!(first.groups, groups);
        stopped.stop.store(false, Ordering::Relaxed);
        let mut second = windowed();
        assert_eq!(stopped.run(&mut second, 60).unwrap(), Outcome::Complete);
        assert_eq!(stripped(stopped.records()), expected, "stopped after {groups} groups");
        // No more than the windows that were finished is left out.
        assert!(second.groups >= engine.groups - groups && second.groups <= engine.groups);
    }
}

#[test]
fn what_the_engine_has_to_say_reaches_the_user() {
    struct Notes<'a>(&'a std::sync::Mutex<Vec<String>>);
    impl Progress for Notes<'_> {
        fn update(&mut self, _: &ProgressUpdate) {}
        fn note(&mut self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }
    let setting = Setting::new();
    let plan = Plan::new(&setting.benchmark.samples, Some(15));
    let (mut writer, recovered) =
        RunWriter::open_or_resume(&setting.folder.path().join("run"), &header("echo", "pico-vqa", 15)).unwrap();
    let conductor = Conductor {
        benchmark: &setting.benchmark,
        plan: &plan,
        prompter: &setting.prompter,
        manifest: &setting.manifest,
        max_new_tokens: 8,
        answering: Default::default(),
        stop: &setting.stop,
    };
    let told = std::sync::Mutex::new(Vec::new());
    let mut engine = EchoEngine { notes: vec!["memory ran out".to_owned()], ..Default::default() };
    conductor.run(&mut engine, &mut writer, &recovered, &mut Notes(&told)).unwrap();
    assert_eq!(*told.lock().unwrap(), ["memory ran out"]);
}

#[test]
fn a_finished_run_asks_nothing_again() {
    let setting = Setting::new();
    setting.run(&mut EchoEngine::default(), 20).unwrap();
    let mut again = EchoEngine::default();
    assert_eq!(setting.run(&mut again, 20).unwrap(), Outcome::Complete);
    assert_eq!(again.groups, 0);
}

#[test]
fn progress_reaches_the_planned_number() {
    struct Last<'a>(&'a AtomicUsize);
    impl Progress for Last<'_> {
        fn update(&mut self, update: &ProgressUpdate) {
            assert!(update.recorded <= update.planned);
            assert_eq!(update.answered + update.failed, update.recorded);
            self.0.store(update.recorded, Ordering::Relaxed);
        }
    }
    let setting = Setting::new();
    let plan = Plan::new(&setting.benchmark.samples, Some(15));
    let header = header("echo", "pico-vqa", 15);
    let (mut writer, recovered) = RunWriter::open_or_resume(&setting.folder.path().join("run"), &header).unwrap();
    let conductor = Conductor {
        benchmark: &setting.benchmark,
        plan: &plan,
        prompter: &setting.prompter,
        manifest: &setting.manifest,
        max_new_tokens: 8,
        answering: Default::default(),
        stop: &setting.stop,
    };
    let last = AtomicUsize::new(0);
    conductor.run(&mut EchoEngine::default(), &mut writer, &recovered, &mut Last(&last)).unwrap();
    assert_eq!(last.load(Ordering::Relaxed), 15);
}

#[test]
fn a_limit_takes_whole_images_in_a_fixed_order() {
    let benchmark = Benchmark::load("pico-vqa", None).unwrap();
    let plan = Plan::new(&benchmark.samples, Some(30));
    assert_eq!(plan.samples(), 30);
    assert_eq!(plan, Plan::new(&benchmark.samples, Some(30)));
    let whole = |cluster: &str| benchmark.samples.iter().filter(|sample| sample.cluster == cluster).count();
    let cut =
        plan.groups.iter().filter(|group| group.samples.len() != whole(&benchmark.samples[group.samples[0]].cluster)).count();
    assert!(cut <= 1, "only the last image may lose questions");
    let larger: HashSet<usize> = Plan::new(&benchmark.samples, Some(60)).sample_indices().collect();
    assert!(plan.sample_indices().filter(|index| !larger.contains(index)).count() == 0, "a larger limit keeps the smaller");
    assert_eq!(Plan::new(&benchmark.samples, None).samples(), benchmark.samples.len());
}

#[test]
fn groups_keep_the_order_of_the_data_file() {
    let sample = |key: &str, image: &str| Sample {
        key: key.into(),
        cluster: image.into(),
        images: vec![image.into()],
        question: String::new(),
        prompt: String::new(),
        conversation: Default::default(),
        reference: crate::benchmark::Reference::YesNo { yes: true },
        category: None,
    };
    let samples = [sample("1", "a"), sample("2", "b"), sample("3", "a"), sample("4", "c")];
    let plan = Plan::new(&samples, None);
    let groups: Vec<_> = plan.groups.iter().map(|group| group.samples.clone()).collect();
    assert_eq!(groups, [vec![0, 2], vec![1], vec![3]]);
    let recorded = HashSet::from(["1".to_owned(), "2".to_owned()]);
    let outstanding: Vec<_> = plan.outstanding(&samples, &recorded).iter().map(|group| group.samples[0]).collect();
    assert_eq!(outstanding, [0, 3], "a group recorded in part is outstanding as a whole");
}

#[test]
fn a_group_may_be_generated_in_part_and_ranked_in_part() {
    use crate::benchmark::{Answering, Reference};
    use crate::engine::{MockAnswer, MockEngine};

    let mut setting = Setting::new();
    // Every other question gets options; the second is the likeliest, except where its candidates are not finite.
    for (index, sample) in setting.benchmark.samples.iter_mut().enumerate().filter(|(index, _)| index % 2 == 0) {
        sample.reference = Reference::Choice { options: vec!["one".into(), "two".into()], answer: index / 2 % 2 };
    }
    let plan = Plan::new(&setting.benchmark.samples, Some(24));
    let mixed = |group: &PlannedGroup| group.samples.iter().any(|index| index % 2 == 0) && group.samples.len() > 1;
    assert!(plan.groups.iter().any(mixed));
    let mut asked = 0;
    let mut engine = MockEngine::new(|_, _| Ok(Ok(MockAnswer::new([5, 6])))).with_likelihoods(move |request| {
        asked += 1;
        if asked == 3 {
            return Err(RequestFailure::NonFiniteLogits { step: 0 });
        }
        let numbers = |(place, tokens): (usize, &Vec<u32>)| vec![if place == 1 { -0.25 } else { -3.0 }; tokens.len()];
        Ok(request.candidates.iter().enumerate().map(numbers).collect())
    });
    let header = header("mock", "pico-vqa", 24);
    let (mut writer, recovered) = RunWriter::open_or_resume(&setting.folder.path().join("run"), &header).unwrap();
    let conductor = Conductor {
        benchmark: &setting.benchmark,
        plan: &plan,
        prompter: &setting.prompter,
        manifest: &setting.manifest,
        max_new_tokens: 8,
        answering: Answering::Likelihood(Default::default()),
        stop: &setting.stop,
    };
    assert_eq!(conductor.run(&mut engine, &mut writer, &recovered, &mut Silent).unwrap(), Outcome::Complete);
    let records = setting.records();
    let (mut ranked, mut generated, mut failed) = (0, 0, 0);
    for (record, index) in records.iter().zip(plan.sample_indices()) {
        assert_eq!(record.key, setting.benchmark.samples[index].key, "answers stay in the order of their questions");
        match (&record.reference, &record.failure) {
            (Reference::Choice { .. }, Some(failure)) => {
                assert_eq!(failure.kind, "non_finite");
                failed += 1;
            }
            (Reference::Choice { .. }, None) => {
                assert_eq!((record.text.as_str(), record.stop_reason.as_str()), ("B", "likelihood"));
                assert_eq!(record.timings.group.prefill_ms, if mixed_time(&records, record) { 20.0 } else { 10.0 });
                ranked += 1;
            }
            _ => {
                assert_eq!(record.stop_reason, "eos");
                assert!(record.detail.get("candidates").is_none());
                generated += 1;
            }
        }
    }
    assert!(ranked > 5 && generated > 5 && failed == 1, "{ranked} {generated} {failed}");
}

/// Whether the group of a record was asked in both ways, each of which takes the mock 10 ms.
fn mixed_time(records: &[SampleRecord], record: &SampleRecord) -> bool {
    let group = records.iter().filter(|other| other.images == record.images);
    group.into_iter().any(|other| !matches!(other.reference, crate::benchmark::Reference::Choice { .. }))
}
