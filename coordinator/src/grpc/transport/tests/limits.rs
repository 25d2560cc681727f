//! Whoever keeps the coordinator waiting, or asks too much of it, keeps nobody else from their work.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::*;

/// The first bytes of a TLS handshake, and a promise of more.
const HALF_A_HELLO: &[u8] = &[22, 3, 1, 2, 0, 1, 0, 1];

/// The first bytes of HTTP/2.
const HALF_A_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

fn tight() -> Limits {
    Limits {
        connections: 64,
        connections_per_host: 32,
        unproven: 8,
        unproven_per_host: 8,
        handshake: Duration::from_secs(2),
        proof: Duration::from_secs(3),
        renewal: Duration::from_secs(60),
    }
}

async fn reader(served: &Served) -> Status {
    served.ask(&served.with_pair(served.issue("adam", Role::Reader)), RPCS[5]).await
}

/// Waits until the other end has closed it.
async fn closed(mut stream: impl tokio::io::AsyncRead + Unpin) {
    let mut rest = Vec::new();
    // An end and a reset are both one.
    drop(within(stream.read_to_end(&mut rest)).await);
}

#[tokio::test]
async fn clients_that_crawl_through_their_handshakes_hold_nothing_and_keep_nobody_out() {
    let served = Served::with_limits(tight()).await;
    let mut crawling = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        // One that had to make room already cannot be written to.
        drop(stream.write_all(HALF_A_HELLO).await);
        crawling.push(stream);
        if crawling.len() % 10 == 0 {
            assert_eq!(reader(&served).await.code(), REACHED, "with {} crawling", crawling.len());
        }
    }
    for stream in crawling {
        closed(stream).await;
    }
    served.counted(Reason::Silent, 1).await;
    assert_eq!(reader(&served).await.code(), REACHED);
}

#[tokio::test]
async fn a_connection_that_never_asks_is_closed_before_and_after_its_handshake() {
    let served = Served::with_limits(tight()).await;
    let mute = TcpStream::connect(served.address).await.unwrap();
    let mut shaken = handshake(&served).await;
    let mut dawdling = handshake(&served).await;
    dawdling.write_all(HALF_A_PREFACE).await.unwrap();
    shaken.flush().await.unwrap();
    closed(mute).await;
    closed(shaken).await;
    closed(dawdling).await;
    served.counted(Reason::Silent, 3).await;
}

