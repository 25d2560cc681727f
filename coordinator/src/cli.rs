//! The command line: verbs, their arguments, and the exit codes that scripts rely on.
//!
//! Results go to stdout, everything else to stderr. Every error says what happened and, where there is something
//! to do about it, what.

mod certs;
mod chaos;
mod cluster;
mod compute;
mod console;
mod data;
mod doctor;
mod error;
mod eval;
mod export;
mod home;
mod inputs;
mod logging;
mod predict;
mod prune;
mod recipe;
mod remote;
mod resume;
mod serve;
mod sources;
mod status;
mod stdout;
mod summary;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use error::{CliError, code};

/// Exact, elastic, distributed fine-tuning of image classifiers.
#[derive(Debug, Parser)]
#[command(name = "lockstep", version, propagate_version = true, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "Exit codes: 0 done · 1 the run failed · 2 wrong usage or recipe · 3 data, weights or \
checkpoints missing or damaged · 4 cluster trouble · 130 / 143 stopped by SIGINT / SIGTERM, after a checkpoint";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Train a recipe on this machine: a coordinator and N workers
    Train(train::TrainArgs),
    /// Go on with a run that was interrupted, or extend one that is done
    Resume(resume::ResumeArgs),
    /// Stand as a coordinator: a queue of runs, a pool of workers that join
    Serve(serve::ServeArgs),
    /// Delete old runs that are over, and what is cached for nobody
    Prune(prune::PruneArgs),
    /// Tell how a run is going, or went: members, changes of membership and what each cost
    Status(status::StatusArgs),
    /// Put a run into a coordinator's queue, and watch it
    Submit(remote::SubmitArgs),
    /// List a coordinator's runs
    Ps(remote::PsArgs),
    /// Follow a coordinator's run until it ends
    Watch(remote::WatchArgs),
    /// Show what a run's coordinator and workers said
    Logs(remote::LogsArgs),
    /// Stop runs at their next step, with a checkpoint, or take them from the queue
    Stop(remote::StopArgs),
    /// List the workers that have joined a coordinator
    Workers(remote::WorkersArgs),
    /// Have workers leave a coordinator, at the next step of their run
    Drain(remote::DrainArgs),
    /// Copy a run's results and its best model, or all of it, from a coordinator
    Fetch(remote::FetchArgs),
    /// Train a recipe twice, undisturbed and under real faults, and compare the weights
    Chaos(chaos::ChaosArgs),
    /// Tell how good a model is, class by class, and where it errs
    Eval(eval::EvalArgs),
    /// Name what is in pictures
    Predict(predict::PredictArgs),
    /// Write a trained model into one file that any PyTorch program loads
    Export(export::ExportArgs),
    /// Fetch a data set, and see what it looks like
    Data(data::DataArgs),
    /// Write, show and check recipes
    Recipe(recipe::RecipeArgs),
    /// Print a network's layers, output shapes and parameters, and how many would be trained
    Summary(summary::SummaryArgs),
    /// Make certificates and tokens for a coordinator that others reach
    Certs(certs::CertsArgs),
    /// Tell whether this machine is ready, in a form to paste into a report
    Doctor(doctor::DoctorArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // clap prints usage errors itself and leaves with 2.
    let arguments = Arguments::parse();
    let result = match arguments.verb {
        Verb::Train(args) => train::run(args),
        Verb::Resume(args) => resume::run(args),
        Verb::Serve(args) => serve::run(args),
        Verb::Prune(args) => prune::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Submit(args) => remote::submit(args),
        Verb::Ps(args) => remote::ps(&args),
        Verb::Watch(args) => remote::watch(&args),
        Verb::Logs(args) => remote::logs(&args),
        Verb::Stop(args) => remote::stop(&args),
        Verb::Workers(args) => remote::workers(&args),
        Verb::Drain(args) => remote::drain(&args),
        Verb::Fetch(args) => remote::fetch(&args),
        Verb::Chaos(args) => chaos::run(args),
        Verb::Eval(args) => eval::run(&args),
        Verb::Predict(args) => predict::run(&args),
        Verb::Export(args) => export::run(&args),
        Verb::Data(args) => data::run(args),
        Verb::Recipe(args) => recipe::run(args).map(|()| 0),
        Verb::Summary(args) => summary::run(args).map(|()| 0),
        Verb::Certs(args) => certs::run(args),
        Verb::Doctor(args) => doctor::run(&args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.code)
        }
    }
}
