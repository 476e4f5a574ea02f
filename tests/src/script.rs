//! Scripts in other languages against the real server: what they need is set up, what they print
//! is shown, their exit code decides.

use crate::certified::Certified;
use crate::road::Road;
use crate::server::{Server, show};
use crate::space::Space;
use crate::synapse::{Homeserver, Site};
use crate::token::{KEY, SECRET};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
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

/// A program that `tests/setup` has installed there.
#[must_use]
pub fn installed(name: &str) -> PathBuf {
    cache().join(name)
}

async fn succeed(mut command: Command, what: &str) {
    let status = command.kill_on_drop(true).status().await;
    let status = status.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(status.success(), "{what}: {status}");
}

/// Installs what the scripts of one kind need, if it is not there: `browser`, `python`, `element`,
/// `pebble`, `proxies`.
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
    let command = in_node(Command::new("node"), "browser", script, &url(server));
    succeed(command, script).await;
    server.assert_calm();
}

/// The same for browsers that trust an authority.
///
/// # Panics
/// When the script fails, or the server complains of anything.
pub async fn node_trusting(authority: &Certified, server: &Server, script: &str) {
    set_up("browser").await;
    let mut command = in_node(Command::new("node"), "browser", script, &url(server));
    command.env("FOCI_AUTHORITY", authority.root());
    succeed(command, script).await;
    server.assert_calm();
}

/// The same on a server that complains with good reason; the script is told where its metrics are.
///
/// # Panics
/// When the script fails, or the server panics.
pub async fn node_on_a_faulty(server: &Server, script: &str) {
    set_up("browser").await;
    let mut command = in_node(Command::new("node"), "browser", script, &url(server));
    command.arg(format!("http://{}/metrics", server.metrics));
    succeed(command, script).await;
    assert!(!server.log().contains("panicked at"), "{}", server.log());
}

/// The same for a client at the other end of a road.
///
/// # Panics
/// When the script fails, or the server complains of anything.
pub async fn node_over(road: &Road, server: &Server, script: &str) {
    set_up("browser").await;
    let mut command = in_node(road.command("node"), "browser", script, &over(road, server));
    command.env("FOCI_ROAD", road.control());
    succeed(command, script).await;
    server.assert_calm();
}

fn url(server: &Server) -> String {
    format!("ws://{}", server.http)
}

/// The server's URL at the other end of a road.
fn over(road: &Road, server: &Server) -> String {
    format!("ws://{}:{}", road.here(), server.http.port())
}

/// A script of a folder, with the URL of a server, ready to run in `node`.
fn in_node(node: Command, kind: &str, script: &str, url: &str) -> Command {
    let mut words = script.split(' ');
    let file = words.next().unwrap_or_default();
    let mut command = node;
    command
        .arg(folder().join(kind).join(file))
        .arg(url)
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
    let mut command = in_node(Command::new("node"), "element", script, &url(server));
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
    let program = Command::new(interpreter());
    succeed(in_python(program, script, &url(server)), script).await;
    server.assert_calm();
}

/// The same for clients that reach the server by another URL, and trust this authority for it.
///
/// # Panics
/// When the script fails, or the server complains of anything.
pub async fn python_at(server: &Server, (url, authority): (&str, &Path), script: &str) {
    set_up("python").await;
    let mut command = in_python(Command::new(interpreter()), script, url);
    command.env("SSL_CERT_FILE", authority);
    succeed(command, script).await;
    server.assert_calm();
}

/// The same for a client at the other end of a road.
///
/// # Panics
/// When the script fails, or the server complains of anything.
pub async fn python_over(road: &Road, server: &Server, script: &str) {
    set_up("python").await;
    let program = road.command(&interpreter().to_string_lossy());
    let mut command = in_python(program, script, &over(road, server));
    command.env("FOCI_ROAD", road.control());
    succeed(command, script).await;
    server.assert_calm();
}

/// The same in a network namespace, from where the server has this URL; what the script printed.
///
/// # Panics
/// When the script fails, or the server complains of anything.
pub async fn python_in(space: &Space, url: &str, server: &Server, script: &str) -> String {
    python_during(space, url, (server, script), async || {}).await
}

/// The same of a script that says once that it is `ready`, and waits until something has been done.
///
/// # Panics
/// When the script fails, or the server complains of anything.
pub async fn python_during(
    space: &Space,
    url: &str,
    (server, script): (&Server, &str),
    change: impl AsyncFnOnce(),
) -> String {
    set_up("python").await;
    let program = space.command(&interpreter().to_string_lossy());
    let printed = converse(in_python(program, script, url), script, change).await;
    server.assert_calm();
    printed
}

/// Runs a script of `tests/browser` in Node in a network namespace, with a URL and more arguments; what it
/// printed.
///
/// # Panics
/// When the script fails, or the server complains of anything.
pub async fn node_in(space: &Space, url: &str, server: &Server, script: &str) -> String {
    node_during(space, url, (server, script), async || {}).await
}

/// The same, and does something when the script is ready for it.
///
/// # Panics
/// When the script fails, or the server complains of anything.
pub async fn node_during(
    space: &Space,
    url: &str,
    (server, script): (&Server, &str),
    change: impl AsyncFnOnce(),
) -> String {
    set_up("browser").await;
    let command = in_node(space.command("node"), "browser", script, url);
    let printed = converse(command, script, change).await;
    server.assert_calm();
    printed
}

/// Runs a script, shows what it prints and returns it. When it is ready something is done, and then it is
/// told to go on.
async fn converse(mut command: Command, what: &str, change: impl AsyncFnOnce()) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let child = command.kill_on_drop(true).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut told = child.stdin.take().expect("a pipe");
    let output = child.stdout.take().expect("a pipe");
    let mut lines = BufReader::new(output).lines();
    let mut change = Some(change);
    let mut printed = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        show(&line);
        if line.trim() == "ready"
            && let Some(change) = change.take()
        {
            change().await;
            told.write_all(b"go on\n").await.expect("it waits");
        }
        printed.push_str(&line);
        printed.push('\n');
    }
    let status = child.wait().await.expect("our own child");
    assert!(status.success(), "{what}: {status}");
    printed
}

fn interpreter() -> PathBuf {
    cache().join("python/bin/python")
}

/// A script of `tests/python`, with the URL of a server, ready to run.
fn in_python(python: Command, script: &str, url: &str) -> Command {
    let mut words = script.split(' ');
    let file = words.next().unwrap_or_default();
    let mut command = python;
    command
        .arg(folder().join("python").join(file))
        .args([url, KEY, SECRET])
        .args(words)
        // Nothing is written into the tree.
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}
