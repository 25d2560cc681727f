//! Sums over shards whose terms lie on GPUs and stay there.
//!
//! A [`DeviceSum`] says what has to happen to a part of a flat tensor as a list of [`Operation`]s; a [`DeviceLink`]
//! carries them out beside what the device computes meanwhile: NCCL's ([`super::nccl`]), or [`Alone`] where there is
//! nobody else. Whether the members use theirs or go through the host is agreed at a generation's start ([`agree`]),
//! as it takes all of them. Everything small goes over the host's [`super::Collective`] either way.

mod agreement;
mod local;
#[cfg(test)]
pub(crate) mod rehearsal;
mod sum;

use std::fmt::Debug;

use tch::Tensor;

pub use self::agreement::{Agreement, Opener, agree};
pub use self::sum::DeviceSum;
use super::error::CollectiveError;

/// One thing to do on the device. Tensors are flat f32 ones on it, and views of each other's storage at most where they
/// do not overlap.
#[derive(Debug)]
pub enum Operation {
    /// All at once: to and from these ranks. What one rank sends another arrives in the order of the lists.
    Exchange {
        sends: Vec<(usize, Tensor)>,
        receives: Vec<(usize, Tensor)>,
    },
    Copy {
        to: Tensor,
        from: Tensor,
    },
    Add {
        to: Tensor,
        term: Tensor,
    },
    Zero(Tensor),
    /// The sum over all members, in whatever order the transport likes.
    AllReduce(Tensor),
}

impl Operation {
    /// Carries it out where it needs no other member, in libtorch's current queue; tells whether it did.
    pub(super) fn run_here(&mut self) -> Result<bool, CollectiveError> {
        let ran = tch::no_grad(|| {
            match self {
                Self::Copy { to, from } => to.f_copy_(from),
                Self::Add { to, term } => to.f_add_(term).map(|_| ()),
                Self::Zero(tensor) => tensor.f_zero_().map(|_| ()),
                Self::Exchange { .. } | Self::AllReduce(_) => return Ok(false),
            }
            .map(|()| true)
        });
        ran.map_err(|error| device_error("an addition", &error))
    }
}

/// What a sum asks while it waits, again and again: whether waiting is still of use.
pub type Check<'a> = &'a mut dyn FnMut() -> Result<(), CollectiveError>;

/// This member's way to the devices of the others. All members start the same exchanges in the same order.
pub trait DeviceLink: Send + Debug {
    /// Has `operations` done one after another, once everything is done that the device was asked for so far, and beside what
    /// it is asked for later. Keeps their tensors until they are done.
    ///
    /// # Errors
    /// [`CollectiveError`]; the link is closed then.
    fn start(&mut self, operations: Vec<Operation>, check: Check<'_>) -> Result<(), CollectiveError>;

    /// Waits until all that was started is done.
    ///
    /// # Errors
    /// [`CollectiveError`], that of `check` among them; the link is closed then, and nothing is written any more.
    fn finish(&mut self, check: Check<'_>) -> Result<(), CollectiveError>;
}

/// The link of a world of one.
#[derive(Debug, Default, Clone, Copy)]
pub struct Alone;

impl DeviceLink for Alone {
    fn start(&mut self, operations: Vec<Operation>, _: Check<'_>) -> Result<(), CollectiveError> {
        for mut operation in operations {
            // Alone a sum over all members is there already, and there is nobody to exchange with.
            operation.run_here()?;
        }
        Ok(())
    }

    fn finish(&mut self, check: Check<'_>) -> Result<(), CollectiveError> {
        check()
    }
}

/// The first line of what libtorch says; the rest is a stack trace.
pub(super) fn device_error(what: &'static str, error: &dyn std::fmt::Display) -> CollectiveError {
    let reason = error.to_string().lines().next().unwrap_or_default().to_owned();
    CollectiveError::Device { what, reason }
}

#[cfg(test)]
mod tests;
