//! Keys below `matrix`: the MatrixRTC authorization service. All are Foci's own.

use crate::config::raw::key::Key;
use crate::config::raw::key::Kind::{Bool, Duration, Secret, Text, TextMap, Texts, Uint};

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
    )
    .reloadable(),
    Key::built(
        "matrix.full_access_homeservers",
        Texts,
        "*",
        "Server names whose users' rooms are created when they ask for a token; `*` alone: all. Where names are given, `room.auto_create` is false unless set, and users of other homeservers join existing rooms only. Also `LIVEKIT_FULL_ACCESS_HOMESERVERS`.",
    )
    .reloadable(),
    Key::built(
        "matrix.restricted_access",
        Text,
        "subscribe",
        "What users of homeservers without full access may do in rooms that are there: `subscribe` (see and hear; they send by their own homeserver's SFU), `publish`, or `refuse`.",
    )
    .reloadable(),
    Key::built(
        "matrix.allow_auto_create",
        Bool,
        "false",
        "Let `room.auto_create: true` stand beside named `matrix.full_access_homeservers`, though then everybody creates rooms.",
    )
    .reloadable(),
    Key::built(
        "matrix.token_lifetime",
        Duration,
        "1h",
        "How long a token may be used to connect, 10s to 24h. Whoever is in a call has his renewed.",
    )
    .reloadable(),
    Key::built(
        "matrix.homeservers",
        TextMap,
        "",
        "Where homeservers are that cannot or should not be found by their name, `server.name: http://host:8008`: the base URL of a listener with the federation or openid resource.",
    )
    .reloadable(),
    Key::built(
        "matrix.requests_per_address",
        Uint(u32::MAX as u64),
        "300",
        "Token requests a minute of one address, of IPv6 one /64; as many may come at once. More are answered 429. 0: any number.",
    )
    .reloadable(),
    Key::built(
        "matrix.requests_per_user",
        Uint(u32::MAX as u64),
        "60",
        "The same of one Matrix user.",
    )
    .reloadable(),
    Key::built(
        "matrix.requests_per_homeserver",
        Uint(u32::MAX as u64),
        "1200",
        "The same about users of one homeserver that is named nowhere here.",
    )
    .reloadable(),
    Key::built(
        "matrix.delegation",
        Bool,
        "true",
        "Take over delayed leaves of full-access users (`/delegate_delayed_leave`, and `delay_id` with a token request): they are kept from firing while a participant is in the call, and sent when he has gone.",
    ),
    Key::built(
        "matrix.store",
        Text,
        "",
        "File that keeps delegated leaves over a restart, for example /var/lib/foci/matrix.redb; it holds secrets. Unset: a restart forgets them, and homeservers send the leaves by themselves.",
    ),
    Key::built(
        "matrix.redis",
        Secret,
        "",
        "`redis://[user:password@]host[:port][/database]`, or `redis+unix:///path`: keeps delegated leaves there instead of in `matrix.store`, as lk-jwt-service does, so that either can go on where the other stopped. A second Foci on it is refused; lk-jwt-service must have ended. Also `LIVEKIT_REDIS_URL`.",
    ),
    Key::built(
        "matrix.client_apis",
        TextMap,
        "",
        "Where client-server APIs are that the well-known file of the server name does not tell, `server.name: https://host`; for delegated leaves.",
    )
    .reloadable(),
    Key::built(
        "matrix.transports",
        Texts,
        "",
        "URLs of authorization services, such as `https://rtc.example.org/livekit/jwt`, told at `/_matrix/client/unstable/org.matrix.msc4143/rtc/transports` for a homeserver that lacks this document; route that path here.",
    )
    .reloadable(),
    Key::built(
        "matrix.app_service.server_name",
        Text,
        "",
        "Server name of the homeserver that has Foci as an application service: it then lets its users, and those of others by federation, ask for tokens, and tells who leaves a room. `foci jwt registration` makes the registration. Also `LIVEKIT_HS_SERVER_NAME`.",
    ),
    Key::built(
        "matrix.app_service.registration_file",
        Text,
        "",
        "The registration, which holds both tokens. Also `LIVEKIT_AS_REGISTRATION_FILE`.",
    )
    .reloadable(),
    Key::built(
        "matrix.app_service.hs_token",
        Secret,
        "",
        "What the homeserver shows, where no registration file is named. Also `LIVEKIT_HS_TOKEN`.",
    )
    .reloadable(),
    Key::built(
        "matrix.app_service.as_token",
        Secret,
        "",
        "What the homeserver is shown, where no registration file is named. Also `LIVEKIT_AS_TOKEN`.",
    )
    .reloadable(),
    Key::built(
        "matrix.app_service.membership_interval",
        Duration,
        "1m",
        "How often the homeserver is asked whether those with a token are still in their Matrix room, should it not have told. 0: never.",
    )
    .reloadable(),
    Key::built(
        "matrix.ca_file",
        Text,
        "",
        "PEM file of certificate authorities to trust for homeservers, besides the system's.",
    )
    .reloadable(),
    Key::built(
        "matrix.allow_private_addresses",
        Bool,
        "false",
        "Look homeservers up at private addresses too; those named in `matrix.homeservers` or `matrix.full_access_homeservers` always are.",
    )
    .reloadable(),
    Key::built(
        "matrix.insecure_skip_verify_tls",
        Text,
        "",
        "`YES_I_KNOW_WHAT_I_AM_DOING`: certificates of homeservers are not checked, so that anybody on the way can make up users. Also `LIVEKIT_INSECURE_SKIP_VERIFY_TLS`.",
    )
    .reloadable(),
];
