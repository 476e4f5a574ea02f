//! The server's addresses have changed under a call.
//!
//! Owns who has to come by another one, and how he is told. What the addresses are, media knows; what his
//! failures have led to, `leading`.

use super::exit;
use super::leading;
use super::state::State;
use crate::advertise::Gone;
use proto::livekit::DisconnectReason;
use std::net::IpAddr;
use std::time::Instant;

/// May a path that comes to this address of ours be cut off? Behind a NAT it is none of those that were
/// told outside, so that any of these of its family may have led there. Those told inside lead to themselves.
fn may_be_cut_off(local: IpAddr, gone: &[Gone], still: &[IpAddr]) -> bool {
    let led_there = |one: &Gone| match one.internal {
        true => one.ip == local,
        false => one.ip.is_ipv4() == local.is_ipv4(),
    };
    gone.iter().any(led_there) && !still.contains(&local)
}

/// Sends back everybody whose media may be cut off. Whoever resumes restarts ICE, and is then told
/// the new addresses; his tracks stay as they are. Somebody who is only just joining has been told
/// the old ones: he resumes by himself when they fail. (LK: signalling §7.2, §7.5)
pub(super) fn handle(state: &mut State, (gone, still): (&[Gone], &[IpAddr]), now: Instant) {
    if gone.is_empty() {
        return;
    }
    // One of this network leads nobody here but those who are connected to it.
    let outside = gone.iter().any(|one| !one.internal);
    for peer in state.peers() {
        let Some(participant) = state.participants.get(&peer) else {
            continue;
        };
        let link = &participant.link;
        let affected = link.media.is_reached(|ip| may_be_cut_off(ip, gone, still));
        let goes_back = participant.presence.active && affected && link.session.is_some();
        if affected || outside {
            let is_cut_off = affected || !link.media.is_up();
            leading::handle_readdressed(state, peer, is_cut_off, now);
        }
        if goes_back {
            exit::send_back(state, peer, DisconnectReason::Migration);
        }
    }
}
