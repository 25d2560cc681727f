//! What `eval`, `predict`, `export` and `data show` have in common: which weights, on which device, and how a worker is
//! asked.

use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{CliError, code};
use crate::home::Home;
use crate::infer::{Calls, InferError, Network};
use crate::launch::StopSignal;
use crate::local::WorkerBinary;
use crate::recipe::Precision;
use crate::trained::{self, TrainedModel, Which};

/// Which of a run's weights.
#[derive(Debug, Args)]
pub(super) struct WeightsArgs {
    /// The run's best weights (the default)
    #[arg(long, conflicts_with = "last")]
    best: bool,
    /// The run's last weights
    #[arg(long)]
    last: bool,
    /// The running average of the weights, where the run kept one
    #[arg(long)]
    ema: bool,
}

impl WeightsArgs {
    /// Finds the model of a run or a file, and tells what there is to know about it.
    pub(super) fn find(&self, what: &str, home: &Home) -> Result<TrainedModel, CliError> {
        let which = if self.last { Which::Last } else { Which::Best };
        let model = trained::find(&home.path, &home.blobs, what, which, self.ema)?;
        if model.run.is_none() && (self.best || self.last) {
            eprintln!(
                "note: {what} is a file, which holds one model: --best and --last choose among a run's"
            );
        }
        model.notes.iter().for_each(|note| eprintln!("note: {note}"));
        Ok(model)
    }
}

/// Where to compute.
#[derive(Debug, Args)]
pub(super) struct DeviceArgs {
    /// cpu or cuda:N; default: the first GPU, else cpu
    #[arg(long)]
    device: Option<String>,
    /// libtorch's threads; default: the recipe's, else 1. Another number gives other last bits
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
}

/// A worker that can be called.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) calls: Calls,
    pub(super) device: String,
    threads: Option<u32>,
}

impl DeviceArgs {
    /// Finds the worker's binary and checks the device.
    pub(super) fn open(&self) -> Result<Worker, CliError> {
        let binary = WorkerBinary::find()?;
        let device = match &self.device {
            None => binary.preferred_devices().swap_remove(0),
            Some(device) if binary.devices.contains(device) => device.clone(),
            Some(device) => {
                return Err(CliError::new(code::USAGE, format!("there is no device {device} here"))
                    .hint(format!("there is {}", binary.devices.join(", "))));
            }
        };
        Ok(Worker { calls: calls(&binary)?, device, threads: self.threads })
    }
}

/// Ready to call a worker, wherever it computes.
pub(super) fn calls(binary: &WorkerBinary) -> Result<Calls, CliError> {
    Calls::new(binary).map_err(|error| anyhow::Error::from(error).context("listening for signals").into())
}

impl Worker {
    /// `model` as it computes here, in blocks of `block` samples.
    pub(super) fn network(&self, model: &TrainedModel, block: u32) -> Network {
        let of_recipe = model.recipe.as_ref().map(|recipe| recipe.threads);
        Network {
            model: model.model.to_string(),
            classes: model.classes.len(),
            weights: model.weights.clone(),
            device: self.device.clone(),
            threads: self.threads.or(of_recipe).unwrap_or(1),
            precision: model.recipe.as_ref().map_or(Precision::Fp32, |recipe| recipe.precision),
            image_size: model.image_size,
            mean: model.mean,
            std: model.std,
            block,
        }
    }
}

/// Shows on a terminal that something is being done, as long as `work` takes.
pub(super) fn busy<T>(what: String, work: impl FnOnce() -> T) -> T {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(
        ProgressStyle::with_template("{spinner} {msg} {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
    bar.set_message(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    let result = work();
    bar.finish_and_clear();
    result
}

impl From<InferError> for CliError {
    fn from(error: InferError) -> Self {
        let message = error.to_string();
        match error {
            InferError::Stopped(StopSignal::Interrupt) => Self::new(code::INTERRUPTED, message),
            InferError::Stopped(StopSignal::Terminate) => Self::new(code::TERMINATED, message),
            // Its codes mean what ours mean.
            InferError::Refused { code, .. } => {
                Self::new(u8::try_from(code).unwrap_or(code::FAILED), message)
            }
            InferError::Job(_) => Self::new(code::USAGE, message).hint("paths have to be UTF-8"),
            InferError::Answer(_) => Self::new(code::FAILED, message)
                .hint("`lockstep doctor` tells whether the worker is of this version"),
            InferError::Ended { .. } | InferError::Io { .. } => Self::new(code::FAILED, message),
        }
    }
}
