//! Whoever is to come by another way is told so, and remembered. (LK: signalling §4.3, §7.5, §10.1)
//!
//! Owns what a change of preference means for media, for what the client is told when it joins or resumes,
//! and for its next stay. When there is to be one, `fallback` says.

use super::command::Join;
use super::deadlines::Deadline;
use super::effect::{Count, Effect};
use super::fallback::{Fallback, Offer, Relays, knows_tcp};
use super::participant::Participant;
use super::preference::Preference;
use super::setup;
use super::state::State;
use crate::ice_servers::{Credential, IceServer, over_streams};
use crate::ids::PeerId;
use crate::media::message::{Command, PathReport, PathTransport, Side};
use proto::livekit::{CandidateProtocol, ClientConfigSetting, ClientConfiguration};
use std::time::{Duration, Instant};

/// Media must have come by what is preferred so long after the client was told. Clients of the JS SDK give
/// up after fifteen seconds, and find another way open when they try again.
const TRIAL: Duration = Duration::from_secs(12);

/// Somebody joins. What there is no more, or not for the client he has now, is preferred no more.
pub(super) fn begin(settings: &setup::Fallback, join: &Join, now: Instant) -> Fallback {
    let ways = &join.ways;
    let relays = relays(&ways.ice_servers);
    let possible = match ways.preference {
        Preference::Any => true,
        Preference::Tcp => settings.tcp && knows_tcp(&join.client),
        Preference::Relay => settings.relay && relays != Relays::None,
    };
    let preference = if possible && settings.allowed {
        ways.preference
    } else {
        Preference::Any
    };
    Fallback::new(preference, relays, now)
}

/// Tells media of what a fresh participant prefers, and sees whether he can come by it.
pub(super) fn set_out(state: &mut State, peer: PeerId, now: Instant) {
    if preference(state, peer) == Preference::Tcp {
        state.media(Command::TellTcp { peer, only: true });
    }
    await_way(state, peer, now);
}

/// A client is back. An old preference is forgotten: the network may be another one.
pub(super) fn handle_resumed(
    state: &mut State,
    peer: PeerId,
    (servers, failed): (&[IceServer], bool),
    now: Instant,
) {
    let Some(participant) = state.participants.get_mut(&peer) else {
        return;
    };
    let fallback = &mut participant.link.fallback;
    fallback.relays = relays(servers);
    let is_given_up = fallback.is_given_up(now);
    if fallback.is_stale(now) {
        fallback.prefer(Preference::Any, now);
        state.media(Command::TellTcp { peer, only: false });
        let leaves = false;
        state.media(Command::LeavePath { peer, leaves });
    }
    if failed && is_given_up {
        fail(state, peer, now);
    } else if failed {
        handle_failed(state, peer, now);
    }
    await_way(state, peer, now);
}

fn relays(servers: &[IceServer]) -> Relays {
    let told = over_streams(servers);
    let foreign = |server: &IceServer| matches!(server.credential, Credential::Theirs(_));
    match told.as_slice() {
        [] => Relays::None,
        some if some.iter().any(foreign) => Relays::Foreign,
        _ => Relays::Ours,
    }
}

fn await_way(state: &mut State, peer: PeerId, now: Instant) {
    let participant = state.participants.get(&peer);
    let on_trial = participant.is_some_and(|one| one.link.fallback.is_on_trial());
    if on_trial {
        state
            .deadlines
            .set_if_absent(Deadline::Trial(peer), now + TRIAL);
    } else {
        state.deadlines.clear(Deadline::Trial(peer));
    }
}

fn preference(state: &State, peer: PeerId) -> Preference {
    let participant = state.participants.get(&peer);
    participant.map_or(Preference::Any, |one| one.link.fallback.preference())
}

/// A connection is up, or goes by another path.
pub(super) fn handle_way(
    state: &mut State,
    peer: PeerId,
    (side, path, is_new): (Side, PathReport, bool),
    now: Instant,
) {
    let Some(participant) = state.participants.get_mut(&peer) else {
        return;
    };
    let link = &mut participant.link;
    if is_new {
        link.media.handle_connected(side, path);
        link.fallback.handle_connected(path.transport, now);
    } else {
        link.media.handle_moved(side, path);
        link.fallback.handle_way(path.transport);
    }
    if !link.fallback.is_on_trial() {
        state.deadlines.clear(Deadline::Trial(peer));
    }
}

/// Media of a participant has failed, as he says or as we noticed. If he is to come by another way for it,
/// his next resume brings it about.
pub(super) fn handle_failed(state: &mut State, peer: PeerId, now: Instant) {
    let allowed = state.facts.settings.fallback.allowed;
    let Some(participant) = state.participants.get_mut(&peer) else {
        return;
    };
    if participant.link.fallback.handle_failed(now) && allowed {
        fail(state, peer, now);
    }
}

