//! `lockstep data fetch | show`: have a data set ready, and see it as training will see it.

mod show;

use clap::{Args, Subcommand};
use serde_json::json;

use super::home::HomeArgs;
use super::sources::SourceArgs;
use super::stdout::print;
use super::{CliError, inputs};
use crate::data::ResolvedData;
use crate::model::grouped;
use crate::recipe::Recipe;

#[derive(Debug, Args)]
pub(super) struct DataArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Fetch, check and store a recipe's data set, and tell what it holds
    Fetch(FetchArgs),
    /// Draw samples with their names, before and after augmentation
    Show(show::ShowArgs),
}

#[derive(Debug, Args)]
struct FetchArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    home: HomeArgs,
    /// For programs
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: DataArgs) -> Result<u8, CliError> {
    match args.verb {
        Verb::Fetch(args) => fetch(args),
        Verb::Show(args) => show::run(args),
    }
}

/// The recipe whose data set is meant. What it warns of is of no weight for its data alone, and neither are shards.
fn recipe(source: SourceArgs) -> Result<Recipe, CliError> {
    Ok(Recipe::load(&source.sources(1))?.recipe)
}

fn fetch(args: FetchArgs) -> Result<u8, CliError> {
    let recipe = recipe(args.source)?;
    let data = inputs::resolve_data(&recipe, &args.home.open()?)?;
    let text = if args.json { format!("{:#}\n", json(&data)) } else { text(&data) };
    print(&text)?;
    Ok(0)
}

fn json(data: &ResolvedData) -> serde_json::Value {
    json!({
        "name": data.name,
        "train": data.train,
        "test": data.test,
        "image_size": data.image_size,
        "classes": data.classes,
        "digest": data.digest,
        "file": data.file,
    })
}

fn text(data: &ResolvedData) -> String {
    let names = data.classes.iter().take(20).cloned().collect::<Vec<_>>().join(", ");
    let more = if data.classes.len() > 20 { ", …" } else { "" };
    format!(
        "data     {}\ntrain    {} samples\ntest     {} samples\npictures {side} x {side} pixels\n\
         classes  {}: {names}{more}\ndigest   {}\nfile     {}\n",
        data.name,
        grouped(data.train as u64),
        grouped(data.test as u64),
        data.classes.len(),
        data.digest,
        data.file.display(),
        side = data.image_size,
    )
}
