//! Foci's server: a LiveKit-compatible SFU.
//!
//! Two rings. The *pure* ring decides: it reads no clock, opens no socket, spawns and locks nothing.
//! The *shell* ring (feature `shell`) waits. The order of the `mod` lines is the layer order: a
//! module imports only what stands above its own line. `tests/tests/house.rs` checks both.

// Pure ring.
pub mod ids;
pub mod units;
pub mod crowd;
pub mod greeting;

pub mod config;
pub mod ice_servers;
pub mod rtp;

pub mod media;

pub mod advertise;

pub mod room;

pub mod signal;

// Shell ring.
#[cfg(feature = "shell")]
pub mod settings;
#[cfg(feature = "shell")]
pub mod telemetry;

#[cfg(feature = "shell")]
pub mod metrics;

#[cfg(feature = "shell")]
pub mod faults;

#[cfg(feature = "shell")]
pub mod certificates;

#[cfg(feature = "shell")]
pub mod handover;

#[cfg(feature = "shell")]
pub mod addresses;

#[cfg(feature = "shell")]
pub mod worker;

#[cfg(feature = "shell")]
pub mod rooms;

#[cfg(feature = "shell")]
pub mod auth;

#[cfg(feature = "shell")]
pub mod http;

#[cfg(feature = "shell")]
pub mod server;

#[cfg(feature = "shell")]
pub mod cli;
