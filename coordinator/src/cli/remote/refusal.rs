//! What a person is told when a coordinator does not know a run or a worker: which one they may have meant.

use tonic::Code;

use super::words::one_line;
use crate::cli::{CliError, code};
use crate::client::RunClient;
use crate::credentials::client::RemoteError;
use crate::nearest::nearest;

/// Names that a hint lists, where none is near.
const NAMES_SHOWN: usize = 8;

/// What `error` means where it is about the run.
pub(super) async fn of_run(client: &RunClient, run: &str, error: RemoteError) -> CliError {
    if !is_unknown(&error) {
        return error.into();
    }
    // The first error is what counts: when the list does not come, there is no hint of names.
    let known = client.runs(&[], 0).await.map(|listing| listing.runs).unwrap_or_default();
    let names = known.into_iter().map(|run| run.name).collect();
    unknown("run", run, &client.url(), names, "`lockstep ps --all` lists the runs")
}

/// What `error` means where it is about the worker.
pub(super) async fn of_worker(client: &RunClient, worker: &str, error: RemoteError) -> CliError {
    if !is_unknown(&error) {
        return error.into();
    }
    let known = client.workers().await.unwrap_or_default();
    let names = known.into_iter().map(|worker| worker.name).collect();
    unknown("worker", worker, &client.url(), names, "`lockstep workers` lists them")
}

pub(super) fn is_unknown(error: &RemoteError) -> bool {
    matches!(error, RemoteError::Answer { code: Code::NotFound, .. })
}

/// The connection is what failed, so that asking again makes sense.
pub(super) fn is_passing(error: &RemoteError) -> bool {
    use RemoteError::{Answer, Unreachable};
    matches!(error, Unreachable { .. } | Answer { code: Code::Unavailable, .. })
}

/// The name that was asked for is somebody else's.
pub(super) fn is_taken(error: &RemoteError) -> bool {
    matches!(error, RemoteError::Answer { code: Code::AlreadyExists, .. })
}

fn unknown(what: &str, name: &str, url: &str, known: Vec<String>, lists: &str) -> CliError {
    let known: Vec<String> = known.iter().map(|name| one_line(name)).collect();
    let hint = match nearest(name, &known) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("there is no {what} at all"),
        None if known.len() <= NAMES_SHOWN => format!("the {what}s there are {}", known.join(", ")),
        None => lists.to_owned(),
    };
    CliError::new(code::USAGE, format!("there is no {what} named {} at {url}", one_line(name))).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_the_nearest_else_all_else_how_to_list_them() {
        let hint = |known: &[&str]| {
            let known = known.iter().map(|&name| name.to_owned()).collect();
            let error = unknown("run", "frist", "http://c", known, "`lockstep ps --all` lists the runs");
            assert_eq!((error.code, &*error.message), (2, "there is no run named frist at http://c"));
            error.hint.unwrap()
        };
        assert_eq!(hint(&["second", "first"]), "did you mean `first`?");
        assert_eq!(hint(&["other", "another"]), "the runs there are other, another");
        assert_eq!(hint(&[]), "there is no run at all");
        assert!(hint(&["other"; 9]).contains("lockstep ps"));
    }
}
