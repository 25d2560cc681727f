//! Lockstep's coordinator and command line.
//!
//! Reading order: `driver` owns a run and carries out what `lockstep-core` decides; `journal`, `store` and
//! `run_folder` keep it; `grpc` speaks to workers and `convert` is where the wire's types end; `local` and `launch`
//! run everything on one machine, and start again what dies. `credentials` says who may do what, and `client` asks a coordinator elsewhere. `recipe` reads what a person wrote, `model` knows the
//! networks' names and shapes, and `freezing` says by them what is trained; `data` and `weights` fetch what a run
//! needs, over `download`. `http` tells probes and Prometheus how it goes, and `prune` forgets what is over. `trained` finds what came of a run, and `export` hands it on; `infer` has a worker use a
//! trained model, `report` judges what it says, and `plot` draws. `chaos` disturbs a run on purpose. `cli` is what a
//! person types. Deliberately absent: libtorch. Gradients never pass through here.

pub mod client;
pub mod cluster;
pub mod convert;
pub mod credentials;
pub mod driver;
pub mod grpc;
pub mod home;
pub mod http;
pub mod journal;
pub mod launch;
pub mod local;
pub mod mirror;
pub mod prepare;
pub mod prune;
pub mod run_folder;
pub mod services;
pub mod store;

pub mod data;
pub mod download;
pub mod freezing;
pub mod model;
pub mod recipe;
pub mod weights;

pub mod export;
pub mod infer;
pub mod plot;
pub mod report;
pub mod trained;

pub mod chaos;
pub mod cli;

#[cfg(any(test, fuzzing))]
pub mod fuzz;

mod durable;
mod nearest;

pub use cli::main;
