//! Resolves how the questions of a run are scheduled and how much memory they may take, and says so before the run.

use std::path::Path;

use anyhow::anyhow;
use clap::Args;

use super::exit::{Exit, Failure};
use super::model::Model;
use crate::benchmark::{Answering, Benchmark};
use crate::engine::runtime::doctor::Machine;
use crate::engine::{Provider, Schedule, Scheduling, weight_memory};
use crate::guard::escape;
use crate::run::{Plan, run_shape};
use crate::store::{HEADER_FILE, MemoryPlan, RunHeader, read_header};

/// How questions are scheduled.
#[derive(Clone, Debug, Default, Args)]
pub struct ScheduleArguments {
    /// How questions share work
    #[arg(long, value_enum, default_value = "auto")]
    scheduling: SchedulingArgument,
    /// Most memory of the key-value caches, such as 2GiB or 800MB [default: half of what is free; on a GPU half of what
    /// --device-memory leaves beside the weights, or 4GiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    kv_memory: Option<u64>,
    /// Says nothing before a run.
    #[arg(skip)]
    silent: bool,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum SchedulingArgument {
    /// Whichever of the next two takes less estimated work
    #[default]
    Auto,
    /// One image encoding and one prefix prefill for all questions of an image, decoded together
    PackedTree,
    /// As packed-tree, but questions of several images decode together: for long answers and few questions an image
    AcrossImages,
    /// Every question alone, nothing shared: slow, for checking
    OneByOne,
}

/// Share of the free memory that the key-value caches may take unless told otherwise: 1 / 2.
const DEFAULT_SHARE: u64 = 2;
/// The same where nobody says how much is free.
const DEFAULT_BYTES: u64 = 2 << 30;
/// The same on a GPU: what a model of 7 billion parameters in 16 bits leaves on one of 24 GB, with some room.
const DEFAULT_BYTES_ON_GPU: u64 = 4 << 30;

impl ScheduleArguments {
    /// The questions of an image packed into one tree, whatever the benchmark, and nothing said about it.
    pub fn packed_tree() -> Self {
        Self { scheduling: SchedulingArgument::PackedTree, kv_memory: None, silent: true }
    }

    fn wanted(&self) -> Option<Scheduling> {
        match self.scheduling {
            SchedulingArgument::Auto => None,
            SchedulingArgument::PackedTree => Some(Scheduling::PackedTree),
            SchedulingArgument::AcrossImages => Some(Scheduling::AcrossImages),
            SchedulingArgument::OneByOne => Some(Scheduling::OneByOne),
        }
    }

    /// Refuses what engines of TensorRT are not made for.
    pub fn check(&self, provider: Provider) -> Result<(), Failure> {
        if provider == Provider::TensorRt && self.wanted() == Some(Scheduling::AcrossImages) {
            let error = anyhow!(
                "--scheduling across-images: TensorRT's engines are made for one sequence, as several would need room for as many of \
                 the longest prompts; packed-tree decodes the questions of an image together"
            );
            return Err(Failure::new(Exit::Setup, error));
        }
        Ok(())
    }

    /// How a package is loaded, before it is known what it will be asked.
    pub fn at_load(&self) -> Scheduling {
        self.wanted().unwrap_or_default()
    }

