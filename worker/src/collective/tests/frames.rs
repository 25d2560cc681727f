//! What a member that has gone astray may send: whatever it announces, nothing is taken on its word.

use proptest::prelude::*;

use super::super::MAX_PAYLOAD_BYTES;
use super::super::astray::{Operation, faced_with, frames};
use super::super::frame::{Header, Kind};
use super::*;

#[test]
fn a_payload_is_refused_by_its_announced_size() {
    for length_bytes in [MAX_PAYLOAD_BYTES as u64 + 1, 1 << 40, u64::MAX] {
        let header = Header { kind: Kind::PAYLOAD, sequence: 1, length_bytes };
        let error = faced_with(&header.to_bytes(), Operation::Gather).unwrap_err();
        let CollectiveError::PayloadTooLarge { rank: 1, bytes, limit_bytes } = error else {
            panic!("{error:?}")
        };
        assert_eq!((bytes, limit_bytes), (length_bytes, MAX_PAYLOAD_BYTES as u64));
    }
}

#[test]
fn sums_have_the_size_that_this_member_knows() {
    for length_bytes in [0, 201, 1 << 40, u64::MAX] {
        let header = Header { kind: Kind::PARTIALS, sequence: 1, length_bytes };
        let error = faced_with(&header.to_bytes(), Operation::Sum).unwrap_err();
        assert!(matches!(error, CollectiveError::Protocol { peer: 1, .. }), "{error:?}");
    }
}

#[test]
fn a_state_takes_no_more_memory_than_what_comes_of_it() {
    // As large as is allowed: more than there is here, and nothing of it comes.
    let length_bytes = 64 << 30;
    let header = Header { kind: Kind::STATE, sequence: 1, length_bytes }.to_bytes();
    let sent = [header.as_slice(), &1_u64.to_le_bytes(), &length_bytes.to_le_bytes(), b"a few"].concat();
    let error = faced_with(&sent, Operation::State).unwrap_err();
    let refused = matches!(
        error,
        CollectiveError::PeerLost { rank: 1, .. }
            | CollectiveError::System { what: "the memory for a state", .. }
    );
    assert!(refused, "{error:?}");
    let header = Header { kind: Kind::STATE, sequence: 1, length_bytes: length_bytes + 1 };
    let error = faced_with(&header.to_bytes(), Operation::State).unwrap_err();
    assert!(matches!(error, CollectiveError::PayloadTooLarge { rank: 1, .. }), "{error:?}");
}

proptest! {
    // PROPTEST_CASES makes it a fuzzer.
    #[test]
    fn whatever_comes_ends_in_an_error(
        kind in prop_oneof![0..6_u32, any::<u32>()],
        sequence in prop_oneof![0..3_u64, any::<u64>()],
        length in prop_oneof![0..300_u64, any::<u64>()],
        body in proptest::collection::vec(any::<u8>(), 0..300),
        cut in 0..400_usize,
        operation in prop_oneof![Just(Operation::Gather), Just(Operation::Sum), Just(Operation::State)],
    ) {
        let header = Header { kind: Kind(kind), sequence, length_bytes: length };
        let mut sent = [header.to_bytes().as_slice(), &body].concat();
        sent.truncate(cut);
        let is_a_whole_payload = matches!(operation, Operation::Gather)
            && (header.kind, sequence) == (Kind::PAYLOAD, 1)
            && sent.len() as u64 >= length.saturating_add(24);
        prop_assert_eq!(faced_with(&sent, operation).is_ok(), is_a_whole_payload);
    }
}

#[test]
fn what_a_fuzzer_found_worth_keeping_is_taken_or_refused() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/seeds/frames");
    let seeds: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!seeds.is_empty(), "{folder} is empty");
    for seed in seeds {
        frames(&std::fs::read(seed).unwrap());
    }
}
