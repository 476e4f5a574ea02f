//! Opens what a server sends to one connection of the world, and judges it by the invariants.
//!
//! Owns a second set of keys, so that a packet is judged as it left, before a road can lose it, and
//! which streams repeat which. Decides no rule itself. Called by the world for each datagram.

use super::invariants::{Broken, Invariant, Invariants, Report, Sent, Wish, broken};
use super::source::Truth;
use sfu::media::transport::srtp::{Opener, Refused};
use sfu::rtp::header::Header;
use sfu::rtp::rtcp::{self, Packet, ReportBlock, SenderInfo};
use sfu::rtp::vp8::Descriptor;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Datagrams kept while the server has the keys and the client has not.
const EARLY_MAX: usize = 16_384;
/// Shortest time between two key pictures asked for of one stream. (LK: sfu-media §8.15)
const KEY_APART: Duration = Duration::from_millis(500);

/// What the server's description says of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    /// The stream it repeats, if it does.
    pub repeats: Option<u32>,
    /// VP8 is in it.
    pub vp8: bool,
    /// Ticks of its RTP clock in a second.
    pub clock_rate: u32,
    /// Whose it is: streams of one publisher have one number here.
    pub group: u32,
    /// What the subscriber said it wants of it.
    pub wish: Option<Wish>,
}

/// What a datagram told whom it went to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// A key picture was asked for.
    pub key_asked: bool,
    /// Receiver reports.
    pub blocks: Vec<ReportBlock>,
}

/// The newest packet of a stream, to which a sender report is held.
#[derive(Debug, Clone, Copy)]
struct Newest {
    timestamp: u32,
    captured_us: u32,
    clock_rate: u32,
    group: u32,
}

/// One connection's judge.
#[derive(Default)]
pub struct Watch {
    opener: Option<Opener>,
    early: Vec<Vec<u8>>,
    rules: Invariants,
    /// The newest full number of each stream.
    newest: BTreeMap<u32, u64>,
    /// Of streams that nobody had named: the newest index sent.
    unnamed: BTreeMap<u32, u64>,
    captures: BTreeMap<u32, Newest>,
    /// Packets judged.
    pub judged: u64,
    /// Sender reports judged.
    pub reports: u64,
}

impl Watch {
    /// The keys are there.
    pub fn key(&mut self, opener: Opener) {
        self.opener = Some(opener);
        self.rules.set_ready(true);
    }

    /// Nothing may be sent any more.
    pub const fn close(&mut self) {
        self.rules.set_ready(false);
    }

    /// The end: so many packets in all were lost on their way to the server.
    ///
    /// # Errors
    /// A stream has more holes than that.
    pub fn finish(&self, lost: u64) -> Result<(), Broken> {
        self.newest
            .keys()
            .try_for_each(|ssrc| self.rules.close(*ssrc, lost))
    }

    /// Somebody was asked for a key picture: what is missing is being mended.
    pub fn mended(&mut self) {
        self.rules.mended();
    }

