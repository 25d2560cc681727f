//! What people look at in a run's folder, written beside the loop: a slow disk or a drawn curve must not hold up a run
//! whose truth is the journal. One write is under way at a time, and the last one, at the end, has it all.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_core::{Entry, History, Run, Status};
use tokio::task::JoinSet;

use super::now;
use crate::run_folder::{RunFacts, RunFolder};

/// How often `run.json` follows what changes without a record: positions and workers.
const LIVE_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Pages {
    folder: Arc<RunFolder>,
    facts: Arc<RunFacts>,
    due: Due,
    /// The write that is under way.
    writing: JoinSet<io::Result<()>>,
    /// What `run.json` tells or is about to, and since when.
    shown: Option<(Status, Instant)>,
}

/// What a record has made out of date.
#[derive(Debug, Clone, Copy, Default)]
struct Due {
    status: bool,
    tables: bool,
    plots: bool,
}

/// A look at the run, to be written.
struct Page {
    folder: Arc<RunFolder>,
    facts: Arc<RunFacts>,
    history: History,
    status: Status,
    due: Due,
}

impl Pages {
    pub(super) fn new(folder: Arc<RunFolder>, facts: RunFacts) -> Self {
        let (due, writing, shown) = (Due::default(), JoinSet::new(), None);
        Self { folder, facts: Arc::new(facts), due, writing, shown }
    }

    /// Something was recorded.
    pub(super) fn note(&mut self, entries: &[Entry]) {
        self.due.status = true;
        for entry in entries {
            match entry {
                Entry::EpochEnded(_) => (self.due.tables, self.due.plots) = (true, true),
                // Rows may have gone, or a crash came before they were written.
                Entry::Resumed { .. } | Entry::TakenOver { .. } => self.due.tables = true,
                _ => {}
            }
        }
    }

    /// Starts to write what is due, unless a write is under way.
    ///
    /// # Errors
    /// When the one before could not be written.
    pub(super) fn look(&mut self, run: &Run) -> io::Result<()> {
        while let Some(written) = self.writing.try_join_next() {
            written.map_err(io::Error::other)??;
        }
        let rests = self.shown.as_ref().is_some_and(|(_, since)| since.elapsed() < LIVE_EVERY);
        if !self.writing.is_empty() || (!self.due.status && rests) {
            return Ok(());
        }
        let status = run.status();
        if !self.due.status && self.shown.as_ref().is_some_and(|(shown, _)| *shown == status) {
            return Ok(());
        }
        let page = self.page(run, status);
        self.writing.spawn_blocking(move || page.write());
        Ok(())
    }

    /// Writes all of it for the last time.
    pub(super) async fn finish(&mut self, run: &Run) -> io::Result<()> {
        while let Some(written) = self.writing.join_next().await {
            written.map_err(io::Error::other)??;
        }
        // Durable from here on.
        self.due.tables = true;
        let page = self.page(run, run.status());
        tokio::task::spawn_blocking(move || page.write()).await.map_err(io::Error::other)?
    }

    fn page(&mut self, run: &Run, status: Status) -> Page {
        self.shown = Some((status.clone(), Instant::now()));
        let (folder, facts) = (Arc::clone(&self.folder), Arc::clone(&self.facts));
        Page { folder, facts, history: run.history().clone(), status, due: std::mem::take(&mut self.due) }
    }
}

impl Page {
    fn write(&self) -> io::Result<()> {
        if self.due.tables {
            self.folder.write_tables(&self.history)?;
        }
        self.folder.write_status(now(), &self.history, &self.status, &self.facts)?;
        if self.due.plots
            && let Err(error) = self.folder.write_plots(&self.history)
        {
            tracing::warn!(%error, "the plots could not be drawn");
        }
        Ok(())
    }
}
