//! LiveKit's RoomService as far as the authorization service needs one: it takes every room, and has
//! one participant at most. It reads requests by itself, and sends webhooks.

use crate::token::{KEY, SECRET, sign, verified};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long a test waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// A call as it came.
#[derive(Debug, Clone)]
pub struct Call {
    /// Method and path.
    pub line: String,
    /// What the body is.
    pub content_type: String,
    /// The claims of its token, whose signature is right.
    pub claims: Value,
    /// The message.
    pub body: Vec<u8>,
}

/// Stops when dropped, with the runtime of its test.
pub struct RoomService {
    /// Where it listens, without TLS.
    pub address: SocketAddr,
    calls: watch::Receiver<Vec<Call>>,
    there: There,
}

/// The sid of whoever is there.
type There = Arc<Mutex<Option<String>>>;

impl RoomService {
    /// Starts one.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let (done, calls) = watch::channel(Vec::new());
        let there = There::default();
        let known = Arc::clone(&there);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(answer(socket, done.clone(), Arc::clone(&known)));
            }
        });
        Self {
            address,
            calls,
            there,
        }
    }

    /// From now on whoever is asked for is there under this sid, or is not.
    ///
    /// # Panics
    /// Never: the lock is not held across a panic.
    pub fn holds(&self, sid: Option<&str>) {
        *self.there.lock().expect("not poisoned") = sid.map(str::to_owned);
    }

    /// Waits for so many calls of a method, and tells them.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn calls(&mut self, method: &str, count: usize) -> Vec<Call> {
        let of = |calls: &Vec<Call>| -> Vec<Call> {
            let of_method = calls.iter().filter(|call| call.line.ends_with(method));
            of_method.cloned().collect()
        };
        let calls = self.calls.wait_for(|calls| of(calls).len() >= count);
        of(&timeout(PATIENCE, calls)
            .await
            .expect("in time")
            .expect("it runs"))
    }
}

/// One request. What fails is the client's to notice.
async fn answer(mut socket: TcpStream, done: watch::Sender<Vec<Call>>, there: There) -> Option<()> {
    let mut reader = BufReader::new(&mut socket);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).await.ok()?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let header = |name: &str| {
        let lines = head.iter().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().map_or("", |(_, value)| value)
    };
    let mut body = vec![0; header("content-length").parse().ok()?];
    reader.read_exact(&mut body).await.ok()?;
    let token = header("authorization").strip_prefix("Bearer ");
    let claims = token.and_then(|token| verified(token, SECRET));
    let line = head.first()?.strip_suffix(" HTTP/1.1")?.to_owned();
    let error = |code: &str| json!({ "code": code, "msg": "so it is" }).to_string();
    let sid = there.lock().expect("not poisoned").clone();
    let (status, text) = match (&claims, sid) {
        (None, _) => (401, error("unauthenticated")),
        (Some(_), _) if line.ends_with("/CreateRoom") => (200, String::new()),
        // The first field of ParticipantInfo.
        (Some(_), Some(sid)) if line.ends_with("/GetParticipant") => {
            let length = u8::try_from(sid.len()).ok().filter(u8::is_ascii)?;
            (200, format!("\n{}{sid}", char::from(length)))
        }
        (Some(_), _) => (404, error("not_found")),
    };
    done.send_modify(|calls| {
        calls.push(Call {
            content_type: header("content-type").to_owned(),
            claims: claims.clone().unwrap_or_default(),
            line,
            body,
        });
    });
    let length = text.len();
    let text = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{text}");
    socket.write_all(text.as_bytes()).await.ok()
}

/// A webhook's body, and the header lines that go with it.
///
/// # Panics
/// When the clock stands before 1970.
#[must_use]
#[allow(
    clippy::disallowed_methods,
    reason = "a token's lifetime is in wall-clock time"
)]
pub fn webhook(event: &str, room: &str, identity: &str, sid: &str) -> (String, String) {
    let body = json!({
        "event": event,
        "room": { "sid": "RM_1", "name": room, "creationTime": "1700000000" },
        "participant": { "sid": sid, "identity": identity, "state": "ACTIVE" },
        "id": "EV_1",
        "createdAt": "1700000000",
    })
    .to_string();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs();
    let sum = BASE64_STANDARD.encode(digest::digest(&digest::SHA256, body.as_bytes()));
    let claims = json!({ "iss": KEY, "nbf": now, "exp": now + 300, "sha256": sum });
    let token = sign(&claims, SECRET);
    let headers = format!("Authorization: {token}\r\nContent-Type: application/webhook+json\r\n");
    (headers, body)
}
