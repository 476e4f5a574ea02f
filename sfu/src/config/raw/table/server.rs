//! Keys at the top level.

use crate::config::raw::key::Key;
use crate::config::raw::key::Kind::{Bool, Duration, SecretMap, Text, Texts, Uint};

pub(super) const KEYS: &[Key] = &[
    Key::built(
        "port",
        Uint(65_535),
        "7880",
        "TCP port of HTTP and WebSocket: signalling, API, health.",
    ),
    Key::built(
        "bind_addresses",
        Texts,
        "",
        "Addresses the main port listens on; unset: all, IPv4 and IPv6.",
    ),
    Key::built("region", Text, "", "Name of the region, told to clients."),
    Key::built(
        "keys",
        SecretMap,
        "",
        "API keys and their secrets, `key: secret`; a secret should have 32 characters or more.",
    ),
    Key::built(
        "key_file",
        Text,
        "",
        "YAML file with `key: secret` lines instead of `keys`; others must have no access to it. `~` and `$VAR` are expanded.",
    ),
    Key::built(
        "development",
        Bool,
        "false",
        "Development mode, as `--dev`: placeholder keys on loopback, no complaint about short secrets.",
    ),
    Key::built(
        "http.path_prefixes",
        Texts,
        "/livekit/sfu, /livekit-server",
        "Paths under which the whole main port is served once more, for proxies that pass the prefix on. (Foci only)",
    ),
    Key::built(
        "http.trusted_proxies",
        Texts,
        "",
        "Addresses or blocks of the proxies in front, such as `127.0.0.1, ::1`: their X-Forwarded-For (the last address in it that is none of these), or a PROXY header (version 1 or 2) before a connection's first byte, says which address is limited. Unset: requests are limited by the socket's address, and those from private addresses are not. (Foci only)",
    )
    .reloadable(),
    Key::built(
        "shutdown.drain_timeout",
        Duration,
        "5s",
        "How long a stopping server waits until its sessions have been told and closed. (Foci only)",
    ),
    Key::not_yet("enable_data_tracks", Bool, "true", "Data tracks."),
    Key::not_yet(
        "enable_participant_data_blob",
        Bool,
        "false",
        "Data blobs of participants.",
    ),
    Key::alias("log_level", Text, "logging.level"),
    Key::alias("prometheus_port", Uint(65_535), "prometheus.port"),
];
