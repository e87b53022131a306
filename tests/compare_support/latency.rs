//! What is said of speed: by pairs of images, beyond the noise of the machine.

use llava_gauge::compare::{CompareOptions, LatencyComparison, LatencyVerdict, compare_with};
use llava_gauge::stats::Generator;
use llava_gauge::store::{GroupTimings, Run};

use super::compare_support::grid;

/// Standard normal.
fn normal(generator: &mut Generator) -> f64 {
    let (first, second) = (1.0 - generator.uniform(), generator.uniform());
    (-2.0 * first.ln()).sqrt() * (std::f64::consts::TAU * second).cos()
}

/// Images of a simulated run.
const IMAGES: usize = 30;

/// A run as machines make them: images of unequal cost, 3 % lognormal noise on each, three in a hundred half as long again to
/// three times as long because something else ran, a drift of up to 1 % over the run, and a level of the whole run that
/// scatters by 0.3 % (temperature, memory layout).
fn timed(name: &str, started: usize, slowness: f64, generator: &mut Generator) -> Run {
    let mut run = grid(name, IMAGES, 1, |_| true);
    run.header.started = format!("2026-11-25T{:02}:{:02}:{:02}Z", started / 3600, started / 60 % 60, started % 60);
    let level = (0.003 * normal(generator)).exp();
    let drift = 0.01 * (2.0 * generator.uniform() - 1.0);
    let times: Vec<f64> = (0..IMAGES)
        .map(|image| {
            let cost = 40.0 * (1.0 + (image * image % 17) as f64);
            let noise = (0.03 * normal(generator)).exp();
            let spike = if generator.uniform() < 0.03 { 1.5 + 1.5 * generator.uniform() } else { 1.0 };
            cost * slowness * level * (1.0 + drift * image as f64 / IMAGES as f64) * noise * spike
        })
        .collect();
    for (index, record) in run.records.iter_mut().enumerate() {
        record.timings.group = GroupTimings { questions: 1, vision_ms: times[index], image_ms: 5.0, ..GroupTimings::default() };
    }
    run
}

fn compared(base: &Run, new: &Run, history: &[Run]) -> LatencyComparison {
    let options = CompareOptions { history, ..CompareOptions::default() };
    compare_with(&[base.clone(), new.clone()], &options).unwrap().pairs.remove(0).latency.unwrap()
}

/// Two hundred pairs of runs of one package, as they are met in practice: each beside the eleven runs before it.
#[test]
fn like_runs_do_not_alarm_and_a_tenth_is_found() {
    let mut generator = Generator::new(11);
    let mut started = 0;
    let mut next = |name: &str, slowness: f64, generator: &mut Generator| {
        started += 60;
        timed(name, started, slowness, generator)
    };
    let mut history: Vec<Run> = (0..11).map(|_| next("package", 1.0, &mut generator)).collect();
    let (mut alarms, mut found) = (0, 0);
    const PAIRS: usize = 200;
    for _ in 0..PAIRS {
        let base = next("package", 1.0, &mut generator);
        let like = next("package", 1.0, &mut generator);
        let slower = next("slower", 1.1, &mut generator);
        // Both are compared with the first.
        let options = CompareOptions { history: &history, ..CompareOptions::default() };
        let said = compare_with(&[base.clone(), like, slower], &options).unwrap();
        let of = |pair: usize| said.pairs[pair].latency.as_ref().unwrap();
        assert_eq!((of(0).noise_pairs, of(1).noise_pairs), (10, 10));
        alarms += usize::from(matches!(of(0).verdict, LatencyVerdict::Slower | LatencyVerdict::Faster));
        found += usize::from(of(1).verdict == LatencyVerdict::Slower);
        history.remove(0);
        history.push(base);
    }
    // At most 1 % of 200.
    assert!(alarms <= 2, "{alarms} of {PAIRS} pairs of like runs alarm");
    assert!(found * 100 >= PAIRS * 95, "{found} of {PAIRS} slowdowns by a tenth are found");
}

