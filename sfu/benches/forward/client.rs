//! A WebRTC client without sockets: checks, handshake, SRTP, enough SDP. Drives a [`Plane`] directly.

use aws_lc_rs::hmac;
use dimpl::{Config, Dtls, Output};
use sfu::ids::PeerId;
use sfu::media::demux::{Carrier, Path};
use sfu::media::transport::dtls::{Keying, Profile};
use sfu::media::transport::srtp::{self, Opener, Sealer, Side};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// What all clients share: building it is slow.
pub(crate) struct Shared {
    config: Arc<Config>,
    certificate: dimpl::DtlsCertificate,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            config: Arc::new(Config::builder().build().expect("DTLS configuration")),
            certificate: dimpl::certificate::generate_self_signed_certificate()
                .expect("certificate"),
        }
    }
}

/// One client.
pub(crate) struct Client {
    pub(crate) peer: PeerId,
    pub(crate) path: Path,
    ufrag: String,
    remote: Option<(String, String)>,
    dtls: Dtls,
    fingerprint: String,
    pub(crate) srtp: Option<(Opener, Sealer)>,
}

impl Client {
    pub(crate) fn new(shared: &Shared, slot: u32, now: Instant) -> Self {
        let mut dtls = Dtls::new_12(Arc::clone(&shared.config), shared.certificate.clone(), now);
        dtls.set_active(true);
        let ip = Ipv4Addr::from(0x0A00_0001_u32.wrapping_add(slot));
        Self {
            peer: PeerId {
                worker: 0,
                slot,
                generation: 0,
            },
            path: Path {
                carrier: Carrier::Udp(0),
                local: None,
                port: 0,
                remote: SocketAddr::from((ip, 40_000)),
            },
            ufrag: format!("client{slot}"),
            remote: None,
            dtls,
            fingerprint: shared.certificate.fingerprint_str(),
            srtp: None,
        }
    }

    /// An offer with these media sections, each `(mid, rest of the section)`.
    pub(crate) fn offer(&self, sections: &[(&str, &str)]) -> String {
        let mids: Vec<&str> = sections.iter().map(|(mid, _)| *mid).collect();
        let mut sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\na=extmap-allow-mixed\r\n",
            mids.join(" ")
        );
        for (mid, section) in sections {
            sdp.push_str(section);
            sdp.push_str(&format!(
                "c=IN IP4 0.0.0.0\r\na=mid:{mid}\r\na=rtcp-mux\r\na=setup:actpass\r\na=ice-ufrag:{}\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 {}\r\n",
                self.ufrag, self.fingerprint
            ));
        }
        sdp
    }

    /// Takes the server's credentials from its answer.
    pub(crate) fn read_answer(&mut self, sdp: &str) {
        let value = |name: &str| {
            sdp.lines()
                .find_map(|line| line.strip_prefix(name))
                .expect("answer has credentials")
                .to_owned()
        };
        self.remote = Some((value("a=ice-ufrag:"), value("a=ice-pwd:")));
    }

    /// A nominating connectivity check.
    pub(crate) fn check(&self) -> Vec<u8> {
        let (ufrag, pwd) = self.remote.as_ref().expect("answered");
        let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
        message.extend([7; 12]);
        attribute(
            &mut message,
            0x0006,
            format!("{ufrag}:{}", self.ufrag).as_bytes(),
        );
        attribute(&mut message, 0x0024, &0x6E00_01FF_u32.to_be_bytes());
        attribute(&mut message, 0x802A, &1_u64.to_be_bytes());
        attribute(&mut message, 0x0025, &[]);
        let len = message.len();
        set_length(&mut message, len + 24);
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, pwd.as_bytes());
        let tag = hmac::sign(&key, &message);
        attribute(&mut message, 0x0008, tag.as_ref());
        let len = message.len();
        set_length(&mut message, len + 8);
        let crc = crc32(&message) ^ 0x5354_554E;
        attribute(&mut message, 0x8028, &crc.to_be_bytes());
        message
    }

    /// What the handshake wants to send now.
    pub(crate) fn handshake(&mut self, now: Instant) -> Vec<Vec<u8>> {
        self.dtls.handle_timeout(now).expect("handshake");
        self.drain()
    }

    /// Takes a datagram of the handshake; returns the replies.
    pub(crate) fn handle_dtls(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        self.dtls.handle_packet(datagram).expect("handshake");
        self.drain()
    }

    fn drain(&mut self) -> Vec<Vec<u8>> {
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
                    self.srtp = srtp::keyed(&keying, Side::Client);
                }
                Output::Timeout(_) => return out,
                _ => {}
            }
        }
    }
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend((value.len() as u16).to_be_bytes());
    message.extend(value);
    while !message.len().is_multiple_of(4) {
        message.push(0);
    }
    let len = message.len();
    set_length(message, len);
}

fn set_length(message: &mut [u8], total: usize) {
    message[2..4].copy_from_slice(&((total - 20) as u16).to_be_bytes());
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
