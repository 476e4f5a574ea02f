//! Media over TCP: where UDP is blocked, when a connection breaks, and who else knocks.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;
use tests::client::{Client, Join};
use tests::framed::Framed;
use tests::publication::Media;
use tests::server::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a test waits for a number.
const PATIENCE: Duration = Duration::from_secs(15);

async fn join_via(server: &Server, name: &str, road: &Framed, dual: bool) -> Client {
    let how = Join::new(name, "room").via(road.at);
    Client::join_with(server, if dual { how.dual() } else { how }).await
}

#[tokio::test]
async fn media_goes_by_tcp_where_udp_does_not() {
    let server = Server::start().await;
    let road = Framed::open(&server).await;
    let alice = join_via(&server, "alice", &road, false).await;
    let bob = join_via(&server, "bob", &road, true).await;
    let carol = Client::join(&server, "carol", "room").await;
    let picture = alice.publish("picture", Media::Simulcast).await;
    let sound = bob.publish("sound", Media::Sound).await;
    for listener in [&bob, &carol] {
        listener.receive(&picture.sid, 50).await;
    }
    for listener in [&alice, &carol] {
        let heard = listener.receive(&sound.sid, 50).await;
        let sent = sound.sent("");
        assert!(heard.iter().all(|payload| sent.contains(payload)));
    }
    server
        .until_metric("foci_tcp_connections", &[], |open| open == 3.0)
        .await;
    let log = server.log();
    let active = |name: &str, kind: &str| {
        let kind = format!("connectionType=\"{kind}\"");
        let name = format!("participant={name}");
        let mut lines = log
            .lines()
            .filter(|line| line.contains("participant active"));
        lines.any(|line| line.contains(&kind) && line.contains(&name))
    };
    assert!(active("alice", "tcp") && active("bob", "tcp"), "{log}");
    assert!(active("carol", "udp"), "{log}");
    assert!(log.contains("tcp4 host 127.0.0.1"), "{log}");
    server.assert_calm();
}

#[tokio::test]
async fn a_connection_that_breaks_is_followed_by_another_and_the_call_goes_on() {
    let server = Server::start().await;
    let road = Framed::open(&server).await;
    let alice = join_via(&server, "alice", &road, false).await;
    let bob = Client::join(&server, "bob", "room").await;
    let sound = alice.publish("sound", Media::Sound).await;
    let song = bob.publish("song", Media::Sound).await;
    bob.receive(&sound.sid, 20).await;
    for cut in 1..=3 {
        road.cut();
        alice.receive(&song.sid, 50).await;
        bob.receive(&sound.sid, 50).await;
        let ended = server
            .metric("foci_tcp_ended_total", &["reason=\"closed\""])
            .await;
        assert!(ended >= f64::from(cut), "{ended} of {cut}");
    }
    server
        .until_metric("foci_tcp_connections", &[], |open| open == 1.0)
        .await;
    server.assert_calm();
}

#[tokio::test]
async fn who_reads_nothing_loses_media_and_holds_nobody_up() {
    let server = Server::start().await;
    let road = Framed::open(&server).await;
    let bob = join_via(&server, "bob", &road, false).await;
    let carol = Client::join(&server, "carol", "room").await;
    let alice = Client::join(&server, "alice", "room").await;
    let picture = alice.publish("picture", Media::Picture).await;
    bob.receive(&picture.sid, 20).await;
    road.be_deaf(true);
    let late = ["reason=\"send_late\""];
    server
        .until_metric("foci_packets_dropped_total", &late, |late| late > 100.0)
        .await;
    carol.receive(&picture.sid, 50).await;
    road.be_deaf(false);
    bob.receive(&picture.sid, 200).await;
    // What waits for a connection when it breaks is lost with it.
    let before = server.metric("foci_packets_dropped_total", &late).await;
    road.be_deaf(true);
    server
        .until_metric("foci_packets_dropped_total", &late, |late| late > before)
        .await;
    road.cut();
    let closed = ["reason=\"send_closed\""];
    server
        .until_metric("foci_packets_dropped_total", &closed, |closed| closed > 0.0)
        .await;
    road.be_deaf(false);
    bob.receive(&picture.sid, 50).await;
    server.assert_calm();
}

/// What the server says to `bytes`: nothing but the end, and how soon.
async fn shown_out(at: SocketAddr, bytes: &[u8]) -> bool {
    let mut socket = TcpStream::connect(at).await.expect("it accepts");
    socket.write_all(bytes).await.expect("it is there");
    let mut answer = Vec::new();
    match timeout(PATIENCE, socket.read_to_end(&mut answer)).await {
        Ok(Ok(count)) => count == 0,
        Ok(Err(error)) => error.kind() == ErrorKind::ConnectionReset,
        Err(_) => false,
    }
}

/// A binding request in a frame, for this user, without more.
fn check(username: &str) -> Vec<u8> {
    let padded = username.len().next_multiple_of(4);
    let mut message = vec![0, 1, 0, (4 + padded) as u8, 0x21, 0x12, 0xA4, 0x42];
    message.extend([7; 12]);
    message.extend([0, 6, 0, username.len() as u8]);
    message.extend(username.bytes());
    message.resize(24 + padded, 0);
    let mut frame = (message.len() as u16).to_be_bytes().to_vec();
    frame.extend(message);
    frame
}

#[tokio::test]
async fn who_knocks_without_a_good_check_is_shown_out() {
    let server = Server::start().await;
    let road = Framed::open(&server).await;
    let alice = join_via(&server, "alice", &road, false).await;
    let bob = Client::join(&server, "bob", "room").await;
    // Nothing at all, words of another protocol, a frame that is no check, one that goes on for
    // ever, a check for nobody, and one for a worker there is none of.
    let frames: [&[u8]; 6] = [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        &[0, 4, 128, 96, 0, 1],
        &[4, 0, 0, 1],
        &check("AAAAAAAAAAAAAAA:them"),
        &check("AABAAAAAAAAAAAA:them"),
    ];
    for frame in frames {
        assert!(shown_out(server.tcp, frame).await, "{frame:?}");
    }
    // Those in the call notice nothing.
    let sound = alice.publish("sound", Media::Sound).await;
    bob.receive(&sound.sid, 20).await;
    server.assert_calm();
}

#[tokio::test]
async fn clients_are_told_of_both_and_of_tcp_alone_where_udp_is_switched_off() {
    let server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    let both = candidates(&alice);
    assert!(
        both.iter()
            .any(|line| line.contains(" tcp ") && line.contains("tcptype passive"))
    );
    assert!(both.iter().any(|line| line.contains(" udp ")));
    let server = Server::start_flagged(&["--rtc.force_tcp"]).await;
    let alice = Client::enter(&server, Join::new("alice", "room")).await;
    let told = alice
        .until("an answer", |_| {
            Some(candidates(&alice)).filter(|told| !told.is_empty())
        })
        .await;
    assert!(told.iter().all(|line| line.contains(" tcp ")), "{told:?}");
}

/// The server's candidates in its answer.
fn candidates(client: &Client) -> Vec<String> {
    use proto::livekit::signal_response::Message;
    client.seen(|seen| {
        let answers = seen.messages.iter().filter_map(|message| match message {
            Message::Answer(answer) => Some(answer.sdp.clone()),
            _ => None,
        });
        let lines = answers.flat_map(|sdp| sdp.lines().map(str::to_owned).collect::<Vec<_>>());
        lines
            .filter(|line| line.starts_with("a=candidate"))
            .collect()
    })
}
