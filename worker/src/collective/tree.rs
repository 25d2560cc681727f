//! The fixed binary tree that every sum over shards follows, whoever holds them.
//!
//! `sum(lo, hi) = sum(lo, mid) + sum(mid, hi)` with `mid = lo +` the largest power of two below `hi - lo`. A
//! member adds up the sub-trees that lie wholly in its block of shards; their roots, the block's *tops*, are
//! all that it has to tell the others.

#[cfg(test)]
mod tests;

use std::ops::{AddAssign, Range};

/// What can be summed element by element.
pub trait Element: Copy + Default + AddAssign + Send + 'static {}
impl<T: Copy + Default + AddAssign + Send + 'static> Element for T {}

/// Where a node with at least two shards is cut in two.
fn middle(node: &Range<u32>) -> u32 {
    let length = node.end - node.start;
    // The largest power of two that is below `length`, not equal to it: 4 -> 2, 5 -> 4.
    node.start + (1 << (length - 1).ilog2())
}

fn is_leaf(node: &Range<u32>) -> bool {
    node.end - node.start < 2
}

/// The largest nodes of the tree over `shards` that lie wholly in `block`, in order; together they are `block`.
///
/// At most about 2 · log2 of `shards` of them. An empty block, or one that reaches beyond `shards`, has none.
#[must_use]
pub fn tops(block: Range<u32>, shards: u32) -> Vec<Range<u32>> {
    let mut found = Vec::new();
    if block.end <= shards {
        collect_tops(&(0..shards), &block, &mut found);
    }
    found
}

fn collect_tops(node: &Range<u32>, block: &Range<u32>, found: &mut Vec<Range<u32>>) {
    if node.start >= block.end || node.end <= block.start || node.is_empty() {
        return;
    }
    if block.start <= node.start && node.end <= block.end {
        found.push(node.clone());
    } else {
        let middle = middle(node);
        collect_tops(&(node.start..middle), block, found);
        collect_tops(&(middle..node.end), block, found);
    }
}

/// Whether `left` and `right` are the two halves of one node.
pub(crate) fn are_siblings(left: &Range<u32>, right: &Range<u32>, shards: u32) -> bool {
    let mut node = 0..shards;
    while !is_leaf(&node) {
        let middle = middle(&node);
        if middle == left.end && middle == right.start {
            return node.start == left.start && node.end == right.end;
        }
        // A cut elsewhere than at `middle` lies in one of the halves.
        node = if left.end < middle { node.start..middle } else { middle..node.end };
    }
    false
}

/// `target += term`, element by element.
pub fn add<T: Element>(target: &mut [T], term: &[T]) {
    for (target, term) in target.iter_mut().zip(term) {
        *target += *term;
    }
}

/// The sum of both, in both: what two members' tops become.
pub(crate) fn add_to_both(left: &mut [f32], right: &mut [f32]) {
    for (left, right) in left.iter_mut().zip(right) {
        let sum = *left + *right;
        (*left, *right) = (sum, sum);
    }
}

/// Why shards could not be added up.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    #[error("shard {found} came where shard {expected} was due")]
    OutOfOrder { expected: u32, found: u32 },
    /// It is added to its sibling's sum instead.
    #[error("shard {shard} has no buffer of its own")]
    NotPlaced { shard: u32 },
    #[error("a shard of {found} elements came where {expected} were due")]
    Length { expected: usize, found: usize },
    #[error("{expected} buffers are needed for the sums of a block, not {found}")]
    Buffers { expected: usize, found: usize },
    #[error("shard {missing} of the block has not come yet")]
    Incomplete { missing: u32 },
}

/// Adds up a block's shards along the tree as they come, in buffers of the caller's, which in the end hold the block's
/// [`tops`] in order.
///
/// The buffers are a stack: siblings are merged at once, so about log2 of the block's size are used.
#[derive(Debug)]
pub struct TreeSum {
    shards: u32,
    block: Range<u32>,
    next: u32,
    /// What the buffers hold, from the first on.
    stack: Vec<Range<u32>>,
}

impl TreeSum {
    /// A sum of the shards `block` out of `0..shards`.
    #[must_use]
    pub fn new(shards: u32, block: Range<u32>) -> Self {
        let next = block.start;
        Self { shards, block, next, stack: Vec::new() }
    }

    /// The most buffers that are in use at a time.
    #[must_use]
    pub fn depth(&self) -> usize {
        let mut trial = Self::new(self.shards, self.block.clone());
        let mut depth = 0;
        for shard in self.block.clone() {
            trial.place(shard);
            depth = depth.max(trial.stack.len());
            while trial.merge() {}
        }
        depth
    }

