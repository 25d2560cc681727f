//! The connections beneath the services: how much may be on its way, and when one that says nothing is given up.

use std::time::Duration;

use tonic::transport::Server;

/// A connection whose other end is gone without a word (a machine that lost its power, a cable) ends after this much
/// silence and so much more. A worker's own silence is the lease's matter, which is shorter.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What may be on its way before it is read. With HTTP/2's 64 KiB a checkpoint of 94 MB stands still 1,400 times for
/// somebody to get a core: as long as the training of a frozen network takes for an epoch.
const WINDOW_BYTES: u32 = 8 << 20;

/// A server without services yet.
pub(super) fn server() -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}
