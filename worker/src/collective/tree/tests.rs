//! The tree against its definition, whoever holds the shards.

use proptest::prelude::*;

use super::*;

/// The definition, word by word.
fn reference(values: &[f32], lo: u32, hi: u32) -> f32 {
    if hi - lo == 1 {
        return values[lo as usize];
    }
    let mut half = 1;
    while half * 2 < hi - lo {
        half *= 2;
    }
    reference(values, lo, lo + half) + reference(values, lo + half, hi)
}

fn is_node(node: &Range<u32>, shards: u32) -> bool {
    let mut at = 0..shards;
    while at != *node {
        if is_leaf(&at) {
            return false;
        }
        let middle = middle(&at);
        at = if node.start < middle { at.start..middle } else { middle..at.end };
    }
    true
}

#[test]
fn seven_shards_are_cut_as_documented() {
    assert_eq!(tops(0..7, 7), vec![0..7]);
    assert_eq!(tops(4..7, 7), vec![4..7]);
    assert_eq!(tops(0..5, 7), vec![0..4, 4..5]);
    assert_eq!(tops(1..6, 7), vec![1..2, 2..4, 4..6]);
    assert_eq!(tops(3..3, 7), vec![]);
    assert_eq!(tops(3..9, 7), vec![]);
    assert_eq!(tops(0..0, 0), vec![]);
}

#[test]
fn few_buffers_are_used() {
    let mut sum = TreeSum::new(64, 0..64);
    assert_eq!(sum.depth(), 6, "log2(64)");
    let mut buffers = [[0.0_f32]; 6];
    let mut buffers = buffers.each_mut().map(<[f32; 1]>::as_mut_slice);
    for step in 1..3_u16 {
        for shard in 0..64 {
            sum.push(shard, &[f32::from(step)], &mut buffers).unwrap();
        }
        assert_eq!((sum.finish(), &*buffers[0]), (Ok(1), [f32::from(step) * 64.0].as_slice()));
        sum.clear();
    }
    assert_eq!(TreeSum::new(64, 3..3).depth(), 0);
}

#[test]
fn what_is_added_to_its_sibling_has_no_place() {
    let mut sum = TreeSum::new(2, 0..2);
    let mut buffer = [1];
    let mut buffers = [buffer.as_mut_slice()];
    assert_eq!(sum.vacant(), Some(0));
    sum.push_placed(0, &mut buffers).unwrap();
    assert_eq!(sum.vacant(), None);
    assert_eq!(sum.push_placed(1, &mut buffers), Err(TreeError::NotPlaced { shard: 1 }));
    sum.push(1, &[2], &mut buffers).unwrap();
    assert_eq!(buffer, [3]);
}

#[test]
fn misuse_is_refused() {
    let mut sum = TreeSum::new(4, 1..3);
    let (mut first, mut second) = ([0; 2], [0; 2]);
    let mut buffers = [first.as_mut_slice(), &mut second];
    let early = sum.push(0, &[0, 0], &mut buffers);
    assert_eq!(early, Err(TreeError::OutOfOrder { expected: 1, found: 0 }));
    assert_eq!(sum.push(1, &[0], &mut buffers), Err(TreeError::Length { expected: 2, found: 1 }));
    assert_eq!(sum.push::<i32>(1, &[0], &mut []), Err(TreeError::Buffers { expected: 2, found: 0 }));
    assert_eq!(sum.finish(), Err(TreeError::Incomplete { missing: 1 }));
    assert_eq!(sum.push_placed::<i32>(1, &mut []), Err(TreeError::Buffers { expected: 2, found: 0 }));
    sum.push(1, &[0, 0], &mut buffers).unwrap();
    sum.push(2, &[0, 0], &mut buffers).unwrap();
    let late = sum.push(3, &[0, 0], &mut buffers);
    assert_eq!(late, Err(TreeError::OutOfOrder { expected: 3, found: 3 }));
}

proptest! {
    #[test]
    fn tops_are_the_largest_nodes_and_cover_the_block(shards in 1_u32..200, cut in any::<(u32, u32)>()) {
        let (a, b) = (cut.0 % (shards + 1), cut.1 % (shards + 1));
        let block = a.min(b)..a.max(b);
        let tops = tops(block.clone(), shards);
        let mut at = block.start;
        for top in &tops {
            prop_assert_eq!(top.start, at);
            prop_assert!(top.end > top.start && is_node(top, shards));
            at = top.end;
        }
        prop_assert_eq!(at, block.end);
        prop_assert!(tops.windows(2).all(|pair| !are_siblings(&pair[0], &pair[1], shards)));
    }

    #[test]
    fn any_placement_gives_the_bits_of_the_definition(
        values in proptest::collection::vec(-1e6_f32..1e6, 1..70),
        cuts in proptest::collection::vec(any::<u32>(), 0..6),
        places_itself: bool,
    ) {
        let shards = u32::try_from(values.len()).unwrap();
        let mut bounds: Vec<u32> = cuts.iter().map(|cut| cut % (shards + 1)).collect();
        bounds.extend([0, shards]);
        bounds.sort_unstable();
        let (mut ranges, mut sums) = (Vec::new(), Vec::new());
        for bound in bounds.windows(2) {
            let block = bound[0]..bound[1];
            let mut sum = TreeSum::new(shards, block.clone());
            let mut buffers = vec![[f32::NAN]; sum.depth()];
            let mut slots: Vec<&mut [f32]> = buffers.iter_mut().map(|buffer| buffer.as_mut_slice()).collect();
            for shard in block.clone() {
                let value = values[shard as usize];
                if let Some(index) = sum.vacant().filter(|_| places_itself) {
                    slots[index][0] = value;
                    sum.push_placed(shard, &mut slots).unwrap();
                } else {
                    sum.push(shard, &[value], &mut slots).unwrap();
                }
            }
            prop_assert_eq!(sum.vacant(), None);
            let found = sum.finish().unwrap();
            prop_assert_eq!(found, tops(block.clone(), shards).len());
            sums.extend(buffers[..found].iter().map(|top| top[0]));
            ranges.extend(tops(block, shards));
        }
        let leaves: Vec<&[f32]> = sums.iter().map(std::slice::from_ref).collect();
        let mut out = [0.0];
        Completion::new(&ranges, shards).evaluate(&leaves, &mut out, &mut Vec::new());
        prop_assert_eq!(out[0].to_bits(), reference(&values, 0, shards).to_bits());
    }
}
