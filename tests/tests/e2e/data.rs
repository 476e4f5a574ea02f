//! Data packets through the real server, over SCTP of another make.

use prost::Message as _;
use proto::livekit::data_packet::{Kind, Value};
use proto::livekit::{DataPacket, DisconnectReason, UserPacket, leave_request, signal_response};
use tests::client::{Client, Join};
use tests::publication::Media;
use tests::relay::{Loss, Relay};
use tests::server::Server;

const RELIABLE: &str = "_reliable";
const LOSSY: &str = "_lossy";

fn packet(payload: &[u8], sequence: u32) -> DataPacket {
    DataPacket {
        sequence,
        value: Some(Value::User(UserPacket {
            payload: payload.to_vec(),
            topic: Some("topic".into()),
            ..UserPacket::default()
        })),
        ..DataPacket::default()
    }
}

async fn send(from: &Client, label: &str, packet: &DataPacket) {
    from.send(label, &packet.encode_to_vec()).await;
}

/// The packets a client got on a channel.
fn packets(client: &Client, label: &str) -> Vec<DataPacket> {
    client.seen(|seen| {
        let of = seen.data.iter().filter(|(channel, _)| channel == label);
        of.map(|(_, bytes)| DataPacket::decode(bytes.clone()).expect("a packet"))
            .collect()
    })
}

fn payload(packet: &DataPacket) -> &[u8] {
    match &packet.value {
        Some(Value::User(user)) => &user.payload,
        other => panic!("{other:?}"),
    }
}

/// Waits until a client got a packet with this payload, and returns it.
async fn receive(client: &Client, label: &str, wanted: &[u8]) -> DataPacket {
    client
        .until("a data packet", |seen| {
            let of = seen.data.iter().filter(|(channel, _)| channel == label);
            of.map(|(_, bytes)| DataPacket::decode(bytes.clone()).expect("a packet"))
                .find(|packet| payload(packet) == wanted)
        })
        .await
}

/// Waits until the newest reliable packet of a client is this one.
async fn until_at(client: &Client, sequence: u32) {
    client
        .until(&format!("reliable packet {sequence}"), |seen| {
            let mut of = seen.data.iter().rev();
            let (_, bytes) = of.find(|(channel, _)| channel == RELIABLE)?;
            let newest = DataPacket::decode(bytes.clone()).expect("a packet");
            (newest.sequence == sequence).then_some(())
        })
        .await;
}

/// Everybody of the list in a room, with open channels that the server knows of.
async fn talking<const N: usize>(server: &Server, names: [&str; N]) -> Vec<Client> {
    let mut clients: Vec<Client> = Vec::new();
    for name in names {
        clients.push(Client::join(server, name, "room").await);
    }
    settle(&clients).await;
    clients
}

/// Waits until each can hear each: a client's channel is open before the room knows.
async fn settle(clients: &[Client]) {
    for client in clients {
        client.until_open().await;
    }
    for (at, from) in clients.iter().enumerate() {
        let hello = format!("hello from {at}");
        send(from, RELIABLE, &packet(hello.as_bytes(), 0)).await;
        for (_, to) in clients.iter().enumerate().filter(|(other, _)| *other != at) {
            receive(to, RELIABLE, hello.as_bytes()).await;
        }
    }
}

#[tokio::test]
async fn a_reliable_packet_reaches_all_others_stamped_and_is_never_echoed() {
    let server = Server::start().await;
    let clients = talking(&server, ["alice", "bob", "carol"]).await;
    let [alice, bob, carol] = &clients[..] else {
        unreachable!("three joined")
    };
    let spoofed = DataPacket {
        participant_identity: "bob".into(),
        participant_sid: bob.sid.clone(),
        ..packet(b"all", 1)
    };
    send(alice, RELIABLE, &spoofed).await;
    for to in [bob, carol] {
        let got = receive(to, RELIABLE, b"all").await;
        assert_eq!(got.participant_identity, "alice");
        assert_eq!(got.participant_sid, alice.sid);
        assert_eq!((got.kind(), got.sequence), (Kind::Reliable, 1));
    }
    // What was sent first would have come first.
    send(bob, RELIABLE, &packet(b"last", 1)).await;
    receive(alice, RELIABLE, b"last").await;
    let echoed = packets(alice, RELIABLE);
    assert!(echoed.iter().all(|packet| payload(packet) != b"all"));
}

