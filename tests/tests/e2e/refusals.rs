//! Refusals: bad tokens, frames, datagrams. Each is turned away and hurts nobody else.

use serde_json::{Value, json};
use tests::client::Client;
use tests::publication::Media;
use tests::server::Server;
use tests::token::{SECRET, claims, sign};
use tokio::net::{TcpStream, UdpSocket};
use tokio_tungstenite::tungstenite::{Error, Message};

/// Reproducible bytes without meaning.
struct Noise(u64);

impl Noise {
    /// xorshift64.
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut next = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 as u8
        };
        (0..count).map(|_| next()).collect()
    }
}

fn changed(change: impl FnOnce(&mut Value)) -> String {
    let mut claims = claims("alice", "room");
    change(&mut claims);
    sign(&claims, SECRET)
}

/// Tokens that are not good, with the answer to each (LK: signalling §1.3, §1.5).
fn bad_tokens() -> Vec<(String, u16, &'static str)> {
    let good = sign(&claims("alice", "room"), SECRET);
    let forged = sign(
        &claims("alice", "room"),
        "another-secret-that-is-long-enough-too",
    );
    let invalid = "invalid authorization token";
    let reasoned = "invalid authorization token: ";
    let nothing = "no permissions to access the room";
    let long = "participant identity length exceeds limits: max length 256";
    let without_video = |claims: &mut Value| {
        claims.as_object_mut().map(|claims| claims.remove("video"));
    };
    vec![
        ("garbage".to_owned(), 401, invalid),
        (format!("{good}x"), 401, invalid),
        (forged, 401, reasoned),
        (changed(|c| c["exp"] = json!(1_000_000)), 401, reasoned),
        (
            changed(|c| c["nbf"] = json!(99_999_999_999u64)),
            401,
            reasoned,
        ),
        (
            changed(|c| c["iss"] = json!("nobody")),
            401,
            "invalid API key",
        ),
        (changed(without_video), 401, nothing),
        (
            changed(|c| c["video"]["roomJoin"] = json!(false)),
            401,
            "permissions denied",
        ),
        (
            changed(|c| c["sub"] = json!("")),
            400,
            "identity cannot be empty",
        ),
        (
            changed(|c| c["video"]["room"] = json!("")),
            400,
            "no room name",
        ),
        (changed(|c| c["sub"] = json!("x".repeat(257))), 400, long),
    ]
}

#[tokio::test]
async fn bad_tokens_are_refused_by_name_and_never_echoed() {
    let server = Server::start().await;
    for (token, status, text) in bad_tokens() {
        // An empty join request: the token is judged first.
        for prefix in ["", "/livekit/sfu", "/livekit-server"] {
            let query = format!("access_token={token}&join_request=EgA%3D");
            let answer = server
                .get(&format!("{prefix}/rtc/v1/validate?{query}"), "")
                .await;
            assert_eq!(answer.status, status, "{text}: {answer:?}");
            assert!(answer.body.starts_with(text), "{text}: {answer:?}");
            assert!(
                answer
                    .head
                    .to_lowercase()
                    .contains("access-control-allow-origin"),
                "{answer:?}"
            );
            assert!(
                !answer.body.contains(&token) && !answer.head.contains(&token),
                "{answer:?}"
            );
        }
        assert!(!server.log().contains(&token), "a token was logged");
    }
}

#[tokio::test]
async fn a_token_is_taken_from_the_header_and_may_be_missing() {
    let server = Server::start().await;
    let validate = "/rtc/v1/validate?join_request=EgA%3D";
    let none = server.get(validate, "").await;
    assert_eq!(
        (none.status, none.body.trim()),
        (401, "no permissions to access the room")
    );
    let basic = server.get(validate, "Authorization: Basic eDp5\r\n").await;
    assert_eq!(basic.status, 401);
    assert!(
        basic
            .body
            .starts_with("invalid authorization header. Must start with Bearer"),
        "{basic:?}"
    );
    let good = sign(&claims("alice", "room"), SECRET);
    let good = server
        .get(validate, &format!("Authorization: Bearer {good}\r\n"))
        .await;
    assert_eq!((good.status, good.body.trim()), (200, "success"));
}

