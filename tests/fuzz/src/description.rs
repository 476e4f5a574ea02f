//! Session descriptions: raw text, and recorded ones of real clients with damage done to them, so
//! that more than the grammar is reached.

use crate::input::Input;
use sfu::config::codecs::{Codec, h264};
use sfu::ids::{MediaKind, PeerId, TrackKey};
use sfu::media::message::{PeerSetup, StreamLabel, SubscriberSetup, TrackSpec};
use sfu::media::transport::negotiation::offering::{Offering, OwnOffer};
use sfu::media::transport::negotiation::{
    Answered, Forwarding, Local, MAX_ANNOUNCED, Negotiation, OfferError,
};
use sfu::media::transport::sdp::{MAX_SECTIONS, RemoteDescription, SectionKind};
use std::time::{Duration, Instant};

macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!(
            "../../../sfu/src/media/transport/negotiation/fixtures/",
            $name,
            ".sdp"
        ))
    };
}

/// Offers of real clients.
pub(crate) const RECORDED: [&str; 8] = [
    recorded!("chromium-join"),
    recorded!("chromium-microphone"),
    recorded!("chromium-fourth-video"),
    recorded!("chromium-stopped"),
    recorded!("chromium-restart-recycled"),
    recorded!("firefox-join"),
    recorded!("firefox-camera"),
    recorded!("rust-join"),
];
/// Steps of one input: more make it slow, not deeper.
const STEPS_MAX: usize = 40;
/// Damages of one description.
const DAMAGES_MAX: usize = 8;

fn local() -> Local {
    Local {
        session_id: 1,
        ufrag: "ourufrag".to_owned(),
        pwd: "ourpasswordourpassword".to_owned(),
        fingerprint: "sha-256 0A:0B".to_owned(),
        candidates: vec!["candidate:1 1 udp 2130706431 192.0.2.1 7882 typ host".to_owned()],
    }
}

fn setup(input: &mut Input<'_>) -> PeerSetup {
    let mask = input.byte();
    let codecs = Codec::ALL.iter().enumerate();
    let codecs: Vec<Codec> = codecs
        .filter_map(|(bit, codec)| (mask >> bit & 1 == 0).then_some(*codec))
        .collect();
    PeerSetup {
        publish: codecs.clone(),
        subscribe: codecs,
        h264: h264::Parameters::DEFAULT.to_vec(),
        reads_trailers: false,
        one_codec_per_section: mask & 0x80 != 0,
        outside_only: false,
        subscriber: None,
    }
}

/// Raw text as a first offer, twice, and as an answer to our own.
pub(crate) fn sdp(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let parsed = RemoteDescription::parse(text);
    let now = crate::origin();
    let mut negotiation = Negotiation::new(&setup(&mut Input::new(&[])));
    let first = offer(&mut negotiation, text, now);
    assert!(parsed.is_ok() || first.is_err());
    let second = offer(&mut negotiation, text, now + Duration::from_secs(1));
    assert_eq!(first.is_ok(), second.is_ok());
    let mut offering = Offering::new(&Codec::ALL, SUBSCRIBER, 0);
    let _ = offering.subscribe(forwarding(0, 1), now);
    let own = offering.offer(&local());
    if let Ok(Some(accepted)) = offering.handle_answer(own.id, text, now) {
        assert!(accepted.sending.len() <= 1);
    }
}

/// An offer, and what must hold of the answer, or of the refusal.
fn offer(negotiation: &mut Negotiation, text: &str, now: Instant) -> Result<(), OfferError> {
    let before = (
        negotiation.mids(),
        negotiation.receiving(),
        negotiation.sending(),
    );
    let answered = negotiation.handle_offer(text, &local(), now);
    match answered {
        Ok(answered) => {
            check_answer(text, &answered);
            assert_eq!(answered.mids, negotiation.mids());
            Ok(())
        }
        Err(error) => {
            let after = (
                negotiation.mids(),
                negotiation.receiving(),
                negotiation.sending(),
            );
            assert!(before == after, "a refused offer changes nothing");
            assert!(error.to_string().len() < 200);
            Err(error)
        }
    }
}

