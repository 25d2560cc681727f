//! Whoever is no member may call, listen in, answer in a member's place, or only keep everybody waiting.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const BLOCKS: [Range<u32>; 2] = [0..1, 1..2];

/// Both members meet, whatever else goes on, and sum.
fn members_meet(listeners: &[Listener], peers: &[String]) {
    thread::scope(|scope| {
        for (rank, listener) in listeners.iter().enumerate() {
            let membership = membership(2, rank, peers, &BLOCKS);
            scope.spawn(move || {
                let mut mesh = TcpMesh::connect(listener, &membership, DEADLINE, &Cancel::new()).unwrap();
                assert_eq!(mesh.all_gather(&[rank as u8]).unwrap(), [[0], [1]]);
            });
        }
    });
}

/// All that a caller hears before it is sent away.
fn heard_by(mut caller: &TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let _ = caller.read_to_end(&mut heard);
    heard
}

#[test]
fn strangers_and_former_generations_are_refused_and_the_right_ones_still_get_in() {
    let (listeners, peers) = listeners(2);
    let call = || TcpStream::connect(&peers[0]).unwrap();
    let (stale, itself, guess, mut garbage, silent) = (call(), call(), call(), call(), call());
    garbage.write_all(&[7; 500]).unwrap();
    thread::scope(|scope| {
        let peers = &peers;
        // Each knows something: the secret of a generation that is over, the secret and a rank that does not dial, all but
        // the secret.
        scope.spawn(|| claim(&stale, &membership(1, 1, peers, &BLOCKS), 0));
        scope.spawn(|| claim(&itself, &membership(2, 0, peers, &BLOCKS), 0));
        let unknowing = Membership { token: vec![0; 16], ..membership(2, 1, peers, &BLOCKS) };
        let guess = &guess;
        scope.spawn(move || claim(guess, &unknowing, 0));
        members_meet(&listeners, peers);
        drop(silent);
    });
    // They are told nothing but a random number, and the one that did not read it may have lost it.
    for refused in [&stale, &itself, &guess] {
        assert!(heard_by(refused).is_empty());
    }
    assert!([0, CHALLENGE_BYTES].contains(&heard_by(&garbage).len()));
}

#[test]
fn a_claim_that_was_overheard_opens_nothing() {
    let (listeners, peers) = listeners(2);
    // What members said to each other when they met, as somebody on their way has seen it.
    let wire = TcpListener::bind("127.0.0.1:0").unwrap();
    let tapped = [wire.local_addr().unwrap().to_string(), peers[1].clone()];
    let overheard = thread::scope(|scope| {
        let overheard = scope.spawn(|| {
            let (dialer, _) = wire.accept().unwrap();
            let acceptor = TcpStream::connect(&peers[0]).unwrap();
            let pass = |mut from: &TcpStream, mut to: &TcpStream, bytes: usize| {
                let mut said = vec![0; bytes];
                from.read_exact(&mut said).unwrap();
                to.write_all(&said).unwrap();
                said
            };
            pass(&acceptor, &dialer, CHALLENGE_BYTES);
            let claim = pass(&dialer, &acceptor, CLAIM_BYTES);
            let answer = pass(&acceptor, &dialer, ANSWER_BYTES);
            // The members have met; whether they share memory is of no interest.
            drop((acceptor, dialer));
            (claim, answer)
        });
        for (rank, listener) in listeners.iter().enumerate() {
            let membership = membership(2, rank, &tapped, &BLOCKS);
            scope.spawn(move || {
                let _ = TcpMesh::connect(listener, &membership, Duration::from_secs(1), &Cancel::new());
            });
        }
        overheard.join().unwrap()
    });
    let (claim, answer) = overheard;
    let mut replaying = TcpStream::connect(&peers[0]).unwrap();
    replaying.write_all(&claim).unwrap();
    // And in the place of rank 0: the former answer to whatever rank 1 claims.
    let impostor = TcpListener::bind("127.0.0.1:0").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut dialer, _) = impostor.accept().unwrap();
            dialer.write_all(&Challenge::draw().unwrap().to_bytes()).unwrap();
            dialer.read_exact(&mut [0; CLAIM_BYTES]).unwrap();
            dialer.write_all(&answer).unwrap();
        });
        let misled = [impostor.local_addr().unwrap().to_string(), peers[1].clone()];
        let membership = membership(2, 1, &misled, &BLOCKS);
        let refused =
            TcpMesh::connect(&listeners[1], &membership, Duration::from_millis(500), &Cancel::new());
        assert!(matches!(refused, Err(CollectiveError::ConnectTimeout { .. })), "{refused:?}");
    });
    members_meet(&listeners, &peers);
    assert!(heard_by(&replaying).len() <= CHALLENGE_BYTES);
}

