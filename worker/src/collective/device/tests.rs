//! Sums of members in threads, and how they agree on their way.

use std::ops::Range;
use std::thread;
use std::time::Duration;

use tch::Tensor;

use super::rehearsal::Rehearsal;
use super::*;
use crate::collective::{Cancel, Collective, Group, Listener, Membership, TcpMesh};

const LENGTH: usize = 103;
/// Parts in the order in which backward completes them; one is empty.
const PARTS: [Range<usize>; 4] = [60..103, 20..60, 20..20, 0..20];

/// Runs `act` on every member of a fresh mesh; the results by rank.
fn on_members<T: Send>(blocks: &[Range<u32>], act: impl Fn(&mut TcpMesh, &Group) -> T + Sync) -> Vec<T> {
    let listeners: Vec<_> = blocks.iter().map(|_| Listener::bind("127.0.0.1:0").unwrap()).collect();
    let peers: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
    let shards = blocks.last().unwrap().end;
    thread::scope(|scope| {
        let (act, peers) = (&act, &peers);
        let members = listeners.iter().enumerate().map(|(rank, listener)| {
            scope.spawn(move || {
                let group = Group::new(rank, shards, blocks.to_vec()).unwrap();
                let (token, peers) = (vec![1; 16], peers.clone());
                let membership =
                    Membership { run: "test".to_owned(), generation: 1, token, rank, peers, group };
                let timeout = Duration::from_secs(60);
                let mut mesh = TcpMesh::connect(listener, &membership, timeout, &Cancel::new()).unwrap();
                act(&mut mesh, &membership.group)
            })
        });
        let members: Vec<_> = members.collect();
        members.into_iter().map(|member| member.join().unwrap()).collect()
    })
}

/// Shard `shard`'s values in step `step`: of all magnitudes, so that another order of addition shows.
fn values(shard: u32, step: u32) -> Tensor {
    let value = |at: usize| {
        let mixed =
            (u64::from(shard * 31 + step) * 1_000_003 + at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (((mixed >> 24) as u32 & 0xffff) as f32 - 32_768.0) * 2.0_f32.powi((mixed >> 60) as i32 - 8)
    };
    Tensor::from_slice(&(0..LENGTH).map(value).collect::<Vec<_>>())
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    Vec::<f32>::try_from(tensor).unwrap().into_iter().map(f32::to_bits).collect()
}

/// Two steps of one member.
fn sums(group: &Group, link: &mut dyn DeviceLink, exact: bool) -> Vec<Vec<u32>> {
    let mut check = || Ok(());
    let like = Tensor::zeros([LENGTH as i64], (tch::Kind::Float, tch::Device::Cpu));
    let mut sum = DeviceSum::new(&like, PARTS.to_vec(), group, exact).unwrap();
    let step = |step| {
        for shard in group.block() {
            let values = values(shard, step);
            for part in 0..PARTS.len() {
                sum.add(part, shard, &values, link, &mut check).unwrap();
            }
        }
        bits(sum.finish(link, &mut check).unwrap())
    };
    (0..2).map(step).collect()
}

fn linked(mesh: &mut TcpMesh, opener: &Rehearsal) -> Box<dyn DeviceLink> {
    match agree(mesh, Some(Ok(opener))).unwrap() {
        Agreement::Device(link) => link,
        Agreement::Host { reasons } => panic!("{reasons:?}"),
    }
}

fn alone(shards: u32) -> Vec<Vec<u32>> {
    sums(&Group::new(0, shards, std::iter::once(0..shards).collect()).unwrap(), &mut Alone, true)
}

#[test]
fn any_placement_sums_to_the_bits_of_a_world_of_one() {
    for blocks in [
        &[0..1, 1..2][..],
        &[0..3, 3..4],
        &[0..1, 1..1, 1..5],
        &[0..2, 2..4, 4..6, 6..8],
        &[0..1, 1..4, 4..7],
        &[0..0, 0..7, 7..7],
    ] {
        let expected = alone(blocks.last().unwrap().end);
        let meeting = Rehearsal::default();
        let found = on_members(blocks, |mesh, group| sums(group, &mut *linked(mesh, &meeting), true));
        assert!(found.iter().all(|found| *found == expected), "{blocks:?}");
        assert!(meeting.operations() > 0);
    }
}

#[test]
fn the_fast_way_gives_all_members_the_same_sum() {
    let blocks = [0..1, 1..1, 1..4];
    let meeting = Rehearsal::default();
    let found = on_members(&blocks, |mesh, group| sums(group, &mut *linked(mesh, &meeting), false));
    assert!(found.iter().all(|sums| *sums == found[0]));
    for (found, exact) in found[0].iter().flatten().zip(alone(4).iter().flatten()) {
        let (found, exact) = (f32::from_bits(*found), f32::from_bits(*exact));
        // Terms reach 2^22, and cancel.
        assert!((found - exact).abs() <= 4.0, "{found} {exact}");
    }
}

#[test]
fn shards_out_of_turn_are_refused() {
    let group = Group::new(0, 3, std::iter::once(0..3).collect()).unwrap();
    let mut sum = DeviceSum::new(&values(0, 0), PARTS.to_vec(), &group, true).unwrap();
    let mut check = || Ok(());
    assert!(sum.add(0, 1, &values(1, 0), &mut Alone, &mut check).is_err());
    sum.add(0, 0, &values(0, 0), &mut Alone, &mut check).unwrap();
    assert!(sum.finish(&mut Alone, &mut check).is_err(), "shards 1 and 2 are missing");
}

#[test]
fn one_member_that_cannot_takes_all_through_the_host() {
    let way = |openers: [Option<Result<Rehearsal, String>>; 3]| {
        let found = on_members(&[0..1, 1..2, 2..3], |mesh, group| {
            let opener = openers[group.rank()].as_ref();
            let opener = opener
                .map(|opener| opener.as_ref().map(|opener| opener as &dyn Opener).map_err(Clone::clone));
            match agree(mesh, opener).unwrap() {
                Agreement::Device(_) => None,
                Agreement::Host { reasons } => Some(reasons),
            }
        });
        assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
        found[0].clone()
    };
    let meeting = Rehearsal::default();
    let able = || Some(Ok(meeting.clone()));
    assert_eq!(way([able(), able(), able()]), None);
    assert_eq!(way([None, None, None]), Some(vec![]), "GPUs that nobody has are no obstacle");
    assert_eq!(way([able(), None, able()]), Some(vec![(1, "it computes on the CPU".to_owned())]));
    let unable = || Some(Err("NCCL is too old".to_owned()));
    assert_eq!(way([unable(), able(), able()]), Some(vec![(0, "NCCL is too old".to_owned())]));
    let broken = Some(Ok(meeting.broken()));
    let failed = "meeting failed on the device: as planned".to_owned();
    assert_eq!(way([able(), able(), broken]), Some(vec![(2, failed)]));
}

#[test]
fn a_member_that_is_gone_ends_the_others_wait() {
    let meeting = Rehearsal::default();
    let ends = on_members(&[0..1, 1..2], |mesh, group| {
        let mut link = linked(mesh, &meeting);
        if group.rank() == 1 {
            return None; // and its connections close
        }
        let mut sum = DeviceSum::new(&values(0, 0), PARTS.to_vec(), group, true).unwrap();
        sum.add(0, 0, &values(0, 0), &mut *link, &mut || mesh.check()).err()
    });
    assert!(matches!(ends[0], Some(CollectiveError::PeerLost { rank: 1, .. })), "{ends:?}");
}