#[tokio::test]
async fn a_named_receiver_alone_gets_a_packet() {
    let server = Server::start().await;
    let clients = talking(&server, ["alice", "bob", "carol"]).await;
    let named = DataPacket {
        destination_identities: vec!["carol".into(), "alice".into()],
        ..packet(b"for carol", 1)
    };
    send(&clients[0], RELIABLE, &named).await;
    send(&clients[0], RELIABLE, &packet(b"for all", 2)).await;
    receive(&clients[2], RELIABLE, b"for carol").await;
    receive(&clients[1], RELIABLE, b"for all").await;
    let others = packets(&clients[1], RELIABLE);
    assert!(others.iter().all(|packet| payload(packet) != b"for carol"));
}

#[tokio::test]
async fn lossy_packets_travel_on_the_lossy_channel() {
    let server = Server::start().await;
    let clients = talking(&server, ["alice", "bob"]).await;
    send(&clients[0], LOSSY, &packet(b"perhaps", 0)).await;
    let got = receive(&clients[1], LOSSY, b"perhaps").await;
    assert_eq!(got.kind(), Kind::Lossy);
}

#[tokio::test]
async fn a_packet_sent_again_passes_once() {
    let server = Server::start().await;
    let clients = talking(&server, ["alice", "bob"]).await;
    for (text, sequence) in [("one", 1), ("two", 2), ("one", 1), ("two", 2), ("three", 3)] {
        send(&clients[0], RELIABLE, &packet(text.as_bytes(), sequence)).await;
    }
    receive(&clients[1], RELIABLE, b"three").await;
    let numbers: Vec<_> = packets(&clients[1], RELIABLE)
        .iter()
        .map(|packet| packet.sequence)
        .filter(|sequence| *sequence > 0)
        .collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[tokio::test]
async fn large_packets_pass_and_one_too_large_harms_nobody() {
    let server = Server::start().await;
    let clients = talking(&server, ["alice", "bob"]).await;
    let large: Vec<u8> = (0..60_000_u32).map(|n| n as u8).collect();
    send(&clients[0], RELIABLE, &packet(&large, 1)).await;
    receive(&clients[1], RELIABLE, &large).await;
    // It fits the channel, but not with what the server adds.
    let size = 65_535 - packet(b"", 2).encoded_len() - 8;
    send(&clients[0], RELIABLE, &packet(&vec![1; size], 2)).await;
    send(&clients[0], RELIABLE, &packet(b"after", 3)).await;
    receive(&clients[1], RELIABLE, b"after").await;
    let refused = server
        .metric("foci_data_packets_total", &["fate=\"too_large\""])
        .await;
    assert!(refused > 0.0, "it was refused");
}

#[tokio::test]
async fn who_may_not_send_data_is_not_heard() {
    let server = Server::start().await;
    let mute = Join::new("mute", "room").grant("canPublishData", false);
    let mute = Client::join_with(&server, mute).await;
    let clients = talking(&server, ["alice", "bob"]).await;
    mute.until_open().await;
    send(&mute, RELIABLE, &packet(b"unheard", 1)).await;
    // Its own channel works the other way.
    send(&clients[0], RELIABLE, &packet(b"heard", 1)).await;
    receive(&mute, RELIABLE, b"heard").await;
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(50));
    while server
        .metric("foci_data_packets_total", &["fate=\"not_allowed\""])
        .await
        < 1.0
    {
        tick.tick().await;
    }
    let got = packets(&clients[0], RELIABLE);
    assert!(got.iter().all(|packet| payload(packet) != b"unheard"));
}

#[tokio::test]
async fn a_channel_of_the_applications_own_reaches_the_others() {
    let server = Server::start().await;
    let clients = talking(&server, ["alice", "bob"]).await;
    clients[0].send("mine", b"raw").await;
    let got = receive(&clients[1], RELIABLE, b"raw").await;
    assert_eq!(got.participant_identity, "alice");
}

