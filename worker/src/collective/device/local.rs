//! The sums of one member's own sub-trees, on the device: [`crate::collective::TreeSum`] for tensors.

use std::ops::Range;

use tch::Tensor;

use super::device_error;
use crate::collective::error::CollectiveError;
use crate::collective::tree::are_siblings;

/// Adds up a block's shards along the tree as they come, in buffers that later steps use again.
#[derive(Debug)]
pub(super) struct LocalSum {
    shards: u32,
    block: Range<u32>,
    next: u32,
    stack: Vec<(Range<u32>, Tensor)>,
    pool: Vec<Tensor>,
}

impl LocalSum {
    pub(super) fn new(shards: u32, block: Range<u32>) -> Self {
        Self { shards, next: block.start, block, stack: Vec::new(), pool: Vec::new() }
    }

    /// Adds the next shard's values, which stay the caller's. Tells whether it was the block's last.
    pub(super) fn push(&mut self, shard: u32, values: &Tensor) -> Result<bool, CollectiveError> {
        if shard != self.next || shard >= self.block.end {
            return Err(CollectiveError::InvalidGroup("a shard came out of its turn"));
        }
        self.next += 1;
        tch::no_grad(|| self.add(shard..shard + 1, values))
            .map_err(|error| device_error("a sum of shards", &error))?;
        Ok(self.next == self.block.end)
    }

    fn add(&mut self, leaf: Range<u32>, values: &Tensor) -> Result<(), tch::TchError> {
        match self.stack.last_mut() {
            Some((left, sum)) if are_siblings(left, &leaf, self.shards) => {
                let _ = sum.f_add_(values)?;
                left.end = leaf.end;
            }
            _ => {
                let mut buffer = self.pool.pop().map_or_else(|| values.f_empty_like(), Ok)?;
                buffer.f_copy_(values)?;
                self.stack.push((leaf, buffer));
            }
        }
        while let [.., (left, _), (right, _)] = self.stack.as_slice()
            && are_siblings(left, right, self.shards)
        {
            let Some((right, term)) = self.stack.pop() else { break };
            let Some((left, sum)) = self.stack.last_mut() else { break };
            let _ = sum.f_add_(&term)?;
            left.end = right.end;
            self.pool.push(term);
        }
        Ok(())
    }

    /// The sums of the block's tops, in order.
    pub(super) fn tops(&self) -> Vec<Tensor> {
        self.stack.iter().map(|(_, sum)| sum.shallow_clone()).collect()
    }

    /// For the next step; nothing may use the tops any more.
    pub(super) fn clear(&mut self) {
        self.next = self.block.start;
        self.pool.extend(self.stack.drain(..).map(|(_, buffer)| buffer));
    }
}
