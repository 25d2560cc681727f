//! A replica's state on its way from the member that has it to those that do not.
//!
//! It may be hundreds of millions of bytes: it is sent from where it lies, to all receivers at once, and arrives in buffers
//! that nobody need copy. After a header come the number of parts and their lengths (u64 each), the parts, and the sha256
//! of all that, which both sides compute meanwhile: a state that is a bit wrong would be trained on for ever.

use std::io::{self, ErrorKind, Read};
use std::sync::OnceLock;
use std::thread;

use sha2::{Digest, Sha256};

use super::{Failure, Peer, Reported, TcpMesh};
use crate::collective::cancel::close;
use crate::collective::error::CollectiveError;
use crate::collective::frame::{Header, Kind};

/// Far beyond any replica; a damaged length must not be able to ask for all memory.
const STATE_BYTES_MAX: u64 = 64 << 30;
const PARTS_MAX: u64 = 64;
/// What is received, and then hashed while it is in the cache.
const PIECE_BYTES: usize = 256 << 10;

impl TcpMesh {
    pub(super) fn transfer(
        &self,
        sequence: u64,
        failure: &Failure,
        source: usize,
        receivers: &[usize],
        parts: &[&[u8]],
    ) -> Result<Option<Vec<Vec<u8>>>, Reported> {
        let result = if self.group.rank() == source {
            self.serve(sequence, failure, receivers, parts).map(|()| None)
        } else if receivers.contains(&self.group.rank()) {
            let peer = self.peers.iter().find(|peer| peer.rank == source);
            let peer = peer.ok_or(CollectiveError::InvalidGroup("the source of a state is no member"));
            peer.and_then(|peer| peer.receive_state(sequence)).map(Some)
        } else {
            Ok(None)
        };
        result.map_err(|error| failure.report(error))
    }

    fn serve(
        &self,
        sequence: u64,
        failure: &Failure,
        receivers: &[usize],
        parts: &[&[u8]],
    ) -> Result<(), CollectiveError> {
        let lengths = lengths(parts);
        let length_bytes = parts.iter().map(|part| part.len() as u64).sum();
        let header = Header { kind: Kind::STATE, sequence, length_bytes };
        let (digest, lengths) = (&OnceLock::<[u8; 32]>::new(), &lengths);
        thread::scope(|scope| {
            let served =
                self.peers.iter().filter(|peer| receivers.contains(&peer.rank)).try_for_each(|peer| {
                    let send = move || {
                        peer.send(&header.to_bytes())?;
                        peer.send(lengths)?;
                        parts.iter().try_for_each(|part| peer.send(part))?;
                        peer.send(digest.wait())
                    };
                    failure.spawn(scope, peer, send).map(drop)
                });
            // Always: the threads wait for it.
            digest.get_or_init(|| {
                let mut hash = Sha256::new_with_prefix(lengths);
                parts.iter().for_each(|part| hash.update(part));
                hash.finalize().into()
            });
            // Before the threads are waited for, which otherwise might send to the end of their days.
            served.inspect_err(|_| self.peers.iter().for_each(|peer| close(&peer.stream)))
        })
    }
}

/// The parts' number and lengths, as they are sent.
fn lengths(parts: &[&[u8]]) -> Vec<u8> {
    let numbers = std::iter::once(parts.len()).chain(parts.iter().map(|part| part.len()));
    numbers.flat_map(|number| (number as u64).to_le_bytes()).collect()
}

impl Peer {
    fn receive_state(&self, sequence: u64) -> Result<Vec<Vec<u8>>, CollectiveError> {
        let damaged = |reason| CollectiveError::Damaged { rank: self.rank, reason };
        let announced = self.receive_header(Kind::STATE, sequence, None)?;
        if announced > STATE_BYTES_MAX {
            let (rank, bytes, limit_bytes) = (self.rank, announced, STATE_BYTES_MAX);
            return Err(CollectiveError::PayloadTooLarge { rank, bytes, limit_bytes });
        }
        let mut hash = Sha256::new();
        let number = |hash: &mut Sha256| {
            let mut bytes = [0; 8];
            self.receive(&mut bytes)?;
            hash.update(bytes);
            Ok(u64::from_le_bytes(bytes))
        };
        let count = number(&mut hash)?;
        if count > PARTS_MAX {
            return Err(damaged("it has too many parts"));
        }
        let lengths = (0..count).map(|_| number(&mut hash)).collect::<Result<Vec<_>, _>>()?;
        if lengths.iter().try_fold(0_u64, |sum, length| sum.checked_add(*length)) != Some(announced) {
            return Err(damaged("its parts do not have the announced length"));
        }
        let parts = lengths.into_iter().map(|length| self.receive_part(length, &mut hash));
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        let mut digest = [0; 32];
        self.receive(&mut digest)?;
        if hash.finalize().as_slice() != digest {
            return Err(damaged("its sha256 is another"));
        }
        Ok(parts)
    }

    fn receive_part(&self, length: u64, hash: &mut Sha256) -> Result<Vec<u8>, CollectiveError> {
        let refuse = |_| CollectiveError::System {
            what: "the memory for a state",
            source: ErrorKind::OutOfMemory.into(),
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let mut part = Vec::new();
        // Reserved is not used: only what arrives takes memory.
        part.try_reserve_exact(length).map_err(refuse)?;
        while part.len() < length {
            let (from, wanted) = (part.len(), PIECE_BYTES.min(length - part.len()));
            let piece = (&*self.stream).take(wanted as u64).read_to_end(&mut part);
            match piece.map_err(|source| self.lost(source))? {
                got if got == wanted => hash.update(&part[from..]),
                _ => return Err(self.lost(io::Error::from(ErrorKind::UnexpectedEof))),
            }
        }
        Ok(part)
    }
}
