//! What is counted: LiveKit's series where it has them, `foci_…` for ours.
//!
//! Owns names, labels and the page a scrape gets. Media threads count into [`WorkerMetrics`] without
//! a lock; it is read only when someone scrapes. No label names a room or a person.
//! (LK: server ops §10)

mod worker;
mod turn;
mod shelf;
mod series;

use crate::ids::MediaKind;
use crate::media::message::PathTransport;
use crate::room::effect::{Count, DataFate, Limit};
use ::turn::net::Totals;
use series::Series;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
pub use worker::{Counter, Counters, DropReason, Feedback, Population, Traffic, WorkerMetrics};

/// All metrics of this process; cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

struct Inner {
    series: Series,
    /// Locked at start and by scrapes only.
    workers: Mutex<Vec<WorkerMetrics>>,
    /// Replaced once a second by the TURN thread.
    turn: Mutex<Option<Totals>>,
    node_id: String,
}

/// How far a join has come; LiveKit's funnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinState {
    /// A WebSocket was opened.
    SignalConnected,
    /// The connection failed for another reason.
    SignalFailed,
    /// Token or parameters were refused.
    SignalValidationFailed,
    /// The WebSocket upgrade failed.
    SignalUpgradeFailed,
    /// The join response could not be sent.
    SignalWriteInitialResponseFailed,
    /// The participant was registered.
    RtcInit,
    /// Media is connected.
    RtcConnected,
    /// The participant became ACTIVE.
    RtcActive,
    /// It left before.
    RtcCanceled,
    /// A join that came to media.
    RtcSuccess,
    /// One that did not.
    RtcFailure,
}

impl JoinState {
    const fn label(self) -> &'static str {
        match self {
            Self::SignalConnected => "signal_connected",
            Self::SignalFailed => "signal_failed",
            Self::SignalValidationFailed => "signal_validation_failed",
            Self::SignalUpgradeFailed => "signal_upgrade_failed",
            Self::SignalWriteInitialResponseFailed => "signal_write_initial_response_failed",
            Self::RtcInit => "rtc_init",
            Self::RtcConnected => "rtc_connected",
            Self::RtcActive => "rtc_active",
            Self::RtcCanceled => "rtc_canceled",
            Self::RtcSuccess => "rtc_success",
            Self::RtcFailure => "rtc_failure",
        }
    }
}

/// Where signalling messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalDirection {
    /// From a client.
    Request,
    /// To a client.
    Response,
}

const fn kind(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "AUDIO",
        MediaKind::Video => "VIDEO",
    }
}

impl Metrics {
    /// Empty metrics of the node `node_id`.
    #[must_use]
    pub fn new(node_id: &str) -> Self {
        Self(Arc::new(Inner {
            series: Series::new(node_id),
            workers: Mutex::default(),
            turn: Mutex::default(),
            node_id: node_id.to_owned(),
        }))
    }

    /// The counters of media thread `index`, the same ones at every call.
    #[must_use]
    pub fn worker(&self, index: u8) -> WorkerMetrics {
        let mut workers = self
            .0
            .workers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while workers.len() <= usize::from(index) {
            workers.push(WorkerMetrics::default());
        }
        workers[usize::from(index)].clone()
    }

    /// What the TURN server has counted since its start.
    pub fn set_turn(&self, totals: Totals) {
        let mut turn = self.0.turn.lock().unwrap_or_else(PoisonError::into_inner);
        *turn = Some(totals);
    }

    /// A room was made.
    pub fn room_opened(&self) {
        self.0.series.rooms.rooms.inc();
    }

    /// A room is over after `seconds`.
    pub fn room_closed(&self, seconds: f64) {
        self.0.series.rooms.rooms.dec();
        self.0.series.rooms.duration.observe(seconds);
    }

    /// A join has come as far as `state`.
    pub fn join_state(&self, state: JoinState) {
        let joins = &self.0.series.rooms.joins;
        joins.with_label_values(&[state.label(), "false"]).inc();
    }

    /// From the WebSocket's opening to the join response.
    pub fn join_latency(&self, protocol_version: i32, ms: f64) {
        let version = protocol_version.to_string();
        let latency = &self.0.series.sessions.join_latency;
        latency.with_label_values(&[version.as_str()]).observe(ms);
    }

    /// From the WebSocket's opening to connected media.
    pub fn start_time(&self, protocol_version: i32, ms: f64) {
        let version = protocol_version.to_string();
        let start = &self.0.series.sessions.start_time;
        start
            .with_label_values(&[version.as_str(), "false"])
            .observe(ms);
    }

