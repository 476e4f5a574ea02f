//! Data packets: who may send, what is written into them, who gets them and when.

use super::harness::{Client, World, grant};
use crate::ids::PeerId;
use crate::media::message::{Channel, Command, Event};
use crate::room::effect::{Count, DataFate};
use bytes::Bytes;
use proto::data;
use proto::livekit::data_packet::{Kind, Value};
use proto::livekit::leave_request::Action;
use proto::livekit::signal_response::Message;
use proto::livekit::{self, DataPacket, DisconnectReason, UserPacket};

fn user(text: &str) -> DataPacket {
    DataPacket {
        value: Some(Value::User(UserPacket {
            payload: text.as_bytes().to_vec(),
            ..UserPacket::default()
        })),
        ..DataPacket::default()
    }
}

fn numbered(text: &str, sequence: u32) -> DataPacket {
    DataPacket {
        sequence,
        ..user(text)
    }
}

impl World {
    fn open(&mut self, client: &Client) {
        self.event(Event::DataOpen { peer: client.peer });
    }

    /// Everybody of the list is here with open channels.
    fn talking<const N: usize>(&mut self, identities: [&str; N]) -> [Client; N] {
        let clients = self.quiet(identities);
        for client in &clients {
            self.open(client);
        }
        clients
    }

    fn send_on(&mut self, from: &Client, channel: Channel, bytes: Vec<u8>) {
        self.event(Event::Data {
            peer: from.peer,
            channel,
            bytes: Bytes::from(bytes),
        });
    }

    fn send(&mut self, from: &Client, packet: &DataPacket) {
        self.send_on(from, Channel::Reliable, data::write(packet));
    }

    /// What was sent since last asked: channel, packet, receivers.
    fn sent(&mut self) -> Vec<(Channel, DataPacket, Vec<PeerId>)> {
        let sent = |command| match command {
            Command::SendData {
                channel,
                bytes,
                peers,
            } => Some((channel, data::read(&bytes).expect("a packet"), peers)),
            _ => None,
        };
        self.take_media().into_iter().filter_map(sent).collect()
    }

    /// Who got something since last asked.
    fn receivers(&mut self) -> Vec<PeerId> {
        self.sent()
            .into_iter()
            .flat_map(|(_, _, peers)| peers)
            .collect()
    }

    fn fates(&mut self) -> Vec<DataFate> {
        let of = |count: Count| match count {
            Count::Data(fate) => Some(fate),
            _ => None,
        };
        std::mem::take(&mut self.counts)
            .into_iter()
            .filter_map(of)
            .collect()
    }
}

#[test]
fn a_packet_goes_to_all_others_stamped_with_its_sender() {
    let mut world = World::new();
    let [alice, bob, carol] = world.talking(["alice", "bob", "carol"]);
    let spoofed = DataPacket {
        participant_identity: "bob".into(),
        ..numbered("hello", 1)
    };
    world.send(&alice, &spoofed);
    let sent = world.sent();
    assert_eq!(sent.len(), 1, "one command for the worker");
    let (channel, packet, peers) = &sent[0];
    assert_eq!(*channel, Channel::Reliable);
    assert_eq!(*peers, [bob.peer, carol.peer]);
    assert_eq!(packet.participant_identity, "alice");
    assert_eq!(packet.participant_sid, alice.sid);
    assert_eq!(packet.sequence, 1);
    assert_eq!(packet.kind(), Kind::Reliable);
}

#[test]
fn a_lossy_packet_stays_lossy() {
    let mut world = World::new();
    let [alice, bob] = world.talking(["alice", "bob"]);
    world.send_on(&alice, Channel::Lossy, data::write(&user("hello")));
    let sent = world.sent();
    assert_eq!((sent[0].0, sent[0].1.kind()), (Channel::Lossy, Kind::Lossy));
    assert_eq!(sent[0].2, [bob.peer]);
}

#[test]
fn named_receivers_are_found_by_identity_and_by_sid_and_the_sender_is_never_one() {
    let mut world = World::new();
    let [alice, bob, carol, dave] = world.talking(["alice", "bob", "carol", "dave"]);
    let to = |identities: &[&str]| DataPacket {
        destination_identities: identities.iter().map(|&name| name.to_owned()).collect(),
        ..user("hello")
    };
    world.send(&alice, &to(&["bob", "alice", "nobody"]));
    assert_eq!(world.receivers(), [bob.peer]);
    world.send(&alice, &to(&["alice"]));
    assert_eq!(world.receivers(), []);
    let legacy = DataPacket {
        value: Some(Value::User(UserPacket {
            destination_sids: vec![carol.sid.clone()],
            destination_identities: vec!["dave".into()],
            ..UserPacket::default()
        })),
        ..DataPacket::default()
    };
    world.send(&alice, &legacy);
    let sent = world.sent();
    assert_eq!(sent[0].2, [carol.peer, dave.peer]);
    assert_eq!(
        sent[0].1.destination_identities,
        ["dave"],
        "told outside too"
    );
}

