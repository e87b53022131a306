//! `baseline`: runs kept to measure later ones by.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::exit::{Exit, Failure};
use super::{VerbResult, clock, run, terminal};
use crate::compare::gate::{self, Contest, GateError};
use crate::compare::{CompareError, CompareOptions};
use crate::guard::escape;
use crate::store::{self, BASELINE_FILE, Baseline, BaselineError, Run, Saving};

/// Where baselines are kept unless said otherwise.
pub const DEFAULT_FOLDER: &str = "baselines";

/// Verbs on baselines.
#[derive(Debug, Subcommand)]
pub enum BaselineVerb {
    /// Keep copies of runs under a name
    Save(SaveArguments),
    /// List the saved baselines
    List(FolderArguments),
    /// Show what a baseline keeps and its scores; checks every file
    Show(NameArguments),
    /// Replace the runs of a baseline, after showing what changes
    Update(UpdateArguments),
    /// Remove a baseline
    Remove(NameArguments),
}

/// Where, and how to print.
#[derive(Debug, Args)]
pub struct FolderArguments {
    /// Folder of saved baselines
    #[arg(long, value_name = "DIR", default_value = DEFAULT_FOLDER)]
    baselines: PathBuf,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// A baseline by name.
#[derive(Debug, Args)]
pub struct NameArguments {
    /// Name of the baseline
    name: String,
    #[command(flatten)]
    folder: FolderArguments,
}

/// What to keep.
#[derive(Debug, Args)]
pub struct SaveArguments {
    /// Name of the baseline: letters, digits, `.`, `-` and `_`
    name: String,
    /// Run directories, or folders that contain them
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Keep runs that were limited to a part of their benchmark too
    #[arg(long)]
    allow_limited: bool,
    #[command(flatten)]
    folder: FolderArguments,
}

/// What takes the place of a baseline's runs.
#[derive(Debug, Args)]
pub struct UpdateArguments {
    #[command(flatten)]
    save: SaveArguments,
    /// Do it without asking; needed where standard input is no terminal
    #[arg(short, long)]
    yes: bool,
}

/// Runs the verb.
pub fn run(verb: BaselineVerb) -> VerbResult {
    match verb {
        BaselineVerb::Save(arguments) => save(&arguments, false),
        BaselineVerb::List(arguments) => list(&arguments),
        BaselineVerb::Show(arguments) => show(&arguments),
        BaselineVerb::Update(arguments) => update(&arguments),
        BaselineVerb::Remove(arguments) => remove(&arguments),
    }
}

/// A baseline that was named on the command line.
pub struct Resolved {
    /// How it is called in outputs.
    pub label: String,
    /// Its runs.
    pub runs: Vec<Run>,
}

/// Finds a baseline: by its name in `folder`, by its path, as run directories, or by the tag of its runs.
pub fn resolve(given: &str, folder: &Path) -> Result<Resolved, Failure> {
    let named = match store::baseline_folder(folder, given) {
        Ok(own) => return open(&own),
        Err(error @ (BaselineError::Unknown { .. } | BaselineError::Name { .. })) => error,
        Err(error) => return Err(error.into()),
    };
    let path = Path::new(given);
    if path.join(BASELINE_FILE).is_file() {
        return open(path);
    }
    if path.exists() {
        return Ok(Resolved { label: given.to_owned(), runs: run::open_runs(&[path.to_path_buf()])? });
    }
    let tagged = tagged(given, folder)?;
    match tagged.as_slice() {
        [only] => open(&folder.join(only)),
        [] => {
            let error = anyhow::Error::new(named)
                .context(format!("{given:?} is no saved baseline, no path, and no tag of a saved baseline's runs"));
            Err(Failure::new(Exit::Setup, error))
        }
        several => {
            let error = anyhow!("several baselines have runs with the tag {given:?}: {}; give a name", several.join(", "));
            Err(Failure::new(Exit::Setup, error))
        }
    }
}

/// Names of the whole baselines that hold a run with this tag.
fn tagged(tag: &str, folder: &Path) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for (name, _) in store::list_baselines(folder)?.into_iter().filter(|(_, whole)| *whole) {
        let baseline = Baseline::open(&folder.join(&name))?;
        if baseline.runs.iter().any(|run| run.tag.as_deref() == Some(tag)) {
            names.push(name);
        }
    }
    Ok(names)
}

