//! Keys of operation: logging, metrics, debugging.

use crate::config::raw::key::Key;
use crate::config::raw::key::Kind::{Bool, Secret, Text, TextMap, Texts, Uint};

/// Largest value of a plain count; LiveKit's are 32 bits wide.
const COUNT: crate::config::raw::key::Kind = Uint(u32::MAX as u64);

pub(super) const KEYS: &[Key] = &[
    Key::built(
        "logging.level",
        Text,
        "info",
        "`debug`, `info`, `warn` or `error`; also `trace`.",
    )
    .reloadable(),
    Key::built(
        "logging.json",
        Bool,
        "false",
        "One JSON object a line instead of text.",
    ),
    Key::built(
        "logging.component_levels",
        TextMap,
        "",
        "Levels of single components: `room`, `api`, `transport`, `sfu`.",
    )
    .reloadable(),
    Key::built(
        "logging.pion_level",
        Text,
        "error",
        "Level of the libraries below Foci, as LiveKit's for its WebRTC library.",
    )
    .reloadable(),
    Key::built(
        "faults.seed",
        Uint(u64::MAX),
        "0",
        "For tests only: the server fails on purpose, as this seed has it; 0 is never. (Foci only)",
    ),
    Key::built(
        "faults.points",
        Texts,
        "",
        "What fails, of `udp_send_full`, `udp_send_error`, `udp_short_read`, `worker_stall`, `clock_jump`, `mailbox_full`, `room_events_full`, `session_messages_full`, `signal_outbox_full`, `websocket_break`, `accept_error`; unset: all. (Foci only)",
    ),
    Key::not_yet("logging.sample", Bool, "false", "Leave out repeated lines."),
    Key::not_yet(
        "logging.sample_initial",
        COUNT,
        "20",
        "Lines of a second before sampling begins.",
    ),
    Key::not_yet(
        "logging.sample_interval",
        COUNT,
        "100",
        "Then every so many.",
    ),
    Key::not_yet(
        "logging.item_sample_seconds",
        COUNT,
        "0",
        "Sampling for each participant.",
    ),
    Key::not_yet(
        "logging.item_sample_initial",
        COUNT,
        "0",
        "Sampling for each participant.",
    ),
    Key::not_yet(
        "logging.item_sample_interval",
        COUNT,
        "0",
        "Sampling for each participant.",
    ),
    Key::built(
        "prometheus.port",
        Uint(65_535),
        "0",
        "TCP port of the metrics; 0: none. Any path answers.",
    ),
    Key::built(
        "prometheus.bind_addresses",
        Texts,
        "127.0.0.1, ::1",
        "Addresses the metrics port listens on. (Foci only; LiveKit uses `bind_addresses`)",
    ),
    Key::built(
        "prometheus.username",
        Text,
        "",
        "With `password`: the metrics ask for them (HTTP basic authentication).",
    ),
    Key::built("prometheus.password", Secret, "", "See `username`."),
    Key::not_yet(
        "debug_handler.port",
        Uint(65_535),
        "0",
        "TCP port of debugging pages.",
    ),
    Key::not_yet("trace.jaeger_url", Text, "", "Where traces go."),
];
