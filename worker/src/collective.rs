//! Sums over all members of a generation, with the same bits whoever takes part.
//!
//! Floating-point addition is not associative, so a sum's bits depend on how its terms are bracketed. Here
//! they are bracketed by one fixed binary tree over the run's shards ([`tree`]); members add whole sub-trees
//! of it locally and exchange only the tops ([`exchange`]), over TCP ([`tcp`]) or, on one host, by reading each other's
//! memory. Addition is commutative, so the order in which things arrive never shows. Plain blocking threads: the
//! exchange is the step's barrier.

mod buffers;
mod cancel;
pub mod device;
mod error;
pub mod exchange;
mod frame;
mod handshake;
mod memory;
mod mesh;
pub mod nccl;
pub mod schedule;
mod sharing;
pub mod tcp;
pub mod tree;

pub use buffers::SumBuffers;
pub use cancel::Cancel;
pub use error::CollectiveError;
pub use exchange::{Collective, Group, MAX_PAYLOAD_BYTES, Observer, Solo};
pub use frame::{Header, Kind};
pub use mesh::TcpMesh;
pub use tcp::{Listener, Membership};
pub use tree::{TreeError, TreeSum, tops};

#[cfg(any(test, fuzzing))]
pub mod astray;

#[cfg(test)]
mod tests;
