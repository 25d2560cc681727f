//! `lockstep eval`: how good a model is, class by class, and where it errs.

mod files;
mod samples;
mod table;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::compute::{self, DeviceArgs, WeightsArgs};
use super::home::HomeArgs;
use super::stdout::print;
use super::{CliError, code, resume};
use crate::infer::Logits;
use crate::report::{self, Report};
use crate::trained::TrainedModel;

use samples::EvalSamples;

#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// A run's name, or a file of weights (.safetensors, .pth, .pt); default: the run worked on last
    #[arg(value_name = "RUN|FILE")]
    model: Option<String>,
    #[command(flatten)]
    weights: WeightsArgs,
    /// Which samples
    #[arg(long, value_enum, default_value = "test")]
    split: SplitChoice,
    /// A recipe whose [data] says what to evaluate on; default: the model's own
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Evaluate on other data, e.g. `--set data.name=folder --set data.path=pictures`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Where to write the files; default: the run's folder `eval`, or FILE-eval here
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// For programs: what metrics.json holds
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    home: HomeArgs,
}

/// Part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SplitChoice {
    Test,
    Val,
    Train,
}

impl SplitChoice {
    fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Val => "val",
            Self::Train => "train",
        }
    }
}

pub(super) fn run(args: &EvalArgs) -> Result<u8, CliError> {
    samples::check_keys(&args.sets)?;
    let home = args.home.open()?;
    let name = match &args.model {
        Some(name) => name.clone(),
        None => resume::newest(&home.journal()?, &home)?,
    };
    let mut model = args.weights.find(&name, &home)?;
    let worker = args.device.open()?;
    let out = args.out.clone().unwrap_or_else(|| default_folder(&model));
    files::check_folder(&out)?;
    check_classes(&model)?;
    let samples = EvalSamples::find(&mut model, args, &home)?;

    let network = worker.network(&model, samples.block);
    let what = format!("evaluating {} pictures on {}", samples.rows.len(), worker.device);
    let logits = compute::busy(what, || worker.calls.infer(&network, &samples.job()))?;
    let loss_sum = loss_sum(&logits, &samples, model.classes.len());
    let report = Report::new(&samples.rows, &samples.labels, &logits.values, loss_sum, &model.classes);
    if report.not_finite() > 0 {
        eprintln!(
            "warning: the logits of {} samples are no numbers: the weights are broken",
            report.not_finite()
        );
    }
    let metrics = metrics(&model, &samples, &report, &network.device);
    worker.calls.check_stopped()?;
    files::write(&out, &metrics, &report, &model, &samples)?;
    if args.json {
        print(&files::json_text(&metrics, &report.confusion))?;
    } else {
        print(&table::text(&headline(&model, &samples), &report))?;
    }
    eprintln!("metrics, tables and pictures are in {}", out.display());
    Ok(0)
}

/// A matrix of more classes would not fit into memory, nor its table into anything that reads tables.
fn check_classes(model: &TrainedModel) -> Result<(), CliError> {
    const CLASSES_MAX: usize = 10_000;
    match model.classes.len() {
        ..=CLASSES_MAX => Ok(()),
        classes => Err(CliError::new(
            code::USAGE,
            format!("the model tells {classes} classes apart, and at most {CLASSES_MAX} are compared with one another"),
        )
        .hint("`lockstep predict` takes models of any number of classes")),
    }
}

/// A run's own folder; beside the reader, named by the file, for a file.
fn default_folder(model: &TrainedModel) -> PathBuf {
    match &model.run {
        Some(run) => run.join("eval"),
        None => PathBuf::from(format!("{}-eval", model.file_stem())),
    }
}

/// The worker's own losses, to the bit those of the run; where the classes have other numbers than in the data, it knows
/// no labels, and the losses are told from the logits.
fn loss_sum(logits: &Logits, samples: &EvalSamples, classes: usize) -> f64 {
    logits.loss_sum(samples.block).unwrap_or_else(|| {
        let pairs = logits.values.chunks_exact(classes).zip(&samples.labels);
        pairs.map(|(logits, label)| report::cross_entropy(logits, *label)).sum()
    })
}

/// "run x, best weights of step 12, on 100 samples of shapes/test".
fn headline(model: &TrainedModel, samples: &EvalSamples) -> String {
    let origin = &model.origin;
    let mut line = match &model.run {
        Some(_) => format!("run {}", model.name),
        None => model.name.clone(),
    };
    if let Some(checkpoint) = &origin.checkpoint {
        let average = if origin.ema { ", running average" } else { "" };
        line += &format!(" ({checkpoint}, step {}{average})", origin.step.unwrap_or_default());
    }
    format!(
        "{line}: {} on {} {} samples of {}",
        model.model,
        samples.rows.len(),
        samples.split.as_str(),
        samples.data.name
    )
}

/// What `metrics.json` holds, but for the confusion matrix, which is large. Accuracies and ratios are in 0 to 1; what is
/// no number is null.
fn metrics(model: &TrainedModel, samples: &EvalSamples, report: &Report, device: &str) -> Value {
    json!({
        "model": model.name,
        "network": model.model,
        "source": model.origin,
        "data": {
            "name": samples.data.name,
            "digest": samples.data.digest,
            "split": samples.split.as_str(),
            "classes": samples.data.classes,
        },
        "image_size": model.image_size,
        "device": device,
        "samples": report.samples,
        "loss": report.loss,
        "correct": report.correct,
        "acc_top1": report.acc_top1(),
        "correct_top5": report.correct_top5,
        "acc_top5": report.acc_top5(),
        "macro": report.macro_average,
        "weighted": report.weighted_average,
        "classes": report.classes,
        "confusion": null,
        "not_finite": report.not_finite(),
    })
}

/// A model that tells other classes apart than the data has.
fn class_error(message: String) -> CliError {
    CliError::new(code::USAGE, message)
        .hint("evaluate on the data that the model was trained for, or on a folder with the same class names")
}
