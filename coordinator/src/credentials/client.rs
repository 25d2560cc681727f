//! The client's end: which coordinator a person means, what proves who they are, and the connection made of both.
//!
//! What wins: a flag, then the environment, then `~/.config/lockstep/config.toml`; for each setting by itself.

mod args;
mod config;
mod error;

#[cfg(test)]
mod tests;

use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};

pub use args::RemoteArgs;
pub use error::RemoteError;

/// Long enough for a coordinator across an ocean that is busy, short enough for a person to wait.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A follower that hears nothing for so long asks whether the other end is there, and gives up after so much more.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// A coordinator, and what proves to it who asks.
#[derive(Debug, Clone)]
pub struct Remote {
    url: Uri,
    bearer: Bearer,
}

/// A channel to a coordinator on which every request carries the credentials. What the generated clients take.
pub type Connection = InterceptedService<Channel, Bearer>;

impl Remote {
    /// A coordinator on this machine, which asks for no credentials.
    pub(crate) fn new(url: Uri) -> Self {
        Self { url, bearer: Bearer(None) }
    }

    /// The coordinator's address, for messages.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.to_string().trim_end_matches('/').to_owned()
    }

    /// Connects.
    pub async fn connect(&self) -> Result<Connection, RemoteError> {
        let endpoint = Endpoint::from(self.url.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        let channel =
            endpoint.connect().await.map_err(|error| RemoteError::connecting(&self.url(), &error))?;
        Ok(InterceptedService::new(channel, self.bearer.clone()))
    }

    /// What an answer that is a refusal, or a connection that broke, means for the person who asked.
    #[must_use]
    pub fn explain(&self, status: &Status) -> RemoteError {
        RemoteError::answered(&self.url(), status)
    }
}

/// Puts the token, where there is one, on every request.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Bearer(a token)" } else { "Bearer(none)" })
    }
}
