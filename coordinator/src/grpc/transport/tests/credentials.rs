//! Who is let in, and what those who are not are told.

use jiff::SignedDuration;

use super::*;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

#[tokio::test]
async fn whoever_shows_nothing_is_refused_everything() {
    let served = Served::start().await;
    let channel = served.careless(None).await;
    for rpc in RPCS {
        let status = within(call(channel.clone(), rpc)).await;
        assert_eq!(status.code(), Code::Unauthenticated, "{rpc}: {status}");
        assert!(status.message().contains("\nhint: "), "{status}");
    }
    assert_eq!(served.refusals.count(Reason::NoCredential), RPCS.len() as u64);
}

#[tokio::test]
async fn each_role_reaches_what_it_may_and_nothing_else_by_certificate_and_by_token() {
    let served = Served::start().await;
    let mut refused = 0;
    for role in Role::ALL {
        let by_certificate = served.with_pair(served.issue("gpu-1", role));
        let by_token = served.with_token(served.token("gpu-1", role, HOUR));
        for args in [by_certificate, by_token] {
            let connection = args.alone().unwrap().connect().await.unwrap();
            for rpc in RPCS {
                let status = within(call(connection.clone(), rpc)).await;
                let may = role.satisfies(need(rpc));
                refused += u64::from(!may);
                let expected = if may { REACHED } else { Code::PermissionDenied };
                assert_eq!(status.code(), expected, "{role} asked for {rpc}: {status}");
                assert!(may || status.message().contains("\nhint: "), "{status}");
            }
        }
    }
    assert_eq!(served.refusals.count(Reason::WrongRole), refused);
}

