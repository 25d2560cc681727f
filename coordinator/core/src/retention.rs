//! Which checkpoints may go.

use std::collections::BTreeMap;

use crate::{CheckpointEntry, Step};

/// The checkpoints to delete: all but the newest `keep` and the best one.
pub(crate) fn superseded(
    checkpoints: &BTreeMap<Step, CheckpointEntry>,
    keep: u32,
    best: Option<Step>,
) -> Vec<Step> {
    let keep = keep.max(1) as usize;
    checkpoints.keys().rev().skip(keep).filter(|step| Some(**step) != best).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Position;

    #[test]
    fn the_newest_and_the_best_are_kept() {
        let checkpoints: BTreeMap<_, _> = (1..=6)
            .map(|n| {
                let position = Position { step: Step(n), ..Position::default() };
                (Step(n), CheckpointEntry { position, size_bytes: 0 })
            })
            .collect();
        assert_eq!(superseded(&checkpoints, 2, Some(Step(3))), [Step(4), Step(2), Step(1)]);
        assert_eq!(superseded(&checkpoints, 0, None).len(), 5);
        assert!(superseded(&checkpoints, 9, None).is_empty());
    }
}
