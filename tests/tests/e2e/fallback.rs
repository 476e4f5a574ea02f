//! A client whose media fails is led to other ways, and remembered; and by what somebody comes is told.

use proto::livekit::signal_response::Message;
use proto::livekit::{ClientConfigSetting, ClientConfiguration, IceServer, ReconnectReason};
use proto::livekit::{JoinResponse, leave_request};
use serde_json::Value;
use tests::client::{Client, Join};
use tests::publication::Media;
use tests::server::{Server, free_tcp_port, request};

fn is_forced(told: Option<&ClientConfiguration>) -> bool {
    told.is_some_and(|told| told.force_relay() == ClientConfigSetting::Enabled)
}

fn transports(servers: &[IceServer]) -> Vec<&str> {
    let urls = servers.iter().flat_map(|server| &server.urls);
    urls.filter_map(|url| Some(url.rsplit_once('=')?.1))
        .collect()
}

/// The transports of the candidates in the answers, oldest answer first.
fn told(client: &Client) -> Vec<Vec<String>> {
    let transport = |line: &str| {
        let line = line.strip_prefix("a=candidate:")?;
        Some(line.split(' ').nth(2)?.to_lowercase())
    };
    client.seen(|seen| {
        let answers = seen.messages.iter().filter_map(|message| match message {
            Message::Answer(answer) => Some(answer.sdp.clone()),
            _ => None,
        });
        let told = answers.map(|sdp| {
            let mut told: Vec<String> = sdp.lines().filter_map(transport).collect();
            told.sort();
            told.dedup();
            told
        });
        told.collect()
    })
}

/// Waits for an answer after so many, and what it tells.
async fn told_next(client: &Client, before: usize) -> Vec<String> {
    let next = |_: &_| told(client).into_iter().nth(before);
    client.until("an answer", next).await
}

async fn join_response(client: &Client) -> JoinResponse {
    let join = |message: &Message| match message {
        Message::Join(join) => Some(join.clone()),
        _ => None,
    };
    client.message("the join response", join).await
}

#[tokio::test]
async fn whose_media_fails_is_led_to_tcp_then_to_a_relay_and_begins_there_the_next_time() {
    let turn = format!("tcp_port: {}", free_tcp_port());
    let server = Server::start_with_relays(&turn, "").await;
    let alice = Client::join(&server, "alice", "room").await;
    let first = join_response(&alice).await;
    assert!(first.fast_publish && !is_forced(first.client_configuration.as_ref()));
    assert_eq!(told(&alice), [["tcp", "udp"]]);
    let failed = ReconnectReason::RrPublisherFailed;
    let resumed = alice.resume_for(failed, &server, &[]).await;
    assert!(!is_forced(resumed.client_configuration.as_ref()));
    assert_eq!(told_next(&alice, 1).await, ["tcp"]);
    // This client connects by no TCP, so that it is sent back for something else.
    let sent_back = |message: &Message| match message {
        Message::Leave(leave) if leave.action() == leave_request::Action::Resume => Some(()),
        _ => None,
    };
    alice.message("it is sent back", sent_back).await;
    let unknown = ReconnectReason::RrUnknown;
    let resumed = alice.resume_for(unknown, &server, &[]).await;
    assert!(is_forced(resumed.client_configuration.as_ref()));
    let servers = transports(&resumed.ice_servers);
    assert!(!servers.is_empty() && servers.iter().all(|one| *one == "tcp"));
    assert_eq!(told_next(&alice, 2).await, ["tcp", "udp"]);
    for to in ["tcp", "relay"] {
        let label = format!("to=\"{to}\"");
        assert_eq!(server.metric("foci_fallbacks_total", &[&label]).await, 1.0);
    }
    let again = Client::enter(&server, Join::new("alice", "room")).await;
    let told = join_response(&again).await;
    assert!(!told.fast_publish && is_forced(told.client_configuration.as_ref()));
    let other = Client::enter(&server, Join::new("alice", "other")).await;
    assert!(join_response(&other).await.fast_publish);
    server.assert_calm();
}

#[tokio::test]
async fn an_operator_is_told_by_what_the_media_of_each_comes() {
    // Basic authentication of `scraper` and `secret`.
    const SHOWN: &str = "Authorization: Basic c2NyYXBlcjpzZWNyZXQ=\r\n";
    let server = Server::start_flagged(&[
        "--prometheus.username",
        "scraper",
        "--prometheus.password",
        "secret",
    ])
    .await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let sound = alice.publish("sound", Media::Sound).await;
    bob.receive(&sound.sid, 10).await;
    let ask = |headers| request(server.metrics, "GET", "/debug/rooms", headers, "");
    assert_eq!(ask("").await.expect("an answer").status, 401);
    let answer = ask(SHOWN).await.expect("an answer");
    assert_eq!(answer.status, 200);
    let rooms: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(rooms[0]["Name"], "room");
    for client in [("alice", &alice), ("bob", &bob)] {
        let person = &rooms[0]["Participants"][client.0];
        assert_eq!(person["ID"], client.1.sid.as_str());
        assert_eq!(
            (&person["State"], &person["ConnectionType"]),
            (&"ACTIVE".into(), &"udp".into())
        );
    }
    let page = request(server.metrics, "GET", "/metrics", SHOWN, "").await;
    let page = page.expect("an answer").body;
    let by_udp = |line: &&str| {
        line.starts_with("foci_participants{") && line.contains("connection_type=\"udp\"")
    };
    let line = page.lines().find(by_udp).expect("the series");
    assert!(line.ends_with(" 2"), "{line}");
}
