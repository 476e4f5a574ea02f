//! Media: what one publishes is what the others receive, while it is wanted.

use bytes::Bytes;
use proto::livekit::{self, signal_request, signal_response};
use std::collections::BTreeSet;
use tests::client::{Client, Join};
use tests::frames::vp8_body;
use tests::publication::{LAYERS, Media, Publication};
use tests::server::Server;

/// Which layer a video payload is of.
fn layer(publication: &Publication, payload: &[u8]) -> Option<&'static str> {
    let holds = |rid: &&&str| {
        publication
            .sent(rid)
            .iter()
            .any(|sent| vp8_body(sent) == vp8_body(payload))
    };
    LAYERS.iter().find(holds).copied()
}

/// Waits until the newest packets of a track are all of one layer.
async fn settles_on(client: &Client, publication: &Publication, wanted: &str) {
    let what = format!("the layer {wanted}");
    client
        .until(&what, |seen| {
            let all: Vec<&Bytes> = seen.payloads(0, &publication.sid).collect();
            let last = all.get(all.len().checked_sub(8)?..)?;
            last.iter()
                .all(|payload| layer(publication, payload) == Some(wanted))
                .then_some(())
        })
        .await;
}

fn setting(
    sid: &str,
    change: impl FnOnce(&mut livekit::UpdateTrackSettings),
) -> signal_request::Message {
    let mut settings = livekit::UpdateTrackSettings {
        track_sids: vec![sid.to_owned()],
        ..Default::default()
    };
    change(&mut settings);
    signal_request::Message::TrackSetting(settings)
}

#[tokio::test]
async fn payloads_reach_everybody_byte_for_byte() {
    let server = Server::start().await;
    let bob = Client::join(&server, "bob", "room").await;
    let alice = Client::join(&server, "alice", "room").await;
    let sound = alice.publish("alice-sound", Media::Sound).await;
    let picture = alice.publish("alice-picture", Media::Picture).await;

    bob.receive(&sound.sid, 5).await;
    let late = Client::join(&server, "late", "room").await;
    for listener in [&bob, &late] {
        let heard = listener.receive(&sound.sid, 50).await;
        let sent = sound.sent("");
        assert!(
            heard.iter().all(|payload| sent.contains(payload)),
            "sound was changed on the way"
        );
        let distinct: BTreeSet<_> = heard.iter().collect();
        assert_eq!(distinct.len(), heard.len(), "a packet came twice");

        let shown = listener.receive(&picture.sid, 30).await;
        let sent: BTreeSet<_> = picture
            .sent("")
            .iter()
            .map(|sent| vp8_body(sent).to_vec())
            .collect();
        assert!(
            shown.iter().all(|payload| sent.contains(vp8_body(payload))),
            "a picture was changed"
        );
    }
    let stream = format!("{}|{}", alice.sid, sound.sid);
    bob.seen(|seen| {
        assert!(
            seen.packets.iter().any(|packet| packet.stream == stream),
            "stream id is {stream}"
        );
    });
}

#[tokio::test]
async fn a_late_joiner_starts_with_a_key_frame() {
    let server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    let picture = alice.publish("alice-picture", Media::Picture).await;
    let bob = Client::join_for(&server, "bob", "room", &picture.sid).await;
    let shown = bob.receive(&picture.sid, 3).await;
    // RFC 7741 §4.3: the first payload byte's lowest bit is 0 in a key frame; S and PID 0 start it.
    let first = bob
        .seen(|seen| seen.payloads(0, &picture.sid).next().cloned())
        .unwrap_or(shown[0].clone());
    assert_eq!(
        first[0] & 0x17,
        0x10,
        "begins a frame: {:02x?}",
        &first[..4]
    );
    assert_eq!(vp8_body(&first)[0] & 1, 0, "begins with a key frame");
}

