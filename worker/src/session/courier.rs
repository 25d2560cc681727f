//! Carries orders to the trainer, with the files that they speak of. In order, one at a time, beside the session's
//! own loop: a halt or the end of the session never waits for a download.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tracing::{debug, info};

use super::blobs::Blobs;
use super::thread::Controls;
use super::{SessionError, Settings};
use crate::client::{BeginOrder, Client, MODEL_FILE, OPTIMIZER_FILE, Order, Outgoing};
use crate::collective::Listener;
use crate::plan::Plan;
use crate::trainer::{Begin, CheckpointFiles, Command, Evaluate, Verdict};

/// An order on its way, and the controls of the generation that it belongs to.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) order: Order,
    pub(super) controls: Controls,
}

#[derive(Debug)]
pub(super) struct Courier<'a> {
    pub(super) settings: &'a Settings,
    pub(super) plan: &'a Plan,
    pub(super) client: Client,
    pub(super) outgoing: Outgoing,
    pub(super) blobs: Blobs,
    pub(super) commands: SyncSender<Command>,
    /// Opened with the first generation; later ones keep its address.
    pub(super) listener: Option<Arc<Listener>>,
}

impl Courier<'_> {
    /// Delivers until something fails.
    pub(super) async fn run(mut self, mut parcels: mpsc::Receiver<Parcel>) -> Result<(), SessionError> {
        while let Some(Parcel { order, controls }) = parcels.recv().await {
            match order {
                Order::Prepare { generation } => self.prepare(generation).await?,
                Order::Begin(order) => self.begin(order, controls).await?,
                Order::Verdict { generation, epoch, restore_step, save, hold } => {
                    let restore = match restore_step {
                        Some(step) => Some(self.fetch(step, MODEL_FILE).await?),
                        None => None,
                    };
                    self.command(Command::Verdict(Verdict { generation, epoch, restore, save, hold }))?;
                }
                Order::Evaluate { generation, split, weights_step } => {
                    let weights = self.fetch(weights_step, MODEL_FILE).await?;
                    self.command(Command::Evaluate(Evaluate { generation, split, weights }))?;
                }
                // The session acts on these at once.
                Order::Halt { .. } | Order::Finish { .. } => {}
            }
        }
        Ok(())
    }

    async fn prepare(&mut self, generation: u64) -> Result<(), SessionError> {
        for digest in self.plan.blobs() {
            self.blobs.obtain(&self.client, digest).await?;
        }
        let address = self.listen().await?;
        info!(generation, address, "ready");
        Ok(self.outgoing.prepared(generation, address).await?)
    }

    /// Opens the data plane, once, and returns where other members reach it.
    async fn listen(&mut self) -> Result<String, SessionError> {
        let Settings { listen, advertise, url, .. } = self.settings;
        let refuse = |source| SessionError::Listen { address: listen.clone(), source };
        let listener = match &self.listener {
            Some(listener) => listener,
            None => self.listener.insert(Arc::new(Listener::bind(listen).map_err(refuse)?)),
        };
        let local = listener.local_addr().map_err(refuse)?;
        Ok(match advertise {
            Some(host) if host.contains(':') => format!("[{host}]:{}", local.port()),
            Some(host) => format!("{host}:{}", local.port()),
            None if local.ip().is_unspecified() => {
                SocketAddr::new(outward_ip(url).await.unwrap_or(Ipv4Addr::LOCALHOST.into()), local.port())
                    .to_string()
            }
            None => local.to_string(),
        })
    }

    async fn begin(&self, order: BeginOrder, controls: Controls) -> Result<(), SessionError> {
        let checkpoint = match order.checkpoint_step {
            Some(step) => {
                let model = self.fetch(step, MODEL_FILE).await?;
                Some(CheckpointFiles { model, optimizer: self.fetch(step, OPTIMIZER_FILE).await? })
            }
            None => None,
        };
        let listener = self.listener.clone().ok_or(SessionError::Unprepared)?;
        self.command(Command::Begin(Begin {
            generation: order.generation,
            rank: order.rank,
            peers: order.peers,
            token: order.token,
            position: order.position,
            checkpoint,
            hold: order.hold,
            listener,
            halt: controls.halt,
            cancel: controls.cancel,
        }))
    }

    async fn fetch(&self, step: u64, file: &'static str) -> Result<Vec<u8>, SessionError> {
        debug!(step, file, "fetching");
        let fetched = self.client.fetch_checkpoint(&self.plan.run, step, file).await;
        fetched.map_err(|source| SessionError::Checkpoint { step, file, source })
    }

    fn command(&self, command: Command) -> Result<(), SessionError> {
        // A closed channel means that the trainer has ended; that is told elsewhere, with the reason.
        match self.commands.try_send(command) {
            Err(std::sync::mpsc::TrySendError::Full(_)) => Err(SessionError::Flooded),
            Ok(()) | Err(std::sync::mpsc::TrySendError::Disconnected(_)) => Ok(()),
        }
    }
}

/// The address of this machine that packets to the coordinator leave from. Nothing is sent.
async fn outward_ip(url: &str) -> Option<IpAddr> {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next()?;
    for target in tokio::net::lookup_host(authority).await.ok()? {
        let any: SocketAddr = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().ok()?;
        let socket = UdpSocket::bind(any).await.ok()?;
        if socket.connect(target).await.is_ok() {
            return socket.local_addr().ok().map(|address| address.ip());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_way_to_the_coordinator_gives_the_address() {
        assert_eq!(outward_ip("http://127.0.0.1:9/x").await, Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(outward_ip("127.0.0.1:9").await, Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(outward_ip("no port").await, None);
    }
}
