//! The sum over all shards of one flat tensor, in parts, without leaving the device.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::local::LocalSum;
use super::{Check, DeviceLink, Operation, device_error};
use crate::collective::error::CollectiveError;
use crate::collective::exchange::Group;
use crate::collective::schedule::{Leaf, Schedule, SumStep};

/// Its parts are exchanged in one order on all members: as a member's last shard completes them, or at the end where it
/// has none. It costs the received tops and a few chunks of memory beside the sum itself.
#[derive(Debug)]
pub struct DeviceSum {
    parts: Vec<Part>,
    block: Range<u32>,
    sum: Tensor,
}

#[derive(Debug)]
struct Part {
    /// Where it lies in the flat tensor.
    range: Range<usize>,
    /// None: the transport sums, in its own order.
    exact: Option<Exact>,
    local: LocalSum,
    started: bool,
}

/// What a sum along the tree needs.
#[derive(Debug)]
struct Exact {
    schedule: Schedule,
    received: Vec<Tensor>,
    /// Those above the first, which is the own chunk of the sum.
    registers: Vec<Tensor>,
}

impl DeviceSum {
    /// For those `ranges` of flat f32 tensors shaped like `like`, on its device; all else is zero in the sum. With `exact` its bits are those of the
    /// tree, whoever holds the shards.
    ///
    /// # Errors
    /// [`CollectiveError::Device`], as when the memory does not suffice.
    pub fn new(
        like: &Tensor,
        ranges: Vec<Range<usize>>,
        group: &Group,
        exact: bool,
    ) -> Result<Self, CollectiveError> {
        let part = |range: Range<usize>| {
            let exact = exact.then(|| Exact::new(like, Schedule::new(group, range.len()))).transpose()?;
            let local = LocalSum::new(group.shards(), group.block());
            Ok(Part { range, exact, local, started: false })
        };
        let parts = ranges.into_iter().map(part).collect::<Result<_, _>>();
        let parts = parts.map_err(|error: tch::TchError| device_error("memory for sums", &error))?;
        let sum = like.f_zeros_like().map_err(|error| device_error("memory for sums", &error))?;
        Ok(Self { parts, block: group.block(), sum })
    }

    /// How many parts it has.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Takes part `index` of a shard's values, which are not to change before [`Self::finish`]. With the member's last
    /// shard the part's exchange starts.
    ///
    /// # Errors
    /// [`CollectiveError`].
    pub fn add(
        &mut self,
        index: usize,
        shard: u32,
        values: &Tensor,
        link: &mut dyn DeviceLink,
        check: Check<'_>,
    ) -> Result<(), CollectiveError> {
        let part = &mut self.parts[index];
        if part.range.is_empty() {
            return Ok(());
        }
        let values = narrow(values, &part.range);
        if self.block.len() == 1 {
            // Its values are the only top.
            return part.start(&self.sum, &[values], link, check);
        }
        if part.local.push(shard, &values)? {
            let tops = part.local.tops();
            part.start(&self.sum, &tops, link, check)?;
        }
        Ok(())
    }

    /// The whole sum, once it is there. It may be changed in place; the next one overwrites it.
    ///
    /// # Errors
    /// [`CollectiveError`].
    pub fn finish(
        &mut self,
        link: &mut dyn DeviceLink,
        check: Check<'_>,
    ) -> Result<&mut Tensor, CollectiveError> {
        for part in self.parts.iter_mut().filter(|part| !part.started && !part.range.is_empty()) {
            if !self.block.is_empty() {
                return Err(CollectiveError::InvalidGroup("a sum was finished before all shards came"));
            }
            part.start(&self.sum, &[], link, &mut *check)?;
        }
        link.finish(check)?;
        for part in &mut self.parts {
            part.local.clear();
            part.started = false;
        }
        Ok(&mut self.sum)
    }
}

impl Part {
    fn start(
        &mut self,
        sum: &Tensor,
        tops: &[Tensor],
        link: &mut dyn DeviceLink,
        check: Check<'_>,
    ) -> Result<(), CollectiveError> {
        let out = narrow(sum, &self.range);
        let operations = match &self.exact {
            Some(exact) => exact.operations(tops, &out),
            None => fast(tops, out),
        };
        self.started = true;
        link.start(operations, check)
    }
}

/// The member's shards in order, then all members as the transport likes.
fn fast(tops: &[Tensor], out: Tensor) -> Vec<Operation> {
    let mut operations = Vec::with_capacity(tops.len() + 1);
    let to = || out.shallow_clone();
    match tops.split_first() {
        None => operations.push(Operation::Zero(to())),
        Some((first, others)) => {
            operations.push(Operation::Copy { to: to(), from: first.shallow_clone() });
            let add = |term: &Tensor| Operation::Add { to: to(), term: term.shallow_clone() };
            operations.extend(others.iter().map(add));
        }
    }
    operations.push(Operation::AllReduce(out));
    operations
}

impl Exact {
    fn new(like: &Tensor, schedule: Schedule) -> Result<Self, tch::TchError> {
        let buffers = |count: usize| {
            let buffer = |_| Tensor::f_zeros([schedule.own.len() as i64], (Kind::Float, like.device()));
            (0..count).map(buffer).collect::<Result<Vec<_>, _>>()
        };
        let received = buffers(schedule.receives.len())?;
        let registers = buffers(schedule.registers.saturating_sub(1))?;
        Ok(Self { schedule, received, registers })
    }

    fn operations(&self, tops: &[Tensor], out: &Tensor) -> Vec<Operation> {
        let Self { schedule, received, registers } = self;
        let own = narrow(out, &schedule.own);
        let register = |index: usize| match index.checked_sub(1) {
            None => own.shallow_clone(),
            Some(above) => registers[above].shallow_clone(),
        };
        let leaf = |leaf: Leaf| match leaf {
            Leaf::Own(top) => narrow(&tops[top], &schedule.own),
            Leaf::Received(index) => received[index].shallow_clone(),
        };
        let sends = schedule.sends.iter().map(|send| (send.to, narrow(&tops[send.top], &send.range)));
        let receives = schedule.receives.iter().zip(received);
        let receives = receives.map(|(receive, buffer)| (receive.from, buffer.shallow_clone()));
        let mut operations = exchange(sends.collect(), receives.collect());
        operations.extend(schedule.sums.iter().map(|step| match *step {
            SumStep::Copy { register: to, leaf: from } => {
                Operation::Copy { to: register(to), from: leaf(from) }
            }
            SumStep::AddLeaf { register: to, leaf: term } => {
                Operation::Add { to: register(to), term: leaf(term) }
            }
            SumStep::AddRegister { register: to, term } => {
                Operation::Add { to: register(to), term: register(term) }
            }
        }));
        let hand_over = schedule.hand_to.iter().map(|to| (*to, own.shallow_clone()));
        let take = schedule.take_from.iter().map(|(from, range)| (*from, narrow(out, range)));
        operations.extend(exchange(hand_over.collect(), take.collect()));
        operations
    }
}

fn exchange(sends: Vec<(usize, Tensor)>, receives: Vec<(usize, Tensor)>) -> Vec<Operation> {
    if sends.is_empty() && receives.is_empty() {
        return Vec::new();
    }
    vec![Operation::Exchange { sends, receives }]
}

fn narrow(flat: &Tensor, range: &Range<usize>) -> Tensor {
    flat.narrow(0, range.start as i64, range.len() as i64)
}
