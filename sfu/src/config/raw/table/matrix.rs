//! Keys below `matrix`: the MatrixRTC authorization service. All are Foci's own.

use crate::config::raw::key::Key;
use crate::config::raw::key::Kind::{Bool, Text, TextMap, Texts};

pub(super) const KEYS: &[Key] = &[
    Key::built(
        "matrix.enabled",
        Bool,
        "true",
        "Serve the MatrixRTC authorization endpoints `/sfu/get` and `/get_token` on the main port. (Foci only, as all of `matrix`)",
    ),
    Key::built(
        "matrix.url",
        Text,
        "",
        "WebSocket URL of this server told to clients with a token, `wss://host/path`; unset: derived from each request. Also `LIVEKIT_URL`.",
    ),
    Key::built(
        "matrix.full_access_homeservers",
        Texts,
        "*",
        "Server names whose users' rooms are created when they ask for a token; `*` alone: all. Users of others join existing rooms only, if `room.auto_create` is false. Also `LIVEKIT_FULL_ACCESS_HOMESERVERS`.",
    ),
    Key::built(
        "matrix.homeservers",
        TextMap,
        "",
        "Where homeservers are that cannot or should not be found by their name, `server.name: http://host:8008`: the base URL of a listener with the federation or openid resource.",
    ),
    Key::built(
        "matrix.ca_file",
        Text,
        "",
        "PEM file of certificate authorities to trust for homeservers, besides the system's.",
    ),
    Key::built(
        "matrix.allow_private_addresses",
        Bool,
        "false",
        "Look homeservers up at private addresses too; those named in `matrix.homeservers` or `matrix.full_access_homeservers` always are.",
    ),
    Key::built(
        "matrix.insecure_skip_verify_tls",
        Text,
        "",
        "`YES_I_KNOW_WHAT_I_AM_DOING`: certificates of homeservers are not checked, so that anybody on the way can make up users. Also `LIVEKIT_INSECURE_SKIP_VERIFY_TLS`.",
    ),
];
