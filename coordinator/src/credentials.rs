//! Who may do what on a coordinator that others reach: how a client proves who it is.
//!
//! Beyond loopback everything goes over TLS under a private certificate authority of the cluster's own.

pub mod client;
