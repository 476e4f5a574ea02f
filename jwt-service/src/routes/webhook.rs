//! `/sfu_webhook`: what the SFU tells of participants, where it is another process.
//!
//! Owns the endpoint. Whatever comes, the answer is an empty 200, as the reference's: the sender is the
//! SFU, which would only send the same again. Whether a message is believed is decided in
//! `crate::webhook`. (LK: jwt-service §7.5)
#![allow(
    clippy::disallowed_methods,
    reason = "shell: a token is good at the clock's time"
)]

use crate::delegation::{Delegations, Presence};
use crate::monitor::Monitor;
use crate::webhook::{self, Step, Told};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header;
use axum::routing::any;
use proto::token::Keys;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::timeout;
use tracing::warn;

/// Where it is served.
pub const PATH: &str = "/sfu_webhook";

/// A message: a room and a participant with all that applications hang on them. It is read only when
/// its token is the SFU's.
const MAX_BODY_BYTES: usize = 512 * 1024;

/// How long it may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// Who wants to know.
#[derive(Clone, Default)]
pub struct Listeners {
    /// Delegated leaves.
    pub delegations: Option<Delegations>,
    /// Who has a token for which Matrix room.
    pub monitor: Option<Arc<Monitor>>,
}

struct Ear {
    keys: Arc<Keys>,
    listeners: Listeners,
}

/// The endpoint. Without listeners a message is not even read: whoever has the SFU in his own process
/// knows better.
pub fn router(keys: Arc<Keys>, listeners: Listeners) -> Router {
    let ear = Ear { keys, listeners };
    Router::new()
        .route(PATH, any(handle))
        .with_state(Arc::new(ear))
}

async fn handle(State(ear): State<Arc<Ear>>, request: Request) {
    let Listeners {
        delegations,
        monitor,
    } = &ear.listeners;
    if delegations.is_none() && monitor.is_none() {
        return;
    }
    let told = match ear.told(request).await {
        Ok(Some(told)) => told,
        Ok(None) => return,
        Err(cause) => return warn!(cause, "a webhook is not believed"),
    };
    if let Some(monitor) = monitor
        && let Some(presence) = presence(&told)
    {
        monitor.hear(&presence);
    }
    if let Some(delegations) = delegations {
        // This waits while the task has much to do.
        delegations.hear(told).await;
    }
}

/// Is he there or not? Who moves is there again in a moment.
fn presence(told: &Told) -> Option<Presence> {
    let sid = match told.step {
        Step::Joined => Some(told.sid.clone()),
        Step::Left => None,
        Step::Moved => return None,
    };
    Some(Presence {
        room: told.room.clone(),
        identity: told.identity.clone(),
        sid,
    })
}

impl Ear {
    /// What a request tells of a participant, or why it is not believed.
    async fn told(&self, request: Request) -> Result<Option<Told>, String> {
        let (parts, body) = request.into_parts();
        let header = parts.headers.get(header::AUTHORIZATION);
        let header = header.and_then(|value| value.to_str().ok());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        let claims = webhook::claims(&self.keys, header.unwrap_or_default(), now);
        let claims = claims.map_err(|error| error.to_string())?;
        let body = read(body)
            .await
            .ok_or("the body does not come, or not to an end")?;
        webhook::read(&claims, &body).map_err(|error| error.to_string())
    }
}

async fn read(body: Body) -> Option<Vec<u8>> {
    let read = timeout(BODY_WITHIN, to_bytes(body, MAX_BODY_BYTES)).await;
    Some(read.ok()?.ok()?.into())
}

#[cfg(test)]
mod tests;