#[test]
fn who_may_not_send_data_or_is_not_connected_is_not_heard() {
    let mut world = World::new();
    let [_] = world.talking(["alice"]);
    let mute = world.enter_with("mute", |join| grant(join).can_publish_data = Some(false));
    let early = world.join_with("early", |_| {});
    world.forget();
    world.send(&mute, &user("hello"));
    world.send(&early, &user("hello"));
    assert_eq!(world.receivers(), []);
    assert_eq!(world.fates(), [DataFate::NotAllowed; 2]);
}

#[test]
fn a_hidden_sender_is_anonymous() {
    let mut world = World::new();
    let [_, _] = world.talking(["alice", "bob"]);
    let ghost = world.enter_with("ghost", |join| grant(join).hidden = true);
    world.forget();
    world.send(&ghost, &user("boo"));
    let sent = world.sent();
    assert_eq!(sent[0].1.participant_identity, "");
    let Some(Value::User(user)) = &sent[0].1.value else {
        panic!("a user packet");
    };
    assert_eq!(
        (
            user.participant_identity.as_str(),
            user.participant_sid.as_str()
        ),
        ("", "")
    );
}

#[test]
fn a_reliable_packet_passes_once_and_a_resumed_client_hears_which_was_the_last() {
    let mut world = World::new();
    let [alice, bob] = world.talking(["alice", "bob"]);
    for sequence in [1, 2, 2, 1, 5] {
        world.send(&alice, &numbered("hello", sequence));
    }
    world.send(&bob, &numbered("hello", 1));
    let numbers: Vec<_> = world
        .sent()
        .iter()
        .map(|(_, packet, _)| packet.sequence)
        .collect();
    assert_eq!(numbers, [1, 2, 5, 1]);
    world.lose(&alice);
    let back = world.resume(&alice);
    let told = world.take(&back);
    let Some(Message::Reconnect(reconnect)) = told.first() else {
        panic!("{told:?}");
    };
    assert_eq!(reconnect.last_message_seq, 5);
    world.send(&back, &numbered("again", 5));
    world.send(&back, &numbered("new", 6));
    assert_eq!(world.sent().len(), 1);
}

#[test]
fn one_nonce_passes_once() {
    let mut world = World::new();
    let [alice, bob] = world.talking(["alice", "bob"]);
    let packet = DataPacket {
        value: Some(Value::User(UserPacket {
            nonce: vec![7; 16],
            ..UserPacket::default()
        })),
        ..DataPacket::default()
    };
    world.send(&alice, &packet);
    world.send(&bob, &packet);
    assert_eq!(world.receivers(), [bob.peer]);
    assert_eq!(world.fates(), [DataFate::Forwarded, DataFate::Repeated]);
}

#[test]
fn transcriptions_come_from_agents_only() {
    let mut world = World::new();
    let [alice, bob] = world.talking(["alice", "bob"]);
    let agent = world.enter_with("agent", |join| grant(join).agent = true);
    world.forget();
    let packet = DataPacket {
        value: Some(Value::Transcription(livekit::Transcription::default())),
        ..DataPacket::default()
    };
    world.send(&alice, &packet);
    assert_eq!(world.receivers(), []);
    world.send(&agent, &packet);
    assert_eq!(world.receivers(), [alice.peer, bob.peer]);
}

#[test]
fn an_agent_passes_on_the_words_of_others_and_nobody_else_does() {
    let mut world = World::new();
    let [alice, _] = world.talking(["alice", "bob"]);
    let agent = world.enter_with("agent", |join| grant(join).agent = true);
    world.forget();
    let packet = DataPacket {
        participant_identity: "bob".into(),
        value: Some(Value::ChatMessage(livekit::ChatMessage::default())),
        ..DataPacket::default()
    };
    for (sender, identity, generated) in [(&agent, "bob", true), (&alice, "alice", false)] {
        world.send(sender, &packet);
        let sent = world.sent();
        assert_eq!(sent[0].1.participant_identity, identity);
        let Some(Value::ChatMessage(chat)) = &sent[0].1.value else {
            panic!("a chat message");
        };
        assert_eq!(chat.generated, generated);
    }
}

