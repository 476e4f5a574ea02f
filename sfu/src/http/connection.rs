//! The connections a port serves at a time.
//!
//! Owns their limit, of all and of one network. A connection holds its place until it is over, the
//! WebSocket it became included: when all places are free, nobody is left to be told anything. Called by
//! `server`.

use crate::auth;
use crate::config::cidr::Cidr;
use crate::crowd::{Crowd, Most};
use crate::metrics::Metrics;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

/// Between two lines of the log that tell of a network with too many.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// The places of one port.
#[derive(Clone)]
pub struct Places {
    free: Arc<Semaphore>,
    most: u32,
    /// All are taken, which was counted.
    is_full: Arc<AtomicBool>,
    shared: Shared,
}

/// Who is counted, and where that is told.
#[derive(Clone)]
struct Shared {
    counted: Arc<Mutex<Counted>>,
    metrics: Metrics,
}

struct Counted {
    crowd: Crowd,
    said: Option<Instant>,
}

/// A connection's place; cheap to clone, free again when the last clone is dropped.
#[derive(Clone)]
pub struct Place(Arc<Held>);

struct Held {
    shared: Shared,
    /// Whom it counts for, once that is known.
    client: Mutex<Option<IpAddr>>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    /// Room for `most` connections, and for `of_one` of one network.
    #[must_use]
    pub fn new(most: u32, of_one: Most, metrics: Metrics) -> Self {
        let counted = Counted {
            crowd: Crowd::new(of_one),
            said: None,
        };
        Self {
            free: Arc::new(Semaphore::new(most as usize)),
            most,
            is_full: Arc::default(),
            shared: Shared {
                counted: Arc::new(Mutex::new(counted)),
                metrics,
            },
        }
    }

    /// A place, waited for while all are taken: meanwhile the kernel queues who knocks.
    pub async fn take(&self) -> Option<Place> {
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => {
                self.is_full.store(false, Ordering::Relaxed);
                permit
            }
            Err(_) => {
                // Who waits in pieces asks again and again: it is one time that all were taken.
                if !self.is_full.swap(true, Ordering::Relaxed) {
                    self.shared.metrics.limit_reached("connections");
                }
                Arc::clone(&self.free).acquire_owned().await.ok()?
            }
        };
        Some(Place(Arc::new(Held {
            shared: self.shared.clone(),
            client: Mutex::default(),
            _permit: permit,
        })))
    }

    /// Returns once every connection is over.
    pub async fn emptied(&self) {
        // It fails only if the semaphore were closed, which nobody does.
        let _ = self.free.acquire_many(self.most).await;
    }
}

impl Place {
    /// It counts for the network of `client` from now on; false if that has too many already.
    #[must_use]
    pub fn count_for(&self, client: IpAddr) -> bool {
        let mut mine = self.0.client.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counted = self.0.shared.counted();
        // A proxy's connection may have been somebody else's before.
        if let Some(before) = mine.take() {
            counted.crowd.leave(before);
        }
        if counted.crowd.admit(client) {
            *mine = Some(client);
            return true;
        }
        self.0.shared.metrics.limit_reached("connections_of_one");
        let now = Instant::now();
        let said = counted.said.filter(|at| now < *at + SAY_EVERY);
        if said.is_none() {
            counted.said = Some(now);
            tracing::warn!(
                %client,
                "too many connections of one network: refused; if a proxy is there, name it in \
                 http.trusted_proxies"
            );
        }
        false
    }
}

impl Place {
    /// Its connection is closed for what it began with.
    pub fn count_closed(&self, reason: &'static str) {
        self.0.shared.metrics.connection_mistaken(reason);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mine = self.client.get_mut();
        if let Some(client) = mine.unwrap_or_else(PoisonError::into_inner).take() {
            self.shared.counted().crowd.leave(client);
        }
    }
}

