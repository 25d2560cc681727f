//! How much memory this process has needed at its peak, and how much there is.

use std::fs;

/// The peak resident set; 0 where the system does not tell.
pub(super) fn peak_bytes() -> u64 {
    fs::read_to_string("/proc/self/status").ok().and_then(|status| parse(&status)).unwrap_or(0)
}

/// What may be taken before something else must give way, by the system's own estimate; within a container, what that
/// leaves. 0 where neither is told.
pub(super) fn available_bytes() -> u64 {
    let read = |path: &str| fs::read_to_string(path).ok();
    let system = read("/proc/meminfo").and_then(|text| field(&text, "MemAvailable:"));
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    // "max" is no number: no limit.
    let limit = number("/sys/fs/cgroup/memory.max");
    let used = number("/sys/fs/cgroup/memory.current").unwrap_or_default();
    let group = limit.map(|limit| limit.saturating_sub(used));
    system.into_iter().chain(group).min().unwrap_or_default()
}

fn parse(status: &str) -> Option<u64> {
    field(status, "VmHWM:")
}

/// Bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
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
