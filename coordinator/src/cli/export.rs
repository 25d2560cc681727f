//! `lockstep export`: a trained model as one file that any PyTorch program loads.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::home::HomeArgs;
use super::{CliError, code};
use crate::export::{ExportError, Exported, Format, export};
use crate::trained::{self, TrainedModel, Which};

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// A run's name, or a file of weights (.safetensors, .pth, .pt)
    #[arg(value_name = "RUN|FILE")]
    model: String,
    #[command(flatten)]
    home: HomeArgs,
    /// The run's best model (the default)
    #[arg(long, conflicts_with = "last")]
    best: bool,
    /// The run's last model
    #[arg(long)]
    last: bool,
    /// The running average of the weights, where the run kept one
    #[arg(long)]
    ema: bool,
    #[arg(long, value_enum, default_value = "safetensors")]
    format: Format,
    /// The file to write; default: RUN-best.safetensors and the like, in the current folder
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Replace a file that exists
    #[arg(long)]
    force: bool,
    /// For programs
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ExportArgs) -> Result<u8, CliError> {
    let which = if args.last { Which::Last } else { Which::Best };
    let home = args.home.open()?;
    let trained = trained::find(&home.path, &home.blobs, &args.model, which, args.ema)?;
    trained.notes.iter().for_each(|note| eprintln!("note: {note}"));
    let path = args.out.clone().unwrap_or_else(|| default_path(&trained, args, which));
    let exported = export(&trained, args.format, &path, args.force)?;
    print(&trained, &exported, args)
        .map_err(|error| CliError::new(code::FAILED, format!("writing: {error}")))?;
    Ok(0)
}

/// `RUN-best.safetensors`, `RUN-last-ema.pth`; of a file its own name with another extension.
fn default_path(trained: &TrainedModel, args: &ExportArgs, which: Which) -> PathBuf {
    let extension = args.format.extension();
    match &trained.run {
        Some(_) => {
            let ema = if args.ema { "-ema" } else { "" };
            PathBuf::from(format!("{}-{}{ema}.{extension}", trained.name, which.as_str()))
        }
        None => {
            let stem =
                Path::new(&trained.name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
            PathBuf::from(format!("{stem}.{extension}"))
        }
    }
}

fn print(trained: &TrainedModel, exported: &Exported, args: &ExportArgs) -> std::io::Result<()> {
    let Exported { path, size_bytes, sha256, tensors } = exported;
    let mut stdout = std::io::stdout().lock();
    if args.json {
        let report = serde_json::json!({
            "path": path,
            "format": args.format.extension(),
            "size_bytes": size_bytes,
            "sha256": sha256,
            "tensors": tensors,
            "model": trained.model,
            "classes": trained.classes,
            "image_size": trained.image_size,
            "metrics": trained.metrics,
            "source": trained.origin,
            "notes": trained.notes,
        });
        return writeln!(stdout, "{report:#}");
    }
    writeln!(stdout, "wrote   {}", path.display())?;
    writeln!(stdout, "model   {} with {} classes, {tensors} tensors", trained.model, trained.classes.len())?;
    writeln!(stdout, "size    {size_bytes} bytes")?;
    writeln!(stdout, "sha256  {sha256}")
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
