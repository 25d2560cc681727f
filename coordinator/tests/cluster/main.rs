//! A cluster as its users meet it: a server, simulated workers and clients, all over real connections. Workers compute
//! nothing; they follow every order of the contract as a real one would, and tell what they were told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod asking;
mod load;
mod placing;
mod replica;
mod restarting;
mod server;
mod typing;
mod worker;