/// Every image takes `factor` times as long, give or take 1 %.
fn scaled(name: &str, started: &str, factor: f64) -> Run {
    let mut run = grid(name, 40, 1, |_| true);
    run.header.started = started.into();
    for (index, record) in run.records.iter_mut().enumerate() {
        let wobble = if index % 2 == 0 { 1.01 } else { 1.0 / 1.01 };
        record.timings.group =
            GroupTimings { questions: 1, vision_ms: (10.0 + index as f64) * factor * wobble, ..GroupTimings::default() };
    }
    run
}

#[test]
fn a_noisy_machine_widens_the_band() {
    let base = scaled("a", "2026-11-25T10:00:00Z", 1.0);
    let new = scaled("b", "2026-11-25T11:00:00Z", 1.08);
    let quiet = compared(&base, &new, &[]);
    assert_eq!((quiet.verdict, quiet.noise_band, quiet.noise_pairs), (LatencyVerdict::Slower, 0.03, 0));
    // Runs of one package that differ by 5 % from one to the next, and back.
    let history: Vec<Run> =
        (0..5).map(|hour| scaled("c", &format!("2026-11-25T0{hour}:00:00Z"), if hour % 2 == 0 { 1.0 } else { 1.05 })).collect();
    let noisy = compared(&base, &new, &history);
    assert_eq!((noisy.verdict, noisy.noise_pairs), (LatencyVerdict::WithinNoise, 4));
    // Three deviations, each 1.4826 median absolute deviations: exp(3 · 1.4826 · ln 1.05) − 1.
    assert!((noisy.noise_band - (3.0 * 1.482_602_218_505_602 * 1.05_f64.ln()).exp_m1()).abs() < 1e-9, "{noisy:?}");
    // Not those of another machine.
    let elsewhere: Vec<Run> = history
        .iter()
        .cloned()
        .map(|mut run| {
            run.header.environment.processor = "another".into();
            run
        })
        .collect();
    assert_eq!(compared(&base, &new, &elsewhere).noise_pairs, 0);
    // The compared runs are not their own yardstick, and a run that is given twice is one run.
    let again = scaled("a", "2026-11-25T12:00:00Z", 1.2);
    assert_eq!(compared(&base, &again, std::slice::from_ref(&base)).noise_pairs, 0);
    assert_eq!(compared(&base, &again, &[]).verdict, LatencyVerdict::Slower);
}

#[test]
fn without_enough_images_in_common_times_are_compared_unpaired_or_not_at_all() {
    let first = |mut run: Run, count: usize| {
        run.records.truncate(count);
        run
    };
    // Four images, too few for either test.
    let few = compared(&first(scaled("a", "x", 1.0), 4), &first(scaled("b", "y", 2.0), 4), &[]);
    assert_eq!((few.verdict, few.ratio.n, few.unpaired), (LatencyVerdict::TooFew, 4, false));
    assert!((few.ratio.value - 2.0).abs() < 1e-9, "{few:?}");
    // Forty images of which none was asked equally often: as many times, no pairs. Times go from 10 to 49 ms.
    let mut new = scaled("b", "y", 2.0);
    for record in &mut new.records {
        record.timings.group.questions = 2;
        record.timings.group.vision_ms *= 2.0;
    }
    let unlike = compared(&scaled("a", "x", 1.0), &new, &[]);
    assert_eq!((unlike.verdict, unlike.unpaired, unlike.ratio.interval), (LatencyVerdict::Slower, true, None));
    assert!((1.9..2.1).contains(&unlike.ratio.value) && unlike.p_value.unwrap() < 1e-6, "{unlike:?}");
    // Answers that were made elsewhere have no times.
    let mut untimed = grid("c", 40, 1, |_| true);
    for record in &mut untimed.records {
        record.timings.group = GroupTimings::default();
    }
    let options = CompareOptions::default();
    assert_eq!(compare_with(&[scaled("a", "x", 1.0), untimed], &options).unwrap().pairs[0].latency, None);
}
