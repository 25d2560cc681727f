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

use crate::collective::device::{Agreement, Alone, Check, DeviceLink, Opener, agree};
use crate::collective::{Cancel, Collective, CollectiveError, Group, Observer, TreeSum};

use super::error::{TrainerError, named};
use super::pulse::{Activity, Pulse};
use crate::model::host_view::{with_slice, with_slice_mut};

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
    /// For tensors shaped like `like`, which `ranges` cover.
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
