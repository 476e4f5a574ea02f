//! A plane with clients around it, in virtual time.

use super::client::{Client, Received, Rtp};
use crate::config::codecs::{Codec, h264};
use crate::ids::{MediaKind, TrackKey};
use crate::media::message::{Command, Event, PeerSetup, StreamLabel, TrackSpec, Wish};
use crate::media::plane::{Plane, Progress, Setup};
use crate::media::transport::candidates::Candidate;
use crate::media::transport::dtls;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) const AUDIO_SSRC: u32 = 0x1111_1111;
pub(super) const VIDEO_SSRC: u32 = 0x2222_2222;
pub(super) const RTX_SSRC: u32 = 0x3333_3333;
/// More passes than this in one advance are a busy loop.
const PASSES_MAX: usize = 20_000;

pub(super) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn audio(direction: &str) -> String {
    format!(
        "m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=rtcp-fb:111 nack\r\na=rtcp-fb:111 transport-cc\r\na=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n{EXTENSIONS}a={direction}\r\n"
    )
}

pub(super) fn audio_without_red(direction: &str) -> String {
    format!(
        "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 nack\r\n{EXTENSIONS}a={direction}\r\n"
    )
}

pub(super) fn video(direction: &str) -> String {
    format!(
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:96 ccm fir\r\na=rtcp-fb:96 transport-cc\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n{EXTENSIONS}a={direction}\r\n"
    )
}

/// VP8, then H264 in constrained baseline, both modes, and in high; each with its RTX.
pub(super) fn video_of_two_codecs(direction: &str) -> String {
    let mut section = "m=video 9 UDP/TLS/RTP/SAVPF 96 97 108 109 125 126 123 124\r\n".to_owned();
    for (media, rtx, name, fmtp) in [
        (96, 97, "VP8", ""),
        (
            108,
            109,
            "H264",
            "packetization-mode=1;profile-level-id=42e01f",
        ),
        (
            125,
            126,
            "H264",
            "packetization-mode=0;profile-level-id=42e01f",
        ),
        (
            123,
            124,
            "H264",
            "packetization-mode=1;profile-level-id=640032",
        ),
    ] {
        section += &format!(
            "a=rtpmap:{media} {name}/90000\r\na=rtcp-fb:{media} nack\r\na=rtcp-fb:{media} nack pli\r\n"
        );
        if !fmtp.is_empty() {
            section += &format!("a=fmtp:{media} {fmtp}\r\n");
        }
        section += &format!("a=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={media}\r\n");
    }
    format!("{section}{EXTENSIONS}a={direction}\r\n")
}

pub(super) const MID: u8 = 1;
pub(super) const RID: u8 = 2;
pub(super) const TRANSPORT_CC: u8 = 4;
const EXTENSIONS: &str = "a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=extmap:2 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\na=extmap:3 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\na=extmap:4 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n";

/// A publisher's section, recognised by mid only.
pub(super) fn sending(section: &str, cid: &str) -> String {
    format!("{section}a=msid:- {cid}\r\n")
}

pub(super) fn simulcast(cid: &str) -> String {
    in_three_layers(&video("sendonly"), cid)
}

pub(super) fn in_three_layers(section: &str, cid: &str) -> String {
    let rids = "a=rid:q send\r\na=rid:h send\r\na=rid:f send\r\na=simulcast:send q;h;f\r\n";
    format!("{section}a=msid:- {cid}\r\n{rids}")
}

/// A VP8 payload with a 15-bit picture id.
pub(super) fn vp8(picture: u16, key_frame: bool, bytes: usize) -> Vec<u8> {
    let mut payload = vec![0x90, 0x80, 0x80 | (picture >> 8) as u8, picture as u8];
    payload.push(u8::from(!key_frame));
    payload.extend([0, 0, 0x9D, 0x01, 0x2A, 0x80, 0x02, 0x68, 0x01]);
    payload.resize(bytes.max(payload.len()), 0x5A);
    payload
}

pub(super) struct World {
    pub(super) plane: Plane,
    pub(super) now: Instant,
    pub(super) clients: Vec<Client>,
    pub(super) events: Vec<Event>,
    /// Calls of `handle_timeout` so far.
    pub(super) passes: usize,
    /// Datagrams with these running numbers are lost in both directions.
    pub(super) loses: fn(usize) -> bool,
    /// Clients that join from now on know of packet trailers.
    pub(super) reads_trailers: bool,
    carried: usize,
}

