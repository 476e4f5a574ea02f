//! A client played in a replay: a handshake, checks signed anew, media sealed anew.

use crate::{check, shake};
use dimpl::Dtls;
use sfu::media::demux::{STUN_HEADER, StunAttributes, username};
use sfu::media::record::redact;
use sfu::media::transport::ice::stun::response::Response;
use sfu::media::transport::srtp::{OVERHEAD_MAX, Opener, Sealer};
use sfu::rtp::header::Header;
use sfu::units::ExtSeq;
use std::collections::BTreeMap;
use std::time::Instant;

/// Seeds the client's part in a handshake: the record holds none of it.
const CHANCE: u64 = 1;
/// A fingerprint nobody has.
const NOBODY: [u8; 32] = [0; 32];

/// A client's side of one connection.
pub(super) struct Client {
    dtls: Dtls,
    fingerprint: String,
    /// The fingerprint that the recorded client told first.
    recorded: Option<String>,
    greeted: bool,
    keys: Option<(Opener, Sealer)>,
    /// The newest index of each SSRC.
    newest: BTreeMap<u32, u64>,
    /// The last RTCP sent.
    control: Vec<u8>,
}

impl Client {
    pub(super) fn new(now: Instant) -> Self {
        let (dtls, fingerprint) = shake::association(CHANCE, now);
        Self {
            dtls,
            fingerprint,
            recorded: None,
            greeted: false,
            keys: None,
            newest: BTreeMap::new(),
            control: Vec::new(),
        }
    }

    /// The handshake goes on with a certificate that was never told.
    pub(super) fn pretend(&mut self, now: Instant) {
        (self.dtls, _) = shake::association(CHANCE, now);
        self.greeted = false;
    }

    /// The recorded client's description with this one's certificate. One that differs from the
    /// first stays different.
    pub(super) fn described(&mut self, sdp: &str) -> String {
        let mut out = String::new();
        for line in sdp.split_inclusive('\n') {
            let told = line.trim_end();
            match told.strip_prefix("a=fingerprint:sha-256 ") {
                None => out.push_str(line),
                Some(hex) => {
                    let first = self.recorded.get_or_insert_with(|| hex.to_owned());
                    let nobody = NOBODY.map(|byte| format!("{byte:02X}")).join(":");
                    let ours = if first == hex {
                        &self.fingerprint
                    } else {
                        &nobody
                    };
                    out.push_str(&format!("a=fingerprint:sha-256 {ours}\r\n"));
                }
            }
        }
        out
    }

    /// The first flight, once; then whatever is to be sent.
    pub(super) fn hello(&mut self, now: Instant) -> Vec<Vec<u8>> {
        if !self.greeted {
            self.greeted = true;
            self.dtls.handle_timeout(now).expect("a handshake begins");
        }
        self.flight()
    }

    /// What the handshake is to send.
    pub(super) fn flight(&mut self) -> Vec<Vec<u8>> {
        let flight = shake::flight(&mut self.dtls);
        if let Some(keying) = flight.keying {
            self.keys = shake::keyed(&keying);
        }
        flight.packets
    }

    /// A datagram from the server; only handshakes matter.
    pub(super) fn receive(&mut self, datagram: &[u8]) {
        if matches!(datagram.first(), Some(20..=63)) {
            // An alert is an error here, and what follows from it is for the plane to tell.
            let _ = self.dtls.handle_packet(datagram);
        }
    }

    /// Seals a packet of media; as it is without keys.
    pub(super) fn media(&mut self, plain: &[u8], seq: u64) -> Vec<u8> {
        let mut bytes = plain.to_vec();
        let (Some((_, sealer)), Some(header)) = (&self.keys, Header::parse(plain)) else {
            return bytes;
        };
        let newest = self.newest.entry(header.ssrc).or_insert(seq);
        *newest = seq.max(*newest);
        bytes.resize(plain.len() + OVERHEAD_MAX, 0);
        let (len, seq) = (header.header_len, ExtSeq(seq));
        let sealed = sealer.seal_rtp(len, plain.len(), seq, header.ssrc, &mut bytes);
        bytes.truncate(sealed.unwrap_or(plain.len()));
        bytes
    }

    /// Seals RTCP.
    pub(super) fn control(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut bytes = plain.to_vec();
        if let Some((_, sealer)) = &mut self.keys {
            bytes.resize(plain.len() + OVERHEAD_MAX, 0);
            let sealed = sealer.seal_rtcp(&mut bytes, plain.len());
            bytes.truncate(sealed.unwrap_or(plain.len()));
        }
        self.control.clone_from(&bytes);
        bytes
    }

    /// A datagram that the server has seen before, or has no place for.
    pub(super) fn again(&mut self, datagram: &[u8]) -> Vec<u8> {
        if datagram
            .get(1)
            .is_some_and(|kind| (192..=223).contains(kind))
        {
            return self.control.clone();
        }
        let Some(header) = Header::parse(datagram) else {
            return datagram.to_vec();
        };
        let newest = self.newest.get(&header.ssrc).copied();
        let seq = newest.map_or(u64::from(header.sequence), |newest| {
            ExtSeq(newest).nearest(header.sequence).0
        });
        self.media(datagram, seq)
    }
}

/// A DTLS record nobody can open.
pub(super) fn foreign_record() -> Vec<u8> {
    let mut record = vec![23, 0xFE, 0xFD, 0, 1, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 32];
    record.extend([0xA5; 32]);
    record
}

/// A check signed with the password that the plane now has for its ufrag.
pub(super) fn resigned(
    recorded: &[u8],
    passwords: &BTreeMap<String, String>,
    secrets: bool,
) -> Vec<u8> {
    let password = if Response::is_one(recorded) {
        // To a question, which was signed with what the client's description says here.
        Some(redact::PASSWORD).filter(|_| !secrets)
    } else {
        let known = username(recorded).and_then(|ufrag| passwords.get(ufrag));
        known.map(String::as_str)
    };
    let Some(password) = password else {
        return recorded.to_vec();
    };
    let mut message = recorded[..STUN_HEADER].to_vec();
    for (kind, _, value) in StunAttributes::of(recorded) {
        if kind != check::INTEGRITY && kind != check::FINGERPRINT {
            check::attribute(&mut message, kind, value);
        }
    }
    check::sign(&mut message, password);
    message
}
