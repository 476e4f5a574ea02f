//! A recorded call is replayed in the core, packet for packet, and a changed record is not.

use proto::livekit::{self, signal_request};
use sfu::media::message::Command;
use sfu::media::record::redact::{PASSWORD, PASSWORD_LINE};
use sfu::media::record::{self, Entry, Form, Reader};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tests::client::{Client, Join};
use tests::publication::{Media, Publication};
use tests::replay::replay;
use tests::server::Server;

/// What a client writes to the others.
const WORD: &[u8] = b"a word among friends";

fn mute(publication: &Publication, muted: bool) -> signal_request::Message {
    signal_request::Message::Mute(livekit::MuteTrackRequest {
        sid: publication.sid.clone(),
        muted,
    })
}

fn low(publication: &Publication) -> signal_request::Message {
    signal_request::Message::TrackSetting(livekit::UpdateTrackSettings {
        track_sids: vec![publication.sid.clone()],
        quality: livekit::VideoQuality::Low.into(),
        ..Default::default()
    })
}

/// A call with sound, three layers of pictures, a mute, a change of layer, one who comes late and
/// one with two connections: its record, and payloads that were sent.
async fn recorded(name: &str, more: &[&str]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let file: PathBuf =
        std::env::temp_dir().join(format!("foci-e2e-{}-{name}.record", std::process::id()));
    let path = file.to_str().expect("a plain path");
    let mut server = Server::start_flagged(&[&["--record", path], more].concat()).await;
    let alice = Client::join(&server, "alice", "room").await;
    let bob = Client::join(&server, "bob", "room").await;
    let carol = Client::join_with(&server, Join::new("carol", "room").dual()).await;
    let sound = alice.publish("alice-sound", Media::Sound).await;
    let picture = alice.publish("alice-picture", Media::Simulcast).await;
    for client in [&bob, &carol] {
        client.receive(&sound.sid, 20).await;
        client.receive(&picture.sid, 20).await;
    }
    bob.say(low(&picture));
    alice.until_open().await;
    alice.send("_reliable", WORD).await;
    alice.say(mute(&sound, true));
    carol.receive(&picture.sid, 30).await;
    alice.say(mute(&sound, false));
    let late = Client::join(&server, "late", "room").await;
    late.receive(&sound.sid, 20).await;
    late.receive(&picture.sid, 20).await;
    drop(late);
    carol.receive(&picture.sid, 20).await;
    server.terminate();
    assert!(server.ended().await, "the server ended well");
    let payloads = [sound.sent(""), picture.sent("f"), picture.sent("q")].concat();
    let bytes = fs::read(&file).expect("a record");
    fs::remove_file(&file).expect("it was there");
    (bytes, payloads.iter().map(|one| one.to_vec()).collect())
}

/// Payloads of which the record holds the inside: behind what is left clear of a picture.
fn held(record: &[u8], payloads: &[Vec<u8>]) -> usize {
    let inside = |payload: &Vec<u8>| payload.get(20..44).map(<[u8]>::to_vec);
    let wanted: std::collections::BTreeSet<_> = payloads.iter().filter_map(inside).collect();
    let windows: std::collections::BTreeSet<_> = record.windows(24).collect();
    wanted
        .iter()
        .filter(|one| windows.contains(one.as_slice()))
        .count()
}

/// How many connections' keys the record holds.
fn keys(record: &[u8]) -> usize {
    let entries = Reader::new(record).expect("a record");
    let keys = |entry: &Result<(Duration, Entry), _>| matches!(entry, Ok((_, Entry::Keys(_))));
    entries.filter(keys).count()
}

/// The same record with entries left out or changed.
fn changed(bytes: &[u8], mut change: impl FnMut(&mut Entry) -> bool) -> Vec<u8> {
    let mut out = record::MAGIC.to_vec();
    for entry in Reader::new(bytes).expect("a record") {
        let (at, mut entry): (Duration, Entry) = entry.expect("sound");
        if change(&mut entry) {
            record::write(&entry, at, &mut out);
        }
    }
    out
}

#[tokio::test]
async fn a_recorded_call_is_replayed_packet_for_packet_and_a_changed_record_is_not() {
    let (bytes, payloads) = recorded("plain", &[]).await;

    let report = replay(&bytes).expect("a record");
    assert_eq!(
        (&report.divergence, &report.ended),
        (&None, &None),
        "{report}"
    );
    let last = report.last.as_ref().expect("totals at the end");
    assert!(report.events > 20 && report.totals > 2, "{report}");
    let watched: Vec<_> = last
        .sent
        .iter()
        .filter(|(_, sent)| sent.media > 40)
        .collect();
    assert!(watched.len() >= 3, "three received media: {last:?}");

    assert_eq!(held(&bytes, &payloads), 0, "payloads are in the record");
    assert_eq!(keys(&bytes), 0, "keys are in the record");
    assert!(!bytes.windows(WORD.len()).any(|window| window == WORD));
    let text = String::from_utf8_lossy(&bytes);
    let mut passwords = text.split(PASSWORD_LINE).skip(1);
    assert!(passwords.clone().count() > 6);
    assert!(passwords.all(|rest| rest.starts_with(PASSWORD)));

    let mut count = 0;
    let packet_missing = changed(&bytes, |entry| {
        let media = matches!(entry, Entry::Datagram(one) if matches!(one.form, Form::Media { .. }));
        count += usize::from(media);
        !(media && count == 100)
    });
    let mute_missing = changed(&bytes, |entry| {
        !matches!(
            entry,
            Entry::Command(Command::MuteTrack { muted: true, .. })
        )
    });
    let event_changed = changed(&bytes, |entry| {
        if let Entry::Event(text) = entry {
            *text = text.replace("TrackStarted", "TrackEnded");
        }
        true
    });
    let check_missing = changed(
        &bytes,
        |entry| !matches!(entry, Entry::Datagram(one) if matches!(one.form, Form::Check { .. })),
    );
    for (what, bytes) in [
        ("a packet is missing", packet_missing),
        ("the mute is missing", mute_missing),
        ("an event is another", event_changed),
        ("the checks are missing", check_missing),
    ] {
        let report = replay(&bytes).expect("a record");
        assert!(report.divergence.is_some(), "{what}, and yet {report}");
    }
}

#[tokio::test]
async fn a_record_with_secrets_holds_payloads_and_is_replayed_too() {
    let (bytes, payloads) = recorded("secret", &["--record-secrets"]).await;
    assert!(held(&bytes, &payloads) > 50, "payloads are in the record");
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains(PASSWORD) && text.contains(PASSWORD_LINE));
    // Of the client with two connections, one never comes up: it sends nothing.
    assert_eq!(keys(&bytes), 4, "one for each connection");
    let report = replay(&bytes).expect("a record");
    assert_eq!(
        (&report.divergence, &report.ended),
        (&None, &None),
        "{report}"
    );
}
