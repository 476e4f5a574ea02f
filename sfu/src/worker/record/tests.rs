use super::*;
use crate::config::codecs::Codec;
use crate::ids::PeerId;
use crate::media::message::PeerSetup;
use crate::media::plane;
use crate::media::plane::tracks::TrackSettings;
use crate::media::record::Reader;
use crate::media::transport::dtls;
use std::os::unix::fs::PermissionsExt;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const PEER: PeerId = PeerId {
    worker: 0,
    slot: 0,
    generation: 0,
};

fn plane() -> Plane {
    let setup = plane::Setup {
        dtls: Arc::new(dtls::Shared::new().expect("certificate")),
        advertised: Vec::new(),
        node: 0,
        process: 0,
        worker: 0,
        track: TrackSettings::default(),
        inquiring: false,
    };
    Plane::new(setup, [1; 32])
}

/// A file that is gone afterwards.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("foci-record-{}-{count}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn target(&self, limit: u64, secrets: bool) -> Target {
        Target {
            path: self.0.clone(),
            limit,
            secrets,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn entries(file: &FilePath) -> Vec<Entry> {
    let bytes = std::fs::read(file).expect("a record");
    let read = Reader::new(&bytes).expect("ours");
    read.map(|entry| entry.expect("sound").1).collect()
}

fn offer() -> Command {
    Command::Offer {
        peer: PEER,
        id: 1,
        sdp: "a=ice-pwd:topsecrettopsecrettopsecret\r\n".into(),
    }
}

#[test]
fn a_record_is_its_owners_alone_and_overwrites_nothing() {
    let place = Place::new();
    let target = place.target(1 << 20, false);
    let mut plane = plane();
    let mut recorder = Recorder::start(&target, &mut plane).expect("a file");
    recorder.stop(&plane);
    let mode = std::fs::metadata(&place.0).expect("there").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let again = Recorder::start(&target, &mut plane).map(|_| ());
    assert_eq!(
        again.expect_err("refused").kind(),
        io::ErrorKind::AlreadyExists
    );
    assert!(matches!(
        entries(&place.0)[..],
        [Entry::Start(_), Entry::Totals(_), Entry::End(End::Stopped)]
    ));
}

#[test]
fn passwords_and_messages_are_written_only_when_asked_for() {
    for secrets in [false, true] {
        let place = Place::new();
        let mut plane = plane();
        let mut recorder =
            Recorder::start(&place.target(1 << 20, secrets), &mut plane).expect("a file");
        let now = Instant::now();
        recorder.command(&offer(), now);
        let bytes = bytes::Bytes::from_static(b"a private word");
        let channel = crate::media::message::Channel::Reliable;
        let event = Event::Data {
            peer: PEER,
            channel,
            bytes: bytes.clone(),
        };
        recorder.event(&event, now);
        recorder.command(
            &Command::SendData {
                channel,
                bytes: bytes.clone(),
                peers: vec![PEER],
            },
            now,
        );
        recorder.stop(&plane);
        let file = std::fs::read(&place.0).expect("a record");
        let text = String::from_utf8_lossy(&file);
        assert_eq!(text.contains("topsecret"), secrets);
        assert_eq!(text.contains("a private word"), secrets);
        let kept = entries(&place.0).iter().any(|entry| {
            matches!(entry, Entry::Command(Command::SendData { bytes: kept, .. }) if *kept == bytes)
        });
        assert_eq!(kept, secrets);
    }
}

#[test]
fn a_record_ends_at_its_limit() {
    let place = Place::new();
    let mut plane = plane();
    let limit = 100_000;
    let mut recorder = Recorder::start(&place.target(limit, false), &mut plane).expect("a file");
    let mut now = Instant::now();
    for _ in 0..10_000 {
        now += CHUNK_AGE;
        recorder.command(&offer(), now);
        recorder.end_pass(&plane, now);
        if recorder.writer.is_none() {
            break;
        }
        // The writer is a thread: what it is too slow for would be a gap.
        while std::fs::metadata(&place.0).expect("there").len() + 1000
            < limit - END_ROOM - recorder.left
        {
            std::thread::yield_now();
        }
    }
    assert!(recorder.writer.is_none(), "ended");
    recorder.command(&offer(), now);
    assert!(recorder.chunk.is_empty(), "nothing more is kept");
    // The writer ends by itself; there is no other sign of it than the last entry.
    while !matches!(
        std::fs::read(&place.0)
            .ok()
            .as_deref()
            .and_then(|bytes| Reader::new(bytes).ok()?.last()),
        Some(Ok((_, Entry::End(End::Full))))
    ) {
        std::thread::yield_now();
    }
    assert!(std::fs::metadata(&place.0).expect("there").len() <= limit);
}

#[test]
fn a_slow_disk_makes_a_gap_that_is_told_and_holds_nobody_up() {
    let (chunks, waiting) = sync_channel(1);
    let thread = std::thread::spawn(|| {});
    let mut plane = plane();
    let target = Place::new().target(1 << 20, false);
    let mut recorder = Recorder::onto(Writer { chunks, thread }, &target, &plane);
    let mut now = Instant::now();
    for _ in 0..3 {
        recorder.timeout(&mut plane, now);
        now += CHUNK_AGE;
        recorder.end_pass(&plane, now);
    }
    let first = waiting.try_recv().expect("the first chunk");
    assert_eq!(Reader::new(&first).expect("ours").count(), 2);
    recorder.timeout(&mut plane, now);
    now += CHUNK_AGE;
    recorder.end_pass(&plane, now);
    let then = [&record::MAGIC[..], &waiting.try_recv().expect("another")].concat();
    let told = Reader::new(&then).expect("ours").next().expect("one");
    assert_eq!(told.expect("sound").1, Entry::Gap(2));
}

#[test]
fn what_a_panic_began_with_is_in_the_record() {
    let place = Place::new();
    let target = place.target(1 << 20, false);
    let thread = std::thread::spawn(move || {
        let mut plane = plane();
        let mut recorder = Recorder::start(&target, &mut plane).expect("a file");
        let setup = PeerSetup {
            publish: Codec::ALL.to_vec(),
            subscribe: Vec::new(),
            h264: Vec::new(),
            reads_trailers: false,
            one_codec_per_section: false,
            outside_only: false,
            subscriber: None,
        };
        recorder.command(&Command::AddPeer { peer: PEER, setup }, Instant::now());
        panic!("as a media thread might");
    });
    assert!(thread.join().is_err());
    let last = entries(&place.0).pop();
    assert!(matches!(
        last,
        Some(Entry::Command(Command::AddPeer { .. }))
    ));
}

#[test]
fn a_report_that_waits_is_told_of_once_when_it_is_taken() {
    let place = Place::new();
    let mut plane = plane();
    let mut recorder = Recorder::start(&place.target(1 << 20, false), &mut plane).expect("a file");
    let path = Path {
        carrier: crate::media::demux::Carrier::Udp(0),
        local: None,
        port: 0,
        remote: ([203, 0, 113, 1], 9).into(),
    };
    let now = Instant::now();
    let mut report = [[0x80, 201, 0, 6, 0, 0, 0, 1].as_slice(), &[7; 24]].concat();
    recorder.datagram(&mut plane, path, &mut report, now);
    let due = plane.poll_timeout().expect("it waits");
    assert!(plane.poll_waiting(now).is_none(), "not so soon");
    let (from, mut report) = plane.poll_waiting(due).expect("it is due");
    recorder.datagram(&mut plane, from, &mut report, due);
    assert_eq!(plane.poll_timeout(), None, "it does not wait again");
    recorder.stop(&plane);
    let told = entries(&place.0)
        .into_iter()
        .filter_map(|entry| match entry {
            Entry::Datagram(datagram) => Some((datagram.path, datagram.form)),
            _ => None,
        });
    let refused = Form::Refused(plane::opened::Reason::Unknown);
    assert_eq!(told.collect::<Vec<_>>(), [(path, refused)]);
    assert_eq!(plane.counters().dropped.unknown_address, 1);
}
