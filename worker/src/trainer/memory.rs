//! How much memory this process has needed at its peak.

use std::fs;

/// The peak resident set; 0 where the system does not tell.
pub(super) fn peak_bytes() -> u64 {
    fs::read_to_string("/proc/self/status").ok().and_then(|status| parse(&status)).unwrap_or(0)
}

fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_from_the_status_file() {
        assert_eq!(parse("VmPeak:\t  9000 kB\nVmHWM:\t  1234 kB\nVmRSS:\t 1000 kB\n"), Some(1234 * 1024));
        assert_eq!(parse("Name:\tworker\n"), None);
    }
}
