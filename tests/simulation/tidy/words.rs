//! What code does not say: unfinished work, tests that do not run, `unsafe` and sleeps beyond the few that have a reason.

use crate::code::{CodePath, lines_of, paths, tokens};
use crate::tree::{assert_none, files, rust_files};

/// Files that may say `unsafe`; `worker/src/collective/nccl` stands for all that begins so.
const UNSAFE: [&str; 5] = [
    "worker/src/model/host_view.rs", // tch gives raw pointers to a tensor's numbers, and nothing safer
    "worker/src/device/cuda_library.rs", // loading a library runs its initialisers
    "worker/src/device/kernels.rs",  // libtorch's switches for exact kernels, which tch does not have
    "worker/src/collective/memory.rs", // memory that processes share is a raw mapping
    "worker/src/collective/nccl",    // NCCL is a C interface
];

/// Files that may sleep, and what for. All else waits for a thing to happen, with a deadline.
const SLEEPS: [(&str, &str); 13] = [
    ("coordinator/src/driver.rs", "wakes at the deadline that the core asked for"),
    ("coordinator/src/http/server.rs", "the pause before a listener that has failed is asked again"),
    ("coordinator/src/local.rs", "the grace that stopped workers have before they are killed"),
    ("coordinator/src/local/process.rs", "looks whether a process that is nobody's child here has ended"),
    ("coordinator/src/local/supervisor.rs", "the pause before a restart, and the grace before a kill"),
    ("coordinator/src/mirror.rs", "gathers changes before a look, and gives a store that has failed a pause"),
    (
        "tests/bench/elasticity/measures.rs",
        "polls the logs of processes, which cannot notify, until a deadline",
    ),
    ("tests/bench/elasticity/run.rs", "polls other processes and their files until a deadline"),
    ("tests/system/process.rs", "polls another process, which cannot notify, until a deadline"),
    (
        "worker/src/collective/nccl/patience.rs",
        "looks again for what a device cannot tell a thread that watches for a cancel too",
    ),
    ("worker/src/collective/tcp/dial.rs", "redials a peer that is not up yet"),
    ("worker/src/session/conversation.rs", "wakes when the next heartbeat is due, and when patience is over"),
    ("worker/src/session/presence.rs", "the growing pause between tries to reach the coordinator"),
];

#[test]
fn nothing_is_left_unfinished_or_ignored() {
    let sequences: [&[&str]; 4] =
        [&["todo", "!"], &["unimplemented", "!"], &["dbg", "!"], &["#", "[", "ignore"]];
    let mut breaches = Vec::new();
    for file in rust_files() {
        let tokens = tokens(&file.text);
        for sequence in sequences {
            let rule = format!("no `{}` here: finish it, or leave it out", sequence.concat());
            breaches.extend(lines_of(&tokens, sequence).into_iter().map(|line| file.breach(line, &*rule)));
        }
    }
    assert_none(breaches);
}

#[test]
fn no_note_asks_somebody_to_do_it_later() {
    // In two pieces, so that this file has no such note.
    let notes = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let is_note = |word: &str| notes.contains(&word);
    let mut breaches = Vec::new();
    for file in files() {
        for (index, line) in file.text.lines().enumerate() {
            if line.split(|c: char| c != '_' && !c.is_alphanumeric()).any(is_note) {
                breaches.push(file.breach(index + 1, "no notes for later in the tree: do it, or drop it"));
            }
        }
    }
    assert_none(breaches);
}

#[test]
fn unsafe_stays_where_it_has_a_reason() {
    let mut breaches = Vec::new();
    for file in rust_files().iter().filter(|file| !UNSAFE.iter().any(|listed| file.path.starts_with(listed)))
    {
        let lines = lines_of(&tokens(&file.text), &["unsafe"]);
        let rule = "`unsafe` only in the files that tests/simulation/tidy/words.rs lists with a reason";
        breaches.extend(lines.into_iter().map(|line| file.breach(line, rule)));
    }
    assert_none(breaches);
}

#[test]
fn sleeps_stay_where_they_have_a_reason() {
    let mut breaches = Vec::new();
    for file in rust_files() {
        let tokens = tokens(&file.text);
        let sleeps: Vec<usize> =
            paths(&tokens).iter().filter(|path| is_sleep(path)).map(|path| path.line).collect();
        match SLEEPS.iter().find(|(listed, _)| *listed == file.path) {
            Some((_, reason)) if sleeps.is_empty() => {
                breaches
                    .push(file.breach(1, format!("listed as sleeping ({reason}), but does not: unlist it")));
            }
            Some(_) => {}
            None => {
                let rule = "no sleeps: wait for the thing itself, with a deadline";
                breaches.extend(sleeps.into_iter().map(|line| file.breach(line, rule)));
            }
        }
    }
    assert_none(breaches);
}

/// `thread::sleep`, `time::sleep`, however imported, and their kin.
fn is_sleep(path: &CodePath<'_>) -> bool {
    let kin = ["sleep", "sleep_until", "sleep_ms"];
    matches!(path.segments[..], [.., "thread" | "time", last] if kin.contains(&last))
}
