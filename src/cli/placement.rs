//! `--minimum-placement`: how much of each graph must run on the provider that was asked for.

use clap::Args;

use crate::engine::PlacementOptions;

/// Options of every verb that loads a package.
#[derive(Clone, Copy, Debug, Args)]
pub struct PlacementArguments {
    /// Least share of the time of each graph's nodes that must be spent on the provider that was asked for, 0 to 1; of their number
    /// where their time is not measured. Nodes that only compute shapes may run on the CPU
    #[arg(
        long,
        global = true,
        value_name = "SHARE",
        default_value_t = PlacementOptions::default().minimum,
        value_parser = share,
        help_heading = "Global options"
    )]
    minimum_placement: f64,
}

impl PlacementArguments {
    /// As the engine takes it.
    pub fn resolve(self) -> PlacementOptions {
        PlacementOptions { minimum: self.minimum_placement, probe: false }
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a share from 0 to 1, such as 0.99".to_owned()),
    }
}
