//! Latencies as machines give them: for tests of what is said about speed.

use llava_gauge::stats::{Generator, normal_quantile};

/// How a machine's latencies vary.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Standard deviation of the logarithm of a latency around its prompt's own.
    pub noise: f64,
    /// Share of latencies that something else on the machine stretches.
    pub spikes: f64,
    /// Standard deviation of the logarithm of the machine's speed from one prompt to the next but few, shared by both of a pair.
    pub drift: f64,
}

/// A quiet machine: 4 % noise, one latency in 50 stretched, a speed that wanders by 2 % from prompt to prompt.
pub const QUIET: Machine = Machine { noise: 0.04, spikes: 0.02, drift: 0.02 };

/// A standard normal number.
pub fn normal(generator: &mut Generator) -> f64 {
    // Never 0, which has no quantile.
    normal_quantile((generator.uniform() + 0.5 / (1_u64 << 53) as f64).min(1.0 - f64::EPSILON / 2.0)).unwrap()
}

/// Milliseconds of `pairs` prompts run by two packages one after the other, interleaved A/B/B/A, so that both of a pair see the
/// same drift. Prompts differ in their own length by a factor of up to four; the second package takes `ratio` times as long. A
/// stretched latency takes up to three times as long as it would.
pub fn interleaved(generator: &mut Generator, machine: Machine, pairs: usize, ratio: f64) -> (Vec<f64>, Vec<f64>) {
    let mut speed = 0.0;
    (0..pairs)
        .map(|_| {
            speed += machine.drift * normal(generator);
            let own = 100.0 * (1.0 + 3.0 * generator.uniform());
            let mut latency = |ratio: f64| {
                let noise = (machine.noise * normal(generator)).exp();
                let stretched = if generator.uniform() < machine.spikes { 1.0 + 2.0 * generator.uniform() } else { 1.0 };
                own * f64::exp(speed) * noise * stretched * ratio
            };
            (latency(1.0), latency(ratio))
        })
        .unzip()
}

/// Logarithms of second over first.
pub fn log_ratios((first, second): &(Vec<f64>, Vec<f64>)) -> Vec<f64> {
    first.iter().zip(second).map(|(first, second)| (second / first).ln()).collect()
}
