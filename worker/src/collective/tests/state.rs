//! A state that travels: whole to those who lack it, or not at all.

use std::net::TcpListener;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::super::frame::{HEADER_BYTES, Header, Kind};
use super::super::sharing::Met;
use super::*;

#[test]
fn those_without_get_the_state_and_the_others_go_on_at_once() {
    // Together far more than fits into sockets; one part empty.
    let parts = [vec![1; 20 << 20], vec![], (0..3_000_017_u32).map(|at| at as u8).collect::<Vec<u8>>()];
    let got = on_mesh(&[0..1, 1..2, 2..3, 3..3], |mut mesh, _| {
        let own: Vec<&[u8]> =
            if mesh.rank() == 2 { parts.iter().map(Vec::as_slice).collect() } else { vec![] };
        let got = mesh.send_state(2, &[0, 3], &own).unwrap();
        // They are still in step.
        assert_eq!(mesh.all_gather(&[mesh.rank() as u8]).unwrap(), [[0], [1], [2], [3]]);
        got
    });
    let expected = Some(parts.to_vec());
    assert!(got == [expected.clone(), None, None, expected]);
}

/// What the receiver makes of `sent`; the sender then closes.
fn received(sent: &[u8]) -> CollectiveError {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let stream = Arc::new(listener.accept().unwrap().0);
    let group = Group::new(0, 2, vec![0..1, 1..2]).unwrap();
    let mut mesh = TcpMesh::new(group, vec![None, Some(Met { stream, region: None })], None, Cancel::new());
    sender.write_all(sent).unwrap();
    drop(sender);
    mesh.send_state(1, &[0], &[]).unwrap_err()
}

#[test]
fn a_state_that_is_cut_off_or_damaged_anywhere_does_not_arrive() {
    let header = |length_bytes| Header { kind: Kind::STATE, sequence: 1, length_bytes }.to_bytes().to_vec();
    let mut body = [2_u64, 3, 0].map(u64::to_le_bytes).concat();
    body.extend(b"abc");
    let digest = Sha256::digest(&body).to_vec();
    let whole = [header(3), body.clone(), digest.clone()].concat();
    for length in 0..whole.len() {
        let error = received(&whole[..length]);
        assert!(matches!(error, CollectiveError::PeerLost { rank: 1, .. }), "{length}: {error:?}");
    }
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        let error = received(&damaged);
        let in_header = at < HEADER_BYTES;
        let told = match error {
            CollectiveError::Protocol { peer: 1, .. } => in_header,
            CollectiveError::Damaged { rank: 1, .. } | CollectiveError::PayloadTooLarge { .. } => true,
            // A length that is larger than what comes.
            CollectiveError::PeerLost { rank: 1, .. } => true,
            _ => false,
        };
        assert!(told, "{at}: {error:?}");
    }
    // Beyond what any memory has, and parts that add up to more than a u64 holds.
    let error = received(&[header(1 << 60), body].concat());
    assert!(matches!(error, CollectiveError::PayloadTooLarge { rank: 1, .. }), "{error:?}");
    let body = [2, u64::MAX, 4].map(u64::to_le_bytes).concat();
    let error = received(&[header(3), body].concat());
    assert!(matches!(error, CollectiveError::Damaged { rank: 1, .. }), "{error:?}");
}

#[test]
fn cancel_and_death_end_a_transfer_on_both_sides() {
    let (listeners, peers) = listeners(2);
    let blocks = [0..1, 1..2];
    let state = vec![7; 50 << 20];
    for cancelled in [0, 1] {
        thread::scope(|scope| {
            let members = [0, 1].map(|rank| {
                let (listener, peers, blocks, state) = (&listeners[rank], &peers, &blocks, &state);
                scope.spawn(move || {
                    let cancel = Cancel::new();
                    let membership = membership(1, rank, peers, blocks);
                    let mut mesh = TcpMesh::connect(listener, &membership, DEADLINE, &cancel).unwrap();
                    if rank == cancelled {
                        // The other side is in the middle of it, or about to be.
                        cancel.cancel();
                    }
                    mesh.send_state(0, &[1], &[state]).unwrap_err()
                })
            });
            let errors = members.map(|member| member.join().unwrap());
            for (rank, error) in errors.iter().enumerate() {
                let right = match error {
                    CollectiveError::Cancelled => rank == cancelled,
                    CollectiveError::PeerLost { rank: lost, .. } => rank != cancelled && *lost == cancelled,
                    _ => false,
                };
                assert!(right, "{cancelled}: {errors:?}");
            }
        });
    }
}
