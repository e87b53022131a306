//! A comparison arranged for reading: benchmarks × packages, and the verdict in sentences. All outputs share it, so that
//! they say the same.

use crate::compare::{Comparison, Estimate, LatencyVerdict, MetricSummary, PairComparison, PairedMetric, RunSummary, Verdict};

use super::format::{self, Unit};

/// One run in its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunView<'a> {
    /// Index into `Comparison::runs`.
    pub index: usize,
    /// Index into `View::packages`.
    pub package: usize,
    /// The run.
    pub run: &'a RunSummary,
}

impl<'a> RunView<'a> {
    /// The metric by which the run is judged.
    pub fn primary(&self) -> Option<&'a MetricSummary> {
        self.run.metrics.iter().find(|metric| metric.primary).or_else(|| self.run.metrics.first())
    }

    /// A metric by name.
    pub fn metric(&self, name: &str) -> Option<&'a MetricSummary> {
        self.run.metrics.iter().find(|metric| metric.name == name)
    }

    /// How a metric of the run is written.
    pub fn unit(&self, metric: &str) -> Unit {
        let spec = self.run.header.benchmark.metrics.iter().find(|spec| spec.name == metric);
        spec.map_or(Unit::of(1.0), |spec| Unit { scale: spec.scale, points: spec.sum_over_categories || spec.points })
    }
}

/// One pair of runs in its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct PairView<'a> {
    /// Base, an index into `View::packages`.
    pub base: usize,
    /// New, an index into `View::packages`.
    pub new: usize,
    /// The pair.
    pub pair: &'a PairComparison,
}

impl<'a> PairView<'a> {
    /// The metric by which the pair is judged.
    pub fn primary(&self) -> Option<&'a PairedMetric> {
        self.pair.metrics.iter().find(|metric| metric.primary).or_else(|| self.pair.metrics.first())
    }
}

/// All runs of one benchmark.
#[derive(Clone, Debug)]
pub(super) struct BenchmarkView<'a> {
    /// Name.
    pub name: &'a str,
    /// Title for people.
    pub title: &'a str,
    /// Runs in the order given.
    pub runs: Vec<RunView<'a>>,
    /// Each later run against the first.
    pub pairs: Vec<PairView<'a>>,
}

impl<'a> BenchmarkView<'a> {
    /// Names of all metrics, primary first, those of the first run first.
    pub fn metric_names(&self) -> Vec<&'a str> {
        let mut names: Vec<&'a str> = self.runs.first().and_then(RunView::primary).map(|m| m.name.as_str()).into_iter().collect();
        for metric in self.runs.iter().flat_map(|run| &run.run.metrics) {
            if !names.contains(&metric.name.as_str()) {
                names.push(&metric.name);
            }
        }
        names
    }

    /// Name of the metric by which the benchmark is judged.
    pub fn primary_name(&self) -> &'a str {
        self.metric_names().first().copied().unwrap_or("")
    }

    /// How a metric of the benchmark is written.
    pub fn unit(&self, metric: &str) -> Unit {
        let known = self.runs.iter().find(|run| run.run.header.benchmark.metrics.iter().any(|spec| spec.name == metric));
        known.map_or(Unit::of(1.0), |run| run.unit(metric))
    }

    /// The run of a package.
    pub fn run_of(&self, package: usize) -> Option<&RunView<'a>> {
        self.runs.iter().find(|run| run.package == package)
    }
}

/// A comparison arranged for reading.
#[derive(Clone, Debug)]
pub(super) struct View<'a> {
    /// The comparison.
    pub comparison: &'a Comparison,
    /// Package labels in order of first appearance. Equal names of different runs of a benchmark get a number.
    pub packages: Vec<String>,
    /// Benchmarks in order of first appearance.
    pub benchmarks: Vec<BenchmarkView<'a>>,
}

