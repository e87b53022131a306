//! Where the time between the engine's work goes.

use std::time::{Duration, Instant};

/// Times the conductor's own thread.
pub(super) struct Meter {
    idle_since: Instant,
    image_wait: Duration,
}

/// Where the time went between the engine's work before a group and that on it, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Between {
    /// Waiting for images and the prompts about them.
    pub image_wait_ms: f64,
    /// Everything else: gathering requests, handing answers on, and waiting for the store where it is behind.
    pub harness_ms: f64,
}

impl Between {
    /// The part of one of so many groups that the engine works on together.
    pub(super) fn shared_by(self, groups: usize) -> Self {
        let groups = groups.max(1) as f64;
        Self { image_wait_ms: self.image_wait_ms / groups, harness_ms: self.harness_ms / groups }
    }
}

impl Meter {
    /// The engine is idle from now on.
    pub(super) fn start() -> Self {
        Self { idle_since: Instant::now(), image_wait: Duration::ZERO }
    }

    /// What `receive` gives; the time that it takes is waiting for images.
    pub(super) fn wait<T>(&mut self, receive: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let received = receive();
        self.image_wait += started.elapsed();
        received
    }

    /// The engine begins to work: where the time since it ended went.
    pub(super) fn engine_begins(&mut self) -> Between {
        let idle = self.idle_since.elapsed();
        let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
        let waited = std::mem::take(&mut self.image_wait);
        Between { image_wait_ms: milliseconds(waited), harness_ms: milliseconds(idle.saturating_sub(waited)) }
    }

    /// The engine has ended its work.
    pub(super) fn engine_ends(&mut self) {
        self.idle_since = Instant::now();
        self.image_wait = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_not_the_harness_and_the_engine_is_neither() {
        let pause = Duration::from_millis(20);
        let mut meter = Meter::start();
        assert_eq!(meter.wait(|| std::thread::sleep(pause)), ());
        let first = meter.engine_begins();
        assert!(first.image_wait_ms >= 20.0, "{first:?}");
        std::thread::sleep(pause);
        meter.engine_ends();
        std::thread::sleep(pause);
        let second = meter.engine_begins();
        assert!(second.image_wait_ms == 0.0 && second.harness_ms >= 20.0, "{second:?}");
    }
}
