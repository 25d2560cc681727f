//! Stopping a member that waits for others: a flag, and the sockets to close so that blocked calls return.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A handle to everything that one generation's data plane may block on. Clones share one state; use a fresh
/// one per generation, as it cannot be undone.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    cancelled: AtomicBool,
    /// Weak, so that a dropped connection is not kept open here.
    streams: Mutex<Vec<Weak<TcpStream>>>,
}

impl Cancel {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes blocked and later calls of the generation return [`super::CollectiveError::Cancelled`].
    pub fn cancel(&self) {
        self.state.cancelled.store(true, Ordering::SeqCst);
        let mut streams = self.state.streams.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in streams.drain(..).filter_map(|stream| stream.upgrade()) {
            close(&stream);
        }
    }

    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.state.cancelled.load(Ordering::SeqCst)
    }

    /// From now on [`Self::cancel`] closes this stream too; at once when it has been called already.
    pub(crate) fn register(&self, stream: &Arc<TcpStream>) {
        let mut streams = self.state.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|known| known.strong_count() > 0);
        streams.push(Arc::downgrade(stream));
        // The flag is set before the list is closed, so one of the two sides sees this stream.
        if self.is_cancelled() {
            close(stream);
        }
    }
}

/// Ends both directions; whoever reads or writes there returns. An error means that it had ended already.
pub(crate) fn close(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Both);
}