impl<'a> View<'a> {
    /// Arranges a comparison.
    pub fn new(comparison: &'a Comparison) -> Self {
        let mut packages: Vec<String> = Vec::new();
        let mut benchmarks: Vec<BenchmarkView<'a>> = Vec::new();
        for (index, run) in comparison.runs.iter().enumerate() {
            let name = run.header.benchmark.name.as_str();
            let place = benchmarks.iter().position(|benchmark| benchmark.name == name).unwrap_or_else(|| {
                let title = run.header.benchmark.title.as_str();
                let title = if title.trim().is_empty() { name } else { title };
                benchmarks.push(BenchmarkView { name, title, runs: Vec::new(), pairs: Vec::new() });
                benchmarks.len() - 1
            });
            let Some(benchmark) = benchmarks.get_mut(place) else { continue };
            let label = unused_label(&run.header.model.name, benchmark, &packages);
            let package = packages.iter().position(|known| *known == label).unwrap_or_else(|| {
                packages.push(label);
                packages.len() - 1
            });
            benchmark.runs.push(RunView { index, package, run });
        }
        for benchmark in &mut benchmarks {
            benchmark.pairs = place_pairs(comparison, benchmark);
        }
        Self { comparison, packages, benchmarks }
    }

    /// A package's label.
    pub fn package(&self, index: usize) -> &str {
        self.packages.get(index).map_or("", String::as_str)
    }

    /// Every pair of packages, with its standing on each benchmark that both ran.
    pub fn contests(&self) -> Vec<Contest<'a>> {
        let mut contests: Vec<Contest<'a>> = Vec::new();
        for benchmark in &self.benchmarks {
            for pair in &benchmark.pairs {
                let Some(metric) = pair.primary() else { continue };
                let standing = Standing {
                    name: benchmark.name,
                    title: benchmark.title,
                    pair: pair.pair,
                    metric,
                    unit: benchmark.unit(&metric.name),
                };
                match contests.iter_mut().find(|contest| contest.base == pair.base && contest.new == pair.new) {
                    Some(contest) => contest.standings.push(standing),
                    None => contests.push(Contest { base: pair.base, new: pair.new, standings: vec![standing] }),
                }
            }
        }
        contests
    }

    /// Machines and libraries, one sentence each, with the runs concerned where there are several.
    pub fn environments(&self) -> Vec<String> {
        let mut environments: Vec<(String, usize)> = Vec::new();
        for run in &self.comparison.runs {
            let environment = &run.header.environment;
            let sentence = format!(
                "{}, {}, {}, {} of memory; ONNX Runtime {} (library {}), llava-gauge {}",
                environment.processor,
                format::counted(environment.physical_cores, "physical core", "physical cores"),
                environment.platform,
                format::gibibytes(environment.memory_bytes),
                environment.runtime_version,
                format::short_hash(&environment.runtime_sha256),
                environment.program_version
            );
            match environments.iter_mut().find(|(known, _)| *known == sentence) {
                Some((_, runs)) => *runs += 1,
                None => environments.push((sentence, 1)),
            }
        }
        let several = environments.len() > 1;
        let described = environments.into_iter().map(|(sentence, runs)| {
            if several { format!("{sentence} ({})", format::counted(runs, "run", "runs")) } else { sentence }
        });
        described.collect()
    }

    /// What ran the graphs and how far the answers would come again, one sentence for each package and placement with the
    /// benchmarks concerned. Older runs did not record it.
    pub fn executions(&self) -> Vec<String> {
        let mut found: Vec<(String, String, Vec<&str>)> = Vec::new();
        for benchmark in &self.benchmarks {
            for view in &benchmark.runs {
                let Some(execution) = &view.run.header.execution else { continue };
                let class = execution.determinism;
                let said = format!("{}; determinism class {}: {}", execution.lines().join("; "), class.as_str(), class.meaning());
                let who = self.package(view.package);
                match found.iter_mut().find(|(known, text, _)| known == who && *text == said) {
                    Some((.., benchmarks)) => benchmarks.push(benchmark.title),
                    None => found.push((who.to_owned(), said, vec![benchmark.title])),
                }
            }
        }
        let all = self.benchmarks.len();
        let sentence = |(who, said, benchmarks): (String, String, Vec<&str>)| match benchmarks.len() {
            count if count == all && all > 1 => format!("{who} on all {all} benchmarks: {said}"),
            _ => format!("{who} on {}: {said}", benchmarks.join(", ")),
        };
        found.into_iter().map(sentence).collect()
    }

    /// Who judged, one sentence for each judge with the runs concerned.
    pub fn judges(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        for benchmark in &self.benchmarks {
            for view in &benchmark.runs {
                let Some(judge) = &view.run.judge else { continue };
                let reported = match judge.reported_models.as_slice() {
                    [] => String::new(),
                    [one] if *one == judge.model => String::new(),
                    several => format!(", which reports itself as {}", several.join(", ")),
                };
                let cached = match judge.cached_replies {
                    0 => String::new(),
                    count => format!(", {} of the replies from the cache", format::count(count)),
                };
                let cost = judge.cost.map_or_else(String::new, |cost| format!(", cost {}", format::number(cost, 4)));
                sentences.push(format!(
                    "{} on {}: judged by {} at {}{reported} (prompts {}; {}); {} could not be read, {}; {} prompt tokens, {} reply \
                     tokens{cached}{cost}. Scores of different judges are not comparable.",
                    self.package(view.package),
                    benchmark.title,
                    judge.model,
                    judge.endpoint,
                    judge.rule,
                    judge.settings,
                    format::counted(judge.unparsed_replies, "reply", "replies"),
                    format::counted(judge.failed_replies, "answer got none", "answers got none"),
                    format::count(usize::try_from(judge.prompt_tokens).unwrap_or(usize::MAX)),
                    format::count(usize::try_from(judge.reply_tokens).unwrap_or(usize::MAX)),
                ));
            }
        }
        sentences
    }

    /// A sentence about several verdicts at once; `None` when there is only one.
    pub fn multiplicity(&self) -> Option<String> {
        let tests = self.comparison.corrected_tests;
        (tests > 1).then(|| {
            format!(
                "“Regressed” and “improved” are corrected for all {} together, one primary metric for each benchmark and pair of \
                 runs (Holm's method): the chance of even one false alarm among them is at most 5 %.",
                format::counted(tests, "verdict", "verdicts")
            )
        })
    }

    /// The runs as a table, `[package][benchmark]`.
    pub fn grid(&self) -> Vec<Vec<Option<&'a RunSummary>>> {
        let row = |package| self.benchmarks.iter().map(|benchmark| benchmark.run_of(package).map(|run| run.run)).collect();
        (0..self.packages.len()).map(row).collect()
    }
}

