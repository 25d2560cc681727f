//! The samples of a run: which are visited when, where they come from, and what became of them.
//!
//! Everything here is a function of the recipe alone, never of the members: the order and its cuts ([`order`]),
//! the canonical data set file and its tensors ([`dataset`]), evaluation blocks ([`evaluation`]), and the account
//! of every epoch ([`ledger`]). A sample's id is its row in the file.

pub mod dataset;
pub mod evaluation;
mod file;
pub mod ledger;
pub mod order;

pub use dataset::Dataset;
pub use file::{DataError, Needs};
pub use ledger::{EpochLedger, LedgerError, Summary};
