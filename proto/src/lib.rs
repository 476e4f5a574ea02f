//! The wires Foci did not design: a thin layer over the generated LiveKit messages.

pub use livekit_protocol as livekit;

pub mod signal;
pub mod token;
