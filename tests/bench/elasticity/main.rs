//! What elasticity costs, from outside: times of kills by this process's clock, times of steps by the workers' logs, and
//! beside them what the run's own receipts say.
//!
//! `kill` and `stop` take a worker away again and again and time the way to the next generation's first step; `away` takes the
//! coordinator away and looks for slower steps; `cost` runs undisturbed, in turns with an older build.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on fails")]

mod account;
mod figures;
mod measures;
mod run;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use serde_json::{Value, json};

use self::run::Binaries;

#[derive(Debug, Parser)]
struct Arguments {
    /// Folder of `lockstep` and `lockstep-worker`
    #[arg(long, default_value = "target/release")]
    binaries: PathBuf,
    /// The same of an older build, for `cost`
    #[arg(long)]
    base: Option<PathBuf>,
    /// Measure this alone
    #[arg(long)]
    only: Option<Measure>,
    /// How often each thing is done
    #[arg(long, default_value_t = 12)]
    trials: usize,
    /// Local workers
    #[arg(long, default_value_t = 2)]
    workers: u32,
    /// Where the figures go as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// A setting of the recipe, on top of the measurement's own
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measure {
    Kill,
    Stop,
    Away,
    Cost,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let binaries = Binaries::in_folder(&arguments.binaries);
    let base = arguments.base.as_deref().map(Binaries::in_folder);
    let all = [Measure::Kill, Measure::Stop, Measure::Away, Measure::Cost];
    let mut report = serde_json::Map::new();
    for measure in all.into_iter().filter(|measure| arguments.only.is_none_or(|only| only == *measure)) {
        let run = measures::Setting {
            binaries: &binaries,
            workers: arguments.workers,
            settings: &arguments.settings,
        };
        let (name, found) = match measure {
            Measure::Kill => ("kill", measures::loss(&run, "KILL", arguments.trials)),
            Measure::Stop => ("stop", measures::loss(&run, "STOP", arguments.trials.div_ceil(2))),
            Measure::Away => ("away", measures::away(&run)),
            Measure::Cost => match &base {
                Some(base) => ("cost", measures::cost(&run, base, arguments.trials)),
                None => continue,
            },
        };
        print(name, &found);
        report.insert(name.to_owned(), found);
    }
    if let Some(path) = arguments.json {
        fs::write(path, format!("{:#}\n", Value::Object(report))).unwrap();
    }
    ExitCode::SUCCESS
}

/// A row per figure.
fn print(name: &str, found: &Value) {
    println!("\n{name}");
    for (key, value) in found.as_object().unwrap() {
        match value {
            Value::Object(summary) => {
                let column = |column: &str| summary.get(column).cloned().unwrap_or(json!("-"));
                println!(
                    "  {key:<44} median {:>9}  least {:>9}  most {:>9}  of {}",
                    column("median"),
                    column("least"),
                    column("most"),
                    column("count"),
                );
            }
            other => println!("  {key:<44} {other}"),
        }
    }
}