/// The run's name, numbered if the benchmark has a run of that name already.
fn unused_label(name: &str, benchmark: &BenchmarkView<'_>, packages: &[String]) -> String {
    let name = if name.trim().is_empty() { "(unnamed)" } else { name };
    let taken =
        |label: &str| benchmark.runs.iter().any(|run| packages.get(run.package).is_some_and(|package| package.as_str() == label));
    if !taken(name) {
        return name.to_owned();
    }
    (2_usize..).map(|number| format!("{name} ({number})")).find(|label| !taken(label)).unwrap_or_else(|| name.to_owned())
}

/// The pairs of a benchmark. They come in the order of its later runs, which tells runs of equal name apart; a pair whose
/// names do not fit its place is matched by name alone.
fn place_pairs<'a>(comparison: &'a Comparison, benchmark: &BenchmarkView<'a>) -> Vec<PairView<'a>> {
    let runs = &benchmark.runs;
    let named = |name: &str| runs.iter().find(|run| run.run.header.model.name == name).map(|run| run.package);
    let pairs = comparison.pairs.iter().filter(|pair| pair.benchmark == benchmark.name);
    let placed = pairs.enumerate().filter_map(|(order, pair)| {
        let in_place = runs
            .first()
            .zip(runs.get(order + 1))
            .filter(|(base, new)| base.run.header.model.name == pair.base && new.run.header.model.name == pair.new);
        let (base, new) = match in_place {
            Some((base, new)) => (base.package, new.package),
            None => (named(&pair.base)?, named(&pair.new)?),
        };
        Some(PairView { base, new, pair })
    });
    placed.collect()
}