/// A connection by UDP loses much for long; true if there is another way, which the client's next resume
/// brings about. Whoever is away is looked at when it has gone on for as long again.
pub(super) fn handle_heavy_loss(
    state: &mut State,
    peer: PeerId,
    (side, rtt): (Side, Option<Duration>),
    now: Instant,
) -> bool {
    let settings = state.facts.settings.fallback;
    let Some(participant) = state.participants.get_mut(&peer) else {
        return false;
    };
    let link = &mut participant.link;
    let by_udp = link.media.way(side) == Some(PathTransport::Udp);
    let here = by_udp && participant.presence.active && link.session.is_some();
    let limit_ms = settings.tcp_rtt_below_ms;
    let better = here && link.fallback.is_better_by_tcp(rtt, limit_ms, now);
    tracing::debug!(
        ?peer,
        ?rtt,
        signalling_ms = link.fallback.rtt_ms(),
        better,
        "udp connection unstable"
    );
    if !(settings.allowed && settings.unstable && better) {
        return false;
    }
    let from = (Some(PathTransport::Udp), "udp connection unstable");
    let led = step(state, peer, from, now);
    if led && let Some(participant) = state.participants.get_mut(&peer) {
        participant.link.fallback.handle_given_up(now);
    }
    led
}

/// Media has not come by what is preferred in time; true if something else is tried now. Whoever is away
/// or silent is tried when he is back.
pub(super) fn handle_trial_over(state: &mut State, peer: PeerId, now: Instant) -> bool {
    let Some(participant) = state.participants.get(&peer) else {
        return false;
    };
    let link = &participant.link;
    let here = link.session.is_some() && link.fallback.is_heard(now);
    here && link.fallback.is_on_trial() && fail(state, peer, now)
}

/// Leads a participant on whose connection has failed.
fn fail(state: &mut State, peer: PeerId, now: Instant) -> bool {
    let participant = state.participants.get(&peer);
    let way = participant.and_then(|one| one.link.media.worst_way());
    step(state, peer, (way, "short ice connection"), now)
}

/// Leads a participant to the next way, if there is one, from this one and for this reason.
fn step(
    state: &mut State,
    peer: PeerId,
    (way, why): (Option<PathTransport>, &str),
    now: Instant,
) -> bool {
    let settings = state.facts.settings.fallback;
    let Some(participant) = state.participants.get_mut(&peer) else {
        return false;
    };
    let offer = offer(&settings, participant);
    let next = participant.link.fallback.step(way, offer, now);
    if let Some(next) = next {
        let by = way.map_or("unknown", |way| way.label());
        tracing::info!(
            ?peer,
            connectionType = by,
            "{why}, switch to {}",
            next.label()
        );
        lead(state, peer, next);
    }
    next.is_some()
}

fn offer(settings: &setup::Fallback, participant: &Participant) -> Offer {
    let fallback = &participant.link.fallback;
    let limit = settings.tcp_rtt_below_ms;
    Offer {
        tcp: settings.tcp
            && knows_tcp(&participant.profile.client)
            && (limit == 0 || fallback.rtt_ms() < limit),
        relay: settings.relay && fallback.relays != Relays::None,
    }
}

/// One of our addresses is another one. Whom that has cut off has not failed by his network, and whoever was
/// led elsewhere lately most likely was so for nothing else: he may come by anything again.
pub(super) fn handle_readdressed(state: &mut State, peer: PeerId, is_cut_off: bool, now: Instant) {
    let Some(participant) = state.participants.get_mut(&peer) else {
        return;
    };
    let fallback = &mut participant.link.fallback;
    if is_cut_off {
        fallback.handle_cut_off(now);
    }
    if fallback.is_led_lately(now) {
        let from = fallback.preference().label();
        fallback.prefer(Preference::Any, now);
        tracing::info!(?peer, from, "our address has changed, switch to any");
        prefer(state, peer, Preference::Any);
    }
}

fn lead(state: &mut State, peer: PeerId, preference: Preference) {
    prefer(state, peer, preference);
    state.count(Count::Led(preference));
}

fn prefer(state: &mut State, peer: PeerId, preference: Preference) {
    let Some(participant) = state.participants.get(&peer) else {
        return;
    };
    // It begins anew when the client is told.
    state.deadlines.clear(Deadline::Trial(peer));
    state.effects.push(Effect::Prefer {
        identity: participant.profile.claims.identity.clone(),
        preference,
    });
    let only = preference == Preference::Tcp;
    state.media(Command::TellTcp { peer, only });
    let leaves = preference != Preference::Any;
    state.media(Command::LeavePath { peer, leaves });
}

/// A client asks for a way, to test itself; true if it is led there. (LK: signalling §5.11)
pub(super) fn handle_wish(
    state: &mut State,
    peer: PeerId,
    wanted: CandidateProtocol,
    now: Instant,
) -> bool {
    let settings = state.facts.settings.fallback;
    let Some(participant) = state.participants.get_mut(&peer) else {
        return false;
    };
    let offer = offer(&settings, participant);
    let (preference, possible) = match wanted {
        CandidateProtocol::Udp => (Preference::Any, true),
        CandidateProtocol::Tcp => (Preference::Tcp, offer.tcp),
        CandidateProtocol::Tls => (Preference::Relay, offer.relay),
    };
    if possible {
        participant.link.fallback.prefer(preference, now);
        lead(state, peer, preference);
    }
    possible
}

/// May the client begin to negotiate before it needs to? Not if it may have to begin anew soon.
pub(super) fn is_open(state: &State, peer: PeerId) -> bool {
    preference(state, peer) == Preference::Any
}

/// What the client is told of itself: its known faults, and whether to come by a relay only.
pub(super) fn configuration(
    state: &State,
    peer: PeerId,
    faults: Option<ClientConfiguration>,
) -> Option<ClientConfiguration> {
    if preference(state, peer) != Preference::Relay {
        return faults;
    }
    let mut told = faults.unwrap_or_default();
    told.set_force_relay(ClientConfigSetting::Enabled);
    Some(told)
}
