//! The samples of a run: which are visited when, where they come from, and what became of them.
//!
//! Everything here is a function of the recipe alone, never of the members: the order and its cuts ([`order`]),
//! the canonical data set file and its tensors ([`dataset`]), what is done to pictures ([`augment`]), evaluation blocks
//! ([`evaluation`]), and the account of every epoch ([`ledger`]). A sample's id is its row in the file. Pictures outside of
//! a run come from a [`PictureFile`].

pub mod augment;
pub mod dataset;
pub mod evaluation;
mod file;
mod keyed;
pub mod ledger;
pub mod order;
mod picture_file;
mod pictures;
mod rectangle;
mod resize;
mod transform;

pub use augment::{Augment, Augmenter};
pub use dataset::{Batch, Dataset, Mixed};
pub use file::{DataError, Needs};
pub use ledger::{EpochLedger, LedgerError, Summary};
pub use picture_file::{PictureFile, Tensors};
pub use transform::Look;
