//! Keys below `room`, `audio` and `video`.

use crate::config::raw::key::Key;
use crate::config::raw::key::Kind::{Bool, Duration, Opaque, Records, Text, Uint};

/// Largest value of a plain count; LiveKit's are 32 bits wide.
const COUNT: crate::config::raw::key::Kind = Uint(u32::MAX as u64);

pub(super) const KEYS: &[Key] = &[
    Key::built(
        "room.auto_create",
        Bool,
        "true",
        "A join creates the room; if not, a token needs `roomCreate` for that.",
    )
    .reloadable(),
    Key::built(
        "room.enabled_codecs",
        Records,
        "video/VP8, video/H264, audio/opus, audio/red, audio/PCMU, audio/PCMA",
        "Codecs that may be published and received; the list replaces the default. `video/rtx` is always there.",
    ),
    Key::built(
        "room.enabled_codecs[].mime",
        Text,
        "",
        "For example `video/VP8`; case does not matter.",
    ),
    Key::built(
        "room.enabled_codecs[].fmtp_line",
        Text,
        "",
        "With `video/H264`: only this profile and packetization mode, for example `packetization-mode=1;profile-level-id=42e01f`; several entries may name one each. Without any, constrained baseline in both modes and high in mode 1. Not used with other codecs.",
    ),
    Key::built(
        "room.max_participants",
        COUNT,
        "0",
        "Participants of a room; 0: no limit.",
    ),
    Key::built(
        "room.empty_timeout",
        COUNT,
        "300",
        "Seconds until a room is closed that nobody joined.",
    ),
    Key::built(
        "room.departure_timeout",
        COUNT,
        "20",
        "Seconds until a room is closed that the last participant left.",
    ),
    Key::not_yet(
        "room.sync_streams",
        Bool,
        "false",
        "One stream for a participant's camera and microphone, so that clients play them in step.",
    ),
    Key::built(
        "room.update_batch_target_size",
        Uint(16 << 20),
        "131072",
        "Bytes of one batch of participant updates.",
    ),
    Key::not_yet(
        "room.enable_remote_unmute",
        Bool,
        "false",
        "The API may unmute tracks.",
    ),
    Key::not_yet(
        "room.playout_delay.enabled",
        Bool,
        "false",
        "Tell receivers how long to buffer.",
    ),
    Key::not_yet("room.playout_delay.min", COUNT, "0", "Milliseconds."),
    Key::not_yet("room.playout_delay.max", COUNT, "0", "Milliseconds."),
    Key::no_effect(
        "room.create_room_timeout",
        Duration,
        "rooms are made in this process",
    ),
    Key::no_effect(
        "room.create_room_attempts",
        COUNT,
        "rooms are made in this process",
    ),
    Key::not_yet(
        "room.enable_full_room_in_webhooks",
        Bool,
        "false",
        "Webhooks about tracks carry the whole room.",
    ),
    Key::not_yet(
        "room.room_configurations",
        Opaque,
        "",
        "Named presets of rooms.",
    ),
    Key::alias("room.max_metadata_size", COUNT, "limit.max_metadata_size"),
    Key::alias(
        "room.max_room_name_length",
        COUNT,
        "limit.max_room_name_length",
    ),
    Key::alias(
        "room.max_participant_identity_length",
        COUNT,
        "limit.max_participant_identity_length",
    ),
    Key::built(
        "audio.active_level",
        Uint(127),
        "35",
        "Loudness from which one speaks, in -dBov: 0 loudest, 127 silence.",
    ),
    Key::built(
        "audio.min_percentile",
        Uint(100),
        "40",
        "Percent of an interval that must be loud.",
    ),
    Key::built(
        "audio.update_interval",
        Uint(60_000),
        "400",
        "Milliseconds between two reports of who speaks.",
    ),
    Key::built(
        "audio.smooth_intervals",
        Uint(100),
        "2",
        "Intervals a loudness is averaged over; 0: none.",
    ),
    Key::not_yet(
        "audio.active_red_encoding",
        Bool,
        "false",
        "Make RED of Opus for those who want it.",
    ),
    Key::not_yet(
        "audio.enable_loss_proxying",
        Bool,
        "false",
        "Tell publishers of their subscribers' loss.",
    ),
    Key::built(
        "video.dynacast_pause_delay",
        Duration,
        "5s",
        "How long a layer nobody watches is still asked for.",
    ),
    Key::not_yet(
        "video.codec_regression_threshold",
        COUNT,
        "5",
        "Participants from which a backup codec is preferred.",
    ),
    Key::not_yet(
        "video.stream_tracker_manager",
        Opaque,
        "",
        "Tuning of LiveKit's detection of layers.",
    ),
];