fn check_answer(offer: &str, answered: &Answered) {
    let offered = RemoteDescription::parse(offer).expect("it was answered");
    let answer = RemoteDescription::parse(&answered.sdp).expect("our own answer is readable");
    assert_eq!(answer.sections.len(), offered.sections.len());
    assert!(answer.sections.len() <= MAX_SECTIONS);
    assert_eq!(answered.mids.len(), answered.sending.len());
    for (ours, theirs) in answer.sections.iter().zip(&offered.sections) {
        assert!(ours.kind == theirs.kind || ours.rejected);
        // A stopped section may have lost its mid; ours keeps it.
        assert!(ours.mid == theirs.mid || theirs.mid.is_empty());
        let known = |payload_type| {
            theirs
                .codecs
                .iter()
                .any(|codec| codec.payload_type == payload_type)
        };
        assert!(ours.rejected || ours.codecs.iter().all(|codec| known(codec.payload_type)));
        // Data channels have no direction.
        if theirs.kind == SectionKind::Application {
            continue;
        }
        assert!(theirs.direction.receives() || ours.rejected || !ours.direction.sends());
        assert!(theirs.direction.sends() || ours.rejected || !ours.direction.receives());
    }
    // A line of ours for each of theirs, and the transport of each section.
    let most = 2 * offer.len() + 2000 * (1 + offered.sections.len());
    assert!(
        answered.sdp.len() <= most,
        "{} of {}",
        answered.sdp.len(),
        offer.len()
    );
}

/// A description with damage that the input chooses.
fn damaged(text: &str, input: &mut Input<'_>) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..usize::from(input.byte()) % DAMAGES_MAX {
        damage(&mut lines, input);
    }
    lines.join("\r\n") + "\r\n"
}

fn damage(lines: &mut Vec<String>, input: &mut Input<'_>) {
    let count = lines.len().max(1);
    let act = input.byte();
    let at = usize::from(input.short()) % count;
    let Some(line) = lines.get(at).cloned() else {
        return;
    };
    match act % 7 {
        0 => drop(lines.remove(at)),
        1 => {
            let to = usize::from(input.short()) % count;
            lines.insert(to, line);
        }
        2 => {
            let from = RECORDED[usize::from(input.byte()) % RECORDED.len()];
            let nth = usize::from(input.short()) % from.lines().count();
            lines.insert(at, from.lines().nth(nth).unwrap_or_default().to_owned());
        }
        3 => {
            let to = usize::from(input.short()) % count;
            lines.swap(at, to);
        }
        4 => lines.insert(at, String::from_utf8_lossy(input.slice()).into_owned()),
        5 => {
            let cut: String = line.chars().take(usize::from(input.byte())).collect();
            lines[at] = cut + &String::from_utf8_lossy(input.slice());
        }
        _ => {
            let words: Vec<&str> = line.split([' ', ':', ';', '=', '/']).collect();
            let nth = usize::from(input.byte()) % words.len().max(1);
            let word = words.get(nth).copied().unwrap_or_default();
            let with = String::from_utf8_lossy(input.slice()).into_owned();
            lines[at] = line.replacen(word, &with, 1);
        }
    }
}

const fn key(slot: u32, index: u32) -> TrackKey {
    TrackKey {
        peer: PeerId {
            worker: 0,
            slot,
            generation: 0,
        },
        index,
    }
}

fn forwarding(index: u32, codec: u8) -> Forwarding {
    let codec = Codec::ALL[usize::from(codec) % Codec::ALL.len()];
    let video = codec.kind() == MediaKind::Video;
    Forwarding {
        track: key(9, index),
        codec,
        h264: (codec == Codec::H264).then(|| h264::Parameters::DEFAULT[0]),
        stereo: index & 1 == 1,
        label: StreamLabel {
            stream_id: format!("PA_other|TR_{index}"),
            track_id: format!("TR_{index}"),
        },
        ssrc: 1000 + 2 * index,
        rtx_ssrc: video.then_some(1001 + 2 * index),
    }
}

fn spec(input: &mut Input<'_>) -> TrackSpec {
    let bits = input.byte();
    let codec = Codec::ALL[usize::from(input.byte()) % Codec::ALL.len()];
    let cid = String::from_utf8_lossy(input.slice()).into_owned();
    TrackSpec {
        kind: codec.kind(),
        cids: vec![cid],
        codec: (bits & 1 == 0).then_some(codec),
        red: bits & 2 != 0,
        dtx: bits & 4 != 0,
        stereo: bits & 8 != 0,
        screen_share: bits & 16 != 0,
        encrypted: bits & 32 != 0,
        trailers: bits & 64 != 0,
        muted: bits & 128 != 0,
        layers: Vec::new(),
    }
}

