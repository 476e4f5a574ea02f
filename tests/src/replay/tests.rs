use super::*;
use sfu::config::codecs::Codec;
use sfu::media::demux::Carrier;
use sfu::media::message::PeerSetup;
use sfu::media::record::{self, End};

const PEER: PeerId = PeerId {
    worker: 0,
    slot: 0,
    generation: 0,
};

/// A record of a peer that came, of some bytes and a report from nobody, and of a pass.
fn record(last: Option<Entry>) -> Vec<u8> {
    let stage = Stage::new(&Start {
        version: String::new(),
        chance: [1; 32],
        advertised: Vec::new(),
        place: [0; 3],
        track: Default::default(),
        inquiring: false,
        secrets: false,
    });
    let setup = PeerSetup {
        publish: Codec::ALL.to_vec(),
        subscribe: Codec::ALL.to_vec(),
        h264: Vec::new(),
        reads_trailers: false,
        one_codec_per_section: false,
        outside_only: false,
        subscriber: None,
    };
    let noise = Datagram {
        path: Path {
            carrier: Carrier::Udp(0),
            local: None,
            port: 0,
            remote: ([127, 0, 0, 1], 9).into(),
        },
        from: None,
        bytes: vec![0xFF; 30],
        form: Form::Refused(Reason::Foreign),
    };
    // A report that waited for its sender to be silent, in vain.
    let stray = Datagram {
        bytes: [[0x80, 201, 0, 6, 0, 0, 0, 1].as_slice(), &[7; 24]].concat(),
        form: Form::Refused(Reason::Unknown),
        ..noise
    };
    let mut totals = stage.outgoing.totals(&stage.plane);
    totals.population.peers = 1;
    totals.counters.dropped.not_ours = 1;
    totals.counters.dropped.unknown_address = 1;
    let entries = [
        Entry::Start(Start::of(&stage.plane, false)),
        Entry::Command(Command::AddPeer { peer: PEER, setup }),
        Entry::Datagram(noise),
        Entry::Datagram(stray),
        Entry::FanOut,
        Entry::Timeout(Some(vec![PEER])),
        Entry::FanOut,
        Entry::Totals(Box::new(totals)),
    ];
    let mut bytes = record::MAGIC.to_vec();
    for entry in entries.into_iter().chain(last) {
        record::write(&entry, Duration::ZERO, &mut bytes);
    }
    bytes
}

#[test]
fn what_is_counted_must_be_as_recorded() {
    let sound = replay(&record(Some(Entry::End(End::Stopped)))).expect("a record");
    assert_eq!((&sound.divergence, &sound.ended), (&None, &None), "{sound}");
    assert_eq!(sound.totals, 1);
    let other = Entry::Totals(Box::new(Totals {
        population: Default::default(),
        ..sound.last.expect("totals")
    }));
    let report = replay(&record(Some(other))).expect("a record");
    assert!(report.divergence.is_some_and(|told| told.contains("peers")));
}

#[test]
fn a_record_without_its_end_is_said_to_be_cut_short_and_a_gap_to_be_one() {
    let report = replay(&record(None)).expect("a record");
    assert_eq!(report.ended.as_deref(), Some("cut short"));
    assert_eq!(report.lost, 0);
    let report = replay(&record(Some(Entry::Gap(3)))).expect("a record");
    assert_eq!(report.ended.as_deref(), Some("3 entries were not written"));
    assert_eq!(report.lost, 3);
    assert_eq!(replay(b"something else").err(), Some(Fault::Foreign));
}

#[test]
fn an_event_that_does_not_come_diverges() {
    let event = Entry::Event("TrackEnded { .. }".into());
    let report = replay(&record(Some(event))).expect("a record");
    assert!(
        report
            .divergence
            .is_some_and(|told| told.contains("no event"))
    );
}

#[test]
fn a_damaged_record_harms_nobody() {
    let sound = record(Some(Entry::End(End::Stopped)));
    for at in (8..sound.len()).step_by(3) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x5A;
        let _ = replay(&bytes);
    }
}
