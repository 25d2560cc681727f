//! How much memory a device has, for whoever decides which runs fit it.

use std::fs;
use std::path::{Path, PathBuf};

use super::{DeviceName, cuda_library};

/// Of the whole device; of the processor, what this machine has and the control groups around this process allow. 0 where
/// the system does not tell.
#[must_use]
pub fn memory_bytes(device: DeviceName) -> u64 {
    match device {
        DeviceName::Cpu => machine_bytes().into_iter().chain(group_limits()).min().unwrap_or_default(),
        DeviceName::Cuda(index) => cuda_library::total_memory_bytes(index).unwrap_or_default(),
    }
}

fn machine_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kib * 1024)
}

/// A container sees its own group as the root; a unit or a batch job sees where in the machine's tree it is.
fn group_limits() -> impl Iterator<Item = u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let files: Vec<PathBuf> = groups.lines().flat_map(limit_files).collect();
    // "max" is no number: no limit.
    files.into_iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok())
}

/// Where the limits of a group and all that it is in are told, going by a line of `/proc/PID/cgroup`.
fn limit_files(line: &str) -> Vec<PathBuf> {
    let mut fields = line.splitn(3, ':');
    let (Some(id), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
        return Vec::new();
    };
    let (root, file) = match (id, controllers) {
        ("0", "") => ("/sys/fs/cgroup", "memory.max"),
        (_, "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return Vec::new(),
    };
    let within = Path::new(path.trim_start_matches('/'));
    within.ancestors().map(|group| Path::new(root).join(group).join(file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory() {
        let bytes = memory_bytes(DeviceName::Cpu);
        assert!((1 << 20..=machine_bytes().unwrap()).contains(&bytes), "{bytes}");
    }

    #[test]
    fn limits_are_looked_for_from_the_own_group_up_in_both_kinds_of_tree() {
        let told = |line| limit_files(line).iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        assert_eq!(told("0::/"), ["/sys/fs/cgroup/memory.max"]);
        let unit = ["/sys/fs/cgroup/a.slice/b/memory.max", "/sys/fs/cgroup/a.slice/memory.max"];
        assert_eq!(told("0::/a.slice/b")[..2], unit);
        assert_eq!(told("4:memory:/x")[0], "/sys/fs/cgroup/memory/x/memory.limit_in_bytes");
        assert!(told("3:cpuset:/").is_empty() && told("").is_empty());
    }
}
