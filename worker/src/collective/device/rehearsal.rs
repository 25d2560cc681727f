//! A link without devices, for tests: members in threads, whose tensors on the CPU go from hand to hand in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tch::Tensor;

use super::{Check, DeviceLink, Opener, Operation};
use crate::collective::error::CollectiveError;

/// Where members meet. Clones are one place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rehearsal {
    shared: Arc<Shared>,
    /// This one cannot open its link.
    is_broken: bool,
}

#[derive(Debug, Default)]
struct Shared {
    groups: AtomicU64,
    /// Sums and exchanges so far, over all members.
    operations: AtomicU64,
    wires: Mutex<HashMap<(u64, usize, usize), VecDeque<Tensor>>>,
    sent: Condvar,
}

impl Rehearsal {
    /// A member that is ready to meet there, and then fails to.
    pub(crate) fn broken(&self) -> Self {
        Self { is_broken: true, ..self.clone() }
    }

    /// How many exchanges went this way.
    pub(crate) fn operations(&self) -> u64 {
        self.shared.operations.load(Ordering::SeqCst)
    }
}

impl Opener for Rehearsal {
    fn identify(&self) -> Result<Vec<u8>, String> {
        Ok(self.shared.groups.fetch_add(1, Ordering::SeqCst).to_le_bytes().to_vec())
    }

    fn open(
        &self,
        id: &[u8],
        rank: usize,
        world_size: usize,
        _: Check<'_>,
    ) -> Result<Box<dyn DeviceLink>, CollectiveError> {
        if self.is_broken {
            return Err(CollectiveError::Device { what: "meeting", reason: "as planned".to_owned() });
        }
        let group = u64::from_le_bytes(id.try_into().expect("an id of this kind"));
        Ok(Box::new(MemoryLink { shared: Arc::clone(&self.shared), group, rank, world_size }))
    }
}

#[derive(Debug)]
struct MemoryLink {
    shared: Arc<Shared>,
    group: u64,
    rank: usize,
    world_size: usize,
}

impl DeviceLink for MemoryLink {
    fn start(&mut self, operations: Vec<Operation>, check: Check<'_>) -> Result<(), CollectiveError> {
        for mut operation in operations {
            if operation.run_here()? {
                continue;
            }
            self.shared.operations.fetch_add(1, Ordering::SeqCst);
            match operation {
                Operation::Exchange { sends, receives } => {
                    sends.iter().for_each(|(to, tensor)| self.send(*to, tensor));
                    for (from, mut tensor) in receives {
                        tensor.copy_(&self.receive(from, &mut *check)?);
                    }
                }
                Operation::AllReduce(mut tensor) => {
                    (0..self.world_size).for_each(|to| self.send(to, &tensor));
                    let _ = tensor.zero_();
                    for from in 0..self.world_size {
                        let _ = tensor.g_add_(&self.receive(from, &mut *check)?);
                    }
                }
                _ => unreachable!("it has run"),
            }
        }
        Ok(())
    }

    fn finish(&mut self, check: Check<'_>) -> Result<(), CollectiveError> {
        check()
    }
}

impl MemoryLink {
    fn send(&self, to: usize, tensor: &Tensor) {
        let mut wires = self.shared.wires.lock().unwrap();
        wires.entry((self.group, self.rank, to)).or_default().push_back(tensor.copy());
        self.shared.sent.notify_all();
    }

    fn receive(&self, from: usize, check: Check<'_>) -> Result<Tensor, CollectiveError> {
        let mut wires = self.shared.wires.lock().unwrap();
        loop {
            let wire = wires.get_mut(&(self.group, from, self.rank));
            if let Some(tensor) = wire.and_then(VecDeque::pop_front) {
                return Ok(tensor);
            }
            check()?;
            wires = self.shared.sent.wait_timeout(wires, Duration::from_millis(5)).unwrap().0;
        }
    }
}
