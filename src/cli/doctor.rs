//! `doctor`: what this machine offers.

use clap::Args;

use super::exit::Exit;
use super::{Globals, VerbResult, terminal};
use crate::engine::doctor;

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb. Finds or fetches ONNX Runtime like every other verb; where that fails the report says why and the exit
/// code is 92.
pub fn run(arguments: DoctorArguments, globals: &Globals) -> VerbResult {
    let report = doctor(globals.ort_library.as_deref());
    if arguments.json {
        terminal::print_json(&report)?;
    } else {
        terminal::print(&report.to_string())?;
    }
    Ok(if report.usable() { Exit::Success } else { Exit::Environment })
}
