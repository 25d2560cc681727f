//! What the server tells of itself: whether its services serve (grpc.health.v1, for load balancers and probes that speak
//! gRPC), and, when that is asked for, what methods it has (for grpcurl and its like).

use lockstep_proto::v1 as pb;
use lockstep_proto::v1::run_service_server::SERVICE_NAME as RUNS;
use lockstep_proto::v1::worker_service_server::SERVICE_NAME as WORKERS;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};

/// Whether the server describes its methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reflection {
    /// The contract is public, and who wants to call something has it.
    #[default]
    Off,
    On,
}

/// Health of the services that there are. With `shutdown` they serve no more: whoever watches is told before the
/// connection ends.
pub(super) async fn health(has_runs: bool, shutdown: CancellationToken) -> HealthServer<impl Health> {
    let (reporter, server) = tonic_health::server::health_reporter();
    let names: &[&str] = if has_runs { &["", WORKERS, RUNS] } else { &["", WORKERS] };
    for name in names {
        reporter.set_service_status(*name, ServingStatus::Serving).await;
    }
    tokio::spawn(async move {
        shutdown.cancelled().await;
        for name in names {
            reporter.set_service_status(*name, ServingStatus::NotServing).await;
        }
    });
    server
}

pub(super) fn reflection(wanted: Reflection) -> Option<ServerReflectionServer<impl ServerReflection>> {
    if wanted == Reflection::Off {
        return None;
    }
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    builder.build_v1().inspect_err(|error| tracing::error!(%error, "no reflection")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_describes_itself_when_asked_to() {
        assert!(reflection(Reflection::Off).is_none());
        assert!(reflection(Reflection::On).is_some());
    }
}
