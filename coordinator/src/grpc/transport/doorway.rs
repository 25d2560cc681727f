//! How many are inside, and who has not proven themselves yet.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::Limits;

/// Counts connections in and out.
#[derive(Debug)]
pub(super) struct Doorway {
    limits: Limits,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    next: u64,
    total: usize,
    hosts: HashMap<IpAddr, usize>,
    /// By arrival.
    unproven: BTreeMap<u64, Unproven>,
}

#[derive(Debug)]
struct Unproven {
    host: IpAddr,
    hang_up: CancellationToken,
}

/// One connection's place inside, which it leaves by being dropped.
#[derive(Debug)]
pub(super) struct Place {
    doorway: Arc<Doorway>,
    number: u64,
    host: IpAddr,
}

/// No more may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error("{0} connections are open already")]
    All(usize),
    #[error("{0} connections are open already from this address")]
    Host(usize),
}

impl Doorway {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, inside: Mutex::default() })
    }

    /// Lets somebody in; `hang_up` is called when they have to make room before they have proven themselves.
    pub(super) fn enter(self: &Arc<Self>, host: IpAddr, hang_up: CancellationToken) -> Result<Place, Full> {
        let limits = &self.limits;
        let mut inside = self.inside();
        inside.make_room(limits, host);
        if inside.total >= limits.connections {
            return Err(Full::All(limits.connections));
        }
        let from_host = inside.hosts.entry(host).or_default();
        if *from_host >= limits.connections_per_host {
            return Err(Full::Host(limits.connections_per_host));
        }
        *from_host += 1;
        inside.total += 1;
        let number = inside.next;
        inside.next += 1;
        inside.unproven.insert(number, Unproven { host, hang_up });
        Ok(Place { doorway: Arc::clone(self), number, host })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    /// Has the oldest of the unproven leave, of this host or of all, when there are as many as there may be.
    fn make_room(&mut self, limits: &Limits, host: IpAddr) {
        let mut from_host = self.unproven.iter().filter(|(_, unproven)| unproven.host == host);
        let oldest_of_host = from_host.next().map(|(number, _)| *number);
        let oldest = if 1 + from_host.count() >= limits.unproven_per_host && oldest_of_host.is_some() {
            oldest_of_host
        } else if self.unproven.len() >= limits.unproven {
            self.unproven.keys().next().copied()
        } else {
            None
        };
        if let Some(leaving) = oldest.and_then(|number| self.unproven.remove(&number)) {
            leaving.hang_up.cancel();
        }
    }
}

impl Place {
    pub(super) fn prove(&self) {
        self.doorway.inside().unproven.remove(&self.number);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.doorway.inside();
        inside.unproven.remove(&self.number);
        inside.total -= 1;
        if let Some(from_host) = inside.hosts.get_mut(&self.host) {
            *from_host -= 1;
            if *from_host == 0 {
                inside.hosts.remove(&self.host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doorway() -> Arc<Doorway> {
        let limits = Limits {
            connections: 6,
            connections_per_host: 4,
            unproven: 4,
            unproven_per_host: 2,
            ..Limits::loopback()
        };
        Doorway::new(limits)
    }

    fn host(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn enter(doorway: &Arc<Doorway>, from: u8) -> (Result<Place, Full>, CancellationToken) {
        let hang_up = CancellationToken::new();
        (doorway.enter(host(from), hang_up.clone()), hang_up)
    }

    #[test]
    fn who_does_not_prove_themselves_makes_room_for_the_next_of_the_same_host() {
        let doorway = doorway();
        let (_first, first_left) = enter(&doorway, 1);
        let (_second, second_left) = enter(&doorway, 1);
        let (_other, other_left) = enter(&doorway, 2);
        let (_third, third_left) = enter(&doorway, 1);
        let left = [first_left, second_left, other_left, third_left].map(|token| token.is_cancelled());
        assert_eq!(left, [true, false, false, false]);
    }

    #[test]
    fn who_has_proven_themselves_stays() {
        let doorway = doorway();
        let (first, first_left) = enter(&doorway, 1);
        first.as_ref().unwrap().prove();
        let _crowd: Vec<_> = (0..3).map(|_| enter(&doorway, 1)).collect();
        assert!(!first_left.is_cancelled());
    }

    #[test]
    fn there_is_an_end_to_all_and_to_each_host_and_places_come_back() {
        let doorway = doorway();
        let stay = |from| {
            let (place, _) = enter(&doorway, from);
            place.inspect(Place::prove)
        };
        let mut inside: Vec<Place> = (0..4).map(|_| stay(1).unwrap()).collect();
        assert_eq!(stay(1).unwrap_err(), Full::Host(4));
        inside.extend((0..2).map(|_| stay(2).unwrap()));
        assert_eq!(stay(3).unwrap_err(), Full::All(6));
        inside.truncate(3);
        assert!(stay(1).is_ok() && stay(3).is_ok());
        inside.clear();
        let inside = doorway.inside();
        assert_eq!(
            (inside.total, inside.hosts.len(), inside.unproven.len()),
            (0, 0, 0),
            "nothing is kept of who left"
        );
    }
}
