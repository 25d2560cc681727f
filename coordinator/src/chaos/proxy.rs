//! The way between workers and coordinator, which can be cut for one worker at a time.
//!
//! Workers are told the proxy's address, which stays; the coordinator's, which a resume changes, is read from its run's
//! folder for every new connection. Whose a connection is, the system knows: the socket at its other end belongs to a
//! process.

mod owner;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::run_folder::Serving;

/// What one read takes at the most.
const CHUNK_BYTES: usize = 64 << 10;

/// What happens to a connection's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// Nothing passes, in either direction, and neither side hears of it.
    Mute,
    /// Both sides see it closed.
    Cut,
}

/// A listening proxy; gone with its value.
#[derive(Debug)]
pub(super) struct Proxy {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    _serving: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Shared {
    connections: Vec<Connection>,
    /// A process that is kept from the coordinator, and how.
    against: Option<(u32, Gate)>,
}

#[derive(Debug)]
struct Connection {
    /// Of the worker's socket.
    inode: u64,
    gate: watch::Sender<Gate>,
}

impl Proxy {
    /// Listens on a free port and forwards to wherever the coordinator of the run in `folder` is.
    pub(super) async fn start(folder: &Path) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::default();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, folder.to_owned(), Arc::clone(&shared)));
        Ok(Self { address, shared, _serving: serving })
    }

    /// What workers are told.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Keeps a process from the coordinator, until [`Self::open`]. Returns how many of its connections that hit.
    pub(super) fn close(&self, pid: u32, gate: Gate) -> usize {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.against = Some((pid, gate));
        let sockets = owner::sockets(pid);
        let mut hit = 0;
        for connection in shared.connections.iter().filter(|connection| sockets.contains(&connection.inode)) {
            connection.gate.send_replace(gate);
            hit += 1;
        }
        hit
    }

    /// Lets everybody through again.
    pub(super) fn open(&self) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.against = None;
        for connection in &shared.connections {
            connection.gate.send_if_modified(|gate| {
                let was_mute = *gate == Gate::Mute;
                if was_mute {
                    *gate = Gate::Open;
                }
                was_mute
            });
        }
    }
}

async fn serve(listener: TcpListener, folder: PathBuf, shared: Arc<Mutex<Shared>>) {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((worker, from)) = accepted else { continue };
                let gate = admit(&shared, owner::inode(from.port(), port).unwrap_or(0));
                let folder = folder.clone();
                connections.spawn(async move { drop(forward(worker, &folder, gate).await) });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Notes a new connection, which stands as its process does.
fn admit(shared: &Mutex<Shared>, inode: u64) -> watch::Receiver<Gate> {
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    shared.connections.retain(|connection| connection.gate.receiver_count() > 0);
    let gate = match shared.against {
        Some((pid, gate)) if owner::sockets(pid).contains(&inode) => gate,
        _ => Gate::Open,
    };
    let (gate, receiver) = watch::channel(gate);
    shared.connections.push(Connection { inode, gate });
    receiver
}

/// Until one side ends, or the gate is cut.
async fn forward(worker: TcpStream, folder: &Path, gate: watch::Receiver<Gate>) -> io::Result<()> {
    // Where the coordinator is away, the worker sees its connection closed, as it would without a proxy.
    let Some(Serving { address, .. }) = Serving::read(folder) else { return Ok(()) };
    let coordinator = TcpStream::connect(address).await?;
    drop((worker.set_nodelay(true), coordinator.set_nodelay(true)));
    let ((from_worker, to_worker), (from_coordinator, to_coordinator)) =
        (worker.into_split(), coordinator.into_split());
    let mut cut = gate.clone();
    tokio::select! {
        _ = cut.wait_for(|gate| *gate == Gate::Cut) => Ok(()),
        ended = pump(from_worker, to_coordinator, gate.clone()) => ended,
        ended = pump(from_coordinator, to_worker, gate) => ended,
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut gate: watch::Receiver<Gate>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = from.read(&mut chunk).await?;
        // An end passes through the gate like any other word.
        drop(gate.wait_for(|gate| *gate != Gate::Mute).await);
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&chunk[..count]).await?;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A coordinator that says back what it hears, in a run's folder that tells of it.
    async fn echo(folder: &Path) -> JoinSet<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let here = format!(
            r#"{{"address":"{address}","worker_url":"http://proxy","pid":1,"term":1,"started_at_ms":0}}"#
        );
        std::fs::write(folder.join("coordinator.json"), here).unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    drop(tokio::io::copy(&mut from, &mut to).await);
                });
            }
        });
        serving
    }

    async fn says_back(stream: &mut TcpStream, word: &[u8; 4]) -> io::Result<()> {
        stream.write_all(word).await?;
        let mut heard = [0; 4];
        stream.read_exact(&mut heard).await?;
        assert_eq!(&heard, word);
        Ok(())
    }

    #[tokio::test]
    async fn bytes_pass_until_the_connection_is_cut_and_new_ones_pass_when_it_is_open_again() {
        let folder = tempfile::tempdir().unwrap();
        let _coordinator = echo(folder.path()).await;
        let proxy = Proxy::start(folder.path()).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        says_back(&mut stream, b"here").await.unwrap();
        assert_eq!(proxy.close(std::process::id(), Gate::Cut), 1);
        assert_eq!(stream.read(&mut [0; 4]).await.unwrap_or(0), 0, "closed");
        let mut refused = TcpStream::connect(proxy.address).await.unwrap();
        assert_eq!(refused.read(&mut [0; 4]).await.unwrap_or(0), 0, "closed");
        proxy.open();
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        says_back(&mut stream, b"back").await.unwrap();
    }

    #[tokio::test]
    async fn a_mute_connection_says_later_what_was_said() {
        let folder = tempfile::tempdir().unwrap();
        let _coordinator = echo(folder.path()).await;
        let proxy = Proxy::start(folder.path()).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        says_back(&mut stream, b"here").await.unwrap();
        assert_eq!(proxy.close(std::process::id(), Gate::Mute), 1);
        stream.write_all(b"late").await.unwrap();
        let mut heard = [0; 4];
        let silence = tokio::time::timeout(Duration::from_millis(50), stream.read_exact(&mut heard)).await;
        assert!(silence.is_err(), "nothing passes");
        proxy.open();
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"late");
    }

    #[tokio::test]
    async fn another_process_is_not_hit_and_a_coordinator_that_moved_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let first = echo(folder.path()).await;
        let proxy = Proxy::start(folder.path()).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        says_back(&mut stream, b"here").await.unwrap();
        assert_eq!(proxy.close(1, Gate::Cut), 0);
        says_back(&mut stream, b"yet!").await.unwrap();
        drop(first);
        let _second = echo(folder.path()).await;
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        says_back(&mut stream, b"next").await.unwrap();
    }
}
