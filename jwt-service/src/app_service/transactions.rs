//! Transactions: what happened in rooms, each told once.
//!
//! Owns which were taken lately, and that all that one tells is known before the next begins; who is to be
//! taken out for it is not waited for. (Matrix: application service API, Pushing events)

use crate::answer::Refusal;
use crate::matrix::proxied;
use crate::monitor::Monitor;
use crate::routes::read;
use axum::body::Body;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::Mutex;

/// A transaction. Synapse sends 100 events in one at most, of 64 KiB each.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
/// How long one may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// Transactions remembered. A homeserver sends one after the other, and again what was not answered.
const REMEMBERED: usize = 64;
/// The longest id.
const MAX_ID_BYTES: usize = 255;

/// Those taken lately, the latest last. Held while one is done with.
#[derive(Default)]
pub(super) struct Transactions(Mutex<VecDeque<String>>);

impl Transactions {
    /// Takes a transaction.
    ///
    /// # Errors
    /// It is none.
    pub(super) async fn take(
        &self,
        monitor: &Monitor,
        id: &str,
        body: Body,
    ) -> Result<(), Refusal> {
        if id.len() > MAX_ID_BYTES {
            return Err(Refusal::Param("Transaction id too long"));
        }
        let body = read(body, MAX_BODY_BYTES, BODY_WITHIN).await?;
        let changes = proxied::changes(&body).ok_or(Refusal::NotJson)?;
        let mut taken = self.0.lock().await;
        if taken.iter().any(|known| known == id) {
            return Ok(());
        }
        for change in &changes {
            monitor.changed(change);
        }
        if taken.len() >= REMEMBERED {
            taken.pop_front();
        }
        taken.push_back(id.to_owned());
        Ok(())
    }
}
