//! Answers to requests that are refused, or that asked for an answer. (LK: signalling §5.7)
//!
//! Owns who gets such answers. Called by everything that handles requests.

use super::state::State;
use crate::ids::PeerId;
use proto::livekit::client_info::Sdk;
use proto::livekit::request_response::{Reason, Request};
use proto::livekit::signal_response::Message;
use proto::livekit::{ClientInfo, RequestResponse};

/// Protocol from which Rust clients know these messages.
const RUST_KNOWS_REPLIES: i32 = 10;
/// Protocol from which clients want to hear that all is well.
const WANTS_OK: i32 = 15;

/// A Rust client that stumbles over messages it does not know.
pub(super) fn is_old_rust(client: &ClientInfo) -> bool {
    client.sdk == Sdk::Rust as i32 && client.protocol < RUST_KNOWS_REPLIES
}

/// Answers a request, which the answer repeats.
pub(super) fn answer(
    state: &mut State,
    peer: PeerId,
    reason: Reason,
    message: &str,
    request: Request,
) {
    let response = RequestResponse {
        request_id: 0,
        reason: reason as i32,
        message: message.to_owned(),
        request: Some(request),
    };
    send(state, peer, response);
}

/// Answers a request that carried a number.
pub(super) fn answer_id(
    state: &mut State,
    peer: PeerId,
    reason: Reason,
    message: &str,
    request_id: u32,
) {
    let response = RequestResponse {
        request_id,
        reason: reason as i32,
        message: message.to_owned(),
        request: None,
    };
    send(state, peer, response);
}

/// Sends an answer to a client that knows such messages.
pub(super) fn send(state: &mut State, peer: PeerId, response: RequestResponse) {
    let Some(participant) = state.participants.get(&peer) else {
        return;
    };
    let unwanted = response.reason == Reason::Ok as i32 && participant.protocol() < WANTS_OK;
    if !unwanted && !is_old_rust(&participant.profile.client) {
        state.signal(peer, Message::RequestResponse(response));
    }
}
