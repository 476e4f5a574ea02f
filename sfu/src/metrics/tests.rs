//! What a scrape shows.

use super::*;
use crate::ids::ParticipantSid;
use crate::room::preference::Preference;
use std::collections::BTreeSet;

/// The values of `label` among the series `name` that have counted something, in alphabetic order.
pub(crate) fn labels(metrics: &Metrics, name: &str, label: &str) -> Vec<String> {
    let page = metrics.page();
    let of_name = page
        .lines()
        .filter(|line| line.starts_with(&format!("{name}{{")) && !line.ends_with(" 0"));
    let mut found: Vec<String> = of_name
        .filter_map(|line| line.split_once(&format!("{label}=\""))?.1.split('"').next())
        .map(str::to_owned)
        .collect();
    found.sort();
    found
}

/// The value of the series `name` with all of `labels`, whose order is not fixed.
pub(crate) fn value(page: &str, name: &str, labels: &[&str]) -> String {
    page.lines()
        .filter(|line| line.starts_with(&format!("{name}{{")))
        .find(|line| labels.iter().all(|label| line.contains(label)))
        .and_then(|line| line.rsplit(' ').next())
        .unwrap_or_else(|| panic!("no {name} {labels:?} in\n{page}"))
        .to_owned()
}

/// Metrics in which every series has been written.
fn written() -> Metrics {
    let metrics = Metrics::new("ND_test");
    metrics.room_opened();
    metrics.room_closed(1.0);
    metrics.join_state(JoinState::SignalConnected);
    metrics.join_latency(16, 12.0);
    metrics.start_time(16, 300.0);
    metrics.session_duration(16, 60_000.0);
    metrics.peer_connection("started");
    metrics.signal_message(SignalDirection::Request, true);
    metrics.apply(&Count::PublishAttempt(MediaKind::Audio));
    metrics.apply(&Count::PublishSuccess(MediaKind::Audio));
    metrics.apply(&Count::SubscribeSuccess(MediaKind::Video));
    metrics.apply(&Count::Quality { rating: 2 });
    metrics.apply(&Count::Data(DataFate::Forwarded));
    metrics.apply(&Count::Led(Preference::Tcp));
    metrics.way_changed(None, Some(PathTransport::Udp));
    metrics.certificate_expires("a.example", 1);
    metrics.certificate_loaded("taken");
    metrics.acme_order("issued");
    metrics.tls_port_connection("https");
    metrics.connection_mistaken("tls");
    metrics.tcp_unheard("late");
    let _ = metrics.worker(0);
    metrics
}

#[test]
fn every_series_is_documented_for_operators_and_named_by_the_rule() {
    let documentation = include_str!("../../../docs/operations.md");
    let page = written().page();
    let names: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    assert!(names.len() > 24, "{names:?}");
    for name in names {
        assert!(
            documentation.contains(&format!("`{name}`")),
            "{name} is not documented"
        );
        assert!(
            name.starts_with("livekit_") || name.starts_with("foci_"),
            "{name}"
        );
    }
}

#[test]
fn livekit_s_labels_are_there() {
    let page = written().page();
    let node = ["node_id=\"ND_test\"", "node_type=\"SERVER\""];
    assert_eq!(value(&page, "livekit_room_total", &node), "0");
    let join = ["state=\"signal_connected\"", "warp=\"false\"", node[0]];
    assert_eq!(value(&page, "livekit_participant_join_total", &join), "1");
    let track = ["kind=\"AUDIO\"", node[1]];
    assert_eq!(value(&page, "livekit_track_published_total", &track), "1");
}

#[test]
fn a_room_s_counts_move_the_gauges() {
    let metrics = Metrics::new("n");
    let left = Count::ParticipantLeft {
        sid: ParticipantSid::from_wire("PA_x"),
        reason: proto::livekit::DisconnectReason::ClientInitiated,
        after_ms: 5,
    };
    metrics.apply(&Count::ParticipantJoined);
    metrics.apply(&Count::ParticipantJoined);
    metrics.apply(&left);
    assert_eq!(
        value(&metrics.page(), "livekit_participant_total", &[]),
        "1"
    );
    metrics.apply(&Count::PublishSuccess(MediaKind::Video));
    metrics.apply(&Count::Unpublished(MediaKind::Video));
    let kind = ["kind=\"VIDEO\""];
    let page = metrics.page();
    assert_eq!(value(&page, "livekit_track_published_total", &kind), "0");
}

#[test]
fn media_threads_are_summed_for_livekit_and_kept_apart_for_us() {
    let metrics = Metrics::new("n");
    metrics.worker(1).received.packets.add(5);
    metrics.worker(0).received.packets.add(2);
    metrics.worker(1).drops(DropReason::SrtpReplay).add(4);
    metrics.worker(1).population.peers.set(3);
    for scrape in 0..2 {
        let page = metrics.page();
        let incoming = ["direction=\"incoming\"", "transmission=\"initial\""];
        let packets = value(&page, "livekit_packet_total", &incoming);
        assert_eq!(packets, "7", "scrape {scrape} changes nothing");
        let dropped = ["reason=\"srtp_replay\"", "worker=\"1\""];
        assert_eq!(value(&page, "foci_packets_dropped_total", &dropped), "4");
        assert_eq!(value(&page, "foci_peers", &["worker=\"1\""]), "3");
        assert_eq!(value(&page, "foci_peers", &["worker=\"0\""]), "0");
    }
}

#[test]
fn every_reason_has_its_own_place_and_label() {
    let labels: BTreeSet<&str> = DropReason::ALL
        .iter()
        .map(|reason| reason.label())
        .collect();
    assert_eq!(labels.len(), DropReason::ALL.len());
    for (index, reason) in DropReason::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, index);
    }
}
