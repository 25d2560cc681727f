//! Which checkpoints may go.

use std::collections::BTreeSet;

use crate::{History, Step};

/// The checkpoints to delete: all but the newest `keep` and, for each of those, the best one as of then.
///
/// A run can only go on from a checkpoint together with the best model up to it. So the best one of earlier days
/// stays until the checkpoint of a better one is stored, and as long as an older checkpoint may have to serve.
pub(crate) fn superseded(history: &History) -> Vec<Step> {
    let keep = history.spec.keep.max(1) as usize;
    let kept = history.checkpoints.values().rev().take(keep);
    let needed: BTreeSet<Step> =
        kept.filter_map(|checkpoint| history.best_before(checkpoint.position.epoch)).collect();
    history.checkpoints.keys().rev().skip(keep).filter(|step| !needed.contains(step)).copied().collect()
}
