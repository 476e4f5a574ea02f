//! What the service needs of the SFU, and what stands around it: implemented by the server.

use std::net::IpAddr;
use std::pin::Pin;
use std::time::Instant;

/// A future that a trait object can return.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How long a room stays open that nobody joined, in seconds. (LK: jwt-service §6)
pub const EMPTY_TIMEOUT_S: u32 = 300;

/// How long a room stays open that the last participant left, in seconds.
pub const DEPARTURE_TIMEOUT_S: u32 = 20;

/// The SFU.
pub trait Sfu: Send + Sync + 'static {
    /// Makes the room `alias` unless it is there, with the timeouts above.
    fn create_room<'a>(&'a self, alias: &'a str) -> Pending<'a, Result<(), Uncreated>>;

    /// Lets nobody of this identity into the room `alias` until then, whatever token he shows.
    fn deny(&self, alias: &str, identity: &str, until: Instant);

    /// Takes that back.
    fn allow(&self, alias: &str, identity: &str);

    /// Takes a participant out of the room `alias`, if he is there. His client is told not to come back.
    fn remove_participant<'a>(&'a self, alias: &'a str, identity: &'a str) -> Pending<'a, ()>;

    /// Where a request came from, as far as that is believed, to limit how often one address asks. `None`
    /// where that would limit everybody behind a proxy.
    fn limited_address(&self, request: &http::request::Parts) -> Option<IpAddr>;

    /// Where a request came from, for the log only.
    fn client_address(&self, request: &http::request::Parts) -> Option<IpAddr>;
}

impl Uncreated {
    /// One word for counters.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Away(label) => label,
            Self::Draining => "draining",
        }
    }
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Uncreated {
    /// As many rooms as the process takes.
    #[error("as many rooms as this server takes")]
    Full,
    /// The SFU is elsewhere and could not be asked, or refused; one word of where that failed.
    #[error("{0}: the SFU was asked in vain, see the line before this one")]
    Away(&'static str),
    /// The process goes down.
    #[error("the server is shutting down")]
    Draining,
}
