//! What machines that watch over a coordinator ask of it over plain HTTP: `/healthz` (this process serves), `/readyz` (the
//! journal writes, and the cluster answers), `/metrics` (Prometheus).
//!
//! A port of its own, off unless asked for. A prober has neither certificate nor gRPC, and so nothing here is worth a
//! credential: numbers, no names of runs, workers or people, nothing that can be changed. Anybody may ask, and so nothing
//! here may be made expensive: connections, their time and what they send are bounded (`server`), the disk is tried once a
//! second at the most however many ask (`readiness`), and the cluster only counts (`metrics`).

mod metrics;
mod process;
mod readiness;
mod server;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};

use self::metrics::Metrics;
use self::readiness::Readiness;
use crate::cluster::ClusterHandle;
use crate::credentials::Refusals;
use crate::mirror;

pub use self::server::serve;

/// Counts of what was turned away at the door, for who keeps them.
pub trait Refused: fmt::Debug + Send + Sync + 'static {
    /// For each reason, of a set that is known before, how many so far.
    fn by_reason(&self) -> Vec<(&'static str, u64)>;
}

impl Refused for Refusals {
    fn by_reason(&self) -> Vec<(&'static str, u64)> {
        self.counts().map(|(reason, count)| (reason.as_str(), count)).collect()
    }
}

/// What is told, and how it is found out.
#[derive(Debug)]
pub struct Operation {
    readiness: Readiness,
    metrics: Metrics,
}

type Page = Response<Full<Bytes>>;

impl Operation {
    /// Of a cluster; `refused` where there is a door, `mirrored` where there is a store.
    #[must_use]
    pub fn new(
        cluster: ClusterHandle,
        refused: Option<Arc<dyn Refused>>,
        mirrored: Option<&mirror::Count>,
    ) -> Self {
        let readiness = Readiness::new(cluster.clone());
        Self { readiness, metrics: Metrics::new(cluster, refused, mirrored) }
    }

    async fn answer(&self, method: &Method, path: &str) -> Page {
        if method != Method::GET {
            let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return refusal;
        }
        match path {
            "/healthz" => plain(StatusCode::OK, "ok\n"),
            "/readyz" => match self.readiness.look().await {
                Ok(()) => plain(StatusCode::OK, "ok\n"),
                Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
            },
            "/metrics" => page(StatusCode::OK, metrics::CONTENT_TYPE, self.metrics.text().await),
            _ => plain(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n"),
        }
    }
}

fn plain(status: StatusCode, text: impl Into<String>) -> Page {
    page(status, "text/plain; charset=utf-8", text.into())
}

fn page(status: StatusCode, kind: &'static str, text: String) -> Page {
    let mut page = Response::new(Full::new(Bytes::from(text)));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}