#[test]
fn every_method_of_the_contract_is_called_here_and_none_is_for_admins_because_it_was_forgotten() {
    let contract = concat!(
        include_str!("../../../../../proto/lockstep/v1/run.proto"),
        include_str!("../../../../../proto/lockstep/v1/worker.proto")
    );
    let methods: Vec<&str> = contract
        .lines()
        .filter_map(|line| line.trim().strip_prefix("rpc ")?.split_once('(').map(|(name, _)| name))
        .collect();
    let called: Vec<&str> = RPCS.iter().map(|rpc| rpc.rsplit_once('/').unwrap().1).collect();
    assert!(methods.iter().all(|method| called.contains(method)), "{methods:?}");
    assert_eq!(methods.len(), called.len());
    let admins: Vec<_> = RPCS.iter().filter(|rpc| need(rpc) == Need::Admin).collect();
    assert_eq!(admins, [&"/lockstep.v1.RunService/DrainWorker"]);
    assert_eq!(need("/lockstep.v1.RunService/Unheard"), Need::Admin);
    assert_eq!(need("/other.v1.Service/Method"), Need::Admin);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_and_the_client_learns_why() {
    let (served, other) = (Served::start().await, Served::start().await);
    let stranger = other.issue("eve", Role::Admin);
    let status = within(call(served.careless(Some(&stranger)).await, RPCS[5])).await;
    served.counted(Reason::UnknownAuthority, 1).await;
    let remote = served.with_pair(served.issue("adam", Role::Reader)).alone().unwrap();
    let told = remote.explain(&status);
    assert!(
        matches!(&told, RemoteError::Refused { why, .. } if why.contains("another authority")),
        "{told}: {status:?}"
    );
    // Our own client does not even try.
    let told = served.with_pair(stranger).alone().unwrap().connect().await.unwrap_err();
    assert!(told.to_string().contains("has not issued it"), "{told}");
}

#[tokio::test]
async fn renewed_certificates_count_from_the_next_connection_on_and_spoilt_ones_never() {
    let limits = Limits { renewal: Duration::from_millis(5), ..Limits::exposed() };
    let (served, other) = (Served::with_limits(limits).await, Served::start().await);
    let former = served.issue("adam", Role::Admin);
    let (rpc, patience) = (RPCS[5], tokio::time::Instant::now() + DEADLINE);
    let reached = async |pair: Pair| {
        let connection = served.with_pair(pair).alone().unwrap().connect().await;
        match connection {
            Ok(connection) => within(call(connection, rpc)).await.code() == REACHED,
            Err(_) => false,
        }
    };
    let there = served.careless(Some(&former)).await;
    std::fs::write(served.folder.path().join("server.pem"), "spoilt").unwrap();
    // A new authority, and all that comes of it.
    for file in ["server.key", "server.pem", "ca.pem"] {
        std::fs::copy(other.folder.path().join(file), served.folder.path().join(file)).unwrap();
    }
    while !reached(other.issue("eve", Role::Admin)).await {
        assert!(tokio::time::Instant::now() < patience, "the new certificate is in use in time");
    }
    assert!(!reached(former).await, "the old authority is not trusted any more");
    assert_eq!(within(call(there, rpc)).await.code(), REACHED, "who was there stays");
}

#[tokio::test]
async fn tokens_of_a_key_that_was_replaced_are_worth_nothing_from_then_on() {
    let limits = Limits { renewal: Duration::from_millis(5), ..Limits::exposed() };
    let (served, other) = (Served::with_limits(limits).await, Served::start().await);
    let former = served.token("adam", Role::Admin, HOUR);
    let (rpc, patience) = (RPCS[5], tokio::time::Instant::now() + DEADLINE);
    let call_with = async |token: &Path| {
        let connection = served.with_token(token.to_owned()).alone().unwrap().connect().await.unwrap();
        within(call(connection, rpc)).await.code()
    };
    assert_eq!(call_with(&former).await, REACHED);
    std::fs::copy(other.folder.path().join("tokens.key"), served.folder.path().join("tokens.key")).unwrap();
    while call_with(&former).await == REACHED {
        assert!(tokio::time::Instant::now() < patience, "the new key is in use in time");
    }
    assert_eq!(call_with(&other.token("eve", Role::Admin, HOUR)).await, REACHED);
}

#[tokio::test]
async fn a_coordinator_of_another_authority_or_name_is_not_trusted() {
    let (served, other) = (Served::start().await, Served::start().await);
    let args =
        RemoteArgs { coordinator: Some(other.url()), ..served.with_pair(served.issue("adam", Role::Reader)) };
    let told = within(args.alone().unwrap().connect()).await.unwrap_err();
    assert!(matches!(told, RemoteError::Distrusted { .. }), "{told}");
    assert!(told.hint().is_some_and(|hint| hint.contains("--ca")), "{told}");

    let folder = tempfile::tempdir().unwrap();
    Authority::init(folder.path(), vec![Host::parse("elsewhere").unwrap()], 1).unwrap();
    let elsewhere = Served::serve(folder, Limits::exposed()).await;
    let args = elsewhere.with_pair(elsewhere.issue("adam", Role::Reader));
    let told = within(args.alone().unwrap().connect()).await.unwrap_err();
    assert!(told.hint().is_some_and(|hint| hint.contains("--host")), "{told}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_and_the_client_learns_why() {
    let served = Served::start().await;
    let expired = {
        let authority = Authority::open(served.folder.path()).unwrap();
        let issued = authority.issue_expired(&Subject::client("late", Role::Reader).unwrap()).unwrap();
        Pair { cert: issued.cert, key: issued.key }
    };
    let status = within(call(served.careless(Some(&expired)).await, RPCS[5])).await;
    served.counted(Reason::Expired, 1).await;
    let remote = served.with_pair(expired).alone().unwrap();
    let told = remote.explain(&status);
    assert!(
        matches!(&told, RemoteError::Refused { why, .. } if why.contains("expired")),
        "{told}: {status:?}"
    );
    let told = remote.connect().await.unwrap_err();
    assert!(told.to_string().contains("it expired at") && told.hint().is_some(), "{told}");
}

#[tokio::test]
async fn a_coordinator_with_an_expired_certificate_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    Authority::init(folder.path(), hosts(), 1).unwrap();
    Authority::open(folder.path()).unwrap().issue_expired(&Subject::Server { hosts: hosts() }).unwrap();
    let told = ServerCredentials::load(folder.path()).unwrap_err();
    assert!(told.to_string().contains("it expired at"), "{told}");
    assert!(told.hint().is_some_and(|hint| hint.contains("certs issue server --replace")));
}

#[tokio::test]
async fn a_coordinators_own_certificate_does_not_pass_for_a_clients() {
    let served = Served::start().await;
    let own = ["server.pem", "server.key"].map(|name| served.folder.path().join(name));
    let [cert, key] = own;
    let status = within(call(served.careless(Some(&Pair { cert, key })).await, RPCS[5])).await;
    served.counted(Reason::BadCertificate, 1).await;
    assert_ne!(status.code(), REACHED, "{status}");
}

#[tokio::test]
async fn tokens_that_are_expired_forged_or_nonsense_are_refused() {
    let (served, other) = (Served::start().await, Served::start().await);
    let pair = served.with_token(served.token("adam", Role::Reader, HOUR));
    assert_eq!(served.ask(&pair, RPCS[5]).await.code(), REACHED);

    let expired = served.token("adam", Role::Reader, -HOUR);
    let told = served.with_token(expired.clone()).alone().unwrap().connect().await.unwrap_err();
    assert!(told.to_string().contains("it expired at") && told.hint().is_some(), "{told}");
    let forged = token_of(other.folder.path(), served.folder.path(), "adam", Role::Admin, HOUR);
    assert_eq!(served.ask(&served.with_token(forged), RPCS[5]).await.code(), Code::Unauthenticated);
    assert_eq!(served.refusals.count(Reason::BadToken), 1);

    let expired = read(&served.token("adam", Role::Reader, -HOUR));
    let expired = String::from_utf8(expired).unwrap();
    let headers = [
        (format!("Bearer {}", expired.trim()), Reason::Expired),
        (expired.trim().to_owned(), Reason::BadToken),
        ("Bearer".to_owned(), Reason::BadToken),
        ("Bearer lockstep1.00.00".to_owned(), Reason::BadToken),
        ("Basic YWRtaW46YWRtaW4=".to_owned(), Reason::BadToken),
    ];
    for (header, reason) in headers {
        let before = served.refusals.count(reason);
        let metadata: tonic::metadata::MetadataValue<_> = header.parse().unwrap();
        let bearing = tonic::service::interceptor::InterceptedService::new(
            served.careless(None).await,
            move |mut request: tonic::Request<()>| {
                request.metadata_mut().insert("authorization", metadata.clone());
                Ok(request)
            },
        );
        let status = within(call(bearing, RPCS[5])).await;
        assert_eq!(status.code(), Code::Unauthenticated, "{header}: {status}");
        assert_eq!(served.refusals.count(reason), before + 1, "{header}");
        let secret = header.split('.').next_back().unwrap_or_default();
        assert!(!status.message().contains(secret), "a token is not said back: {status}");
    }
}

#[tokio::test]
async fn a_coordinator_without_a_key_for_tokens_takes_none() {
    let folder = tempfile::tempdir().unwrap();
    Authority::init(folder.path(), hosts(), 1).unwrap();
    let token = token_of(folder.path(), folder.path(), "adam", Role::Reader, HOUR);
    std::fs::remove_file(folder.path().join("tokens.key")).unwrap();
    let served = Served::serve(folder, Limits::exposed()).await;
    assert_eq!(served.ask(&served.with_token(token), RPCS[5]).await.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_worker_joins_under_its_own_name_alone() {
    let served = Served::start().await;
    let certificate = || served.with_pair(served.issue("gpu-1", Role::Worker));
    let token = |names: &str| served.with_token(served.token(names, Role::Worker, HOUR));
    for (args, name, expected) in [
        (certificate(), "gpu-1", REACHED),
        (certificate(), "gpu-2", Code::PermissionDenied),
        (token("gpu-1"), "gpu-1", REACHED),
        (token("gpu-1"), "gpu-10", Code::PermissionDenied),
        (token("gpu-*"), "gpu-10", REACHED),
        (token("gpu-*"), "cpu-1", Code::PermissionDenied),
        (token("*"), "cpu-1", REACHED),
        (certificate(), "", Code::PermissionDenied),
    ] {
        let connection = args.alone().unwrap().connect().await.unwrap();
        let status = within(stub::join(connection, name)).await;
        assert_eq!(status.code(), expected, "{name}: {status}");
    }
    assert_eq!(served.refusals.count(Reason::WrongName), 4);
}

#[tokio::test]
async fn on_loopback_without_tls_nobody_is_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    tokio::spawn(serve(Entrance::new(listener, None).unwrap(), stub::routes(), shutdown.clone()));
    let args = RemoteArgs { coordinator: Some(url), ..RemoteArgs::default() };
    let connection = args.alone().unwrap().connect().await.unwrap();
    for rpc in RPCS {
        assert_eq!(within(call(connection.clone(), rpc)).await.code(), REACHED, "{rpc}");
    }
    shutdown.cancel();
}

#[tokio::test]
async fn beyond_loopback_nothing_is_served_in_the_clear() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let told = Entrance::new(listener, None).unwrap_err();
    assert!(matches!(told, EntranceError::Exposed(_)), "{told}");
    assert!(told.hint().is_some_and(|hint| hint.contains("lockstep certs init")));
    for here in ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert!(may_listen(here.parse().unwrap(), false).is_ok(), "{here}");
    }
    for there in ["10.0.0.1:1", "[::]:1", "0.0.0.0:1", "[fe80::1]:1"] {
        assert!(may_listen(there.parse().unwrap(), false).is_err(), "{there}");
        assert!(may_listen(there.parse().unwrap(), true).is_ok(), "{there}");
    }
}

