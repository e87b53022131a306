//! The most memory that this process held, as Linux counts it. Elsewhere nobody tells, and runs record none.

use std::io::Read;

/// Bytes of `/proc/self/status` that are read: the line wanted stands within the first thousand.
const STATUS_BYTES: u64 = 8_192;

/// Lets the highest memory mark fall to what is held now: `5` written to `/proc/self/clear_refs` (proc_pid_clear_refs(5)).
/// Called when a package is opened, so that each package of a suite has a mark of its own. Where it cannot be reset (not
/// Linux, or not allowed), the mark stays that of the whole process.
pub fn reset_peak_memory() {
    if cfg!(target_os = "linux") {
        // Not being allowed to is no reason to stop a run.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
    }
}

/// The highest memory mark in bytes: `VmHWM` of `/proc/self/status`, resident memory with mapped weights included.
pub fn peak_memory_bytes() -> Option<u64> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let mut status = String::new();
    std::fs::File::open("/proc/self/status").ok()?.take(STATUS_BYTES).read_to_string(&mut status).ok()?;
    parse(&status)
}

fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_read_from_its_line() {
        assert_eq!(parse("Name:\tx\nVmPeak:\t  9 kB\nVmHWM:\t  123456 kB\nVmRSS:\t 1 kB\n"), Some(123_456 * 1_024));
        assert_eq!(parse("VmHWM:\t18446744073709551615 kB\n"), None);
        assert_eq!(parse("Name:\tx\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_was_held_raises_the_mark() {
        let before = peak_memory_bytes().unwrap();
        let held = vec![1_u8; 64 << 20];
        // One byte of each page.
        assert!(held.iter().step_by(4_096).all(|byte| *byte == 1));
        assert!(peak_memory_bytes().unwrap() >= before.max(64 << 20));
    }
}