fn open(folder: &Path) -> Result<Resolved, Failure> {
    let baseline = Baseline::open(folder)?;
    let runs = baseline.directories(folder)?.iter().map(|directory| run::open_run(directory)).collect::<Result<_, Failure>>()?;
    Ok(Resolved { label: baseline.name, runs })
}

#[derive(Serialize)]
struct SavedJson<'a> {
    format: u32,
    folder: PathBuf,
    baseline: &'a Baseline,
}

fn save(arguments: &SaveArguments, replace: bool) -> VerbResult {
    let runs = run::open_runs(&arguments.runs)?;
    let saved = clock::now_rfc3339();
    let saving = Saving { name: &arguments.name, saved: &saved, allow_limited: arguments.allow_limited, replace };
    let folder = &arguments.folder.baselines;
    let baseline = store::save_baseline(folder, saving, &runs)?;
    if arguments.folder.json {
        terminal::print_json(&SavedJson { format: 1, folder: folder.join(&baseline.name), baseline: &baseline })?;
    } else {
        terminal::print(&format!("saved {} with {}", folder.join(&baseline.name).display(), counted(baseline.runs.len())))?;
    }
    Ok(Exit::Success)
}

fn counted(runs: usize) -> String {
    if runs == 1 { "1 run".to_owned() } else { format!("{runs} runs") }
}

#[derive(Serialize)]
struct ListJson {
    format: u32,
    baselines: Vec<ListedJson>,
}

#[derive(Serialize)]
struct ListedJson {
    name: String,
    /// Absent where the baseline is half-written or damaged.
    baseline: Option<Baseline>,
    /// Why it is absent.
    problem: Option<String>,
}

fn list(arguments: &FolderArguments) -> VerbResult {
    let names = store::list_baselines(&arguments.baselines)?;
    let read = |name: String| match Baseline::open(&arguments.baselines.join(&name)) {
        Ok(baseline) => ListedJson { name, baseline: Some(baseline), problem: None },
        Err(error) => ListedJson { name, baseline: None, problem: Some(error.to_string()) },
    };
    let baselines: Vec<ListedJson> = names.into_iter().map(|(name, _)| read(name)).collect();
    if arguments.json {
        terminal::print_json(&ListJson { format: 1, baselines })?;
        return Ok(Exit::Success);
    }
    if baselines.is_empty() {
        terminal::print(&format!("no baselines in {}", arguments.baselines.display()))?;
    }
    for listed in &baselines {
        let line = match (&listed.baseline, &listed.problem) {
            (Some(baseline), _) => {
                let tags = unique(baseline.runs.iter().filter_map(|run| run.tag.clone()));
                let tags = if tags.is_empty() { String::new() } else { format!(", tag {tags}") };
                let packages = unique(baseline.runs.iter().map(|run| run.package.clone()));
                format!("{}  saved {}  {} of {packages}{tags}", listed.name, baseline.saved, counted(baseline.runs.len()))
            }
            (None, problem) => problem.clone().unwrap_or_default(),
        };
        terminal::print(&escape::terminal(&line))?;
    }
    Ok(Exit::Success)
}

fn unique(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.collect();
    names.sort();
    names.dedup();
    names.join(", ")
}

#[derive(Serialize)]
struct ShownJson<'a> {
    format: u32,
    baseline: &'a Baseline,
    runs: Vec<crate::compare::RunSummary>,
}

fn show(arguments: &NameArguments) -> VerbResult {
    let folder = store::baseline_folder(&arguments.folder.baselines, &arguments.name)?;
    let baseline = Baseline::open(&folder)?;
    let runs = open(&folder)?.runs;
    if arguments.folder.json {
        let runs = runs.iter().map(crate::compare::summarise).collect();
        terminal::print_json(&ShownJson { format: 1, baseline: &baseline, runs })?;
        return Ok(Exit::Success);
    }
    let mut lines = vec![format!("{}  saved {}  every file as it was saved", baseline.name, baseline.saved)];
    for run in &baseline.runs {
        let part = match run.samples < run.samples_available {
            true => format!("{} of {} samples (limited)", run.samples, run.samples_available),
            false => format!("{} samples", run.samples),
        };
        let identity = run.identity.get(..12).unwrap_or(&run.identity);
        let fact =
            |name: &str, value: &Option<String>| value.as_ref().map_or_else(String::new, |value| format!(", {name} {value}"));
        lines.push(format!(
            "  {} ({identity}, {}) on {}: {part}, {}, started {}{}{}",
            run.package,
            run.precision,
            run.benchmark,
            run.scorer,
            run.started,
            fact("tag", &run.tag),
            fact("commit", &run.commit)
        ));
    }
    let lines: Vec<String> = lines.iter().map(|line| escape::terminal(line)).collect();
    terminal::print(&lines.join("\n"))?;
    run::report_runs(&runs, false)?;
    Ok(Exit::Success)
}

