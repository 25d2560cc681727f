//! Lockstep's coordinator and command line.
//!
//! Reading order: `driver` owns a run and carries out what `lockstep-core` decides; `journal`, `store` and
//! `run_folder` keep it; `grpc` speaks to workers and `convert` is where the wire's types end; `local` and `launch`
//! run everything on one machine; `recipe`, `data` and `weights` turn what a person wrote into what a run needs;
//! `trained` finds what came of it, and `export` hands it on; `infer` has a worker use a trained model, and `report`
//! judges what it says; `cli` is what a person types. Deliberately absent: libtorch. Gradients never pass through here.

pub mod convert;
pub mod driver;
pub mod grpc;
pub mod journal;
pub mod launch;
pub mod local;
pub mod run_folder;
pub mod store;

pub mod data;
pub mod download;
pub mod export;
pub mod infer;
pub mod freezing;
pub mod model;
pub mod plot;
pub mod recipe;
pub mod report;
pub mod trained;
pub mod weights;

pub mod cli;

mod durable;

pub use cli::main;