/// The client offers, again and again, while tracks come and go in both directions.
pub(crate) fn negotiation(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut negotiation = Negotiation::new(&setup(&mut input));
    let mut now = crate::origin();
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        now += Duration::from_millis(u64::from(input.byte()) * 10);
        let index = u32::from(input.byte() % 24);
        match input.byte() % 6 {
            0 => {
                let text = damaged(RECORDED[index as usize % RECORDED.len()], &mut input);
                let _ = negotiation.restarting(&text);
                let _ = offer(&mut negotiation, &text, now);
            }
            1 => {
                let spec = spec(&mut input);
                let _ = negotiation.publish(key(1, index), spec, now);
            }
            2 => negotiation.unpublish(key(1, index)),
            3 => {
                let _ = negotiation.subscribe(forwarding(index, input.byte()), now);
            }
            4 => negotiation.unsubscribe(key(9, index), now),
            _ => {
                if let Some((audio, video)) = negotiation.poll_sections_needed(now) {
                    assert!((audio + video) as usize <= MAX_SECTIONS);
                }
            }
        }
        assert!(negotiation.receiving().len() <= MAX_SECTIONS + MAX_ANNOUNCED);
        let mids = negotiation.mids();
        assert_eq!(mids.len(), negotiation.sending().len());
        for (place, (mid, track)) in mids.iter().enumerate() {
            let rest = &mids[place + 1..];
            assert!(
                rest.iter()
                    .all(|(other, twin)| other != mid && twin != track)
            );
        }
    }
}

const SUBSCRIBER: SubscriberSetup = SubscriberSetup {
    data_channels: true,
    reuse_sections: true,
    passive: false,
};

/// A good answer to an offer of ours, of a client that knows its first codecs.
fn answer(offer: &OwnOffer) -> String {
    let read = RemoteDescription::parse(&offer.sdp).expect("our own offer is readable");
    let mids: Vec<&str> = read
        .sections
        .iter()
        .map(|section| section.mid.as_str())
        .collect();
    let mut sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n",
        mids.join(" ")
    );
    for section in &read.sections {
        let (mut formats, mut lines) = (String::new(), String::new());
        for codec in &section.codecs {
            let payload_type = codec.payload_type;
            formats += &format!(" {payload_type}");
            lines += &format!("a=rtpmap:{payload_type} {}\r\n", codec.rtpmap);
            if let Some(fmtp) = &codec.fmtp {
                lines += &format!("a=fmtp:{payload_type} {fmtp}\r\n");
            }
        }
        if section.kind == SectionKind::Application {
            formats = " webrtc-datachannel".to_owned();
        }
        sdp += &format!(
            "m={} 9 {}{formats}\r\n{lines}a=mid:{}\r\na=rtcp-mux\r\na=setup:active\r\n\
             a=ice-ufrag:abcd\r\na=ice-pwd:theirpasswordtheirpassword\r\n\
             a=fingerprint:sha-256 01:02\r\na={}\r\n",
            section.line.media,
            section.line.proto,
            section.mid,
            if section.direction.sends() {
                "recvonly"
            } else {
                "inactive"
            },
        );
    }
    sdp
}

/// We offer; the client answers well, with damage, to another offer, or not at all.
pub(crate) fn offering(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let bits = input.byte();
    let setup = SubscriberSetup {
        data_channels: bits & 1 == 0,
        reuse_sections: bits & 2 == 0,
        passive: bits & 4 != 0,
    };
    let codecs = self::setup(&mut input).subscribe;
    let mut offering = Offering::new(&codecs, setup, input.word());
    let mut now = crate::origin();
    let mut last: Option<OwnOffer> = None;
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        now += Duration::from_millis(u64::from(input.byte()) * 20);
        let index = u32::from(input.byte() % 24);
        match input.byte() % 6 {
            0 => {
                let _ = offering.subscribe(forwarding(index, input.byte()), now);
            }
            1 => offering.unsubscribe(key(9, index), now),
            2 if index & 1 == 0 => offering.restart(now),
            2 => offering.negotiate(now),
            3 if offering.poll_due(now).is_some() => last = Some(own_offer(&mut offering)),
            _ => {
                let Some(own) = &last else { continue };
                let good = answer(own);
                let text = damaged(&good, &mut input);
                let id = if index & 1 == 0 { own.id } else { input.word() };
                if let Ok(Some(accepted)) = offering.handle_answer(id, &text, now) {
                    assert!(accepted.sending.len() + accepted.refused.len() <= MAX_SECTIONS);
                }
            }
        }
        let _ = offering.poll_overdue(bits & 8 == 0, now);
    }
}

fn own_offer(offering: &mut Offering) -> OwnOffer {
    let own = offering.offer(&local());
    assert_ne!(own.id, 0);
    let read = RemoteDescription::parse(&own.sdp).expect("our own offer is readable");
    assert!(read.sections.len() <= MAX_SECTIONS);
    for (mid, _) in &own.mids {
        assert!(read.sections.iter().any(|section| section.mid == *mid));
    }
    own
}
