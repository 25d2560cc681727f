//! What is known of the other end of a connection before it has asked for anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::identity::Identity;

/// How a connection proves who is at its other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// It comes from this machine, to a listener that nobody else reaches.
    Loopback,
    /// TLS has verified a certificate that names somebody.
    Certificate(Identity),
    /// TLS has verified a certificate that names nobody.
    Nameless,
    /// TLS, without a certificate: a token has to come with each request.
    None,
}

/// The other end of a connection, as every request on it finds it.
#[derive(Debug, Clone)]
pub struct Peer {
    pub address: SocketAddr,
    pub proof: Proof,
    standing: Arc<Standing>,
}

/// Whether a connection has been good for anything yet.
#[derive(Debug, Default)]
struct Standing {
    is_proven: AtomicBool,
    cut_off: CancellationToken,
}

impl Peer {
    pub(crate) fn new(address: SocketAddr, proof: Proof) -> Self {
        Self { address, proof, standing: Arc::default() }
    }

    /// A request has been let in: the connection may stay.
    pub(super) fn prove(&self) {
        self.standing.is_proven.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_proven(&self) -> bool {
        self.standing.is_proven.load(Ordering::Relaxed)
    }

    /// Has the connection end once it has been told why, unless it has proven itself before.
    pub(super) fn cut_off(&self) {
        self.standing.cut_off.cancel();
    }

    pub(crate) fn when_cut_off(&self) -> WaitForCancellationFutureOwned {
        self.standing.cut_off.clone().cancelled_owned()
    }
}
