//! How the members fill their tables together, in rounds of less than a second or one block each: they look into their
//! folders, divide what nobody has, and send each other what they do not find there.
//!
//! A round ends with everybody's status, from which all draw the same conclusion. So any of them may pause or leave at
//! the end of a round, and whoever joins takes part in the next generation's.

use std::time::{Duration, Instant};

use tracing::info;

use super::rows::{Rows, Shape, to_bytes};
use super::status::{Next, Status, next};
use super::{Activations, Filled};
use crate::model::ResNet;
use crate::trainer::error::TrainerError;
use crate::trainer::exchange::Peers;
use crate::trainer::pulse::{Activity, Pulse};
use crate::trainer::samples::Samples;

const ROUND: Duration = Duration::from_millis(500);
/// Between two lines that tell how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// The work, and all that it takes.
#[derive(Debug)]
pub(super) struct Filling<'a> {
    pub(super) activations: &'a mut Activations,
    pub(super) model: &'a ResNet,
    pub(super) samples: &'a Samples,
    pub(super) peers: &'a mut Peers,
    pub(super) pulse: &'a Pulse,
    pub(super) computed: usize,
}

impl Filling<'_> {
    /// # Errors
    /// [`TrainerError`]; what is there by then is kept.
    pub(super) fn run(mut self) -> Result<Filled, TrainerError> {
        let (began, mut told) = (Instant::now(), Instant::now());
        let (mut settled, mut work) = (false, Next::Look);
        loop {
            self.pulse.change(|state| state.activity = Activity::Caching);
            match work {
                Next::Pause => return Ok(Filled::Paused),
                Next::Done => break,
                Next::Look => settled = self.look()?,
                Next::Compute(blocks) => {
                    self.compute(&blocks)?;
                    settled = false;
                }
                Next::Send { source, receivers, blocks } => self.send(source, &receivers, &blocks)?,
            }
            work = next(&self.statuses(settled)?, self.peers.group.rank());
            if told.elapsed() >= TOLD_EVERY {
                told = Instant::now();
                let has = self.activations.has.iter().filter(|has| **has).count();
                info!(blocks = has, of = self.activations.has.len(), "computing the frozen prefix");
            }
        }
        info!(
            blocks = self.activations.has.len(),
            computed = self.computed,
            ms = began.elapsed().as_millis(),
            "the frozen prefix is there"
        );
        Ok(Filled::Ready)
    }

    fn statuses(&mut self, settled: bool) -> Result<Vec<Status>, TrainerError> {
        let activations = &*self.activations;
        let largest = activations.blocks.iter().map(|block| block.rows.len()).max().unwrap_or_default();
        let status = Status {
            key: activations.key,
            pause: self.peers.is_pause_asked(),
            settled,
            block_bytes: (largest * activations.shape.row_bytes()) as u64,
            has: activations.has.clone(),
        };
        let payloads = self.peers.all_gather(&status.encode())?;
        let decode = |(rank, payload): (usize, &Vec<u8>)| {
            Status::decode(payload, activations.blocks.len()).ok_or_else(|| TrainerError::PeerAstray {
                worker: self.peers.name(rank),
                reason: "sent a malformed account of its prefix".to_owned(),
            })
        };
        payloads.iter().enumerate().map(decode).collect()
    }

    /// Tells whether it has looked for all that it lacks.
    fn look(&mut self) -> Result<bool, TrainerError> {
        let (began, activations) = (Instant::now(), &mut *self.activations);
        for (block, has) in activations.blocks.iter().zip(&mut activations.has) {
            if *has {
                continue;
            }
            self.peers.check_cancelled()?;
            if began.elapsed() >= ROUND {
                return Ok(false);
            }
            let size = block.rows.len() * activations.shape.row_bytes();
            if let Some(bytes) = activations.folder.load(&block.name, size) {
                activations.rows.put_bytes(block, &activations.shape, &bytes);
                *has = true;
            }
        }
        Ok(true)
    }

    fn compute(&mut self, blocks: &[usize]) -> Result<(), TrainerError> {
        let began = Instant::now();
        for &number in blocks {
            self.peers.check_cancelled()?;
            let block = &self.activations.blocks[number];
            let table = &self.activations.tables[block.table];
            let ids = &table.ids[block.samples.clone()];
            let images = self.samples.view(table.split, ids, block.mirrored)?;
            let rows = Shape::pack(&self.model.forward_prefix(&images));
            self.activations.rows.put(block, &rows);
            self.keep(number, &to_bytes(&rows))?;
            self.computed += 1;
            if began.elapsed() >= ROUND || self.peers.is_pause_asked() {
                break;
            }
        }
        Ok(())
    }

    fn send(&mut self, source: usize, receivers: &[usize], blocks: &[usize]) -> Result<(), TrainerError> {
        let rank = self.peers.group.rank();
        if rank == source {
            let parts = blocks.iter().map(|block| self.activations.bytes(*block));
            let parts = parts.collect::<Result<Vec<_>, _>>()?;
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            self.peers.send_state(source, receivers, &parts)?;
        } else {
            let parts = self.peers.send_state(source, receivers, &[])?.unwrap_or_default();
            let expected = |block: &usize| self.activations.blocks[*block].rows.len();
            let row_bytes = self.activations.shape.row_bytes();
            let lengths = blocks.iter().map(|block| expected(block) * row_bytes);
            if receivers.contains(&rank) && !parts.iter().map(Vec::len).eq(lengths) {
                let (worker, reason) = (self.peers.name(source), "sent blocks of another size".to_owned());
                return Err(TrainerError::PeerAstray { worker, reason });
            }
            for (&number, bytes) in blocks.iter().zip(&parts) {
                let Activations { blocks, shape, rows, .. } = &*self.activations;
                rows.put_bytes(&blocks[number], shape, bytes);
                self.keep(number, bytes)?;
            }
        }
        Ok(())
    }

    /// A block whose rows are in their place is stored, and counts from then on.
    fn keep(&mut self, number: usize, bytes: &[u8]) -> Result<(), TrainerError> {
        let activations = &mut *self.activations;
        let stored = activations.folder.store(&activations.blocks[number].name, bytes);
        if !stored && matches!(activations.rows, Rows::Files { .. }) {
            // There is nowhere else; what the files have is read into memory in the next round.
            activations.rows = Rows::in_host_memory(&activations.tables, &activations.shape)?;
            activations.has.fill(false);
            activations.rows.put_bytes(&activations.blocks[number], &activations.shape, bytes);
        }
        activations.has[number] = true;
        Ok(())
    }
}