impl World {
    pub(super) fn new() -> Self {
        let setup = Setup {
            dtls: Arc::new(dtls::Shared::new().expect("certificate")),
            advertised: vec![
                Candidate::udp(SocketAddr::from(([127, 0, 0, 1], 7882))),
                Candidate::udp(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 7882))),
                Candidate::tcp(SocketAddr::from(([127, 0, 0, 1], 7881))),
            ],
            node: 0,
            process: 0,
            worker: 0,
            track: Default::default(),
            inquiring: false,
        };
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for a test")]
        let now = Instant::now();
        Self {
            plane: Plane::new(setup, [7; 32]),
            now,
            clients: Vec::new(),
            events: Vec::new(),
            passes: 0,
            loses: |_| false,
            reads_trailers: false,
            carried: 0,
        }
    }

    pub(super) fn command(&mut self, command: Command) {
        self.plane.handle_command(command, self.now);
        self.flush();
    }

    /// Adds a client that has not offered.
    pub(super) fn add(&mut self) -> usize {
        let slot = self.clients.len() as u32;
        self.add_client(Client::new(slot, self.now))
    }

    pub(super) fn add_client(&mut self, client: Client) -> usize {
        let setup = PeerSetup {
            publish: Codec::ALL.to_vec(),
            subscribe: Codec::ALL.to_vec(),
            h264: h264::Parameters::DEFAULT.to_vec(),
            reads_trailers: self.reads_trailers,
            one_codec_per_section: false,
            outside_only: false,
            subscriber: None,
        };
        let peer = client.peer;
        self.clients.push(client);
        self.command(Command::AddPeer { peer, setup });
        self.clients.len() - 1
    }

    /// A connected client with these sections, mids counting from 0.
    pub(super) fn join(&mut self, sections: &[String]) -> usize {
        let who = self.add();
        for section in sections {
            let mid = self.clients[who].sections.len().to_string();
            self.clients[who].sections.push((mid, section.clone()));
        }
        self.offer(who);
        self.check(who, true);
        self.shake(who);
        assert!(self.clients[who].srtp.is_some(), "handshake done");
        who
    }

    pub(super) fn offer(&mut self, who: usize) {
        let client = &self.clients[who];
        let (peer, sdp) = (client.peer, client.offer());
        self.command(Command::Offer { peer, id: 1, sdp });
        for event in &self.events {
            if let Event::Answer(answer) = event
                && answer.peer == peer
            {
                self.clients[who].answer.clone_from(&answer.sdp);
            }
        }
    }

    pub(super) fn check(&mut self, who: usize, nominate: bool) {
        let check = self.clients[who].check(nominate);
        self.send(who, vec![check]);
    }

    /// The client's handshake timers run now.
    pub(super) fn shake(&mut self, who: usize) {
        let flight = self.clients[who].handshake(self.now);
        self.send(who, flight);
    }

    pub(super) fn send(&mut self, who: usize, datagrams: Vec<Vec<u8>>) {
        let path = self.clients[who].path;
        for mut datagram in datagrams {
            if !self.is_lost() {
                self.plane.handle_datagram(path, &mut datagram, self.now);
            }
        }
        self.flush();
    }

    fn is_lost(&mut self) -> bool {
        self.carried += 1;
        (self.loses)(self.carried)
    }

    /// Carries what the plane sends to the clients, and their replies back.
    pub(super) fn flush(&mut self) {
        loop {
            let progress = self.plane.fan_out(self.now);
            let replies = self.deliver();
            let idle = replies.is_empty();
            for (path, mut datagram) in replies {
                if !self.is_lost() {
                    self.plane.handle_datagram(path, &mut datagram, self.now);
                }
            }
            if progress == Progress::Done && idle {
                break;
            }
        }
        self.events
            .extend(std::iter::from_fn(|| self.plane.poll_event()));
    }

    /// Hands the arena to the clients; what they reply.
    pub(super) fn deliver(&mut self) -> Vec<(crate::media::demux::Path, Vec<u8>)> {
        let mut sent = Vec::new();
        for run in self.plane.outgoing() {
            let packets = run.bytes.chunks(run.segment).map(<[u8]>::to_vec);
            sent.extend(packets.map(|packet| (run.to, packet)));
        }
        self.plane.sent();
        let mut replies = Vec::new();
        for (path, packet) in sent {
            if self.is_lost() {
                continue;
            }
            if let Some(client) = self.clients.iter_mut().find(|client| client.path == path) {
                let more = client.receive(&packet);
                replies.extend(more.into_iter().map(|datagram| (path, datagram)));
            }
        }
        replies
    }

    /// Lets time pass, doing what the plane asks for when it asks for it.
    pub(super) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        let mut passes = 0;
        while let Some(at) = self.plane.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            while let Some((path, mut datagram)) = self.plane.poll_waiting(self.now) {
                self.plane.handle_datagram(path, &mut datagram, self.now);
            }
            self.plane.handle_timeout(self.now);
            self.flush();
            passes += 1;
            assert!(passes < PASSES_MAX, "a busy loop");
        }
        self.passes += passes;
        self.now = end;
    }

    /// Keeps the consent of everybody while time passes.
    pub(super) fn live(&mut self, by: Duration) {
        let end = self.now + by;
        while self.now < end {
            for who in 0..self.clients.len() {
                if self.clients[who].srtp.is_some() {
                    self.check(who, true);
                }
            }
            self.advance(ms(2000).min(end - self.now));
        }
    }

    pub(super) fn key(&self, who: usize, index: u32) -> TrackKey {
        TrackKey {
            peer: self.clients[who].peer,
            index,
        }
    }

    pub(super) fn announce(&mut self, who: usize, index: u32, codec: Codec, cid: &str) -> TrackKey {
        self.announce_as(who, index, (codec, false), cid)
    }

    pub(super) fn announce_encrypted(
        &mut self,
        who: usize,
        index: u32,
        codec: Codec,
        cid: &str,
    ) -> TrackKey {
        self.announce_as(who, index, (codec, true), cid)
    }

    fn announce_as(
        &mut self,
        who: usize,
        index: u32,
        (codec, encrypted): (Codec, bool),
        cid: &str,
    ) -> TrackKey {
        let track = self.key(who, index);
        let spec = TrackSpec {
            kind: codec.kind(),
            cids: vec![cid.into()],
            codec: Some(codec),
            red: codec.kind() == MediaKind::Audio,
            dtx: codec.kind() == MediaKind::Audio,
            stereo: false,
            screen_share: false,
            encrypted,
            trailers: true,
            muted: false,
            layers: Vec::new(),
        };
        self.command(Command::Publish { track, spec });
        track
    }

    /// Asks for a track; the answer to the next offer binds it.
    pub(super) fn subscribe(&mut self, who: usize, track: TrackKey) {
        let label = StreamLabel {
            stream_id: "PA_a|TR_a".into(),
            track_id: "TR_a".into(),
        };
        self.command(Command::Subscribe {
            peer: self.clients[who].peer,
            track,
            label,
            wish: Wish::ALL,
        });
    }

    pub(super) fn wish(&mut self, who: usize, track: TrackKey, wish: Wish) {
        let peer = self.clients[who].peer;
        self.command(Command::SetWish { peer, track, wish });
    }

    /// A publisher of audio that has started.
    pub(super) fn speaker(&mut self) -> (usize, TrackKey) {
        let who = self.join(&[sending(&audio("sendonly"), "mic")]);
        let track = self.announce(who, 0, Codec::Opus, "mic");
        self.speak(who, 0);
        (who, track)
    }

    /// A publisher of video that has started.
    pub(super) fn camera(&mut self) -> (usize, TrackKey) {
        let ssrcs = format!(
            "a=ssrc-group:FID {VIDEO_SSRC} {RTX_SSRC}\r\na=ssrc:{VIDEO_SSRC} cname:a\r\na=ssrc:{RTX_SSRC} cname:a\r\n"
        );
        let section = sending(&video("sendonly"), "cam") + &ssrcs;
        let who = self.join(&[section]);
        let track = self.announce(who, 0, Codec::Vp8, "cam");
        self.film(who, 0, true);
        (who, track)
    }

    /// A packet of speech, by mid.
    pub(super) fn speak(&mut self, who: usize, at: u32) {
        self.say(who, at, 111, b"speech");
    }

    pub(super) fn say(&mut self, who: usize, at: u32, payload_type: u8, payload: &[u8]) {
        let packet = self.clients[who].rtp(&Rtp {
            ssrc: AUDIO_SSRC,
            payload_type,
            time: at.wrapping_mul(960),
            extensions: &[(MID, b"0")],
            payload,
            ..Rtp::default()
        });
        self.send(who, vec![packet]);
    }

    /// A frame of one packet, by the SSRC of the offer.
    pub(super) fn film(&mut self, who: usize, frame: u32, key_frame: bool) {
        let payload = vp8(frame as u16 & 0x7FFF, key_frame, 100);
        let packet = self.clients[who].rtp(&Rtp {
            ssrc: VIDEO_SSRC,
            payload_type: 96,
            time: frame.wrapping_mul(3000),
            marker: true,
            payload: &payload,
            ..Rtp::default()
        });
        self.send(who, vec![packet]);
    }

    /// A connected subscriber of a track.
    pub(super) fn watcher(&mut self, track: TrackKey, section: String) -> usize {
        let who = self.join(&[section]);
        self.subscribe(who, track);
        self.offer(who);
        who
    }

    /// A packet of feedback from a client.
    pub(super) fn feedback(&mut self, who: usize, plain: &[u8]) {
        let datagram = self.clients[who].rtcp(plain);
        self.send(who, vec![datagram]);
    }

    pub(super) fn take_events(&mut self) -> Vec<Event> {
        self.flush();
        std::mem::take(&mut self.events)
    }

    pub(super) fn take_media(&mut self, who: usize) -> Vec<Received> {
        std::mem::take(&mut self.clients[who].media)
    }

    /// Messages of this RTCP type and format a client was sent: whole messages.
    pub(super) fn take_control(
        &mut self,
        who: usize,
        kind: u8,
        format: Option<u8>,
    ) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        for datagram in std::mem::take(&mut self.clients[who].control) {
            let mut rest = datagram.as_slice();
            while let Some(&[head, of, high, low]) = rest.first_chunk() {
                let len = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
                if of == kind && format.is_none_or(|format| format == head & 0x1F) {
                    found.push(rest[..len].to_vec());
                }
                rest = &rest[len..];
            }
        }
        found
    }

    pub(super) fn remove(&mut self, who: usize) {
        let peer = self.clients[who].peer;
        self.command(Command::RemovePeer { peer });
    }

    /// Nothing is left that names a peer or a track.
    pub(super) fn assert_empty(&mut self) {
        assert_eq!(self.plane.population(), Default::default());
        for who in 0..self.clients.len() {
            assert_eq!(self.plane.demux.by_path(&self.clients[who].path), None);
        }
        assert!(self.plane.touched.is_empty() && self.plane.stirred.is_empty());
        assert!(self.plane.tracks.is_empty());
        let end = self.now + Duration::from_secs(60);
        while let Some(at) = self.plane.poll_timeout() {
            assert!(at < end, "a deadline of nobody");
            while self.plane.poll_waiting(at).is_some() {}
            self.plane.handle_timeout(at);
        }
    }
}

/// An RTCP message of feedback about `media` (RFC 4585 §6.1).
pub(super) fn message(kind: u8, format: u8, media: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | format, kind];
    bytes.extend(((8 + body.len()) as u16 / 4).to_be_bytes());
    bytes.extend(0x7777_7777_u32.to_be_bytes());
    bytes.extend(media.to_be_bytes());
    bytes.extend(body);
    bytes
}

pub(super) fn nack(media: u32, lost: u16) -> Vec<u8> {
    let [high, low] = lost.to_be_bytes();
    message(205, 1, media, &[high, low, 0, 0])
}

pub(super) fn pli(media: u32) -> Vec<u8> {
    message(206, 1, media, &[])
}

/// A receiver report with one block that lost nothing.
pub(super) fn receiver_report(media: u32, highest: u32) -> Vec<u8> {
    let mut bytes = vec![0x81, 201, 0, 7];
    bytes.extend(0x7777_7777_u32.to_be_bytes());
    bytes.extend(media.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(highest.to_be_bytes());
    bytes.extend([0; 12]);
    bytes
}