    /// A datagram leaves the server: what it told.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub fn sent(
        &mut self,
        datagram: &[u8],
        named: impl Fn(&Header) -> Option<Named>,
        now: Instant,
    ) -> Result<Told, Broken> {
        let mut told = Told::default();
        if !matches!(datagram.first(), Some(128..=191)) {
            return Ok(told);
        }
        if self.early.len() < EARLY_MAX {
            self.early.push(datagram.to_vec());
        }
        let Some(mut opener) = self.opener.take() else {
            return Ok(told);
        };
        let mut all = Ok(());
        for datagram in std::mem::take(&mut self.early) {
            let one = self.open(&mut opener, datagram, &named, now);
            all = all.and(one.map(|one| told.add(one)));
        }
        self.opener = Some(opener);
        self.rules.poll(now)?;
        all.map(|()| told)
    }

    fn open(
        &mut self,
        opener: &mut Opener,
        mut bytes: Vec<u8>,
        named: impl Fn(&Header) -> Option<Named>,
        now: Instant,
    ) -> Result<Told, Broken> {
        if matches!(bytes.get(1), Some(192..=223)) {
            return match opener.open_rtcp(&mut bytes) {
                Ok(len) => self.controls(&bytes[..len], now),
                Err(refused) => broken(Invariant::Authentic, format!("RTCP: {refused:?}"))
                    .map(|()| Told::default()),
            };
        }
        let Some(header) = Header::parse(&bytes) else {
            return Ok(Told::default());
        };
        let opened = opener.open_rtp(header.header_len, header.ssrc, header.sequence, &mut bytes);
        match (opened, named(&header)) {
            (Ok(opened), Some(named)) => {
                let payload = &bytes[header.header_len..opened.len];
                self.judge(&header, opened.seq.0, payload, named, now)?;
            }
            // The client has not been told of the stream yet.
            (Ok(opened), None) => {
                let newest = self.unnamed.entry(header.ssrc).or_default();
                *newest = (*newest).max(opened.seq.0);
            }
            // What is sent again as it was; `checks` sees whether it was.
            (Err(Refused::Replay), _) => {}
            (Err(refused), _) => {
                let what = format!(
                    "stream {:08x}, {}: {refused:?}",
                    header.ssrc, header.sequence
                );
                broken(Invariant::Authentic, what)?;
            }
        }
        Ok(Told::default())
    }

    fn judge(
        &mut self,
        header: &Header,
        index: u64,
        payload: &[u8],
        named: Named,
        now: Instant,
    ) -> Result<(), Broken> {
        let (ssrc, index, payload) = match (named.repeats, payload.split_first_chunk::<2>()) {
            (Some(ssrc), Some((original, rest))) => {
                let newest = self.newest.get(&ssrc).copied().unwrap_or_default();
                let original = sfu::units::ExtSeq(newest).nearest(u16::from_be_bytes(*original));
                (ssrc, original.0, rest)
            }
            // Padding alone, to probe.
            (Some(_), None) => return Ok(()),
            (None, _) => (header.ssrc, index, payload),
        };
        // A stream is judged from its first packet on that was named when it was sent.
        let before = self.unnamed.get(&ssrc).is_some_and(|last| index <= *last);
        if before {
            return Ok(());
        }
        if named.repeats.is_none() {
            let newest = self.newest.entry(ssrc).or_default();
            *newest = (*newest).max(index);
        }
        let vp8 = named.vp8 && Descriptor::parse(payload).is_some();
        // The truth inside carries a sum over the whole: only its publisher can have written it.
        let truth = Truth::read(payload).filter(|truth| truth.whole);
        if let Some(truth) = truth {
            self.rules.published(payload, vp8);
            if named.repeats.is_none() {
                let newest = Newest {
                    timestamp: header.timestamp,
                    captured_us: truth.captured_us,
                    clock_rate: named.clock_rate,
                    group: named.group,
                };
                self.captures.insert(ssrc, newest);
            }
        }
        if let Some(wish) = named.wish {
            self.rules.wish(ssrc, wish);
        }
        self.judged += 1;
        let sent = Sent {
            ssrc,
            index,
            timestamp: header.timestamp,
            marker: header.marker,
            payload: payload.to_vec(),
            repeats: named.repeats.is_some(),
            vp8,
            layer: truth.map(|truth| truth.layer),
        };
        self.rules.sent(&sent, now)
    }

    fn controls(&mut self, compound: &[u8], now: Instant) -> Result<Told, Broken> {
        let mut told = Told::default();
        for packet in rtcp::packets(compound).flatten() {
            match packet {
                Packet::PictureLoss { media, .. } => {
                    told.key_asked = true;
                    self.rules.key_asked(media, KEY_APART, now)?;
                }
                Packet::SenderReport { ssrc, info, blocks } => {
                    told.blocks.extend(blocks);
                    self.reports(ssrc, &info)?;
                }
                Packet::ReceiverReport { blocks, .. } => told.blocks.extend(blocks),
                _ => {}
            }
        }
        Ok(told)
    }

    /// A sender report of a stream of which nothing has been sent yet says nothing of it.
    fn reports(&mut self, ssrc: u32, info: &SenderInfo) -> Result<(), Broken> {
        let Some(newest) = self.captures.get(&ssrc) else {
            return Ok(());
        };
        self.reports += 1;
        let report = Report {
            group: newest.group,
            ntp: info.ntp,
            rtp: info.rtp,
            clock_rate: newest.clock_rate,
            timestamp: newest.timestamp,
            captured_s: f64::from(newest.captured_us) / 1e6,
        };
        self.rules.reported(ssrc, &report)
    }
}

impl Told {
    fn add(&mut self, other: Self) {
        self.key_asked |= other.key_asked;
        self.blocks.extend(other.blocks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sfu::media::transport::dtls::{Keying, Profile};
    use sfu::media::transport::srtp::{self, OVERHEAD_MAX, Side};
    use sfu::units::ExtSeq;

    /// A watch, and what a server with the same keys sends: an empty payload, which no other rule is for.
    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
    fn told(spoil: impl FnOnce(&mut Vec<u8>)) -> Option<Invariant> {
        let keying = Keying::new(Profile::Aes128Gcm, &[7; 56]).expect("keys");
        let (opener, _) = srtp::keyed(&keying, Side::Client).expect("keys");
        let (_, sealer) = srtp::keyed(&keying, Side::Server).expect("keys");
        let mut watch = Watch::default();
        watch.key(opener);
        let mut packet = vec![0x80, 96, 0, 9, 0, 0, 0, 1, 0, 0, 0, 5];
        let len = packet.len();
        packet.resize(len + OVERHEAD_MAX, 0);
        let sealed = sealer.seal_rtp(len, len, ExtSeq(9), 5, &mut packet);
        packet.truncate(sealed.expect("room"));
        spoil(&mut packet);
        let named = |_: &Header| {
            Some(Named {
                repeats: None,
                vp8: false,
                clock_rate: 90_000,
                group: 0,
                wish: None,
            })
        };
        let told = watch.sent(&packet, named, Instant::now());
        told.err().map(|broken| broken.invariant)
    }

    #[test]
    fn what_its_receiver_cannot_open_is_told() {
        assert_eq!(told(|_| ()), None);
        let forged = told(|packet| *packet.last_mut().expect("a tag") ^= 1);
        assert_eq!(forged, Some(Invariant::Authentic));
    }
}
