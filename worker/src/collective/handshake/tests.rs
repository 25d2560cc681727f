//! Who is let in, and what an attacker may make of what it has heard.

use super::*;
use crate::collective::Group;

fn membership(rank: usize) -> Membership {
    let peers = ["a:1", "b:2", "c:3"].map(str::to_owned).into();
    let group = Group::new(rank, 3, vec![0..1, 1..2, 2..3]).unwrap();
    Membership { run: "run".to_owned(), generation: 3, token: vec![7; 32], rank, peers, group }
}

fn credential(rank: usize) -> Credential {
    Credential::new(&membership(rank), offer(rank)).unwrap()
}

fn offer(rank: usize) -> Offer {
    Offer { pid: 100 + rank as u32, ..Offer::NONE }
}

#[test]
fn members_of_one_generation_recognise_each_other_and_learn_their_offers() {
    let (acceptor, dialer) = (credential(0), credential(2));
    let challenge = Challenge::draw().unwrap();
    let heard = Challenge::from_bytes(&challenge.to_bytes()).unwrap();
    let claim = dialer.claim(heard, 0).unwrap();
    let admitted = acceptor.admit(challenge, claim.bytes()).unwrap();
    assert_eq!((admitted.rank, admitted.offer), (2, offer(2)));
    assert_eq!(dialer.confirm(&claim, &admitted.answer), Some(offer(0)));
}

#[test]
fn whoever_is_of_another_generation_run_layout_or_secret_is_refused() {
    let acceptor = credential(0);
    let group = |shards, blocks| Group::new(1, shards, blocks).unwrap();
    let others = [
        Membership { run: "other".to_owned(), ..membership(1) },
        Membership { generation: 2, ..membership(1) },
        Membership { token: vec![8; 32], ..membership(1) },
        Membership { token: vec![7; 33], ..membership(1) },
        Membership { group: group(3, vec![0..2, 2..2, 2..3]), ..membership(1) },
        Membership { group: group(4, vec![0..1, 1..2, 2..4]), ..membership(1) },
    ];
    for other in others {
        let dialer = Credential::new(&other, Offer::NONE).unwrap();
        let challenge = Challenge::draw().unwrap();
        let claim = dialer.claim(challenge, 0).unwrap();
        assert_eq!(acceptor.admit(challenge, claim.bytes()), None, "{other:?}");
        // Nor does such a one pass for the member that was dialed.
        let claim = credential(2).claim(challenge, 1).unwrap();
        assert_eq!(dialer.admit(challenge, claim.bytes()), None, "{other:?}");
    }
}

#[test]
fn a_claim_fits_one_challenge_and_one_member_only() {
    let (first, second) = (credential(0), credential(1));
    let challenge = Challenge::draw().unwrap();
    let claim = credential(2).claim(challenge, 0).unwrap();
    assert!(first.admit(challenge, claim.bytes()).is_some());
    // Replayed to the same member, and passed on to another.
    assert_eq!(first.admit(Challenge::draw().unwrap(), claim.bytes()), None);
    assert_eq!(second.admit(challenge, claim.bytes()), None);
}

#[test]
fn an_answer_fits_one_claim_only() {
    let (acceptor, dialer) = (credential(0), credential(2));
    let challenge = Challenge::draw().unwrap();
    let overheard = dialer.claim(challenge, 0).unwrap();
    let answer = acceptor.admit(challenge, overheard.bytes()).unwrap().answer;
    // Even where an attacker asks the same again, the dialer's own number is another.
    let claim = dialer.claim(challenge, 0).unwrap();
    assert_eq!(dialer.confirm(&claim, &answer), None);
    assert!(dialer.confirm(&overheard, &answer).is_some());
}

#[test]
fn nothing_that_a_member_says_can_be_sent_back_to_it() {
    let member = credential(1);
    // It asks a caller, who asks the same back when this member dials.
    let challenge = Challenge::draw().unwrap();
    let claim = member.claim(challenge, 0).unwrap();
    assert_eq!(member.admit(challenge, claim.bytes()), None);
    // Its own proof, and its own offer with it, as the answer.
    let (speech, proof) = claim.bytes().split_at(SPEECH_BYTES);
    let mut answer = [0; ANSWER_BYTES];
    answer[..OFFER_BYTES].copy_from_slice(&speech[NONCE_BYTES + RANK_BYTES..]);
    answer[OFFER_BYTES..].copy_from_slice(proof);
    assert_eq!(member.confirm(&claim, &answer), None);
    // And one that claims to dial itself is nobody who dials it.
    let claim = member.claim(challenge, 1).unwrap();
    assert_eq!(member.admit(challenge, claim.bytes()), None);
}

#[test]
fn members_of_lower_ranks_do_not_dial_and_others_there_are_none() {
    let acceptor = credential(1);
    let challenge = Challenge::draw().unwrap();
    let claim = credential(0).claim(challenge, 1).unwrap();
    assert_eq!(acceptor.admit(challenge, claim.bytes()), None);
    for rank in [3, u32::MAX] {
        let beyond = Credential { rank, ..credential(2) };
        let claim = beyond.claim(challenge, 1).unwrap();
        assert_eq!(acceptor.admit(challenge, claim.bytes()), None);
    }
}

#[test]
fn a_single_bit_spoils_a_proof() {
    let (acceptor, dialer) = (credential(0), credential(1));
    let challenge = Challenge::draw().unwrap();
    let claim = dialer.claim(challenge, 0).unwrap();
    let answer = acceptor.admit(challenge, claim.bytes()).unwrap().answer;
    for bit in 0..CLAIM_BYTES * 8 {
        let mut spoilt = *claim.bytes();
        spoilt[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(acceptor.admit(challenge, &spoilt), None, "bit {bit}");
    }
    for bit in 0..ANSWER_BYTES * 8 {
        let mut spoilt = answer;
        spoilt[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(dialer.confirm(&claim, &spoilt), None, "bit {bit}");
    }
}

#[test]
fn the_secret_is_in_nothing_that_is_sent() {
    let secret: Vec<u8> = (0..32).collect();
    let credential = |rank| {
        Credential::new(&Membership { token: secret.clone(), ..membership(rank) }, offer(rank)).unwrap()
    };
    let challenge = Challenge::draw().unwrap();
    let claim = credential(2).claim(challenge, 0).unwrap();
    let answer = credential(0).admit(challenge, claim.bytes()).unwrap().answer;
    let sent = [challenge.to_bytes().as_slice(), claim.bytes(), &answer].concat();
    assert!(sent.windows(4).all(|part| !secret.windows(4).any(|secret| part == secret)));
}

#[test]
fn what_is_no_challenge_of_this_version_is_not_answered() {
    let mut bytes = Challenge::draw().unwrap().to_bytes();
    bytes[8] ^= 1;
    assert!(Challenge::from_bytes(&bytes).is_none());
    assert!(Challenge::from_bytes(&[0; CHALLENGE_BYTES]).is_none());
}

#[test]
fn a_membership_that_contradicts_itself_is_refused() {
    let refused = |membership: Membership| Credential::new(&membership, Offer::NONE).is_err();
    assert!(refused(Membership { token: vec![7; 15], ..membership(1) }));
    assert!(refused(Membership { rank: 0, ..membership(1) }));
    assert!(refused(Membership { peers: vec!["a:1".to_owned()], ..membership(1) }));
}
