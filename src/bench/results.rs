//! What was measured, and its statistics.

use serde::Serialize;

use super::conditions::Conditions;
use super::plan::Test;
use super::roofline::Roofline;
use crate::engine::runtime::doctor::Machine;
use crate::stats::{mean, quantile_of_sorted, sorted, supported_quantile, t_interval};

/// A package under measurement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PackageFacts {
    /// Name of its manifest.
    pub name: String,
    /// Its folder.
    pub folder: String,
    /// SHA-256 of its manifest.
    pub identity: String,
    /// Precision of vision, projector and llm.
    pub precision: [String; 3],
    /// Bytes of all its files.
    pub disk_bytes: u64,
    /// Milliseconds that loading took.
    pub load_ms: f64,
    /// How much the memory of this process grew by loading, in bytes; none where the system does not tell.
    pub load_memory_bytes: Option<u64>,
    /// How its questions share work.
    pub scheduling: String,
}

/// The times of one test of one package.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Index of the package.
    pub package: usize,
    /// The test.
    pub test: Test,
    /// Milliseconds of each repetition, in the order of time.
    pub samples_ms: Vec<f64>,
    /// Milliseconds of vision encoder, projector, prefill and decoding in each repetition, where the test has such parts.
    pub stages_ms: Vec<[f64; 4]>,
}

/// Statistics of a series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Repetitions.
    pub n: usize,
    /// Median time.
    pub median_ms: f64,
    /// Shortest time.
    pub min_ms: f64,
    /// Longest time.
    pub max_ms: f64,
    /// 90th percentile; only from 44 repetitions on.
    pub p90_ms: Option<f64>,
    /// 99th percentile; only from 459 repetitions on.
    pub p99_ms: Option<f64>,
    /// Units of the test a second, by the median.
    pub per_second: f64,
    /// Longest less shortest time, as a share of the median.
    pub spread: f64,
}

/// How the times of a package compare with the first one's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// Geometric mean of the ratios of neighbouring repetitions: below 1 is faster than the first package.
    pub value: f64,
    /// 95 % interval of it, by Student's t on the logarithms; none for a single pair.
    pub interval: Option<[f64; 2]>,
    /// Pairs.
    pub n: usize,
}

/// Everything.
pub struct BenchResult {
    /// The packages, in the order of the command.
    pub packages: Vec<PackageFacts>,
    /// All series, by test and then by package.
    pub series: Vec<Series>,
    /// The machine.
    pub machine: Machine,
    /// Limits of the machine, where they were measured.
    pub roofline: Option<Roofline>,
    /// The state of the machine meanwhile.
    pub conditions: Conditions,
    /// Highest memory of this process in bytes.
    pub peak_memory_bytes: Option<u64>,
    /// What runs the graphs, with its settings, such as `cpu` or `cuda, TF32`.
    pub provider: String,
    /// Threads of an operator.
    pub threads: usize,
    /// Repetitions before the measurement that do not count.
    pub warmup: usize,
    /// Version of ONNX Runtime.
    pub runtime_version: String,
    /// When it began, RFC 3339.
    pub started_at: String,
}

/// Statistics of times in milliseconds; none of nothing.
pub fn summarise(test: &Test, samples_ms: &[f64]) -> Option<Summary> {
    let ascending = sorted(samples_ms);
    let (median_ms, min_ms, max_ms) = (quantile_of_sorted(&ascending, 0.5)?, *ascending.first()?, *ascending.last()?);
    Some(Summary {
        n: ascending.len(),
        median_ms,
        min_ms,
        max_ms,
        p90_ms: supported_quantile(&ascending, 0.9),
        p99_ms: supported_quantile(&ascending, 0.99),
        per_second: 1_000.0 * test.units().0 / median_ms,
        spread: (max_ms - min_ms) / median_ms,
    })
}

impl Ratio {
    /// The ratio of two series whose repetitions stood next to each other; none of nothing.
    pub fn of(base_ms: &[f64], new_ms: &[f64]) -> Option<Self> {
        let logarithms: Vec<f64> = base_ms.iter().zip(new_ms).map(|(base, new)| (new / base).ln()).collect();
        let centre = mean(&logarithms).filter(|centre| centre.is_finite())?;
        let n = logarithms.len();
        let squares: f64 = logarithms.iter().map(|logarithm| (logarithm - centre).powi(2)).sum();
        let interval = (n > 1).then(|| {
            let standard_error = (squares / (n - 1) as f64 / n as f64).sqrt();
            t_interval(centre, standard_error, (n - 1) as f64, 0.95)
        });
        Some(Self { value: centre.exp(), interval: interval.flatten().map(|ends| ends.map(f64::exp)), n })
    }
}

/// Spread of repetitions above which a test counts as disturbed.
const NOISY_SPREAD: f64 = 0.2;

impl BenchResult {
    /// The series of a package on a test.
    pub fn series_of(&self, package: usize, test: &Test) -> Option<&Series> {
        self.series.iter().find(|series| series.package == package && series.test == *test)
    }

    /// The tests in order.
    pub fn tests(&self) -> Vec<Test> {
        let mut tests: Vec<Test> = Vec::new();
        for series in &self.series {
            if !tests.contains(&series.test) {
                tests.push(series.test);
            }
        }
        tests
    }

    /// How a series compares with the first package's on the same test; none for the first package.
    pub fn ratio_of(&self, series: &Series) -> Option<Ratio> {
        let base = self.series_of(0, &series.test).filter(|_| series.package > 0)?;
        Ratio::of(&base.samples_ms, &series.samples_ms)
    }

    /// What makes the times doubtful: the state of the machine, and tests whose repetitions lie far apart.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.conditions.warnings();
        for series in &self.series {
            if let Some(summary) = summarise(&series.test, &series.samples_ms)
                && summary.spread > NOISY_SPREAD
                && summary.n >= 3
            {
                let name = self.packages.get(series.package).map_or("", |package| package.name.as_str());
                let spread = 100.0 * summary.spread;
                warnings.push(format!("{name}, {}: repetitions differ by {spread:.0} % of their median", series.test.name()));
            }
        }
        warnings
    }

    /// The whole result with every sample, `"format": 1`.
    pub fn to_json(&self) -> serde_json::Value {
        let series: Vec<serde_json::Value> = self
            .series
            .iter()
            .map(|series| {
                serde_json::json!({
                    "package": series.package,
                    "test": series.test.name(),
                    "unit": series.test.units().1,
                    "units": series.test.units().0,
                    "summary": summarise(&series.test, &series.samples_ms),
                    "ratio_to_first_package": self.ratio_of(series),
                    "samples_ms": series.samples_ms,
                    "vision_projector_prefill_decode_ms": series.stages_ms,
                })
            })
            .collect();
        serde_json::json!({
            "format": 1,
            "version": env!("CARGO_PKG_VERSION"),
            "onnx_runtime": self.runtime_version,
            "machine": self.machine,
            "started_at": self.started_at,
            "settings": { "provider": self.provider, "threads": self.threads, "warmup": self.warmup },
            "caches": caches(self.warmup),
            "packages": self.packages,
            "series": series,
            "roofline": self.roofline,
            "conditions": self.conditions,
            "peak_memory_bytes": self.peak_memory_bytes,
            "warnings": self.warnings(),
        })
    }
}

/// What state the caches are in when a test is timed.
pub(super) fn caches(warmup: usize) -> &'static str {
    match warmup {
        0 => "not warmed: weights are loaded, but the first repetition of a test is its first run",
        _ => "warm: weights are loaded, and every test has run before it is timed",
    }
}
