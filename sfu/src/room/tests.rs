//! A room as its clients and media see it: commands in, effects out, time turned by hand.

/// Some moment for a test to begin at; everything after it is reckoned.
#[allow(
    clippy::disallowed_methods,
    reason = "a test needs one moment to reckon from"
)]
pub(super) fn first_moment() -> std::time::Instant {
    std::time::Instant::now()
}

mod harness;

mod data;
mod dual;
mod dynacast;
mod joining;
mod leaving;
mod negotiating;
mod profile;
mod publishing;
mod random;
mod resuming;
mod leading;
mod roster;
mod signs;
mod subscribing;
