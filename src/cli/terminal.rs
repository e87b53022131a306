//! What the terminal can do, and where messages go.

use std::io::{IsTerminal, Write};

/// Whether an environment variable is set to anything but nothing.
fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// Whether standard output may carry colour: `NO_COLOR` says no, `CLICOLOR_FORCE` (but 0) says yes, and otherwise it must be a
/// terminal that is not dumb.
pub fn stdout_colour() -> bool {
    if is_set("NO_COLOR") {
        return false;
    }
    if is_set("CLICOLOR_FORCE") && std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
        return true;
    }
    std::io::stdout().is_terminal() && !dumb()
}

fn dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|value| value == "dumb")
}

/// Whether a live progress bar may be drawn: both streams are terminals that can move the cursor, and nobody's log (`CI`).
pub fn interactive() -> bool {
    let in_ci = is_set("CI") && std::env::var_os("CI").is_some_and(|value| value != "false" && value != "0");
    std::io::stderr().is_terminal() && std::io::stdout().is_terminal() && !dumb() && !in_ci
}

/// Whether the locale's encoding is UTF-8, so that block characters can be shown; where it says nothing, they can.
pub fn unicode() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(std::env::var_os).find(|value| !value.is_empty());
    locale.is_none_or(|locale| {
        let locale = locale.to_string_lossy().to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// Width of standard output in columns: the terminal's, or 100 where it is none.
pub fn stdout_width() -> usize {
    let terminal = console::Term::stdout();
    terminal.size_checked().map_or(100, |(_, columns)| usize::from(columns))
}

/// Text of a model or a data file, safe for a terminal line by line.
pub fn clean(text: &str) -> String {
    text.lines().map(crate::guard::escape::terminal).collect::<Vec<_>>().join("\n")
}

/// Writes one block of text to standard output.
pub fn print(text: &str) -> Result<(), anyhow::Error> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()?;
    Ok(())
}

/// Writes a value as indented JSON to standard output.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), anyhow::Error> {
    print(&serde_json::to_string_pretty(value)?)
}

/// Sends log messages to standard error: warnings by default, our own details with `-v`, everything with `-vv`.
pub fn start_logging(verbose: u8) {
    let default = match verbose {
        0 => "warn,ort=error",
        1 => "info,llava_gauge=debug,ort=warn",
        _ => "debug,llava_gauge=trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("LLAVA_GAUGE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    // Fails only if a logger is installed already, as a test harness may do.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).try_init();
}
