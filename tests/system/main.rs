//! The promises of the README, kept by the real binaries: processes, files and signals, without a GPU or a network.
//!
//! Every test has a home folder of its own. Waits are for a condition, with a deadline. What an undisturbed run of a
//! recipe leaves is computed once and shared, because most promises are of the kind "the same as if nothing had
//! happened".

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bad_input;
mod bad_worker;
mod chaos;
mod cluster;
mod elastic_change;
mod elastic_coordinator;
mod elastic_loss;
mod elastic_mixture;
mod elastic_network;
mod exact;
mod failures;
mod files;
mod folders;
mod home;
mod inspect;
mod prefix;
mod process;
mod processes;
mod proxy;
mod real_data;
mod recipes;
mod resume;
mod run_files;
mod select;
mod served;
mod signals;
mod stored;
mod tuned;
