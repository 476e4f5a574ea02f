//! Each foreign protocol crate is named in its own files only, so that replacing it touches one.
//!
//! Tests may name any of them: an independent reading is what makes a good oracle.

use super::paths::named;
use super::source::Tree;

/// Who may name what. An owner with `.rs` is that file alone, without it also the folder.
const OWNERS: [(&str, &[&str]); 35] = [
    ("aes", &["sfu/src/media/transport/srtp.rs"]),
    (
        "aws_lc_rs",
        &[
            "sfu/src/media/transport/srtp.rs",
            "sfu/src/media/transport/ice/stun.rs",
            "sfu/src/ice_servers.rs",
            "jwt-service/src/grant.rs",
            "jwt-service/src/webhook.rs",
            "jwt-service/src/bearer.rs",
            "turn/src/auth.rs",
            "turn/src/credentials.rs",
            "turn/src/message/integrity.rs",
        ],
    ),
    (
        "axum",
        &[
            "sfu/src/auth",
            "sfu/src/http",
            "sfu/src/server",
            "jwt-service/src/routes",
            "jwt-service/src/app_service",
        ],
    ),
    ("clap", &["sfu/src/cli"]),
    ("ctr", &["sfu/src/media/transport/srtp.rs"]),
    ("dimpl", &["sfu/src/media/transport/dtls.rs"]),
    ("flate2", &["proto/src/signal/join_request.rs"]),
    ("futures_util", &["sfu/src/http/websocket"]),
    ("hickory_resolver", &["jwt-service/src/dns.rs"]),
    ("hmac", &["sfu/src/media/transport/srtp.rs"]),
    (
        "http_body_util",
        &[
            "jwt-service/src/fetch.rs",
            "jwt-service/src/routes.rs",
            "sfu/src/certificates/acme/client.rs",
        ],
    ),
    ("if_addrs", &["sfu/src/addresses.rs"]),
    ("instant_acme", &["sfu/src/certificates/acme"]),
    ("jsonwebtoken", &["proto/src/token.rs"]),
    ("livekit_protocol", &["proto"]),
    ("md5", &["turn/src/message/integrity.rs"]),
    ("mio", &["sfu/src/worker", "turn/src/net"]),
    ("prometheus", &["sfu/src/metrics"]),
    (
        "prost",
        &["proto/src/signal", "proto/src/data", "proto/src/twirp.rs"],
    ),
    (
        "quinn_udp",
        &["sfu/src/worker/udp.rs", "turn/src/net/udp.rs"],
    ),
    ("rcgen", &["sfu/src/certificates/challenge.rs"]),
    ("redb", &["jwt-service/src/store.rs"]),
    ("redis", &["jwt-service/src/store/in_redis.rs"]),
    ("rtc_sdp", &["sfu/src/media/transport/sdp.rs"]),
    ("ruma", &["jwt-service/src/matrix.rs"]),
    (
        "rustix",
        &[
            "sfu/src/worker/udp.rs",
            "sfu/src/addresses/netlink.rs",
            "sfu/src/server/beginning.rs",
            "sfu/src/server/descriptors.rs",
            "turn/src/net/udp.rs",
        ],
    ),
    ("rustls", &["turn/src/net/tls.rs"]),
    (
        "rustls_native_certs",
        &[
            "jwt-service/src/tls.rs",
            "sfu/src/certificates/acme/client.rs",
        ],
    ),
    ("saphyr_parser", &["sfu/src/config/raw/yaml.rs"]),
    ("sctp_proto", &["sfu/src/media/transport/sctp.rs"]),
    ("sha1", &["sfu/src/media/transport/srtp.rs"]),
    (
        "socket2",
        &[
            "sfu/src/worker/udp.rs",
            "sfu/src/worker/tcp.rs",
            "sfu/src/server/relay/tunnel.rs",
            "turn/src/net/udp.rs",
            "turn/src/net/tcp/connection.rs",
        ],
    ),
    (
        "tokio_rustls",
        &["jwt-service/src/tls.rs", "sfu/src/certificates"],
    ),
    ("tracing_subscriber", &["sfu/src/telemetry"]),
    ("x509_parser", &["sfu/src/certificates/pair.rs"]),
];

/// All namings out of place, and rows that no file bears out.
pub(crate) fn complaints(tree: &Tree) -> Vec<String> {
    judge(tree, &OWNERS)
}

fn judge(tree: &Tree, owners: &[(&str, &[&str])]) -> Vec<String> {
    let mut out = Vec::new();
    let mut seen = Vec::new();
    for file in tree.product() {
        for path in named(file) {
            let Some((krate, files)) = owners.iter().find(|(krate, _)| *krate == path.parts[0])
            else {
                continue;
            };
            if files.iter().any(|owner| owns(owner, &file.path)) {
                seen.push(*krate);
            } else {
                out.push(format!("{}:{}: {}", file.path, path.line, path.text()));
            }
        }
    }
    for (krate, _) in owners {
        if !seen.contains(krate) {
            out.push(format!(
                "{krate}: no owner names it; drop its row or the dependency"
            ));
        }
    }
    out.dedup();
    out
}

/// `x` owns `x.rs` and `x/…`; `x.rs` owns itself alone.
fn owns(owner: &str, path: &str) -> bool {
    match path.strip_prefix(owner) {
        Some(rest) => rest.is_empty() || rest == ".rs" || rest.starts_with('/'),
        None => false,
    }
}

#[test]
fn a_crate_named_out_of_place_is_found() {
    let owners: &[(&str, &[&str])] = &[("mio", &["sfu/src/worker", "turn/src/net"])];
    let good = ("sfu/src/worker/udp.rs", "use mio::Poll;");
    assert_eq!(judge(&Tree::of(&[good]), owners), Vec::<String>::new());
    for code in [
        "use mio::Poll;",
        "fn f(p: mio::Poll) {}",
        "use mio as m;",
        "use mio::{self, Poll};",
    ] {
        assert!(
            !judge(&Tree::of(&[good, ("sfu/src/rooms.rs", code)]), owners).is_empty(),
            "{code}"
        );
    }
    assert_eq!(
        judge(
            &Tree::of(&[good, ("sfu/src/workers.rs", "use mio::Poll;")]),
            owners
        )
        .len(),
        1
    );
}

#[test]
fn a_row_that_no_file_bears_out_is_found() {
    let owners: &[(&str, &[&str])] = &[("mio", &["sfu/src/worker", "turn/src/net"])];
    assert_eq!(
        judge(&Tree::of(&[("sfu/src/worker.rs", "")]), owners).len(),
        1
    );
}
