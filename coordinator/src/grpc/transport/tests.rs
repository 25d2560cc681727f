//! A coordinator that others reach, over real connections: who gets in, who does not, and what either costs.

mod credentials;
mod limits;
mod stub;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tonic::Code;
use tonic::transport::{Certificate as Pem, Channel, ClientTlsConfig, Endpoint, Identity as PemIdentity};

use self::stub::{REACHED, RPCS, call};
use super::*;
use crate::credentials::client::{RemoteArgs, RemoteError};
use crate::credentials::{
    Authority, Claims, Host, Identity, Names, Need, Reason, Role, Subject, issue_token, need, write_token,
};

const DEADLINE: Duration = Duration::from_secs(30);

/// A cluster's authority and its coordinator.
struct Served {
    folder: tempfile::TempDir,
    address: SocketAddr,
    refusals: Arc<Refusals>,
    shutdown: CancellationToken,
}

/// A certificate and its key.
struct Pair {
    cert: PathBuf,
    key: PathBuf,
}

fn hosts() -> Vec<Host> {
    ["localhost", "127.0.0.1"].map(|host| Host::parse(host).unwrap()).into()
}

impl Served {
    async fn start() -> Self {
        Self::with_limits(Limits::exposed()).await
    }

    async fn with_limits(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Authority::init(folder.path(), hosts(), 1).unwrap();
        Self::serve(folder, limits).await
    }

    async fn serve(folder: tempfile::TempDir, limits: Limits) -> Self {
        let credentials = ServerCredentials::load(folder.path()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let entrance = Entrance::new(listener, Some(credentials)).unwrap().with_limits(limits);
        let (refusals, shutdown) = (entrance.refusals(), CancellationToken::new());
        tokio::spawn(serve(entrance, stub::routes(), shutdown.clone()));
        Self { folder, address, refusals, shutdown }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn issue(&self, name: &str, role: Role) -> Pair {
        let issued = Authority::open(self.folder.path()).unwrap();
        let issued = issued.issue(&Subject::client(name, role).unwrap(), 1, true).unwrap();
        Pair { cert: issued.cert, key: issued.key }
    }

    /// A token's file.
    fn token(&self, names: &str, role: Role, lasts: jiff::SignedDuration) -> PathBuf {
        token_of(self.folder.path(), self.folder.path(), names, role, lasts)
    }

    fn with_pair(&self, pair: Pair) -> RemoteArgs {
        let Pair { cert, key } = pair;
        RemoteArgs {
            coordinator: Some(self.url()),
            ca: Some(self.ca()),
            cert: Some(cert),
            key: Some(key),
            token_file: None,
        }
    }

    fn with_token(&self, token_file: PathBuf) -> RemoteArgs {
        RemoteArgs {
            coordinator: Some(self.url()),
            ca: Some(self.ca()),
            token_file: Some(token_file),
            ..RemoteArgs::default()
        }
    }

    /// What an RPC answers to whoever has these credentials.
    async fn ask(&self, args: &RemoteArgs, rpc: &str) -> Status {
        let connection = args.alone().unwrap().connect().await.unwrap();
        within(call(connection, rpc)).await
    }

    /// Connects as somebody who does not look at their own credentials first, as our own client does.
    async fn careless(&self, pair: Option<&Pair>) -> Channel {
        let tls = ClientTlsConfig::new().ca_certificate(Pem::from_pem(read(&self.ca())));
        let tls = match pair {
            Some(Pair { cert, key }) => tls.identity(PemIdentity::from_pem(read(cert), read(key))),
            None => tls,
        };
        let endpoint = Endpoint::from_shared(self.url()).unwrap().tls_config(tls).unwrap();
        within(endpoint.connect()).await.unwrap()
    }

    /// Waits until so many were refused for a reason.
    async fn counted(&self, reason: Reason, count: u64) {
        let counted = async {
            while self.refusals.count(reason) < count {
                tokio::task::yield_now().await;
            }
        };
        within(counted).await;
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn token_of(
    authority: &Path,
    folder: &Path,
    names: &str,
    role: Role,
    lasts: jiff::SignedDuration,
) -> PathBuf {
    let expires = jiff::Timestamp::now() + lasts;
    let identity = Identity { names: Names::pattern(names).unwrap(), role };
    let path = folder.join(format!("{role}-{names}-{expires}.token"));
    write_token(&path, &issue_token(authority, &Claims { identity, expires }).unwrap()).unwrap();
    path
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("it is done in time")
}
