//! Who may do what on a coordinator that others reach.
//!
//! Beyond loopback everything goes over TLS under a private certificate authority of the cluster's own (`authority`). Who
//! asks is said by a client certificate or by a short-lived token, as a name and a role (`identity`, `certificate`,
//! `token`). The coordinator has one gate that all requests pass before their bodies are read (`server`, `peer`, `gate`);
//! whom it turns away is counted and logged (`refusals`). `client` is the other end: what a person's commands need.
//!
//! On a coordinator that listens on loopback without TLS nobody is asked: whoever is on the machine may do all.

pub mod client;

mod authority;
mod certificate;
mod error;
mod folder;
mod gate;
mod identity;
mod peer;
mod refusals;
mod renewal;
mod server;
mod token;

#[cfg(test)]
mod tests;

pub use authority::{
    Authority, Host, Initialised, Issued, Subject, issue_token, read_credential, write_token,
};
pub use certificate::{Certificate, Unreadable, Validity, ValidityFault};
pub use error::CredentialError;
pub use gate::{Caller, Gate, Guarded, authorize, caller, need};
pub use identity::{Identity, InvalidName, Names, Need, Role, UnknownRole};
pub use peer::{Peer, Proof};
pub use refusals::{Reason, Refusals};
pub use server::ServerCredentials;
pub use token::{Claims, Token, TokenFault, TokenKey};

pub(crate) use refusals::host;
