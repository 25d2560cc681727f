//! The schedules of all members of many groups, executed in turn on plain buffers.

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::collective::tree::{add, tops};

/// Shard `shard`'s buffer: magnitudes far apart, so that another order of addition shows.
fn values(shard: u32, length: usize) -> Vec<f32> {
    let at = |index: usize| {
        let mixed = (u64::from(shard) * 1_000_003 + index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let exponent = i32::try_from(mixed >> 60).unwrap() - 8;
        (((mixed >> 20) as u32 & 0xffff) as f32 - 32_768.0) * 2.0_f32.powi(exponent)
    };
    (0..length).map(at).collect()
}

/// The sum over a node of the tree, by its definition.
fn sum(node: Range<u32>, length: usize) -> Vec<f32> {
    let shards = node.end - node.start;
    if shards == 1 {
        return values(node.start, length);
    }
    let mut half = 1;
    while half * 2 < shards {
        half *= 2;
    }
    let mut left = sum(node.start..node.start + half, length);
    add(&mut left, &sum(node.start + half..node.end, length));
    left
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Messages under way, by sender and receiver, in order.
#[derive(Default)]
struct Wires(HashMap<(usize, usize), VecDeque<Vec<f32>>>);

impl Wires {
    fn send(&mut self, from: usize, to: usize, values: &[f32]) {
        self.0.entry((from, to)).or_default().push_back(values.to_vec());
    }

    fn take(&mut self, from: usize, to: usize) -> Vec<f32> {
        self.0.get_mut(&(from, to)).and_then(VecDeque::pop_front).expect("it was sent")
    }
}

/// One member's sum over its own chunk, from its tops and what it received.
fn finish_chunk(schedule: &Schedule, tops: &[Vec<f32>], received: &[Vec<f32>]) -> Option<Vec<f32>> {
    let leaf = |leaf: Leaf| match leaf {
        Leaf::Own(top) => &tops[top][schedule.own.clone()],
        Leaf::Received(index) => &received[index][..],
    };
    let mut registers = vec![vec![f32::NAN; schedule.own.len()]; schedule.registers];
    for step in &schedule.sums {
        match *step {
            SumStep::Copy { register, leaf: from } => registers[register].copy_from_slice(leaf(from)),
            SumStep::AddLeaf { register, leaf: from } => add(&mut registers[register], leaf(from)),
            SumStep::AddRegister { register, term } => {
                let term = registers[term].clone();
                add(&mut registers[register], &term);
            }
        }
    }
    (!registers.is_empty()).then(|| registers.swap_remove(0))
}

/// All members' results.
fn execute(blocks: &[Range<u32>], length: usize) -> Vec<Vec<f32>> {
    let shards = blocks.last().unwrap().end;
    let member = |rank| Schedule::new(&Group::new(rank, shards, blocks.to_vec()).unwrap(), length);
    let schedules: Vec<Schedule> = (0..blocks.len()).map(member).collect();
    let sums =
        |block: &Range<u32>| tops(block.clone(), shards).into_iter().map(|top| sum(top, length)).collect();
    let tops: Vec<Vec<Vec<f32>>> = blocks.iter().map(sums).collect();
    let mut wires = Wires::default();
    for (rank, schedule) in schedules.iter().enumerate() {
        for Send { to, top, range } in &schedule.sends {
            wires.send(rank, *to, &tops[rank][*top][range.clone()]);
        }
    }
    let mut results = vec![vec![f32::NAN; length]; blocks.len()];
    for (rank, schedule) in schedules.iter().enumerate() {
        let received: Vec<_> =
            schedule.receives.iter().map(|receive| wires.take(receive.from, rank)).collect();
        if let Some(finished) = finish_chunk(schedule, &tops[rank], &received) {
            results[rank][schedule.own.clone()].copy_from_slice(&finished);
            schedule.hand_to.iter().for_each(|to| wires.send(rank, *to, &finished));
        }
    }
    for (rank, schedule) in schedules.iter().enumerate() {
        for (from, range) in &schedule.take_from {
            results[rank][range.clone()].copy_from_slice(&wires.take(*from, rank));
        }
    }
    assert!(wires.0.values().all(VecDeque::is_empty), "something was sent that nobody takes");
    results
}

proptest! {
    #[test]
    fn any_group_gets_the_bits_of_the_fixed_tree(
        shards in 1_u32..40,
        cuts in proptest::collection::vec(any::<u32>(), 0..8),
        length in 0_usize..50,
    ) {
        let mut bounds: Vec<u32> = cuts.iter().map(|cut| cut % (shards + 1)).collect();
        bounds.extend([0, shards]);
        bounds.sort_unstable();
        let blocks: Vec<Range<u32>> = bounds.windows(2).map(|bound| bound[0]..bound[1]).collect();
        let expected = bits(&sum(0..shards, length));
        for result in execute(&blocks, length) {
            prop_assert_eq!(bits(&result), &expected[..]);
        }
    }
}

#[test]
fn alone_nothing_moves() {
    let group = Group::new(0, 6, std::iter::once(0..6).collect()).unwrap();
    let schedule = Schedule::new(&group, 10);
    assert_eq!(schedule.sums, [SumStep::Copy { register: 0, leaf: Leaf::Own(0) }]);
    assert_eq!((schedule.own, schedule.registers), (0..10, 1));
    assert!(schedule.sends.is_empty() && schedule.receives.is_empty());
    assert!(schedule.hand_to.is_empty() && schedule.take_from.is_empty());
}

#[test]
fn no_more_is_moved_than_the_optimum() {
    for world_size in [2, 4, 8] {
        let blocks: Vec<Range<u32>> = (0..world_size).map(|rank| rank * 2..rank * 2 + 2).collect();
        let schedule = Schedule::new(&Group::new(1, 2 * world_size, blocks).unwrap(), 800);
        let sent: usize = schedule.sends.iter().map(|send| send.range.len()).sum();
        let handed = schedule.hand_to.len() * schedule.own.len();
        let optimum = 2 * 800 * (world_size as usize - 1) / world_size as usize;
        assert_eq!(sent + handed, optimum, "{world_size} members");
    }
}
