//! Checkpoints on their way to the coordinator, while training goes on: a queue that the trainer's thread fills and the
//! session empties.
//!
//! All of them arrive: what a recipe asks to be stored is stored. Only when several wait is the trainer held, because
//! memory is not endless.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;
use tracing::{debug, info, warn};

use super::presence::Presence;
use crate::client::Bulk;
use crate::trainer::Snapshot;

/// Snapshots that may wait without the trainer being held.
const WAITING: usize = 3;

/// The queue. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Uploads {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// For the session.
    filled: Notify,
    /// For the trainer.
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// The first one may be under way.
    snapshots: VecDeque<Snapshot>,
    is_under_way: bool,
    /// How often the trainer was called back to its work.
    recalls: u64,
}

impl Queue {
    fn waiting(&self) -> usize {
        self.snapshots.len() - usize::from(self.is_under_way)
    }

    /// Its bytes follow from its position, so none need be there twice.
    fn push(&mut self, snapshot: Snapshot) {
        if self.snapshots.iter().all(|known| known.position != snapshot.position) {
            self.snapshots.push_back(snapshot);
        }
    }
}

impl Uploads {
    /// Takes a snapshot over from the trainer's thread; holds it while too many wait.
    pub(super) fn push(&self, snapshot: Snapshot) {
        let mut queue = self.queue();
        queue.push(snapshot);
        self.shared.filled.notify_one();
        let recalls = queue.recalls;
        let is_held = |queue: &mut Queue| queue.waiting() > WAITING && queue.recalls == recalls;
        drop(self.shared.moved.wait_while(queue, is_held));
    }

    /// Lets go of a trainer that is held: its generation is over.
    pub(super) fn recall_trainer(&self) {
        self.queue().recalls += 1;
        self.shared.moved.notify_all();
    }

    /// Sends one after another, as long as it is polled.
    pub(super) async fn send(&self, bulk: &Bulk, run: &str, worker: &str, presence: Presence) {
        loop {
            let (snapshot, mut presence) = (self.first().await, presence.clone());
            let (step, started) = (snapshot.position.step, Instant::now());
            loop {
                presence.wait().await;
                match bulk.upload(run, worker, &snapshot).await {
                    Ok(()) => {
                        info!(step, ms = started.elapsed().as_millis(), "checkpoint stored");
                        break;
                    }
                    Err(error) if error.is_of_the_connection() => {
                        debug!(step, %error, "the checkpoint is sent again");
                        presence.pause().await;
                    }
                    // What follows from it is the coordinator's to decide.
                    Err(error) => {
                        warn!(step, %error, "the checkpoint was not stored");
                        break;
                    }
                }
            }
            self.sent();
        }
    }

    async fn first(&self) -> Snapshot {
        loop {
            {
                let mut queue = self.queue();
                if let Some(first) = queue.snapshots.front().cloned() {
                    queue.is_under_way = true;
                    self.shared.moved.notify_all();
                    return first;
                }
            }
            self.shared.filled.notified().await;
        }
    }

    fn sent(&self) {
        let mut queue = self.queue();
        queue.snapshots.pop_front();
        queue.is_under_way = false;
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::plan::Position;
    use crate::trainer::CheckpointFiles;

    fn snapshot(step: u64) -> Snapshot {
        let files = Arc::new(CheckpointFiles { model: Vec::new(), optimizer: Vec::new() });
        Snapshot { position: Position { epoch: 0, step }, files }
    }

    fn waiting(uploads: &Uploads) -> Vec<u64> {
        uploads.queue().snapshots.iter().map(|snapshot| snapshot.position.step).collect()
    }

    #[tokio::test]
    async fn all_are_sent_in_order_and_none_twice() {
        let uploads = Uploads::default();
        uploads.push(snapshot(1));
        assert_eq!(uploads.first().await.position.step, 1);
        [2, 1, 3, 2].into_iter().for_each(|step| uploads.push(snapshot(step)));
        assert_eq!(waiting(&uploads), [1, 2, 3]);
        uploads.sent();
        assert_eq!(waiting(&uploads), [2, 3]);
    }

    #[tokio::test]
    async fn the_trainer_is_held_by_too_many_until_one_moves_or_its_generation_is_over() {
        let uploads = Uploads::default();
        (1..=3).for_each(|step| uploads.push(snapshot(step)));
        let hold = |step| {
            let held = uploads.clone();
            let trainer = thread::spawn(move || held.push(snapshot(step)));
            let deadline = Instant::now() + Duration::from_secs(10);
            while !waiting(&uploads).contains(&step) {
                assert!(Instant::now() < deadline, "step {step} was never pushed");
                thread::yield_now();
            }
            trainer
        };
        let held = hold(4);
        assert!(!held.is_finished());
        assert_eq!(uploads.first().await.position.step, 1);
        held.join().unwrap();
        let held = hold(5);
        assert!(!held.is_finished());
        uploads.recall_trainer();
        held.join().unwrap();
    }
}
