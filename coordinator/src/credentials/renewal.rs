//! A coordinator stands for longer than its certificate lasts: what is renewed in its folder counts from the next connection
//! on, a key of tokens from the next request on. Sessions that are there stay.
//!
//! Files cannot notify, and whoever renews them may do so in any way, so they are looked at now and then. What does not
//! fit together is told of, and what was good before stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::ServerCredentials;
use super::authority::{CA_CERT, SERVER_CERT, SERVER_KEY, TOKEN_KEY};
use super::gate::Gate;
use super::refusals::Refusals;
use super::token::TokenKey;

/// By which a file is another one than before.
type Mark = Option<(SystemTime, u64)>;

/// Keeps TLS and tokens as new as their files.
#[derive(Debug)]
pub(crate) struct Renewal {
    folder: PathBuf,
    seen: [Mark; 4],
    tls: watch::Sender<Arc<ServerConfig>>,
    tokens: watch::Sender<Option<TokenKey>>,
}

impl Renewal {
    pub(super) fn new(folder: PathBuf, tls: Arc<ServerConfig>, tokens: Option<TokenKey>) -> Self {
        let seen = marks(&folder);
        Self { folder, seen, tls: watch::Sender::new(tls), tokens: watch::Sender::new(tokens) }
    }

    /// For every new connection.
    pub(crate) fn tls(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.tls.subscribe()
    }

    /// For every request.
    pub(crate) fn gate(&self, refusals: Arc<Refusals>) -> Gate {
        Gate::new(self.tokens.subscribe(), refusals)
    }

    /// Looks at the files, until `shutdown`.
    pub(crate) async fn keep_up(mut self, every: Duration, shutdown: CancellationToken) {
        let mut looks = tokio::time::interval(every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = shutdown.cancelled() => return,
            }
            let looking = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            self = match looking.await {
                Ok(renewal) => renewal,
                Err(_) => return,
            };
        }
    }

    fn look(&mut self) {
        let found = marks(&self.folder);
        if found == self.seen {
            return;
        }
        self.seen = found;
        match ServerCredentials::load(&self.folder) {
            Ok(renewed) => {
                let until = renewed.certificate().valid.until;
                tracing::info!(%until, "the credentials were renewed");
                self.tls.send_replace(renewed.tls());
                self.tokens.send_replace(renewed.tokens());
            }
            Err(error) => {
                tracing::warn!(%error, "the credentials have changed and cannot be used; those before stay")
            }
        }
    }
}

fn marks(folder: &Path) -> [Mark; 4] {
    [CA_CERT, SERVER_CERT, SERVER_KEY, TOKEN_KEY].map(|name| {
        let metadata = std::fs::metadata(folder.join(name)).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}
