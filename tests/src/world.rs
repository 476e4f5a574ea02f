//! The simulated world: whole servers and clients without sockets, under one virtual clock and one
//! seed.

pub mod invariants;
pub mod server;
