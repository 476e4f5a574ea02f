//! A network namespace for the test itself: this thread, and all it starts, has a network of its own
//! with nothing but the addresses the test gives it. Needs root.

use crate::space::{Space, Visit, ip};

/// The namespace; the thread is back where it was when this is dropped.
#[derive(Debug)]
pub struct Island {
    /// Ends first.
    _visit: Visit,
    _space: Space,
}

impl Island {
    /// Moves this thread there. There is loopback and nothing else.
    ///
    /// # Panics
    /// Without root or `ip`.
    #[must_use]
    pub fn enter() -> Self {
        let space = Space::make(format!("foci-island-{}", std::process::id()));
        let visit = space.visit();
        // The clients listen for mDNS.
        ip("route add 224.0.0.0/4 dev lo");
        Self {
            _visit: visit,
            _space: space,
        }
    }

    /// Gives it an address.
    pub fn add(&self, ip_address: &str) {
        ip(&format!("addr add {ip_address}/32 dev lo"));
    }

    /// Takes the address away.
    pub fn remove(&self, ip_address: &str) {
        ip(&format!("addr del {ip_address}/32 dev lo"));
    }
}