    /// A session ended.
    pub fn session_duration(&self, protocol_version: i32, ms: f64) {
        let version = protocol_version.to_string();
        let duration = &self.0.series.sessions.duration;
        duration.with_label_values(&[version.as_str()]).observe(ms);
    }

    /// A peer connection reached `state`: `started`, `ice_connected` or `connected`. A single peer
    /// connection counts as the publisher's.
    pub fn peer_connection(&self, state: &'static str) {
        let states = &self.0.series.sessions.peer_connections;
        states.with_label_values(&["PUBLISHER", state]).inc();
    }

    /// A signalling message was handled, or could not be.
    pub fn signal_message(&self, direction: SignalDirection, success: bool) {
        let status = if success { "success" } else { "failure" };
        let direction = match direction {
            SignalDirection::Request => "request",
            SignalDirection::Response => "response",
        };
        let messages = &self.0.series.sessions.messages;
        messages
            .with_label_values(&["signal", status, direction])
            .inc();
    }

    /// What a room wants counted.
    pub fn apply(&self, count: &Count) {
        let (rooms, tracks) = (&self.0.series.rooms, &self.0.series.tracks);
        match count {
            Count::ParticipantJoined => {
                rooms.participants.inc();
                self.join_state(JoinState::RtcInit);
            }
            Count::ParticipantActive { .. } => {
                self.join_state(JoinState::RtcActive);
                self.join_state(JoinState::RtcSuccess);
            }
            Count::ParticipantLeft { .. } => rooms.participants.dec(),
            Count::PublishAttempt(of) => tracks.publish(kind(*of), "attempt"),
            Count::PublishSuccess(of) => {
                tracks.publish(kind(*of), "success");
                tracks.published.with_label_values(&[kind(*of)]).inc();
            }
            Count::Unpublished(of) => tracks.published.with_label_values(&[kind(*of)]).dec(),
            Count::SubscribeAttempt(_) => tracks.subscribe("attempt", ""),
            Count::SubscribeSuccess(of) => {
                tracks.subscribe("success", "");
                tracks.subscribed.with_label_values(&[kind(*of)]).inc();
            }
            Count::SubscribeFailure(_) => tracks.subscribe("failure", "no common codec"),
            Count::Unsubscribed(of) => tracks.subscribed.with_label_values(&[kind(*of)]).dec(),
            Count::LimitReached(Limit::Tracks) => self.limit_reached("participant_tracks"),
            Count::LimitReached(Limit::Subscriptions) => {
                self.limit_reached("participant_subscriptions");
            }
            Count::Data(fate) => {
                let fate = match fate {
                    DataFate::Forwarded => "forwarded",
                    DataFate::NotAllowed => "not_allowed",
                    DataFate::Unreadable => "unreadable",
                    DataFate::Repeated => "repeated",
                    DataFate::TooLarge => "too_large",
                };
                self.0.series.data.with_label_values(&[fate]).inc();
            }
            Count::Led(to) => self
                .0
                .series
                .ways
                .led
                .with_label_values(&[to.label()])
                .inc(),
            Count::Quality { rating } => self.0.series.rating.observe(f64::from(*rating)),
        }
    }

    /// Media of a participant comes by another way than before; of one that has come or gone there is no
    /// other.
    pub fn way_changed(&self, before: Option<PathTransport>, after: Option<PathTransport>) {
        let participants = &self.0.series.ways.participants;
        let of = |way: PathTransport| participants.with_label_values(&[way.label()]);
        if let Some(before) = before {
            of(before).dec();
        }
        if let Some(after) = after {
            of(after).inc();
        }
    }

    /// A named limit was reached and something given up.
    pub fn limit_reached(&self, limit: &'static str) {
        let limits = &self.0.series.limits;
        limits.with_label_values(&[limit]).inc();
    }

    /// The certificate of this name is good for so many seconds more, below zero since it expired. There
    /// are a few, all of the operator's choice.
    pub fn certificate_expires(&self, name: &str, seconds: i64) {
        let expiry = &self.0.series.tls.expiry;
        expiry.with_label_values(&[name]).set(seconds);
    }

    /// There is no certificate of this name any more.
    pub fn certificate_gone(&self, name: &str) {
        // It has a series, or there is nothing to take away.
        let _ = self.0.series.tls.expiry.remove_label_values(&[name]);
    }

