//! Whether the others are still there, asked without waiting.

use std::io::{self, ErrorKind};

use super::{Peer, TcpMesh};
use crate::collective::error::CollectiveError;

impl TcpMesh {
    /// Closes the connections of a generation that has ended, so that the others notice too.
    pub(super) fn look_alive(&mut self) -> Result<(), CollectiveError> {
        if self.cancel.is_cancelled() {
            return Err(CollectiveError::Cancelled);
        }
        if self.closed {
            return Err(CollectiveError::Closed);
        }
        let ended = self.peers.iter().find_map(|peer| Some(peer.lost(peer.end()?)));
        let Some(error) = ended else { return Ok(()) };
        self.closed = true;
        self.peers.iter().for_each(|peer| super::close(&peer.stream));
        // A cancel closes the sockets, which then looks like lost peers.
        Err(if self.cancel.is_cancelled() { CollectiveError::Cancelled } else { error })
    }
}

impl Peer {
    /// How the connection ended, if it did. What has arrived stays to be read.
    fn end(&self) -> Option<io::Error> {
        // Between operations no thread reads or writes here, so nobody sees the mode change.
        let peeked = self.stream.set_nonblocking(true).and_then(|()| self.stream.peek(&mut [0]));
        let blocking = self.stream.set_nonblocking(false);
        match peeked {
            Ok(0) => Some(ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() != ErrorKind::WouldBlock => Some(error),
            _ => blocking.err(),
        }
    }
}
