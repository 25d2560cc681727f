//! A worker that cannot do its work: told with its own last words.

use std::fs;

use crate::home::{Home, WORKER, write_script};
use crate::process::Running;
use crate::recipes::HEAD;

#[test]
fn a_worker_binary_that_is_missing_or_no_program_is_told_of() {
    let home = Home::new();
    let binary = home.beside("worker");
    let train =
        || Running::start(home.train(1, HEAD.settings).env("LOCKSTEP_WORKER", &binary)).wait().expect(4);
    train().says(&["there is no worker binary at", "worker", "hint: ", "LOCKSTEP_WORKER"]);
    fs::write(&binary, "not a program").unwrap();
    train().says(&["the worker binary", "cannot start", "hint: "]);
    assert!(home.runs().is_empty());
}

#[test]
fn a_worker_that_cannot_start_is_told_with_its_last_words() {
    let home = Home::new();
    let binary = home.beside("worker");
    write_script(&binary, "echo 'libtorch_cpu.so: cannot open shared object file' >&2; exit 127");
    let ended = Running::start(home.train(1, HEAD.settings).env("LOCKSTEP_WORKER", &binary)).wait().expect(4);
    ended.says(&["cannot start: exit code 127", "libtorch_cpu.so: cannot open shared object file", "hint: "]);
    assert!(home.runs().is_empty());
}

#[test]
fn a_worker_that_ends_before_it_joins_fails_the_run_with_its_last_words() {
    let home = Home::new();
    let binary = home.beside("worker");
    let body =
        format!("[ \"$1\" = join ] || exec '{WORKER}' \"$@\"\necho 'the device is on fire' >&2; exit 9");
    write_script(&binary, &body);
    let ended = Running::start(home.train(1, HEAD.settings).env("LOCKSTEP_WORKER", &binary)).wait().expect(4);
    ended.says(&["exit code 9", "started again 3 times", "  | the device is on fire"]);
    assert_eq!(home.run().status()["status"], "failed");
    assert!(home.run().text("logs/worker-0.log").contains("on fire"));
    // With a worker that works, the same run goes through.
    home.finish(&[]);
    assert_eq!(home.run().outcome(), HEAD.undisturbed().outcome);
}