#[tokio::test]
async fn in_the_clear_on_loopback_a_connection_that_never_asks_is_closed_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let entrance = Entrance::new(listener, None).unwrap().with_limits(tight());
    let shutdown = CancellationToken::new();
    tokio::spawn(serve(entrance, stub::routes(), shutdown.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(HALF_A_PREFACE).await.unwrap();
    closed(stream).await;
    shutdown.cancel();
}

#[tokio::test]
async fn a_connection_that_was_good_for_something_stays_when_it_is_idle() {
    let served = Served::with_limits(tight()).await;
    let args = served.with_pair(served.issue("adam", Role::Reader));
    let connection = args.alone().unwrap().connect().await.unwrap();
    assert_eq!(within(call(connection.clone(), RPCS[5])).await.code(), REACHED);
    // Longer than anybody unproven may stay, as one of them shows.
    closed(handshake(&served).await).await;
    closed(TcpStream::connect(served.address).await.unwrap()).await;
    let before = served.refusals.count(Reason::Silent);
    assert_eq!(within(call(connection, RPCS[5])).await.code(), REACHED);
    assert_eq!(served.refusals.count(Reason::Silent), before);
}

#[tokio::test]
async fn a_host_gets_no_more_connections_than_it_may_have_and_gets_them_back() {
    let limits = Limits { connections_per_host: 3, ..tight() };
    let served = Served::with_limits(limits).await;
    let args = served.with_pair(served.issue("adam", Role::Reader));
    let mut connections = Vec::new();
    for _ in 0..3 {
        let connection = args.alone().unwrap().connect().await.unwrap();
        assert_eq!(within(call(connection.clone(), RPCS[5])).await.code(), REACHED);
        connections.push(connection);
    }
    closed(TcpStream::connect(served.address).await.unwrap()).await;
    assert_eq!(served.refusals.count(Reason::TooManyConnections), 1);
    connections.pop();
    let again = async {
        while args.alone().unwrap().connect().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    within(again).await;
}

#[tokio::test]
async fn a_flood_of_wrong_tokens_is_cut_off_and_the_right_ones_go_on() {
    let (served, other) = (Served::start().await, Served::start().await);
    let hour = jiff::SignedDuration::from_hours(1);
    let forged = token_of(other.folder.path(), other.folder.path(), "eve", Role::Admin, hour);
    let eve = RemoteArgs { token_file: Some(forged), ..served.with_token(PathBuf::new()) };
    let mut codes = Vec::new();
    for _ in 0..4 {
        // A connection that was cut off cannot be used, and a new one costs a handshake.
        let Ok(connection) = eve.alone().unwrap().connect().await else { continue };
        for _ in 0..30 {
            codes.push(within(call(connection.clone(), RPCS[5])).await.code());
        }
    }
    assert!(codes.iter().all(|code| *code != REACHED), "{codes:?}");
    let wrong = codes.iter().filter(|code| **code == Code::Unauthenticated).count();
    assert!((50..90).contains(&wrong), "{wrong} were looked at: {codes:?}");
    assert!(codes.contains(&Code::ResourceExhausted), "{codes:?}");
    assert!(served.refusals.count(Reason::TooManyFailures) > 0);
    assert_eq!(reader(&served).await.code(), REACHED, "the same address, another person");
}

#[tokio::test]
async fn a_session_whose_first_message_does_not_come_ends() {
    let served = Served::start().await;
    let worker = served.issue("gpu-1", Role::Worker);
    let status = within(stub::say_nothing(served.careless(Some(&worker)).await)).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
}

#[tokio::test]
async fn messages_and_headers_that_are_too_long_are_refused() {
    let served = Served::start().await;
    let pair = served.issue("adam", Role::Submitter);
    let channel = served.careless(Some(&pair)).await;
    assert_eq!(within(stub::submit(channel.clone(), 1 << 20)).await.code(), REACHED);
    let status = within(stub::submit(channel.clone(), MESSAGE_BYTES_MAX + 1)).await;
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    assert!(status.message().contains("too large"), "{status}");
    let long: tonic::metadata::MetadataValue<_> = "x".repeat(HEADER_BYTES_MAX as usize).parse().unwrap();
    let wordy = tonic::service::interceptor::InterceptedService::new(
        channel.clone(),
        move |mut request: tonic::Request<()>| {
            request.metadata_mut().insert("x-words", long.clone());
            Ok(request)
        },
    );
    assert_ne!(within(call(wordy, RPCS[5])).await.code(), REACHED);
    assert_eq!(within(stub::submit(channel, 1)).await.code(), REACHED, "the connection survives it");
}

#[tokio::test]
async fn who_speaks_no_tls_is_told_so_and_so_is_who_speaks_it_where_there_is_none() {
    let served = Served::start().await;
    let plain =
        RemoteArgs { coordinator: Some(format!("http://{}", served.address)), ..RemoteArgs::default() };
    let told = match plain.alone().unwrap().connect().await {
        Ok(connection) => plain.alone().unwrap().explain(&within(call(connection, RPCS[5])).await),
        Err(told) => told,
    };
    assert!(matches!(told, RemoteError::Unreachable { .. }), "{told}");
    served.counted(Reason::Handshake, 1).await;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let shutdown = CancellationToken::new();
    tokio::spawn(serve(Entrance::new(listener, None).unwrap(), stub::routes(), shutdown.clone()));
    let args = RemoteArgs { coordinator: Some(url), ..served.with_pair(served.issue("adam", Role::Reader)) };
    let told = within(args.alone().unwrap().connect()).await.unwrap_err();
    assert!(matches!(&told, RemoteError::Unreachable { why, .. } if why.contains("TLS")), "{told}");
    shutdown.cancel();
}

/// A connection that has got through its handshake and shown nothing.
async fn handshake(served: &Served) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(served.ca()).unwrap()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(served.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    within(TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap()
}
