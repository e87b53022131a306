//! Runs watched through their directories, for `serve`.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::compare::LiveRun;
use crate::report::live::{self, WatchedRun};
use crate::store::{RunFollower, SampleRecord, discover};

use super::clock;
use super::exit::Failure;

/// Newest answers that are kept of each run.
const LATEST: usize = 8;

/// Records may be read again after so long: a page asks every second or two, and several pages may be open.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// New runs are looked for after so long.
const DISCOVER_PAUSE: Duration = Duration::from_secs(2);

/// The pace is that of this stretch of time.
const PACE_WINDOW: Duration = Duration::from_secs(60);

/// A run whose log was not written for so long has no pace.
const IDLE: Duration = Duration::from_secs(60);

/// Most runs that are watched at once.
const MOST_RUNS: usize = 1_000;

struct Watched {
    follower: RunFollower,
    name: String,
    live: LiveRun,
    latest: VecDeque<SampleRecord>,
    /// When so many records were seen, the oldest first.
    seen: VecDeque<(Instant, usize)>,
    problem: Option<String>,
}

/// All runs at or below some paths.
pub struct Watch {
    paths: Vec<PathBuf>,
    runs: Vec<Watched>,
    notes: Vec<String>,
    looked: Option<Instant>,
    discovered: Option<Instant>,
}

impl Watch {
    /// Watches these paths; one that is not there yet may come.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths, runs: Vec::new(), notes: Vec::new(), looked: None, discovered: None }
    }

    /// Runs found so far.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Directories of the runs that have a record, and what changes whenever one has more.
    pub fn reportable(&self) -> (Vec<PathBuf>, Vec<(String, usize)>) {
        let with_records = self.runs.iter().filter(|run| run.live.recorded > 0 && run.problem.is_none());
        with_records
            .map(|run| (run.follower.directory().to_path_buf(), (run.follower.header().started.clone(), run.live.recorded)))
            .unzip()
    }

    /// Reads what is new, unless that was done a moment ago.
    pub fn look(&mut self) {
        if self.looked.is_some_and(|last| last.elapsed() < LOOK_PAUSE) {
            return;
        }
        if self.discovered.is_none_or(|last| last.elapsed() >= DISCOVER_PAUSE) {
            self.discover();
            self.discovered = Some(Instant::now());
        }
        self.runs.retain(|run| run.follower.directory().join(crate::store::HEADER_FILE).is_file());
        for run in &mut self.runs {
            run.look();
        }
        self.looked = Some(Instant::now());
    }

    fn discover(&mut self) {
        self.notes.clear();
        for path in &self.paths {
            let Ok(found) = discover(std::slice::from_ref(path)) else {
                self.notes.push(format!("no run yet in {}", path.display()));
                continue;
            };
            for directory in found {
                if self.runs.iter().any(|run| run.follower.directory() == directory) {
                    continue;
                }
                if self.runs.len() >= MOST_RUNS {
                    self.notes.push(format!("only the first {MOST_RUNS} runs are watched"));
                    return;
                }
                match RunFollower::open(&directory) {
                    Ok(follower) => self.runs.push(Watched::new(follower)),
                    Err(error) => self.notes.push(error.to_string()),
                }
            }
        }
    }

    /// `status.json` as of the last look; runs that are being made first.
    pub fn status(&self) -> Result<Vec<u8>, Failure> {
        let mut order: Vec<&Watched> = self.runs.iter().collect();
        order.sort_by_key(|run| (run.live.complete(), run.idle()));
        let latest: Vec<Vec<SampleRecord>> = order.iter().map(|run| run.latest.iter().cloned().collect()).collect();
        let shown: Vec<WatchedRun<'_>> = order.iter().zip(&latest).map(|(run, latest)| run.shown(latest)).collect();
        // One command makes its runs one after another, so what waits begins when what runs is done: times add up. A run that
        // has no pace yet takes that of the others.
        let paces: Vec<f64> =
            shown.iter().filter(|run| !run.live.complete()).filter_map(|run| run.questions_per_second).collect();
        let together: f64 = paces.iter().sum();
        let left: usize = shown.iter().map(|run| run.live.planned.saturating_sub(run.live.recorded)).sum();
        let eta_seconds = (together > 0.0 && left > 0).then(|| left as f64 / together);
        Ok(live::status(&shown, eta_seconds, &self.notes, &clock::now_rfc3339())?)
    }
}

impl Watched {
    fn new(follower: RunFollower) -> Self {
        let benchmark = &follower.header().benchmark;
        let live = LiveRun::new(&benchmark.metrics, benchmark.samples);
        let name = name(follower.directory());
        Self { follower, name, live, latest: VecDeque::new(), seen: VecDeque::new(), problem: None }
    }

    fn look(&mut self) {
        let followed = match self.follower.follow() {
            Ok(followed) => followed,
            Err(error) => {
                self.problem = Some(error.to_string());
                return;
            }
        };
        self.problem = None;
        if followed.restarted {
            let benchmark = &self.follower.header().benchmark;
            self.live = LiveRun::new(&benchmark.metrics, benchmark.samples);
            self.latest.clear();
            self.seen.clear();
        }
        self.live.add(&followed.records);
        for record in followed.records {
            self.latest.push_front(record);
            self.latest.truncate(LATEST);
        }
        let now = Instant::now();
        self.seen.push_back((now, self.live.recorded));
        while self.seen.front().is_some_and(|(when, _)| now.duration_since(*when) > PACE_WINDOW) {
            self.seen.pop_front();
        }
    }

    /// Time since the log was written.
    fn idle(&self) -> Option<Duration> {
        self.follower.modified().map(|when| SystemTime::now().duration_since(when).unwrap_or_default())
    }

    /// Questions a second as seen in the window; before any was seen, from the times of the records.
    fn pace(&self) -> Option<f64> {
        if self.live.complete() || self.idle().is_none_or(|idle| idle > IDLE) {
            return None;
        }
        let ((first, before), (last, after)) = (self.seen.front()?, self.seen.back()?);
        let seconds = last.duration_since(*first).as_secs_f64();
        if after > before && seconds > 2.0 {
            return Some((after - before) as f64 / seconds);
        }
        self.live.engine_ms_per_question().map(|ms| 1e3 / ms)
    }

    fn shown<'a>(&'a self, latest: &'a [SampleRecord]) -> WatchedRun<'a> {
        WatchedRun {
            directory: &self.name,
            header: self.follower.header(),
            live: &self.live,
            damaged_lines: self.follower.damaged(),
            questions_per_second: self.pace(),
            seconds_since_last_record: self.idle().map(|idle| idle.as_secs_f64()),
            latest,
            problem: self.problem.as_deref(),
        }
    }
}

fn name(directory: &Path) -> String {
    directory.to_string_lossy().into_owned()
}
