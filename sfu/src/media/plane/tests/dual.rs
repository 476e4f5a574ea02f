//! Clients that send by one connection and receive by another.

use super::client::Client;
use super::world::{World, audio, ms, nack, pli, sending, video};
use crate::config::codecs::{Codec, h264};
use crate::media::message::{Command, Event, PeerFailure, PeerSetup, Side, SubscriberSetup};
use std::time::Duration;

/// The two connections of one client, by their places in the world.
#[derive(Clone, Copy)]
struct Dual {
    up: usize,
    down: usize,
}

impl World {
    /// A client nothing has been said to yet.
    fn add_dual(&mut self) -> Dual {
        let slot = self.clients.len() as u32;
        let up = Client::new(slot, self.now);
        let mut down = Client::new(slot, self.now);
        down.path.remote.set_port(41_000);
        down.ufrag.push_str("down");
        let setup = PeerSetup {
            publish: Codec::ALL.to_vec(),
            subscribe: Codec::ALL.to_vec(),
            h264: h264::Parameters::DEFAULT.to_vec(),
            reads_trailers: false,
            one_codec_per_section: false,
            outside_only: false,
            subscriber: Some(SubscriberSetup {
                data_channels: true,
                reuse_sections: true,
                passive: false,
            }),
        };
        let peer = up.peer;
        self.clients.extend([up, down]);
        self.command(Command::AddPeer { peer, setup });
        Dual {
            up: slot as usize,
            down: slot as usize + 1,
        }
    }

    /// The server's offer that was not looked at yet, and its number.
    fn offered(&mut self, who: Dual) -> Option<(u32, String)> {
        let peer = self.clients[who.down].peer;
        let events = self.take_events();
        let mut offer = None;
        for event in events {
            match event {
                Event::Offer(ours) if ours.peer == peer => offer = Some((ours.id, ours.sdp)),
                other => self.events.push(other),
            }
        }
        offer
    }

    /// Answers as browsers do; checks go by the offer's credentials from now on.
    fn answer(&mut self, who: Dual, (id, offer): (u32, String)) {
        let client = &mut self.clients[who.down];
        client.answer.clone_from(&offer);
        let (peer, mut sdp) = (client.peer, String::new());
        for line in offer.lines() {
            let line = match line {
                "a=setup:actpass" => "a=setup:active".to_owned(),
                "a=sendonly" => "a=recvonly".to_owned(),
                "a=ice-lite" => continue,
                _ if line.starts_with("a=ssrc") || line.starts_with("a=msid:") => continue,
                _ if line.starts_with("a=ice-ufrag:") => format!("a=ice-ufrag:{}", client.ufrag),
                _ if line.starts_with("a=ice-pwd:") => {
                    "a=ice-pwd:abcdefghijklmnopqrstuvwx".to_owned()
                }
                _ if line.starts_with("a=fingerprint:") => {
                    format!("a=fingerprint:sha-256 {}", client.fingerprint)
                }
                _ => line.to_owned(),
            };
            sdp += &line;
            sdp += "\r\n";
        }
        self.command(Command::Answer { peer, id, sdp });
    }

    /// A client that receives by its own connection and has not sent anything.
    fn join_dual(&mut self) -> Dual {
        let who = self.add_dual();
        self.negotiate(who, false);
        let offer = self.offered(who).expect("an offer at once");
        self.answer(who, offer);
        self.check(who.down, true);
        self.shake(who.down);
        assert!(self.clients[who.down].srtp.is_some(), "handshake done");
        who
    }

    fn negotiate(&mut self, who: Dual, restart: bool) {
        let peer = self.clients[who.down].peer;
        self.command(Command::Negotiate { peer, restart });
    }

    /// Subscribes, and answers the offer this leads to.
    fn watch(&mut self, who: Dual, track: crate::ids::TrackKey) {
        self.subscribe(who.down, track);
        self.advance(ms(160));
        let offer = self.offered(who).expect("an offer with the track");
        self.answer(who, offer);
    }

