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

/// Health of the services. With `shutdown` they serve no more: whoever watches is told before the
/// connection ends.
pub(super) async fn health(shutdown: CancellationToken) -> HealthServer<impl Health> {
    let (mut reporter, server) = tonic_health::server::health_reporter();
    let names = ["", WORKERS, RUNS];
    for name in names {
        reporter.set_service_status(name, ServingStatus::Serving).await;
    }
    tokio::spawn(async move {
        shutdown.cancelled().await;
        for name in names {
            reporter.set_service_status(name, ServingStatus::NotServing).await;
            // Its watchers' streams end with that; open, they would keep the server from its end.
            reporter.clear_service_status(name).await;
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
    use std::path::Path;

    use crate::grpc::transport::Entrance;
    use tokio::net::TcpListener;
    use tonic::Code;
    use tonic::transport::Channel;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    use super::*;
    use crate::cluster::Cluster;
    use crate::grpc::serve_with;
    use crate::home::Home;

    const SERVING: i32 = 1;
    const NOT_SERVING: i32 = 2;

    /// A connection to a server.
    async fn server(home: &Path, reflection: Reflection, shutdown: &CancellationToken) -> Channel {
        let home = Home::open(home).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let blobs = home.blobs.clone();
        let (_, handle) = Cluster::open(home, address).unwrap();
        let entrance = Entrance::new(listener, None).unwrap();
        tokio::spawn(serve_with(entrance, handle, blobs, reflection, shutdown.clone()));
        Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
    }

    #[tokio::test]
    async fn services_serve_until_the_end() {
        let (folder, shutdown) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        let channel = server(folder.path(), Reflection::Off, &shutdown).await;
        let mut client = HealthClient::new(channel);
        for service in ["", WORKERS, RUNS] {
            let request = HealthCheckRequest { service: service.to_owned() };
            assert_eq!(client.check(request).await.unwrap().into_inner().status, SERVING, "{service}");
        }
        let unknown = client.check(HealthCheckRequest { service: "other".to_owned() }).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);

        let request = HealthCheckRequest { service: RUNS.to_owned() };
        let mut told = client.watch(request).await.unwrap().into_inner();
        assert_eq!(told.message().await.unwrap().unwrap().status, SERVING);
        shutdown.cancel();
        assert_eq!(told.message().await.unwrap().unwrap().status, NOT_SERVING);
    }

    #[tokio::test]
    async fn methods_are_described_only_where_that_was_asked_for() {
        for (reflection, code) in [(Reflection::Off, Some(Code::Unimplemented)), (Reflection::On, None)] {
            let (folder, shutdown) = (tempfile::tempdir().unwrap(), CancellationToken::new());
            let channel = server(folder.path(), reflection, &shutdown).await;
            let mut client = ServerReflectionClient::new(channel);
            let list = ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::ListServices(String::new())),
            };
            let answer = client.server_reflection_info(tokio_stream::iter([list])).await;
            assert_eq!(answer.as_ref().err().map(tonic::Status::code), code);
            let Ok(answer) = answer else { continue };
            let Some(MessageResponse::ListServicesResponse(list)) =
                answer.into_inner().message().await.unwrap().unwrap().message_response
            else {
                panic!("it lists nothing")
            };
            let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
            assert!(names.contains(&WORKERS) && names.contains(&RUNS), "{names:?}");
        }
    }
}
