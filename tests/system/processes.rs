//! What the system knows of processes, from `/proc`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// State and parent of a process; none when there is no such process.
pub(crate) fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it, in parentheses, may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// The processes that `parent` has started and that are still there.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| stat(*pid).is_some_and(|(state, of)| of == parent && state != 'Z');
    pids().filter(is_child).collect()
}

/// The processes that were started with this variable in their environment.
pub(crate) fn with_variable(name: &str, value: &Path) -> Vec<u32> {
    let wanted = [name.as_bytes(), b"=", value.as_os_str().as_encoded_bytes()].concat();
    let is_one = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted)
    };
    pids().filter(is_one).collect()
}

/// Whether `pair` of arguments stands on a process's command line.
pub(crate) fn has_arguments(pid: u32, pair: [&str; 2]) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    words.windows(2).any(|words| words == pair.map(str::as_bytes))
}

/// Where a process listens on this machine's loopback, once it does.
pub(crate) fn listening(pid: u32) -> Option<SocketAddr> {
    let sockets: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()?.into_os_string().into_string().ok())
        .collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    table.lines().skip(1).find_map(|line| {
        // sl, local address, remote address, state, …, inode as the tenth; numbers are hexadecimal, 0A is LISTEN.
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let port = u16::from_str_radix(local.split_once(':')?.1, 16).ok()?;
        let own = *state == "0A" && sockets.contains(&format!("socket:[{inode}]"));
        own.then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    })
}

fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}
