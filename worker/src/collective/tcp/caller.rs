//! Somebody who has called and may be anybody: heard without waiting, and not for long.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::collective::handshake::HELLO_BYTES;

/// A caller that has not introduced itself by then is sent away: no member needs more than a moment.
const INTRODUCTION: Duration = Duration::from_secs(5);

/// Somebody who has dialed and not yet shown all of its introduction.
pub(super) struct Caller {
    pub(super) stream: Arc<TcpStream>,
    pub(super) hello: [u8; HELLO_BYTES],
    heard: usize,
    until: Instant,
}

pub(super) enum Heard {
    Nothing,
    Hello,
    Leave,
}

impl Caller {
    /// None when the connection has ended already.
    pub(super) fn new(stream: TcpStream) -> Option<Self> {
        stream.set_nonblocking(true).ok()?;
        let until = Instant::now() + INTRODUCTION;
        Some(Self { stream: Arc::new(stream), hello: [0; HELLO_BYTES], heard: 0, until })
    }

    /// Reads what has come, without waiting for more.
    pub(super) fn listen(&mut self) -> Heard {
        loop {
            match (&mut &*self.stream).read(&mut self.hello[self.heard..]) {
                Ok(0) => return Heard::Leave,
                Ok(bytes) => self.heard += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return if Instant::now() < self.until { Heard::Nothing } else { Heard::Leave };
                }
                Err(_) => return Heard::Leave,
            }
            if self.heard == HELLO_BYTES {
                return Heard::Hello;
            }
        }
    }
}
