//! The connections a port serves at a time.
//!
//! Owns their limit. A connection holds its place until it is over, the WebSocket it became
//! included: when all places are free, nobody is left to be told anything. Called by `server`.

use crate::metrics::Metrics;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of one port.
#[derive(Clone)]
pub struct Places {
    free: Arc<Semaphore>,
    most: u32,
    metrics: Metrics,
}

/// A connection's place; cheap to clone, free again when the last clone is dropped.
#[derive(Clone)]
pub struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Places {
    /// Room for `most` connections.
    #[must_use]
    pub fn new(most: u32, metrics: Metrics) -> Self {
        Self {
            free: Arc::new(Semaphore::new(most as usize)),
            most,
            metrics,
        }
    }

    /// A place, waited for while all are taken: meanwhile the kernel queues who knocks.
    pub async fn take(&self) -> Option<Place> {
        if self.free.available_permits() == 0 {
            self.metrics.limit_reached("connections");
        }
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        Some(Place {
            _permit: Arc::new(permit),
        })
    }

    /// Returns once every connection is over.
    pub async fn emptied(&self) {
        // It fails only if the semaphore were closed, which nobody does.
        let _ = self.free.acquire_many(self.most).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test(start_paused = true)]
    async fn a_place_is_free_again_when_the_last_holder_is_gone() {
        let metrics = Metrics::new("n");
        let places = Places::new(1, metrics.clone());
        let first = places.take().await.expect("open");
        let upgraded = first.clone();
        drop(first);
        let moment = Duration::from_millis(1);
        assert!(timeout(moment, places.take()).await.is_err());
        assert!(timeout(moment, places.emptied()).await.is_err());
        let limits = crate::metrics::tests::labels(&metrics, "foci_limits_reached_total", "limit");
        assert_eq!(limits, ["connections"]);
        drop(upgraded);
        places.emptied().await;
        assert!(places.take().await.is_some());
    }
}