/// How a package stands against another on one benchmark.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing<'a> {
    /// Benchmark name.
    pub name: &'a str,
    /// Benchmark title.
    pub title: &'a str,
    /// The pair.
    pub pair: &'a PairComparison,
    /// Its primary metric.
    pub metric: &'a PairedMetric,
    /// How the metric is written.
    pub unit: Unit,
}

impl Standing<'_> {
    /// `POPE −4.2 points (95 % interval −6.1 to −2.3)`.
    pub fn sentence(&self) -> String {
        let difference = &self.metric.difference;
        let interval = match difference.interval {
            Some(_) => format!(" (95 % interval {})", self.unit.difference_interval(difference)),
            None => " (no interval: too few independent samples)".to_owned(),
        };
        format!("{} {}{}{interval}", self.title, self.unit.difference(difference), self.unit.difference_suffix())
    }
}

/// One package against another over all benchmarks.
#[derive(Clone, Debug)]
pub(super) struct Contest<'a> {
    /// Base, an index into `View::packages`.
    pub base: usize,
    /// New, an index into `View::packages`.
    pub new: usize,
    /// By benchmark.
    pub standings: Vec<Standing<'a>>,
}

impl<'a> Contest<'a> {
    /// Standings with one verdict.
    pub fn with(&self, verdict: Verdict) -> Vec<&Standing<'a>> {
        self.standings.iter().filter(|standing| standing.metric.verdict == verdict).collect()
    }

    /// The verdict over all benchmarks, never more than the single ones support. Some benchmarks up and some down has no
    /// single word: `None`.
    pub fn overall(&self) -> Option<Verdict> {
        let counted = |verdict| self.with(verdict).len();
        match (counted(Verdict::Regressed), counted(Verdict::Improved)) {
            (0, 0) if self.standings.iter().all(|standing| standing.metric.verdict == Verdict::Descriptive) => {
                Some(Verdict::Descriptive)
            }
            (0, 0) if counted(Verdict::Inconclusive) > 0 => Some(Verdict::Inconclusive),
            (0, 0) if counted(Verdict::NoWorse) > 0 => Some(Verdict::NoWorse),
            (0, 0) => Some(Verdict::Identical),
            (_, 0) => Some(Verdict::Regressed),
            (0, _) => Some(Verdict::Improved),
            _ => None,
        }
    }

    /// The answer in one sentence.
    pub fn headline(&self, view: &View<'_>) -> String {
        let (base, new) = (view.package(self.base), view.package(self.new));
        let all = self.standings.len();
        let (regressed, improved) = (self.with(Verdict::Regressed).len(), self.with(Verdict::Improved).len());
        let of = |some: usize| match (some, all) {
            (1, 1) => "the one benchmark".to_owned(),
            (some, all) if some == all => format!("all {all} benchmarks"),
            (some, all) => format!("{some} of {all} benchmarks"),
        };
        match self.overall() {
            Some(Verdict::Regressed) => {
                format!("{new} is worse than {base} on {}{}.", of(regressed), none_else(all - regressed, "better"))
            }
            Some(Verdict::Improved) => {
                format!("{new} is better than {base} on {}{}.", of(improved), none_else(all - improved, "worse"))
            }
            None => format!("{new} is worse than {base} on {} and better on {}.", of(regressed), improved),
            Some(Verdict::NoWorse) => {
                let unit = self.standings.first().map_or(Unit::of(1.0), |standing| standing.unit);
                let margin = format!("{}{}", unit.size(view.comparison.margin), unit.difference_suffix());
                format!("{new} is no worse than {base} on {}, within a margin of {margin}.", of(all))
            }
            Some(Verdict::Inconclusive) => {
                format!("Whether {new} is better or worse than {base} is not decided by these samples.")
            }
            Some(Verdict::Identical) => format!("{new} scores exactly as {base} does, on every sample."),
            Some(Verdict::Descriptive) => format!("{new} and {base} differ only in descriptions without a direction."),
        }
    }

    /// By how much and how surely: one sentence per benchmark, regressions first.
    pub fn findings(&self, margin: f64) -> Vec<(Verdict, String)> {
        let order = [
            Verdict::Regressed,
            Verdict::Improved,
            Verdict::Inconclusive,
            Verdict::NoWorse,
            Verdict::Identical,
            Verdict::Descriptive,
        ];
        let described = |verdict| {
            self.with(verdict).into_iter().map(move |standing| (verdict, format!("{}.", describe(standing, verdict, margin))))
        };
        order.into_iter().flat_map(described).collect()
    }

    /// Engine time per question of the new package against the base, where runs are comparable.
    pub fn speed(&self, view: &View<'_>) -> Option<String> {
        let ratios: Vec<&Estimate> =
            self.standings.iter().filter_map(|standing| Some(&standing.pair.latency.as_ref()?.ratio)).collect();
        let low = ratios.iter().map(|ratio| ratio.value).min_by(f64::total_cmp)?;
        let high = ratios.iter().map(|ratio| ratio.value).max_by(f64::total_cmp)?;
        let judged = |verdict| {
            let speeds = self.standings.iter().filter_map(|standing| standing.pair.latency.as_ref());
            speeds.filter(|latency| latency.verdict == verdict).count()
        };
        let (slower, faster) = (judged(LatencyVerdict::Slower), judged(LatencyVerdict::Faster));
        let word = match (slower, faster) {
            (0, 0) => "No clear difference in speed",
            (0, faster) if faster == ratios.len() => "Faster",
            (slower, 0) if slower == ratios.len() => "Slower",
            (0, _) => "Faster or equal",
            (_, 0) => "Slower or equal",
            _ => "Faster on some benchmarks, slower on others",
        };
        let range = match ratios.as_slice() {
            [only] => match only.interval {
                Some([low, high]) => format!(
                    "{} times (95 % interval {} to {})",
                    format::significant(only.value),
                    format::significant(low),
                    format::significant(high)
                ),
                None => format!("{} times", format::significant(only.value)),
            },
            _ if format::significant(low) == format::significant(high) => format!("{} times", format::significant(low)),
            _ => format!("{} to {} times", format::significant(low), format::significant(high)),
        };
        Some(format!("{word}: {range} the engine time per question of {}.", view.package(self.base)))
    }
}

