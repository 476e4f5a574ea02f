//! A plane with one publisher and N subscribers, connected.

#![allow(
    clippy::disallowed_methods,
    reason = "the world's time has to begin somewhere"
)]

use crate::client::{Client, Shared};
use sfu::config::codecs::{Codec, h264};
use sfu::ids::{MediaKind, TrackKey};
use sfu::media::demux::Path;
use sfu::media::message::{Command, Event, PeerSetup, StreamLabel, TrackSpec, Wish};
use sfu::media::plane::{Plane, Progress, Setup};
use sfu::media::transport::candidates::Candidate;
use sfu::media::transport::dtls;
use sfu::rtp::header::FixedHeader;
use sfu::units::ExtSeq;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is published.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Audio,
    Video,
}

impl Kind {
    fn section(self, direction: &str) -> String {
        match self {
            Self::Audio => format!(
                "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\na={direction}\r\n"
            ),
            Self::Video => format!(
                "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na={direction}\r\n"
            ),
        }
    }
}

/// SSRC of the published stream.
const SSRC: u32 = 0x1234_5678;

pub(crate) struct World {
    pub(crate) plane: Plane,
    pub(crate) publisher: Client,
    #[allow(dead_code, reason = "only the test of allocations lets them speak")]
    pub(crate) subscribers: Vec<Client>,
    kind: Kind,
    pub(crate) now: Instant,
    seq: u64,
    frame: u64,
}

impl World {
    pub(crate) fn new(kind: Kind, subscribers: usize) -> Self {
        let now = Instant::now();
        let shared = Shared::new();
        let setup = Setup {
            dtls: Arc::new(dtls::Shared::new().expect("certificate")),
            advertised: vec![Candidate::udp(SocketAddr::from(([127, 0, 0, 1], 7882)))],
            node: 0,
            process: 0,
            worker: 0,
            track: Default::default(),
            inquiring: false,
        };
        let mut world = Self {
            plane: Plane::new(setup, [7; 32]),
            publisher: Client::new(&shared, 0, now),
            subscribers: Vec::new(),
            kind,
            now,
            seq: 0,
            frame: 0,
        };
        world.publish();
        let clients: Vec<Client> = (1..=subscribers as u32)
            .map(|slot| Client::new(&shared, slot, now))
            .collect();
        for mut client in clients {
            world.subscribe(&mut client);
            world.subscribers.push(client);
        }
        // First packets: selectors lock on, rings are allocated.
        for _ in 0..100 {
            let mut batch = world.sealed_batch(8, 1200);
            world.push(&mut batch);
        }
        world
    }

    fn track(&self) -> TrackKey {
        TrackKey {
            peer: self.publisher.peer,
            index: 0,
        }
    }

    fn publish(&mut self) {
        let codec = match self.kind {
            Kind::Audio => Codec::Opus,
            Kind::Video => Codec::Vp8,
        };
        let spec = TrackSpec {
            kind: codec.kind(),
            cids: vec!["cid".into()],
            codec: Some(codec),
            red: false,
            dtx: codec.kind() == MediaKind::Audio,
            stereo: false,
            screen_share: false,
            encrypted: false,
            trailers: false,
            muted: false,
            layers: Vec::new(),
        };
        let mut section = self.kind.section("sendonly");
        section.push_str(&format!("a=msid:- cid\r\na=ssrc:{SSRC} cname:bench\r\n"));
        let mut publisher = std::mem::replace(
            &mut self.publisher,
            Client::new(&Shared::new(), u32::MAX - 1, self.now),
        );
        self.add(&publisher);
        let track = TrackKey {
            peer: publisher.peer,
            index: 0,
        };
        self.plane
            .handle_command(Command::Publish { track, spec }, self.now);
        self.negotiate(&mut publisher, &[("0", &section)]);
        self.connect(&mut publisher);
        self.publisher = publisher;
        let mut batch = self.sealed_batch(1, 1200);
        self.push(&mut batch);
        let started = self.events().into_iter();
        assert!(
            started
                .into_iter()
                .any(|event| matches!(event, Event::TrackStarted { .. })),
            "media starts the track"
        );
    }

    fn subscribe(&mut self, client: &mut Client) {
        self.add(client);
        let section = self.kind.section("recvonly");
        self.negotiate(client, &[("0", &section)]);
        self.plane.handle_command(
            Command::Subscribe {
                peer: client.peer,
                track: self.track(),
                label: StreamLabel {
                    stream_id: "PA_a|TR_a".into(),
                    track_id: "TR_a".into(),
                },
                wish: Wish::ALL,
            },
            self.now,
        );
        self.negotiate(client, &[("0", &section)]);
        self.connect(client);
    }

