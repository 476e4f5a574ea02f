//! Pure modules: those that `lib.rs` declares without the `shell` feature. They decide; they never
//! wait, and never learn the time, the address of a socket or a random number by themselves.

use super::paths::named;
use super::source::Tree;

/// What pure code never names, with the reason.
const BANNED: [(&str, &str); 27] = [
    ("std::time::Instant::now", "`now` is an argument"),
    ("std::time::SystemTime", "wall-clock time is an argument"),
    ("std::time::UNIX_EPOCH", "wall-clock time is an argument"),
    ("std::net::UdpSocket", "sockets belong to worker"),
    ("std::net::TcpStream", "sockets belong to the shell"),
    ("std::net::TcpListener", "sockets belong to the shell"),
    ("std::net::ToSocketAddrs", "it resolves names"),
    ("std::thread", "threads belong to worker and server"),
    ("std::sync::Mutex", "one owner, no lock"),
    ("std::sync::RwLock", "one owner, no lock"),
    ("std::sync::Condvar", "pure code does not wait"),
    (
        "std::sync::mpsc",
        "queues between owners belong to the shell",
    ),
    ("std::fs", "files belong to settings"),
    ("std::env", "the environment belongs to settings"),
    ("std::process", "processes belong to the shell"),
    ("std::os", "the system belongs to the shell"),
    ("tokio", "tasks belong to the shell"),
    ("axum", "HTTP belongs to the shell"),
    ("futures_util", "pure code does not wait"),
    ("mio", "sockets belong to worker"),
    ("quinn_udp", "sockets belong to worker"),
    ("prometheus", "counters are read by metrics"),
    ("clap", "flags belong to settings"),
    ("tracing_subscriber", "telemetry decides where logs go"),
    ("rand::rng", "randomness comes from a seed"),
    ("rand::thread_rng", "randomness comes from a seed"),
    ("rand::random", "randomness comes from a seed"),
];

/// The pure modules of the authorization service, which has no feature to tell them by.
const AUTHORIZATION: [&str; 9] = [
    "bearer", "config", "members", "matrix", "reach", "grant", "answer", "request", "webhook",
];

/// Everything impure in the pure rings.
pub(crate) fn complaints(tree: &Tree) -> Vec<String> {
    let (Some(sfu), Some(turn)) = (pure_modules(tree, "sfu"), pure_modules(tree, "turn")) else {
        return vec!["a lib.rs is missing".into()];
    };
    let authorization = AUTHORIZATION.map(str::to_owned);
    let rings = [
        ("sfu", sfu.as_slice()),
        ("turn", turn.as_slice()),
        ("jwt-service", authorization.as_slice()),
    ];
    let mut out = Vec::new();
    for file in tree.product() {
        let of_ring = |(krate, pure): &(&str, &[String])| {
            let top = file.module.first();
            file.krate == *krate && top.is_some_and(|top| pure.contains(top))
        };
        if !rings.iter().any(of_ring) {
            continue;
        }
        for path in named(file) {
            let text = path.text();
            if let Some((_, why)) = BANNED.iter().find(|(banned, _)| names(&text, banned)) {
                out.push(format!("{}:{}: {text}: {why}", file.path, path.line));
            }
        }
    }
    out.dedup();
    out
}

/// The modules a crate declares without the feature.
fn pure_modules(tree: &Tree, krate: &str) -> Option<Vec<String>> {
    let lib = tree.module(krate, &[])?;
    let modules = lib
        .children()
        .filter(|(_, attributes)| !attributes.iter().any(|a| a.path().is_ident("cfg")))
        .map(|(name, _)| name);
    Some(modules.collect())
}

/// Whether a path reaches what is banned: the thing, something in it, or a glob that holds it.
fn names(text: &str, banned: &str) -> bool {
    let within = text
        .strip_prefix(banned)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    let glob = text
        .strip_suffix('*')
        .is_some_and(|base| base.starts_with("std::") && banned.starts_with(base));
    within || glob
}

#[cfg(test)]
fn pure(code: &str) -> usize {
    let lib = "pub mod room; #[cfg(feature = \"shell\")] pub mod rooms;";
    complaints(&Tree::of(&[
        ("sfu/src/lib.rs", lib),
        ("sfu/src/room.rs", code),
        ("sfu/src/rooms.rs", code),
        ("turn/src/lib.rs", ""),
    ]))
    .len()
}

#[test]
fn impure_names_are_found_in_every_spelling() {
    for code in [
        "fn f() { std::time::Instant::now(); }",
        "use std::time::Instant as I; fn f() { I::now(); }",
        "use std::time::SystemTime;",
        "use std::net::{IpAddr, UdpSocket};",
        "use std::sync::{Arc, Mutex};",
        "use std::time::*;",
        "fn f() { rand::rng(); }",
        "fn f() { assert!(std::env::var(\"X\").is_ok()); }",
        "async fn f() { tokio::task::yield_now().await; }",
    ] {
        assert_eq!(pure(code), 1, "{code}");
    }
}

#[test]
fn pure_names_and_the_shell_are_left_alone() {
    let code = "use std::net::{IpAddr, SocketAddr}; use std::sync::Arc; use std::time::{Duration, Instant};
        use rand::rngs::StdRng; #[cfg(test)] mod tests { fn f() { std::time::Instant::now(); } }";
    assert_eq!(pure(code), 0);
}