#[test]
fn a_member_is_not_taken_in_by_its_own_words() {
    let (listeners, peers) = listeners(3);
    let blocks = [0..1, 1..2, 2..3];
    // At the address of rank 0 sits somebody who asks rank 1 what rank 1 asks its callers, and sends its claim back to it.
    let mirror = TcpListener::bind("127.0.0.1:0").unwrap();
    let seen = [mirror.local_addr().unwrap().to_string(), peers[1].clone(), peers[2].clone()];
    let membership = membership(1, 1, &seen, &blocks);
    thread::scope(|scope| {
        scope.spawn(|| {
            let caller = TcpStream::connect(&peers[1]).unwrap();
            let (mut dialer, _) = mirror.accept().unwrap();
            dialer.write_all(&challenged(&caller).to_bytes()).unwrap();
            let mut claim = [0; CLAIM_BYTES];
            dialer.read_exact(&mut claim).unwrap();
            (&caller).write_all(&claim).unwrap();
            let _ = dialer.write_all(&claim);
            assert!(heard_by(&caller).is_empty());
        });
        let refused =
            TcpMesh::connect(&listeners[1], &membership, Duration::from_millis(500), &Cancel::new());
        let Err(CollectiveError::ConnectTimeout { missing, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(missing, [0, 2]);
    });
}

#[test]
fn any_number_of_silent_callers_keeps_nobody_out() {
    let (listeners, peers) = listeners(2);
    let have_met = AtomicBool::new(false);
    // More than are heard at once, before the members come,
    let _silent: Vec<_> = (0..100).map(|_| TcpStream::connect(&peers[0]).unwrap()).collect();
    thread::scope(|scope| {
        // and more and more of them while they meet, some of whom begin to speak.
        scope.spawn(|| {
            let (mut more, address) = (Vec::new(), peers[0].parse().unwrap());
            while !have_met.load(Ordering::Relaxed) {
                // There may be no room for more when the members have met.
                let caller = TcpStream::connect_timeout(&address, Duration::from_millis(20));
                let Ok(mut caller) = caller else { continue };
                let _ = caller.write_all(&[7]);
                more.push(caller);
                if more.len() > 200 {
                    more.clear();
                }
            }
        });
        members_meet(&listeners, &peers);
        have_met.store(true, Ordering::Relaxed);
    });
}

#[test]
fn whoever_answers_in_a_members_place_is_left_for_the_member() {
    let (listeners, peers) = listeners(2);
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let seen = [door.local_addr().unwrap().to_string(), peers[1].clone()];
    thread::scope(|scope| {
        scope.spawn(|| {
            let challenge = Challenge::draw().unwrap().to_bytes();
            let words: [&[u8]; 4] = [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", &challenge, &[0; 4096]];
            for word in words {
                let (mut stranger, _) = door.accept().unwrap();
                let _ = stranger.write_all(word);
            }
            // Then the member itself.
            let (dialer, _) = door.accept().unwrap();
            let acceptor = TcpStream::connect(&peers[0]).unwrap();
            let pass = |mut from: &TcpStream, mut to: &TcpStream| {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            };
            thread::scope(|scope| {
                scope.spawn(|| pass(&dialer, &acceptor));
                pass(&acceptor, &dialer);
            });
        });
        members_meet(&listeners, &seen);
    });
}

#[test]
fn an_answer_that_trickles_does_not_outlast_the_deadline() {
    let (listeners, peers) = listeners(2);
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let seen = [slow.local_addr().unwrap().to_string(), peers[1].clone()];
    let membership = membership(1, 1, &seen, &BLOCKS);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut dialer, _) = slow.accept().unwrap();
            // A byte every 50 ms would do for two seconds; nothing comes back meanwhile.
            dialer.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            for byte in Challenge::draw().unwrap().to_bytes() {
                if dialer.write_all(&[byte]).is_err() || matches!(dialer.read(&mut [0]), Ok(0)) {
                    return;
                }
            }
            panic!("it was listened to for the whole challenge");
        });
        let wait = Duration::from_millis(300);
        let error = TcpMesh::connect(&listeners[1], &membership, wait, &Cancel::new()).unwrap_err();
        assert!(matches!(error, CollectiveError::ConnectTimeout { .. }), "{error:?}");
    });
}
