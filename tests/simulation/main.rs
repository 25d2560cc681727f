//! The core under virtual time: coordinators and their workers in one thread, over links that lose, double, reorder and
//! break, with seeded crashes, deaths, freezes, stops, newcomers and damage. Whatever happens, the results are those of
//! a run that nothing disturbed.
//!
//! Reading order: `case` and `replica` (what is trained), `oracle` (what must come out), `network`, `worker`, `disk`,
//! `coordinator`, `launcher` and `world` (how it comes about), `faults` and `planted` (what goes wrong), `checks` and
//! `lineage` (what must hold), `campaign` and `scenarios` (the seeds), `cost` (what ten thousand workers cost). `pool` stands by itself: many runs, and who gets which workers.

mod campaign;
mod case;
mod checks;
mod coordinator;
mod cost;
mod disk;
mod faults;
mod launcher;
mod lineage;
mod network;
mod oracle;
mod planted;
mod pool;
mod random;
mod replica;
mod scenarios;
mod worker;
mod world;
