//! `lockstep data fetch | show`: have a data set ready, and see it as training will see it.

mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::home::{Home, HomeArgs};
use super::recipe::print;
use super::{CliError, inputs};
use crate::data::ResolvedData;
use crate::model::grouped;
use crate::recipe::{Loaded, Recipe, Sources};

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
    /// For programs
    #[arg(long)]
    json: bool,
}

/// Which data set.
#[derive(Debug, Args)]
struct SourceArgs {
    /// A recipe (TOML); without one, everything comes from --set and defaults
    recipe: Option<PathBuf>,
    /// Change a key of the recipe, e.g. `--set data.name=cifar10`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    #[command(flatten)]
    home: HomeArgs,
}

impl SourceArgs {
    fn recipe(&self) -> Result<Recipe, CliError> {
        let sources = Sources {
            file: self.recipe.clone(),
            sets: self.sets.clone(),
            env: Sources::process_env(),
            default_shards: 1,
        };
        // What a recipe warns of is of no weight for its data alone.
        let Loaded { recipe, .. } = Recipe::load(&sources)?;
        Ok(recipe)
    }

    fn open(&self) -> Result<Home, CliError> {
        self.home.open()
    }
}

pub(super) fn run(args: DataArgs) -> Result<u8, CliError> {
    match args.verb {
        Verb::Fetch(args) => fetch(&args),
        Verb::Show(args) => show::run(&args),
    }
}

fn fetch(args: &FetchArgs) -> Result<u8, CliError> {
    let recipe = args.source.recipe()?;
    let data = inputs::resolve_data(&recipe, &args.source.open()?)?;
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
