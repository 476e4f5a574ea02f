//! The wires Foci did not design: a thin layer over the generated LiveKit messages.
//!
//! Owns tokens and signal frames as bytes and values; decides nothing, reads no clock. Called by
//! the server, the authorization service and the test clients.

pub use livekit_protocol as livekit;

pub mod data;
pub mod signal;
pub mod token;
pub mod twirp;