impl Shared {
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A WebSocket by a proxy that is trusted counts for the client whom its header names: the proxy has as
/// many connections as it likes.
pub async fn count_upgrade(
    State((place, trusted)): State<(Place, watch::Receiver<Vec<Cidr>>)>,
    request: Request,
    next: Next,
) -> Response {
    if !request.headers().contains_key(header::UPGRADE) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let client = {
        let trusted = trusted.borrow();
        let named = auth::believed_address(&parts, &trusted);
        named.and_then(|named| auth::client_end(named, &trusted))
    };
    if client.is_some_and(|client| !place.count_for(client)) {
        return StatusCode::TOO_MANY_REQUESTS.into_response();
    }
    next.run(Request::from_parts(parts, body)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use axum::extract::ConnectInfo;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use std::net::SocketAddr;
    use tokio::time::timeout;
    use tower::ServiceExt as _;

    const MANY: Most = Most {
        network: 100,
        site: 100,
    };

    fn limits(metrics: &Metrics) -> Vec<String> {
        crate::metrics::tests::labels(metrics, "foci_limits_reached_total", "limit")
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_free_again_when_the_last_holder_is_gone() {
        let metrics = Metrics::new("n");
        let places = Places::new(1, MANY, metrics.clone());
        let first = places.take().await.expect("open");
        let upgraded = first.clone();
        drop(first);
        let moment = Duration::from_millis(1);
        assert!(timeout(moment, places.take()).await.is_err());
        assert!(timeout(moment, places.emptied()).await.is_err());
        assert_eq!(limits(&metrics), ["connections"]);
        drop(upgraded);
        places.emptied().await;
        assert!(places.take().await.is_some());
    }

    #[tokio::test]
    async fn one_network_has_only_so_many_and_a_place_counts_for_one_at_a_time() {
        let metrics = Metrics::new("n");
        let of_one = Most {
            network: 1,
            site: 1,
        };
        let places = Places::new(10, of_one, metrics.clone());
        let [one, other] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(IpAddr::from);
        let (first, second) = (places.take().await, places.take().await);
        let (first, second) = (first.expect("open"), second.expect("open"));
        assert!(first.count_for(one) && first.count_for(one));
        assert!(!second.count_for(one));
        assert_eq!(limits(&metrics), ["connections_of_one"]);
        assert!(first.count_for(other), "a proxy's connection is used again");
        assert!(second.count_for(one));
        let upgraded = first.clone();
        drop(first);
        let third = places.take().await.expect("open");
        assert!(!third.count_for(other));
        drop(upgraded);
        assert!(third.count_for(other));
    }

    #[tokio::test]
    async fn a_websocket_by_a_trusted_proxy_counts_for_whom_it_names() {
        let of_one = Most {
            network: 1,
            site: 1,
        };
        let places = Places::new(10, of_one, Metrics::new("n"));
        let trusted: Vec<Cidr> = vec!["127.0.0.1/32".parse().expect("a block")];
        let trusted = watch::channel(trusted).1;
        let mut held = Vec::new();
        let mut ask = async |named: &'static str, upgrade: bool| {
            let place = places.take().await.expect("open");
            held.push(place.clone());
            let proxy = SocketAddr::from(([127, 0, 0, 1], 9));
            let mut request = Request::builder().extension(ConnectInfo(proxy));
            if !named.is_empty() {
                request = request.header("x-forwarded-for", named);
            }
            if upgrade {
                request = request.header("upgrade", "websocket");
            }
            let state = (place, trusted.clone());
            let router = Router::new().route("/", get(async || "served"));
            let router = router.layer(from_fn_with_state(state, count_upgrade));
            let request = request.body(Body::empty()).expect("a request");
            router.oneshot(request).await.expect("an answer").status()
        };
        assert_eq!(ask("192.0.2.1", true).await, 200);
        assert_eq!(ask("192.0.2.1", true).await, 429);
        assert_eq!(ask("192.0.2.2", true).await, 200, "another client");
        assert_eq!(ask("192.0.2.1", false).await, 200, "no WebSocket");
        for _ in 0..2 {
            assert_eq!(ask("", true).await, 200, "nobody is named");
        }
    }
}
