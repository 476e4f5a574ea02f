//! One signalling connection: how it joins, what it may say and when, what waits to be sent.

pub mod client;
pub mod join;

mod allowance;

pub mod session;
pub mod outbox;
