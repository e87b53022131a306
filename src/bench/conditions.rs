//! The state of the machine during a measurement, as far as Linux tells it: who else used the processor, clocks, energy.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

/// What was seen. A field is none where this system does not tell it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Conditions {
    /// Seconds of the whole measurement.
    pub seconds: f64,
    /// Logical processors.
    pub processors: usize,
    /// Load average of the last minute before it began.
    pub load_average: Option<f64>,
    /// Share of all processors' time that other processes used.
    pub others_share: Option<f64>,
    /// Share of all processors' time that the host of this virtual machine gave to others.
    pub steal_share: Option<f64>,
    /// Governor of the first processor's clock.
    pub governor: Option<String>,
    /// Clock of the first processor in MHz at the beginning and at the end.
    pub clock_mhz: Option<[f64; 2]>,
    /// Joules that the processor package used, whatever for (RAPL).
    pub energy_joules: Option<f64>,
}

/// Looks at the machine when a measurement begins.
pub struct ConditionsWatch {
    started: Instant,
    load_average: Option<f64>,
    ticks: Option<Ticks>,
    clock_mhz: Option<f64>,
    energy: Vec<(PathBuf, u64)>,
}

/// Clock ticks since the machine started: of all processors together, and of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    all: u64,
    busy: u64,
    steal: u64,
    own: u64,
}

/// Small files of the kernel.
const LIMIT_BYTES: u64 = 1 << 20;

fn read(path: impl AsRef<Path>) -> Option<String> {
    crate::guard::files::read_text_capped(path.as_ref(), LIMIT_BYTES).ok()
}

fn read_number(path: impl AsRef<Path>) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

impl Ticks {
    fn now() -> Option<Self> {
        Self::parse(&read("/proc/stat")?, &read("/proc/self/stat")?)
    }

    /// From `/proc/stat` and `/proc/self/stat` (proc_stat(5), proc_pid_stat(5)).
    fn parse(machine: &str, process: &str) -> Option<Self> {
        let line = machine.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let fields: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        // user nice system idle iowait irq softirq steal; guests are counted in user already.
        let &[user, nice, system, idle, iowait, irq, softirq, steal, ..] = fields.as_slice() else { return None };
        let busy = user + nice + system + irq + softirq;
        // The name of the process stands in parentheses and may hold anything.
        let fields: Vec<&str> = process.rsplit_once(')')?.1.split_whitespace().collect();
        let of = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self { all: busy + idle + iowait + steal, busy, steal, own: of(11)? + of(12)? })
    }
}

fn clock_mhz() -> Option<f64> {
    if let Some(kilohertz) = read_number("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq") {
        return Some(kilohertz as f64 / 1e3);
    }
    let text = read("/proc/cpuinfo")?;
    text.lines().find(|line| line.starts_with("cpu MHz"))?.split_once(':')?.1.trim().parse().ok()
}

/// Counters of whole processor packages in microjoules; their parts are inside them.
fn energy() -> Vec<(PathBuf, u64)> {
    let Ok(folders) = std::fs::read_dir("/sys/class/powercap") else { return Vec::new() };
    let packages = folders.flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with("intel-rapl:") && name.matches(':').count() == 1
    });
    packages.filter_map(|path| Some((path.clone(), read_number(path.join("energy_uj"))?))).collect()
}

/// Resident memory of this process now, and its highest, in bytes.
pub fn memory_bytes() -> Option<[u64; 2]> {
    let status = read("/proc/self/status")?;
    let of = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
    };
    Some([of("VmRSS:")?, of("VmHWM:")?])
}

