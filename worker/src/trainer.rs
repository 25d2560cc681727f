//! Training: one device, one replica, on its own thread.

pub mod optimizer;
pub mod schedule;
