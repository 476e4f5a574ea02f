//! The signalling endpoint: validating, and connecting up to the first message.
//!
//! Owns the answers before the upgrade: a client is let in once its room has answered, so that a
//! refusal still has an HTTP status. The open socket is `socket`'s. Called by `http/router`.
//! (LK: signalling §1.5, §1.6)

mod socket;

use super::connection::Place;
use super::front::Front;
use crate::auth;
use crate::metrics::JoinState;
use crate::room::effect::JoinRefusal;
use crate::rooms::{Attached, EnterError, Entry, Said};
use crate::signal::client::Hints;
use crate::signal::join::{self, Admission, Asked, JoinError};
use crate::signal::session::{JSON_SUBPROTOCOL, Opening, Session};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use proto::signal::FrameBuf;
use proto::token::{Claims, Verified};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long a room may take for its first message: LiveKit's three attempts of 3, 4 and 5 s.
const FIRST_MESSAGE_WITHIN: Duration = Duration::from_secs(12);

/// The crate's default of 128 KiB each way would be most of what a participant costs.
const SOCKET_BUFFER_BYTES: usize = 8 * 1024;

/// Why a connection failed after its token was found good; ours to answer for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum ConnectError {
    #[error("timed out while waiting for signal response")]
    Slow,
    #[error("connection closed by media")]
    Closed,
    #[error("connection closed by media: room is full")]
    RoomFull,
    #[error("connection closed by media: name, metadata or attributes exceed their limit")]
    LimitExceeded,
}

/// A join that is no WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no WebSocket is asked for: if there is a proxy in front, let it pass the headers Upgrade and Connection on"
)]
struct NoUpgrade;

/// The generations of the signalling path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// `/rtc`: parameters, two peer connections.
    Legacy,
    /// `/rtc/v1`: a join request, one peer connection.
    V1,
}

/// `/rtc/v1/validate`: the checks of [`connect`] without a session.
pub async fn validate(front: State<Arc<Front>>, request: Request) -> Response {
    check_only(front, request, Version::V1).await
}

/// `/rtc/validate`: the checks of [`connect_legacy`] without a session.
pub async fn validate_legacy(front: State<Arc<Front>>, request: Request) -> Response {
    check_only(front, request, Version::Legacy).await
}

/// `/rtc/v1`: checks, waits for the room's first message, then upgrades.
pub async fn connect(front: State<Arc<Front>>, request: Request) -> Response {
    enter(front, request, Version::V1).await
}

/// `/rtc`: the same for clients that ask by parameters.
pub async fn connect_legacy(front: State<Arc<Front>>, request: Request) -> Response {
    enter(front, request, Version::Legacy).await
}

async fn check_only(
    State(front): State<Arc<Front>>,
    request: Request,
    version: Version,
) -> Response {
    let (parts, _) = request.into_parts();
    let admitted = admit(&front, &parts, version).await;
    match admitted.and_then(|admission| admission.validated()) {
        Ok(()) => "success".into_response(),
        Err(error) => refuse(&parts, error.status(), &error),
    }
}

async fn enter(State(front): State<Arc<Front>>, request: Request, version: Version) -> Response {
    let accepted = Instant::now();
    let (mut parts, _) = request.into_parts();
    if !asks_for_upgrade(&parts.headers) {
        // Whoever has a token is no stranger that looks around.
        if parts.extensions.get::<Verified<Claims>>().is_some() {
            auth::log_refusal(&parts, 404, &NoUpgrade);
        }
        return StatusCode::NOT_FOUND.into_response();
    }
    let admission = match admit(&front, &parts, version).await {
        Ok(admission) => admission,
        Err(error) => {
            front.metrics.join_state(JoinState::SignalValidationFailed);
            return refuse(&parts, error.status(), &error);
        }
    };
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade.protocols([JSON_SUBPROTOCOL]),
        Err(rejection) => {
            front.metrics.join_state(JoinState::SignalUpgradeFailed);
            return rejection.into_response();
        }
    };
    let opening = if admission.resumes() {
        Opening::Resume
    } else {
        Opening::Join
    };
    let chosen = upgrade
        .selected_protocol()
        .and_then(|name| name.to_str().ok());
    let mut session = Session::new(opening, chosen);
    let place = parts.extensions.get::<Place>().cloned();
    match first_frame(&front, admission, &mut session, accepted).await {
        Ok((attached, first)) => {
            front.metrics.join_state(JoinState::SignalConnected);
            let line = socket::Line::new(attached, session, place);
            open(&front, upgrade, line, first)
        }
        Err(Failure::Refused(error)) => {
            front.metrics.join_state(JoinState::SignalFailed);
            refuse(&parts, error.status(), &error)
        }
        Err(Failure::Connect(error)) => {
            front.metrics.join_state(JoinState::SignalFailed);
            refuse(&parts, StatusCode::INTERNAL_SERVER_ERROR.as_u16(), &error)
        }
    }
}

