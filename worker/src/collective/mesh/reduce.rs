//! Sums in place: a reduce-scatter and an all-gather in one go, the bandwidth optimum of 2 · (W - 1) / W buffers
//! per member where every block is one sub-tree.
//!
//! Every member owns a chunk of the buffer. A peer on another host first gets what this member's shards add up to in the
//! peer's chunk, then the own chunk, piece by piece as it gets finished. A peer that shares memory gets two words
//! instead: that the tops lie ready, and where; and that this member's chunk is finished, which it then has already, as
//! the owner of a chunk writes it to all the memory that it sees. In that chunk nobody else reads or writes meanwhile, so
//! tops and sum need no two places. Nothing here waits for more than others' entering and reading, and all members read
//! partial sums first, so every chunk gets finished, and then everything moves.

use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::{Failure, Peer, Reported, TcpMesh};
use crate::collective::buffers::{Place, SumBuffers};
use crate::collective::error::CollectiveError;
use crate::collective::frame::{Header, Kind};
use crate::collective::memory::Span;
use crate::collective::tree::add_to_both;

#[cfg(not(target_endian = "little"))]
compile_error!("floats cross the wire as they lie in memory, which must be little-endian");

/// Elements that are received, added and sent on together: 256 KiB stay in the second-level cache between
/// receiving and adding, and are large enough to make the cost of a call vanish.
const PIECE: usize = 64 << 10;
/// Elements that are added together: 32 KiB stay in the first-level cache while several tops are added to them.
const BLOCK: usize = 8 << 10;

/// The parts of `range` that move together.
fn pieces(range: Range<usize>, longest: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(longest).map(move |start| start..end.min(start + longest))
}

fn header(kind: Kind, sequence: u64, elements: usize) -> Header {
    Header { kind, sequence, length_bytes: (elements * size_of::<f32>()) as u64 }
}

/// One sum, as this member takes part in it.
struct Sum<'a> {
    sequence: u64,
    length: usize,
    tops: Vec<Span<'a>>,
    /// Where the sum is wanted: the first top's place, if there is one.
    out: Span<'a>,
    place: Place,
}

/// What adds up to the own chunk, in the tree's order.
#[derive(Clone, Copy)]
enum Leaf<'a> {
    /// It lies in this member's memory or in a peer's.
    Seen(Span<'a>),
    /// It comes over a connection, into the slot with this index.
    Received(usize),
}

/// All that the own chunk is made of, and where it goes, each as long as the chunk.
#[derive(Default)]
struct Chunk<'a> {
    leaves: Vec<Leaf<'a>>,
    outs: Vec<Span<'a>>,
    slots: usize,
}

impl TcpMesh {
    pub(super) fn reduce(
        &mut self,
        sequence: u64,
        failure: &Failure,
        buffers: &SumBuffers,
        range: &Range<usize>,
    ) -> Result<(), Reported> {
        // Taken out, so that the sending threads may borrow the rest.
        let mut scratch = std::mem::take(&mut self.scratch);
        let mesh = &*self;
        let sum = &Sum {
            sequence,
            length: range.len(),
            tops: (0..self.own_tops).map(|index| buffers.span(index, range)).collect(),
            out: buffers.span(0, range),
            place: buffers.place(range.start),
        };
        let own = &mesh.group.chunk(mesh.group.rank(), sum.length);
        let result = thread::scope(|scope| {
            let mut sendings = Vec::with_capacity(mesh.peers.len());
            let mut exchange = || {
                let mut finished = Vec::with_capacity(mesh.peers.len());
                for peer in &mesh.peers {
                    let theirs = mesh.group.chunk(peer.rank, sum.length);
                    if peer.region.is_some() {
                        peer.announce(sum, theirs.len())?;
                        continue;
                    }
                    // Room for all pieces: finishing the own chunk never waits for a slow peer.
                    let (sender, pieces) = sync_channel(own.len().div_ceil(PIECE));
                    sendings.push(failure.spawn(scope, peer, move || {
                        peer.send_partials(sum, theirs)?;
                        peer.send_finished(sum, own, &pieces)
                    })?);
                    finished.push(sender);
                }
                mesh.finish_chunk(sum, own, &mut scratch, &finished)?;
                drop(finished);
                for peer in mesh.peers.iter().filter(|peer| peer.region.is_some()) {
                    peer.send(&header(Kind::FINISHED, sequence, own.len()).to_bytes())?;
                }
                mesh.receive_finished(sum)
            };
            let result = exchange().map_err(|error| failure.report(error));
            sendings.into_iter().for_each(|sending| sending.finish(&mesh.observer));
            result
        });
        self.scratch = scratch;
        result
    }

