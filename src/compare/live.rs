//! A run while it is made: what can be said of it so far, kept up as its records come.

use std::collections::HashMap;

use super::Estimate;
use super::estimate::{Column, LEVEL, bounded};
use crate::benchmark::MetricSpec;
use crate::stats::{RunningRatio, t_interval};
use crate::store::SampleRecord;

/// Names of the stages whose time is summed, in the order of the flow.
pub const LIVE_STAGES: [&str; 5] = ["image", "vision", "projector", "prefill", "decode"];

/// The name under which the mean headline score goes where the primary metric has no running value.
const HEADLINE: &str = "score";

/// One metric so far. Clusters are numbered for each metric by itself, because not every sample takes part in each.
#[derive(Clone, Debug)]
struct Running {
    spec: MetricSpec,
    ratio: RunningRatio,
    clusters: HashMap<String, usize>,
    samples: usize,
    is_share: bool,
}

impl Running {
    fn new(spec: MetricSpec) -> Self {
        Self { spec, ratio: RunningRatio::default(), clusters: HashMap::new(), samples: 0, is_share: true }
    }

    fn add(&mut self, cluster: &str, numerator: f64, denominator: f64) {
        if !numerator.is_finite() || !denominator.is_finite() {
            return;
        }
        let next = self.clusters.len();
        let number = match self.clusters.get(cluster) {
            Some(number) => *number,
            None => *self.clusters.entry(cluster.to_owned()).or_insert(next),
        };
        self.ratio.add(number, numerator, denominator);
        self.samples += 1;
        self.is_share &= (0.0..=denominator).contains(&numerator);
    }

    fn estimate(&self) -> Option<Estimate> {
        let scale = self.spec.scale;
        let value = self.ratio.value()? * scale;
        let error = self.ratio.standard_error();
        let standard_error = error.map(|error| error.standard_error * scale.abs());
        let estimate = Estimate {
            value,
            standard_error,
            interval: error
                .and_then(|error| t_interval(value, error.standard_error * scale.abs(), error.degrees_of_freedom, LEVEL)),
            n: self.samples,
            clusters: self.ratio.clusters(),
            design_effect: None,
        };
        // An empty column is a share, and nothing else of it is asked.
        Some(if self.is_share { bounded(estimate, &Column::new([]), &self.spec) } else { estimate })
    }
}

/// What a run has done so far. Adding records costs the same however many there are.
#[derive(Clone, Debug)]
pub struct LiveRun {
    /// Samples planned.
    pub planned: usize,
    /// Samples with a record.
    pub recorded: usize,
    /// Samples with an answer that was scored.
    pub answered: usize,
    /// Samples without an answer.
    pub failed: usize,
    /// Milliseconds by stage over all groups so far, in the order of [`LIVE_STAGES`].
    pub stage_ms: [f64; 5],
    primary: Option<Running>,
    headline: Running,
    last_group: Option<(Vec<String>, usize, [u64; 5])>,
    grouped_questions: usize,
}

impl LiveRun {
    /// Nothing recorded yet of so many planned samples.
    pub fn new(metrics: &[MetricSpec], planned: usize) -> Self {
        let headline = MetricSpec {
            name: HEADLINE.to_owned(),
            scale: 100.0,
            higher_is_better: Some(true),
            primary: false,
            mean_over_categories: false,
            sum_over_categories: false,
            points: false,
        };
        // A mean over categories has no value before every category has one.
        let plain = |spec: &&MetricSpec| spec.primary && !spec.mean_over_categories && !spec.sum_over_categories;
        Self {
            planned,
            recorded: 0,
            answered: 0,
            failed: 0,
            stage_ms: [0.0; 5],
            primary: metrics.iter().find(plain).cloned().map(Running::new),
            headline: Running::new(headline),
            last_group: None,
            grouped_questions: 0,
        }
    }

    /// Takes in new records, in the order of the log.
    pub fn add(&mut self, records: &[SampleRecord]) {
        for record in records {
            self.recorded += 1;
            self.failed += usize::from(record.failure.is_some());
            if let (None, Some(score)) = (&record.failure, record.score) {
                self.answered += 1;
                self.headline.add(&record.cluster, score, 1.0);
                if let Some(primary) = &mut self.primary
                    && let Some(contribution) = record.contributions.get(&primary.spec.name)
                {
                    primary.add(&record.cluster, contribution.numerator, contribution.denominator);
                }
            }
            self.add_group(record);
        }
    }

    /// Counts a group's time once: its records are written together.
    fn add_group(&mut self, record: &SampleRecord) {
        let group = &record.timings.group;
        if group.questions == 0 {
            return;
        }
        let stages = [group.image_ms, group.vision_ms, group.projector_ms, group.prefill_ms, group.decode_ms];
        let bits = stages.map(f64::to_bits);
        if let Some((images, questions, known)) = &self.last_group
            && (images, *questions, *known) == (&record.images, group.questions, bits)
        {
            return;
        }
        self.last_group = Some((record.images.clone(), group.questions, bits));
        self.grouped_questions += group.questions;
        for (sum, ms) in self.stage_ms.iter_mut().zip(stages) {
            if ms.is_finite() && ms > 0.0 {
                *sum += ms;
            }
        }
    }

    /// Whether every planned sample has a record.
    pub fn complete(&self) -> bool {
        self.recorded >= self.planned
    }

    /// The primary metric so far, scaled, with its 95 % clustered interval; the mean headline score in per cent where the
    /// metric is a mean over categories, or is known only when all answers are there.
    pub fn estimate(&self) -> Option<(&MetricSpec, Estimate)> {
        let primary = self.primary.as_ref().and_then(|running| Some((&running.spec, running.estimate()?)));
        primary.or_else(|| Some((&self.headline.spec, self.headline.estimate()?)))
    }

    /// Each stage's share of the time of all stages, in the order of [`LIVE_STAGES`]; `None` before any time was spent.
    pub fn stage_shares(&self) -> Option<[f64; 5]> {
        let total: f64 = self.stage_ms.iter().sum();
        (total > 0.0).then(|| self.stage_ms.map(|ms| ms / total))
    }

    /// Engine milliseconds per question so far: all stages but the reading of images, which runs beside them.
    pub fn engine_ms_per_question(&self) -> Option<f64> {
        let engine: f64 = self.stage_ms.iter().skip(1).sum();
        (self.grouped_questions > 0 && engine > 0.0).then(|| engine / self.grouped_questions as f64)
    }
}
