//! Which checkpoints may go.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Epoch, History, Position, Step};

/// Whether a checkpoint that is not stored would be deleted as soon as it was.
pub(crate) fn would_be_superseded(history: &History, newcomer: Position) -> bool {
    !kept(history, Some(newcomer)).contains(&newcomer.step)
}

/// The checkpoints to delete, newest first.
pub(crate) fn superseded(history: &History) -> Vec<Step> {
    let kept = kept(history, None);
    history.checkpoints.keys().rev().filter(|step| !kept.contains(step)).copied().collect()
}

/// Of those that are stored and a newcomer: the newest `keep` that are of use and, for each of those, the best one as of
/// then.
///
/// A run can only go on from a checkpoint together with the best model up to it. So the best one of earlier days
/// stays until the checkpoint of a better one is stored, and as long as an older checkpoint may have to serve; and one
/// whose best model has yet to be stored does not take the place of an older one that is of use.
fn kept(history: &History, newcomer: Option<Position>) -> BTreeSet<Step> {
    let stored = history.checkpoints.values().map(|checkpoint| checkpoint.position);
    let epochs: BTreeMap<Step, Epoch> =
        stored.chain(newcomer).map(|position| (position.step, position.epoch)).collect();
    let mut left = history.spec.keep.max(1);
    let mut kept = BTreeSet::new();
    for (step, epoch) in epochs.iter().rev() {
        if left == 0 {
            break;
        }
        kept.insert(*step);
        let best = history.best_before(*epoch);
        if best.is_none_or(|best| epochs.contains_key(&best)) {
            kept.extend(best);
            left -= 1;
        }
    }
    kept
}
