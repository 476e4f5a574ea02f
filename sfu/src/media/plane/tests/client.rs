//! A WebRTC client in memory: checks, handshake, SRTP, enough SDP. It keeps what it is sent.

use crate::ids::PeerId;
use crate::media::demux::{Carrier, Path};
use crate::media::transport::dtls::{Keying, Profile};
use crate::media::transport::srtp::{self, Opener, Sealer, Side};
use crate::rtp::header::Header;
use crate::units::ExtSeq;
use aws_lc_rs::hmac;
use dimpl::{Dtls, Output};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Instant;

/// A packet the client was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) ssrc: u32,
    pub(super) payload_type: u8,
    pub(super) seq: u16,
    pub(super) time: u32,
    pub(super) marker: bool,
    pub(super) payload: Vec<u8>,
    /// As it came.
    pub(super) sealed: Vec<u8>,
}

/// One client.
pub(super) struct Client {
    pub(super) peer: PeerId,
    pub(super) path: Path,
    pub(super) ufrag: String,
    pub(super) fingerprint: String,
    /// Media sections of its offers: mid and body.
    pub(super) sections: Vec<(String, String)>,
    pub(super) answer: String,
    dtls: Dtls,
    pub(super) srtp: Option<(Opener, Sealer)>,
    pub(super) media: Vec<Received>,
    /// RTCP datagrams, opened.
    pub(super) control: Vec<Vec<u8>>,
    /// STUN messages: kind of each.
    pub(super) checks: Vec<u16>,
    /// Where it sees the server, if it answers checks.
    pub(super) sees: Option<SocketAddrV4>,
    /// The extended number to send next, for each SSRC.
    next: BTreeMap<u32, u64>,
}

const PASSWORD: &str = "abcdefghijklmnopqrstuvwx";

impl Client {
    pub(super) fn new(slot: u32, now: Instant) -> Self {
        Self::at(slot, IpAddr::V4(Ipv4Addr::from(0x0A00_0001 + slot)), now)
    }

