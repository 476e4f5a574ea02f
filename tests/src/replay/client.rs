//! A client played in a replay: a handshake, checks signed anew, media sealed anew.

use aws_lc_rs::hmac;
use dimpl::{Dtls, Output};
use sfu::media::demux::{STUN_HEADER, StunAttributes, username};
use sfu::media::transport::dtls::{Keying, Profile};
use sfu::media::transport::srtp::{self, OVERHEAD_MAX, Opener, Sealer, Side};
use sfu::rtp::header::Header;
use sfu::units::ExtSeq;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// STUN attributes that depend on the password, or on what follows from it. (RFC 8489 §14)
const INTEGRITY: u16 = 0x0008;
const FINGERPRINT: u16 = 0x8028;
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
        let (dtls, fingerprint) = association(now);
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
        (self.dtls, _) = association(now);
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
        let mut out = Vec::new();
        let mut buffer = vec![0; 4096];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(bytes) => out.push(bytes.to_vec()),
                Output::KeyingMaterial(material, profile) => {
                    let profile = match profile {
                        dimpl::SrtpProfile::AEAD_AES_128_GCM => Profile::Aes128Gcm,
                        dimpl::SrtpProfile::AEAD_AES_256_GCM => Profile::Aes256Gcm,
                        _ => Profile::Aes128CmSha1_80,
                    };
                    let keying = Keying::new(profile, &material).expect("keying material");
                    self.keys = srtp::keyed(&keying, Side::Client);
                }
                Output::Timeout(_) => return out,
                _ => {}
            }
        }
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

/// A handshake in the role of the client, and its certificate's fingerprint.
fn association(now: Instant) -> (Dtls, String) {
    let certificate = dimpl::certificate::generate_self_signed_certificate().expect("certificate");
    let fingerprint = certificate.fingerprint_str();
    let config = dimpl::Config::builder().build().expect("configuration");
    let mut dtls = Dtls::new_12(Arc::new(config), certificate, now);
    dtls.set_active(true);
    (dtls, fingerprint)
}

/// A DTLS record nobody can open.
pub(super) fn foreign_record() -> Vec<u8> {
    let mut record = vec![23, 0xFE, 0xFD, 0, 1, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 32];
    record.extend([0xA5; 32]);
    record
}

/// A check signed with the password that the plane now has for its ufrag.
pub(super) fn resigned(check: &[u8], passwords: &BTreeMap<String, String>) -> Vec<u8> {
    let Some(password) = username(check).and_then(|ufrag| passwords.get(ufrag)) else {
        return check.to_vec();
    };
    let mut message = check[..STUN_HEADER].to_vec();
    for (kind, _, value) in StunAttributes::of(check) {
        if kind != INTEGRITY && kind != FINGERPRINT {
            attribute(&mut message, kind, value);
        }
    }
    let len = message.len();
    set_length(&mut message, len + 24);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let tag = hmac::sign(&key, &message);
    attribute(&mut message, INTEGRITY, tag.as_ref());
    let len = message.len();
    set_length(&mut message, len + 8);
    let crc = crc32(&message) ^ 0x5354_554E;
    attribute(&mut message, FINGERPRINT, &crc.to_be_bytes());
    message
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend((value.len() as u16).to_be_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
    let len = message.len();
    set_length(message, len);
}

fn set_length(message: &mut [u8], total: usize) {
    message[2..4].copy_from_slice(&((total - STUN_HEADER) as u16).to_be_bytes());
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |mut crc: u32, byte: &u8| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
        crc
    };
    !bytes.iter().fold(u32::MAX, step)
}