#[tokio::test]
async fn the_websocket_itself_refuses_a_bad_token() {
    let server = Server::start().await;
    let token = sign(
        &claims("alice", "room"),
        "another-secret-that-is-long-enough-too",
    );
    let refused = tests::client::dial(&server, &token, &Default::default(), false).await;
    match refused {
        Err(Error::Http(response)) => assert_eq!(response.status().as_u16(), 401),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn bad_join_requests_are_refused_by_name() {
    let server = Server::start().await;
    let token = sign(&claims("alice", "room"), SECRET);
    let cases = [
        ("", "join_request is required"),
        (
            "&join_request=!!!!",
            "cannot base64 decode wrapped join request",
        ),
        (
            "&join_request=_____w%3D%3D",
            "cannot unmarshal wrapped join request",
        ),
    ];
    for (query, text) in cases {
        let answer = server
            .get(&format!("/rtc/v1/validate?access_token={token}{query}"), "")
            .await;
        assert_eq!(answer.status, 400, "{text}: {answer:?}");
        assert!(answer.body.starts_with(text), "{text}: {answer:?}");
    }
}

/// A call between two others goes on, and newcomers are served.
async fn unharmed(server: &Server, listener: &Client, track: &str) {
    listener.receive(track, 20).await;
    Client::join(server, "newcomer", "room").await;
}

#[tokio::test]
async fn an_oversized_or_senseless_frame_ends_its_own_connection_only() {
    let server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let sound = alice.publish("alice-sound", Media::Sound).await;
    bob.receive(&sound.sid, 5).await;
    let frames = [
        // More than 2 MiB (LK: signalling §3).
        Message::binary(vec![0u8; 3 << 20]),
        Message::binary(vec![0xff; 64]),
        Message::text("{\"not\": json"),
    ];
    for (n, frame) in frames.into_iter().enumerate() {
        let mallory = Client::join(&server, &format!("mallory-{n}"), "room").await;
        mallory.frame(frame);
        mallory
            .until("the connection ends", |seen| seen.closed.then_some(()))
            .await;
    }
    unharmed(&server, &bob, &sound.sid).await;
}

#[tokio::test]
async fn senseless_datagrams_hurt_nobody() {
    let server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let sound = alice.publish("alice-sound", Media::Sound).await;
    bob.receive(&sound.sid, 5).await;
    let mut noise = Noise(0x0f0c_1000_0000_0001);
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    // First bytes of every class of RFC 7983: STUN, DTLS, TURN channels, RTP, and none.
    for first in [0u8, 1, 20, 22, 63, 64, 79, 128, 191, 200, 255] {
        for size in [1usize, 2, 11, 12, 19, 20, 28, 100, 1200, 1472] {
            let mut datagram = noise.bytes(size);
            datagram[0] = first;
            socket
                .send_to(&datagram, server.udp)
                .await
                .expect("local sockets take a datagram");
        }
    }
    // STUN by its looks: right magic cookie, lengths that lie.
    for length in [0u16, 4, 8, 0x7fff, 0xffff] {
        let mut stun = vec![0, 1];
        stun.extend(length.to_be_bytes());
        stun.extend([0x21, 0x12, 0xa4, 0x42]);
        stun.extend(noise.bytes(40));
        socket
            .send_to(&stun, server.udp)
            .await
            .expect("local sockets take a datagram");
    }
    unharmed(&server, &bob, &sound.sid).await;
}

#[tokio::test]
async fn a_senseless_request_line_hurts_nobody() {
    use tokio::io::AsyncWriteExt;
    let server = Server::start().await;
    let mut noise = Noise(77);
    let mut socket = TcpStream::connect(server.http).await.expect("it listens");
    // The server may close before all is written.
    let _ = socket.write_all(&noise.bytes(100_000)).await;
    assert_eq!(server.get("/", "").await.body, "OK");
    assert_eq!(server.get("/no/such/page", "").await.status, 404);
}

#[tokio::test]
async fn whoever_connects_and_says_nothing_leaves_descriptors_for_others() {
    let server = Server::start_granted(256).await;
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(server.http).await.expect("connected"));
    }
    assert_eq!(server.get("/", "").await.body, "OK");
    let log = server.log();
    assert!(log.contains("file descriptors"), "{log}");
    assert!(!log.contains("cannot accept a connection"), "{log}");
}
