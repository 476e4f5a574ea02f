//! A homeserver as far as the authorization service needs one: it vouches for users, and tells its
//! application service who is in a room.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// The name of a homeserver, unless a test gives it another.
pub const NAME: &str = "example.com";
/// How long a test waits.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where delayed events are restarted and sent. (MSC4140)
const DELAYED: &str = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/";
/// Below here application services ask who is in a room. (MSC4502)
const ROOMS: &str = "/_matrix/client/unstable/io.element.msc4502/rooms/";
/// What its application service shows to it.
pub const AS_TOKEN: &str = "as-token-of-the-tests";
/// What it shows to its application service.
pub const HS_TOKEN: &str = "hs-token-of-the-tests";

/// An OpenID token of [`NAME`], as it gives its users.
#[must_use]
pub fn open_id(token: &str) -> Value {
    json!({
        "access_token": token,
        "token_type": "Bearer",
        "matrix_server_name": NAME,
        "expires_in": 3600,
    })
}

/// What a user of [`NAME`] asks for with one: a token for his device in a room.
#[must_use]
pub fn wanted(user: &str, device: &str, member: &str) -> Value {
    json!({
        "room_id": "!room:example.com",
        "slot_id": "m.call#ROOM",
        "openid_token": open_id(&format!("of-{user}")),
        "member": {
            "id": member,
            "claimed_user_id": format!("@{user}:{NAME}"),
            "claimed_device_id": device,
        },
    })
}

/// Stops when dropped, with the runtime of its test.
pub struct Homeserver {
    /// Where it listens, without TLS.
    pub address: SocketAddr,
    /// What was done to delayed events: `id/action`.
    delayed: watch::Receiver<Vec<String>>,
    gone: Gone,
    held: Held,
}

/// What ends so it does not answer, as long as this is not empty.
type Held = Arc<Mutex<&'static str>>;

/// Users who are in no room any more.
type Gone = Arc<Mutex<BTreeSet<String>>>;

impl Homeserver {
    /// Starts a homeserver called `name`. The OpenID token `of-alice` belongs to Alice there, that
    /// of `stranger` to a user of another server, and all others to nobody.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start(name: &'static str) -> Self {
        Self::launch(name, true).await
    }

    /// Starts one that knows no delayed events, as Tuwunel.
    pub async fn start_without_delays(name: &'static str) -> Self {
        Self::launch(name, false).await
    }

    async fn launch(name: &'static str, delays: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let (done, delayed) = watch::channel(Vec::new());
        let (gone, held) = (Gone::default(), Held::default());
        let (known, hold) = (Arc::clone(&gone), Arc::clone(&held));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let delayed = delays.then(|| (done.clone(), Arc::clone(&hold)));
                tokio::spawn(answer(socket, name, delayed, Arc::clone(&known)));
            }
        });
        Self {
            address,
            delayed,
            gone,
            held,
        }
    }

    /// From now on it takes this action (`restart` or `send`) on delayed events and does not answer;
    /// nothing is held if it is empty.
    ///
    /// # Panics
    /// Never: the lock is not held across a panic.
    pub fn holds(&self, action: &'static str) {
        *self.held.lock().expect("not poisoned") = action;
    }

    /// From now on it says that this user is in no room, or that he is in all.
    ///
    /// # Panics
    /// Never: the lock is not held across a panic.
    pub fn moves(&self, user: &str, joined: bool) {
        let mut gone = self.gone.lock().expect("not poisoned");
        if joined {
            gone.remove(user);
        } else {
            gone.insert(user.to_owned());
        }
    }

    /// Waits until so much was done to delayed events, and tells all of it.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn delayed(&mut self, count: usize) -> Vec<String> {
        let done = self.delayed.wait_for(|done| done.len() >= count);
        let done = timeout(PATIENCE, done).await;
        done.expect("in time").expect("it runs").clone()
    }
}

/// One request. What fails is the client's to notice.
async fn answer(
    mut socket: TcpStream,
    name: &str,
    delayed: Option<(watch::Sender<Vec<String>>, Held)>,
    gone: Gone,
) -> Option<()> {
    let mut lines = BufReader::new(&mut socket).lines();
    let first = lines.next_line().await.ok()??;
    let mut shown = false;
    loop {
        let line = lines.next_line().await.ok()??;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").unwrap_or_default();
        shown |=
            name.eq_ignore_ascii_case("authorization") && value == format!("Bearer {AS_TOKEN}");
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    let question = "/_matrix/federation/v1/openid/userinfo?access_token=";
    let (status, body) = match path.strip_prefix(question) {
        Some("stranger") => (200, r#"{"sub":"@alice:elsewhere.example"}"#.to_owned()),
        Some(token) => match token.strip_prefix("of-") {
            Some(user) => (200, format!(r#"{{"sub":"@{user}:{name}"}}"#)),
            None => (401, r#"{"errcode":"M_UNKNOWN_TOKEN"}"#.to_owned()),
        },
        // Whoever speaks for a user, or asks for others, is its application service.
        None if !shown && (path.contains("user_id=") || path.starts_with(ROOMS)) => {
            (401, r#"{"errcode":"M_MISSING_TOKEN"}"#.to_owned())
        }
        None => match (path.strip_prefix(DELAYED), path.strip_prefix(ROOMS)) {
            (Some(_), _) if delayed.is_none() => {
                (404, r#"{"errcode":"M_UNRECOGNIZED"}"#.to_owned())
            }
            (Some(_), _) if first.starts_with("GET ") => (
                200,
                r#"{"delay_ms":60000,"room_id":"!room:example.com"}"#.to_owned(),
            ),
            (Some(done), _) => {
                let (delayed, held) = delayed.as_ref()?;
                let held = *held.lock().expect("not poisoned");
                let is_held = !held.is_empty() && done.ends_with(held);
                delayed.send_modify(|all| all.push(done.to_owned()));
                if is_held {
                    // Whoever asked goes first.
                    while lines.next_line().await.ok()?.is_some() {}
                    return None;
                }
                (200, "{}".to_owned())
            }
            (None, Some(asked)) => {
                let about = asked.replace("%40", "@").replace("%3A", ":");
                let user = about.split_once("mxid=").map_or("", |(_, user)| user);
                let is_gone = gone.lock().expect("not poisoned").contains(user);
                (200, format!(r#"{{"joined":{}}}"#, !is_gone))
            }
            (None, None) => (404, r#"{"errcode":"M_UNRECOGNIZED"}"#.to_owned()),
        },
    };
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    socket.write_all(text.as_bytes()).await.ok()
}
