//! What the HTTP edge needs of the server behind it.

use crate::faults::Faults;
use crate::metrics::Metrics;
use crate::rooms::Rooms;
use crate::signal::join::Policy;
use crate::worker::Workers;
use proto::token::Keys;
use std::sync::Arc;
use tokio::sync::watch;

/// The server as the edge sees it; shared by all connections, never changed.
#[derive(Clone)]
pub struct Front {
    /// The rooms.
    pub rooms: Rooms,
    /// The media threads: are they well?
    pub workers: Workers,
    /// Counters.
    pub metrics: Metrics,
    /// API keys.
    pub keys: Arc<Keys>,
    /// What the operator settled for joins; it may change while running.
    pub policy: watch::Receiver<Policy>,
    /// True once the process goes down: no new sessions.
    pub draining: watch::Receiver<bool>,
    /// Path prefixes under which everything is served too, such as `/livekit/sfu`.
    pub prefixes: Vec<String>,
    /// The largest signalling message in bytes.
    pub max_message_bytes: usize,
    /// The largest request body in bytes; 0 for no limit.
    pub max_body_bytes: usize,
    /// What fails on purpose.
    pub faults: Faults,
}

impl Front {
    /// Does the process go down?
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }
}
