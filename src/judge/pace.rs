//! How fast requests go out, and how long is waited between tries.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a waiting thread looks whether it should stop.
const LOOK: Duration = Duration::from_millis(20);

/// Spaces requests of all threads evenly.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// When the next request may go.
    next: Mutex<Instant>,
}

impl Pace {
    /// At most so many requests a minute; `None` is no limit.
    pub fn new(requests_per_minute: Option<f64>) -> Self {
        let interval = requests_per_minute.and_then(|count| Duration::try_from_secs_f64(60.0 / count).ok()).unwrap_or_default();
        Self { interval, next: Mutex::new(Instant::now()) }
    }

    /// Waits for this request's turn. `false` when it should stop instead.
    pub fn wait(&self, stop: &AtomicBool) -> bool {
        loop {
            let turn = {
                let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
                let now = Instant::now();
                if *next <= now {
                    *next = now + self.interval;
                    return !stop.load(Ordering::Relaxed);
                }
                *next
            };
            // Whoever comes first after a pause takes the turn; the others wait for the next one.
            if !sleep(turn.saturating_duration_since(Instant::now()), stop) {
                return false;
            }
        }
    }

    /// Lets no request go before `pause` is over: the endpoint asked all of us to wait.
    pub fn hold(&self, pause: Duration) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = Instant::now().checked_add(pause) {
            *next = until.max(*next);
        }
    }
}

/// Sleeps; `false` when it should stop instead.
pub(super) fn sleep(time: Duration, stop: &AtomicBool) -> bool {
    let end = Instant::now().checked_add(time);
    loop {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        let left = end.map_or(LOOK, |end| end.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(LOOK));
    }
}

/// Waits that double from try to try, each drawn from the upper half of its range, so that threads that failed together do
/// not come back together. Equal seeds give equal waits.
#[derive(Debug)]
pub(super) struct BackOff {
    first: Duration,
    longest: Duration,
    state: u64,
}

impl BackOff {
    pub fn new(first: Duration, longest: Duration, seed: u64) -> Self {
        Self { first, longest, state: seed }
    }

    /// The wait after try number `attempt`, from 1.
    pub fn after(&mut self, attempt: u32) -> Duration {
        // SplitMix64 (Steele, Lea and Flood 2014).
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64;
        let full = self.first.saturating_mul(2u32.saturating_pow(attempt.saturating_sub(1).min(30))).min(self.longest);
        full.mul_f64(0.5 + 0.5 * share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_repeat_with_the_seed() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_millis(800));
        let waits = |seed| {
            let mut back_off = BackOff::new(first, longest, seed);
            (1..=6).map(|attempt| back_off.after(attempt)).collect::<Vec<_>>()
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
        for (index, wait) in waits(7).into_iter().enumerate() {
            let full = (first * 2u32.pow(index as u32)).min(longest);
            assert!(wait >= full / 2 && wait <= full, "{index}: {wait:?}");
        }
        assert!(BackOff::new(Duration::MAX, longest, 0).after(u32::MAX) <= longest);
    }

    #[test]
    fn a_stop_ends_a_wait_at_once() {
        let stop = AtomicBool::new(true);
        let pace = Pace::new(Some(1e-3));
        assert!(!pace.wait(&stop));
        pace.hold(Duration::MAX);
        pace.hold(Duration::from_secs(3600));
        let started = Instant::now();
        assert!(!pace.wait(&stop) && started.elapsed() < Duration::from_secs(5));
    }
}
