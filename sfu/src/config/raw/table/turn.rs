//! Keys of the embedded TURN server.

use crate::config::raw::key::Key;
use crate::config::raw::key::Kind::{Bool, Duration, Secret, Text, Texts, Uint};

/// A port that may be 0 for none.
const PORT: crate::config::raw::key::Kind = Uint(65_535);
/// Largest value of a plain count; LiveKit's are 32 bits wide.
const COUNT: crate::config::raw::key::Kind = Uint(u32::MAX as u64);

pub(super) const KEYS: &[Key] = &[
    Key::built(
        "turn.enabled",
        Bool,
        "true",
        "Embedded TURN server. Unless it is set, ports that cannot be had are done without.",
    ),
    Key::built(
        "turn.domain",
        Text,
        "",
        "Host name of the TURN server's certificate, told to clients for TURN over TLS. Unset: where no proxy \
         ends TLS the first of `tls.acme.domains`, or the host of `matrix.url` if that leads to `tls.port`; \
         without any they are told addresses, and nothing of TLS. Which it is is settled at the start.",
    ),
    Key::built("turn.realm", Text, "foci", "Realm of its challenges."),
    Key::built(
        "turn.udp_port",
        PORT,
        "3479",
        "TURN over UDP, 0 for none. If any of the three ports is set, the others are 0 unless they \
         are set, too.",
    ),
    Key::built("turn.tcp_port", PORT, "3479", "TURN over TCP, 0 for none."),
    Key::built(
        "turn.tls_port",
        PORT,
        "5350",
        "TURN over TLS, 0 for none; without a certificate there is none.",
    ),
    Key::built(
        "turn.advertised_tls_port",
        PORT,
        "0",
        "The port clients are told for TURN over TLS if it is not `turn.tls_port`, as behind a \
         proxy on 443. (LiveKit always tells 443.)",
    ),
    Key::built("turn.cert_file", Text, "", "Certificate chain, PEM."),
    Key::built("turn.key_file", Text, "", "Its key, PEM."),
    Key::built(
        "turn.external_tls",
        Bool,
        "false",
        "TLS ends at a proxy: `turn.tls_port` speaks TCP without it, behind the PROXY header by which \
         one of `http.trusted_proxies` says where a client is.",
    ),
    Key::built(
        "turn.bind_addresses",
        Texts,
        "",
        "Addresses TURN listens on; all if empty.",
    ),
    Key::built(
        "turn.relay_range_start",
        PORT,
        "30000",
        "First relay port. Allocations share the ports of the range.",
    ),
    Key::built(
        "turn.relay_range_end",
        PORT,
        "30020",
        "Last relay port. Of a larger range (LiveKit's has one for each allocation) the first 128 are used.",
    ),
    Key::built(
        "turn.per_user_relay_allocation_limit",
        COUNT,
        "64",
        "Allocations of one participant or user; 0 for no limit. Browsers make up to eight for each peer \
         connection and network, and as many again when they change networks. (LiveKit: 12, but it tells \
         them of fewer ways to it.)",
    ),
    Key::built(
        "turn.per_address_allocation_limit",
        COUNT,
        "2048",
        "Allocations of one client address, or of an IPv6 /64 (a /48: twice that); 0 for no limit. \
         Addresses of `http.trusted_proxies` and private ones have none.",
    ),
    Key::built(
        "turn.total_allocation_limit",
        COUNT,
        "10000",
        "Allocations in all; 0 for no limit.",
    ),
    Key::built(
        "turn.max_bps_per_allocation",
        Uint(1_000_000_000_000),
        "0",
        "Bits a second of one allocation in each direction, what is more is dropped; 0 for no limit.",
    ),
    Key::built(
        "turn.max_bps_per_user",
        Uint(1_000_000_000_000),
        "0",
        "Likewise of all allocations of one participant or user together.",
    ),
    Key::built(
        "turn.max_bps_total",
        Uint(1_000_000_000_000),
        "0",
        "Likewise of everything the TURN server carries, calls on this server included: what the line \
         should keep for others. Whoever sends much takes it from all; bound users, too.",
    ),
    Key::built(
        "turn.ttl_seconds",
        COUNT,
        "86400",
        "Seconds for which a participant may make allocations with what it was told when it joined \
         or resumed; 1 to 86400. (LiveKit: 300, too short for a late change of network.)",
    ),
    Key::built(
        "turn.nonce_lifetime",
        Duration,
        "10m",
        "How long a challenge is good for, at least 1m.",
    ),
    Key::built(
        "turn.participants_reach_peers",
        Bool,
        "false",
        "Participants may talk with any public peer through this TURN server, as with LiveKit, and not \
         only with Foci, which is all that calls here need.",
    ),
    Key::built(
        "turn.static_auth_secret",
        Secret,
        "",
        "Secret shared with a homeserver (`turn_shared_secret`), whose users may then use this TURN \
         server as well.",
    ),
    Key::built(
        "turn.allow_restricted_peer_cidrs",
        Texts,
        "",
        "Private, loopback or otherwise special peers, and neighbours of this machine, that may be reached \
         all the same.",
    ),
    Key::built(
        "turn.deny_peer_cidrs",
        Texts,
        "",
        "Peers that may not be reached.",
    ),
];
