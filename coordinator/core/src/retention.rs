//! Which checkpoints may go.

use std::collections::BTreeSet;

use crate::{History, Step};

/// The checkpoints to delete: all but the newest `keep` that are of use and, for each of those, the best one as of then.
///
/// A run can only go on from a checkpoint together with the best model up to it. So the best one of earlier days
/// stays until the checkpoint of a better one is stored, and as long as an older checkpoint may have to serve; and one
/// whose best model has yet to be stored does not take the place of an older one that is of use.
pub(crate) fn superseded(history: &History) -> Vec<Step> {
    let mut left = history.spec.keep.max(1);
    let mut kept = BTreeSet::new();
    for (step, checkpoint) in history.checkpoints.iter().rev() {
        if left == 0 {
            break;
        }
        kept.insert(*step);
        let best = history.best_before(checkpoint.position.epoch);
        if best.is_none_or(|best| history.checkpoints.contains_key(&best)) {
            kept.extend(best);
            left -= 1;
        }
    }
    history.checkpoints.keys().rev().filter(|step| !kept.contains(step)).copied().collect()
}
