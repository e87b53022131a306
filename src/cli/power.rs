//! `power`: how many samples a benchmark needs.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;

use super::exit::{Exit, Failure};
use super::{VerbResult, run, terminal};
use crate::compare::{PowerSettings, plan_power};

/// Arguments of `power`.
#[derive(Debug, Args)]
pub struct PowerArguments {
    /// Run directories, or folders that contain them: two runs of a benchmark tell how many scores change and how alike the
    /// questions of an image are; one run tells the latter
    #[arg(long, required = true, num_args = 1.., value_name = "RUN")]
    from: Vec<PathBuf>,
    /// Drop to be found, in hundredths of the metric's full scale (percentage points for accuracies); repeat for several
    #[arg(long, value_name = "POINTS", default_values_t = [0.5, 1.0, 2.0, 5.0], value_parser = hundredths)]
    drop: Vec<f64>,
    /// Probability with which the drop is to be found
    #[arg(long, value_name = "SHARE", default_value_t = 0.8, value_parser = probability)]
    power: f64,
    /// Level of the two-sided test
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = probability)]
    alpha: f64,
    /// Per cent of samples whose score differs between two packages, assumed where only one run is given
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0, value_parser = hundredths)]
    discordance: f64,
    /// Name of the package to pair the others with [default: the first found]
    #[arg(long, value_name = "NAME")]
    base: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(arguments: PowerArguments) -> VerbResult {
    if arguments.power <= arguments.alpha {
        let error = anyhow!(
            "--power {} must be more than --alpha {}: that much is found where there is no drop",
            arguments.power,
            arguments.alpha
        );
        return Err(Failure::new(Exit::Setup, error));
    }
    let mut runs = run::open_runs(&arguments.from)?;
    run::base_first(&mut runs, arguments.base.as_deref())?;
    let settings = PowerSettings {
        alpha: arguments.alpha,
        power: arguments.power,
        drops: arguments.drop,
        discordance: arguments.discordance / 100.0,
    };
    let plan = plan_power(&runs, &settings)?;
    if arguments.json {
        terminal::print_json(&plan)?;
    } else {
        terminal::print(&crate::report::power::text(&plan, terminal::stdout_width()))?;
    }
    let planned = plan.benchmarks.iter().any(|benchmark| !benchmark.drops.is_empty());
    Ok(if planned { Exit::Success } else { Exit::IncompleteRun })
}

fn probability(text: &str) -> Result<f64, String> {
    number(text)
        .filter(|share| *share > 0.0 && *share < 1.0)
        .ok_or_else(|| "expected a share between 0 and 1, such as 0.8".to_owned())
}

fn hundredths(text: &str) -> Result<f64, String> {
    number(text)
        .filter(|points| *points > 0.0 && *points <= 100.0)
        .ok_or_else(|| "expected more than 0 and at most 100".to_owned())
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}
