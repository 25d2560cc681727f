//! Whom a member waits for: in an exchange, and when the members meet.

use std::sync::mpsc::channel;

use super::super::Observer;
use super::*;

#[test]
fn an_observer_is_told_of_the_member_that_is_late() {
    let (late, comes) = channel::<()>();
    let comes = std::sync::Mutex::new(Some(comes));
    on_mesh(&[0..1, 1..2, 2..3], |mut mesh, group| {
        let (told, waits) = channel();
        match mesh.rank() {
            1 => drop(comes.lock().unwrap().take().unwrap().recv()),
            0 => {
                // Whoever waits last is told last; the late one comes only then.
                let late = late.clone();
                mesh.observe(Observer::new(move |rank| {
                    let _ = told.send(rank);
                    if rank == 1 {
                        let _ = late.send(());
                    }
                }));
            }
            _ => {}
        }
        sum_of_all(&mut mesh, group, 100_000).unwrap();
        mesh.all_gather(b"").unwrap();
        let waits: Vec<usize> = waits.try_iter().collect();
        assert_eq!(waits.is_empty(), mesh.rank() != 0);
        assert!(mesh.rank() != 0 || (waits.contains(&1) && waits.contains(&2) && !waits.contains(&0)));
    });
}

#[test]
fn only_who_does_not_come_is_missing() {
    // Rank 0 is nowhere, ranks 2 and 3 have called before rank 1 begins: it hears them while it dials in vain.
    let (listeners, mut peers) = listeners(4);
    peers[0] = "127.0.0.1:1".to_owned();
    let membership = |rank| membership(1, rank, &peers, &[0..1, 1..2, 2..3, 3..4]);
    let callers = [2, 3].map(|rank| (TcpStream::connect(&peers[1]).unwrap(), membership(rank)));
    thread::scope(|scope| {
        for (caller, membership) in &callers {
            scope.spawn(move || claim(caller, membership, 1));
        }
        let wait = Duration::from_millis(100);
        let error = TcpMesh::connect(&listeners[1], &membership(1), wait, &Cancel::new()).unwrap_err();
        let CollectiveError::ConnectTimeout { missing, last, .. } = error else { panic!("{error:?}") };
        assert_eq!(missing, [0]);
        assert!(last.is_some());
    });
}
