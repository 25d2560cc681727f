//! `lockstep recipe init | show | check`: write a recipe, see all of it, find its mistakes before a run does.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::console::counted;
use super::stdout::print;
use super::{CliError, code};
use crate::recipe::{Loaded, Recipe, RecipeError, Sources, parameter_names};

/// Says every key with its default; a test holds it to the defaults of the code.
const TEMPLATE: &str = include_str!("template.toml");

#[derive(Debug, Args)]
pub(super) struct RecipeArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write a commented recipe with every default
    Init(InitArgs),
    /// Print the resolved recipe and where each value comes from
    Show(ShowArgs),
    /// Check a recipe and print a summary of it
    Check(CheckArgs),
}

#[derive(Debug, Args)]
struct InitArgs {
    /// Where to write it; an existing file is never overwritten [default: standard output]
    path: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The recipe (TOML)
    file: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    /// For programs: recipe, origins, warnings
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// The recipe (TOML)
    file: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
}

#[derive(Debug, Args)]
struct Overrides {
    /// Change a key of the recipe, e.g. `--set optimizer.lr=0.01`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// The number of workers that shards default to; `train` takes one per GPU, else 2
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    workers: u32,
}

impl Overrides {
    fn sources(self, file: Option<PathBuf>) -> Sources {
        Sources { file, sets: self.sets, env: Sources::process_env(), default_shards: self.workers }
    }
}

/// Runs one of the verbs; data goes to stdout, warnings to stderr.
///
/// # Errors
///
/// A wrong recipe, or a file that cannot be written.
pub(super) fn run(args: RecipeArgs) -> Result<(), CliError> {
    match args.verb {
        Verb::Init(InitArgs { path: Some(path) }) => {
            init(&path)?;
            eprintln!("wrote {}", path.display());
            Ok(())
        }
        Verb::Init(InitArgs { path: None }) => print(TEMPLATE),
        Verb::Show(ShowArgs { file, overrides, json }) => {
            let loaded = Recipe::load(&overrides.sources(file))?;
            if json {
                return print(&(json_text(&loaded) + "\n"));
            }
            warn(&loaded.warnings);
            print(&loaded.recipe.to_toml_with_origins(&loaded.origins))
        }
        Verb::Check(CheckArgs { file, overrides }) => {
            let label = file.display().to_string();
            let loaded = Recipe::load(&overrides.sources(Some(file)))?;
            warn(&loaded.warnings);
            print(&format!("ok: {label}: {}\n", summary(&loaded.recipe)))
        }
    }
}

/// A recipe in a line.
#[must_use]
pub(super) fn summary(recipe: &Recipe) -> String {
    let all = parameter_names(recipe.model.name).len();
    let trainable = match recipe.trainable_parameters().len() {
        count if count == all => "every parameter".to_owned(),
        count => format!("{count} of {all} parameter tensors"),
    };
    format!(
        "{} on {}, trains {trainable}, {}, batch {} in {}, best by {} on {}",
        recipe.model.name,
        recipe.data.name,
        counted(recipe.epochs, "epoch"),
        recipe.batch,
        counted(recipe.shards, "shard"),
        recipe.select.metric,
        recipe.select.split,
    )
}

/// `{"recipe": …, "origins": {key: place}, "warnings": […]}`.
fn json_text(loaded: &Loaded) -> String {
    let origins: serde_json::Map<String, serde_json::Value> =
        loaded.origins.iter().map(|(key, origin)| (key.clone(), origin.brief().into())).collect();
    let whole = serde_json::json!({
        "recipe": loaded.recipe,
        "origins": origins,
        "warnings": loaded.warnings,
    });
    format!("{whole:#}")
}

/// Writes the template to a new file.
fn init(path: &Path) -> Result<(), CliError> {
    let failed = |error: io::Error| {
        let taken = error.kind() == io::ErrorKind::AlreadyExists;
        CliError {
            message: if taken {
                format!("{} exists and is not overwritten", path.display())
            } else {
                format!("cannot write {}: {error}", path.display())
            },
            hint: taken.then(|| "name another file, or remove this one first".to_owned()),
            code: code::USAGE,
        }
    };
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    file.write_all(TEMPLATE.as_bytes()).map_err(failed)
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
}

