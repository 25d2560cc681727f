//! The members of small clusters, each in a thread, over real sockets.

mod frames;
mod shared;
mod state;
mod strangers;
mod waiting;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::thread;
use std::time::Duration;

use super::handshake::{ANSWER_BYTES, CHALLENGE_BYTES, CLAIM_BYTES, Challenge, Credential};
use super::sharing::{Offer, Sharing};
use super::{Cancel, Collective, CollectiveError, Group, Listener, Membership, Solo, TcpMesh, TreeSum};

/// Far longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

fn listeners(world_size: usize) -> (Vec<Listener>, Vec<String>) {
    let listeners: Vec<_> = (0..world_size).map(|_| Listener::bind("127.0.0.1:0").unwrap()).collect();
    let peers = listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
    (listeners, peers)
}

fn membership(generation: u64, rank: usize, peers: &[String], blocks: &[Range<u32>]) -> Membership {
    let shards = blocks.last().unwrap().end;
    Membership {
        run: "test".to_owned(),
        generation,
        token: vec![42; 16],
        rank,
        peers: peers.to_vec(),
        group: Group::new(rank, shards, blocks.to_vec()).unwrap(),
    }
}

/// What is asked of whoever dials a member.
fn challenged(mut stream: &TcpStream) -> Challenge {
    let mut challenge = [0; CHALLENGE_BYTES];
    stream.read_exact(&mut challenge).unwrap();
    Challenge::from_bytes(&challenge).unwrap()
}

/// Answers as the member would that dials `acceptor`; what was said.
fn claim(mut stream: &TcpStream, membership: &Membership, acceptor: usize) -> [u8; CLAIM_BYTES] {
    let credential = Credential::new(membership, Offer::NONE).unwrap();
    let claim = *credential.claim(challenged(stream), acceptor).unwrap().bytes();
    stream.write_all(&claim).unwrap();
    claim
}

/// Runs `act` on every member of a fresh mesh, which share memory; the results by rank.
fn on_mesh<T: Send>(blocks: &[Range<u32>], act: impl Fn(TcpMesh, &Group) -> T + Sync) -> Vec<T> {
    on_mesh_sharing(blocks, |_| Sharing::offered(), act)
}

/// The same, each member with what it offers to share.
fn on_mesh_sharing<T: Send>(
    blocks: &[Range<u32>],
    sharing: impl Fn(usize) -> Sharing,
    act: impl Fn(TcpMesh, &Group) -> T + Sync,
) -> Vec<T> {
    on_mesh_cancelled(blocks, sharing, |mesh, group, _| act(mesh, group))
}

/// The same, each member with what calls it off.
fn on_mesh_cancelled<T: Send>(
    blocks: &[Range<u32>],
    sharing: impl Fn(usize) -> Sharing,
    act: impl Fn(TcpMesh, &Group, Cancel) -> T + Sync,
) -> Vec<T> {
    let (listeners, peers) = listeners(blocks.len());
    let (act, peers) = (&act, &peers);
    thread::scope(|scope| {
        let members = listeners.iter().enumerate().map(|(rank, listener)| {
            let sharing = sharing(rank);
            scope.spawn(move || {
                let membership = membership(1, rank, peers, blocks);
                let cancel = Cancel::new();
                let mesh = TcpMesh::connect_sharing(listener, &membership, DEADLINE, &cancel, sharing);
                act(mesh.unwrap(), &membership.group, cancel)
            })
        });
        let members: Vec<_> = members.collect();
        members.into_iter().map(|member| member.join().unwrap()).collect()
    })
}

/// A shard's gradient: floats of all magnitudes, so that another order of addition shows.
fn gradient(shard: u32, length: usize) -> Vec<f32> {
    let mut state = u64::from(shard) * 0x9e37_79b9 + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Sign and fraction at random, the exponent within 2^±16 of 1.
        let bits = (state >> 32) as u32;
        f32::from_bits((bits & 0x807f_ffff) | ((111 + (bits >> 23) % 32) << 23))
    };
    (0..length).map(|_| next()).collect()
}

/// The tops of the member's block.
fn tops_of_block(group: &Group, length: usize) -> Vec<Vec<f32>> {
    let mut sum = TreeSum::new(group.shards(), group.block());
    let mut tops = vec![vec![0.0; length]; sum.depth()];
    let mut buffers: Vec<&mut [f32]> = tops.iter_mut().map(Vec::as_mut_slice).collect();
    for shard in group.block() {
        sum.push(shard, &gradient(shard, length), &mut buffers).unwrap();
    }
    tops.truncate(sum.finish().unwrap());
    tops
}

