//! Those who have called and may be anybody: asked who they are, heard without waiting, and not for long.
//!
//! Strangers must not keep members out, however many they are and however slowly they speak. Each has a short time for a
//! short answer, and there is room for so many at once; when that is used up, the one goes that has been heard for longest
//! of those from the address with the most. So a member is pushed out only by a host that is fuller of callers than its own.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::collective::cancel::close;
use crate::collective::handshake::{CLAIM_BYTES, Challenge};

/// A caller that has not shown all of its claim by then is sent away: no member needs more than a moment.
const CLAIM_WITHIN: Duration = Duration::from_secs(5);
/// Callers that are being heard at once. A run has fewer members than that, or they dial again.
const CALLERS_MAX: usize = 64;

/// All of them, the one that came first in front.
#[derive(Default)]
pub(super) struct Callers {
    waiting: Vec<Caller>,
}

/// Somebody who has dialed and not yet shown all of its claim.
struct Caller {
    stream: Arc<TcpStream>,
    from: IpAddr,
    challenge: Challenge,
    claim: [u8; CLAIM_BYTES],
    heard: usize,
    until: Instant,
}

/// A claim that is complete, of whoever has made it.
pub(super) struct Claimed {
    pub(super) stream: Arc<TcpStream>,
    pub(super) challenge: Challenge,
    pub(super) claim: [u8; CLAIM_BYTES],
}

enum Heard {
    Nothing,
    Claim,
    Leave,
}

impl Callers {
    /// Asks a new one. Whose connection has ended already is forgotten.
    pub(super) fn add(&mut self, stream: TcpStream, from: IpAddr) {
        if self.waiting.len() == CALLERS_MAX {
            let crowded = crowded(self.waiting.iter().map(|caller| caller.from));
            close(&self.waiting.remove(crowded).stream);
        }
        self.waiting.extend(Caller::ask(stream, from));
    }

    /// Those whose claim is complete now. Whoever has ended, or has had its time, is sent away.
    pub(super) fn hear(&mut self) -> Vec<Claimed> {
        let mut claimed = Vec::new();
        self.waiting.retain_mut(|caller| match caller.listen() {
            Heard::Nothing => true,
            Heard::Leave => {
                close(&caller.stream);
                false
            }
            Heard::Claim => {
                let Caller { stream, challenge, claim, .. } = caller;
                claimed.push(Claimed { stream: Arc::clone(stream), challenge: *challenge, claim: *claim });
                false
            }
        });
        claimed
    }
}

/// The first of those from the address with the most.
fn crowded(from: impl Iterator<Item = IpAddr>) -> usize {
    let mut addresses: BTreeMap<IpAddr, (usize, usize)> = BTreeMap::new();
    for (index, address) in from.enumerate() {
        addresses.entry(address).or_insert((0, index)).0 += 1;
    }
    let most = addresses.into_values().max_by_key(|(count, first)| (*count, usize::MAX - first));
    most.map_or(0, |(_, first)| first)
}

impl Caller {
    /// None when the connection has ended already.
    fn ask(stream: TcpStream, from: IpAddr) -> Option<Self> {
        stream.set_nonblocking(true).ok()?;
        stream.set_nodelay(true).ok()?;
        let challenge = Challenge::draw().ok()?;
        // So few bytes never wait in a connection that is new.
        (&stream).write_all(&challenge.to_bytes()).ok()?;
        let until = Instant::now() + CLAIM_WITHIN;
        Some(Self { stream: Arc::new(stream), from, challenge, claim: [0; CLAIM_BYTES], heard: 0, until })
    }

    /// Reads what has come, without waiting for more.
    fn listen(&mut self) -> Heard {
        loop {
            match (&mut &*self.stream).read(&mut self.claim[self.heard..]) {
                Ok(0) => return Heard::Leave,
                Ok(bytes) => self.heard += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return if Instant::now() < self.until { Heard::Nothing } else { Heard::Leave };
                }
                Err(_) => return Heard::Leave,
            }
            if self.heard == CLAIM_BYTES {
                return Heard::Claim;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_fullest_address_has_to_go() {
        let first = |from: &[u8]| crowded(from.iter().map(|last| IpAddr::from([10, 0, 0, *last])));
        assert_eq!(first(&[1]), 0);
        assert_eq!(first(&[1, 2, 3]), 0);
        assert_eq!(first(&[1, 2, 3, 2]), 1);
        assert_eq!(first(&[3, 1, 2, 2, 1, 2]), 2);
    }
}
