//! Dialing a member of a lower rank until it answers and has proven itself.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::meeting::Meeting;
use crate::collective::handshake::{ANSWER_BYTES, CHALLENGE_BYTES, Challenge};
use crate::collective::sharing::{Met, Offer};

/// Between two attempts to reach a member that is not there yet, or still in a former generation.
const REDIAL_FIRST: Duration = Duration::from_millis(1);
const REDIAL_MOST: Duration = Duration::from_millis(20);
/// The longest single attempt to connect, since it cannot be interrupted by a cancel.
const CONNECT_WITHIN: Duration = Duration::from_millis(500);
/// From this member's claim to the answer: whoever has asked is there, and has nothing else to do.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

impl Meeting {
    /// Dials a member until it answers; none when the time is up.
    pub(super) fn reach(&self, peer: usize, address: &str) -> Option<Met> {
        let mut pause = REDIAL_FIRST;
        while !self.is_over() {
            match self.dial(peer, address) {
                Ok(met) => return Some(met),
                Err(error) => self.note(error),
            }
            thread::sleep(pause.min(self.remaining()));
            pause = REDIAL_MOST.min(pause * 2);
        }
        None
    }

    /// One attempt.
    fn dial(&self, peer: usize, address: &str) -> io::Result<Met> {
        let mut stream = Err(io::Error::new(ErrorKind::NotFound, "the address has no host"));
        for address in address.to_socket_addrs()? {
            let within = CONNECT_WITHIN.min(self.remaining()).max(Duration::from_millis(1));
            stream = TcpStream::connect_timeout(&address, within);
            if stream.is_ok() {
                break;
            }
        }
        let stream = Arc::new(stream?);
        self.cancel.register(&stream);
        stream.set_nodelay(true)?;
        let offer = self.introduce(peer, &stream)?;
        stream.set_read_timeout(None)?;
        Met::new(stream, &self.sharing, &offer)
    }

    /// Proves this member to the other, and has the other prove itself.
    fn introduce(&self, peer: usize, mut stream: &TcpStream) -> io::Result<Offer> {
        let refused = |what| io::Error::new(ErrorKind::ConnectionRefused, what);
        // It asks late if it is late: members come here in their own time.
        let mut challenge = [0; CHALLENGE_BYTES];
        read_until(stream, &mut challenge, self.deadline)?;
        let challenge = Challenge::from_bytes(&challenge);
        let challenge = challenge.ok_or_else(|| refused("no worker of this version answers there"))?;
        let claim = self.credential.claim(challenge, peer)?;
        stream.write_all(claim.bytes())?;
        let mut answer = [0; ANSWER_BYTES];
        read_until(stream, &mut answer, self.deadline.min(Instant::now() + ANSWER_WITHIN))?;
        let offer = self.credential.confirm(&claim, &answer);
        offer.ok_or_else(|| refused("it cannot prove that it is the member that was dialed"))
    }
}

/// All of `bytes` by then, however they trickle in: a timeout for every read would begin anew with every byte.
fn read_until(mut stream: &TcpStream, bytes: &mut [u8], deadline: Instant) -> io::Result<()> {
    let mut read = 0;
    while read < bytes.len() {
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(remaining))?;
        match stream.read(&mut bytes[read..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(more) => read += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