    /// Schedules a run on a loaded package and says what memory it will take. A run that is continued is scheduled as it was
    /// begun, unless something else is asked for. Packages that other programs wrote are not scheduled here.
    pub fn plan(
        &self,
        model: &mut Model,
        (benchmark, plan): (&Benchmark, &Plan),
        (max_new_tokens, answering): (usize, Answering),
        directory: &Path,
        quiet: bool,
    ) -> Option<MemoryPlan> {
        let no_batches = model.engine.no_batches()?.map(str::to_owned);
        let earlier = earlier(directory);
        let earlier_memory = earlier.as_ref().and_then(|header| header.memory);
        let wanted = match (self.wanted(), &earlier) {
            // Begun before schedules were planned.
            (None, Some(header)) if earlier_memory.is_none() => by_name(&header.settings.scheduling),
            (None, _) if model.engine.options().provider.provider == Provider::TensorRt => Some(Scheduling::PackedTree),
            (wanted, _) => wanted,
        };
        let options = model.engine.options();
        // An unreadable graph would have stopped the package from loading.
        let weights_bytes = weight_memory(&model.package, options).map_or(0, |weights| weights.total_bytes());
        let (free_bytes, otherwise) = if options.provider.provider.is_gpu() {
            let limit = options.provider.memory_limit_bytes;
            (limit.map_or(0, |limit| limit.saturating_sub(weights_bytes)), DEFAULT_BYTES_ON_GPU)
        } else {
            (Machine::look().memory_available_bytes, DEFAULT_BYTES)
        };
        let kv_memory_bytes = self
            .kv_memory
            .or(earlier_memory.map(|memory| memory.kv_memory_bytes))
            .unwrap_or(if free_bytes == 0 { otherwise } else { free_bytes / DEFAULT_SHARE });
        let manifest = &model.package.manifest;
        let shape = run_shape(benchmark, plan, manifest, max_new_tokens, answering);
        let schedule = Schedule::plan(wanted, &shape, &manifest.llm, kv_memory_bytes, no_batches.as_deref());
        let need = model.engine.memory_need(&schedule, &shape)?;
        model.engine.set_schedule(&schedule);
        let memory = MemoryPlan {
            kv_memory_bytes,
            cache_bytes: need.cache_bytes,
            weights_bytes,
            logits_bytes: need.logits_bytes,
            image_bytes: need.image_bytes,
            slots: schedule.slots,
        };
        if !quiet && !self.silent {
            eprintln!("{}", line(&model.package.manifest.name, &benchmark.spec.name, &schedule, &memory, free_bytes));
        }
        Some(memory)
    }
}

/// The header of the run that was begun in a directory; one that cannot be read is the store's to refuse.
fn earlier(directory: &Path) -> Option<RunHeader> {
    directory.join(HEADER_FILE).exists().then(|| read_header(directory).ok()).flatten()
}

fn by_name(name: &str) -> Option<Scheduling> {
    [Scheduling::PackedTree, Scheduling::OneByOne, Scheduling::AcrossImages].into_iter().find(|one| one.as_str() == name)
}

/// What is said before a run.
fn line(package: &str, benchmark: &str, schedule: &Schedule, memory: &MemoryPlan, free_bytes: u64) -> String {
    let slots = if memory.slots > 1 { format!(", up to {} sequences at once", memory.slots) } else { String::new() };
    let reason = schedule.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
    format!(
        "{} on {}: {}{slots}{reason}; memory: weights {}, key-value cache about {} of at most {}, logits {}, pictures {}; free {}",
        escape::terminal(package),
        escape::terminal(benchmark),
        schedule.scheduling.as_str(),
        size(memory.weights_bytes),
        size(memory.cache_bytes),
        size(memory.kv_memory_bytes),
        size(memory.logits_bytes),
        size(memory.image_bytes),
        if free_bytes == 0 { "unknown".to_owned() } else { size(free_bytes) },
    )
}

const UNITS: [(&str, u64); 7] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000), ("B", 1)];

/// Bytes for people.
fn size(bytes: u64) -> String {
    let [giga, mega, kilo, ..] = UNITS;
    let (name, unit) = [giga, mega].into_iter().find(|(_, unit)| bytes >= *unit).unwrap_or(kilo);
    format!("{:.1} {name}", bytes as f64 / unit as f64)
}

/// A size such as `2GiB`, `1.5 GB`, `800MB` or a number of bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let expected = || format!("expected a size such as 2GiB, 800MB or a number of bytes, found {text:?}");
    let trimmed = text.trim();
    let with_unit = UNITS.iter().find_map(|(name, unit)| {
        let start = trimmed.len().checked_sub(name.len())?;
        let (number, ending) = (trimmed.get(..start)?, trimmed.get(start..)?);
        ending.eq_ignore_ascii_case(name).then_some((number.trim_end(), *unit))
    });
    let (number, unit) = with_unit.unwrap_or((trimmed, 1));
    let number: f64 = number.parse().map_err(|_| expected())?;
    let bytes = number * unit as f64;
    if !bytes.is_finite() || bytes < 1.0 || bytes >= u64::MAX as f64 {
        return Err(expected());
    }
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit() {
        assert_eq!(parse_size("2GiB"), Ok(2 << 30));
        assert_eq!(parse_size(" 1.5 gb "), Ok(1_500_000_000));
        assert_eq!(parse_size("800MB"), Ok(800_000_000));
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("7b"), Ok(7));
        for bad in ["", "GiB", "-1GiB", "0", "1e300GiB", "NaN", "2 pounds", "é"] {
            assert!(parse_size(bad).unwrap_err().contains("expected a size"), "{bad}");
        }
    }

    #[test]
    fn sizes_are_said_in_the_unit_that_suits() {
        assert_eq!(size(3 << 29), "1.5 GiB");
        assert_eq!(size(5 << 20), "5.0 MiB");
        assert_eq!(size(512), "0.5 KiB");
    }
}