    pub(super) fn at(slot: u32, ip: IpAddr, now: Instant) -> Self {
        let certificate =
            dimpl::certificate::generate_self_signed_certificate().expect("certificate");
        let fingerprint = certificate.fingerprint_str();
        let config = dimpl::Config::builder().build().expect("configuration");
        let mut dtls = Dtls::new_12(Arc::new(config), certificate, now);
        dtls.set_active(true);
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
            fingerprint,
            sections: Vec::new(),
            answer: String::new(),
            dtls,
            srtp: None,
            media: Vec::new(),
            control: Vec::new(),
            checks: Vec::new(),
            sees: None,
            next: BTreeMap::new(),
        }
    }

    /// The offer with its sections.
    pub(super) fn offer(&self) -> String {
        let mids: Vec<&str> = self.sections.iter().map(|(mid, _)| mid.as_str()).collect();
        let mut sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\na=extmap-allow-mixed\r\n",
            mids.join(" ")
        );
        for (mid, section) in &self.sections {
            sdp.push_str(section);
            sdp.push_str(&format!(
                "c=IN IP4 0.0.0.0\r\na=mid:{mid}\r\na=rtcp-mux\r\na=setup:actpass\r\na=ice-ufrag:{}\r\na=ice-pwd:{PASSWORD}\r\na=fingerprint:sha-256 {}\r\n",
                self.ufrag, self.fingerprint
            ));
        }
        sdp
    }

    fn answered(&self, name: &str) -> &str {
        let line = self.answer.lines().find_map(|line| line.strip_prefix(name));
        line.expect("answered")
    }

    /// A connectivity check with the credentials last answered.
    pub(super) fn check(&self, nominate: bool) -> Vec<u8> {
        let names = (self.answered("a=ice-ufrag:"), self.answered("a=ice-pwd:"));
        self.check_as(names, nominate)
    }

    /// A connectivity check with these credentials.
    pub(super) fn check_as(&self, (ufrag, pwd): (&str, &str), nominate: bool) -> Vec<u8> {
        let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
        message.extend([7; 12]);
        let username = format!("{ufrag}:{}", self.ufrag);
        attribute(&mut message, 0x0006, username.as_bytes());
        attribute(&mut message, 0x0024, &0x6E00_01FF_u32.to_be_bytes());
        attribute(&mut message, 0x802A, &1_u64.to_be_bytes());
        if nominate {
            attribute(&mut message, 0x0025, &[]);
        }
        sign(&mut message, pwd);
        message
    }

    /// Where it sees the server, of IPv4, in answer to a check by that.
    fn answer_check(sees: SocketAddrV4, check: &[u8]) -> Vec<u8> {
        let mut message = vec![1, 1, 0, 0];
        message.extend(&check[4..20]);
        let mut mapped = vec![0, 1];
        mapped.extend((sees.port() ^ 0x2112).to_be_bytes());
        mapped.extend((sees.ip().to_bits() ^ 0x2112_A442).to_be_bytes());
        attribute(&mut message, 0x0020, &mapped);
        sign(&mut message, PASSWORD);
        message
    }

    /// What the handshake wants to send at this time.
    pub(super) fn handshake(&mut self, now: Instant) -> Vec<Vec<u8>> {
        self.dtls.handle_timeout(now).expect("handshake");
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

    /// Takes a datagram from the server; returns what the handshake replies.
    pub(super) fn receive(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        match datagram.first() {
            Some(0..=3) => {
                let kind = u16::from_be_bytes([datagram[0], datagram[1]]);
                self.checks.push(kind);
                if let Some(sees) = self.sees.filter(|_| kind == 1) {
                    return vec![Self::answer_check(sees, datagram)];
                }
            }
            Some(20..=63) => {
                // An alert after a refused certificate is an error here.
                if self.dtls.handle_packet(datagram).is_ok() {
                    return self.drain();
                }
            }
            _ if (192..=223).contains(&datagram[1]) => {
                let (opener, _) = self.srtp.as_mut().expect("keys");
                let mut bytes = datagram.to_vec();
                let len = opener.open_rtcp(&mut bytes).expect("authentic RTCP");
                bytes.truncate(len);
                self.control.push(bytes);
            }
            _ => self.receive_media(datagram),
        }
        Vec::new()
    }

    fn receive_media(&mut self, datagram: &[u8]) {
        let (opener, _) = self.srtp.as_mut().expect("keys");
        let header = Header::parse(datagram).expect("RTP");
        let mut bytes = datagram.to_vec();
        let opened = opener.open_rtp(header.header_len, header.ssrc, header.sequence, &mut bytes);
        // A packet sent again without RTX is a replay for SRTP; its bytes tell all there is.
        let payload = opened.map_or_else(
            |_| Vec::new(),
            |opened| bytes[header.header_len..opened.len].to_vec(),
        );
        self.media.push(Received {
            ssrc: header.ssrc,
            payload_type: header.payload_type,
            seq: header.sequence,
            time: header.timestamp,
            marker: header.marker,
            payload,
            sealed: datagram.to_vec(),
        });
    }

    /// Seals an RTP packet with one-byte header extensions; its number is the next of the SSRC.
    pub(super) fn rtp(&mut self, packet: &Rtp<'_>) -> Vec<u8> {
        let next = self.next.entry(packet.ssrc).or_insert(1000);
        let seq = *next;
        *next += 1;
        let mut bytes = vec![0x80, packet.payload_type | (u8::from(packet.marker) << 7)];
        bytes.extend((seq as u16).to_be_bytes());
        bytes.extend(packet.time.to_be_bytes());
        bytes.extend(packet.ssrc.to_be_bytes());
        if !packet.extensions.is_empty() {
            bytes[0] |= 0x10;
            let mut block = Vec::new();
            for (id, data) in packet.extensions {
                block.push((id << 4) | (data.len() as u8 - 1));
                block.extend(*data);
            }
            block.resize(block.len().next_multiple_of(4), 0);
            bytes.extend([0xBE, 0xDE]);
            bytes.extend(((block.len() / 4) as u16).to_be_bytes());
            bytes.extend(block);
        }
        let header = bytes.len();
        bytes.extend(packet.payload);
        let plain = bytes.len();
        bytes.resize(plain + srtp::OVERHEAD_MAX, 0);
        let (_, sealer) = self.srtp.as_ref().expect("keys");
        let len = sealer.seal_rtp(header, plain, ExtSeq(seq), packet.ssrc, &mut bytes);
        bytes.truncate(len.expect("sealed"));
        bytes
    }

    /// Leaves numbers out, as if their packets were lost.
    pub(super) fn lose(&mut self, ssrc: u32, count: u64) {
        *self.next.entry(ssrc).or_insert(1000) += count;
    }

    /// Seals an RTCP compound.
    pub(super) fn rtcp(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut bytes = plain.to_vec();
        bytes.resize(plain.len() + srtp::OVERHEAD_MAX, 0);
        let (_, sealer) = self.srtp.as_mut().expect("keys");
        let len = sealer.seal_rtcp(&mut bytes, plain.len()).expect("sealed");
        bytes.truncate(len);
        bytes
    }
}

/// What [`Client::rtp`] is to send.
#[derive(Clone, Copy, Default)]
pub(super) struct Rtp<'a> {
    pub(super) ssrc: u32,
    pub(super) payload_type: u8,
    pub(super) time: u32,
    pub(super) marker: bool,
    pub(super) extensions: &'a [(u8, &'a [u8])],
    pub(super) payload: &'a [u8],
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

fn sign(message: &mut Vec<u8>, pwd: &str) {
    let len = message.len();
    set_length(message, len + 24);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, pwd.as_bytes());
    let tag = hmac::sign(&key, message);
    attribute(message, 0x0008, tag.as_ref());
    let len = message.len();
    set_length(message, len + 8);
    let crc = crc32(message) ^ 0x5354_554E;
    attribute(message, 0x8028, &crc.to_be_bytes());
}