    /// A new pair of files was `taken` or `refused`.
    pub fn certificate_loaded(&self, result: &'static str) {
        let loads = &self.0.series.tls.loads;
        loads.with_label_values(&[result]).inc();
    }

    /// An order by ACME was `issued` or `failed`.
    pub fn acme_order(&self, result: &'static str) {
        let orders = &self.0.series.tls.orders;
        orders.with_label_values(&[result]).inc();
    }

    /// A connection to a port of HTTP was closed for how it began.
    pub fn connection_mistaken(&self, reason: &'static str) {
        let mistaken = &self.0.series.tls.mistaken;
        mistaken.with_label_values(&[reason]).inc();
    }

    /// What became of a connection to the port of TLS.
    pub fn tls_port_connection(&self, outcome: &'static str) {
        let connections = &self.0.series.tls.connections;
        connections.with_label_values(&[outcome]).inc();
    }

    /// A media connection ended before it had said for whom it is, or was not taken.
    pub fn tcp_unheard(&self, reason: &'static str) {
        self.0.series.tcp_unheard.with_label_values(&[reason]).inc();
    }

    /// A place failed on purpose.
    pub fn fault_injected(&self, point: &'static str) {
        self.0.series.faults.with_label_values(&[point]).inc();
    }

    /// The MatrixRTC authorization service issued a token or refused one.
    pub fn token_decided(&self, endpoint: &'static str, outcome: &'static str) {
        let decisions = &self.0.series.authorization.decisions;
        decisions.with_label_values(&[endpoint, outcome]).inc();
    }

    /// A homeserver that the operator named answers, or does not. There are a few at most.
    pub fn homeserver_answers(&self, name: &str, reachable: bool) {
        let homeservers = &self.0.series.authorization.homeservers;
        homeservers
            .with_label_values(&[name])
            .set(i64::from(reachable));
    }

    /// The operator does not name it any more.
    pub fn homeserver_forgotten(&self, name: &str) {
        let homeservers = &self.0.series.authorization.homeservers;
        // It fails only if there was nothing to forget.
        let _ = homeservers.remove_label_values(&[name]);
    }

    /// So many delegated leaves there are.
    pub fn delegated_leaves(&self, jobs: usize) {
        let jobs = i64::try_from(jobs).unwrap_or(i64::MAX);
        self.0.series.authorization.leaves.set(jobs);
    }

    /// One is over.
    pub fn delegated_leave_ended(&self, end: &'static str) {
        let ended = &self.0.series.authorization.leaves_ended;
        ended.with_label_values(&[end]).inc();
    }

    /// Its homeserver was asked whether somebody is in a Matrix room.
    pub fn memberships_asked(&self, result: &'static str) {
        let asked = &self.0.series.authorization.memberships;
        asked.with_label_values(&[result]).inc();
    }

    /// A participant was to go since his user left the Matrix room.
    pub fn members_taken_out(&self, told_by: &'static str) {
        let taken_out = &self.0.series.authorization.taken_out;
        taken_out.with_label_values(&[told_by]).inc();
    }

    /// It asked a homeserver, which took `seconds`.
    pub fn homeserver_asked(&self, result: &'static str, seconds: f64) {
        let authorization = &self.0.series.authorization;
        authorization.lookup.ended(result, seconds);
    }

    /// It had a room made, which took `seconds`.
    pub fn room_made(&self, result: &'static str, seconds: f64) {
        self.0.series.authorization.room.ended(result, seconds);
    }

    /// It signed a token, which took `seconds`.
    pub fn token_signed(&self, result: &'static str, seconds: f64) {
        let authorization = &self.0.series.authorization;
        authorization.signature.ended(result, seconds);
    }

    /// Clients are told these addresses from now on, each with who says it is ours.
    pub fn advertised(&self, list: impl Iterator<Item = (IpAddr, &'static str)>, again: bool) {
        let addresses = &self.0.series.addresses;
        addresses.told.reset();
        for (ip, source) in list {
            let ip = ip.to_string();
            addresses
                .told
                .with_label_values(&[ip.as_str(), source])
                .set(1);
        }
        addresses.changes.inc_by(u64::from(again));
    }

    /// The page of a scrape, in Prometheus' text format.
    #[must_use]
    pub fn page(&self) -> String {
        let workers = self
            .0
            .workers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let turn = self.0.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.series.page(&self.0.node_id, &workers, turn.as_ref())
    }
}

#[cfg(test)]
pub(crate) mod tests;