#[tokio::test]
async fn a_muted_track_falls_silent_and_comes_back() {
    let server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let picture = alice.publish("alice-picture", Media::Picture).await;
    bob.receive(&picture.sid, 5).await;

    let mute = |muted| {
        signal_request::Message::Mute(livekit::MuteTrackRequest {
            sid: picture.sid.clone(),
            muted,
        })
    };
    alice.say(mute(true));
    let told = bob.seen(|seen| seen.messages.len());
    let learns = |muted: bool, from: usize| {
        let sid = picture.sid.clone();
        move |seen: &tests::endpoint::Seen| {
            seen.messages[from..]
                .iter()
                .find_map(|message| match message {
                    signal_response::Message::Update(update) => {
                        let mut tracks = update.participants.iter().flat_map(|p| &p.tracks);
                        tracks
                            .any(|track| track.sid == sid && track.muted == muted)
                            .then_some(())
                    }
                    _ => None,
                })
        }
    };
    bob.until("bob learns of the mute", learns(true, told))
        .await;
    // What was under way has arrived when half a second of frames sent later has not.
    let now = picture.sent("").len();
    alice.until_sent(&picture, now + 4).await;
    let quiet_from = bob.seen(|seen| seen.packets.len());
    alice.until_sent(&picture, now + 14).await;
    let leaked = bob.seen(|seen| seen.payloads(quiet_from, &picture.sid).count());
    assert_eq!(leaked, 0, "a muted track went on");

    let told = bob.seen(|seen| seen.messages.len());
    alice.say(mute(false));
    bob.until("bob learns of the unmute", learns(false, told))
        .await;
    bob.receive(&picture.sid, 5).await;
}

#[tokio::test]
async fn an_unsubscribed_track_stops_and_a_resubscribed_one_returns() {
    let server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let sound = alice.publish("alice-sound", Media::Sound).await;
    let picture = alice.publish("alice-picture", Media::Picture).await;
    bob.receive(&picture.sid, 5).await;

    let subscribe = |subscribe| {
        signal_request::Message::Subscription(livekit::UpdateSubscription {
            track_sids: vec![picture.sid.clone()],
            subscribe,
            ..Default::default()
        })
    };
    bob.say(subscribe(false));
    bob.until("the picture stops while the sound goes on", |seen| {
        let tail = &seen.packets[seen.packets.len().checked_sub(40)?..];
        tail.iter()
            .all(|packet| packet.track == sound.sid)
            .then_some(())
    })
    .await;
    bob.say(subscribe(true));
    bob.receive(&picture.sid, 5).await;
}

#[tokio::test]
async fn track_settings_choose_the_layer() {
    let server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let picture = alice.publish("alice-picture", Media::Simulcast).await;
    bob.receive(&picture.sid, 5).await;

    bob.say(setting(&picture.sid, |s| {
        s.quality = livekit::VideoQuality::Low.into()
    }));
    settles_on(&bob, &picture, "q").await;
    bob.say(setting(&picture.sid, |s| (s.width, s.height) = (640, 360)));
    settles_on(&bob, &picture, "f").await;
    bob.say(setting(&picture.sid, |s| (s.width, s.height) = (320, 180)));
    settles_on(&bob, &picture, "h").await;

    // One sequence, whatever layer it came from.
    let numbers: Vec<u16> = bob.seen(|seen| {
        let mine = seen
            .packets
            .iter()
            .filter(|packet| packet.track == picture.sid);
        mine.map(|packet| packet.sequence).collect()
    });
    let jumps = numbers
        .windows(2)
        .filter(|pair| pair[1].wrapping_sub(pair[0]) > 100)
        .count();
    assert!(
        jumps * 20 < numbers.len(),
        "{jumps} jumps in {} packets",
        numbers.len()
    );
}

#[tokio::test]
async fn a_disabled_track_sends_nothing_until_enabled() {
    let server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let sound = alice.publish("alice-sound", Media::Sound).await;
    let picture = alice.publish("alice-picture", Media::Picture).await;
    bob.receive(&picture.sid, 5).await;
    bob.say(setting(&picture.sid, |s| s.disabled = true));
    bob.until("only sound arrives", |seen| {
        let tail = &seen.packets[seen.packets.len().checked_sub(40)?..];
        tail.iter()
            .all(|packet| packet.track == sound.sid)
            .then_some(())
    })
    .await;
    bob.say(setting(&picture.sid, |s| {
        s.quality = livekit::VideoQuality::High.into()
    }));
    bob.receive(&picture.sid, 5).await;
}

