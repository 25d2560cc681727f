//! Whose a connection over loopback is: the kernel's table names the socket at its other end, and a process's open
//! files name its sockets.

use std::collections::BTreeSet;
use std::fs;

/// The socket on 127.0.0.1 at `port` that is connected with `peer` there.
pub(super) fn inode(port: u16, peer: u16) -> Option<u64> {
    find(&fs::read_to_string("/proc/net/tcp").ok()?, port, peer)
}

/// All sockets of a process.
pub(super) fn sockets(pid: u32) -> BTreeSet<u64> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    let targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    targets.filter_map(|target| socket(target.to_str()?)).collect()
}

fn socket(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Columns of the table: number, local address, remote address, state, queues, timer, retransmits, user, timeout, inode.
fn find(table: &str, port: u16, peer: u16) -> Option<u64> {
    // The kernel prints the address as the number that its bytes in memory are.
    let loopback = u32::from_ne_bytes([127, 0, 0, 1]);
    let ends = [port, peer].map(|port| format!("{loopback:08X}:{port:04X}"));
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<&str>>());
    let row = rows.find(|row| row.get(1..3).is_some_and(|found| found == ends))?;
    row.get(9)?.parse().ok().filter(|inode| *inode != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_of_a_connection_is_found_by_both_its_ends() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 41 1 0 20 4 30 10 -1\n\
             1: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 42 1 0 20 4 30 10 -1\n";
        assert_eq!(find(table, 50000, 8080), Some(42));
        assert_eq!(find(table, 8080, 50000), Some(41));
        assert_eq!(find(table, 1, 2), None);
    }

    #[test]
    fn only_sockets_are_sockets() {
        assert_eq!(socket("socket:[77]"), Some(77));
        assert_eq!(socket("/dev/null"), None);
        assert_eq!(socket("anon_inode:[eventpoll]"), None);
    }
}
