//! Scripts in other languages against the real server: what they need is set up, what they print
//! is shown, their exit code decides.

use crate::server::Server;
use crate::synapse::{Homeserver, Site};
use crate::token::{KEY, SECRET};
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// The folder of this crate.
fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where packages of other languages are kept: outside the tree, as `tests/setup` says.
fn cache() -> PathBuf {
    #[allow(
        clippy::disallowed_methods,
        reason = "a test harness is configured from outside"
    )]
    let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (var("FOCI_CACHE"), var("HOME")) {
        (Some(cache), _) => cache.into(),
        (None, home) => PathBuf::from(home.unwrap_or_else(|| "/root".into())).join(".cache/foci"),
    }
}

async fn succeed(mut command: Command, what: &str) {
    let status = command.kill_on_drop(true).status().await;
    let status = status.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(status.success(), "{what}: {status}");
}

/// Installs what the scripts of one kind need, if it is not there: `browser`, `python`, `element`.
///
/// # Panics
/// When something is missing that only root can install.
pub async fn set_up(kind: &str) {
    let mut command = Command::new("bash");
    command.arg(folder().join("setup")).arg(kind);
    succeed(command, "tests/setup").await;
}

/// Runs a script of `tests/browser` in Node on a server, with more arguments: `call.mjs mixed`.
///
/// # Panics
/// When the script fails, or the server complains of anything.
pub async fn node(server: &Server, script: &str) {
    set_up("browser").await;
    succeed(in_node(server, "browser", script), script).await;
    server.assert_calm();
}

/// A script of a folder, ready to run in Node.
fn in_node(server: &Server, kind: &str, script: &str) -> Command {
    let mut words = script.split(' ');
    let file = words.next().unwrap_or_default();
    let mut command = Command::new("node");
    command
        .arg(folder().join(kind).join(file))
        .arg(format!("ws://{}", server.http))
        .args(words)
        .env("FOCI_NODE_MODULES", cache().join("browser/node_modules"))
        .env("FOCI_KEY", KEY)
        .env("FOCI_SECRET", SECRET);
    command
}

/// Starts a homeserver whose calls go to a server.
///
/// # Panics
/// When it does not start.
pub async fn homeserver(server: &Server, site: Site) -> Homeserver {
    set_up("element").await;
    let python = cache().join("synapse/bin/python");
    let service = format!("http://localhost:{}/livekit/jwt", server.http.port());
    site.open(&python, &service).await
}

/// Runs a script of `tests/element` in Node on a server and a homeserver.
///
/// # Panics
/// When the script fails, or the server complains of anything.
pub async fn element(server: &Server, homeserver: &Homeserver, script: &str) {
    set_up("browser").await;
    let mut command = in_node(server, "element", script);
    command
        .env("FOCI_ELEMENT_MODULES", cache().join("element/node_modules"))
        .env("FOCI_HOMESERVER", homeserver.url())
        .env("FOCI_SERVER_NAME", homeserver.name())
        .env("FOCI_REGISTRATION", &homeserver.secret);
    succeed(command, script).await;
    server.assert_calm();
}

/// Runs a script of `tests/python` on a server, with more arguments: `call.py dual`.
///
/// # Panics
/// When the script fails, or the server complains of anything.
pub async fn python(server: &Server, script: &str) {
    set_up("python").await;
    let mut words = script.split(' ');
    let file = words.next().unwrap_or_default();
    let mut command = Command::new(cache().join("python/bin/python"));
    command
        .arg(folder().join("python").join(file))
        .args([&format!("ws://{}", server.http), KEY, SECRET])
        .args(words)
        // Nothing is written into the tree.
        .env("PYTHONDONTWRITEBYTECODE", "1");
    succeed(command, script).await;
    server.assert_calm();
}
