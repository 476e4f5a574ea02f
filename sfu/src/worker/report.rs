//! A worker's totals copied to where a scrape reads them.

use super::tcp::TcpCounters;
use super::udp::UdpCounters;
use crate::media::counters::Counters;
use crate::media::plane::Population;
use crate::metrics::{DropReason, WorkerMetrics};

/// What a worker counts beside its plane.
pub(super) struct Beside {
    pub(super) udp: UdpCounters,
    pub(super) tcp: TcpCounters,
    /// Media connections that are open.
    pub(super) connections: usize,
    /// Datagrams that TURN had no place for.
    pub(super) lost_relay: u64,
    /// Data messages that no room took.
    pub(super) lost_data: u64,
    /// What clients told of our addresses, and nobody had place for.
    pub(super) lost_sightings: u64,
}

/// Copies all totals.
pub(super) fn publish(
    metrics: &WorkerMetrics,
    counters: &Counters,
    population: Population,
    beside: &Beside,
) {
    let (udp, tcp) = (beside.udp, beside.tcp);
    let traffic = &counters.traffic;
    metrics.received.packets.set(traffic.packets_in);
    metrics.received.bytes.set(traffic.bytes_in);
    let received = &metrics.received;
    received.repeated_packets.set(traffic.retransmitted_in);
    let sent = &metrics.sent;
    sent.packets.set(traffic.packets_out);
    sent.bytes.set(traffic.bytes_out);
    sent.repeated_packets.set(traffic.retransmitted_out);
    sent.repeated_bytes.set(traffic.retransmitted_bytes_out);
    metrics.strays_found.set(traffic.strays_found);
    let questions = &counters.questions;
    metrics.questions.asked.set(questions.asked);
    metrics.questions.answered.set(questions.answered);
    metrics.questions.refused.set(questions.refused);
    metrics
        .questions
        .lost
        .set(questions.lost + beside.lost_sightings);
    let feedback = &counters.feedback;
    metrics.feedback_in.nacks.set(feedback.nacks_in);
    metrics.feedback_in.plis.set(feedback.plis_in);
    metrics.feedback_in.firs.set(feedback.firs_in);
    metrics.feedback_out.nacks.set(feedback.nacks_out);
    metrics.feedback_out.plis.set(feedback.plis_out);
    metrics.population.peers.set(population.peers);
    metrics.population.upstreams.set(population.tracks);
    metrics.population.downstreams.set(population.copies);
    let data = &counters.data;
    metrics.data_in.messages.set(data.messages_in);
    metrics.data_in.bytes.set(data.bytes_in);
    metrics.data_out.messages.set(data.messages_out);
    metrics.data_out.bytes.set(data.bytes_out);
    metrics.udp_sends.set(udp.sends);
    metrics.gso_segments.set(udp.datagrams_out);
    metrics.tcp.open.set(beside.connections as u64);
    metrics.tcp.opened.set(tcp.opened);
    metrics.tcp.sends.set(tcp.sends);
    metrics.tcp.datagrams.set(tcp.datagrams_out);
    for (counter, total) in metrics.tcp.ended.iter().zip(tcp.ended) {
        counter.set(total);
    }
    publish_drops(metrics, counters, beside);
}

fn publish_drops(metrics: &WorkerMetrics, counters: &Counters, beside: &Beside) {
    let dropped = &counters.dropped;
    let Beside { udp, tcp, .. } = beside;
    let all = [
        (DropReason::NotOurs, dropped.not_ours),
        (DropReason::BadStun, dropped.stun),
        (DropReason::UnknownAddress, dropped.unknown_address),
        (DropReason::NotReady, dropped.not_ready),
        (DropReason::DtlsError, dropped.dtls),
        (DropReason::SrtpAuth, dropped.srtp_auth),
        (DropReason::SrtpReplay, dropped.srtp_replay),
        (DropReason::BadRtp, dropped.rtp + dropped.media.malformed),
        (DropReason::BadRtcp, dropped.rtcp),
        (DropReason::UnknownSsrc, dropped.unknown_stream),
        (DropReason::PayloadType, dropped.media.payload_type),
        (DropReason::Repeated, dropped.media.repeated),
        (DropReason::Late, dropped.media.late),
        (DropReason::Muted, dropped.media.muted),
        (DropReason::Overload, dropped.limit + dropped.media.limit),
        (DropReason::SendWouldBlock, udp.lost_full),
        (DropReason::SendTooLarge, udp.lost_size),
        (DropReason::SendRefused, udp.lost_firewall),
        (DropReason::SendOther, udp.lost_other),
        (DropReason::SendLate, tcp.lost_late),
        (DropReason::SendClosed, tcp.lost_closed),
        (DropReason::SendRelay, beside.lost_relay),
        (DropReason::SendNoPath, dropped.no_path),
        (DropReason::DataLate, dropped.data_late + beside.lost_data),
        (DropReason::DataRefused, dropped.data_refused),
    ];
    for (reason, total) in all {
        metrics.drops(reason).set(total);
    }
}
