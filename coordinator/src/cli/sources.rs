//! Which recipe a command is about: a file, `--set`, the environment.

use std::path::PathBuf;

use clap::Args;

use crate::recipe::Sources;

#[derive(Debug, Args)]
pub(super) struct SourceArgs {
    /// The recipe, a TOML file; without one, everything comes from --set and defaults
    pub(super) recipe: Option<PathBuf>,
    /// Change a key of the recipe, e.g. `--set optimizer.lr=0.01`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) sets: Vec<String>,
}

impl SourceArgs {
    /// Everything that the recipe is made of; `default_shards` where it says none.
    pub(super) fn sources(self, default_shards: u32) -> Sources {
        Sources { file: self.recipe, sets: self.sets, env: Sources::process_env(), default_shards }
    }
}
