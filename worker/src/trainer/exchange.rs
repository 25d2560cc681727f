//! From the shards' gradients to the step's: sums of local sub-trees first, then the exchange of their tops.
//!
//! Sub-trees are added up where the exchange takes them from, and leaves the sum: in buffers that members on one host see.
//! A flat buffer is exchanged in parts, in one order on all members. A member with a single shard hands a part over
//! as soon as it is written; one with several waits for the last shard, one without any has nothing to add. The
//! calls block; a background exchange would take the same parts in the same order.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tch::{Device, Tensor};

use crate::collective::device::{Agreement, Alone, Check, DeviceLink, Opener, agree};
use crate::collective::{Cancel, Collective, CollectiveError, Group, Observer, SumBuffers, TreeSum};

use super::error::{TrainerError, named};
use super::pulse::{Activity, Pulse};
use crate::model::host_view::{Lent, with_slice};

/// The other members, as a step sees them, and the ways to be called off.
#[derive(Debug)]
pub(super) struct Peers {
    pub(super) group: Group,
    collective: Box<dyn Collective>,
    /// Where gradients stay on the devices.
    link: Option<Box<dyn DeviceLink>>,
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
        let (link, pulse, waited) = (None, pulse.clone(), Duration::ZERO);
        Self { group, collective, link, names, cancel, pause, pulse, waited }
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

    /// Agrees with the other members on the way that sums take from now on. Returns who stood in the way of the devices'
    /// own, and why.
    pub(super) fn link_devices(
        &mut self,
        opener: Option<&Result<Box<dyn Opener>, String>>,
    ) -> Result<Vec<String>, TrainerError> {
        if self.group.world_size() == 1 {
            self.link = opener.map(|_| Box::new(Alone) as Box<dyn DeviceLink>);
            return Ok(Vec::new());
        }
        let opener = opener.map(|opener| opener.as_deref().map_err(Clone::clone));
        match self.exchange(|collective| agree(collective, opener))? {
            Agreement::Device(link) => self.link = Some(link),
            Agreement::Host { reasons } => {
                let told = |(rank, reason): (usize, String)| format!("{}: {reason}", self.name(rank));
                return Ok(reasons.into_iter().map(told).collect());
            }
        }
        Ok(Vec::new())
    }

    pub(super) fn is_linked(&self) -> bool {
        self.link.is_some()
    }

    /// One operation over the devices' link, which there must be.
    pub(super) fn on_devices<T>(
        &mut self,
        operation: impl FnOnce(&mut dyn DeviceLink, Check<'_>) -> Result<T, CollectiveError>,
    ) -> Result<T, TrainerError> {
        let Self { link, collective, cancel, .. } = self;
        let link = link.as_deref_mut().ok_or(CollectiveError::Closed).map_err(TrainerError::Collective)?;
        let started = Instant::now();
        // All wait for all there. Who follows from each to the next comes to the one that does not wait.
        let rank = (self.group.rank() + 1) % self.group.world_size();
        self.pulse.at(Activity::Exchanging { rank });
        let result = operation(link, &mut || {
            if cancel.is_cancelled() { Err(CollectiveError::Cancelled) } else { collective.check() }
        });
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
    /// The shards' values add up here, and here the sum is exchanged.
    buffers: Lent<SumBuffers>,
    /// On the device; none on the CPU, where the sum stays in the buffers.
    on_device: Option<Tensor>,
}

#[derive(Debug)]
struct Part {
    range: Range<usize>,
    local: TreeSum,
}

impl ShardSum {
    /// For those `ranges` of tensors shaped like `like`; all else is zero in the sum.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(super) fn new(
        like: &Tensor,
        ranges: Vec<Range<usize>>,
        peers: &mut Peers,
    ) -> Result<Self, TrainerError> {
        let local = || TreeSum::new(peers.group.shards(), peers.group.block());
        let (depth, sole) = (local().depth(), peers.group.block().len() == 1);
        let parts = ranges.into_iter().map(|range| Part { range, local: local() }).collect();
        let mut buffers = peers.exchange(|collective| collective.buffers(depth, like.numel()))?;
        buffers.sum_mut().fill(0.0);
        let on_device = (like.device() != Device::Cpu).then(|| like.zeros_like());
        Ok(Self { parts, sole, buffers: Lent::new(buffers, SumBuffers::all_mut), on_device })
    }

    /// Where the next shard's values may be written before [`Self::add`], which then has no need to copy them; none when
    /// they are added to another shard's, or lie on another device.
    pub(super) fn place(&self) -> Option<Tensor> {
        let on_host = self.on_device.is_none();
        let index = self.parts.first().filter(|_| on_host)?.local.vacant()?;
        Some(self.buffers.tensor(index).shallow_clone())
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
        let Part { range, local } = &mut self.parts[index];
        if self.sole {
            if values.data_ptr() != self.buffers.tensor(0).data_ptr() {
                narrow(self.buffers.tensor(0), range).copy_(&narrow(values, range));
            }
            return self.reduce(index, peers);
        }
        let is_placed = |index| values.data_ptr() == self.buffers.tensor(index).data_ptr();
        if local.vacant().is_some_and(is_placed) {
            let mut buffers = self.buffers.memory().parts_mut(range.clone());
            return Ok(local.push_placed(shard, &mut buffers)?);
        }
        // The same memory when it is on the CPU already.
        let values = narrow(values, range).to_device(Device::Cpu);
        let mut buffers = self.buffers.memory().parts_mut(range.clone());
        Ok(with_slice(&values, |values| local.push(shard, values, &mut buffers))?)
    }

    /// Exchanges what [`Self::add`] has not: all parts, when this member holds several shards or none. The sum may be
    /// changed in place; the next one overwrites it.
    pub(super) fn finish(&mut self, peers: &mut Peers) -> Result<&mut Tensor, TrainerError> {
        for index in 0..self.parts.len() {
            if self.sole {
                break;
            }
            self.parts[index].local.finish()?;
            self.reduce(index, peers)?;
            self.parts[index].local.clear();
        }
        Ok(self.on_device.as_mut().unwrap_or(self.buffers.tensor_mut(0)))
    }

    fn reduce(&mut self, index: usize, peers: &mut Peers) -> Result<(), TrainerError> {
        let range = &self.parts[index].range;
        if range.is_empty() {
            // Empty on all members alike.
            return Ok(());
        }
        let buffers = self.buffers.memory();
        peers.exchange(|collective| collective.all_reduce_in(buffers, range.clone()))?;
        if let Some(sum) = &self.on_device {
            narrow(sum, range).copy_(&narrow(self.buffers.tensor(0), range));
        }
        Ok(())
    }
}

pub(super) fn narrow(flat: &Tensor, range: &Range<usize>) -> Tensor {
    flat.narrow(0, range.start as i64, range.len() as i64)
}