#[test]
fn metrics_go_to_those_who_may_see_them_by_the_servers_clock() {
    let mut world = World::new();
    let [alice, _] = world.talking(["alice", "bob"]);
    let watcher = world.enter_with("watcher", |join| {
        grant(join).can_subscribe_metrics = Some(true);
    });
    world.open(&watcher);
    world.forget();
    let packet = DataPacket {
        value: Some(Value::Metrics(livekit::MetricsBatch::default())),
        ..DataPacket::default()
    };
    world.send(&alice, &packet);
    let sent = world.sent();
    assert_eq!(sent[0].2, [watcher.peer]);
    let Some(Value::Metrics(batch)) = &sent[0].1.value else {
        panic!("metrics");
    };
    assert!(batch.normalized_timestamp.is_some());
}

#[test]
fn a_channel_of_the_applications_own_reaches_others_as_user_data() {
    let mut world = World::new();
    let [alice, bob] = world.talking(["alice", "bob"]);
    world.send_on(&alice, Channel::Other, b"raw".to_vec());
    let sent = world.sent();
    assert_eq!(
        (sent[0].0, &sent[0].2),
        (Channel::Reliable, &vec![bob.peer])
    );
    assert_eq!(sent[0].1.participant_identity, "alice");
    let Some(Value::User(user)) = &sent[0].1.value else {
        panic!("a user packet");
    };
    assert_eq!(user.payload, b"raw");
}

#[test]
fn what_is_no_packet_or_grows_too_large_is_dropped() {
    let mut world = World::new();
    let [alice, bob] = world.talking(["alice", "bob"]);
    world.send_on(&alice, Channel::Reliable, vec![0xFF; 20]);
    let large = user(&"x".repeat(65_500));
    world.send(&alice, &large);
    world.send(&alice, &user(&"x".repeat(65_000)));
    assert_eq!(world.receivers(), [bob.peer]);
    let fates = [
        DataFate::Unreadable,
        DataFate::TooLarge,
        DataFate::Forwarded,
    ];
    assert_eq!(world.fates(), fates);
}

#[test]
fn who_joins_gets_the_reliable_packets_sent_since_once_its_channels_are_open() {
    let mut world = World::new();
    let [alice, bob] = world.talking(["alice", "bob"]);
    world.send(&alice, &numbered("before", 1));
    world.advance(10);
    let carol = world.enter("carol");
    world.advance(10);
    world.forget();
    world.send(&alice, &numbered("a2", 2));
    world.send(&bob, &numbered("b1", 1));
    let not_for_carol = DataPacket {
        destination_identities: vec!["bob".into()],
        ..numbered("a3", 3)
    };
    world.send(&alice, &not_for_carol);
    world.send(&alice, &numbered("a4", 4));
    world.send(&alice, &user("without number"));
    assert!(!world.receivers().contains(&carol.peer));
    world.open(&carol);
    let texts: Vec<_> = world
        .sent()
        .into_iter()
        .map(|(_, packet, peers)| {
            assert_eq!(peers, [carol.peer]);
            match packet.value {
                Some(Value::User(user)) => String::from_utf8(user.payload).expect("text"),
                _ => panic!("a user packet"),
            }
        })
        .collect();
    assert_eq!(texts, ["without number", "a2", "b1", "a4"]);
    world.open(&carol);
    assert_eq!(world.receivers(), [], "once");
    world.send(&alice, &numbered("a5", 5));
    assert_eq!(world.receivers(), [bob.peer, carol.peer]);
}

#[test]
fn lossy_packets_reach_whoever_is_active() {
    let mut world = World::new();
    let [alice] = world.talking(["alice"]);
    let active = world.enter("active");
    let _joining = world.join_with("joining", |_| {});
    world.forget();
    world.send_on(&alice, Channel::Lossy, data::write(&user("hello")));
    assert_eq!(world.receivers(), [active.peer]);
}

#[test]
fn who_is_too_slow_for_its_data_must_start_over() {
    let mut world = World::new();
    let [alice, bob] = world.talking(["alice", "bob"]);
    world.event(Event::DataTooSlow { peer: bob.peer });
    let told = world.take(&bob);
    let leave = super::harness::leave(&told);
    assert_eq!(
        leave,
        Some((Action::Reconnect, DisconnectReason::StateMismatch))
    );
    assert!(world.closed_sessions.contains(&bob.session));
    world.send(&alice, &user("hello"));
    assert_eq!(world.receivers(), []);
}
