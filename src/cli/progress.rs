//! Progress on standard error: a bar with ETA on a terminal, plain lines elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::terminal;
use crate::run::{Progress, ProgressUpdate};

/// Progress of one package on one benchmark.
pub struct RunProgress {
    label: String,
    bar: Option<ProgressBar>,
    quiet: bool,
    started: Instant,
    last_line: Instant,
    first_recorded: Option<usize>,
}

/// Seconds between plain progress lines.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

impl RunProgress {
    /// Progress labelled `package · benchmark`.
    pub fn new(label: String, quiet: bool) -> Self {
        let bar = (!quiet && terminal::interactive()).then(|| {
            let style = ProgressStyle::with_template("{prefix} [{bar:24}] {pos}/{len} {msg} eta {eta}")
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> ");
            ProgressBar::new(0).with_style(style).with_prefix(label.clone())
        });
        let now = Instant::now();
        Self { label, bar, quiet, started: now, last_line: now, first_recorded: None }
    }
}

impl Progress for RunProgress {
    fn texts(&mut self, done: usize, total: usize) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("texts {done}/{total}"));
        } else if !self.quiet && self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            eprintln!("{}: embedding texts, {done}/{total}", self.label);
        }
    }

    fn update(&mut self, update: &ProgressUpdate) {
        let score = if update.answered > 0 {
            format!("score {:.1} %", 100.0 * update.score_sum / update.answered as f64)
        } else {
            String::new()
        };
        if let Some(bar) = &self.bar {
            if self.first_recorded.is_none() {
                bar.set_length(update.planned as u64);
                bar.reset_eta();
            }
            bar.set_position(update.recorded as u64);
            bar.set_message(score.clone());
        }
        let first = *self.first_recorded.get_or_insert(update.recorded);
        let done = update.recorded == update.planned;
        if done && let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.quiet {
            return;
        }
        if done || (self.bar.is_none() && self.last_line.elapsed() >= LINE_INTERVAL) {
            self.last_line = Instant::now();
            let seconds = self.started.elapsed().as_secs_f64();
            let rate = (update.recorded - first) as f64 / seconds.max(1e-9);
            let failed = if update.failed > 0 { format!(", {} failed", update.failed) } else { String::new() };
            let pace = if update.recorded > first {
                let eta = (update.planned - update.recorded) as f64 / rate;
                let eta = if done { String::new() } else { format!(", eta {eta:.0} s") };
                format!(", {rate:.1} questions/s{eta}")
            } else {
                ", already complete".to_owned()
            };
            eprintln!("{}: {}/{} {score}{failed}{pace}", self.label, update.recorded, update.planned);
        }
    }
}
