//! From the shards' gradients to the step's: sums of local sub-trees first, then the exchange of their tops.
//!
//! A flat buffer is exchanged in parts, in one order on all members. A member with a single shard hands a part over
//! as soon as it is written; one with several waits for the last shard, one without any has nothing to add. The
//! calls block; a background exchange would take the same parts in the same order.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};

use crate::collective::{Cancel, Collective, CollectiveError, Group, Observer, TreeSum};

use super::error::{TrainerError, named};
use super::pulse::{Activity, Pulse};
use crate::model::host_view::{with_slice, with_slice_mut};

/// The other members, as a step sees them, and the ways to be called off.
#[derive(Debug)]
pub(super) struct Peers {
    pub(super) group: Group,
    collective: Box<dyn Collective>,
    /// By rank.
    names: Vec<String>,
    cancel: Cancel,
    /// All members are to pause after the step under way.
    pause: Arc<AtomicBool>,
    pulse: Pulse,
    /// Spent in exchanges since the last [`Self::take_waited`].
    waited: Duration,
}

impl Peers {
    /// From now on `pulse` shows whom this member waits for.
    pub(super) fn new(
        group: Group,
        mut collective: Box<dyn Collective>,
        names: Vec<String>,
        (cancel, pause): (Cancel, Arc<AtomicBool>),
        pulse: &Pulse,
    ) -> Self {
        let watched = pulse.clone();
        collective.observe(Observer::new(move |rank| watched.at(Activity::Exchanging { rank })));
        Self { group, collective, names, cancel, pause, pulse: pulse.clone(), waited: Duration::ZERO }
    }

    /// An early way out of long computations: nothing else would notice a cancel when there is one member only.
    pub(super) fn check_cancelled(&self) -> Result<(), TrainerError> {
        if self.cancel.is_cancelled() { Err(TrainerError::Cancelled) } else { Ok(()) }
    }

    /// The same where a pause can be followed at once, as the replica stands at a boundary.
    pub(super) fn check_paused(&self) -> Result<(), TrainerError> {
        self.check_cancelled()?;
        if self.is_pause_asked() { Err(TrainerError::Paused) } else { Ok(()) }
    }

    pub(super) fn is_pause_asked(&self) -> bool {
        self.pause.load(Ordering::Relaxed)
    }

    pub(super) fn all_gather(&mut self, payload: &[u8]) -> Result<Vec<Vec<u8>>, TrainerError> {
        self.exchange(|collective| collective.all_gather(payload))
    }

    fn all_reduce(&mut self, tops: &[&[f32]], out: &mut [f32]) -> Result<(), TrainerError> {
        self.exchange(|collective| collective.all_reduce(tops, out))
    }

    fn exchange<T>(
        &mut self,
        operation: impl FnOnce(&mut dyn Collective) -> Result<T, CollectiveError>,
    ) -> Result<T, TrainerError> {
        let started = Instant::now();
        let result = operation(&mut *self.collective);
        self.waited += started.elapsed();
        self.pulse.at(Activity::Computing);
        result.map_err(|error| named(error, &self.names))
    }

    /// See [`Collective::send_state`].
    pub(super) fn send_state(
        &mut self,
        source: usize,
        receivers: &[usize],
        parts: &[&[u8]],
    ) -> Result<Option<Vec<Vec<u8>>>, TrainerError> {
        let result = self.collective.send_state(source, receivers, parts);
        result.map_err(|error| named(error, &self.names))
    }

    pub(super) fn name(&self, rank: usize) -> String {
        self.names.get(rank).cloned().unwrap_or_default()
    }

    pub(super) fn take_waited(&mut self) -> Duration {
        std::mem::take(&mut self.waited)
    }
}

/// The sum over all shards of one flat f32 tensor, in parts.
#[derive(Debug)]
pub(super) struct ShardSum {
    parts: Vec<Part>,
    /// This member holds exactly one shard: its values are its only top.
    sole: bool,
    /// On the device.
    sum: Tensor,
    /// Where the collective writes; `sum` itself when the device is the CPU.
    host_sum: Tensor,
}

#[derive(Debug)]
struct Part {
    range: Range<usize>,
    local: TreeSum<f32>,
}

impl ShardSum {
    /// For those `ranges` of tensors shaped like `like`; all else is zero in the sum.
    pub(super) fn new(like: &Tensor, ranges: Vec<Range<usize>>, group: &Group) -> Self {
        let local = |range: &Range<usize>| TreeSum::new(group.shards(), group.block(), range.len());
        let parts = ranges.into_iter().map(|range| Part { local: local(&range), range }).collect();
        let sum = like.zeros_like();
        let host_sum = match sum.device() {
            Device::Cpu => sum.shallow_clone(),
            _ => Tensor::zeros(sum.size(), (Kind::Float, Device::Cpu)),
        };
        Self { parts, sole: group.block().len() == 1, sum, host_sum }
    }

    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Takes part `index` of a shard's values. With a single shard the part is exchanged at once.
    pub(super) fn add(
        &mut self,
        index: usize,
        shard: u32,
        values: &Tensor,
        peers: &mut Peers,
    ) -> Result<(), TrainerError> {
        let part = &mut self.parts[index];
        // The same memory when it is on the CPU already.
        let values = narrow(values, &part.range).to_device(Device::Cpu);
        if !self.sole {
            return Ok(with_slice(&values, |values| part.local.push_slice(shard, values))?);
        }
        with_slice(&values, |values| self.reduce(index, &[values], peers))
    }

    /// Exchanges what [`Self::add`] has not: all parts, when this member holds several shards or none. The sum may be
    /// changed in place; the next one overwrites it.
    pub(super) fn finish(&mut self, peers: &mut Peers) -> Result<&mut Tensor, TrainerError> {
        for index in 0..self.parts.len() {
            if self.sole {
                break;
            }
            // Taken out for the call, which needs the rest of `self`.
            let empty = TreeSum::new(1, 0..0, 0);
            let mut local = std::mem::replace(&mut self.parts[index].local, empty);
            self.reduce(index, &local.tops()?, peers)?;
            local.clear();
            self.parts[index].local = local;
        }
        Ok(&mut self.sum)
    }

    fn reduce(&mut self, index: usize, tops: &[&[f32]], peers: &mut Peers) -> Result<(), TrainerError> {
        let range = &self.parts[index].range;
        if range.is_empty() {
            // Empty on all members alike.
            return Ok(());
        }
        let mut out = narrow(&self.host_sum, range);
        with_slice_mut(&mut out, |out| peers.all_reduce(tops, out))?;
        if self.sum.device() != Device::Cpu {
            narrow(&self.sum, range).copy_(&out);
        }
        Ok(())
    }
}

pub(super) fn narrow(flat: &Tensor, range: &Range<usize>) -> Tensor {
    flat.narrow(0, range.start as i64, range.len() as i64)
}
