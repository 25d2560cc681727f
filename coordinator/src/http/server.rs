//! Connections: one request each, within bounds of size, number and time, so that no slow or greedy client is felt.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::Operation;

/// At a time. A handful of probers and scrapers asks a few times a minute; more are turned away unheard.
const CONNECTIONS_MAX: usize = 64;

/// What a client may take of time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Until its request is there whole.
    pub(super) request: Duration,
    /// For all of it, the answer's way included.
    pub(super) all: Duration,
}

const PATIENCE: Patience = Patience { request: Duration::from_secs(5), all: Duration::from_secs(10) };

/// Of a request, which has nothing but headers.
const REQUEST_BYTES_MAX: usize = 8 << 10;

const HEADERS_MAX: usize = 64;

/// After an error of accepting, which says mostly that there are too many open files.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves on `listener` until `shutdown`.
pub async fn serve(listener: TcpListener, operation: Operation, shutdown: CancellationToken) {
    serve_within(PATIENCE, listener, operation, shutdown).await;
}

pub(super) async fn serve_within(
    patience: Patience,
    listener: TcpListener,
    operation: Operation,
    shutdown: CancellationToken,
) {
    let operation = Arc::new(operation);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                // One for whom there is no place is closed at once, and its client tries again.
                if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                    let (operation, shutdown) = (Arc::clone(&operation), shutdown.clone());
                    tokio::spawn(
                        shutdown.run_until_cancelled_owned(attend(stream, operation, patience, place)),
                    );
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the port of probes and metrics");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn attend(
    stream: TcpStream,
    operation: Arc<Operation>,
    patience: Patience,
    _place: OwnedSemaphorePermit,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let operation = Arc::clone(&operation);
        // What it may have for a body is not read.
        let (parts, _) = request.into_parts();
        async move { Ok::<_, Infallible>(operation.answer(&parts.method, parts.uri.path()).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.request)
        .max_buf_size(REQUEST_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(patience.all, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a client of the port of probes and metrics"),
        Err(_) => tracing::debug!("a client of the port of probes and metrics took too long"),
    }
}
