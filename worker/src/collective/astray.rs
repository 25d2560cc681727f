//! A member whose other one sends whatever it likes: for the tests, and for a fuzzer of `tests/fuzz`.
#![allow(clippy::unwrap_used, reason = "a test in all but name")]

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

use super::handshake::{CHALLENGE_BYTES, Challenge};
use super::sharing::{Met, OFFER_BYTES, Offer};
use super::{Cancel, Collective, CollectiveError, Group, TcpMesh};

/// What comes on the data plane, for an operation that the first byte picks: it is taken or refused.
pub fn frames(data: &[u8]) {
    let Some((first, sent)) = data.split_first() else { return };
    let operation = match first % 3 {
        0 => Operation::Gather,
        1 => Operation::Sum,
        _ => Operation::State,
    };
    if let Some(challenge) = sent.first_chunk::<CHALLENGE_BYTES>() {
        Challenge::from_bytes(challenge);
    }
    if let Some(offer) = sent.first_chunk::<OFFER_BYTES>() {
        Offer::from_bytes(offer);
    }
    drop(faced_with(sent, operation));
}

/// A member of two, and the bare connection that stands for the other.
fn opposite() -> (TcpMesh, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let stream = Arc::new(listener.accept().unwrap().0);
    let group = Group::new(0, 2, vec![0..1, 1..2]).unwrap();
    (TcpMesh::new(group, vec![None, Some(Met { stream, region: None })], None, Cancel::new()), other)
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    Gather,
    Sum,
    State,
}

/// What becomes of an operation in which the other sends this and no more.
pub(crate) fn faced_with(sent: &[u8], operation: Operation) -> Result<(), CollectiveError> {
    let (mut mesh, mut other) = opposite();
    other.write_all(sent).unwrap();
    // It still takes what it is sent, so that only what it has said counts.
    other.shutdown(Shutdown::Write).unwrap();
    match operation {
        Operation::Gather => mesh.all_gather(b"own").map(drop),
        Operation::Sum => mesh.all_reduce(&[&[1.0; 100]], &mut [0.0; 100]),
        Operation::State => mesh.send_state(1, &[0], &[]).map(drop),
    }
}