#[tokio::test]
async fn more_tracks_than_the_first_offer_had_room_for_all_arrive() {
    let server = Server::start().await;
    let bob = Client::join(&server, "bob", "room").await;
    let mut publications = Vec::new();
    let mut publishers = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        let publisher = Client::join(&server, name, "room").await;
        publications.push(
            publisher
                .publish(&format!("{name}-sound"), Media::Sound)
                .await,
        );
        publishers.push(publisher);
    }
    for publication in &publications {
        let heard = bob.receive(&publication.sid, 5).await;
        let sent = publication.sent("");
        assert!(
            heard.iter().all(|payload| sent.contains(payload)),
            "another track's sound"
        );
    }
}

#[tokio::test]
async fn a_loud_participant_is_announced_as_speaker() {
    let server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let _sound = alice.publish("alice-sound", Media::Sound).await;
    let level = bob
        .message("alice speaks", |message| match message {
            signal_response::Message::SpeakersChanged(changed) => changed
                .speakers
                .iter()
                .find(|speaker| speaker.sid == alice.sid && speaker.active)
                .map(|speaker| speaker.level),
            _ => None,
        })
        .await;
    assert!(level > 0.0 && level <= 1.0, "{level}");
}

#[tokio::test]
async fn without_auto_subscribe_nothing_comes_unasked() {
    let server = Server::start().await;
    let mut how = Join::new("bob", "room");
    how.auto_subscribe = false;
    let bob = Client::join_with(&server, how).await;
    let witness = Client::join(&server, "witness", "room").await;
    let alice = Client::join(&server, "alice", "room").await;
    let sound = alice.publish("alice-sound", Media::Sound).await;
    witness.receive(&sound.sid, 20).await;
    assert_eq!(bob.seen(|seen| seen.packets.len()), 0);
    bob.say(signal_request::Message::Subscription(
        livekit::UpdateSubscription {
            track_sids: vec![sound.sid.clone()],
            subscribe: true,
            ..Default::default()
        },
    ));
    bob.receive(&sound.sid, 5).await;
}

#[tokio::test]
async fn the_screen_is_seen_beside_the_camera_each_in_the_layer_asked_for() {
    let server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let camera = alice.publish("camera", Media::Simulcast).await;
    let screen = alice.share_screen("screen", Media::Simulcast).await;
    for (track, source) in [(&camera, 1), (&screen, 3)] {
        let told = bob.message("the track with its source", |message| match message {
            signal_response::Message::Update(update) => {
                let mut tracks = update.participants.iter().flat_map(|p| &p.tracks);
                tracks
                    .find(|info| info.sid == track.sid)
                    .map(|info| info.source)
            }
            _ => None,
        });
        assert_eq!(told.await, source);
    }
    settles_on(&bob, &camera, "f").await;
    settles_on(&bob, &screen, "f").await;
    bob.say(setting(&camera.sid, |settings| settings.quality = 0));
    settles_on(&bob, &camera, "q").await;
    settles_on(&bob, &screen, "f").await;
    bob.say(setting(&screen.sid, |settings| settings.quality = 1));
    settles_on(&bob, &screen, "h").await;
    settles_on(&bob, &camera, "q").await;
}

#[tokio::test]
async fn twenty_five_tracks_of_one_participant_arrive_and_one_more_is_refused() {
    const TRACKS: usize = 25;
    let server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let mut published = Vec::new();
    for n in 0..TRACKS {
        let media = if n % 5 == 0 {
            Media::Picture
        } else {
            Media::Sound
        };
        let track = alice.publish(&format!("track-{n}"), media).await;
        // A track counts as pending until its media comes, and twenty may be.
        bob.receive(&track.sid, 1).await;
        published.push(track);
    }
    for track in &published {
        bob.receive(&track.sid, 5).await;
    }
    let request = livekit::AddTrackRequest {
        cid: "one too many".into(),
        ..Default::default()
    };
    alice.say(signal_request::Message::AddTrack(request));
    let refusal = alice.message("the refusal", |message| match message {
        signal_response::Message::RequestResponse(response) => Some(response.reason),
        _ => None,
    });
    let limit = livekit::request_response::Reason::LimitExceeded;
    assert_eq!(refusal.await, limit as i32);
}