    /// Finishes the own chunk in all memory that this member sees, and passes its pieces on to the other peers.
    fn finish_chunk(
        &self,
        sum: &Sum<'_>,
        own: &Range<usize>,
        scratch: &mut Scratch,
        finished: &[SyncSender<Range<usize>>],
    ) -> Result<(), CollectiveError> {
        let chunk = self.gather_chunk(sum, own)?;
        scratch.received.resize(chunk.slots * PIECE.min(own.len()), 0.0);
        scratch.block.resize(BLOCK.min(own.len()), 0.0);
        for piece in pieces(0..own.len(), PIECE) {
            if self.cancel.is_cancelled() {
                return Err(CollectiveError::Cancelled);
            }
            let mut slots = scratch.received.chunks_exact_mut(piece.len());
            for peer in self.peers.iter().filter(|peer| peer.region.is_none()) {
                self.observer.waits_for(peer.rank);
                for slot in slots.by_ref().take(peer.tops) {
                    peer.receive(bytemuck::cast_slice_mut(slot))?;
                }
            }
            self.finish_piece(&chunk, &piece, scratch);
            for peer in finished {
                // A thread that ended has reported why, and with that has ended this one's receiving.
                let _ = peer.send(piece.clone());
            }
        }
        Ok(())
    }

    /// Waits until everybody's partial sums of the own chunk lie ready, or are on their way.
    fn gather_chunk<'a>(&'a self, sum: &Sum<'a>, own: &Range<usize>) -> Result<Chunk<'a>, CollectiveError> {
        let mut chunk = Chunk::default();
        let (before, after) =
            self.peers.split_at(self.peers.partition_point(|peer| peer.rank < self.group.rank()));
        for peer in before {
            self.gather_from(peer, sum, own, &mut chunk)?;
        }
        chunk.leaves.extend(sum.tops.iter().map(|top| Leaf::Seen(top.part(own.clone()))));
        chunk.outs.push(sum.out.part(own.clone()));
        for peer in after {
            self.gather_from(peer, sum, own, &mut chunk)?;
        }
        Ok(chunk)
    }

