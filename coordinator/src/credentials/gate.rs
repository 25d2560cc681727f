//! Every request passes here before a byte of its body is read: who asks, and may they?
//!
//! What a request needs is said by its path, in one table, and what is not in the table is for admins: a method that
//! somebody adds and forgets here is closed, not open. Handlers find the [`Caller`] in the request.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use jiff::Timestamp;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::{Request, Status};
use tower::{Layer, Service};

use super::identity::{Identity, Need, Role};
use super::peer::{Peer, Proof};
use super::refusals::{Reason, Refusals};
use super::token::{TokenFault, TokenKey};

/// What each method needs.
#[must_use]
pub fn need(path: &str) -> Need {
    if path.starts_with("/lockstep.v1.WorkerService/") {
        return Need::Worker;
    }
    if path.starts_with("/grpc.health.v1.Health/") {
        return Need::Any;
    }
    match path.strip_prefix("/lockstep.v1.RunService/") {
        Some("Submit" | "StopRun" | "ResumeRun") => Need::Submitter,
        Some("ListRuns" | "GetRun" | "WatchRun" | "ReadLogs" | "ListWorkers" | "ListFiles" | "ReadFile") => {
            Need::Reader
        }
        _ => Need::Admin,
    }
}

/// Who has asked.
#[derive(Debug, Clone)]
pub struct Caller {
    /// None on a coordinator that this machine alone reaches: it asks nobody for a name.
    identity: Option<Identity>,
    peer: SocketAddr,
    refusals: Arc<Refusals>,
}

impl Caller {
    /// For RunSummary.submitter: empty where nobody was asked.
    #[must_use]
    pub fn name(&self) -> String {
        self.identity.as_ref().map_or_else(String::new, |identity| identity.names.to_string())
    }

    #[must_use]
    pub fn role(&self) -> Role {
        self.identity.as_ref().map_or(Role::Admin, |identity| identity.role)
    }

    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether the caller may do what needs this role.
    pub fn has(&self, need: Need) -> Result<(), Status> {
        match &self.identity {
            Some(identity) if !identity.role.satisfies(need) => {
                let refused = format!("{identity} asked for what needs {need}");
                self.refusals.note(Reason::WrongRole, self.peer, &refused);
                let hint = match need {
                    Need::Worker => {
                        "workers join with a certificate of `lockstep certs issue worker`".to_owned()
                    }
                    _ => format!("this needs {need}: ask whoever runs `lockstep certs issue user`"),
                };
                let message = format!(
                    "{} has the role {}, which may not do this\nhint: {hint}",
                    identity.names, identity.role
                );
                Err(Status::permission_denied(message))
            }
            _ => Ok(()),
        }
    }

    /// Whether the caller may be this worker.
    pub fn is_worker(&self, name: &str) -> Result<(), Status> {
        match &self.identity {
            Some(Identity { names, .. }) if !names.matches(name) => {
                self.refusals.note(Reason::WrongName, self.peer, &format!("{names} claimed to be {name}"));
                let message = format!(
                    "the credential is of {names}, not of {}\nhint: join with --name {names}, or with that worker's own credential",
                    name.escape_debug()
                );
                Err(Status::permission_denied(message))
            }
            _ => Ok(()),
        }
    }
}

/// Who has asked, when they may: for handlers.
pub fn authorize<T>(request: &Request<T>, need: Need) -> Result<Caller, Status> {
    let caller = caller(request)?;
    caller.has(need)?;
    Ok(caller)
}

/// Who has asked.
pub fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    // Without the gate in front nobody is let in.
    request
        .extensions()
        .get()
        .cloned()
        .ok_or_else(|| Status::unauthenticated("the caller was not identified"))
}

/// The layer that all services stand behind.
#[derive(Debug, Clone)]
pub struct Gate {
    tokens: watch::Receiver<Option<TokenKey>>,
    refusals: Arc<Refusals>,
}

impl Gate {
    pub(super) fn new(tokens: watch::Receiver<Option<TokenKey>>, refusals: Arc<Refusals>) -> Self {
        Self { tokens, refusals }
    }

    /// For a listener that this machine alone reaches: whoever asks may do all.
    #[must_use]
    pub fn loopback(refusals: Arc<Refusals>) -> Self {
        Self::new(watch::channel(None).1, refusals)
    }

    /// Who asks for `path`, when they may.
    fn admit(&self, peer: &Peer, path: &str, headers: &http::HeaderMap) -> Result<Caller, Status> {
        let identity = match &peer.proof {
            Proof::Loopback => None,
            Proof::Certificate(identity) => Some(identity.clone()),
            Proof::Nameless => {
                let what = "the certificate names neither a worker nor a person";
                return Err(self.refuse(peer, Reason::BadCertificate, what));
            }
            Proof::None => Some(self.bearer(peer, headers)?),
        };
        let caller = Caller { identity, peer: peer.address, refusals: Arc::clone(&self.refusals) };
        caller.has(need(path))?;
        peer.prove();
        Ok(caller)
    }

    fn bearer(&self, peer: &Peer, headers: &http::HeaderMap) -> Result<Identity, Status> {
        let Some(header) = headers.get(http::header::AUTHORIZATION) else {
            return Err(self.refuse(
                peer,
                Reason::NoCredential,
                "neither a certificate nor a token was shown",
            ));
        };
        let Some(key) = self.tokens.borrow().clone() else {
            return Err(self.refuse(peer, Reason::BadToken, "this coordinator takes no tokens"));
        };
        let token = header.to_str().ok().and_then(|header| {
            let (scheme, token) = header.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let verified =
            token.ok_or(TokenFault::Malformed).and_then(|token| key.verify(token, Timestamp::now()));
        verified.map(|claims| claims.identity).map_err(|fault| {
            let reason = match fault {
                TokenFault::Expired(_) => Reason::Expired,
                TokenFault::Malformed | TokenFault::Forged => Reason::BadToken,
            };
            self.refuse(peer, reason, &format!("the token is worth nothing: {fault}"))
        })
    }

    fn refuse(&self, peer: &Peer, reason: Reason, what: &str) -> Status {
        if !self.refusals.forgives(peer.address) {
            self.refusals.note(Reason::TooManyFailures, peer.address, &what);
            // Each further guess costs a handshake.
            peer.cut_off();
            return Status::resource_exhausted(
                "too many wrong credentials came from your address\nhint: wait a minute",
            );
        }
        self.refusals.note(reason, peer.address, &what);
        Status::unauthenticated(format!(
            "{what}\nhint: `lockstep certs issue` makes certificates, `lockstep certs token` tokens, where the authority is"
        ))
    }
}

impl<S> Layer<S> for Gate {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, gate: self.clone() }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub struct Guarded<S> {
    inner: S,
    gate: Gate,
}

impl<S> fmt::Debug for Guarded<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("gate", &self.gate).finish_non_exhaustive()
    }
}

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<http::Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let admitted = match request.extensions().get::<Peer>() {
            Some(peer) => self.gate.admit(peer, request.uri().path(), request.headers()),
            None => Err(Status::unauthenticated("the connection was not identified")),
        };
        match admitted {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                // A token has done its work; nothing behind the gate needs it, or could log it.
                request.headers_mut().remove(http::header::AUTHORIZATION);
                Either::Left(self.inner.call(request))
            }
            Err(status) => Either::Right(ready(Ok(status.into_http()))),
        }
    }
}
