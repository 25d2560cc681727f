//! This process, by the system's account of it.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes in memory; none where the system does not tell.
pub(super) fn resident_bytes() -> Option<u64> {
    resident_bytes_in(&fs::read_to_string("/proc/self/status").ok()?)
}

fn resident_bytes_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Now, in seconds since 1970.
pub(super) fn seconds_since_epoch() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        let status = "Name:\tlockstep\nVmHWM:\t  999 kB\nVmRSS:\t  20480 kB\nThreads:\t3\n";
        assert_eq!(resident_bytes_in(status), Some(20 << 20));
        assert_eq!(resident_bytes_in("Name:\tlockstep\n"), None);
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
