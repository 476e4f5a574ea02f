//! Keys below `limit`. A size of 0 means no limit.

use crate::config::raw::key::Key;
use crate::config::raw::key::Kind::{Number, Uint};

/// Largest value of a plain count; LiveKit's are 32 bits wide.
const COUNT: crate::config::raw::key::Kind = Uint(u32::MAX as u64);
/// A limit that may be switched off still never exceeds this many bytes.
const BYTES: crate::config::raw::key::Kind = Uint(256 << 20);

pub(super) const KEYS: &[Key] = &[
    Key::built(
        "limit.max_metadata_size",
        COUNT,
        "524288",
        "Bytes of a room's or participant's metadata.",
    ),
    Key::built(
        "limit.max_attributes_size",
        COUNT,
        "65536",
        "Bytes of all attributes of a participant.",
    ),
    Key::not_yet(
        "limit.max_room_name_length",
        COUNT,
        "256",
        "Bytes of a room's name.",
    )
    .instead("it is always 256"),
    Key::not_yet(
        "limit.max_participant_identity_length",
        COUNT,
        "256",
        "Bytes of an identity.",
    )
    .instead("it is always 256"),
    Key::built(
        "limit.max_participant_name_length",
        COUNT,
        "256",
        "Bytes of a participant's name.",
    ),
    Key::built(
        "limit.signal_message_size_limit",
        BYTES,
        "2097152",
        "Bytes of one signalling message, 2097152 at most.",
    ),
    Key::built(
        "limit.max_api_request_body_size",
        BYTES,
        "10485760",
        "Bytes of an API request's body.",
    ),
    Key::not_yet("limit.num_tracks", COUNT, "0", "Tracks on this node."),
    Key::not_yet(
        "limit.bytes_per_sec",
        Number,
        "0",
        "Bytes per second on this node.",
    ),
    Key::not_yet(
        "limit.subscription_limit_video",
        COUNT,
        "0",
        "Video subscriptions of a participant.",
    ),
    Key::not_yet(
        "limit.subscription_limit_audio",
        COUNT,
        "0",
        "Audio subscriptions of a participant.",
    ),
    Key::not_yet(
        "limit.max_data_blob_key_length",
        COUNT,
        "256",
        "Bytes of a data blob's key.",
    ),
    Key::not_yet(
        "limit.max_data_blobs_size",
        COUNT,
        "64000",
        "Bytes of a participant's data blobs.",
    ),
    Key::not_yet(
        "limit.max_data_track_custom_encoding_length",
        COUNT,
        "32",
        "Bytes of the name of a data track's encoding.",
    ),
    Key::not_yet(
        "limit.agent_signal_message_size_limit",
        BYTES,
        "2097152",
        "Bytes of one message of an agent.",
    ),
];
