//! The series behind the counters, and the only file that names the crate `prometheus`.

use crate::media::transport::framing::End;
use crate::metrics::shelf::Shelf;
use crate::metrics::turn;
use crate::metrics::worker::{Counter, Counters, DropReason, WorkerMetrics};
use ::turn::net::Totals;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

/// Seconds. (LK: server ops §10)
const ROOM_S: [f64; 10] = [
    5.0, 10.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 18_000.0, 36_000.0,
];
const JOIN_MS: [f64; 8] = [10.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 5000.0, 10_000.0];
const START_MS: [f64; 8] = [100.0, 200.0, 500.0, 700.0, 1000.0, 2000.0, 5000.0, 10_000.0];
const SESSION_MS: [f64; 9] = [
    100.0,
    1000.0,
    10_000.0,
    60_000.0,
    300_000.0,
    900_000.0,
    1_800_000.0,
    3_600_000.0,
    14_400_000.0,
];
/// Seconds, up to the deadline of a look-up.
const LOOKUP_S: [f64; 8] = [0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 30.0];
/// Rooms of this process take microseconds, those of an SFU elsewhere a call.
const ROOM_MADE_S: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.25, 1.0, 5.0, 10.0];
const SIGN_S: [f64; 6] = [0.000_01, 0.000_05, 0.000_25, 0.001, 0.01, 0.1];
const RATING: [f64; 4] = [0.0, 1.0, 2.0, 3.0];

/// Rooms and participants.
pub(super) struct Rooms {
    pub(super) rooms: IntGauge,
    pub(super) duration: Histogram,
    pub(super) participants: IntGauge,
    pub(super) joins: IntCounterVec,
}

/// By what media comes.
pub(super) struct Ways {
    pub(super) participants: IntGaugeVec,
    pub(super) led: IntCounterVec,
}

/// Publications and subscriptions.
pub(super) struct Tracks {
    pub(super) published: IntGaugeVec,
    pub(super) subscribed: IntGaugeVec,
    publishes: IntCounterVec,
    subscribes: IntCounterVec,
}

impl Tracks {
    pub(super) fn publish(&self, kind: &str, state: &str) {
        self.publishes.with_label_values(&[kind, state]).inc();
    }

    pub(super) fn subscribe(&self, state: &str, error: &str) {
        self.subscribes.with_label_values(&[state, error]).inc();
    }
}

/// Signalling sessions.
pub(super) struct Sessions {
    pub(super) join_latency: HistogramVec,
    pub(super) start_time: HistogramVec,
    pub(super) duration: HistogramVec,
    pub(super) peer_connections: IntCounterVec,
    pub(super) messages: IntCounterVec,
}

/// The MatrixRTC authorization service.
pub(super) struct Authorization {
    pub(super) decisions: IntCounterVec,
    pub(super) lookup: Phase,
    pub(super) room: Phase,
    pub(super) signature: Phase,
    pub(super) homeservers: IntGaugeVec,
    pub(super) leaves: IntGauge,
    pub(super) leaves_ended: IntCounterVec,
    pub(super) memberships: IntCounterVec,
    pub(super) taken_out: IntCounterVec,
}

/// One step on the way to a token: how it ended, and how long it took.
pub(super) struct Phase {
    results: IntCounterVec,
    duration: Histogram,
}

impl Phase {
    pub(super) fn ended(&self, result: &'static str, seconds: f64) {
        self.results.with_label_values(&[result]).inc();
        self.duration.observe(seconds);
    }
}

/// Addresses told to clients.
pub(super) struct Addresses {
    pub(super) told: IntGaugeVec,
    pub(super) changes: IntCounter,
}

/// The port of TLS and its certificates.
pub(super) struct Tls {
    pub(super) expiry: IntGaugeVec,
    pub(super) loads: IntCounterVec,
    pub(super) orders: IntCounterVec,
    pub(super) connections: IntCounterVec,
    pub(super) mistaken: IntCounterVec,
}

