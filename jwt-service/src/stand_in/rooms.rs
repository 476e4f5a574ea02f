//! An SFU whose rooms exist in name only: it remembers what it was told.

use crate::sfu::{Pending, Sfu, Uncreated};
use http::request::Parts;
use std::future::pending;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::timeout;

/// How long a test waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// The SFU.
#[derive(Default)]
pub(crate) struct Rooms {
    made: Mutex<Vec<String>>,
    refuses: Option<Uncreated>,
    told: Mutex<Vec<String>>,
    /// It does not say that it has heard whom to remove.
    pub(crate) deaf: AtomicBool,
    /// Told when it was told something.
    pub(crate) was_told: Notify,
}

impl Rooms {
    /// One that makes no rooms.
    pub(crate) fn refusing(refuses: Uncreated) -> Self {
        Self {
            refuses: Some(refuses),
            ..Self::default()
        }
    }

    /// The rooms that were made.
    pub(crate) fn made(&self) -> Vec<String> {
        self.made.lock().expect("not poisoned").clone()
    }

    /// What was done to participants: `deny`, `allow` or `remove`, and room and identity.
    pub(crate) fn told(&self) -> Vec<String> {
        self.told.lock().expect("not poisoned").clone()
    }

    /// The same, once there are so many.
    pub(crate) async fn told_all(&self, count: usize) -> Vec<String> {
        let all = async {
            while self.told().len() < count {
                self.was_told.notified().await;
            }
        };
        timeout(PATIENCE, all).await.expect("it is told");
        self.told()
    }

    fn tell(&self, what: String) {
        self.told.lock().expect("not poisoned").push(what);
        self.was_told.notify_one();
    }
}

impl Sfu for Rooms {
    fn create_room<'a>(&'a self, alias: &'a str) -> Pending<'a, Result<(), Uncreated>> {
        self.made
            .lock()
            .expect("not poisoned")
            .push(alias.to_owned());
        Box::pin(async move { self.refuses.map_or(Ok(()), Err) })
    }

    fn deny(&self, alias: &str, identity: &str, _until: Instant) {
        self.tell(format!("deny {alias} {identity}"));
    }

    fn allow(&self, alias: &str, identity: &str) {
        self.tell(format!("allow {alias} {identity}"));
    }

    fn remove_participant<'a>(&'a self, alias: &'a str, identity: &'a str) -> Pending<'a, ()> {
        Box::pin(async move {
            self.tell(format!("remove {alias} {identity}"));
            if self.deaf.load(Ordering::Relaxed) {
                pending::<()>().await;
            }
        })
    }

    fn client_address(&self, _request: &Parts) -> Option<IpAddr> {
        None
    }

    fn limited_address(&self, request: &Parts) -> Option<IpAddr> {
        let value = request.headers.get("x-test-address")?;
        value.to_str().ok()?.parse().ok()
    }
}
