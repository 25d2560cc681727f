//! Sums through shared memory: who shares with whom, and what a death or a cancel in the middle does.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use super::super::Observer;
use super::*;

/// Which peers' memory each member sees.
fn sights(world_size: u32, sharing: impl Fn(usize) -> Sharing) -> Vec<Vec<usize>> {
    let blocks: Vec<_> = (0..world_size).map(|rank| rank..rank + 1).collect();
    on_mesh_sharing(&blocks, sharing, |mut mesh, group| {
        let seen = mesh.shares_memory_with();
        // Whatever they share, it sums to the same.
        let alone = Group::new(0, world_size, vec![0..world_size; 1]).unwrap();
        let expected = sum_of_all(&mut Solo, &alone, 1000).unwrap();
        assert_eq!(bits(&sum_of_all(&mut mesh, group, 1000).unwrap()), bits(&expected));
        seen
    })
}

#[test]
fn members_on_one_host_share_memory_and_others_do_not() {
    assert_eq!(sights(3, |_| Sharing::offered()), [vec![1, 2], vec![0, 2], vec![0, 1]]);
    assert_eq!(sights(2, |_| Sharing::none()), [[0; 0], []]);
    let mixed = |rank| if rank == 1 { Sharing::none() } else { Sharing::offered() };
    assert_eq!(sights(3, mixed), [vec![2], vec![], vec![0]]);
}

/// Rank 1 tells something wrong of its memory; the others do not.
fn liar(change: impl Fn(&mut Offer)) -> impl Fn(usize) -> Sharing {
    move |rank| {
        let mut sharing = Sharing::offered();
        if rank == 1 {
            change(&mut sharing.offer);
        }
        sharing
    }
}

#[test]
fn a_pair_of_which_one_cannot_open_the_others_memory_falls_back_on_both_sides() {
    let pairs = [vec![2], vec![], vec![0]];
    // A handle that is not open, a process that is not there, another member's memory, another host.
    assert_eq!(sights(3, liar(|offer| offer.handle = i32::MAX)), pairs);
    assert_eq!(sights(3, liar(|offer| offer.pid = u32::MAX)), pairs);
    assert_eq!(sights(3, liar(|offer| offer.mark[3] ^= 1)), pairs);
    assert_eq!(sights(3, liar(|offer| offer.host[0] ^= 1)), pairs);
}

#[test]
fn parts_are_summed_in_place_and_leave_the_rest_alone() {
    let length = 70_000;
    let part = 1001..69_002;
    let sums = on_mesh(&[0..3, 3..4, 4..4], |mut mesh, group| {
        let tops = tops_of_block(group, length);
        let mut buffers = mesh.buffers(tops.len() + 1, length).unwrap();
        for _ in 0..3 {
            buffers.sum_mut().fill(9.0);
            for (buffer, top) in buffers.parts_mut(0..length).into_iter().zip(&tops) {
                buffer[part.clone()].copy_from_slice(&top[part.clone()]);
            }
            mesh.all_reduce_in(&mut buffers, part.clone()).unwrap();
        }
        let beyond = mesh.all_reduce_in(&mut buffers, 0..length + 1);
        assert!(matches!(beyond, Err(CollectiveError::Length { .. })));
        assert!(
            [&buffers.sum()[..part.start], &buffers.sum()[part.end..]].concat().iter().all(|v| *v == 9.0)
        );
        bits(&buffers.sum()[part.clone()])
    });
    let alone = Group::new(0, 4, vec![0..4; 1]).unwrap();
    let expected = bits(&sum_of_all(&mut Solo, &alone, length).unwrap()[part]);
    assert!(sums.iter().all(|sum| *sum == expected));
}

#[test]
fn buffers_of_another_group_are_refused() {
    let mut strange = Solo.buffers(1, 10).unwrap();
    strange.sum_mut().fill(1.0);
    let strange = Mutex::new(strange);
    on_mesh(&[0..1, 1..2], |mut mesh, _| {
        let refused = mesh.all_reduce_in(&mut strange.lock().unwrap(), 0..10);
        assert!(matches!(refused, Err(CollectiveError::InvalidGroup(_))), "{refused:?}");
    });
}

/// What comes of a sum in which this member is called off at the moment when rank 0 waits for rank 1's chunk: rank 1 has
/// told where its tops lie, and then stands still until that has happened.
fn called_off(blocks: &[Range<u32>], called_off: usize) -> Vec<Result<(), CollectiveError>> {
    let ((cancels, to_cancel), (stands, released)) = (channel::<Cancel>(), channel::<()>());
    let (to_cancel, released) = (Mutex::new(to_cancel), Mutex::new(Some(released)));
    on_mesh_cancelled(
        blocks,
        |_| Sharing::offered(),
        |mut mesh, group, cancel| {
            if mesh.rank() == called_off {
                cancels.send(cancel.clone()).unwrap();
            }
            match mesh.rank() {
                0 => {
                    let cancel = to_cancel.lock().unwrap().recv_timeout(DEADLINE).unwrap();
                    let (stands, waits) = (stands.clone(), AtomicUsize::new(0));
                    mesh.observe(Observer::new(move |rank| {
                        // First for the tops, then for the chunk.
                        if rank == 1 && waits.fetch_add(1, Ordering::SeqCst) == 1 {
                            cancel.cancel();
                            let _ = stands.send(());
                        }
                    }));
                }
                1 => {
                    let released = Mutex::new(released.lock().unwrap().take());
                    mesh.observe(Observer::new(move |_| {
                        if let Some(released) = released.lock().unwrap().take() {
                            released.recv_timeout(DEADLINE).unwrap();
                        }
                    }));
                }
                _ => {}
            }
            let result = sum_of_all(&mut mesh, group, 1000).map(drop);
            assert!(mesh.all_gather(b"").is_err());
            result
        },
    )
}

#[test]
fn a_peers_death_between_its_tops_and_its_chunk_ends_the_sum() {
    // To the others, a member that closes its connections is a dead one.
    let results = called_off(&[0..1, 1..2, 2..3], 1);
    assert!(matches!(results[1], Err(CollectiveError::Cancelled)), "{results:?}");
    for result in [&results[0], &results[2]] {
        assert!(matches!(result, Err(CollectiveError::PeerLost { .. })), "{results:?}");
    }
}

#[test]
fn cancel_ends_the_wait_for_a_chunk() {
    let results = called_off(&[0..1, 1..2], 0);
    assert!(matches!(results[0], Err(CollectiveError::Cancelled)), "{results:?}");
    // The other one may have all that it needs by then; it notices with the next operation at the latest.
    let lost = |error: &CollectiveError| matches!(error, CollectiveError::PeerLost { rank: 0, .. });
    assert!(results[1].as_ref().err().is_none_or(lost), "{results:?}");
}
