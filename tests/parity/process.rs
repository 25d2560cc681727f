//! Other programs, run to their end or to a deadline.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Runs `command` with `input`, and returns what it wrote to stdout.
///
/// # Errors
/// What it wrote to stderr, when it fails or takes longer than `limit`.
pub(crate) fn run(command: &mut Command, input: &str, limit: Duration) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |what: &dyn std::fmt::Display| format!("{program}: {what}");
    let mut errors = tempfile::tempfile().map_err(|error| failed(&error))?;
    let stderr = errors.try_clone().map_err(|error| failed(&error))?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
    let mut child = command.spawn().map_err(|error| failed(&error))?;
    let mut stdin = child.stdin.take().expect("it was asked for");
    // One that ends without reading it tells why by itself.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let mut stdout = child.stdout.take().expect("it was asked for");
    let (send, received) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        let _ = stdout.read_to_string(&mut text);
        let _ = send.send(text);
    });
    let Ok(output) = received.recv_timeout(limit) else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(failed(&format!("took longer than {} s\n{}", limit.as_secs(), read(&mut errors))));
    };
    let status = child.wait().map_err(|error| failed(&error))?;
    if status.success() { Ok(output) } else { Err(failed(&format!("{status}\n{}", read(&mut errors)))) }
}

fn read(file: &mut File) -> String {
    use std::io::Seek;

    let mut text = String::new();
    let _ = file.rewind();
    let _ = file.read_to_string(&mut text);
    text
}
