//! What the TURN server has counted, under the names of its series.

use turn::net::Totals;
use turn::stats::{Drops, Stats};

/// Counters of one name, told apart by one label.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) label: &'static str,
    pub(super) counts: Vec<(&'static str, u64)>,
}

const fn family(
    name: &'static str,
    help: &'static str,
    label: &'static str,
    counts: Vec<(&'static str, u64)>,
) -> Family {
    Family {
        name,
        help,
        label,
        counts,
    }
}

/// Everything that only grows.
pub(super) fn families(totals: &Totals) -> Vec<Family> {
    let mut families = allocations(&totals.server);
    families.push(family(
        "foci_turn_dropped_total",
        "What was dropped without a word",
        "reason",
        dropped(totals),
    ));
    let streams = &totals.streams;
    families.push(family(
        "foci_turn_closed_total",
        "TURN connections that we closed or turned away",
        "reason",
        vec![
            ("turned_away", streams.turned_away),
            ("handshake", streams.handshakes_failed),
            ("idle", streams.idle),
            ("stalled", streams.stalled),
            ("malformed", streams.broken),
            ("displaced", streams.displaced),
        ],
    ));
    families
}

fn allocations(server: &Stats) -> Vec<Family> {
    let traffic = &server.traffic;
    let both = |incoming, outgoing| vec![("incoming", incoming), ("outgoing", outgoing)];
    vec![
        family(
            "foci_turn_allocated_total",
            "Allocations made, and requests refused",
            "result",
            vec![
                ("made", server.allocated),
                ("refused", server.refused - server.peer_taken),
                ("denied", server.denied),
                ("peer_taken", server.peer_taken),
            ],
        ),
        family(
            "foci_turn_ended_total",
            "Allocations that ended",
            "reason",
            vec![
                ("released", server.released),
                ("expired", server.expired),
                ("closed", server.closed),
                ("displaced", server.displaced),
                ("left", server.left),
            ],
        ),
        family(
            "foci_turn_packets_total",
            "Relayed datagrams",
            "direction",
            both(traffic.packets_in, traffic.packets_out),
        ),
        family(
            "foci_turn_bytes_total",
            "Bytes of relayed datagrams",
            "direction",
            both(traffic.bytes_in, traffic.bytes_out),
        ),
        family(
            "foci_turn_stun_total",
            "STUN binding requests",
            "result",
            vec![("answered", server.bindings)],
        ),
    ]
}

fn dropped(totals: &Totals) -> Vec<(&'static str, u64)> {
    let (udp, streams) = (&totals.udp, &totals.streams);
    let Drops {
        malformed,
        unbound,
        unpermitted,
        bandwidth,
        user_bandwidth,
        total_bandwidth,
        unknown_answers,
        outbox,
        events,
        stale,
        no_relay,
    } = totals.server.drops;
    vec![
        ("malformed", malformed),
        ("unbound", unbound),
        ("unpermitted", unpermitted),
        ("bandwidth", bandwidth),
        ("user_bandwidth", user_bandwidth),
        ("total_bandwidth", total_bandwidth),
        ("unknown_answers", unknown_answers),
        ("outbox", outbox),
        ("events", events),
        ("stale", stale),
        ("no_relay", no_relay),
        ("sfu_full", totals.sfu_full),
        ("udp_full", udp.lost_full),
        ("udp_size", udp.lost_size),
        ("udp_firewall", udp.lost_firewall),
        ("udp_other", udp.lost_other),
        ("stream_full", streams.frames_full),
        ("stream_late", streams.frames_late),
        ("stream_closed", streams.frames_closed),
    ]
}
