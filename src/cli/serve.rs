//! `serve`: the progress of runs in the browser, read from their directories.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::anyhow;
use clap::Args;

use super::exit::{Exit, Failure};
use super::run::StopSignal;
use super::watch::Watch;
use super::{VerbResult, report, run, terminal};
use crate::report::{ReportFile, live};
use crate::web::{Answer, Request, Server};

/// Arguments of `serve`.
#[derive(Debug, Args)]
#[command(after_help = "Ctrl-C or SIGTERM ends it; that is its ordinary end, exit code 0.")]
pub struct ServeArguments {
    /// Run directories, or folders in which runs are or will be
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Port; 0 takes any that is free
    #[arg(long, value_name = "N", default_value_t = 8643)]
    port: u16,
    /// Address to listen at; any other than this machine's own lets others see answers and paths
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: String,
    /// Open the page in the browser
    #[arg(long)]
    open: bool,
}

/// The last report that was made, and of what.
type MadeReport = Option<(Vec<(String, usize)>, Arc<Vec<ReportFile>>)>;

/// What the answers are made from.
struct Site {
    watch: Mutex<Watch>,
    report: Mutex<MadeReport>,
    page: Arc<[u8]>,
    policy: String,
}

/// Runs the verb.
pub fn run(arguments: ServeArguments) -> VerbResult {
    let stop = StopSignal::install()?;
    let mut watch = Watch::new(arguments.runs);
    watch.look();
    let server = Server::listen(&arguments.host, arguments.port)?;
    if !server.is_loopback() {
        eprintln!(
            "warning: {} can be reached from other machines, and everybody who reaches it sees questions, answers and paths",
            server.address()
        );
    }
    let address = format!("http://{}/", server.address());
    terminal::print(&address)?;
    match watch.len() {
        0 => eprintln!("no run is there yet; waiting. Ctrl-C ends"),
        count => eprintln!("watching {count} {}. Ctrl-C ends", if count == 1 { "run" } else { "runs" }),
    }
    if arguments.open {
        open(&address);
    }
    let site = Site {
        watch: Mutex::new(watch),
        report: Mutex::new(None),
        page: live::page().into_bytes().into(),
        policy: live::policy(),
    };
    server.run(stop.flag(), &|request| site.answer(request));
    Ok(Exit::Success)
}

impl Site {
    fn answer(&self, request: &Request) -> Answer {
        match request.path.as_str() {
            "/" => Answer { policy: Some(self.policy.clone()), ..Answer::ok("text/html; charset=utf-8", Arc::clone(&self.page)) },
            "/status.json" => self.status(),
            "/report" => Answer { location: Some("/report/"), ..Answer::text(303, "the report is at /report/") },
            path => match path.strip_prefix("/report/") {
                Some("") => self.report("index.html"),
                Some(name) => self.report(name),
                None => Answer::text(404, "there is no such page; / shows the runs"),
            },
        }
    }

    fn status(&self) -> Answer {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.look();
        match watch.status() {
            Ok(json) => Answer::ok("application/json", json),
            Err(failure) => Answer::text(500, &terminal::clean(&format!("{:#}", failure.error))),
        }
    }

    /// A file of the report, made when it is asked for and there is more to say than in the last one.
    fn report(&self, name: &str) -> Answer {
        match self.report_files() {
            Err(failure) => Answer::text(409, &terminal::clean(&format!("no report can be made: {:#}", failure.error))),
            Ok(files) => match files.iter().find(|file| file.name == name) {
                None => Answer::text(404, "the report has no such file"),
                Some(file) => Answer {
                    // The page brings a stricter policy along, which holds besides this one.
                    policy: Some("frame-ancestors 'none'".to_owned()),
                    ..Answer::ok(content_type(name), file.bytes.clone())
                },
            },
        }
    }

    fn report_files(&self) -> Result<Arc<Vec<ReportFile>>, Failure> {
        // One report at a time; who asks meanwhile gets the same one.
        let mut made = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        let (directories, state) = {
            let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
            watch.look();
            watch.reportable()
        };
        if let Some((of, files)) = made.as_ref()
            && *of == state
        {
            return Ok(Arc::clone(files));
        }
        if directories.is_empty() {
            return Err(Failure::new(Exit::IncompleteRun, anyhow!("no question has been answered yet")));
        }
        let runs = run::open_runs(&directories)?;
        let comparison = crate::compare::compare(&runs, crate::compare::DEFAULT_MARGIN)?;
        let files = Arc::new(report::files(&runs, &comparison, "llava-gauge report")?);
        *made = Some((state, Arc::clone(&files)));
        Ok(files)
    }
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("csv") => "text/csv; charset=utf-8",
        Some("md") => "text/markdown; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    }
}

/// Asks the system to show the page; a machine without a browser is told where it is anyway.
fn open(address: &str) {
    let (program, before): (&str, &[&str]) = match std::env::consts::OS {
        "macos" => ("open", &[]),
        "windows" => ("cmd", &["/C", "start", ""]),
        _ => ("xdg-open", &[]),
    };
    let started = std::process::Command::new(program)
        .args(before)
        .arg(address)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    if let Err(error) = started {
        eprintln!("warning: cannot open a browser ({program}: {error}); the page is at {address}");
    }
}