#[tokio::test]
async fn nothing_that_is_printed_shows_a_secret() {
    let served = Served::start().await;
    let pair = served.issue("adam", Role::Admin);
    let key = String::from_utf8(read(&pair.key)).unwrap();
    let token_file = served.token("adam", Role::Admin, HOUR);
    let token = String::from_utf8(read(&token_file)).unwrap();
    let token_key = String::from_utf8(read(&served.folder.path().join("tokens.key"))).unwrap();
    let credentials = ServerCredentials::load(served.folder.path()).unwrap();
    let with_token = served.with_token(token_file).alone().unwrap();
    let shown = format!(
        "{:?} {:?} {:?} {:?} {:?} {:?}",
        served.with_pair(pair).alone().unwrap(),
        with_token,
        with_token.connect().await.unwrap(),
        credentials.renewal().gate(Arc::default()),
        credentials,
        Authority::open(served.folder.path()).unwrap(),
    );
    // A key's bytes, as text or as numbers, in any part that is long enough to be of use.
    let body: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    for secret in [&body[..24], token.trim(), &token.trim()[token.len() - 40..], &token_key[..16]] {
        let numbers: Vec<String> = secret.bytes().take(8).map(|byte| byte.to_string()).collect();
        assert!(!shown.contains(secret), "{shown}");
        assert!(!shown.contains(&numbers.join(", ")), "{shown}");
    }
}

