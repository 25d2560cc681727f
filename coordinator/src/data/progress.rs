//! Who is told how the making of a data set goes; the command line draws bars.

use crate::download::{DownloadProgress, NoProgress};

/// A download, and then pictures that are read or decoded by the thousand.
pub trait DataProgress: DownloadProgress {
    /// `pictures_total` pictures are about to be worked on; `work` says how, as in "decoding pictures".
    fn begin_pictures(&self, work: &str, pictures_total: u64);
    /// So many are done now.
    fn advance_pictures(&self, pictures_done: u64);
    /// The work ended, well or not.
    fn end_pictures(&self);
}

impl DataProgress for NoProgress {
    fn begin_pictures(&self, _work: &str, _pictures_total: u64) {}
    fn advance_pictures(&self, _pictures_done: u64) {}
    fn end_pictures(&self) {}
}
