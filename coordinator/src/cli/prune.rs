//! `lockstep prune`: old runs that are over go, and what is cached for nobody.

use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use indicatif::{HumanBytes, HumanDuration};
use serde::Serialize;

use super::home::HomeArgs;
use super::stdout::print;
use super::{CliError, code};
use crate::cluster::Stage;
use crate::driver::now;
use crate::prune::{Policy, PruneError, Pruned, prune};

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").args(["older_than", "keep"]).required(true).multiple(true)))]
pub(super) struct PruneArgs {
    /// Those that ended so long ago, and cached activations unused for as long: 90m, 12h, 30d, 8w
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Option<Duration>,
    /// The newest N stay, however old
    #[arg(long, value_name = "N")]
    keep: Option<usize>,
    /// Only runs that ended so [default: in any way]
    #[arg(long, value_delimiter = ',')]
    state: Vec<Ended>,
    /// Tell what would go, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// For programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    home: HomeArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ended {
    Done,
    Failed,
    Stopped,
}

pub(super) fn run(args: &PruneArgs) -> Result<u8, CliError> {
    let home = args.home.open()?;
    let stages = args.state.iter().map(|ended| match ended {
        Ended::Done => Stage::Done,
        Ended::Failed => Stage::Failed,
        Ended::Stopped => Stage::Stopped,
    });
    let policy =
        Policy { older_than: args.older_than, keep: args.keep.unwrap_or_default(), stages: stages.collect() };
    let now = now();
    let pruned = prune(&home, &policy, now, args.dry_run)?;
    if args.json {
        let told = Told { dry_run: args.dry_run, pruned: &pruned };
        let json = serde_json::to_string_pretty(&told).map_err(anyhow::Error::from)?;
        print(&format!("{json}\n"))?;
    } else {
        print(&text(&pruned, now.0, args.dry_run))?;
    }
    Ok(0)
}

#[derive(Serialize)]
struct Told<'a> {
    dry_run: bool,
    #[serde(flatten)]
    pruned: &'a Pruned,
}

fn text(pruned: &Pruned, now_ms: u64, dry: bool) -> String {
    let mut text = String::new();
    let width = pruned.runs.iter().map(|run| run.run.0.len()).max().unwrap_or_default();
    for run in &pruned.runs {
        let ago = HumanDuration(Duration::from_millis(now_ms.saturating_sub(run.ended_at_ms.0)));
        let (name, bytes) = (&run.run.0, HumanBytes(run.bytes));
        text += &format!("{name:width$}  {:7}  {ago} ago, {bytes}\n", run.state);
    }
    for folder in &pruned.activations {
        let (path, bytes) = (folder.path.display(), HumanBytes(folder.bytes));
        text += &format!("{path}  unused activations, {bytes}\n");
    }
    for kept in &pruned.kept {
        text += &format!("{} stays: {}\n", kept.run, kept.reason);
    }
    let (runs, caches) = (pruned.runs.len(), pruned.activations.len());
    let verb = if dry { "would free" } else { "freed" };
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    text += &format!(
        "{verb} {}: {runs} run{}, {caches} cache{} of activations\n",
        HumanBytes(pruned.bytes),
        plural(runs),
        plural(caches)
    );
    text
}

/// A number and a unit.
fn age(text: &str) -> Result<Duration, String> {
    let wrong = || "a number and a unit: s, m, h, d or w, as in 30d".to_owned();
    let (at, unit) = text.char_indices().next_back().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..at].parse().map_err(|_| wrong())?;
    count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(|| "longer than time itself".to_owned())
}

impl From<PruneError> for CliError {
    fn from(error: PruneError) -> Self {
        let message = error.to_string();
        match error {
            PruneError::Busy { .. } => Self::new(code::USAGE, message).hint("wait until it has ended"),
            PruneError::Io { .. } | PruneError::Journal(_) | PruneError::Run { .. } => {
                Self::new(code::FAILED, message).hint("what was not deleted is as it was: prune again")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_core::Time;

    use super::*;
    use crate::prune::{KeptRun, PrunedRun};

    #[test]
    fn ages_are_read_in_all_units_and_nothing_else_is() {
        for (text, seconds) in
            [("90s", 90), ("2m", 120), ("12h", 43_200), ("30d", 2_592_000), ("1w", 604_800)]
        {
            assert_eq!(age(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in
            ["", "d", "30", "3.5d", "-1d", "30 d", "30ü", "99999999999999999999d", "999999999999999999w"]
        {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_went_and_what_stays_is_told() {
        let run = |run: &str| PrunedRun { run: run.into(), state: "done", ended_at_ms: Time(0), bytes: 2048 };
        let kept = vec![KeptRun { run: "c".into(), reason: "another process is working on it".to_owned() }];
        let runs = vec![run("a"), run("bcd")];
        let pruned = Pruned { runs, kept, activations: Vec::new(), bytes: 4096 };
        assert_eq!(
            text(&pruned, 172_800_000, true),
            "a    done     2 days ago, 2.00 KiB\nbcd  done     2 days ago, 2.00 KiB\n\
             c stays: another process is working on it\n\
             would free 4.00 KiB: 2 runs, 0 caches of activations\n"
        );
    }
}
