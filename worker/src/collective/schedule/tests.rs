//! The schedules of all members of many groups, executed in turn on plain buffers.

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::collective::tree::{TreeSum, add};
use crate::collective::{Collective, Solo};

/// Shard `shard`'s buffer: magnitudes far apart, so that another order of addition shows.
fn values(shard: u32, length: usize) -> Vec<f32> {
    let at = |index: usize| {
        let mixed = (u64::from(shard) * 1_000_003 + index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let exponent = i32::try_from(mixed >> 60).unwrap() - 8;
        (((mixed >> 20) as u32 & 0xffff) as f32 - 32_768.0) * 2.0_f32.powi(exponent)
    };
    (0..length).map(at).collect()
}

fn local(group: &Group, length: usize) -> TreeSum<f32> {
    let mut sum = TreeSum::new(group.shards(), group.block(), length);
    for shard in group.block() {
        sum.push(shard, values(shard, length)).unwrap();
    }
    sum
}

/// The host's sum, by one member that holds everything.
fn expected(shards: u32, length: usize) -> Vec<u32> {
    let alone = Group::new(0, shards, std::iter::once(0..shards).collect()).unwrap();
    let mut out = vec![0.0; length];
    Solo.all_reduce(&local(&alone, length).tops().unwrap(), &mut out).unwrap();
    bits(&out)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Messages under way, by sender and receiver, in order.
type Wires = HashMap<(usize, usize), VecDeque<Vec<f32>>>;

/// All members' results.
fn execute(blocks: &[Range<u32>], length: usize) -> Vec<Vec<f32>> {
    let shards = blocks.last().unwrap().end;
    let groups: Vec<Group> =
        (0..blocks.len()).map(|rank| Group::new(rank, shards, blocks.to_vec()).unwrap()).collect();
    let schedules: Vec<Schedule> = groups.iter().map(|group| Schedule::new(group, length)).collect();
    let locals: Vec<TreeSum<f32>> = groups.iter().map(|group| local(group, length)).collect();
    let mut wires = Wires::new();
    for (rank, schedule) in schedules.iter().enumerate() {
        let tops = locals[rank].tops().unwrap();
        for Send { to, top, range } in &schedule.sends {
            wires.entry((rank, *to)).or_default().push_back(tops[*top][range.clone()].to_vec());
        }
    }
    let mut results = vec![vec![f32::NAN; length]; blocks.len()];
    for (rank, schedule) in schedules.iter().enumerate() {
        let mut take = |receive: &Receive| wires.get_mut(&(receive.from, rank)).unwrap().pop_front().unwrap();
        let received: Vec<Vec<f32>> = schedule.receives.iter().map(&mut take).collect();
        let tops = locals[rank].tops().unwrap();
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
        if let Some(finished) = registers.first() {
            results[rank][schedule.own.clone()].copy_from_slice(finished);
            for to in &schedule.hand_to {
                wires.entry((rank, *to)).or_default().push_back(finished.clone());
            }
        }
    }
    for (rank, schedule) in schedules.iter().enumerate() {
        for (from, range) in &schedule.take_from {
            let chunk = wires.get_mut(&(*from, rank)).unwrap().pop_front().unwrap();
            results[rank][range.clone()].copy_from_slice(&chunk);
        }
    }
    assert!(wires.values().all(VecDeque::is_empty), "something was sent that nobody takes");
    results
}

proptest! {
    #[test]
    fn any_group_gets_the_bits_of_the_hosts_tree(
        shards in 1_u32..40,
        cuts in proptest::collection::vec(any::<u32>(), 0..8),
        length in 0_usize..50,
    ) {
        let mut bounds: Vec<u32> = cuts.iter().map(|cut| cut % (shards + 1)).collect();
        bounds.extend([0, shards]);
        bounds.sort_unstable();
        let blocks: Vec<Range<u32>> = bounds.windows(2).map(|bound| bound[0]..bound[1]).collect();
        let expected = expected(shards, length);
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
fn halves_of_a_power_of_two_move_what_the_optimum_is() {
    for world_size in [2, 4, 8] {
        let blocks: Vec<Range<u32>> = (0..world_size).map(|rank| rank * 2..rank * 2 + 2).collect();
        let group = Group::new(1, 2 * world_size, blocks).unwrap();
        let schedule = Schedule::new(&group, 800);
        let sent: usize = schedule.sends.iter().map(|send| send.range.len()).sum();
        let handed = schedule.hand_to.len() * schedule.own.len();
        let optimum = 2 * 800 * (world_size as usize - 1) / world_size as usize;
        assert_eq!(sent + handed, optimum, "{world_size} members");
    }
}
