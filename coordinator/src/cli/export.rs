//! `lockstep export`: a trained model as one file that any PyTorch program loads.

use std::path::PathBuf;

use clap::Args;

use super::compute::WeightsArgs;
use super::home::HomeArgs;
use super::stdout::print;
use super::{CliError, code};
use crate::export::{ExportError, Exported, Format, export};
use crate::trained::TrainedModel;

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// A run's name, or a file of weights (.safetensors, .pth, .pt)
    #[arg(value_name = "RUN|FILE")]
    model: String,
    #[command(flatten)]
    weights: WeightsArgs,
    /// The form of the file
    #[arg(long, value_enum, default_value = "safetensors")]
    format: Format,
    /// The file to write; default: RUN-best.safetensors, or FILE.safetensors, and the like, here
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Replace a file that exists
    #[arg(long)]
    force: bool,
    /// For programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    home: HomeArgs,
}

pub(super) fn run(args: &ExportArgs) -> Result<u8, CliError> {
    let trained = args.weights.find(&args.model, &args.home.open()?)?;
    let path = args.out.clone().unwrap_or_else(|| default_path(&trained, args.format));
    let exported = export(&trained, args.format, &path, args.force)?;
    let text = if args.json { json(&trained, &exported, args.format) } else { text(&trained, &exported) };
    print(&text)?;
    Ok(0)
}

/// `RUN-best.safetensors`, `RUN-last-ema.pth`; of a file its own name with another extension.
fn default_path(trained: &TrainedModel, format: Format) -> PathBuf {
    let extension = format.extension();
    match (&trained.run, &trained.origin.checkpoint) {
        (Some(_), Some(checkpoint)) => {
            let ema = if trained.origin.ema { "-ema" } else { "" };
            PathBuf::from(format!("{}-{checkpoint}{ema}.{extension}", trained.name))
        }
        _ => PathBuf::from(format!("{}.{extension}", trained.file_stem())),
    }
}

fn json(trained: &TrainedModel, exported: &Exported, format: Format) -> String {
    let report = serde_json::json!({
        "path": exported.path,
        "format": format.extension(),
        "size_bytes": exported.size_bytes,
        "sha256": exported.sha256,
        "tensors": exported.tensors,
        "model": trained.model,
        "classes": trained.classes,
        "image_size": trained.image_size,
        "metrics": trained.metrics,
        "source": trained.origin,
        "notes": trained.notes,
    });
    format!("{report:#}\n")
}

fn text(trained: &TrainedModel, exported: &Exported) -> String {
    let Exported { path, size_bytes, sha256, tensors } = exported;
    format!(
        "wrote   {}\nmodel   {} with {} classes, {tensors} tensors\nsize    {size_bytes} bytes\nsha256  {sha256}\n",
        path.display(),
        trained.model,
        trained.classes.len(),
    )
}

impl From<ExportError> for CliError {
    fn from(error: ExportError) -> Self {
        let message = error.to_string();
        match error {
            ExportError::Exists { .. } => Self::new(code::USAGE, message)
                .hint("choose another name with --out PATH, or replace it with --force"),
            ExportError::Io { .. } => {
                Self::new(code::FAILED, message).hint("choose another place with --out PATH")
            }
            ExportError::Encode { .. } => Self::new(code::FAILED, message),
            ExportError::Weights(error) => error.into(),
        }
    }
}