/// All series that are written when something happens.
pub(super) struct Series {
    registry: Registry,
    pub(super) rooms: Rooms,
    pub(super) tracks: Tracks,
    pub(super) sessions: Sessions,
    pub(super) authorization: Authorization,
    pub(super) tls: Tls,
    pub(super) rating: Histogram,
    pub(super) addresses: Addresses,
    pub(super) limits: IntCounterVec,
    pub(super) ways: Ways,
    pub(super) data: IntCounterVec,
    pub(super) faults: IntCounterVec,
    pub(super) tcp_unheard: IntCounterVec,
}

impl Series {
    pub(super) fn new(node_id: &str) -> Self {
        let shelf = Shelf::new(node_id);
        let version: &Gauge = &shelf.put(Gauge::with_opts(
            Opts::new("foci_build_info", "1; the version is a label")
                .const_label("version", env!("CARGO_PKG_VERSION")),
        ));
        version.set(1.0);
        Self {
            rooms: rooms(&shelf),
            tracks: tracks(&shelf),
            sessions: sessions(&shelf),
            authorization: authorization(&shelf),
            tls: tls(&shelf),
            rating: shelf.histogram(
                "livekit_quality_rating",
                "Connection quality: 0 poor, 1 good, 2 excellent, 3 lost",
                &RATING,
            ),
            addresses: addresses(&shelf),
            ways: Ways {
                participants: shelf.gauges(
                    "foci_participants",
                    "Participants whose media is or was connected, by what it comes",
                    &["connection_type"],
                ),
                led: shelf.counters(
                    "foci_fallbacks_total",
                    "Participants led to another way for their media",
                    &["to"],
                ),
            },
            limits: shelf.counters(
                "foci_limits_reached_total",
                "Named limits that were reached",
                &["limit"],
            ),
            tcp_unheard: shelf.counters(
                "foci_tcp_unheard_total",
                "Media connections that ended before they were anybody's, by how",
                &["reason"],
            ),
            faults: shelf.counters(
                "foci_faults_injected_total",
                "Failures on purpose",
                &["point"],
            ),
            data: shelf.counters(
                "foci_data_packets_total",
                "Data packets by what became of them",
                &["fate"],
            ),
            registry: shelf.0,
        }
    }

    /// All series as text, the media threads' summed up now.
    pub(super) fn page(
        &self,
        node_id: &str,
        workers: &[WorkerMetrics],
        turn: Option<&Totals>,
    ) -> String {
        let shelf = Shelf::new(node_id);
        media(&shelf, workers);
        threads(&shelf, workers);
        messages(&shelf, workers);
        connections(&shelf, workers);
        if let Some(totals) = turn {
            relay(&shelf, totals);
        }
        let mut families = self.registry.gather();
        families.extend(shelf.0.gather());
        let mut page = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&families, &mut page) {
            tracing::error!(%error, "metrics cannot be written");
        }
        String::from_utf8(page).unwrap_or_default()
    }
}

fn addresses(shelf: &Shelf) -> Addresses {
    Addresses {
        told: shelf.gauges(
            "foci_advertised_ip_info",
            "1; an address told to clients, and who says it is ours",
            &["ip", "source"],
        ),
        changes: shelf.put(IntCounter::new(
            "foci_advertised_changes_total",
            "Times clients were told other addresses than before",
        )),
    }
}

fn rooms(shelf: &Shelf) -> Rooms {
    Rooms {
        rooms: shelf.gauge("livekit_room_total", "Rooms"),
        duration: shelf.histogram(
            "livekit_room_duration_seconds",
            "Age of closed rooms",
            &ROOM_S,
        ),
        participants: shelf.gauge("livekit_participant_total", "Participants"),
        joins: shelf.counters(
            "livekit_participant_join_total",
            "Joins by how far they came",
            &["state", "warp"],
        ),
    }
}

