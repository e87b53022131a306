//! Progress on standard error: a bar on a terminal, plain lines elsewhere. Both say how far the run is, the score so far with
//! its interval, the pace and the time left, where the time goes, and where the run stands among all of them.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::terminal;
use crate::compare::{LIVE_STAGES, LiveRun};
use crate::run::{Progress, ProgressUpdate};
use crate::store::{BenchmarkIdentity, SampleRecord};

/// A plain line after so long at the latest, where anything was recorded.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// A plain line when this part more of the run is recorded …
const LINE_SHARE: f64 = 0.05;

/// … but not more often than this: a run of seconds needs no twenty lines.
const LINE_PAUSE: Duration = Duration::from_secs(5);

/// Where a run stands among those of one command, and how long all of them will take.
pub struct Overall {
    /// Questions of every benchmark; each package is asked all of them.
    questions: Vec<usize>,
    runs: usize,
    /// Runs begun.
    begun: usize,
    /// Questions of the runs that were finished before the present one.
    before: usize,
    /// Questions answered by this command, and the time that they took.
    answered: usize,
    spent: Duration,
}

impl Overall {
    /// So many packages, each on benchmarks with so many questions, in this order.
    pub fn new(packages: usize, questions: Vec<usize>) -> Self {
        Self { runs: packages * questions.len(), questions, begun: 0, before: 0, answered: 0, spent: Duration::ZERO }
    }

    /// `run 3 of 12`; nothing where there is one only.
    fn position(&self) -> Option<String> {
        (self.runs > 1).then(|| format!("run {} of {}", self.begun, self.runs))
    }

    /// Seconds for what is left of all runs, at the pace of this command so far. `now` are the questions answered and the time
    /// spent in the present run, `recorded` its records.
    fn left_seconds(&self, recorded: usize, now: (usize, Duration)) -> Option<f64> {
        let answered = self.answered + now.0;
        let spent = (self.spent + now.1).as_secs_f64();
        let packages = self.runs / self.questions.len().max(1);
        let all = packages * self.questions.iter().sum::<usize>();
        let left = all.saturating_sub(self.before + recorded);
        (self.runs > 1 && answered > 0).then(|| spent / answered as f64 * left as f64)
    }
}

/// Progress of one package on one benchmark.
pub struct RunProgress<'a> {
    label: String,
    bar: Option<ProgressBar>,
    quiet: bool,
    live: LiveRun,
    overall: &'a mut Overall,
    /// Records that were there before, and when the first update came.
    begun: Option<(usize, Instant)>,
    last_line: Instant,
    last_line_recorded: usize,
}

impl<'a> RunProgress<'a> {
    /// Progress labelled `package · benchmark`.
    pub fn new(label: String, benchmark: &BenchmarkIdentity, quiet: bool, overall: &'a mut Overall) -> Self {
        let bar = (!quiet && terminal::interactive()).then(|| {
            let style = ProgressStyle::with_template("{prefix} [{bar:24}] {pos}/{len} {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> ");
            ProgressBar::new(benchmark.samples as u64).with_style(style).with_prefix(crate::guard::escape::terminal(&label))
        });
        overall.begun += 1;
        let live = LiveRun::new(&benchmark.metrics, benchmark.samples);
        Self { label, bar, quiet, live, overall, begun: None, last_line: Instant::now(), last_line_recorded: 0 }
    }

    /// Questions answered since the start of this command's part of the run, and the time that took.
    fn answered_here(&self) -> (usize, Duration) {
        self.begun.map_or((0, Duration::ZERO), |(before, since)| (self.live.recorded.saturating_sub(before), since.elapsed()))
    }

    /// Everything after the counts, in the order of interest.
    fn facts(&self) -> String {
        let now = self.answered_here();
        let whole = self.overall.left_seconds(self.live.recorded, now);
        facts(&self.live, now, self.overall.position(), whole)
    }
}

impl Drop for RunProgress<'_> {
    /// The next run goes on from here, whether this one was finished or stopped.
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let (answered, spent) = self.answered_here();
        self.overall.answered += answered;
        self.overall.spent += spent;
        self.overall.before += self.live.planned;
    }
}