impl From<RecipeError> for CliError {
    fn from(error: RecipeError) -> Self {
        Self { message: error.to_string(), hint: error.hint(), code: code::USAGE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        recipe: RecipeArgs,
    }

    fn loaded(text: &str) -> Loaded {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("my.toml");
        std::fs::write(&file, text).unwrap();
        Recipe::load(&Sources { file: Some(file), default_shards: 1, ..Sources::default() }).unwrap()
    }

    #[test]
    fn the_template_says_the_defaults() {
        assert_eq!(loaded(TEMPLATE).recipe, loaded("data.name = \"cifar10\"").recipe);
    }

    #[test]
    fn the_template_names_every_key() {
        let everything = loaded("data.name = \"cifar10\"").recipe.to_toml()
            + "path = \nshards = \ntrain = \ntest = \nfrozen = \ngroup = \nunfreeze_at = \n";
        for key in everything.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key) {
            assert!(
                TEMPLATE.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} = "))),
                "{key}"
            );
        }
    }

    #[test]
    fn the_recipes_that_ship_are_right() {
        for name in ["head", "full", "partial", "demo"] {
            let file = format!("{}/../deploy/recipes/{name}.toml", env!("CARGO_MANIFEST_DIR"));
            let sources = Sources { file: Some(file.into()), default_shards: 4, ..Sources::default() };
            if let Err(error) = Recipe::load(&sources) {
                panic!("{name}: {error}");
            }
        }
    }

    #[test]
    fn init_never_overwrites() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new.toml");
        init(&path).unwrap();
        std::fs::write(&path, "mine").unwrap();
        let error = init(&path).unwrap_err();
        assert_eq!(error.code, 2);
        assert!(error.message.ends_with("new.toml exists and is not overwritten"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        let error = init(&folder.path().join("no/such.toml")).unwrap_err();
        assert!(error.hint.is_none() && error.message.starts_with("cannot write"));
    }

    #[test]
    fn a_summary_is_one_line() {
        let recipe = loaded("epochs = 1\ndata.name = \"cifar10\"\ntrain.trainable = [\"fc.*\"]").recipe;
        assert_eq!(
            summary(&recipe),
            "resnet50 on cifar10, trains 2 of 161 parameter tensors, 1 epoch, batch 200 in 1 shard, \
             best by acc_top1 on val"
        );
    }

    #[test]
    fn json_has_recipe_origins_and_warnings() {
        let text = json_text(&loaded("data.name = \"cifar10\""));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["recipe"]["data"]["name"], "cifar10");
        assert_eq!(value["recipe"]["data"]["validation"], 0.1);
        assert_eq!(value["recipe"]["model"]["weights"], "none");
        assert_eq!(value["origins"]["data.name"], "file line 1");
        assert_eq!(value["origins"]["seed"], "default");
        assert_eq!(value["warnings"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn wrong_recipes_end_with_exit_code_2_and_a_hint() {
        let sources = Sources { sets: vec!["optimzer.lr=1".to_owned()], ..Sources::default() };
        let error = CliError::from(Recipe::load(&sources).unwrap_err());
        assert_eq!(error.code, 2);
        assert_eq!(error.hint.as_deref(), Some("did you mean `optimizer.lr`?"));
    }

    #[test]
    fn the_verbs_take_their_arguments() {
        for line in [
            "recipe init",
            "recipe init my.toml",
            "recipe show",
            "recipe show my.toml --set seed=1 --set epochs=2 --json --workers 4",
            "recipe check my.toml --set seed=1",
        ] {
            Program::try_parse_from(line.split(' ')).unwrap();
        }
        for line in ["recipe", "recipe check", "recipe show a.toml --workers 0"] {
            assert!(Program::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
