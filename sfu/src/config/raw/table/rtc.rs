//! Keys below `rtc`: ports, addresses, transport, congestion control.

use crate::config::raw::key::Key;
use crate::config::raw::key::Kind::{
    Addresses, Bool, Duration, Opaque, Ports, Records, Secret, Text, Texts, Uint,
};

/// Largest value of a plain count; LiveKit's are 32 bits wide.
const COUNT: crate::config::raw::key::Kind = Uint(u32::MAX as u64);

pub(super) const KEYS: &[Key] = &[
    Key::built(
        "rtc.udp_port",
        Ports,
        "7882",
        "UDP port of all media; of a range the first that is free of the lowest eight. LiveKit without this key would use 50000-60000.",
    ),
    Key::built(
        "rtc.port_range_start",
        Uint(65_535),
        "",
        "First UDP port of a range: all media uses the first that is free of the lowest eight, where LiveKit uses one for each connection.",
    ),
    Key::built(
        "rtc.port_range_end",
        Uint(65_535),
        "",
        "Last UDP port of that range.",
    ),
    Key::built(
        "rtc.tcp_port",
        Uint(65_535),
        "7881",
        "TCP port of media where UDP is blocked; 0: none.",
    ),
    Key::built(
        "rtc.force_tcp",
        Bool,
        "false",
        "No UDP at all, for tests of `tcp_port`.",
    ),
    Key::built(
        "rtc.allow_tcp_fallback",
        Bool,
        "true",
        "Lead clients whose media fails early, or again, to TCP, and whose TCP fails to TURN over TLS (or TCP): they resume, and are remembered for five minutes.",
    ),
    Key::built(
        "rtc.tcp_fallback_rtt_threshold",
        COUNT,
        "0",
        "Milliseconds of round trip of signalling from which they are led past TCP, to TURN; 0: never.",
    ),
    Key::built(
        "rtc.allow_udp_unstable_fallback",
        Bool,
        "false",
        "Lead those to TCP, too, whose UDP loses a quarter and more of what is sent for twenty of 32 seconds, while their signalling is about as quick as their media, and quicker than `tcp_fallback_rtt_threshold` if that is set.",
    ),
    Key::built(
        "rtc.workers",
        Uint(64),
        "1",
        "Media threads; one so far. (Foci only)",
    ),
    Key::built(
        "rtc.node_ip",
        Addresses,
        "",
        "Address told to clients instead of the local ones: `1.2.3.4`, or `v4,v6`, or a name whose addresses are looked up again and again.",
    )
    .reloadable(),
    Key::built(
        "rtc.advertise",
        Texts,
        "",
        "All addresses to tell, before anything else: `ip` with our ports, or `ip:port/udp` and `ip:port/tcp` where a router forwards another port. (Foci only)",
    )
    .reloadable(),
    Key::built(
        "rtc.additional_host_ips",
        Texts,
        "",
        "Addresses to tell beside those that are found or set, with our ports: of a second line or a VPN that leads here.",
    )
    .reloadable(),
    Key::built(
        "rtc.require_ipv4",
        Bool,
        "false",
        "Addresses that are looked for (by name, STUN or interface) must have one of IPv4 among them: not ready until one is known.",
    )
    .reloadable(),
    Key::built(
        "rtc.use_external_ip",
        Bool,
        "false",
        "Ask a STUN server for the public address, if neither `node_ip` nor `advertise` says it.",
    )
    .reloadable(),
    Key::built(
        "rtc.stun_servers",
        Texts,
        "",
        "STUN servers to ask, as `host:port`; unset: LiveKit's, of Google and Twilio.",
    )
    .reloadable(),
    Key::built(
        "rtc.advertise_internal_ip",
        Bool,
        "false",
        "Tell the local addresses beside the public one.",
    )
    .reloadable(),
    Key::built(
        "rtc.external_ip_only",
        Bool,
        "false",
        "With `use_external_ip`: tell no local address, even while no public one is known.",
    )
    .reloadable(),
    Key::built(
        "rtc.skip_external_ip_validation",
        Bool,
        "false",
        "Do not try, for the log, whether the address a STUN server says leads back here.",
    ),
    Key::built(
        "rtc.address_check_interval",
        Duration,
        "1m",
        "How often the addresses are looked at again; at once after a change of the interfaces, and on SIGHUP. (Foci only)",
    )
    .reloadable(),
    Key::built(
        "rtc.interfaces.includes",
        Texts,
        "",
        "Only these network interfaces (exact names).",
    )
    .reloadable(),
    Key::built(
        "rtc.interfaces.excludes",
        Texts,
        "",
        "All but these network interfaces; without effect beside `includes`.",
    )
    .reloadable(),
    Key::built(
        "rtc.ips.includes",
        Texts,
        "",
        "Only local addresses in these CIDR blocks.",
    )
    .reloadable(),
    Key::built(
        "rtc.ips.excludes",
        Texts,
        "",
        "All but local addresses in these CIDR blocks; without effect beside `includes`.",
    )
    .reloadable(),
    Key::built(
        "rtc.enable_loopback_candidate",
        Bool,
        "false",
        "Offer 127.0.0.1 and ::1 as well; for clients on this machine.",
    )
    .reloadable(),
    Key::not_yet(
        "rtc.packet_buffer_size_video",
        Uint(8_192),
        "500",
        "Packets kept of each video layer to answer NACKs.",
    )
    .instead("Foci's history has a fixed size in bytes for each layer"),
    Key::not_yet(
        "rtc.packet_buffer_size_audio",
        Uint(8_192),
        "200",
        "Packets kept of each audio track to answer NACKs.",
    )
    .instead("Foci's history has a fixed size in bytes for each layer"),
    Key::built(
        "rtc.pli_throttle.low_quality",
        Duration,
        "500ms",
        "Least time between two key-frame requests for the lowest layer; one that is \
         not answered in time may be repeated once within it.",
    ),
    Key::built(
        "rtc.pli_throttle.mid_quality",
        Duration,
        "1s",
        "The same for the middle layer.",
    ),
    Key::built(
        "rtc.pli_throttle.high_quality",
        Duration,
        "1s",
        "The same for the highest layer.",
    ),
    Key::alias(
        "rtc.packet_buffer_size",
        Uint(8_192),
        "rtc.packet_buffer_size_video",
    ),
    Key::no_effect("rtc.use_ice_lite", Bool, "Foci is always ICE-lite"),
    Key::no_effect("rtc.strict_acks", Bool, "without effect in LiveKit too"),
    Key::no_effect(
        "rtc.batch_io.batch_size",
        COUNT,
        "Foci always sends in batches",
    ),
    Key::no_effect(
        "rtc.batch_io.max_flush_interval",
        Duration,
        "Foci always sends in batches",
    ),
    Key::not_yet(
        "rtc.use_stun_port_as_ice",
        Bool,
        "false",
        "Media on 3478/udp as well.",
    ),
    Key::no_effect(
        "rtc.use_mdns",
        Bool,
        "Foci is ICE-lite: no candidate of a client is looked up",
    ),
    Key::not_yet("rtc.sctp_min_cwnd", COUNT, "0", "Tuning of data channels."),
    Key::not_yet(
        "rtc.sctp_fast_rtx_wnd",
        COUNT,
        "0",
        "Tuning of data channels.",
    ),
    Key::not_yet(
        "rtc.sctp_cwnd_ca_step",
        COUNT,
        "0",
        "Tuning of data channels.",
    ),
    Key::no_effect(
        "rtc.host_acceptance_min_wait",
        Duration,
        "Foci is ICE-lite: clients choose the pair",
    ),
    Key::no_effect(
        "rtc.srflx_acceptance_min_wait",
        Duration,
        "Foci is ICE-lite: clients choose the pair",
    ),
    Key::no_effect(
        "rtc.prflx_acceptance_min_wait",
        Duration,
        "Foci is ICE-lite: clients choose the pair",
    ),
    Key::no_effect(
        "rtc.relay_acceptance_min_wait",
        Duration,
        "Foci is ICE-lite: clients choose the pair",
    ),
    Key::built(
        "rtc.turn_servers",
        Records,
        "",
        "TURN servers told to clients.",
    ),
    Key::built("rtc.turn_servers[].host", Text, "", "Host."),
    Key::built("rtc.turn_servers[].port", Uint(65_535), "", "Port."),
    Key::built(
        "rtc.turn_servers[].protocol",
        Text,
        "",
        "`tls`, `tcp` or `udp`.",
    ),
    Key::built("rtc.turn_servers[].username", Text, "", "User name."),
    Key::built("rtc.turn_servers[].credential", Secret, "", "Password."),
    Key::built(
        "rtc.turn_servers[].secret",
        Secret,
        "",
        "Shared secret for passing passwords.",
    ),
    Key::built(
        "rtc.turn_servers[].secret_file",
        Text,
        "",
        "File with the shared secret.",
    ),
    Key::built(
        "rtc.turn_servers[].ttl",
        COUNT,
        "",
        "Seconds a password is good for.",
    ),
    Key::not_yet(
        "rtc.enable_warp",
        Bool,
        "false",
        "DTLS in STUN, an experiment of LiveKit.",
    ),
    Key::not_yet(
        "rtc.reconnect_on_publication_error",
        Bool,
        "false",
        "Full reconnect of the client.",
    ),
    Key::not_yet(
        "rtc.reconnect_on_subscription_error",
        Bool,
        "false",
        "Full reconnect of the client.",
    ),
    Key::not_yet(
        "rtc.reconnect_on_data_channel_error",
        Bool,
        "false",
        "Full reconnect of the client.",
    ),
    Key::not_yet(
        "rtc.data_channel_max_buffered_amount",
        COUNT,
        "0",
        "Deprecated in LiveKit.",
    ),
    Key::not_yet(
        "rtc.datachannel_slow_threshold",
        COUNT,
        "0",
        "Bits per second below which a slow peer loses reliable data.",
    ),
    Key::not_yet(
        "rtc.datachannel_lossy_target_latency",
        Duration,
        "0",
        "Lossy data is dropped to keep this delay.",
    ),
    Key::not_yet(
        "rtc.datachannel_data_track_target_latency",
        Duration,
        "100ms",
        "The same for data tracks.",
    ),
    Key::not_yet(
        "rtc.enable_rtp_stream_restart_detection",
        Bool,
        "false",
        "Detection of restarted streams.",
    ),
    Key::not_yet(
        "rtc.forward_stats.summary_interval",
        Duration,
        "0",
        "Forwarding delay figures.",
    ),
    Key::not_yet(
        "rtc.forward_stats.report_interval",
        Duration,
        "0",
        "Forwarding delay figures.",
    ),
    Key::not_yet(
        "rtc.forward_stats.report_window",
        Duration,
        "0",
        "Forwarding delay figures.",
    ),
    Key::not_yet(
        "rtc.congestion_control.enabled",
        Bool,
        "true",
        "Fit video to a subscriber's bandwidth.",
    ),
    Key::not_yet(
        "rtc.congestion_control.allow_pause",
        Bool,
        "false",
        "May pause video under congestion.",
    ),
    Key::not_yet(
        "rtc.congestion_control.use_send_side_bwe",
        Bool,
        "false",
        "Estimate at the sender.",
    ),
    Key::not_yet(
        "rtc.congestion_control.use_send_side_bwe_interceptor",
        Bool,
        "false",
        "Estimate at the sender.",
    ),
    Key::not_yet(
        "rtc.congestion_control.send_side_bwe_pacer",
        Text,
        "no-queue",
        "`pass-through`, `no-queue` or `leaky-bucket`.",
    ),
    Key::not_yet(
        "rtc.congestion_control.stream_allocator",
        Opaque,
        "",
        "Tuning of LiveKit's allocator.",
    ),
    Key::not_yet(
        "rtc.congestion_control.remote_bwe",
        Opaque,
        "",
        "Tuning of LiveKit's estimator.",
    ),
    Key::not_yet(
        "rtc.congestion_control.send_side_bwe",
        Opaque,
        "",
        "Tuning of LiveKit's estimator.",
    ),
];
