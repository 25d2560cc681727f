//! Who was turned away, and why: counted for the metrics, and logged, but never so much that a flood fills the disk.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines at once, and after how long there may be another. What is left out is counted.
const LINES_BURST: u32 = 20;
const LINE_EVERY: Duration = Duration::from_secs(5);

/// What a host may get wrong at once, and after how long once more: a person's slips and a few hundred workers that come
/// back with an expired token are far below, guessing is far above.
const FAILURES_BURST: u32 = 50;
const FAILURE_EVERY: Duration = Duration::from_millis(500);

/// Hosts whose failures are remembered.
const HOSTS_MAX: usize = 4096;

/// Why somebody was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Neither certificate nor token.
    NoCredential,
    /// A certificate of another authority, or of none.
    UnknownAuthority,
    /// A certificate or token whose time is over, or has not come.
    Expired,
    /// A certificate of this authority, but not a client's.
    BadCertificate,
    /// A token that nobody here has signed.
    BadToken,
    WrongRole,
    /// A worker that claims another's name.
    WrongName,
    /// A TLS handshake that failed for another reason.
    Handshake,
    /// A connection that did not get to a request that was let in.
    Silent,
    TooManyConnections,
    TooManyFailures,
}

impl Reason {
    pub const ALL: [Self; 11] = [
        Self::NoCredential,
        Self::UnknownAuthority,
        Self::Expired,
        Self::BadCertificate,
        Self::BadToken,
        Self::WrongRole,
        Self::WrongName,
        Self::Handshake,
        Self::Silent,
        Self::TooManyConnections,
        Self::TooManyFailures,
    ];

    /// A metric's label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCredential => "no_credential",
            Self::UnknownAuthority => "unknown_authority",
            Self::Expired => "expired",
            Self::BadCertificate => "bad_certificate",
            Self::BadToken => "bad_token",
            Self::WrongRole => "wrong_role",
            Self::WrongName => "wrong_name",
            Self::Handshake => "handshake",
            Self::Silent => "silent",
            Self::TooManyConnections => "too_many_connections",
            Self::TooManyFailures => "too_many_failures",
        }
    }
}

/// All that a coordinator has refused.
#[derive(Debug)]
pub struct Refusals {
    counts: [AtomicU64; Reason::ALL.len()],
    log: Mutex<Log>,
    hosts: Mutex<HashMap<IpAddr, Bucket>>,
}

#[derive(Debug)]
struct Log {
    bucket: Bucket,
    left_out: u64,
}

/// Fills up by one every so often; what is done takes one out.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: u32,
    since: Instant,
}

impl Default for Refusals {
    fn default() -> Self {
        let log = Log { bucket: Bucket::full(LINES_BURST, Instant::now()), left_out: 0 };
        Self { counts: Default::default(), log: Mutex::new(log), hosts: Mutex::default() }
    }
}

impl Refusals {
    /// How many for each reason.
    pub fn counts(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL.into_iter().map(|reason| (reason, self.count(reason)))
    }

    #[must_use]
    pub fn count(&self, reason: Reason) -> u64 {
        self.counts[reason as usize].load(Ordering::Relaxed)
    }

    /// Counts and logs. `detail` may quote what the peer has said, but no secret.
    pub(crate) fn note(&self, reason: Reason, peer: SocketAddr, detail: &dyn fmt::Display) {
        self.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if !log.bucket.take(LINES_BURST, LINE_EVERY, Instant::now()) {
            log.left_out += 1;
            return;
        }
        let left_out = std::mem::take(&mut log.left_out);
        drop(log);
        if left_out > 0 {
            tracing::warn!("{left_out} more were refused since the last line");
        }
        // Nobody writes lines of their own into the log.
        let detail = detail.to_string().replace(char::is_control, "\u{fffd}");
        tracing::warn!(%peer, reason = reason.as_str(), "refused: {detail}");
    }

    /// Takes note that a host's credential was wrong; false when that has happened too often.
    pub(super) fn forgives(&self, peer: SocketAddr) -> bool {
        self.forgives_at(peer, Instant::now())
    }

    fn forgives_at(&self, peer: SocketAddr, now: Instant) -> bool {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let host = host(peer);
        if hosts.len() >= HOSTS_MAX && !hosts.contains_key(&host) {
            // The one that has been quiet for longest.
            let quietest = hosts.iter().min_by_key(|(_, bucket)| bucket.since).map(|(host, _)| *host);
            quietest.map(|quietest| hosts.remove(&quietest));
        }
        let bucket = hosts.entry(host).or_insert_with(|| Bucket::full(FAILURES_BURST, now));
        bucket.take(FAILURES_BURST, FAILURE_EVERY, now)
    }
}

impl Bucket {
    fn full(burst: u32, now: Instant) -> Self {
        Self { left: burst, since: now }
    }

    fn take(&mut self, burst: u32, every: Duration, now: Instant) -> bool {
        let come = now.saturating_duration_since(self.since).as_nanos() / every.as_nanos();
        if let Ok(come) = u32::try_from(come)
            && self.left.saturating_add(come) < burst
        {
            self.left += come;
            self.since += every * come;
        } else {
            *self = Self::full(burst, now);
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

/// Whom an address stands for: a network of IPv6 gives one machine as many addresses as it likes.
pub(crate) fn host(peer: SocketAddr) -> IpAddr {
    match peer.ip().to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 1234)
    }

    #[test]
    fn every_reason_is_counted_by_itself() {
        let refusals = Refusals::default();
        for (times, reason) in (1..).zip(Reason::ALL) {
            (0..times).for_each(|_| refusals.note(reason, peer("10.0.0.1"), &"x"));
        }
        let counts: Vec<u64> = refusals.counts().map(|(_, count)| count).collect();
        assert_eq!(counts, (1..=Reason::ALL.len() as u64).collect::<Vec<_>>());
    }

    #[test]
    fn a_host_that_guesses_is_cut_off_alone_and_forgiven_with_time() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let forgiven = (0..200).filter(|_| refusals.forgives_at(peer("10.0.0.1"), start)).count();
        assert_eq!(forgiven, FAILURES_BURST as usize);
        assert!(refusals.forgives_at(peer("10.0.0.2"), start), "another host is another matter");
        let later = start + 2 * FAILURE_EVERY;
        assert_eq!((0..9).filter(|_| refusals.forgives_at(peer("10.0.0.1"), later)).count(), 2);
        let tomorrow = start + Duration::from_secs(86_400);
        assert_eq!((0..200).filter(|_| refusals.forgives_at(peer("10.0.0.1"), tomorrow)).count(), 50);
    }

    #[test]
    fn no_more_hosts_are_remembered_than_there_is_room_for() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        for number in 0..2 * HOSTS_MAX as u32 {
            refusals.forgives_at(
                SocketAddr::new(IpAddr::V4(number.into()), 1),
                start + Duration::from_millis(number.into()),
            );
        }
        assert_eq!(refusals.hosts.lock().unwrap().len(), HOSTS_MAX);
    }

    #[test]
    fn addresses_of_one_network_are_one_host() {
        assert_eq!(host(peer("2001:db8::1")), host(peer("2001:db8:0:0:ffff::2")));
        assert_ne!(host(peer("2001:db8::1")), host(peer("2001:db8:0:1::1")));
        assert_eq!(host(peer("::ffff:10.0.0.1")), host(peer("10.0.0.1")));
        assert_eq!(host(peer("::1")), peer("::1").ip());
    }
}
