//! Who trusts whom, over real connections.

use std::fs;
use std::path::PathBuf;

use tonic::transport::{Identity, ServerTlsConfig};

use super::fake::{Authority, Coordinator, Validity};
use super::*;

fn introduction() -> Introduction {
    Introduction {
        name: "worker-0".to_owned(),
        device: "cpu".to_owned(),
        memory_bytes: 1,
        host: "here".to_owned(),
        pid: 1,
        libtorch_version: "none".to_owned(),
        incarnation: 1,
        term: 0,
        run: None,
    }
}

/// A worker that knows `authority`'s coordinators, and shows `identity`.
fn credentials(authority: &Authority, identity: Option<(PathBuf, PathBuf)>) -> Credentials {
    Credentials { ca: Some(authority.ca()), identity, token_file: None }
}

/// What a worker hears that joins and would be pooled.
async fn join(coordinator: &mut Coordinator, credentials: Credentials) -> Result<Answer, ClientError> {
    let access = Access::new(&coordinator.url, credentials)?;
    let joining = async {
        let (answer, _outgoing, _incoming) =
            Client::connect(&access).await?.join(introduction(), &LogTail::default()).await?;
        Ok(answer)
    };
    tokio::pin!(joining);
    tokio::select! {
        joined = &mut joining => joined,
        session = coordinator.session() => {
            session.pool().await;
            joining.await
        }
    }
}

/// What a worker shows that is let in.
async fn shown(coordinator: &mut Coordinator, access: &Access) -> Option<String> {
    let client = Client::connect(access).await.unwrap();
    let pooled = async {
        let session = coordinator.session().await;
        session.pool().await;
        session.authorization.clone()
    };
    let logs = LogTail::default();
    let (joined, shown) = tokio::join!(client.join(introduction(), &logs), pooled);
    joined.unwrap();
    shown
}

/// The one line that a person reads of it; it is no use to try again.
fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> String {
    let error = result.unwrap_err();
    assert!(!error.is_passing() && !error.is_of_the_connection(), "{error:?}");
    let line = error.to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

#[tokio::test]
async fn worker_and_coordinator_know_each_other_by_their_certificates_on_both_connections() {
    let authority = Authority::new();
    let mut coordinator = Coordinator::start_with(authority.server(Validity::Good, &authority)).await;
    let identity = authority.issue("worker", Validity::Good);
    let credentials = credentials(&authority, Some(identity));
    assert!(matches!(join(&mut coordinator, credentials.clone()).await.unwrap(), Answer::Pooled(_)));
    let bulk = Bulk::new(&Access::new(&coordinator.url, credentials).unwrap()).unwrap();
    let mut download = bulk.fetch_blob(&fake::digest()).await.unwrap();
    assert!(download.next().await.unwrap().is_some());
}

#[tokio::test]
async fn a_coordinator_that_is_not_this_clusters_is_not_trusted_and_hears_nothing() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let cases = [
        (&theirs, Validity::Good, "its certificate is from another authority; hint: is --ca the ca.pem"),
        (&ours, Validity::Expired, "its certificate has expired; hint: the coordinator needs a new one"),
        (&ours, Validity::OtherName, "its certificate is for another name; hint: use a name"),
    ];
    for (authority, validity, expected) in cases {
        let coordinator = Coordinator::start_with(authority.server(validity, &ours)).await;
        let identity = ours.issue("worker", Validity::Good);
        let access = Access::new(&coordinator.url, credentials(&ours, Some(identity))).unwrap();
        let line = refusal(Client::connect(&access).await);
        assert!(line.starts_with(&format!("the coordinator cannot be trusted: {expected}")), "{line}");
        let line = refusal(Bulk::new(&access).unwrap().fetch_blob("0").await);
        assert!(line.starts_with(&format!("the coordinator cannot be trusted: {expected}")), "{line}");
    }
}

#[tokio::test]
async fn a_worker_that_is_not_let_in_learns_why_and_does_not_try_again() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let mut coordinator = Coordinator::start_with(ours.server(Validity::Good, &ours)).await;
    let cases = [
        (None, "it asks for a certificate (--cert FILE --key FILE)"),
        (Some(theirs.issue("worker", Validity::Good)), "this worker's certificate is from another authority"),
        (Some(ours.issue("worker", Validity::Expired)), "this worker's certificate has expired"),
    ];
    for (identity, expected) in cases {
        let credentials = credentials(&ours, identity);
        let expected = format!("the coordinator does not let this worker in: {expected}; hint: ");
        let line = refusal(join(&mut coordinator, credentials.clone()).await);
        assert!(line.starts_with(&expected), "{line}");
        let bulk = Bulk::new(&Access::new(&coordinator.url, credentials).unwrap()).unwrap();
        let line = refusal(bulk.fetch_blob("0").await);
        assert!(line.starts_with(&expected), "{line}");
    }
}

