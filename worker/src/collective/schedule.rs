//! What a member has to move and to add so that a sum over all shards has the bits of the fixed tree, whatever moves
//! the bytes: transports that sum for themselves (NCCL's rings and trees, switches that add) bracket the terms by the
//! number of members.
//!
//! Every member owns a chunk of the buffer. In a first round it sends its tops' part of each chunk to the chunk's owner;
//! the owner adds in the tree's order; in a second round it sends the finished chunk to all. A plan of lengths and
//! indices alone, so that it is tested without a device.

use std::ops::Range;

use super::exchange::Group;
use super::tree::Completion;

/// One member's part in a sum over a buffer of a certain length. Whatever two members send each other they send and
/// receive in the order of these lists. Ranges are of elements.
#[derive(Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The chunk that this member finishes.
    pub own: Range<usize>,
    /// The first round's.
    pub sends: Vec<Send>,
    pub receives: Vec<Receive>,
    /// Between the rounds, in this order.
    pub sums: Vec<SumStep>,
    /// The registers that [`Self::sums`] need: number 0 is the own chunk of the result.
    pub registers: usize,
    /// The second round's: the own chunk goes to these members.
    pub hand_to: Vec<usize>,
    /// Their chunks come from these.
    pub take_from: Vec<(usize, Range<usize>)>,
}

/// A part of one of this member's tops goes to its owner.
#[derive(Debug, PartialEq, Eq)]
pub struct Send {
    pub to: usize,
    /// Index among this member's tops.
    pub top: usize,
    pub range: Range<usize>,
}

/// A member's top comes in, as much of it as lies in the own chunk; the n-th one is [`Leaf::Received`] n.
#[derive(Debug, PartialEq, Eq)]
pub struct Receive {
    pub from: usize,
}

/// A term of the sum, as long as the own chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaf {
    /// The own chunk's part of this member's top.
    Own(usize),
    /// What came by the receive of that number.
    Received(usize),
}

/// One step of the sum over the own chunk; `register`s are scratch buffers as long as it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SumStep {
    Copy { register: usize, leaf: Leaf },
    AddLeaf { register: usize, leaf: Leaf },
    AddRegister { register: usize, term: usize },
}

impl Schedule {
    /// For the sum of buffers of `length` elements over `group`'s shards.
    pub fn new(group: &Group, length: usize) -> Self {
        let (own_rank, own) = (group.rank(), group.chunk(group.rank(), length));
        let tops = group.tops_by_rank();
        let others = || (0..group.world_size()).filter(move |rank| *rank != own_rank);
        let filled = |rank: &usize| !group.chunk(*rank, length).is_empty();

        let mut sends = Vec::new();
        for to in others().filter(filled) {
            let range = group.chunk(to, length);
            sends.extend((0..tops[own_rank].len()).map(|top| Send { to, top, range: range.clone() }));
        }
        let (mut leaves, mut receives, mut sums) = (Vec::new(), Vec::new(), Vec::new());
        let mut registers = 0;
        if !own.is_empty() {
            for (rank, tops) in tops.iter().enumerate() {
                for top in 0..tops.len() {
                    if rank == own_rank {
                        leaves.push(Leaf::Own(top));
                    } else {
                        leaves.push(Leaf::Received(receives.len()));
                        receives.push(Receive { from: rank });
                    }
                }
            }
            let completion = Completion::new(&tops.concat(), group.shards());
            registers = follow(&completion, &leaves, 0, &mut sums);
        }
        Self {
            sends,
            receives,
            sums,
            registers,
            hand_to: if own.is_empty() { Vec::new() } else { others().collect() },
            take_from: others().filter(filled).map(|rank| (rank, group.chunk(rank, length))).collect(),
            own,
        }
    }
}

/// Appends the steps that leave the sum in `register`, with higher ones as scratch; how many registers there are then.
fn follow(completion: &Completion, leaves: &[Leaf], register: usize, steps: &mut Vec<SumStep>) -> usize {
    let (left, right) = match completion {
        Completion::Top(index) => {
            steps.push(SumStep::Copy { register, leaf: leaves[*index] });
            return register + 1;
        }
        Completion::Sum(left, right) => (left, right),
    };
    let used = follow(left, leaves, register, steps);
    if let Completion::Top(index) = **right {
        steps.push(SumStep::AddLeaf { register, leaf: leaves[index] });
        return used;
    }
    let term = register + 1;
    let used = used.max(follow(right, leaves, term, steps));
    steps.push(SumStep::AddRegister { register, term });
    used
}

#[cfg(test)]
mod tests;