    /// The first audio section of the client's own offer.
    fn publish(&mut self, who: Dual) -> crate::ids::TrackKey {
        self.clients[who.up]
            .sections
            .push(("0".into(), sending(&audio("sendonly"), "mic")));
        self.offer(who.up);
        self.check(who.up, true);
        self.shake(who.up);
        self.announce(who.up, 0, Codec::Opus, "mic")
    }
}

fn sides(events: &[Event]) -> Vec<Side> {
    let connected = |event: &Event| match event {
        Event::Connected { side, .. } => Some(*side),
        _ => None,
    };
    events.iter().filter_map(connected).collect()
}

fn failures(events: &[Event]) -> usize {
    let failed = |event: &&Event| matches!(event, Event::Failed { .. });
    events.iter().filter(failed).count()
}

#[test]
fn media_goes_out_by_the_subscribers_connection_and_its_losses_are_mended_there() {
    let mut world = World::new();
    let (publisher, track) = world.camera();
    world.film(publisher, 1, true);
    let who = world.join_dual();
    world.watch(who, track);
    let events = world.take_events();
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::SubscriptionBound { .. }))
    );
    assert_eq!(sides(&events).last(), Some(&Side::Subscriber));
    world.film(publisher, 2, true);
    let media = world.take_media(who.down);
    assert_eq!(media.len(), 1);
    assert_eq!(media[0].payload_type, 96);
    let (ssrc, seq) = (media[0].ssrc, media[0].seq);
    world.advance(ms(200));
    world.feedback(who.down, &nack(ssrc, seq));
    let again = world.take_media(who.down);
    assert_eq!(again.len(), 1, "by the same connection");
    assert_eq!(again[0].payload_type, 97);
    assert_ne!(again[0].ssrc, ssrc);
    world.take_control(publisher, 206, None);
    world.advance(ms(1_000));
    world.feedback(who.down, &pli(ssrc));
    world.advance(ms(1_000));
    assert!(!world.take_control(publisher, 206, Some(1)).is_empty());
    world.remove(publisher);
    world.remove(who.down);
    world.assert_empty();
}

#[test]
fn what_the_client_publishes_comes_by_its_other_connection_however_late() {
    let mut world = World::new();
    let who = world.join_dual();
    for _ in 0..300 {
        world.check(who.down, true);
        world.advance(ms(2_000));
    }
    let events = world.take_events();
    assert_eq!(
        (sides(&events), failures(&events)),
        (vec![Side::Subscriber], 0)
    );
    let track = world.publish(who);
    world.speak(who.up, 0);
    let events = world.take_events();
    assert_eq!(
        (sides(&events), failures(&events)),
        (vec![Side::Publisher], 0)
    );
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::TrackStarted { .. }))
    );
    let listener = world.watcher(track, audio("recvonly"));
    world.speak(who.up, 1);
    assert_eq!(world.take_media(listener).len(), 1);
    // Reports on it go back the way it came.
    world.take_control(who.up, 201, None);
    world.take_control(who.down, 201, None);
    world.advance(ms(1_100));
    assert!(!world.take_control(who.up, 201, None).is_empty());
    assert!(world.take_control(who.down, 201, None).is_empty());
}

#[test]
fn media_in_the_subscribers_connection_is_nobodys() {
    let mut world = World::new();
    let who = world.join_dual();
    let track = world.publish(who);
    world.speak(who.down, 0);
    world.take_events();
    assert_eq!(world.plane.counters().dropped.unknown_stream, 1);
    let listener = world.join(&[audio("recvonly")]);
    world.subscribe(listener, track);
    world.offer(listener);
    world.speak(who.down, 1);
    assert!(world.take_media(listener).is_empty());
}

#[test]
fn two_clients_of_either_kind_hear_each_other() {
    let mut world = World::new();
    let (single, first) = world.speaker();
    let who = world.join_dual();
    let second = world.publish(who);
    world.speak(who.up, 0);
    world.watch(who, first);
    let listener = world.watcher(second, audio("recvonly"));
    world.speak(single, 1);
    assert_eq!(world.take_media(who.down).len(), 1);
    world.speak(who.up, 1);
    assert_eq!(world.take_media(listener).len(), 1);
}

