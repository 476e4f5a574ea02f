//! What the TURN server has counted, as series.

use super::series::Shelf;
use turn::net::Totals;

/// Totals of the TURN server.
pub(super) fn series(shelf: &Shelf, totals: &Totals) {
    let (server, udp, streams) = (&totals.server, &totals.udp, &totals.streams);
    let now = |total: u64| i64::try_from(total).unwrap_or(i64::MAX);
    let gauge = shelf.gauge("foci_turn_allocations", "Allocations");
    gauge.set(now(server.allocations));
    let gauge = shelf.gauge("foci_turn_connections", "TURN connections over TCP and TLS");
    gauge.set(now(streams.open));
    for (name, help, label, counts) in [
        (
            "foci_turn_allocated_total",
            "Allocations made",
            "result",
            &[
                ("made", server.allocated),
                ("refused", server.refused),
                ("denied", server.denied),
            ][..],
        ),
        (
            "foci_turn_ended_total",
            "Allocations that ended",
            "reason",
            &[
                ("released", server.released),
                ("expired", server.expired),
                ("closed", server.closed),
            ],
        ),
        (
            "foci_turn_packets_total",
            "Relayed datagrams",
            "direction",
            &[
                ("incoming", server.traffic.packets_in),
                ("outgoing", server.traffic.packets_out),
            ],
        ),
        (
            "foci_turn_bytes_total",
            "Bytes of relayed datagrams",
            "direction",
            &[
                ("incoming", server.traffic.bytes_in),
                ("outgoing", server.traffic.bytes_out),
            ],
        ),
        (
            "foci_turn_stun_total",
            "STUN binding requests answered",
            "result",
            &[("answered", server.bindings)],
        ),
        (
            "foci_turn_dropped_total",
            "What was dropped without a word",
            "reason",
            &[
                ("malformed", server.drops.malformed),
                ("unbound", server.drops.unbound),
                ("unpermitted", server.drops.unpermitted),
                ("bandwidth", server.drops.bandwidth),
                ("unknown_answers", server.drops.unknown_answers),
                ("outbox", server.drops.outbox),
                ("stale", server.drops.stale),
                ("sfu_full", totals.sfu_full),
                ("udp_full", udp.lost_full),
                ("udp_size", udp.lost_size),
                ("udp_firewall", udp.lost_firewall),
                ("udp_other", udp.lost_other),
                ("stream_full", streams.frames_full),
                ("stream_late", streams.frames_late),
            ],
        ),
        (
            "foci_turn_closed_total",
            "TURN connections that we closed or turned away",
            "reason",
            &[
                ("turned_away", streams.turned_away),
                ("handshake", streams.handshakes_failed),
                ("idle", streams.idle),
                ("stalled", streams.stalled),
                ("malformed", streams.broken),
            ],
        ),
    ] {
        let series = shelf.counters(name, help, &[label]);
        for (value, count) in counts {
            series.with_label_values(&[value]).inc_by(*count);
        }
    }
}