    fn add(&mut self, client: &Client) {
        let setup = PeerSetup {
            publish: Codec::ALL.to_vec(),
            subscribe: Codec::ALL.to_vec(),
            h264: h264::Parameters::DEFAULT.to_vec(),
            reads_trailers: false,
            one_codec_per_section: false,
            outside_only: false,
            subscriber: None,
        };
        self.plane.handle_command(
            Command::AddPeer {
                peer: client.peer,
                setup,
            },
            self.now,
        );
    }

    fn negotiate(&mut self, client: &mut Client, sections: &[(&str, &str)]) {
        let sdp = client.offer(sections);
        let peer = client.peer;
        self.plane
            .handle_command(Command::Offer { peer, id: 1, sdp }, self.now);
        for event in self.events() {
            match event {
                Event::Answer(answer) => client.read_answer(&answer.sdp),
                Event::OfferRefused { reason, .. } => panic!("offer refused: {reason}"),
                _ => {}
            }
        }
    }

    fn connect(&mut self, client: &mut Client) {
        let mut to_server = vec![client.check()];
        to_server.extend(client.handshake(self.now));
        while !to_server.is_empty() {
            for mut datagram in std::mem::take(&mut to_server) {
                self.plane
                    .handle_datagram(client.path, &mut datagram, self.now);
            }
            for datagram in self.take(client.path) {
                if (20..=63).contains(&datagram[0]) {
                    to_server.extend(client.handle_dtls(&datagram));
                }
            }
        }
        assert!(client.srtp.is_some(), "handshake done");
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.plane.poll_event()).collect()
    }

    /// Everything the plane wants to send to one client.
    fn take(&mut self, path: Path) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        self.flush(|to, packet| {
            if to.remote == path.remote {
                taken.push(packet.to_vec());
            }
        });
        taken
    }

    /// A batch of the publisher's packets, sealed, not yet received.
    pub(crate) fn sealed_batch(&mut self, count: usize, bytes: usize) -> Vec<Vec<u8>> {
        self.now += Duration::from_millis(20);
        self.frame += 1;
        (0..count).map(|at| self.sealed(at, count, bytes)).collect()
    }

    fn sealed(&mut self, at: usize, count: usize, bytes: usize) -> Vec<u8> {
        let (payload_type, step) = match self.kind {
            Kind::Audio => (111, 960),
            Kind::Video => (96, 1800),
        };
        let time = match self.kind {
            Kind::Audio => self.seq * step,
            Kind::Video => self.frame * step,
        };
        let header = FixedHeader {
            marker: self.kind == Kind::Video && at + 1 == count,
            payload_type,
            sequence: self.seq as u16,
            timestamp: time as u32,
            ssrc: SSRC,
        };
        let mut packet = header.to_bytes().to_vec();
        if self.kind == Kind::Video {
            packet.extend(self.descriptor(at));
        }
        packet.resize(bytes, 0x5A);
        packet.resize(bytes + sfu::media::transport::srtp::OVERHEAD_MAX, 0);
        let (_, sealer) = self.publisher.srtp.as_ref().expect("connected");
        let len = sealer
            .seal_rtp(12, bytes, ExtSeq(self.seq), SSRC, &mut packet)
            .expect("sealed");
        packet.truncate(len);
        self.seq += 1;
        packet
    }

    /// VP8 with a 15-bit picture id; every 50th frame is a key frame.
    fn descriptor(&self, at: usize) -> Vec<u8> {
        let start = if at == 0 { 0x10 } else { 0 };
        let picture = 0x8000 | (self.frame as u16 & 0x7FFF);
        let key = self.frame % 50 == 1;
        let mut bytes = vec![0x80 | start, 0x80, (picture >> 8) as u8, picture as u8];
        bytes.push(u8::from(!key));
        bytes.extend([0, 0, 0x9D, 0x01, 0x2A, 0x80, 0x02, 0x68, 0x01]);
        bytes
    }

    /// Receives a batch and forwards it; returns how many packets went out.
    pub(crate) fn push(&mut self, batch: &mut [Vec<u8>]) -> usize {
        for packet in batch {
            self.plane
                .handle_datagram(self.publisher.path, packet, self.now);
        }
        self.flush(|_, _| {})
    }

    /// Sends what there is to send and shows each packet; returns how many there were.
    pub(crate) fn flush(&mut self, mut seen: impl FnMut(&Path, &[u8])) -> usize {
        let mut sent = 0;
        loop {
            let progress = self.plane.fan_out(self.now);
            for run in self.plane.outgoing() {
                sent += run.count;
                run.bytes
                    .chunks(run.segment)
                    .for_each(|packet| seen(&run.to, packet));
            }
            self.plane.sent();
            if progress == Progress::Done {
                return sent;
            }
        }
    }
}
