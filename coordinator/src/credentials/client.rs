//! The client's end: which coordinator a person means, what proves who they are, and the connection made of both.
//!
//! What wins: a flag, then the environment, then `~/.config/lockstep/config.toml`; for each setting by itself.

mod args;
mod config;
mod error;
mod proof;

#[cfg(test)]
mod tests;

use std::time::Duration;

use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};

use self::proof::ClientCredentials;

pub use args::RemoteArgs;
pub use error::RemoteError;
pub use proof::Bearer;

/// Long enough for a coordinator across an ocean that is busy, short enough for a person to wait.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A follower that hears nothing for so long asks whether the other end is there, and gives up after so much more.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// A coordinator, and what proves to it who asks.
#[derive(Debug, Clone)]
pub struct Remote {
    url: Uri,
    /// None on loopback, where nobody is asked.
    credentials: Option<ClientCredentials>,
}

/// A channel to a coordinator on which every request carries the credentials. What the generated clients take.
pub type Connection = InterceptedService<Channel, Bearer>;

impl Remote {
    /// The coordinator's address, for messages.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.to_string().trim_end_matches('/').to_owned()
    }

    /// Connects, with the credentials as their files are now: certificates are renewed, and tokens do not live long.
    pub async fn connect(&self) -> Result<Connection, RemoteError> {
        let mut endpoint = Endpoint::from(self.url.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        let mut bearer = Bearer::default();
        if let Some(credentials) = &self.credentials {
            let (tls, token) = credentials.load()?;
            bearer = token;
            let unusable = |error| RemoteError::connecting(&self.url(), &error);
            endpoint = endpoint.tls_config(tls.timeout(CONNECT_TIMEOUT)).map_err(unusable)?;
        }
        let channel =
            endpoint.connect().await.map_err(|error| RemoteError::connecting(&self.url(), &error))?;
        Ok(InterceptedService::new(channel, bearer))
    }

    /// What its owner should see to, though it works.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.credentials.as_ref().and_then(ClientCredentials::looseness).into_iter().collect()
    }

    /// What an answer that is a refusal, or a connection that broke, means for the person who asked.
    #[must_use]
    pub fn explain(&self, status: &Status) -> RemoteError {
        RemoteError::answered(&self.url(), status)
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = self.header() {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}