fn tracks(shelf: &Shelf) -> Tracks {
    Tracks {
        published: shelf.gauges(
            "livekit_track_published_total",
            "Published tracks",
            &["kind"],
        ),
        subscribed: shelf.gauges("livekit_track_subscribed_total", "Subscriptions", &["kind"]),
        publishes: shelf.counters(
            "livekit_track_publish_counter",
            "Publications",
            &["kind", "state"],
        ),
        subscribes: shelf.counters(
            "livekit_track_subscribe_counter",
            "Subscriptions asked for",
            &["state", "error"],
        ),
    }
}

fn authorization(shelf: &Shelf) -> Authorization {
    Authorization {
        decisions: shelf.counters(
            "foci_jwt_decisions_total",
            "MatrixRTC tokens issued and refused",
            &["endpoint", "outcome"],
        ),
        lookup: Phase {
            results: shelf.counters(
                "foci_jwt_lookups_total",
                "Homeservers asked about OpenID tokens",
                &["result"],
            ),
            duration: shelf.histogram(
                "foci_jwt_lookup_seconds",
                "How long asking a homeserver took",
                &LOOKUP_S,
            ),
        },
        room: Phase {
            results: shelf.counters(
                "foci_jwt_rooms_total",
                "Rooms asked for since somebody wants a token",
                &["result"],
            ),
            duration: shelf.histogram(
                "foci_jwt_room_seconds",
                "How long making a room took",
                &ROOM_MADE_S,
            ),
        },
        signature: Phase {
            results: shelf.counters(
                "foci_jwt_signatures_total",
                "MatrixRTC tokens signed",
                &["result"],
            ),
            duration: shelf.histogram(
                "foci_jwt_signature_seconds",
                "How long signing a token took",
                &SIGN_S,
            ),
        },
        homeservers: shelf.gauges(
            "foci_jwt_homeserver_up",
            "Homeservers that the configuration names: 1 if they answer",
            &["server"],
        ),
        leaves: shelf.gauge("foci_jwt_leaves", "Delegated leaves"),
        leaves_ended: shelf.counters(
            "foci_jwt_leaves_ended_total",
            "Delegated leaves that are over, by how",
            &["end"],
        ),
        memberships: shelf.counters(
            "foci_jwt_membership_checks_total",
            "Times the homeserver was asked who is in a Matrix room, by what it said",
            &["result"],
        ),
        taken_out: shelf.counters(
            "foci_jwt_taken_out_total",
            "Participants taken out since their user left the Matrix room",
            &["told_by"],
        ),
    }
}

fn tls(shelf: &Shelf) -> Tls {
    Tls {
        expiry: shelf.gauges(
            "foci_certificate_expiry_seconds",
            "Seconds until a certificate ends",
            &["name"],
        ),
        loads: shelf.counters(
            "foci_certificate_loads_total",
            "Changed certificate files, by whether they were taken",
            &["result"],
        ),
        orders: shelf.counters(
            "foci_acme_orders_total",
            "Certificates ordered of an authority",
            &["result"],
        ),
        connections: shelf.counters(
            "foci_tls_port_connections_total",
            "Connections to the port of TLS, by what became of them",
            &["outcome"],
        ),
        mistaken: shelf.counters(
            "foci_port_closed_total",
            "Connections to ports of HTTP that were closed for how they began",
            &["reason"],
        ),
    }
}

fn sessions(shelf: &Shelf) -> Sessions {
    let version = &["protocol_version"];
    Sessions {
        join_latency: shelf.histograms(
            "livekit_session_join_latency_ms",
            "WebSocket accepted to join response",
            &JOIN_MS,
            version,
        ),
        start_time: shelf.histograms(
            "livekit_session_start_time_ms",
            "WebSocket accepted to media connected",
            &START_MS,
            &["protocol_version", "warp"],
        ),
        duration: shelf.histograms(
            "livekit_session_duration_ms",
            "Length of sessions",
            &SESSION_MS,
            version,
        ),
        peer_connections: shelf.counters(
            "livekit_peer_connection_state",
            "Peer connections by how far they came",
            &["transport", "state"],
        ),
        messages: shelf.counters(
            "livekit_node_messages",
            "Signalling messages",
            &["type", "status", "direction"],
        ),
    }
}