impl Progress for RunProgress<'_> {
    fn texts(&mut self, done: usize, total: usize) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("texts {done}/{total}"));
        } else if !self.quiet && self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            eprintln!("{}: embedding texts, {done}/{total}", self.label);
        }
    }

    fn records(&mut self, new: &[SampleRecord]) {
        self.live.add(new);
    }

    fn note(&mut self, text: &str) {
        let line = format!("{}: {text}", crate::guard::escape::terminal(&self.label));
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    fn update(&mut self, update: &ProgressUpdate) {
        if self.begun.is_none() {
            self.begun = Some((update.recorded, Instant::now()));
            self.last_line_recorded = update.recorded;
        }
        if self.quiet {
            return;
        }
        let done = update.recorded >= update.planned;
        if let Some(bar) = &self.bar {
            bar.set_position(update.recorded as u64);
            bar.set_message(self.facts());
            if done {
                bar.finish_and_clear();
            }
        }
        let waited = self.last_line.elapsed();
        let more = update.recorded.saturating_sub(self.last_line_recorded) as f64 / update.planned.max(1) as f64;
        let due = waited >= LINE_INTERVAL && more > 0.0 || waited >= LINE_PAUSE && more >= LINE_SHARE;
        // A run that was complete before is one line, whatever the time.
        if done || self.bar.is_none() && due {
            self.last_line = Instant::now();
            self.last_line_recorded = update.recorded;
            let label = crate::guard::escape::terminal(&self.label);
            eprintln!("{label}: {}/{} {}", update.recorded, update.planned, self.facts());
        }
    }
}

/// `score 81.2 % ± 3.1, 2 failed, 12.3 questions/s, eta 2 min, run 3 of 12, whole eta 9 min, vision 40 % prefill 55 % decode 5 %`.
fn facts(live: &LiveRun, (answered, spent): (usize, Duration), position: Option<String>, whole: Option<f64>) -> String {
    let mut said = Vec::new();
    said.extend(score(live));
    if live.failed > 0 {
        said.push(format!("{} failed", live.failed));
    }
    let seconds = spent.as_secs_f64();
    if answered > 0 && seconds > 0.0 {
        let rate = answered as f64 / seconds;
        said.push(format!("{rate:.1} questions/s"));
        if !live.complete() {
            said.push(format!("eta {}", duration(live.planned.saturating_sub(live.recorded) as f64 / rate)));
        }
    } else if live.complete() {
        said.push("already complete".to_owned());
    }
    if let Some(position) = position {
        said.push(position);
        if let Some(left) = whole.filter(|left| *left > 0.0) {
            said.push(format!("whole eta {}", duration(left)));
        }
    }
    // Last, because a narrow terminal cuts the end off.
    said.extend(stages(live));
    said.join(", ")
}

/// `vqa_accuracy 81.2 % ± 3.1`; the two ends where the interval is lopsided.
fn score(live: &LiveRun) -> Option<String> {
    let (spec, estimate) = live.estimate()?;
    let percent = spec.scale == 100.0 && !spec.points;
    let decimals = if percent { 1 } else { 3 };
    let suffix = if percent { " %" } else { "" };
    let value = format!("{} {:.decimals$}{suffix}", spec.name, estimate.value);
    Some(match estimate.interval {
        None => value,
        Some([low, high]) => {
            let (below, above) = (estimate.value - low, high - estimate.value);
            if (below - above).abs() > 0.25 * below.max(above) {
                format!("{value} ({low:.decimals$} to {high:.decimals$})")
            } else {
                format!("{value} ± {:.decimals$}", below.max(above))
            }
        }
    })
}

/// Stages that take at least one per cent of the time, with their shares.
fn stages(live: &LiveRun) -> Option<String> {
    let shares = live.stage_shares()?;
    let shown = LIVE_STAGES.iter().zip(shares).filter(|(_, share)| *share >= 0.005);
    Some(shown.map(|(name, share)| format!("{name} {:.0} %", 100.0 * share)).collect::<Vec<_>>().join(" "))
}

