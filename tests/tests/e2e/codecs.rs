//! H264 and G.711: what one publishes is what the others receive.

use proto::livekit::{self, signal_request, signal_response};
use std::collections::BTreeSet;
use tests::client::Client;
use tests::publication::{LAYERS, Media, Publication};
use tests::server::Server;

/// Does a key frame of the tests' H264 begin here?
fn begins(payload: &[u8]) -> bool {
    payload.first() == Some(&0x78)
}

/// The layer a payload was sent in.
fn layer(publication: &Publication, payload: &bytes::Bytes) -> Option<&'static str> {
    let sent = |rid: &&&str| publication.sent(rid).contains(payload);
    LAYERS.iter().find(sent).copied()
}

async fn mime_type(client: &Client, sid: &str) -> String {
    client
        .message("the track is announced", |message| match message {
            signal_response::Message::Update(update) => {
                let mut tracks = update.participants.iter().flat_map(|p| &p.tracks);
                tracks
                    .find(|track| track.sid == sid)
                    .map(|track| track.mime_type.clone())
            }
            _ => None,
        })
        .await
}

#[tokio::test]
async fn h264_reaches_everybody_unchanged_and_late_joiners_from_a_key_frame() {
    let server = Server::start().await;
    let bob = Client::join(&server, "bob", "room").await;
    let alice = Client::join(&server, "alice", "room").await;
    let picture = alice.publish("alice-picture", Media::H264).await;
    bob.receive(&picture.sid, 20).await;
    assert_eq!(mime_type(&bob, &picture.sid).await, "video/H264");
    let late = Client::join_for(&server, "late", "room", &picture.sid).await;
    late.receive(&picture.sid, 30).await;
    for viewer in [&bob, &late] {
        let shown: Vec<_> = viewer.seen(|seen| seen.payloads(0, &picture.sid).cloned().collect());
        assert!(begins(&shown[0]), "begins with {:02x?}", &shown[0][..3]);
        let sent = picture.sent("");
        assert!(shown.iter().all(|payload| sent.contains(payload)));
        let distinct: BTreeSet<_> = shown.iter().collect();
        assert_eq!(distinct.len(), shown.len(), "a packet came twice");
    }
}

#[tokio::test]
async fn layers_of_h264_are_chosen_by_track_settings() {
    let server = Server::start().await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let picture = alice.publish("alice-picture", Media::H264Simulcast).await;
    bob.receive(&picture.sid, 5).await;
    for (quality, wanted) in [
        (livekit::VideoQuality::Low, "q"),
        (livekit::VideoQuality::High, "f"),
        (livekit::VideoQuality::Medium, "h"),
    ] {
        let settings = livekit::UpdateTrackSettings {
            track_sids: vec![picture.sid.clone()],
            quality: quality.into(),
            ..Default::default()
        };
        bob.say(signal_request::Message::TrackSetting(settings));
        let what = format!("the layer {wanted}");
        bob.until(&what, |seen| {
            let all: Vec<_> = seen.payloads(0, &picture.sid).collect();
            let last = all.get(all.len().checked_sub(8)?..)?;
            last.iter()
                .all(|payload| layer(&picture, payload) == Some(wanted))
                .then_some(())
        })
        .await;
    }
    let shown: Vec<_> = bob.seen(|seen| seen.payloads(0, &picture.sid).cloned().collect());
    for two in shown.windows(2) {
        let changes = layer(&picture, &two[0]) != layer(&picture, &two[1]);
        assert!(!changes || begins(&two[1]), "a switch inside a picture");
    }
}

#[tokio::test]
async fn g711_reaches_everybody_unchanged() {
    let server = Server::start().await;
    let bob = Client::join(&server, "bob", "room").await;
    let alice = Client::join(&server, "alice", "room").await;
    for (media, mime) in [(Media::MuLaw, "audio/PCMU"), (Media::ALaw, "audio/PCMA")] {
        let sound = alice.publish(mime, media).await;
        let heard = bob.receive(&sound.sid, 50).await;
        let sent = sound.sent("");
        assert!(heard.iter().all(|payload| sent.contains(payload)));
        assert_eq!(mime_type(&bob, &sound.sid).await, mime);
    }
}