    /// Adds the next shard's values: every second shard without a copy. `buffers` are the same every time, at least
    /// [`Self::depth`] of them.
    ///
    /// # Errors
    /// When it is not the next shard's turn, or the buffers are too few or of another length.
    pub fn push<T: Element>(
        &mut self,
        shard: u32,
        values: &[T],
        buffers: &mut [&mut [T]],
    ) -> Result<(), TreeError> {
        self.check_turn(shard)?;
        if let Some(buffer) = buffers.iter().find(|buffer| buffer.len() != values.len()) {
            return Err(TreeError::Length { expected: buffer.len(), found: values.len() });
        }
        // One more than is filled: the shard may go there.
        if buffers.len() <= self.stack.len() && buffers.len() < self.depth() {
            return Err(TreeError::Buffers { expected: self.depth(), found: buffers.len() });
        }
        let is_added = self.place(shard);
        let buffer = &mut *buffers[self.stack.len() - 1];
        if is_added {
            add(buffer, values)
        } else {
            buffer.copy_from_slice(values)
        }
        self.merge_all(buffers);
        Ok(())
    }

    /// The buffer that the next shard takes for its own, if it takes one: its values may be written there beforehand.
    #[must_use]
    pub fn vacant(&self) -> Option<usize> {
        let leaf = self.next..self.next + 1;
        let is_added = self.stack.last().is_some_and(|left| are_siblings(left, &leaf, self.shards));
        (self.next < self.block.end && !is_added).then_some(self.stack.len())
    }

    /// As [`Self::push`], of values that lie in the buffer [`Self::vacant`] already.
    ///
    /// # Errors
    /// When it is not the next shard's turn, or it takes no buffer of its own.
    pub fn push_placed<T: Element>(&mut self, shard: u32, buffers: &mut [&mut [T]]) -> Result<(), TreeError> {
        self.check_turn(shard)?;
        match self.vacant() {
            Some(index) if index < buffers.len() => {}
            Some(_) => return Err(TreeError::Buffers { expected: self.depth(), found: buffers.len() }),
            None => return Err(TreeError::NotPlaced { shard }),
        }
        self.place(shard);
        self.merge_all(buffers);
        Ok(())
    }

    fn check_turn(&self, shard: u32) -> Result<(), TreeError> {
        if shard == self.next && shard < self.block.end {
            return Ok(());
        }
        Err(TreeError::OutOfOrder { expected: self.next, found: shard })
    }

    /// Ends the turn of the shard whose values have come.
    fn merge_all<T: Element>(&mut self, buffers: &mut [&mut [T]]) {
        while self.merge() {
            let (sums, terms) = buffers.split_at_mut(self.stack.len());
            if let ([.., sum], [term, ..]) = (sums, terms) {
                add(sum, term);
            }
        }
        self.next += 1;
    }

    /// Whether the shard is added to the last buffer's, its sibling, or takes a buffer of its own.
    fn place(&mut self, shard: u32) -> bool {
        let leaf = shard..shard + 1;
        match self.stack.last_mut() {
            Some(left) if are_siblings(left, &leaf, self.shards) => {
                left.end = leaf.end;
                true
            }
            _ => {
                self.stack.push(leaf);
                false
            }
        }
    }

    /// Whether the last buffer is added to the one before it.
    fn merge(&mut self) -> bool {
        match self.stack.as_mut_slice() {
            [.., left, right] if are_siblings(left, right, self.shards) => left.end = right.end,
            _ => return false,
        }
        self.stack.pop();
        true
    }

    /// How many buffers hold the sums of the block's [`tops`] now.
    ///
    /// # Errors
    /// When shards of the block are still missing.
    pub fn finish(&self) -> Result<usize, TreeError> {
        if self.next < self.block.end {
            return Err(TreeError::Incomplete { missing: self.next });
        }
        Ok(self.stack.len())
    }

    /// Starts anew with the same block, as for the next step.
    pub fn clear(&mut self) {
        self.next = self.block.start;
        self.stack.clear();
    }
}

/// How the whole tree's sum follows from the tops of all blocks.
#[derive(Debug)]
pub(crate) enum Completion {
    /// The top with this index.
    Top(usize),
    Sum(Box<Self>, Box<Self>),
}

impl Completion {
    /// From all blocks' tops in order, which must cover `0..shards`, at least one.
    pub(crate) fn new(tops: &[Range<u32>], shards: u32) -> Self {
        Self::of(&(0..shards), tops)
    }

    fn of(node: &Range<u32>, tops: &[Range<u32>]) -> Self {
        if let Ok(index) = tops.binary_search_by_key(&node.start, |top| top.start)
            && (tops[index] == *node || is_leaf(node))
        {
            return Self::Top(index);
        }
        let middle = middle(node);
        let left = Self::of(&(node.start..middle), tops);
        Self::Sum(Box::new(left), Box::new(Self::of(&(middle..node.end), tops)))
    }

    /// Finishes the sum of equally long `tops` into `out`. `spare` keeps scratch space between calls.
    pub(crate) fn evaluate<T: Element>(&self, tops: &[&[T]], out: &mut [T], spare: &mut Vec<Vec<T>>) {
        let (left, right) = match self {
            Self::Top(index) => return out.copy_from_slice(tops[*index]),
            Self::Sum(left, right) => (left, right),
        };
        left.evaluate(tops, out, spare);
        if let Self::Top(index) = **right {
            add(out, tops[index]);
        } else {
            let mut term = spare.pop().unwrap_or_default();
            term.resize(out.len(), T::default());
            right.evaluate(tops, &mut term, spare);
            add(out, &term);
            spare.push(term);
        }
    }
}
