//! Carries orders to the trainer, with the files that they speak of. In order, one at a time, and beside the session's own
//! loop: a pause or the end never waits for a download.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use tracing::debug;

use super::SessionError;
use super::presence::Fetcher;
use super::thread::Controls;
use crate::client::{BeginOrder, EvaluateOrder, MODEL_FILE, OPTIMIZER_FILE, StartFrom, VerdictOrder};
use crate::collective::Listener;
use crate::trainer::{Begin, CheckpointFiles, Command, Evaluate, Start, Verdict};

/// An order on its way.
#[derive(Debug)]
pub(super) enum Errand {
    Prepare { generation: u64 },
    Begin { order: BeginOrder, controls: Controls, listener: Arc<Listener> },
    Verdict(VerdictOrder),
    Evaluate(EvaluateOrder),
}

type Delivery = Pin<Box<dyn Future<Output = Result<Command, SessionError>>>>;

/// What is on its way, and what comes after it.
pub(super) struct Courier {
    fetcher: Fetcher,
    run: String,
    /// The calls to prepare among the rest never wait for anything.
    under_way: Option<Delivery>,
    waiting: VecDeque<Errand>,
}

impl Courier {
    pub(super) fn new(fetcher: Fetcher, run: String) -> Self {
        Self { fetcher, run, under_way: None, waiting: VecDeque::new() }
    }

    pub(super) fn carry(&mut self, errand: Errand) {
        self.waiting.push_back(errand);
    }

    /// The generation is over: only calls to prepare the next one are still of use.
    pub(super) fn drop_all_but_prepare(&mut self) {
        self.under_way = None;
        self.waiting.retain(|errand| matches!(errand, Errand::Prepare { .. }));
    }

    /// The next order that is complete. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// What its files could not be had for.
    pub(super) async fn next(&mut self) -> Result<Command, SessionError> {
        let delivery = match &mut self.under_way {
            Some(delivery) => delivery,
            none => match self.waiting.pop_front() {
                Some(Errand::Prepare { generation }) => return Ok(Command::Prepare { generation }),
                Some(errand) => {
                    none.insert(Box::pin(deliver(self.fetcher.clone(), self.run.clone(), errand)))
                }
                None => std::future::pending().await,
            },
        };
        let delivered = delivery.await;
        self.under_way = None;
        delivered
    }
}

impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Courier").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

async fn deliver(fetcher: Fetcher, run: String, errand: Errand) -> Result<Command, SessionError> {
    let fetch = async |step, file| fetch(&fetcher, &run, step, file).await;
    Ok(match errand {
        Errand::Prepare { generation } => Command::Prepare { generation },
        Errand::Begin { order, controls, listener } => {
            let start = match order.from {
                StartFrom::Initial => Start::Initial,
                StartFrom::Peer(rank) => Start::Peer(rank),
                StartFrom::Checkpoint(step) => {
                    let model = fetch(step, MODEL_FILE).await?;
                    let optimizer = fetch(step, OPTIMIZER_FILE).await?;
                    Start::Checkpoint(CheckpointFiles { model, optimizer })
                }
            };
            Command::Begin(Box::new(begin(order, start, controls, listener)))
        }
        Errand::Verdict(VerdictOrder { generation, epoch, restore_step, save, keep, hold }) => {
            let restore = match restore_step {
                Some(step) => Some(fetch(step, MODEL_FILE).await?),
                None => None,
            };
            Command::Verdict(Verdict { generation, epoch, restore, save, keep, hold })
        }
        Errand::Evaluate(EvaluateOrder { generation, split, weights_step }) => {
            let weights = fetch(weights_step, MODEL_FILE).await?;
            Command::Evaluate(Evaluate { generation, split, weights })
        }
    })
}

fn begin(order: BeginOrder, start: Start, controls: Controls, listener: Arc<Listener>) -> Begin {
    let BeginOrder { generation, rank, peers, token, position, from: _, judged, save, hold } = order;
    let Controls { pause, cancel } = controls;
    Begin { generation, rank, peers, token, position, start, judged, save, hold, listener, pause, cancel }
}

async fn fetch(fetcher: &Fetcher, run: &str, step: u64, file: &'static str) -> Result<Vec<u8>, SessionError> {
    debug!(step, file, "fetching");
    let fetched =
        fetcher.persist(async |bulk| bulk.fetch_checkpoint(run, step, file).await, |error| Some(error));
    fetched.await.map_err(|source| SessionError::Checkpoint { step, file, source })
}
