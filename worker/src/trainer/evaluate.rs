//! Evaluation of this member's blocks of a split.

use crate::model::ResNet;
use crate::plan::Split;

use super::error::TrainerError;
use super::exchange::Peers;
use super::inputs::Inputs;
use super::loss::{correct, plain};
use super::metrics::{BlockMetrics, Metrics};

/// Evaluates the blocks of `split` that fall to this member. Blocks are computed whole, by one member each, so their
/// sums do not depend on who computes them.
///
/// # Errors
/// Among others [`TrainerError::Paused`]: the replica stands at a boundary, so nothing need be finished first.
pub(super) fn evaluate(
    model: &ResNet,
    inputs: Inputs<'_>,
    split: Split,
    peers: &Peers,
) -> Result<Vec<BlockMetrics>, TrainerError> {
    let group = &peers.group;
    let mut blocks = Vec::new();
    for (block, ids) in inputs.samples.blocks_of(split, group.rank(), group.world_size()) {
        peers.check_paused()?;
        let given = inputs.eval_batch(split, block, ids)?;
        let labels = &given.batch.labels;
        let logits = model.forward_eval(given.input());
        let losses = Vec::<f32>::try_from(plain(&logits, labels))?;
        // In f64 from the single losses on and one after another: the sum over a split is compared between runs, and
        // with that of a later evaluation, which has the same losses.
        let loss_sum = losses.into_iter().map(f64::from).sum();
        let metrics = Metrics { loss_sum, correct: correct(&logits, labels), count: ids.len() as u64 };
        blocks.push(BlockMetrics { block, metrics });
    }
    Ok(blocks)
}
