//! The metrics' names, and where their values come from: what happens is counted where it happens
//! (`crate::cluster::Tally`), what is there is counted when somebody asks.

use std::sync::Arc;
use std::time::Duration;

use lockstep_core::DeviceKind;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::{Refused, process};
use crate::cluster::{Census, ClusterHandle, RunState, Tally, WorkerState};
use crate::mirror;

pub(super) use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

/// The cluster's loop turns in microseconds; without its word the rest is told, and that there is none.
const COUNTED_WITHIN: Duration = Duration::from_secs(1);

type Labels<const N: usize> = [(&'static str, &'static str); N];

#[derive(Debug)]
pub(super) struct Metrics {
    cluster: ClusterHandle,
    registry: Registry,
    gauges: Gauges,
}

/// Set at each look.
#[derive(Debug, Default)]
struct Gauges {
    answers: Gauge,
    runs: Family<Labels<1>, Gauge>,
    workers: Family<Labels<2>, Gauge>,
    sessions: Family<Labels<0>, Gauge>,
    resident_bytes: Gauge,
}

impl Metrics {
    pub(super) fn new(
        cluster: ClusterHandle,
        refused: Option<Arc<dyn Refused>>,
        mirrored: Option<&mirror::Count>,
    ) -> Self {
        let mut registry = Registry::with_prefix("lockstep");
        let gauges = Gauges::default();
        gauges.register(&mut registry);
        register_tally(&mut registry, &cluster.tally());
        if let Some(count) = mirrored {
            register_mirror(&mut registry, count);
        }
        if let Some(refused) = refused {
            registry.register_collector(Box::new(Door(refused)));
        }
        Self { cluster, registry, gauges }
    }

    /// As Prometheus reads it.
    pub(super) async fn text(&self) -> String {
        let census = tokio::time::timeout(COUNTED_WITHIN, self.cluster.census()).await;
        self.gauges.set(census.ok().and_then(Result::ok).as_ref());
        let mut text = String::new();
        if let Err(error) = prometheus_text::encode(&mut text, &self.registry) {
            tracing::error!(%error, "metrics cannot be written");
        }
        text
    }
}

impl Gauges {
    fn register(&self, registry: &mut Registry) {
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The coordinator's version", build);
        let start = ConstGauge::new(process::seconds_since_epoch());
        registry.register_with_unit("process_start_time", "Since 1970, UTC", Unit::Seconds, start);
        let resident = self.resident_bytes.clone();
        registry.register_with_unit("process_resident_memory", "Memory in use", Unit::Bytes, resident);
        registry.register(
            "cluster_answers",
            "1: the cluster's loop has answered this scrape; 0: it has not, and what it counts is left out",
            self.answers.clone(),
        );
        registry.register("runs", "Runs that are not over, by state", self.runs.clone());
        registry.register("workers", "Workers, by state and kind of device", self.workers.clone());
        registry.register("worker_sessions", "Workers that are connected", self.sessions.clone());
    }

    /// Those that nobody could count are told of by nothing, never by old numbers.
    fn set(&self, census: Option<&Census>) {
        self.resident_bytes.set(process::resident_bytes().map_or(0, signed));
        self.answers.set(census.is_some().into());
        let Some(census) = census else {
            self.runs.clear();
            self.workers.clear();
            self.sessions.clear();
            return;
        };
        for (state, name) in RUN_STATES {
            let count = census.runs.get(&state).copied().unwrap_or_default();
            self.runs.get_or_create(&[("state", name)]).set(signed(count as u64));
        }
        for (state, name) in WORKER_STATES {
            for device in [DeviceKind::Cpu, DeviceKind::Cuda] {
                let count = census.workers.get(&(state, device)).copied().unwrap_or_default();
                let labels = [("state", name), ("device", device.as_str())];
                self.workers.get_or_create(&labels).set(signed(count as u64));
            }
        }
        self.sessions.get_or_create(&[]).set(signed(census.sessions as u64));
    }
}

const RUN_STATES: [(RunState, &str); 4] = [
    (RunState::Queued, "queued"),
    (RunState::Preparing, "preparing"),
    (RunState::Running, "running"),
    (RunState::Stopping, "stopping"),
];

const WORKER_STATES: [(WorkerState, &str); 5] = [
    (WorkerState::Free, "free"),
    (WorkerState::Busy, "busy"),
    (WorkerState::Returning, "returning"),
    (WorkerState::Draining, "draining"),
    (WorkerState::Away, "away"),
];

fn register_tally(registry: &mut Registry, tally: &Tally) {
    registry.register("runs_ended", "Runs that are over, by outcome", tally.ended.clone());
    registry.register(
        "generations",
        "Changes of a run's members that were completed, by cause",
        tally.generations.clone(),
    );
    let mut count =
        |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
    count("steps", "Steps of all runs, those made again after a loss included", &tally.steps);
    count("samples", "Training samples of epochs that ended", &tally.samples);
    count("workers_lost", "Workers that a run gave up", &tally.workers_lost);
    count("checkpoints_stored", "Checkpoints that were stored", &tally.checkpoints);
    count(
        "notices_missed",
        "News of runs that came faster than it was counted; so many events the counters may lack",
        &tally.missed,
    );
    let bytes = tally.checkpoint_bytes.clone();
    registry.register_with_unit(
        "checkpoints_stored",
        "Bytes of checkpoints that were stored",
        Unit::Bytes,
        bytes,
    );
    registry.register_with_unit(
        "submit_duration",
        "From a submission's arrival until it was durable and queued",
        Unit::Seconds,
        tally.submit_seconds.clone(),
    );
}

fn register_mirror(registry: &mut Registry, count: &mirror::Count) {
    registry.register(
        "store_uploads",
        "Objects that were sent to the store, by result",
        count.uploads.clone(),
    );
    let (bytes, behind) = (count.bytes.clone(), count.behind_seconds.clone());
    registry.register_with_unit("store_uploaded", "Of files that the store has taken", Unit::Bytes, bytes);
    let help = "Runs with something new that the store lacks";
    registry.register("store_pending_runs", help, count.pending.clone());
    let help = "Since when the store has lacked something; 0: it has everything";
    registry.register_with_unit("store_behind", help, Unit::Seconds, behind);
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What was turned away, as its own counts have it.
#[derive(Debug)]
struct Door(Arc<dyn Refused>);

impl Collector for Door {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Requests and connections that were turned away for their credentials, by reason";
        let mut family = encoder.encode_descriptor("credentials_refused", help, None, MetricType::Counter)?;
        for (reason, count) in self.0.by_reason() {
            let labels = [("reason", reason)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