#[tokio::test]
async fn a_token_is_shown_with_every_request_as_it_is_then_and_over_tls_only() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("server", Validity::Good);
    let identity = Identity::from_pem(fs::read(certificate).unwrap(), fs::read(key).unwrap());
    let token_file = authority.dir().join("token");
    let credentials = Credentials { token_file: Some(token_file.clone()), ..credentials(&authority, None) };
    let mut coordinator = Coordinator::start_with(ServerTlsConfig::new().identity(identity)).await;
    fs::write(&token_file, "first\n").unwrap();
    let access = Access::new(&coordinator.url, credentials.clone()).unwrap();
    // It is read anew: tokens are short-lived.
    for token in ["first", "second"] {
        fs::write(&token_file, format!("{token}\n")).unwrap();
        let shown = shown(&mut coordinator, &access).await;
        assert_eq!(shown, Some(format!("Bearer {token}")));
    }
    fs::write(&token_file, "two words").unwrap();
    let client = Client::connect(&access).await.unwrap();
    let line = refusal(client.join(introduction(), &LogTail::default()).await);
    assert!(line.contains("holds no token"), "{line}");

    let mut plain = Coordinator::start().await;
    let access = Access::new(&plain.url, credentials).unwrap();
    assert!(!access.leaves_credentials_unused(), "on loopback nobody is asked");
    assert_eq!(shown(&mut plain, &access).await, None);
}

#[tokio::test]
async fn a_wrong_scheme_is_told_apart_from_a_coordinator_that_is_not_there() {
    let authority = Authority::new();
    let plain = Coordinator::start().await;
    let url = plain.url.replace("http://", "https://");
    let access = Access::new(&url, credentials(&authority, None)).unwrap();
    let line = refusal(Client::connect(&access).await);
    assert!(line.contains("what answers there does not speak TLS"), "{line}");

    let secret = Coordinator::start_with(authority.server(Validity::Good, &authority)).await;
    let url = secret.url.replace("https://", "http://");
    let access = Access::new(&url, Credentials::default()).unwrap();
    let client = Client::connect(&access).await.unwrap();
    let error = client.join(introduction(), &LogTail::default()).await.unwrap_err();
    // It may also be one that starts.
    assert!(error.is_passing() && error.is_of_the_connection(), "{error:?}");
    let line = error.to_string();
    assert!(line.ends_with("hint: the address of a coordinator with TLS begins with https://"), "{line}");
}

#[test]
fn what_cannot_be_used_is_told_before_anybody_is_asked() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (certificate, key) = ours.issue("worker", Validity::Good);
    let (_, other_key) = theirs.issue("worker", Validity::Good);
    let (nowhere, empty) = (ours.dir().join("nowhere"), ours.dir().join("empty"));
    fs::write(&empty, "").unwrap();
    let refused = |credentials| match Access::new("https://gpu-0:7000", credentials) {
        Err(error @ ClientError::Credentials(_)) => refusal(Err::<(), _>(error)),
        other => panic!("{other:?}"),
    };
    let with = |identity| credentials(&ours, Some(identity));
    let cases = [
        (Credentials::default(), "https://gpu-0:7000 needs --ca FILE"),
        (Credentials { ca: Some(nowhere.clone()), ..Credentials::default() }, "cannot read "),
        (Credentials { ca: Some(empty.clone()), ..Credentials::default() }, "there is no certificate in "),
        (with((empty.clone(), key.clone())), "there is no certificate in "),
        (with((certificate.clone(), certificate.clone())), "there is no private key in "),
        (with((certificate, other_key)), "the certificates cannot be used: "),
        (Credentials { token_file: Some(nowhere), ..credentials(&ours, None) }, "cannot read "),
        (Credentials { token_file: Some(empty), ..credentials(&ours, None) }, ""),
    ];
    for (credentials, expected) in cases {
        let line = refused(credentials);
        assert!(line.starts_with(expected), "{line}");
    }
}

#[test]
fn an_address_has_a_scheme_that_this_worker_speaks() {
    for url in ["127.0.0.1:1", "http://gpu-0:7000", "[::1]:1"] {
        assert!(Access::new(url, Credentials::default()).is_ok(), "{url}");
    }
    for url in ["", "http://", "ftp://gpu-0:7000", "http://a b"] {
        let error = Access::new(url, Credentials::default()).unwrap_err();
        assert!(matches!(error, ClientError::Address(..)), "{url}: {error:?}");
    }
    let given = || Credentials { ca: Some("ca.pem".into()), ..Credentials::default() };
    assert!(Access::new("http://gpu-0:7000", given()).unwrap().leaves_credentials_unused());
    for url in ["http://[::1]:1", "localhost:1", "http://127.3.2.1:1"] {
        assert!(!Access::new(url, given()).unwrap().leaves_credentials_unused(), "{url}");
    }
}
