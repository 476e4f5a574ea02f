//! metrics.

// PROVISIONAL below: stands in for the metrics of another branch until both are merged.
use crate::room::effect::Count;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Counters.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    states: Arc<Mutex<Vec<&'static str>>>,
    drops: Arc<Mutex<Vec<&'static str>>>,
}

impl Metrics {
    /// A step of `livekit_participant_join_total`.
    pub fn join_state(&self, state: &'static str) {
        if let Ok(mut states) = self.states.lock() {
            states.push(state);
        }
    }

    /// A fact of a room.
    pub fn count(&self, _count: &Count) {}

    /// A room was made.
    pub fn room_opened(&self) {}

    /// A room is over.
    pub fn room_closed(&self, _lasted: Duration) {}

    /// A limit was reached.
    pub fn dropped(&self, what: &'static str) {
        if let Ok(mut drops) = self.drops.lock() {
            drops.push(what);
        }
    }

    /// Provisional.
    #[must_use]
    pub fn drops(&self) -> Vec<&'static str> {
        self.drops.lock().map(|drops| drops.clone()).unwrap_or_default()
    }

    /// Provisional.
    #[must_use]
    pub fn states(&self) -> Vec<&'static str> {
        self.states.lock().map(|states| states.clone()).unwrap_or_default()
    }
}