#[tokio::test]
async fn a_receiver_that_takes_nothing_stalls_nobody_and_must_start_over() {
    let server = Server::start().await;
    let road = Relay::open(&server, Loss::default()).await;
    let slow = Client::join_with(&server, Join::new("slow", "room").via(road.at)).await;
    let mut clients = talking(&server, ["alice", "bob"]).await;
    slow.until_open().await;
    clients.push(slow);
    settle(&clients).await;
    road.choke();
    let large = vec![5; 60_000];
    for sequence in 1..=90 {
        send(&clients[0], RELIABLE, &packet(&large, sequence)).await;
        // Else a healthy one on a busy machine may have too much to come as well.
        if sequence % 10 == 0 {
            until_at(&clients[1], sequence).await;
        }
    }
    send(&clients[0], RELIABLE, &packet(b"the last", 91)).await;
    receive(&clients[1], RELIABLE, b"the last").await;
    let numbers: Vec<_> = packets(&clients[1], RELIABLE)
        .iter()
        .map(|packet| packet.sequence)
        .filter(|sequence| *sequence > 0)
        .collect();
    assert_eq!(numbers, (1..=91).collect::<Vec<_>>());
    let leave = clients[2]
        .message("a leave", |message| match message {
            signal_response::Message::Leave(leave) => Some(leave.clone()),
            _ => None,
        })
        .await;
    assert_eq!(leave.action(), leave_request::Action::Reconnect);
    assert_eq!(leave.reason(), DisconnectReason::StateMismatch);
}

#[tokio::test]
async fn a_resume_keeps_the_channels_and_tells_what_was_the_last_packet() {
    let server = Server::start().await;
    let clients = talking(&server, ["alice", "bob"]).await;
    let (alice, bob) = (&clients[0], &clients[1]);
    for sequence in 1..=3 {
        send(alice, RELIABLE, &packet(b"before", sequence)).await;
    }
    bob.until("three packets", |seen| (seen.data.len() >= 4).then_some(()))
        .await;
    alice.cut().await;
    send(bob, RELIABLE, &packet(b"meanwhile", 1)).await;
    receive(alice, RELIABLE, b"meanwhile").await;
    alice.resume(&server, &[]).await;
    let last = alice
        .message("the reconnect response", |message| match message {
            signal_response::Message::Reconnect(reconnect) => Some(reconnect.last_message_seq),
            _ => None,
        })
        .await;
    assert_eq!(last, 3);
    send(alice, RELIABLE, &packet(b"after", 4)).await;
    receive(bob, RELIABLE, b"after").await;
    assert!(alice.seen(|seen| seen.shut.is_empty()), "no channel closed");
}

#[tokio::test]
async fn who_joins_gets_the_packets_sent_while_its_channels_opened() {
    let server = Server::start().await;
    let clients = talking(&server, ["alice", "bob"]).await;
    let late = Client::enter(&server, Join::new("late", "room")).await;
    // It has joined, and its channels cannot be open yet.
    for sequence in 1..=3 {
        send(&clients[0], RELIABLE, &packet(b"early", sequence)).await;
    }
    late.until("all three, in order", |seen| {
        let numbers: Vec<_> = seen
            .data
            .iter()
            .map(|(_, bytes)| {
                DataPacket::decode(bytes.clone())
                    .expect("a packet")
                    .sequence
            })
            .collect();
        (numbers == [1, 2, 3]).then_some(())
    })
    .await;
}

/// Waits until the channels a client opened itself are open; the server never opens this one.
async fn until_own(client: &Client) {
    client
        .until("its own channels open", |seen| {
            seen.opened
                .iter()
                .any(|label| label == "mine")
                .then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_client_of_two_connections_sends_on_its_channels_and_receives_on_ours() {
    let server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    alice.until_open().await;
    let bob = Client::join_with(&server, Join::new("bob", "room").dual()).await;
    assert!(bob.receives_first);
    // The connection it sends by comes with what it publishes.
    let _sound = bob.publish("sound", Media::Sound).await;
    until_own(&bob).await;
    send(&bob, RELIABLE, &packet(b"up", 1)).await;
    receive(&alice, RELIABLE, b"up").await;
    send(&alice, RELIABLE, &packet(b"down", 1)).await;
    receive(&bob, RELIABLE, b"down").await;
    send(&alice, LOSSY, &packet(b"down, perhaps", 0)).await;
    receive(&bob, LOSSY, b"down, perhaps").await;
}

#[tokio::test]
async fn a_client_of_two_connections_that_only_sends_receives_on_its_own_channels() {
    let server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    alice.until_open().await;
    let speaker = Join::new("speaker", "room").grant("canSubscribe", false);
    let speaker = Client::join_with(&server, speaker.dual()).await;
    assert!(!speaker.receives_first);
    until_own(&speaker).await;
    send(&speaker, RELIABLE, &packet(b"up", 1)).await;
    receive(&alice, RELIABLE, b"up").await;
    send(&alice, RELIABLE, &packet(b"down", 1)).await;
    receive(&speaker, RELIABLE, b"down").await;
}
