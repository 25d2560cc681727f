//! The core under virtual time: a coordinator and its workers in one thread, with seeded delays, crashes, deaths, stops
//! and damage. Whatever happens, the results are those of a run that nothing disturbed.
//!
//! Reading order: `case` and `replica` (what is trained), `oracle` (what must come out), `network`, `worker`, `disk`,
//! `coordinator` and `world` (how it comes about), `faults` and `planted` (what goes wrong), `checks`, `scenarios`.

mod case;
mod checks;
mod coordinator;
mod disk;
mod faults;
mod network;
mod oracle;
mod planted;
mod random;
mod replica;
mod scenarios;
mod worker;
mod world;