/// What [`Collective::all_reduce`] makes of the member's block.
fn sum_of_all(
    collective: &mut dyn Collective,
    group: &Group,
    length: usize,
) -> Result<Vec<f32>, CollectiveError> {
    let (tops, mut out) = (tops_of_block(group, length), vec![f32::NAN; length]);
    let tops: Vec<&[f32]> = tops.iter().map(Vec::as_slice).collect();
    collective.all_reduce(&tops, &mut out).map(|()| out)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Even blocks, everything on the last member, and everything but one shard on the first.
fn placements(world_size: u32, shards: u32) -> Vec<Vec<Range<u32>>> {
    let even = (0..world_size).map(|rank| rank * shards / world_size..(rank + 1) * shards / world_size);
    let last = (0..world_size).map(|rank| if rank + 1 < world_size { 0..0 } else { 0..shards });
    let first = (0..world_size).map(|rank| match rank {
        0 if world_size == 1 => 0..shards,
        0 => 0..shards - 1,
        1 => shards - 1..shards,
        _ => shards..shards,
    });
    vec![even.collect(), last.collect(), first.collect()]
}

/// All on one host, all on hosts of their own, and both kinds of pairs in one group.
fn hosts(rank: usize, shape: usize) -> Sharing {
    let alone = [false, true, rank.is_multiple_of(3)][shape];
    if alone { Sharing::none() } else { Sharing::offered() }
}

#[test]
fn any_placement_on_any_hosts_sums_to_the_bits_of_a_world_of_one() {
    // The longest takes several pieces per member, the last of them short.
    let lengths = [0, 1, 97, 140_009];
    for shards in [1, 2, 3, 4, 5, 7, 8] {
        let alone = Group::new(0, shards, vec![0..shards; 1]).unwrap();
        let expected = lengths.map(|length| bits(&sum_of_all(&mut Solo, &alone, length).unwrap()));
        for world_size in 1..=5 {
            for (index, blocks) in placements(world_size, shards).into_iter().enumerate() {
                // Every shape of hosts meets every placement and every world size, if not every number of shards.
                let shape = (index + shards as usize) % 3;
                let sums = on_mesh_sharing(
                    &blocks,
                    |rank| hosts(rank, shape),
                    |mut mesh, group| {
                        lengths.map(|length| bits(&sum_of_all(&mut mesh, group, length).unwrap()))
                    },
                );
                assert!(sums.iter().all(|sums| *sums == expected), "{shards} shards as {blocks:?}, {shape}");
            }
        }
    }
}

#[test]
fn payloads_of_any_size_reach_everybody_by_rank() {
    // Small ones, one too large for any socket buffer, none.
    let payload = |rank: usize, round: usize| vec![rank as u8; [3, 9 << 20, 0, 5000][(rank + round) % 4]];
    let gathered = on_mesh(&[0..1, 1..2, 2..3], |mut mesh, _| {
        (0..4).map(|round| mesh.all_gather(&payload(mesh.rank(), round)).unwrap()).collect::<Vec<_>>()
    });
    for gathered in gathered {
        for (round, payloads) in gathered.iter().enumerate() {
            assert_eq!(payloads.len(), 3);
            assert!(payloads.iter().enumerate().all(|(rank, found)| *found == payload(rank, round)));
        }
    }
}

#[test]
fn a_payload_beyond_the_limit_is_refused_before_anything_is_sent() {
    on_mesh(&[0..1, 1..2], |mut mesh, _| {
        let refused = mesh.all_gather(&vec![0; super::MAX_PAYLOAD_BYTES + 1]);
        assert!(matches!(refused, Err(CollectiveError::PayloadTooLarge { .. })));
        assert_eq!(mesh.all_gather(b"x").unwrap().len(), 2);
    });
}

#[test]
fn the_next_generation_meets_at_the_same_addresses() {
    let (listeners, peers) = listeners(3);
    let blocks = [0..1, 1..2, 2..2];
    thread::scope(|scope| {
        for (rank, listener) in listeners.iter().enumerate() {
            let (peers, blocks) = (&peers, &blocks);
            scope.spawn(move || {
                // Nobody waits between generations, so callers of the next one meet acceptors of the former.
                for generation in 1..10 {
                    let membership = membership(generation, rank, peers, blocks);
                    let mut mesh = TcpMesh::connect(listener, &membership, DEADLINE, &Cancel::new()).unwrap();
                    assert_eq!(mesh.all_gather(&generation.to_le_bytes()).unwrap().len(), 3);
                }
            });
        }
    });
}

#[test]
fn who_is_missing_is_named() {
    let (listeners, peers) = listeners(3);
    let membership = membership(1, 1, &peers, &[0..1, 1..2, 2..3]);
    let error = TcpMesh::connect(&listeners[1], &membership, Duration::from_millis(30), &Cancel::new());
    assert!(
        matches!(&error, Err(CollectiveError::ConnectTimeout { missing, .. }) if *missing == [0, 2]),
        "{error:?}"
    );
}

#[test]
fn a_peers_death_ends_the_others_operation() {
    // Rank 2 dies instead of taking part; the buffers are too large to fit into the sockets.
    let errors = on_mesh(&[0..1, 1..2, 2..3], |mut mesh, group| {
        if mesh.rank() == 2 {
            return None;
        }
        let error = sum_of_all(&mut mesh, group, 5_000_000).unwrap_err();
        let next = mesh.all_gather(b"").unwrap_err();
        Some((error, next))
    });
    for (rank, errors) in errors.into_iter().enumerate().take(2) {
        let (error, next) = errors.unwrap();
        assert!(matches!(error, CollectiveError::PeerLost { rank: lost, .. } if lost != rank), "{error:?}");
        assert!(matches!(next, CollectiveError::Closed), "{next:?}");
    }
}

#[test]
fn members_in_different_operations_notice() {
    let errors = on_mesh(&[0..1, 1..2], |mut mesh, group| {
        let result = match mesh.rank() {
            0 => mesh.all_gather(b"").map(drop),
            _ => sum_of_all(&mut mesh, group, 10).map(drop),
        };
        result.unwrap_err()
    });
    // Whoever notices first closes the connection, and the other may see only that.
    assert!(errors.iter().any(|error| matches!(error, CollectiveError::Protocol { .. })), "{errors:?}");
}

#[test]
fn members_with_different_lengths_notice() {
    let errors = on_mesh(&[0..1, 1..2], |mut mesh, group| {
        let length = 10 + 10 * mesh.rank();
        sum_of_all(&mut mesh, group, length).unwrap_err()
    });
    assert!(errors.iter().any(|error| matches!(error, CollectiveError::Protocol { .. })), "{errors:?}");
}

#[test]
fn a_wrong_number_of_tops_is_refused() {
    on_mesh(&[0..3, 3..4], |mut mesh, _| {
        let refused = mesh.all_reduce(&[], &mut []).unwrap_err();
        assert!(matches!(refused, CollectiveError::Length { .. }));
        assert_eq!(mesh.all_gather(b"still there").unwrap().len(), 2);
    });
}

#[test]
fn cancel_ends_a_blocked_connect() {
    let (listeners, peers) = listeners(3);
    // Rank 0 waits for callers; rank 2 has dialed rank 1 in vain; rank 1 never comes.
    thread::scope(|scope| {
        for rank in [0, 2] {
            let (cancel, membership) = (Cancel::new(), membership(1, rank, &peers, &[0..1, 1..2, 2..3]));
            let (listener, handle) = (&listeners[rank], cancel.clone());
            let member = scope.spawn(move || TcpMesh::connect(listener, &membership, DEADLINE, &handle));
            cancel.cancel();
            assert!(matches!(member.join().unwrap(), Err(CollectiveError::Cancelled)));
        }
    });
}

#[test]
fn cancel_ends_blocked_operations_large_and_small() {
    let (listeners, peers) = listeners(2);
    let blocks = [0..1, 1..2];
    let connect = |rank: usize, cancel: Cancel| {
        let membership = membership(1, rank, &peers, &blocks);
        TcpMesh::connect(&listeners[rank], &membership, DEADLINE, &cancel).unwrap()
    };
    for large in [true, false] {
        thread::scope(|scope| {
            let cancel = Cancel::new();
            let handle = cancel.clone();
            let (began, begins) = std::sync::mpsc::channel();
            let member = scope.spawn(move || {
                let mut mesh = connect(0, handle);
                began.send(()).unwrap();
                let gradient = vec![1.0; if large { 5_000_000 } else { 1 }];
                let error = mesh.all_reduce(&[&gradient], &mut gradient.clone()).unwrap_err();
                (error, mesh.all_gather(b"").unwrap_err())
            });
            // Connected, but never enters the operation.
            let _idle = connect(1, Cancel::new());
            begins.recv().unwrap();
            cancel.cancel();
            let (error, next) = member.join().unwrap();
            assert!(matches!(error, CollectiveError::Cancelled), "{error:?}");
            assert!(matches!(next, CollectiveError::Cancelled), "{next:?}");
        });
    }
}