/// What is logged, by everybody down to HTTP/2, in all detail.
#[derive(Debug, Clone, Default)]
struct Logged(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_is_logged_names_the_peer_and_the_reason_and_no_secret() {
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // While there is but one, tracing asks the thread that comes first to a line whether anybody listens, and believes it
    // for all: that may be another test's.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    // Client and server are tasks of this thread.
    let _logging = tracing::subscriber::set_default(subscriber);
    let (served, other) = (Served::start().await, Served::start().await);
    let good = served.token("adam", Role::Reader, HOUR);
    let forged = token_of(other.folder.path(), served.folder.path(), "eve", Role::Admin, HOUR);
    assert_eq!(served.ask(&served.with_token(good.clone()), RPCS[5]).await.code(), REACHED);
    assert_eq!(served.ask(&served.with_token(forged.clone()), RPCS[5]).await.code(), Code::Unauthenticated);
    let pair = served.issue("gpu-1", Role::Worker);
    let key = String::from_utf8(read(&pair.key)).unwrap();
    let connection = served.with_pair(pair).alone().unwrap().connect().await.unwrap();
    assert_eq!(within(stub::join(connection, "gpu-2\nforged line")).await.code(), Code::PermissionDenied);

    let text = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    let refused: Vec<&str> = text.lines().filter(|line| line.contains("refused: ")).collect();
    assert!(
        refused.iter().any(|line| line.contains("bad_token") && line.contains("127.0.0.1:")),
        "{refused:?}"
    );
    assert!(refused.iter().any(|line| line.contains("gpu-1 claimed to be gpu-2")), "{refused:?}");
    assert!(!text.lines().any(|line| line.starts_with("forged line")), "nobody writes lines into the log");
    for secret in [read(&good), read(&forged)] {
        let secret = String::from_utf8(secret).unwrap();
        let mac = secret.trim().rsplit_once('.').unwrap().1;
        assert!(!text.contains(mac), "a token is in the log");
    }
    let body: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    assert!(!text.contains(&body[..24]), "a key is in the log");
}