#[test]
fn a_handshake_done_before_the_answer_came_counts_with_the_answer() {
    let mut world = World::new();
    let who = world.add_dual();
    world.negotiate(who, false);
    let offer = world.offered(who).expect("an offer");
    world.clients[who.down].answer.clone_from(&offer.1);
    world.check(who.down, true);
    world.shake(who.down);
    assert!(sides(&world.take_events()).is_empty(), "nobody yet");
    world.answer(who, offer);
    assert_eq!(sides(&world.take_events()), [Side::Subscriber]);
}

#[test]
fn a_certificate_other_than_the_answered_one_fails_that_connection() {
    let mut world = World::new();
    let who = world.add_dual();
    world.negotiate(who, false);
    let offer = world.offered(who).expect("an offer");
    world.clients[who.down].fingerprint = Client::new(9, world.now).fingerprint;
    world.answer(who, offer);
    world.check(who.down, true);
    world.shake(who.down);
    let events = world.take_events();
    assert!(events.iter().any(|event| matches!(
        event,
        Event::Failed {
            side: Side::Subscriber,
            reason: PeerFailure::Handshake,
            ..
        }
    )));
}

#[test]
fn media_goes_on_through_a_restart_that_we_offer() {
    let mut world = World::new();
    let (publisher, track) = world.speaker();
    let who = world.join_dual();
    world.watch(who, track);
    world.take_events();
    let old = world.clients[who.down].answer.clone();
    world.negotiate(who, true);
    world.speak(publisher, 1);
    assert_eq!(world.take_media(who.down).len(), 1, "before the answer");
    let offer = world.offered(who).expect("a restart");
    let ufrag = |sdp: &str| {
        sdp.lines()
            .find(|line| line.contains("ice-ufrag"))
            .map(str::to_owned)
    };
    assert_ne!(ufrag(&old), ufrag(&offer.1));
    world.clients[who.down].ufrag.push_str("again");
    world.answer(who, offer);
    world.speak(publisher, 2);
    assert_eq!(world.take_media(who.down).len(), 1, "before the check");
    // The client comes back from another place.
    world.clients[who.down].path.remote.set_port(50_000);
    world.check(who.down, true);
    world.speak(publisher, 3);
    assert_eq!(world.take_media(who.down).len(), 1, "after it");
    world.live(Duration::from_secs(20));
    assert_eq!(failures(&world.take_events()), 0);
}

#[test]
fn an_unanswered_offer_is_told_once_connected() {
    let mut world = World::new();
    let (_, track) = world.speaker();
    let who = world.join_dual();
    world.subscribe(who.down, track);
    for _ in 0..8 {
        world.check(who.down, true);
        world.advance(ms(2_000));
    }
    let refused = |event: &&Event| matches!(event, Event::AnswerRefused { .. });
    assert_eq!(world.take_events().iter().filter(refused).count(), 1);
}

#[test]
fn an_unusable_answer_is_told() {
    let mut world = World::new();
    let who = world.add_dual();
    world.negotiate(who, false);
    let (id, _) = world.offered(who).expect("an offer");
    let peer = world.clients[who.down].peer;
    let sdp = "nonsense".to_owned();
    world.command(Command::Answer { peer, id, sdp });
    assert!(
        world
            .take_events()
            .iter()
            .any(|event| matches!(event, Event::AnswerRefused { .. }))
    );
    let single = world.join(&[video("recvonly")]);
    let (peer, sdp) = (world.clients[single].peer, String::new());
    world.take_events();
    world.command(Command::Answer { peer, id: 1, sdp });
    world.command(Command::Negotiate {
        peer,
        restart: true,
    });
    assert!(
        world.take_events().is_empty(),
        "nothing was offered to a single connection"
    );
}
