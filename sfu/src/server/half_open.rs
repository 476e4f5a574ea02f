//! Connections that have not said yet what they are.
//!
//! Owns how many there may be, of all and of one network, and which of them goes when there are too many.
//! Who is to go is closed by `tls_port`.

use crate::crowd::{Crowd, Most};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use tokio::task::{AbortHandle, Id};

/// At a time: each has a buffer of 2 to 16 KiB. In a second the machine shakes some thousand hands, so
/// that there are more only if most of them say nothing: then the oldest goes, for whoever means it has
/// said it long before.
pub(super) const MOST: usize = 2048;
/// Of one network: a whole office behind one address that comes back at once, and still far from all
/// there may be.
pub(super) const MOST_OF_ONE: Most = Most {
    network: 128,
    site: 256,
};

/// Those there are now.
#[derive(Debug)]
pub(super) struct HalfOpen {
    crowd: Crowd,
    next: u64,
    /// The oldest first.
    steps: BTreeMap<u64, AbortHandle>,
    known: HashMap<Id, (u64, Option<IpAddr>)>,
}

impl Default for HalfOpen {
    fn default() -> Self {
        Self {
            crowd: Crowd::new(MOST_OF_ONE),
            next: 0,
            steps: BTreeMap::new(),
            known: HashMap::new(),
        }
    }
}

impl HalfOpen {
    /// May there be one more of this client?
    pub(super) fn admit(&mut self, client: IpAddr) -> bool {
        self.crowd.admit(client)
    }

    /// One more, of a client that was admitted if it is known. True if the oldest had to go.
    pub(super) fn insert(&mut self, step: AbortHandle, client: Option<IpAddr>) -> bool {
        let full = self.steps.len() >= MOST;
        if full && let Some((_, oldest)) = self.steps.pop_first() {
            oldest.abort();
        }
        self.next += 1;
        self.known.insert(step.id(), (self.next, client));
        self.steps.insert(self.next, step);
        full
    }

    /// A step is over.
    pub(super) fn remove(&mut self, step: Id) {
        let Some((number, client)) = self.known.remove(&step) else {
            return;
        };
        self.steps.remove(&number);
        if let Some(client) = client {
            self.crowd.leave(client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    #[tokio::test]
    async fn when_all_places_are_taken_the_oldest_goes() {
        let mut half_open = HalfOpen::default();
        let mut running = JoinSet::new();
        let first = running.spawn(std::future::pending::<()>());
        let oldest = first.id();
        assert!(!half_open.insert(first, None));
        for _ in 1..MOST {
            assert!(!half_open.insert(running.spawn(std::future::pending()), None));
        }
        assert!(half_open.insert(running.spawn(std::future::pending()), None));
        let ended = running.join_next_with_id().await.expect("one");
        let ended = ended.expect_err("it was sent away").id();
        assert_eq!(ended, oldest);
        half_open.remove(ended);
        assert_eq!(half_open.steps.len(), MOST);
        assert_eq!(half_open.known.len(), MOST);
    }
}
