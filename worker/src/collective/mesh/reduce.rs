//! `all_reduce`: a reduce-scatter and an all-gather in one go, the bandwidth optimum of 2 · (W - 1) / W buffers
//! per member where every block is one sub-tree.
//!
//! Every member owns a chunk of the buffer. To each peer goes first what this member's shards add up to in the
//! peer's chunk, then the own chunk, piece by piece as it gets finished. The first part waits for nothing but
//! the peer's reading, and all members read it first, so every chunk gets finished, and then everything moves.

use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::{Failure, Peer, Reported, TcpMesh};
use crate::collective::error::CollectiveError;
use crate::collective::frame::{Header, Kind};

#[cfg(not(target_endian = "little"))]
compile_error!("floats cross the wire as they lie in memory, which must be little-endian");

/// Elements that are received, added and sent on together: 256 KiB stay in the second-level cache between
/// receiving and adding, and are large enough to make the cost of a call vanish.
const PIECE: usize = 64 << 10;

/// The parts of `range` that move together.
fn pieces(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(PIECE).map(move |start| start..end.min(start + PIECE))
}

fn header(kind: Kind, sequence: u64, elements: usize) -> Header {
    Header { kind, sequence, length_bytes: (elements * size_of::<f32>()) as u64 }
}

impl TcpMesh {
    pub(super) fn reduce(
        &mut self,
        sequence: u64,
        failure: &Failure,
        tops: &[&[f32]],
        out: &mut [f32],
    ) -> Result<(), Reported> {
        // Taken out, so that the sending threads may borrow the rest.
        let mut scratch = std::mem::take(&mut self.scratch);
        let (mesh, length) = (&*self, out.len());
        let mut chunks = mesh.chunks(out);
        let result = thread::scope(|scope| {
            let mut sendings = Vec::with_capacity(mesh.peers.len());
            let exchange = || {
                let own = std::mem::take(&mut chunks[mesh.group.rank()]);
                let mut finished = Vec::with_capacity(mesh.peers.len());
                for peer in &mesh.peers {
                    // Room for all pieces: finishing the own chunk never waits for a slow peer.
                    let (sender, pieces) = sync_channel(own.len().div_ceil(PIECE));
                    let (theirs, elements) = (mesh.group.chunk(peer.rank, length), own.len());
                    sendings.push(failure.spawn(scope, peer, move || {
                        peer.send_partials(sequence, tops, theirs)?;
                        peer.send_finished(sequence, elements, &pieces)
                    })?);
                    finished.push(sender);
                }
                mesh.finish_chunk(sequence, tops, length, own, &mut scratch, &finished)?;
                drop(finished);
                mesh.receive_finished(sequence, chunks)
            };
            let result = exchange().map_err(|error| failure.report(error));
            sendings.into_iter().for_each(|sending| sending.finish(&mesh.observer));
            result
        });
        self.scratch = scratch;
        result
    }

    /// `out` by owner.
    fn chunks<'a>(&self, mut out: &'a mut [f32]) -> Vec<&'a mut [f32]> {
        let length = out.len();
        let mut chunks = Vec::with_capacity(self.group.world_size());
        for rank in 0..self.group.world_size() {
            let (chunk, rest) = out.split_at_mut(self.group.chunk(rank, length).len());
            chunks.push(chunk);
            out = rest;
        }
        chunks
    }

    /// Receives everybody's partial sums of the own chunk, finishes them in `own` and passes the pieces on.
    fn finish_chunk<'a>(
        &self,
        sequence: u64,
        tops: &[&[f32]],
        length: usize,
        own: &'a mut [f32],
        scratch: &mut Scratch,
        finished: &[SyncSender<&'a [f32]>],
    ) -> Result<(), CollectiveError> {
        for peer in &self.peers {
            self.observer.waits_for(peer.rank);
            let announced = header(Kind::PARTIALS, sequence, peer.tops * own.len());
            peer.receive_header(announced.kind, sequence, Some(announced.length_bytes))?;
        }
        let Scratch { received, spare } = scratch;
        let slots_needed: usize = self.peers.iter().map(|peer| peer.tops).sum();
        received.resize(slots_needed * PIECE.min(own.len()), 0.0);
        let ranges = pieces(self.group.chunk(self.group.rank(), length));
        for (range, piece) in ranges.zip(own.chunks_mut(PIECE)) {
            let received = &mut received[..slots_needed * piece.len()];
            let mut slots = received.chunks_exact_mut(piece.len());
            for peer in &self.peers {
                self.observer.waits_for(peer.rank);
                for slot in slots.by_ref().take(peer.tops) {
                    peer.receive(bytemuck::cast_slice_mut(slot))?;
                }
            }
            let mut slots = received.chunks_exact(piece.len());
            let mut leaves = Vec::with_capacity(tops.len() + slots_needed);
            let before = self.peers.iter().filter(|peer| peer.rank < self.group.rank());
            leaves.extend(slots.by_ref().take(before.map(|peer| peer.tops).sum()));
            leaves.extend(tops.iter().map(|top| &top[range.clone()]));
            leaves.extend(slots);
            self.completion.evaluate(&leaves, piece, spare);
            for peer in finished {
                // A thread that ended has reported why, and with that has ended this one's receiving.
                let _ = peer.send(piece);
            }
        }
        Ok(())
    }

    /// The others' chunks, straight to their place.
    fn receive_finished(&self, sequence: u64, mut chunks: Vec<&mut [f32]>) -> Result<(), CollectiveError> {
        // Starting after the own rank, so that not all members draw on the same one at the same time.
        let after = self.peers.partition_point(|peer| peer.rank < self.group.rank());
        for peer in self.peers[after..].iter().chain(&self.peers[..after]) {
            let chunk = &mut *chunks[peer.rank];
            self.observer.waits_for(peer.rank);
            let announced = header(Kind::FINISHED, sequence, chunk.len());
            peer.receive_header(announced.kind, sequence, Some(announced.length_bytes))?;
            peer.receive(bytemuck::cast_slice_mut(chunk))?;
        }
        Ok(())
    }
}

impl Peer {
    fn send_partials(
        &self,
        sequence: u64,
        tops: &[&[f32]],
        theirs: Range<usize>,
    ) -> Result<(), CollectiveError> {
        self.send(&header(Kind::PARTIALS, sequence, tops.len() * theirs.len()).to_bytes())?;
        for range in pieces(theirs) {
            for top in tops {
                self.send(bytemuck::cast_slice(&top[range.clone()]))?;
            }
        }
        Ok(())
    }

    fn send_finished(
        &self,
        sequence: u64,
        elements: usize,
        pieces: &Receiver<&[f32]>,
    ) -> Result<(), CollectiveError> {
        self.send(&header(Kind::FINISHED, sequence, elements).to_bytes())?;
        // Ends early when the calling thread failed; the connections are closed then.
        pieces.iter().try_for_each(|piece| self.send(bytemuck::cast_slice(piece)))
    }
}

/// Space for pieces, kept between operations.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The others' partial sums, one piece after another.
    received: Vec<f32>,
    spare: Vec<Vec<f32>>,
}