impl ConditionsWatch {
    /// Begins.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            load_average: read("/proc/loadavg").and_then(|text| text.split_whitespace().next()?.parse().ok()),
            ticks: Ticks::now(),
            clock_mhz: clock_mhz(),
            energy: energy(),
        }
    }

    /// Ends.
    pub fn stop(self) -> Conditions {
        let shares = self.ticks.zip(Ticks::now()).and_then(|(before, now)| {
            let all = now.all.checked_sub(before.all).filter(|all| *all > 0)? as f64;
            let others = now.busy.saturating_sub(before.busy).saturating_sub(now.own.saturating_sub(before.own));
            Some([others as f64 / all, now.steal.saturating_sub(before.steal) as f64 / all])
        });
        let joules: Vec<f64> = self
            .energy
            .iter()
            .filter_map(|(path, before)| {
                let now = read_number(path.join("energy_uj"))?;
                // The counter begins again at its range.
                let range = read_number(path.join("max_energy_range_uj")).unwrap_or(0);
                let used = if now >= *before { now - before } else { now.saturating_add(range).saturating_sub(*before) };
                Some(used as f64 / 1e6)
            })
            .collect();
        Conditions {
            seconds: self.started.elapsed().as_secs_f64(),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            load_average: self.load_average,
            others_share: shares.map(|[others, _]| others),
            steal_share: shares.map(|[_, steal]| steal),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").map(|text| text.trim().to_owned()),
            clock_mhz: self.clock_mhz.zip(clock_mhz()).map(|(before, after)| [before, after]),
            energy_joules: (!joules.is_empty()).then(|| joules.iter().sum()),
        }
    }
}

/// Load average before the start, in shares of the processors, above which a machine counts as busy.
const BUSY_LOAD: f64 = 0.5;
/// Share of the processors' time that others may use.
const BUSY_SHARE: f64 = 0.05;
/// Share that the host may take.
const STEAL_SHARE: f64 = 0.01;

impl Conditions {
    /// What makes times doubtful.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(load) = self.load_average.filter(|load| *load > BUSY_LOAD * self.processors as f64) {
            warnings.push(format!("the load average was {load:.1} on {} processors before the measurement", self.processors));
        }
        if let Some(share) = self.others_share.filter(|share| *share > BUSY_SHARE) {
            warnings.push(format!("other processes used {:.0} % of the processors meanwhile", 100.0 * share));
        }
        if let Some(share) = self.steal_share.filter(|share| *share > STEAL_SHARE) {
            warnings.push(format!("the host took {:.1} % of the processors away meanwhile", 100.0 * share));
        }
        warnings
    }

    /// Clocks and energy in one line.
    pub fn facts(&self) -> String {
        let unknown = || "not readable here".to_owned();
        let clock = self.clock_mhz.map_or_else(unknown, |[before, after]| format!("{before:.0} to {after:.0} MHz"));
        let governor = self.governor.clone().unwrap_or_else(unknown);
        let energy = self.energy_joules.map_or_else(unknown, |joules| format!("{joules:.0} J in {:.0} s", self.seconds));
        format!("clock {clock}, governor {governor}, energy {energy}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_read_from_their_places() {
        let machine = "cpu  100 5 50 800 20 3 2 20 7 0\ncpu0 1 1 1 1\n";
        let process = "42 (a) b (c) R 1 1 1 0 -1 0 0 0 0 0 31 9 0 0 20 0 4 0 100 0 0";
        assert_eq!(Ticks::parse(machine, process), Some(Ticks { all: 1000, busy: 160, steal: 20, own: 40 }));
        assert_eq!(Ticks::parse("cpu 1 2 3\n", process), None);
        assert_eq!(Ticks::parse(machine, "42 (a"), None);
    }

    #[test]
    fn a_busy_machine_is_warned_of() {
        let quiet = Conditions { processors: 2, load_average: Some(0.9), others_share: Some(0.04), ..Conditions::default() };
        assert!(quiet.warnings().is_empty());
        let busy = Conditions {
            processors: 2,
            load_average: Some(1.1),
            others_share: Some(0.06),
            steal_share: Some(0.02),
            ..Conditions::default()
        };
        assert_eq!(busy.warnings().len(), 3);
        assert_eq!(quiet.facts(), "clock not readable here, governor not readable here, energy not readable here");
    }
}