/// What an update changes.
#[derive(Serialize)]
struct ChangesJson {
    format: u32,
    name: String,
    /// New against old, where they compare.
    comparison: Option<crate::compare::Comparison>,
    /// Why they do not, if they do not.
    not_comparable: Option<String>,
    added: Vec<String>,
    removed: Vec<String>,
    written: bool,
}

fn update(arguments: &UpdateArguments) -> VerbResult {
    let save_arguments = &arguments.save;
    let (name, folder) = (&save_arguments.name, &save_arguments.folder);
    let own = store::baseline_folder(&folder.baselines, name)?;
    let old = open(&own)?.runs;
    let new = run::open_runs(&save_arguments.runs)?;
    let (contest, not_comparable) = changes(&old, &new)?;
    let label = |run: &Run| format!("{} on {}", run.header.model.name, run.header.benchmark.name);
    let lacks = |runs: &[Run], one: &Run| runs.iter().all(|run| label(run) != label(one));
    let added: Vec<String> = new.iter().filter(|run| lacks(&old, run)).map(label).collect();
    let removed: Vec<String> = old.iter().filter(|run| lacks(&new, run)).map(label).collect();

    if !folder.json {
        let mut text = String::new();
        if let Some(contest) = contest.as_ref().filter(|contest| !contest.comparison.pairs.is_empty()) {
            let (width, colour) = (terminal::stdout_width(), terminal::stdout_colour());
            text.push_str(&crate::report::terminal::comparison(&contest.comparison, width, colour));
        }
        if let Some(reason) = &not_comparable {
            text.push_str(&format!("the old and the new runs do not compare: {}\n", escape::terminal(reason)));
        }
        for (what, names) in [("added", &added), ("removed", &removed)] {
            for name in names {
                text.push_str(&format!("{what}: {}\n", escape::terminal(name)));
            }
        }
        terminal::print(&text)?;
    }
    let agreed = arguments.yes || ask(name, folder.json)?;
    if agreed {
        let saved = clock::now_rfc3339();
        let saving = Saving { name, saved: &saved, allow_limited: save_arguments.allow_limited, replace: true };
        store::save_baseline(&folder.baselines, saving, &new)?;
    }
    if folder.json {
        let comparison = contest.map(|contest| contest.comparison);
        let (name, written) = (name.clone(), agreed);
        terminal::print_json(&ChangesJson { format: 1, name, comparison, not_comparable, added, removed, written })?;
    } else if agreed {
        terminal::print(&format!("updated {} with {}", own.display(), counted(new.len())))?;
    }
    match agreed {
        true => Ok(Exit::Success),
        false => Err(Failure::new(Exit::Setup, anyhow!("nothing was changed; --yes updates {name} without asking"))),
    }
}

/// The new runs against the old ones, or why they do not compare: that is something to be blessed too.
fn changes(old: &[Run], new: &[Run]) -> Result<(Option<Contest>, Option<String>), Failure> {
    match gate::against_baseline(old, new, None, &CompareOptions::default()) {
        Ok(contest) => Ok((Some(contest), None)),
        Err(error @ (GateError::Compare(CompareError::NotComparable { .. }) | GateError::Ambiguous { .. })) => {
            Ok((None, Some(error.to_string())))
        }
        Err(error) => Err(error.into()),
    }
}

/// Asks on a terminal; elsewhere, nobody can answer.
fn ask(name: &str, json: bool) -> Result<bool, Failure> {
    if json || !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("replace the runs of baseline {name} by these? [y/N] ");
    std::io::stderr().flush().context("cannot ask")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn remove(arguments: &NameArguments) -> VerbResult {
    store::remove_baseline(&arguments.folder.baselines, &arguments.name)?;
    if arguments.folder.json {
        terminal::print_json(&serde_json::json!({ "format": 1, "removed": arguments.name }))?;
    } else {
        terminal::print(&format!("removed {}", arguments.folder.baselines.join(&arguments.name).display()))?;
    }
    Ok(Exit::Success)
}
