//! Keys of services that Foci does not have yet: Redis, webhooks, agents, several nodes.

use crate::config::raw::key::Key;
use crate::config::raw::key::Kind::{
    Bool, Duration, Number, Opaque, Records, Secret, Text, Texts, Uint,
};

/// Largest value of a plain count; LiveKit's are 32 bits wide.
const COUNT: crate::config::raw::key::Kind = Uint(u32::MAX as u64);
/// What to do without Redis.
const ONE_NODE: &str = "Foci runs as a single node; remove it";

pub(super) const KEYS: &[Key] = &[
    Key::not_yet("redis.address", Text, "", "Redis server.").instead(ONE_NODE),
    Key::not_yet("redis.username", Text, "", "Redis user.").instead(ONE_NODE),
    Key::not_yet("redis.password", Secret, "", "Redis password.").instead(ONE_NODE),
    Key::not_yet("redis.db", COUNT, "0", "Redis database.").instead(ONE_NODE),
    Key::not_yet("redis.use_tls", Bool, "false", "Deprecated in LiveKit.").instead(ONE_NODE),
    Key::not_yet("redis.tls.enabled", Bool, "false", "TLS to Redis.").instead(ONE_NODE),
    Key::not_yet(
        "redis.tls.insecure",
        Bool,
        "false",
        "No check of its certificate.",
    )
    .instead(ONE_NODE),
    Key::not_yet(
        "redis.tls.server_name",
        Text,
        "",
        "Name in its certificate.",
    )
    .instead(ONE_NODE),
    Key::not_yet("redis.tls.ca_cert_file", Text, "", "Authority.").instead(ONE_NODE),
    Key::not_yet("redis.tls.client_cert_file", Text, "", "Our certificate.").instead(ONE_NODE),
    Key::not_yet("redis.tls.client_key_file", Text, "", "Its key.").instead(ONE_NODE),
    Key::not_yet("redis.sentinel_master_name", Text, "", "Redis Sentinel.").instead(ONE_NODE),
    Key::not_yet("redis.sentinel_username", Text, "", "Redis Sentinel.").instead(ONE_NODE),
    Key::not_yet("redis.sentinel_password", Secret, "", "Redis Sentinel.").instead(ONE_NODE),
    Key::not_yet("redis.sentinel_addresses", Texts, "", "Redis Sentinel.").instead(ONE_NODE),
    Key::not_yet("redis.cluster_addresses", Texts, "", "Redis Cluster.").instead(ONE_NODE),
    Key::not_yet("redis.dial_timeout", COUNT, "", "Milliseconds.").instead(ONE_NODE),
    Key::not_yet("redis.read_timeout", COUNT, "", "Milliseconds.").instead(ONE_NODE),
    Key::not_yet("redis.write_timeout", COUNT, "", "Milliseconds.").instead(ONE_NODE),
    Key::not_yet("redis.max_redirects", COUNT, "", "Redis Cluster.").instead(ONE_NODE),
    Key::not_yet("redis.pool_timeout", Duration, "", "Connections to Redis.").instead(ONE_NODE),
    Key::not_yet("redis.pool_size", COUNT, "", "Connections to Redis.").instead(ONE_NODE),
    Key::not_yet("webhook.api_key", Text, "", "Key that signs webhooks."),
    Key::not_yet("webhook.urls", Texts, "", "Where events are sent."),
    Key::not_yet(
        "webhook.filter_params.include_events",
        Texts,
        "",
        "Only these events.",
    ),
    Key::not_yet(
        "webhook.filter_params.exclude_events",
        Texts,
        "",
        "All but these events.",
    ),
    Key::not_yet(
        "webhook.url_notifier",
        Opaque,
        "",
        "Tuning of the sending of events.",
    ),
    Key::not_yet(
        "webhook.resource_url_notifier",
        Opaque,
        "",
        "Tuning of the sending of events.",
    ),
    Key::not_yet("ingress.rtmp_base_url", Text, "", "Ingress over RTMP."),
    Key::not_yet("ingress.whip_base_url", Text, "", "Ingress over WHIP."),
    Key::not_yet("sip", Opaque, "", "SIP; empty in LiveKit too."),
    Key::not_yet(
        "node_selector.kind",
        Text,
        "any",
        "Choice of a node for a room.",
    )
    .instead(ONE_NODE),
    Key::not_yet("node_selector.sort_by", Text, "random", "Choice of a node.").instead(ONE_NODE),
    Key::not_yet(
        "node_selector.algorithm",
        Text,
        "lowest",
        "Choice of a node.",
    )
    .instead(ONE_NODE),
    Key::not_yet(
        "node_selector.cpu_load_limit",
        Number,
        "0.9",
        "Choice of a node.",
    )
    .instead(ONE_NODE),
    Key::not_yet(
        "node_selector.sysload_limit",
        Number,
        "0.9",
        "Choice of a node.",
    )
    .instead(ONE_NODE),
    Key::not_yet("node_selector.regions", Records, "", "Regions of nodes.").instead(ONE_NODE),
    Key::not_yet("node_selector.regions[].name", Text, "", "Name."),
    Key::not_yet("node_selector.regions[].lat", Text, "", "Latitude."),
    Key::not_yet("node_selector.regions[].lon", Text, "", "Longitude."),
    Key::not_yet(
        "signal_relay.retry_timeout",
        Duration,
        "7.5s",
        "Signalling between nodes.",
    )
    .instead(ONE_NODE),
    Key::not_yet(
        "signal_relay.min_retry_interval",
        Duration,
        "500ms",
        "Signalling between nodes.",
    )
    .instead(ONE_NODE),
    Key::not_yet(
        "signal_relay.max_retry_interval",
        Duration,
        "4s",
        "Signalling between nodes.",
    )
    .instead(ONE_NODE),
    Key::not_yet(
        "signal_relay.stream_buffer_size",
        COUNT,
        "1000",
        "Signalling between nodes.",
    )
    .instead(ONE_NODE),
    Key::not_yet(
        "signal_relay.connect_attempts",
        COUNT,
        "3",
        "Signalling between nodes.",
    )
    .instead(ONE_NODE),
    Key::not_yet("psrpc.max_attempts", COUNT, "3", "Calls between nodes.").instead(ONE_NODE),
    Key::not_yet("psrpc.timeout", Duration, "3s", "Calls between nodes.").instead(ONE_NODE),
    Key::not_yet("psrpc.backoff", Duration, "2s", "Calls between nodes.").instead(ONE_NODE),
    Key::not_yet("psrpc.buffer_size", COUNT, "1000", "Calls between nodes.").instead(ONE_NODE),
    Key::no_effect(
        "api.execution_timeout",
        Duration,
        "without effect in LiveKit too",
    ),
    Key::no_effect(
        "api.check_interval",
        Duration,
        "without effect in LiveKit too",
    ),
    Key::no_effect(
        "api.max_check_interval",
        Duration,
        "without effect in LiveKit too",
    ),
    Key::not_yet(
        "api.enable_psrpc_for_get_list_participants",
        Bool,
        "false",
        "Calls between nodes.",
    )
    .instead(ONE_NODE),
    Key::not_yet(
        "agents.enable_user_data_recording",
        Bool,
        "false",
        "Agents.",
    ),
    Key::not_yet(
        "agents.enable_user_data_redaction",
        Bool,
        "false",
        "Agents.",
    ),
    Key::not_yet("agents.target_load", Number, "0.7", "Agents."),
    Key::not_yet(
        "metric.timestamper_config.one_way_delay_estimator_min_interval",
        Duration,
        "5s",
        "Clients' metrics.",
    ),
    Key::not_yet(
        "metric.timestamper_config.one_way_delay_estimator_max_batch",
        COUNT,
        "100",
        "Clients' metrics.",
    ),
    Key::not_yet(
        "metric.collector.sampling_interval_ms",
        COUNT,
        "3000",
        "Clients' metrics.",
    ),
    Key::not_yet(
        "metric.collector.batch_interval_ms",
        COUNT,
        "10000",
        "Clients' metrics.",
    ),
    Key::not_yet(
        "metric.reporter.reporting_interval_ms",
        COUNT,
        "10000",
        "Clients' metrics.",
    ),
    Key::not_yet(
        "node_stats.stats_update_interval",
        Duration,
        "2s",
        "Figures of this node.",
    ),
    Key::not_yet(
        "node_stats.stats_rate_measurement_intervals",
        Texts,
        "10s",
        "Figures of this node.",
    ),
    Key::not_yet(
        "node_stats.stats_max_delay",
        Duration,
        "30s",
        "Figures of this node.",
    ),
];