/// Upgrades. Until the socket runs, dropping the line takes the participant out of its room.
fn open(front: &Front, upgrade: WebSocketUpgrade, line: socket::Line, first: FrameBuf) -> Response {
    let metrics = front.metrics.clone();
    let failures = front.metrics.clone();
    let faults = front.faults.clone();
    upgrade
        .max_message_size(front.max_message_bytes)
        .max_frame_size(front.max_message_bytes)
        .read_buffer_size(SOCKET_BUFFER_BYTES)
        .write_buffer_size(SOCKET_BUFFER_BYTES)
        .on_failed_upgrade(move |_| failures.join_state(JoinState::SignalUpgradeFailed))
        .on_upgrade(move |websocket| socket::run(websocket, line, first, (metrics, faults)))
}

/// Everything that can be judged before the room is asked.
async fn admit(front: &Front, parts: &Parts, version: Version) -> Result<Admission, JoinError> {
    let claims = parts.extensions.get::<Verified<Claims>>().cloned();
    let parameters = auth::query(&parts.uri);
    let user_agent = parts.headers.get(header::USER_AGENT);
    let hints = Hints {
        user_agent: user_agent.and_then(|value| value.to_str().ok()),
        address: auth::client_address(parts),
    };
    let asked = match version {
        Version::Legacy => Asked::Parameters(&parameters),
        Version::V1 => {
            let request = parameters.iter().find(|(name, _)| name == "join_request");
            Asked::Request(request.map(|(_, text)| text.as_str()))
        }
    };
    let admission = join::check(claims, asked, hints)?;
    let needs_room = admission.needs_existing_room(&front.policy.borrow());
    if needs_room && !front.rooms.exists(admission.room()).await {
        return Err(JoinError::RoomMissing);
    }
    if front.rooms.denies(admission.room(), admission.identity()) {
        return Err(JoinError::Denied);
    }
    if front.is_draining() {
        return Err(JoinError::Draining);
    }
    Ok(admission)
}

enum Failure {
    Refused(JoinError),
    Connect(ConnectError),
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::Connect(error)
    }
}

impl From<EnterError> for Failure {
    fn from(error: EnterError) -> Self {
        match error {
            EnterError::Full => Self::Refused(JoinError::Overloaded),
            EnterError::Draining => Self::Refused(JoinError::Draining),
            EnterError::Denied => Self::Refused(JoinError::Denied),
            EnterError::Closed => Self::Connect(ConnectError::Closed),
        }
    }
}

/// Enters the room and waits for the message with which it receives the session.
async fn first_frame(
    front: &Front,
    admission: Admission,
    session: &mut Session,
    accepted: Instant,
) -> Result<(Attached, FrameBuf), Failure> {
    let id = front.rooms.open_session();
    let room = admission.room().to_owned();
    let entry = if admission.resumes() {
        Entry::Resume(Box::new(admission.into_resume(id, &front.policy.borrow())))
    } else {
        let peer = front.rooms.place();
        Entry::Join(Box::new(admission.into_join(
            id,
            peer,
            &front.policy.borrow(),
        )))
    };
    let joins = match &entry {
        Entry::Join(join) => Some(join.client.protocol),
        Entry::Resume(_) => None,
    };
    let answered = async {
        let mut attached = front.rooms.enter(&room, entry).await?;
        let first = first_message(&mut attached, session).await?;
        if let Some(version) = joins {
            let waited = accepted.elapsed().as_secs_f64() * 1000.0;
            front.metrics.join_latency(version, waited);
        }
        Ok((attached, first))
    };
    timeout(FIRST_MESSAGE_WITHIN, answered)
        .await
        .unwrap_or(Err(ConnectError::Slow.into()))
}

async fn first_message(
    attached: &mut Attached,
    session: &mut Session,
) -> Result<FrameBuf, ConnectError> {
    loop {
        match attached.next().await.ok_or(ConnectError::Closed)? {
            Said::Message(message) => {
                if let Some(frame) = session.say(*message).map_err(|_| ConnectError::Closed)? {
                    return Ok(frame);
                }
            }
            Said::Refused(JoinRefusal::RoomFull) => return Err(ConnectError::RoomFull),
            Said::Refused(JoinRefusal::LimitExceeded) => return Err(ConnectError::LimitExceeded),
            Said::Refused(JoinRefusal::Closing) => return Err(ConnectError::Closed),
        }
    }
}

fn refuse(parts: &Parts, status: u16, error: &dyn std::error::Error) -> Response {
    auth::log_refusal(parts, status, error);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, error.to_string()).into_response()
}

/// Anything else on this path is answered as if it did not exist.
fn asks_for_upgrade(headers: &HeaderMap) -> bool {
    let names = |header: header::HeaderName, token: &str| {
        headers
            .get_all(header)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|word| word.trim().eq_ignore_ascii_case(token))
    };
    names(header::CONNECTION, "upgrade") && names(header::UPGRADE, "websocket")
}

#[cfg(test)]
mod tests;