/// Seconds in the unit that people would say.
fn duration(seconds: f64) -> String {
    if seconds < 90.0 {
        format!("{seconds:.0} s")
    } else if seconds < 90.0 * 60.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        let minutes = (seconds / 60.0).round();
        format!("{:.0} h {:.0} min", (minutes / 60.0).floor(), minutes % 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmark::{Contribution, MetricSpec, Reference};
    use crate::store::{Failure, GroupTimings, SampleTimings};

    fn record(index: usize, right: bool) -> SampleRecord {
        let image = index / 2;
        let group = GroupTimings {
            questions: 2,
            image_ms: 1.0,
            vision_ms: 30.0 + image as f64,
            projector_ms: 0.1,
            prefill_ms: 50.0,
            decode_ms: 19.0,
            ..Default::default()
        };
        let contribution = Contribution { numerator: f64::from(right), denominator: 1.0 };
        SampleRecord {
            key: index.to_string(),
            cluster: image.to_string(),
            category: None,
            images: vec![image.to_string()],
            question: String::new(),
            prompt: String::new(),
            prompt_sha256: String::new(),
            prompt_tokens: 0,
            reference: Reference::YesNo { yes: true },
            token_ids: Vec::new(),
            text: String::new(),
            log_probability: 0.0,
            stop_reason: String::new(),
            parsed: None,
            score: Some(f64::from(right)),
            contributions: [("accuracy".to_owned(), contribution)].into(),
            detail: serde_json::Value::Null,
            failure: None,
            timings: SampleTimings { ttft_ms: 1.0, tpot_ms: None, group },
        }
    }

    fn accuracy() -> MetricSpec {
        MetricSpec {
            name: "accuracy".to_owned(),
            scale: 100.0,
            higher_is_better: Some(true),
            primary: true,
            mean_over_categories: false,
            sum_over_categories: false,
            points: false,
        }
    }

    #[test]
    fn a_line_says_score_pace_stages_and_place() {
        let mut live = LiveRun::new(&[accuracy()], 40);
        live.add(&(0..20).map(|index| record(index, index % 4 != 3)).collect::<Vec<_>>());
        live.add(&[SampleRecord {
            score: None,
            failure: Some(Failure { kind: "image".into(), message: "x".into() }),
            ..record(20, false)
        }]);
        let line = facts(&live, (21, Duration::from_secs(7)), Some("run 3 of 12".into()), Some(700.0));
        // Ten images of two questions; every second image has one wrong: 75 %, standard error √(10/9 · 10 · 0.5²)/20 = 0.0833,
        // t(9) = 2.262, so ± 18.9.
        assert_eq!(
            line,
            "accuracy 75.0 % ± 18.9, 1 failed, 3.0 questions/s, eta 6 s, run 3 of 12, whole eta 12 min, image 1 % vision 33 % prefill \
             48 % decode 18 %"
        );
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let live = LiveRun::new(&[accuracy()], 3);
        assert_eq!(facts(&live, (0, Duration::ZERO), None, None), "");
        let mut live = LiveRun::new(&[accuracy()], 2);
        live.add(&[record(0, true), record(1, true)]);
        let line = facts(&live, (0, Duration::ZERO), None, None);
        assert!(line.starts_with("accuracy 100.0 %, already complete"), "{line}");
    }

    #[test]
    fn the_whole_is_all_packages_on_all_benchmarks() {
        let mut overall = Overall::new(2, vec![10, 30]);
        overall.begun = 2;
        overall.before = 10;
        overall.answered = 10;
        overall.spent = Duration::from_secs(20);
        assert_eq!(overall.position().as_deref(), Some("run 2 of 4"));
        // 2 s a question; 80 in all, 10 before and 5 of this run are done.
        assert_eq!(overall.left_seconds(5, (5, Duration::from_secs(10))), Some(130.0));
        assert_eq!(Overall::new(1, vec![10]).left_seconds(5, (5, Duration::from_secs(10))), None);
    }

    #[test]
    fn durations_are_said_as_people_do() {
        let said: Vec<String> = [0.4, 89.0, 100.0, 5_000.0, 7_000.0].into_iter().map(duration).collect();
        assert_eq!(said, ["0 s", "89 s", "2 min", "83 min", "1 h 57 min"]);
    }
}
