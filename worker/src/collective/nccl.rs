//! The link between GPUs: NVIDIA's NCCL, on a stream of its own beside the one that libtorch computes on.
//!
//! NCCL and the CUDA runtime are taken from the process at run time, where libtorch_cuda has brought them along ([`api`]):
//! nothing here is needed to build, or on a machine without a GPU. A communicator lives as long as a generation. It never
//! blocks ([`communicator`]): the trainer's thread looks again and again whether something is done, and whether it is of
//! use still, and aborts where it is not. That ends what hangs on the device too.
//!
//! `unsafe` is in [`api`], [`communicator`] and [`stream`], which the rest uses through safe calls.

mod api;
mod communicator;
#[cfg(test)]
mod fake;
mod patience;
mod stream;

use std::time::{Duration, Instant};

use tch::Tensor;
use tracing::warn;

pub use self::api::NcclError;
use self::api::{Api, Float32};
use self::communicator::{Communicator, UniqueId};
use self::patience::Patience;
use self::stream::{Event, Stream};
use super::device::{Check, DeviceLink, Opener, Operation};
use super::error::CollectiveError;

/// Meeting takes NCCL a second or two, and longer on a crowded machine. Who cannot meet goes through the host.
const OPEN_MOST: Duration = Duration::from_secs(60);
/// How long aborted kernels may take to leave the device.
const ABORT_MOST: Duration = Duration::from_secs(10);

/// Opens links from one GPU.
#[derive(Debug)]
pub struct Nccl {
    api: Api,
    /// CUDA's number of the device.
    index: i32,
}

impl Nccl {
    /// From the libraries in this process; libtorch_cuda must be loaded.
    ///
    /// # Errors
    /// [`NcclError`], with a hint.
    pub fn load(index: usize) -> Result<Self, NcclError> {
        Ok(Self { api: Api::load()?, index: i32::try_from(index).unwrap_or(i32::MAX) })
    }
}

impl Opener for Nccl {
    fn identify(&self) -> Result<Vec<u8>, String> {
        let id = UniqueId::new(&self.api).map_err(|error| error.to_string())?;
        Ok(id.to_bytes())
    }

    fn open(
        &self,
        id: &[u8],
        rank: usize,
        world_size: usize,
        check: Check<'_>,
    ) -> Result<Box<dyn DeviceLink>, CollectiveError> {
        let (api, index) = (self.api, self.index);
        let id = UniqueId::from_bytes(id)
            .ok_or_else(|| failed("meeting", "rank 0 sent no identity of a group".to_owned()))?;
        // Before anything else: NCCL takes the thread's device.
        stream::use_device(&api, index)?;
        let link = NcclLink {
            stream: Stream::new(&api)?,
            asked: Event::new(&api)?,
            done: Event::new(&api)?,
            communicator: Communicator::open(&api, &id, rank, world_size, OPEN_MOST, check)?,
            in_flight: Vec::new(),
            closed: false,
            api,
            index,
        };
        Ok(Box::new(link))
    }
}

/// One member's communicator and stream.
#[derive(Debug)]
struct NcclLink {
    // Dropped in this order, after `drop` has emptied the stream.
    communicator: Communicator,
    stream: Stream,
    /// What the device was asked for before an exchange.
    asked: Event,
    /// All exchanges so far.
    done: Event,
    /// Their tensors; libtorch must not give the memory to others before they are done.
    in_flight: Vec<Operation>,
    closed: bool,
    api: Api,
    index: i32,
}

impl DeviceLink for NcclLink {
    fn start(&mut self, operations: Vec<Operation>, check: Check<'_>) -> Result<(), CollectiveError> {
        if self.closed {
            return Err(CollectiveError::Closed);
        }
        let first = self.in_flight.len();
        self.in_flight.extend(operations);
        self.queue(first, check).inspect_err(|_| self.close())
    }

    fn finish(&mut self, check: Check<'_>) -> Result<(), CollectiveError> {
        if self.closed {
            return Err(CollectiveError::Closed);
        }
        let mut patience = Patience::new();
        loop {
            match self.done.is_reached(&self.api) {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    self.close();
                    return Err(error);
                }
            }
            let mut look = || self.communicator.check().and_then(|()| check());
            if let Err(error) = patience.pause(&mut look) {
                self.close();
                return Err(error);
            }
        }
        self.in_flight.clear();
        Ok(())
    }
}

impl NcclLink {
    /// Has the operations from number `first` on follow what libtorch's stream holds by now.
    fn queue(&mut self, first: usize, check: Check<'_>) -> Result<(), CollectiveError> {
        let Self { api, communicator, stream, asked, done, in_flight, index, .. } = self;
        stream::use_device(api, *index)?;
        asked.record_current(api, *index)?;
        stream.wait_for(api, asked)?;
        {
            // libtorch's additions go to this stream too, until the guard is dropped.
            let _guard = stream.make_current(api, *index)?;
            for operation in &mut in_flight[first..] {
                if operation.run_here()? {
                    continue;
                }
                communicator.group(&mut *check, |group| match operation {
                    Operation::Exchange { sends, receives } => {
                        sends.iter().try_for_each(|(to, tensor)| group.send(floats(tensor), *to, stream))?;
                        receives
                            .iter()
                            .try_for_each(|(from, tensor)| group.receive(floats(tensor), *from, stream))
                    }
                    Operation::AllReduce(tensor) => group.all_reduce(floats(tensor), stream),
                    Operation::Copy { .. } | Operation::Add { .. } | Operation::Zero(_) => Ok(()),
                })?;
            }
        }
        done.record(api, stream)
    }

    /// Ends whatever is under way, on the device too: afterwards nothing writes to the tensors any more.
    fn close(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        self.communicator.abort();
        let began = Instant::now();
        let mut patience = Patience::new();
        while !self.in_flight.is_empty() && !self.stream.is_idle(&self.api) {
            if began.elapsed() > ABORT_MOST {
                warn!("aborted exchanges do not leave the GPU; their memory is not used again");
                std::mem::take(&mut self.in_flight).into_iter().for_each(std::mem::forget);
            }
            let _ = patience.pause(&mut || Ok(()));
        }
        self.in_flight.clear();
    }
}

impl Drop for NcclLink {
    fn drop(&mut self) {
        self.close();
    }
}

/// Where a flat tensor lies.
///
/// # Panics
/// If it is not dense or holds other numbers: this program made it, so that would be a mistake in it.
fn floats(tensor: &Tensor) -> Float32 {
    assert!(tensor.is_contiguous() && tensor.kind() == tch::Kind::Float, "a flat f32 tensor");
    Float32 { data: tensor.data_ptr(), len: tensor.numel() }
}

fn failed(what: &'static str, reason: String) -> CollectiveError {
    CollectiveError::Device { what, reason }
}

#[cfg(test)]
mod tests;
