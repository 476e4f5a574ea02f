//! worker.
pub mod mailbox;
pub mod placement;
pub mod timers;
pub mod udp;

// PROVISIONAL below: stands in for the workers of another branch until both are merged.
use crate::ids::PeerId;
use crate::media::message;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A worker's mailbox is full.
#[derive(Debug)]
pub struct Overloaded;

/// The media threads.
#[derive(Clone, Debug, Default)]
pub struct Workers {
    slots: Arc<AtomicU32>,
    stuck: Arc<AtomicBool>,
}

impl Workers {
    /// Draws a place.
    #[must_use]
    pub fn place(&self) -> PeerId {
        PeerId {
            worker: 0,
            slot: self.slots.fetch_add(1, Ordering::Relaxed),
            generation: 0,
        }
    }

    /// Provisional.
    ///
    /// # Errors
    /// The mailbox is full.
    pub fn send(
        &self,
        _command: message::Command,
        _events: Option<tokio::sync::mpsc::Sender<message::Event>>,
    ) -> Result<(), Overloaded> {
        if self.ready() { Ok(()) } else { Err(Overloaded) }
    }

    /// Do all threads run?
    #[must_use]
    pub fn ready(&self) -> bool {
        !self.stuck.load(Ordering::Relaxed)
    }

    /// Provisional.
    pub fn set_stuck(&self, stuck: bool) {
        self.stuck.store(stuck, Ordering::Relaxed);
    }
}
