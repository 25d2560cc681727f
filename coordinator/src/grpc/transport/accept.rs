//! Takes connections in: each in a task of its own until its handshake is done, so that a slow one keeps nobody waiting.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, CertificateError, ServerConfig};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::Limits;
use super::connection::{Connection, Io, Over};
use super::doorway::{Doorway, Place};
use crate::credentials::{Certificate, Peer, Proof, Reason, Refusals, host};

/// Connections that wait for tonic to take them, which it does at once.
const WAITING_MAX: usize = 16;

/// Until the next try, when the machine has run out of open files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long, and for how many bytes, somebody who was refused is listened to, so that what they are told arrives:
/// closing on unread bytes would take it back.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 << 10;

struct Doorkeeper {
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    refusals: Arc<Refusals>,
    limits: Limits,
    doorway: Arc<Doorway>,
    shutdown: CancellationToken,
    ready: mpsc::Sender<io::Result<Connection>>,
}

/// Connections that a server may serve, until `shutdown`.
pub(super) fn connections(
    listener: TcpListener,
    tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    refusals: Arc<Refusals>,
    limits: Limits,
    shutdown: CancellationToken,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, stream) = mpsc::channel(WAITING_MAX);
    let doorway = Doorway::new(limits);
    let keeper = Doorkeeper { tls, refusals, limits, doorway, shutdown, ready };
    tokio::spawn(accept(listener, Arc::new(keeper)));
    ReceiverStream::new(stream)
}

async fn accept(listener: TcpListener, keeper: Arc<Doorkeeper>) {
    let shutdown = keeper.shutdown.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
            () = keeper.ready.closed() => return,
        };
        match accepted {
            Ok((stream, address)) => keeper.take_in(stream, address),
            Err(error) if is_the_peers(&error) => {
                tracing::debug!(%error, "a connection ended before it was accepted")
            }
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                drop(timeout(ACCEPT_PAUSE, shutdown.cancelled()).await);
            }
        }
    }
}

fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

impl Doorkeeper {
    fn take_in(self: &Arc<Self>, stream: TcpStream, address: SocketAddr) {
        // Those who are still to prove themselves go when the server goes.
        let hang_up = self.shutdown.child_token();
        match self.doorway.enter(host(address), hang_up.clone()) {
            Ok(place) => drop(tokio::spawn(Arc::clone(self).greet(stream, address, place, hang_up))),
            Err(full) => self.refusals.note(Reason::TooManyConnections, address, &full),
        }
    }

    async fn greet(
        self: Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        place: Place,
        hang_up: CancellationToken,
    ) {
        let until = Instant::now() + self.limits.proof;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection stays without TCP_NODELAY");
        }
        let (io, proof) = match &self.tls {
            None => (Io::Plain(stream), Proof::Loopback),
            Some(tls) => match self.shake_hands(&now(tls), stream, address, &hang_up).await {
                Some(stream) => {
                    let proof = proof(&stream);
                    (Io::Tls(Box::new(stream)), proof)
                }
                None => return,
            },
        };
        let peer = Peer::new(address, proof);
        let patience = Box::pin(patience(until, hang_up, peer.clone(), self.shutdown.clone()));
        let connection = Connection::new(io, peer, place, patience, Arc::clone(&self.refusals));
        // When nobody takes it, the server is going.
        drop(self.ready.send(Ok(connection)).await);
    }

    /// None when it failed, took too long, or somebody else needs the place: counted, logged, and said to the other end
    /// where TLS has a word for it.
    async fn shake_hands(
        &self,
        tls: &TlsAcceptor,
        stream: TcpStream,
        address: SocketAddr,
        hang_up: &CancellationToken,
    ) -> Option<TlsStream<TcpStream>> {
        let handshake = timeout(self.limits.handshake, tls.accept(stream).into_fallible());
        let late = tokio::select! {
            shaken = handshake => match shaken {
                Ok(Ok(stream)) => return Some(stream),
                Ok(Err((error, stream))) => {
                    let (reason, what) = explain(&error);
                    self.refusals.note(reason, address, &what);
                    farewell(stream, hang_up).await;
                    return None;
                }
                Err(_) => format!("no handshake within {:?}", self.limits.handshake),
            },
            () = hang_up.cancelled() => "no handshake yet, and others wait".to_owned(),
        };
        if !self.shutdown.is_cancelled() {
            self.refusals.note(Reason::Silent, address, &late);
        }
        None
    }
}

/// With the certificate as it is by now.
fn now(tls: &watch::Receiver<Arc<ServerConfig>>) -> TlsAcceptor {
    TlsAcceptor::from(Arc::clone(&tls.borrow()))
}

/// Waits until what was said has arrived.
async fn farewell(mut stream: TcpStream, hang_up: &CancellationToken) {
    let listen = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    tokio::select! {
        _ = timeout(LINGER, listen) => {}
        () = hang_up.cancelled() => {}
    }
}

/// How long a connection may go on without having proven itself.
async fn patience(
    until: Instant,
    hang_up: CancellationToken,
    peer: Peer,
    shutdown: CancellationToken,
) -> Over {
    tokio::select! {
        _ = timeout_at(until, hang_up.cancelled()) => {
            if shutdown.is_cancelled() { Over::Dismissed } else { Over::Silent }
        }
        () = peer.when_cut_off() => {
            drop(timeout(LINGER, hang_up.cancelled()).await);
            Over::Dismissed
        }
    }
}

/// Who is at the other end, as far as the handshake has shown.
fn proof(stream: &TlsStream<TcpStream>) -> Proof {
    let Some([first, ..]) = stream.get_ref().1.peer_certificates() else { return Proof::None };
    let identity = Certificate::from_der(first).ok().and_then(|certificate| certificate.identity);
    identity.map_or(Proof::Nameless, Proof::Certificate)
}

/// Why a handshake failed.
fn explain(error: &io::Error) -> (Reason, String) {
    let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) else {
        return (Reason::Handshake, format!("the connection ended within the handshake: {error}"));
    };
    let reason = match error {
        rustls::Error::InvalidCertificate(fault) => match fault {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Reason::Expired,
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Reason::UnknownAuthority,
            _ => Reason::BadCertificate,
        },
        _ => Reason::Handshake,
    };
    (reason, error.to_string())
}
