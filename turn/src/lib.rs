//! An embeddable STUN and TURN server (RFC 8489, RFC 8656, RFC 5766, RFC 6156).
//!
//! It knows nothing of calls or of who uses it. Two rings: the pure one decides, [`server::Server`]
//! being its whole face; the shell (feature `shell`) owns sockets and a thread. The order of the
//! `mod` lines is the layer order: a module imports only what stands above its own line.
//!
//! What is unusual: relay ports are shared. An allocation is told an address of a small range;
//! traffic to our own SFU is handed over in process and is known by its allocation, and traffic of
//! a foreign peer is known by the port it came to and the address it came from.

// Pure ring.
pub mod address;
mod hash;
pub mod message;
pub mod frame;
pub mod credentials;
pub mod policy;
pub mod config;
pub mod stats;
pub mod event;
mod auth;
mod limiter;
mod ports;
mod quota;
mod networks;
mod retired;
mod channel;
mod permission;
mod allocation;
mod outbox;
pub mod server;

// Shell ring.
#[cfg(feature = "shell")]
pub mod net;
