//! By what a participant's media is to come, as far as we say it. (LK: signalling §7.5)
//!
//! Owns the words and how long one is remembered. Who is led where, `fallback` decides; between two stays
//! of somebody the shell remembers it.

use std::time::Duration;

/// A preference is kept for so long after it was found. A network is another one after a while, and the
/// better ways are worth another try. (LK: signalling §7.5)
pub const REMEMBERED: Duration = Duration::from_secs(300);

/// An address of ours that has changed is mostly noticed within this time: a router tells its provider of
/// names within a minute, resolvers keep an old answer for another one, and then it is our turn to ask.
/// Whoever fails meanwhile does for that.
pub const NOTICED_WITHIN: Duration = Duration::from_secs(180);

/// By what the addresses that clients are told lead here from everywhere: none that is told beside a public
/// one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reachable {
    /// By UDP.
    pub udp: bool,
    /// By TCP.
    pub tcp: bool,
}

/// What a client is told of, and so what it can come by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Preference {
    /// Whatever the client finds best.
    #[default]
    Any,
    /// TCP to us: it is told no address of UDP.
    Tcp,
    /// A relay it reaches over TLS, or where there is none over TCP: it is told to use nothing else.
    Relay,
}

impl Preference {
    /// For logs and counters.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Tcp => "tcp",
            Self::Relay => "relay",
        }
    }
}