    fn gather_from<'a>(
        &self,
        peer: &'a Peer,
        sum: &Sum<'a>,
        own: &Range<usize>,
        chunk: &mut Chunk<'a>,
    ) -> Result<(), CollectiveError> {
        self.observer.waits_for(peer.rank);
        let announced = header(Kind::PARTIALS, sum.sequence, peer.tops * own.len());
        peer.receive_header(announced.kind, sum.sequence, Some(announced.length_bytes))?;
        let Some(region) = &peer.region else {
            chunk.leaves.extend((chunk.slots..).take(peer.tops).map(Leaf::Received));
            chunk.slots += peer.tops;
            return Ok(());
        };
        let mut place = [0; Place::BYTES];
        peer.receive(&mut place)?;
        let place = Place::from_bytes(place);
        let astray = CollectiveError::Damaged { rank: peer.rank, reason: "its sums lie outside its memory" };
        let seen = |index| place.span(region, index, sum.length).map(|span| span.part(own.clone()));
        let tops: Option<Vec<_>> = (0..peer.tops).map(seen).collect();
        let (Some(tops), Some(out)) = (tops, seen(0)) else { return Err(astray) };
        chunk.leaves.extend(tops.into_iter().map(Leaf::Seen));
        chunk.outs.push(out);
        Ok(())
    }

    fn finish_piece(&self, chunk: &Chunk<'_>, piece: &Range<usize>, scratch: &mut Scratch) {
        if let ([Leaf::Seen(left), Leaf::Seen(right)], [first, second]) = (&*chunk.leaves, &*chunk.outs)
            && (left, right) == (first, second)
        {
            // Two members with one top each: all is read once and written once.
            return left.part(piece.clone()).change_both(right.part(piece.clone()), add_to_both);
        }
        let Scratch { received, block: sums, spare } = scratch;
        for block in pieces(piece.clone(), BLOCK) {
            let leaves = chunk.leaves.iter().map(|leaf| match leaf {
                Leaf::Seen(top) => top.part(block.clone()).get(),
                Leaf::Received(slot) => {
                    let start = slot * piece.len() + block.start - piece.start;
                    &received[start..start + block.len()]
                }
            });
            let sums = &mut sums[..block.len()];
            self.completion.evaluate(&leaves.collect::<Vec<_>>(), sums, spare);
            for out in &chunk.outs {
                out.part(block.clone()).change(|out| out.copy_from_slice(sums));
            }
        }
    }

    /// The others' chunks, straight to their place, or there already.
    fn receive_finished(&self, sum: &Sum<'_>) -> Result<(), CollectiveError> {
        // Starting after the own rank, so that not all members draw on the same one at the same time.
        let after = self.peers.partition_point(|peer| peer.rank < self.group.rank());
        for peer in self.peers[after..].iter().chain(&self.peers[..after]) {
            let theirs = self.group.chunk(peer.rank, sum.length);
            self.observer.waits_for(peer.rank);
            let announced = header(Kind::FINISHED, sum.sequence, theirs.len());
            peer.receive_header(announced.kind, sum.sequence, Some(announced.length_bytes))?;
            if peer.region.is_none() {
                // What comes for an element comes only after the peer has got this member's tops of it.
                sum.out.part(theirs).change(|chunk| peer.receive(bytemuck::cast_slice_mut(chunk)))?;
            }
        }
        Ok(())
    }
}

impl Peer {
    /// Tells a peer that shares memory where this member's tops lie. So few bytes never wait for the peer.
    fn announce(&self, sum: &Sum<'_>, elements: usize) -> Result<(), CollectiveError> {
        let header = header(Kind::PARTIALS, sum.sequence, sum.tops.len() * elements).to_bytes();
        self.send(&[header.as_slice(), &sum.place.to_bytes()].concat())
    }

    fn send_partials(&self, sum: &Sum<'_>, theirs: Range<usize>) -> Result<(), CollectiveError> {
        self.send(&header(Kind::PARTIALS, sum.sequence, sum.tops.len() * theirs.len()).to_bytes())?;
        for range in pieces(theirs, PIECE) {
            for top in &sum.tops {
                self.send(bytemuck::cast_slice(top.part(range.clone()).get()))?;
            }
        }
        Ok(())
    }

    fn send_finished(
        &self,
        sum: &Sum<'_>,
        own: &Range<usize>,
        pieces: &Receiver<Range<usize>>,
    ) -> Result<(), CollectiveError> {
        self.send(&header(Kind::FINISHED, sum.sequence, own.len()).to_bytes())?;
        let chunk = sum.out.part(own.clone());
        // Ends early when the calling thread failed; the connections are closed then.
        pieces.iter().try_for_each(|piece| self.send(bytemuck::cast_slice(chunk.part(piece).get())))
    }
}

/// Space for pieces, kept between operations.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The others' partial sums, one piece after another.
    received: Vec<f32>,
    block: Vec<f32>,
    spare: Vec<Vec<f32>>,
}
