//! Progress of a judge on standard error.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::terminal;
use crate::judge::Progress;

/// Seconds between plain progress lines.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// A bar on a terminal, a line now and then elsewhere.
pub struct JudgeProgress {
    label: String,
    bar: Option<ProgressBar>,
    quiet: bool,
    last_line: Mutex<Instant>,
}

impl JudgeProgress {
    /// Progress of judging `label`, `package · benchmark`.
    pub fn new(label: &str, quiet: bool) -> Self {
        let bar = (!quiet && terminal::interactive()).then(|| {
            let style = ProgressStyle::with_template("{prefix} judged [{bar:24}] {pos}/{len} eta {eta}")
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> ");
            ProgressBar::new(0).with_style(style).with_prefix(label.to_owned())
        });
        Self { label: label.to_owned(), bar, quiet, last_line: Mutex::new(Instant::now()) }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress for JudgeProgress {
    fn update(&self, done: usize, total: usize) {
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        } else if !self.quiet {
            let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() >= LINE_INTERVAL {
                *last = Instant::now();
                eprintln!("{}: {done} of {total} answers judged", self.label);
            }
        }
    }
}