/// Says that nothing went the other way, where there was anything left to go it.
fn none_else(others: usize, word: &str) -> String {
    if others > 0 { format!(" and {word} on none") } else { String::new() }
}

fn describe(standing: &Standing<'_>, verdict: Verdict, margin: f64) -> String {
    let unit = standing.unit;
    match verdict {
        Verdict::Inconclusive => match standing.metric.minimum_detectable_effect {
            Some(effect) => format!(
                "{}, where {} samples could detect {}{} with 80 % power",
                standing.sentence(),
                format::count(standing.pair.paired),
                unit.size(effect),
                unit.difference_suffix()
            ),
            None => standing.sentence(),
        },
        Verdict::NoWorse => {
            format!(
                "{}, so a loss of more than {}{} is excluded",
                standing.sentence(),
                unit.size(margin),
                unit.difference_suffix()
            )
        }
        Verdict::Identical => {
            // Zero differences in n samples bound their rate below 3/n with 95 % confidence (rule of three).
            let bound = 300.0 / standing.pair.paired.max(1) as f64;
            format!(
                "{}: no score differs in {} samples, so at most {} % of all would (95 % bound)",
                standing.title,
                format::count(standing.pair.paired),
                format::significant(bound.min(100.0))
            )
        }
        _ => standing.sentence(),
    }
}