/// LiveKit's packet series: sums over all media threads.
fn media(shelf: &Shelf, workers: &[WorkerMetrics]) {
    let sum = |of: fn(&Counters) -> &Counter| workers.iter().map(|w| of(w).value()).sum::<u64>();
    let labels = &["direction", "transmission", "country"];
    let packets = shelf.counters("livekit_packet_total", "RTP packets", labels);
    let bytes = shelf.counters("livekit_packet_bytes", "Bytes of RTP packets", labels);
    let put = |series: &IntCounterVec, direction, transmission, total| {
        series
            .with_label_values(&[direction, transmission, ""])
            .inc_by(total);
    };
    put(
        &packets,
        "incoming",
        "initial",
        sum(|w| &w.received.packets),
    );
    put(
        &packets,
        "incoming",
        "retransmit",
        sum(|w| &w.received.repeated_packets),
    );
    put(&packets, "outgoing", "initial", sum(|w| &w.sent.packets));
    put(
        &packets,
        "outgoing",
        "retransmit",
        sum(|w| &w.sent.repeated_packets),
    );
    put(&bytes, "incoming", "initial", sum(|w| &w.received.bytes));
    // Bytes of received retransmissions are not told apart.
    put(&bytes, "outgoing", "initial", sum(|w| &w.sent.bytes));
    put(
        &bytes,
        "outgoing",
        "retransmit",
        sum(|w| &w.sent.repeated_bytes),
    );
    let feedback = |name, help, incoming, outgoing| {
        let series = shelf.counters(name, help, &["direction", "country"]);
        series.with_label_values(&["incoming", ""]).inc_by(incoming);
        series.with_label_values(&["outgoing", ""]).inc_by(outgoing);
    };
    feedback(
        "livekit_nack_total",
        "Packets asked for again",
        sum(|w| &w.feedback_in.nacks),
        sum(|w| &w.feedback_out.nacks),
    );
    feedback(
        "livekit_pli_total",
        "Picture loss indications",
        sum(|w| &w.feedback_in.plis),
        sum(|w| &w.feedback_out.plis),
    );
    feedback(
        "livekit_fir_total",
        "Full intra requests",
        sum(|w| &w.feedback_in.firs),
        sum(|w| &w.feedback_out.firs),
    );
}

/// Data messages of each media thread.
fn messages(shelf: &Shelf, workers: &[WorkerMetrics]) {
    let labels = &["worker", "direction"];
    let messages = shelf.counters("foci_data_messages_total", "Data messages", labels);
    let bytes = shelf.counters("foci_data_bytes_total", "Bytes of data messages", labels);
    for (index, worker) in workers.iter().enumerate() {
        let index = index.to_string();
        for (direction, data) in [
            ("incoming", &worker.data_in),
            ("outgoing", &worker.data_out),
        ] {
            let labels = [index.as_str(), direction];
            let series = messages.with_label_values(&labels);
            series.inc_by(data.messages.value());
            bytes.with_label_values(&labels).inc_by(data.bytes.value());
        }
    }
}

/// The TURN server.
fn relay(shelf: &Shelf, totals: &Totals) {
    for (name, help, now) in [
        (
            "foci_turn_allocations",
            "Allocations",
            totals.server.allocations,
        ),
        (
            "foci_turn_connections",
            "TURN connections over TCP and TLS",
            totals.streams.open,
        ),
    ] {
        shelf
            .gauge(name, help)
            .set(i64::try_from(now).unwrap_or(i64::MAX));
    }
    for family in turn::families(totals) {
        let series = shelf.counters(family.name, family.help, &[family.label]);
        for (value, count) in family.counts {
            series.with_label_values(&[value]).inc_by(count);
        }
    }
}

