//! What the worker says on an open session.
//!
//! There is no queue. Each kind of message has one slot, a newer one takes the place of one that still waits, and the
//! connection takes from the slots, in a fixed order, whenever it has room. So nothing is ever behind something that has
//! lost its meaning, a slow network costs no memory, and who speaks never waits. Log lines come after everything else but a
//! worker's last word, which they explain.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{Stream, stream};
use lockstep_proto::v1;
use lockstep_proto::v1::session_request::Message;
use tokio::sync::Notify;

use super::convert;
use crate::logs::LogTail;
use crate::trainer::{EpochReport, EvalReport, FailureKind, PrefixTold, Progress, Started, pulse};

/// A worker's whole state.
#[derive(Debug, Clone, PartialEq)]
pub struct Heartbeat {
    /// Rises with every one.
    pub sequence: u64,
    /// host:port of the data plane; empty until data and weights are at hand.
    pub address: String,
    pub state: pulse::State,
    /// The member that the state's rank stands for, if it waits for one.
    pub waiting_on: String,
    pub leaving: bool,
}

/// The worker's direction of a session. Dropping it ends the direction.
#[derive(Debug)]
pub struct Outgoing {
    slots: Arc<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    waiting: Mutex<Waiting>,
    filled: Notify,
    logs: LogTail,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: BTreeMap<Kind, Message>,
    is_closed: bool,
}

/// In the order in which they leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Join,
    Heartbeat,
    Started,
    Prefix,
    EpochReport,
    EvalReport,
    Progress,
    Failed,
}

/// A direction that begins with `join`, and what it says; `logs` with it, when they are wanted.
pub(super) fn open(
    join: v1::Join,
    logs: LogTail,
) -> (Outgoing, impl Stream<Item = v1::SessionRequest> + Send + 'static) {
    let slots = Arc::new(Slots { logs, ..Slots::default() });
    slots.put(Message::Join(join));
    let requests = stream::unfold(Arc::clone(&slots), |slots| async move {
        let message = slots.next().await?;
        Some((v1::SessionRequest { message: Some(message) }, slots))
    });
    (Outgoing { slots }, requests)
}

impl Outgoing {
    pub fn heartbeat(&self, heartbeat: Heartbeat) {
        self.slots.put(Message::Heartbeat(convert::heartbeat(heartbeat)));
    }

    pub fn progress(&self, progress: Progress) {
        self.slots.put(Message::Progress(convert::progress(progress)));
    }

    pub fn started(&self, started: Started) {
        self.slots.put(Message::Started(convert::started(started)));
    }

    pub fn prefix(&self, told: PrefixTold) {
        self.slots.put(Message::Prefix(convert::prefix(told)));
    }

    pub fn epoch_report(&self, report: EpochReport) {
        self.slots.put(Message::EpochReport(convert::epoch_report(report)));
    }

    pub fn eval_report(&self, report: EvalReport) {
        self.slots.put(Message::EvalReport(convert::eval_report(report)));
    }

    /// The worker's last word.
    pub fn failed(&self, reason: String, kind: FailureKind) {
        let kind = convert::failure_kind(kind).into();
        self.slots.put(Message::Failed(v1::Failed { reason, kind }));
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.slots.waiting().is_closed = true;
        self.slots.filled.notify_one();
    }
}

impl Slots {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, message: Message) {
        let kind = match &message {
            Message::Join(_) => Kind::Join,
            Message::Heartbeat(_) => Kind::Heartbeat,
            Message::Started(_) => Kind::Started,
            Message::Prefix(_) => Kind::Prefix,
            Message::EpochReport(_) => Kind::EpochReport,
            Message::EvalReport(_) => Kind::EvalReport,
            Message::Failed(_) => Kind::Failed,
            // Log lines have no slot.
            Message::Progress(_) | Message::Logged(_) => Kind::Progress,
        };
        self.waiting().messages.insert(kind, message);
        self.filled.notify_one();
    }

    /// None when the worker has nothing to say any more.
    async fn next(&self) -> Option<Message> {
        loop {
            if let Some(message) = self.take() {
                return Some(message);
            }
            if self.waiting().is_closed {
                return None;
            }
            tokio::select! {
                () = self.filled.notified() => {}
                () = self.logs.filled() => {}
            }
        }
    }

    fn take(&self) -> Option<Message> {
        let mut waiting = self.waiting();
        if waiting.messages.keys().all(|kind| *kind == Kind::Failed)
            && let Some(lines) = self.logs.take()
        {
            return Some(Message::Logged(v1::Logged { lines }));
        }
        waiting.messages.pop_first().map(|(_, message)| message)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use futures_util::StreamExt;

    use super::*;
    use crate::trainer::Pulse;

    fn heartbeat(sequence: u64) -> Heartbeat {
        let (address, waiting_on) = (String::new(), String::new());
        Heartbeat { sequence, address, state: Pulse::new(|| {}).state(), waiting_on, leaving: false }
    }

    #[tokio::test]
    async fn the_newest_heartbeat_leaves_first_and_the_others_never() {
        let (outgoing, requests) = open(v1::Join::default(), LogTail::default());
        outgoing.failed("no more".to_owned(), FailureKind::Run);
        outgoing.heartbeat(heartbeat(1));
        outgoing.heartbeat(heartbeat(2));
        drop(outgoing);
        let said: Vec<Message> = requests.filter_map(|request| async { request.message }).collect().await;
        assert_eq!(said.len(), 3);
        assert!(matches!(&said[0], Message::Join(_)));
        assert!(matches!(&said[1], Message::Heartbeat(heartbeat) if heartbeat.sequence == 2));
        assert!(matches!(&said[2], Message::Failed(_)));
    }

    #[tokio::test]
    async fn log_lines_leave_behind_the_news_and_before_the_last_word() {
        let logs = LogTail::default();
        let (outgoing, requests) = open(v1::Join::default(), logs.clone());
        logs.clone().write_all(b"why\n").unwrap();
        outgoing.failed("no more".to_owned(), FailureKind::Run);
        outgoing.heartbeat(heartbeat(1));
        logs.keep(true);
        drop(outgoing);
        let said: Vec<Message> = requests.filter_map(|request| async { request.message }).collect().await;
        assert_eq!(said.len(), 4);
        assert!(matches!(&said[1], Message::Heartbeat(_)));
        assert!(matches!(&said[2], Message::Logged(logged) if logged.lines == "why\n"));
        assert!(matches!(&said[3], Message::Failed(_)));
    }

    #[tokio::test]
    async fn log_lines_leave_by_themselves() {
        let logs = LogTail::default();
        let (_outgoing, requests) = open(v1::Join::default(), logs.clone());
        tokio::pin!(requests);
        assert!(matches!(requests.next().await.unwrap().message, Some(Message::Join(_))));
        logs.keep(true);
        let (said, ()) = tokio::join!(requests.next(), async { logs.clone().write_all(b"news\n").unwrap() });
        let expected = v1::Logged { lines: "news\n".to_owned() };
        assert_eq!(said.unwrap().message, Some(Message::Logged(expected)));
    }
}
