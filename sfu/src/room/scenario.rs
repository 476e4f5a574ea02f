//! Faults that clients ask for to test themselves. (LK: signalling §5.11)
//!
//! Owns which are played; the others are ignored.

use super::exit::{self, Farewell};
use super::leading;
use super::pulse;
use super::resume;
use super::state::State;
use crate::ids::PeerId;
use proto::livekit::leave_request::Action;
use proto::livekit::simulate_scenario::Scenario;
use proto::livekit::{CandidateProtocol, DisconnectReason, SimulateScenario};
use std::time::Instant;

/// Plays a scenario.
pub(super) fn handle(state: &mut State, peer: PeerId, request: SimulateScenario, now: Instant) {
    match request.scenario {
        Some(Scenario::SpeakerUpdate(seconds)) => pulse::simulate_speech(state, peer, seconds, now),
        Some(Scenario::NodeFailure(_) | Scenario::Migration(_)) => {
            exit::remove(
                state,
                peer,
                Farewell::silent(DisconnectReason::ServerShutdown),
                now,
            );
        }
        Some(Scenario::ServerLeave(_)) => {
            let farewell = Farewell::told(DisconnectReason::ServerShutdown, Action::Disconnect);
            exit::remove(state, peer, farewell, now);
        }
        Some(Scenario::SwitchCandidateProtocol(wanted)) => {
            let wanted = CandidateProtocol::try_from(wanted);
            if wanted.is_ok_and(|wanted| leading::handle_wish(state, peer, wanted, now)) {
                resume::restart_offers(state, peer);
            }
        }
        _ => {}
    }
}