/// Media over TCP, of each media thread.
fn connections(shelf: &Shelf, workers: &[WorkerMetrics]) {
    let label = &["worker"];
    let open = shelf.gauges("foci_tcp_connections", "Media connections", label);
    let opened = shelf.counters(
        "foci_tcp_opened_total",
        "Media connections taken over",
        label,
    );
    let ended = shelf.counters(
        "foci_tcp_ended_total",
        "Media connections that ended",
        &["worker", "reason"],
    );
    let sends = shelf.counters("foci_tcp_sends_total", "System calls that sent", label);
    let frames = shelf.counters("foci_tcp_frames_total", "Datagrams these sent", label);
    for (index, worker) in workers.iter().enumerate() {
        let index = index.to_string();
        let label = [index.as_str()];
        let now = i64::try_from(worker.tcp.open.value()).unwrap_or(i64::MAX);
        open.with_label_values(&label).set(now);
        for (series, counter) in [
            (&opened, &worker.tcp.opened),
            (&sends, &worker.tcp.sends),
            (&frames, &worker.tcp.datagrams),
        ] {
            series.with_label_values(&label).inc_by(counter.value());
        }
        for (reason, counter) in End::ALL.into_iter().zip(&worker.tcp.ended) {
            let series = ended.with_label_values(&[index.as_str(), reason.label()]);
            series.inc_by(counter.value());
        }
    }
}

/// Our own series, one for each media thread.
fn threads(shelf: &Shelf, workers: &[WorkerMetrics]) {
    let label = &["worker"];
    let peers = shelf.gauges("foci_peers", "Media endpoints", label);
    let upstreams = shelf.gauges("foci_upstreams", "Received streams", label);
    let downstreams = shelf.gauges("foci_downstreams", "Forwarded streams", label);
    let sends = shelf.counters("foci_udp_sends_total", "System calls that sent", label);
    let segments = shelf.counters("foci_gso_segments_total", "Datagrams these sent", label);
    let strays = shelf.counters(
        "foci_strays_found_total",
        "Clients found at a new address by their keys",
        label,
    );
    let questions = shelf.counters(
        "foci_address_questions_total",
        "Questions to clients at which address they see us",
        &["worker", "result"],
    );
    let busy = shelf.counters(
        "foci_worker_busy_ns_total",
        "Nanoseconds not waiting",
        label,
    );
    let dropped = shelf.counters(
        "foci_packets_dropped_total",
        "Datagrams not used or not sent",
        &["worker", "reason"],
    );
    for (index, worker) in workers.iter().enumerate() {
        let index = index.to_string();
        let gauge = |series: &IntGaugeVec, counter: &Counter| {
            let now = i64::try_from(counter.value()).unwrap_or(i64::MAX);
            series.with_label_values(&[index.as_str()]).set(now);
        };
        gauge(&peers, &worker.population.peers);
        gauge(&upstreams, &worker.population.upstreams);
        gauge(&downstreams, &worker.population.downstreams);
        let count = |series: &IntCounterVec, counter: &Counter| {
            series
                .with_label_values(&[index.as_str()])
                .inc_by(counter.value());
        };
        count(&sends, &worker.udp_sends);
        count(&segments, &worker.gso_segments);
        count(&strays, &worker.strays_found);
        count(&busy, &worker.busy_ns);
        for (result, total) in worker.questions.by_result() {
            let series = questions.with_label_values(&[index.as_str(), result]);
            series.inc_by(total);
        }
        for reason in DropReason::ALL {
            let series = dropped.with_label_values(&[index.as_str(), reason.label()]);
            series.inc_by(worker.drops(reason).value());
        }
    }
}
