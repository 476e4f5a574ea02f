//! A model publisher feeds a downstream over a bad network; what comes out is checked packet by
//! packet against what went in.

mod model;

use self::model::{Delivery, Publisher};
use super::*;
use crate::ids::PeerId;
use crate::media::packet::{CodecInfo, Span};
use crate::rtp::vp8::Descriptor;
use crate::units::RtpTime;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::time::Duration;

const SSRC: u32 = 77;
const RTX_SSRC: u32 = 78;
const FRAME: Duration = Duration::from_millis(33);

#[expect(clippy::disallowed_methods, reason = "an Instant has no other origin")]
fn epoch() -> Instant {
    Instant::now()
}

fn setup(codec: Codec, rtx: bool) -> DownstreamSetup {
    let peer = PeerId {
        worker: 0,
        slot: 0,
        generation: 0,
    };
    DownstreamSetup {
        track: TrackKey { peer, index: 0 },
        codec,
        layers: if codec == Codec::Vp8 { 0b111 } else { 1 },
        ssrc: SSRC,
        first_seq: 0x7fff,
        first_time: u32::MAX - 90_000,
        payload_types: PayloadTypes {
            source_red: Some(63),
            media: [(96, 100), (111, 100)].into_iter().collect(),
            red: None,
        },
        rtx: rtx.then_some(RtxSetup {
            ssrc: RTX_SSRC,
            payload_types: [(100, 101)].into_iter().collect(),
            first_seq: 5,
        }),
        cuts_trailers: false,
        wish: Wish::ALL,
    }
}

/// A packet that came out, and what it was made of.
#[derive(Debug, Clone, Copy)]
struct Record {
    outgoing: Outgoing,
    from: Delivery,
    segment: u32,
}

/// One run: publisher, network, downstream and the checks.
struct Run {
    rng: StdRng,
    now: Instant,
    publisher: Publisher,
    downstream: Downstream,
    source: Source,
    /// Packets lost per thousand; the same for reordered and doubled ones.
    loss: u32,
    muted: bool,
    records: BTreeMap<u64, Record>,
    /// The newest packet out, by source order.
    newest: Option<Record>,
    /// The next packet begins a segment: it must be a key frame.
    cut: bool,
    segment: u32,
    /// Highest temporal layer wanted in this and the previous frame.
    wanted: [u8; 2],
    rtx_next: u64,
}

impl Run {
    fn new(seed: u64, loss: u32, rtx: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let now = epoch();
        Self {
            publisher: Publisher::new(&mut rng),
            downstream: Downstream::new(setup(Codec::Vp8, rtx), now),
            rng,
            now,
            source: Source {
                alive: 0b111,
                ..Source::default()
            },
            loss,
            muted: false,
            records: BTreeMap::new(),
            newest: None,
            cut: true,
            segment: 0,
            wanted: [3; 2],
            rtx_next: 5,
        }
    }

    fn chance(&mut self, per_thousand: u32) -> bool {
        self.rng.random_range(0..1000) < per_thousand
    }

    /// One frame of each layer, over the network.
    fn tick(&mut self) -> Result<(), TestCaseError> {
        self.now += FRAME;
        if let Some((layer, _)) = self.downstream.poll_key_frame_wanted(self.now) {
            self.publisher.ask_key_frame(layer);
        }
        let mut packets = self.publisher.frames(self.now, &mut self.rng);
        for index in 0..packets.len() {
            if self.chance(self.loss) && index + 5 < packets.len() {
                let other = index + self.rng.random_range(1..5);
                packets.swap(index, other);
            }
        }
        for mut delivery in packets {
            if self.chance(self.loss) {
                // Most of what is lost comes again later.
                if self.chance(700) {
                    self.publisher.resend(delivery);
                }
                continue;
            }
            self.deliver(&mut delivery)?;
            if self.chance(self.loss) {
                self.deliver(&mut delivery)?;
            }
        }
        self.wanted[0] = self.wanted[1];
        Ok(())
    }

    fn deliver(&mut self, delivery: &mut Delivery) -> Result<(), TestCaseError> {
        self.publisher.arrive(delivery, self.now);
        if delivery.generation != self.source.generations[usize::from(delivery.packet.spatial)] {
            return Ok(());
        }
        let packet = &delivery.packet;
        let out = self.downstream.forward(packet, &self.source, self.now);
        let Some(outgoing) = out else { return Ok(()) };
        self.check(Record {
            outgoing,
            from: *delivery,
            segment: self.segment,
        })
    }

    /// What holds for each packet as it leaves.
    fn check(&mut self, mut record: Record) -> Result<(), TestCaseError> {
        let seq = record.outgoing.seq.0;
        prop_assert!(!self.muted, "sent while muted");
        prop_assert_eq!(record.outgoing.ssrc, SSRC);
        prop_assert_eq!(record.outgoing.payload_type, 100);
        let packet = record.from.packet;
        let newest = self.newest;
        let changed = newest.is_none_or(|n| n.from.stream() != record.from.stream());
        let is_newer = newest.is_none_or(|n| seq > n.outgoing.seq.0);
        if self.cut || changed {
            prop_assert!(packet.key_frame && !packet.late, "a switch at a key frame");
            let expected = newest.map_or(0x7fff, |n| {
                n.outgoing.seq.0 + 1 + u64::from(!n.outgoing.marker)
            });
            prop_assert_eq!(seq, expected);
            self.cut = false;
            self.segment += 1;
            record.segment = self.segment;
        } else if let Some(newest) = newest.filter(|_| is_newer) {
            let hole = seq - newest.outgoing.seq.0 - 1;
            let missing = self.publisher.missing(&newest.from, &record.from);
            prop_assert!(
                hole <= missing,
                "a hole of {} with {} missing",
                hole,
                missing
            );
        }
        if self.loss == 0 {
            let highest = self.wanted[0].max(self.wanted[1]);
            prop_assert!(record.from.temporal <= highest, "filtered");
        }
        if is_newer {
            self.newest = Some(record);
        }
        let before = self.records.insert(seq, record);
        prop_assert!(before.is_none(), "{} sent twice", seq);
        Ok(())
    }

    /// Something happens that is no packet.
    fn disturb(&mut self) -> Result<(), TestCaseError> {
        match self.rng.random_range(0..9) {
            0 => {
                let wish = Wish {
                    enabled: self.rng.random_range(0..4) > 0,
                    spatial: self.rng.random_range(0..3),
                    temporal: self.rng.random_range(0..4),
                };
                self.wish(wish);
            }
            1 => {
                self.muted = !self.muted;
                self.source.muted = self.muted;
                self.downstream.handle_publisher_muted(self.muted, self.now);
                self.cut = true;
            }
            2 => {
                let layer = self.rng.random_range(0..3);
                self.publisher.restart(layer, &mut self.rng);
                self.source.generations[layer] += 1;
                self.source.clocks[layer] = None;
            }
            3 => {
                let layer = self.rng.random_range(0..3);
                self.source.clocks[layer] = Some(self.publisher.report(layer, self.now));
            }
            4 => self.publisher.ask_key_frame(self.rng.random_range(0..3)),
            5 => self.downstream.handle_key_frame_request(),
            6 => self.sender_report()?,
            7 => {
                for mut delivery in self.publisher.take_resends() {
                    self.deliver(&mut delivery)?;
                }
            }
            _ => self.nack()?,
        }
        Ok(())
    }

    fn wish(&mut self, wish: Wish) {
        self.downstream.handle_wish(wish, self.now);
        self.wanted[1] = wish.temporal;
        self.cut |= !wish.enabled;
    }

    /// Every resend is the packet that was sent.
    fn nack(&mut self) -> Result<(), TestCaseError> {
        let seqs: Vec<u16> = (0..20).map(|_| self.wire_near_the_end()).collect();
        let mut out = Vec::new();
        self.downstream
            .handle_nack(seqs.into_iter(), &self.source, &mut out, self.now);
        for resend in out {
            let mut outgoing = resend.outgoing;
            let mut seq = outgoing.seq;
            if outgoing.ssrc == RTX_SSRC {
                prop_assert_eq!(seq.0, self.rtx_next);
                self.rtx_next += 1;
                let head = outgoing.head;
                let (original, rest) = head.as_slice().split_at(2);
                let wire = u16::from_be_bytes([original[0], original[1]]);
                let newest = self.newest.expect("something was sent");
                seq = newest.outgoing.seq.nearest(wire);
                outgoing.head = crate::media::packet::Head::EMPTY;
                outgoing.head.push(rest);
                prop_assert_eq!(outgoing.payload_type, 101);
                (outgoing.ssrc, outgoing.payload_type, outgoing.seq) = (SSRC, 100, seq);
            }
            let record = self.records.get(&seq.0).expect("resent means sent");
            prop_assert_eq!(outgoing, record.outgoing);
            prop_assert_eq!(resend.source, record.from.packet.seq);
            prop_assert_eq!(resend.spatial, record.from.packet.spatial);
            let generation = self.source.generations[usize::from(resend.spatial)];
            prop_assert_eq!(record.from.generation, generation, "another stream's bytes");
        }
        Ok(())
    }

    fn wire_near_the_end(&mut self) -> u16 {
        let newest = self.newest.map_or(0, |n| n.outgoing.seq.0);
        newest.saturating_sub(self.rng.random_range(0..600)) as u16
    }

    /// A sender report puts the newest frame where its timestamp says.
    fn sender_report(&mut self) -> Result<(), TestCaseError> {
        let due = self.downstream.poll_sender_report(&self.source, self.now);
        let (Some(report), Some(newest)) = (due, self.newest) else {
            return Ok(());
        };
        let apart = report.ntp.wrapping_sub(newest.from.ntp) as i64;
        let ticks = (i128::from(apart) * 90_000) >> 32;
        let expected = newest.outgoing.time.wrapping_add(ticks as u32);
        let error = expected.wrapping_sub(report.rtp) as i32;
        prop_assert!(error.abs() < 90, "off by {} ticks", error);
        Ok(())
    }

    /// What holds for the whole stream in the order of its numbers.
    fn check_stream(&self, lossless: bool) -> Result<(), TestCaseError> {
        for (a, b) in self.records.values().zip(self.records.values().skip(1)) {
            let (one, two) = (descriptor(a), descriptor(b));
            let later = b.outgoing.time.wrapping_sub(a.outgoing.time) as i32;
            let id = two.0.wrapping_sub(one.0) & 0x7fff;
            let tl0 = two.1.wrapping_sub(one.1);
            if a.segment == b.segment {
                prop_assert!(a.from.packet.seq < b.from.packet.seq, "in order");
            }
            if a.segment == b.segment && a.from.frame == b.from.frame {
                prop_assert_eq!((later, id, tl0), (0, 0, 0));
                continue;
            }
            prop_assert!(later > 0, "time stands still or goes back");
            prop_assert!(
                id > 0 && id < 0x4000,
                "picture id from {} to {}",
                one.0,
                two.0
            );
            prop_assert!(tl0 < 128, "TL0PICIDX goes back");
            if a.segment != b.segment {
                prop_assert_eq!((id, tl0), (1, 1));
            }
            if lossless {
                prop_assert_eq!(id, 1);
                prop_assert_eq!(tl0, u8::from(b.from.temporal == 0));
                let expected = a.outgoing.seq.0 + 1 + u64::from(!a.outgoing.marker);
                prop_assert_eq!(b.outgoing.seq.0, expected);
            }
        }
        Ok(())
    }

    /// After all the trouble the subscriber comes back to what it wants.
    fn recover(&mut self) -> Result<(), TestCaseError> {
        self.muted = false;
        self.source.muted = false;
        self.downstream.handle_publisher_muted(false, self.now);
        self.wish(Wish::ALL);
        self.loss = 0;
        let before = self.records.len();
        for _ in 0..100 {
            self.wanted[0] = 3;
            self.tick()?;
        }
        prop_assert_eq!(self.downstream.current_layer(), Some(2));
        prop_assert!(self.records.len() > before + 80);
        Ok(())
    }
}

/// Picture id and TL0PICIDX of a packet that came out.
fn descriptor(record: &Record) -> (u16, u8) {
    let parsed = Descriptor::parse(record.outgoing.head.as_slice()).expect("valid");
    (
        parsed.picture_id.expect("picture id").value,
        parsed.tl0_index.expect("TL0PICIDX"),
    )
}

proptest! {
    #[test]
    fn whatever_the_publisher_and_the_network_do_the_copy_is_one_sound_stream(
        seed in any::<u64>(),
        loss in prop_oneof![Just(0u32), Just(10), 1..150u32],
        rtx in any::<bool>(),
        calm in 1..40u32,
    ) {
        let mut run = Run::new(seed, loss, rtx);
        for _ in 0..300 {
            run.tick()?;
            if run.rng.random_range(0..calm) == 0 {
                run.disturb()?;
            }
        }
        run.check_stream(loss == 0)?;
        run.recover()?;
        run.check_stream(loss == 0)?;
    }
}

/// The checks above mean something only if what they check happens.
#[test]
fn the_model_reaches_every_branch() {
    let mut drops = Drops::default();
    let (mut nacks, mut late, mut segments) = (NackCounters::default(), 0, 0);
    for seed in 0..20 {
        let mut run = Run::new(seed, 50, seed.is_multiple_of(2));
        for _ in 0..300 {
            run.tick().expect("sound");
            if run.rng.random_range(0..10) == 0 {
                run.disturb().expect("sound");
            }
        }
        let own = run.downstream.drops();
        drops.paused += own.paused;
        drops.temporal += own.temporal;
        drops.duplicate += own.duplicate;
        drops.late += own.late;
        drops.waiting += own.waiting;
        nacks.resent += run.downstream.nacks().resent;
        nacks.missed += run.downstream.nacks().missed;
        nacks.throttled += run.downstream.nacks().throttled;
        late += run.records.values().filter(|r| r.from.packet.late).count();
        segments += run.segment;
    }
    let reached = [drops.paused, drops.temporal, drops.duplicate, drops.late];
    assert!(reached.iter().all(|count| *count > 20), "{drops:?}");
    assert!(drops.waiting > 0, "{drops:?}");
    assert!(
        nacks.resent.min(nacks.missed).min(nacks.throttled) > 100,
        "{nacks:?}"
    );
    assert!(
        late > 50 && segments > 50,
        "{late} late, {segments} segments"
    );
}

fn audio(seq: u64, payload_type: u8, marker: bool, now: Instant) -> Packet {
    Packet {
        seq: ExtSeq(seq),
        time: RtpTime(seq * 960),
        arrival: now,
        payload_type,
        marker,
        spatial: 0,
        key_frame: false,
        late: false,
        codec: CodecInfo::None,
        trailer: 0,
        span: Span { start: 0, len: 50 },
    }
}

#[test]
fn audio_passes_with_its_marker_and_red_only_to_those_who_read_it() {
    let now = epoch();
    let source = Source::default();
    let mut plain = Downstream::new(setup(Codec::Opus, false), now);
    let mut with_red = setup(Codec::Opus, false);
    with_red.payload_types.red = Some(64);
    let mut reads_red = Downstream::new(with_red, now);
    let packets = [
        (1, 111, true),
        (2, 63, false),
        (3, 63, false),
        (4, 111, false),
    ];
    let mut got = [Vec::new(), Vec::new()];
    for (seq, payload_type, marker) in packets {
        let packet = audio(seq, payload_type, marker, now);
        for (downstream, got) in [&mut plain, &mut reads_red].into_iter().zip(&mut got) {
            let out = downstream.forward(&packet, &source, now);
            got.extend(out.map(|o| (o.seq.0 - 0x7fff, o.payload_type, o.marker)));
        }
    }
    assert_eq!(got[0], [(0, 100, true), (1, 100, false)]);
    assert_eq!(
        got[1],
        [
            (0, 100, true),
            (1, 64, false),
            (2, 64, false),
            (3, 100, false)
        ]
    );
    assert_eq!(plain.drops().red, 2);
    assert_eq!(plain.totals().octets, 100);
    assert_eq!(plain.poll_key_frame_wanted(now), None);
}

#[test]
fn who_does_not_read_red_gets_its_newest_block_and_again_when_resent() {
    let now = epoch();
    let source = Source::default();
    let mut plain = Downstream::new(setup(Codec::Red, false), now);
    let red = |seq, primary| Packet {
        codec: CodecInfo::Red { primary },
        span: Span { start: 0, len: 700 },
        ..audio(seq, 63, true, now)
    };
    let first = plain.forward(&red(1, 655), &source, now).expect("sent");
    assert_eq!((first.payload_type, first.skip), (100, 655));
    assert!(first.marker);
    assert_eq!(plain.totals().octets, 45);
    // Nothing new in it: left out without a hole.
    assert_eq!(plain.forward(&red(2, 700), &source, now), None);
    let next = plain.forward(&red(3, 5), &source, now).expect("sent");
    assert_eq!(next.seq.0, first.seq.0 + 1);
    let later = now + Duration::from_secs(1);
    let mut resends = Vec::new();
    let lost = [first.seq.wire()].into_iter();
    plain.handle_nack(lost, &source, &mut resends, later);
    assert_eq!(resends[0].outgoing, first);
}

#[test]
fn a_muted_track_asks_for_no_key_frame_and_for_one_as_soon_as_it_is_back() {
    let now = epoch();
    let mut downstream = Downstream::new(setup(Codec::Vp8, true), now);
    let mut publisher = Publisher::new(&mut StdRng::seed_from_u64(1));
    let mut source = Source {
        alive: 0b111,
        muted: true,
        ..Source::default()
    };
    let mut rng = StdRng::seed_from_u64(2);
    for delivery in publisher.frames(now, &mut rng) {
        assert!(downstream.forward(&delivery.packet, &source, now).is_none());
    }
    assert_eq!(downstream.poll_key_frame_wanted(now), None);
    assert_eq!(downstream.poll_timeout(now), None);
    source.muted = false;
    for delivery in publisher.frames(now + FRAME, &mut rng) {
        downstream.forward(&delivery.packet, &source, now + FRAME);
    }
    assert_eq!(
        downstream.poll_key_frame_wanted(now + FRAME),
        Some((2, false))
    );
}

#[test]
fn a_stream_no_report_names_asks_again_and_once_past_the_throttle() {
    let now = epoch();
    let mut run = Run::new(3, 0, true);
    let mut asked = Vec::new();
    while run.newest.is_none() {
        run.tick().expect("sound");
    }
    for _ in 0..30 {
        run.now += FRAME;
        asked.extend(run.downstream.poll_key_frame_wanted(run.now));
    }
    assert_eq!(asked.first(), Some(&(2, true)));
    assert!(asked.len() >= 3 && asked[1..].iter().all(|a| *a == (2, false)));
    run.downstream
        .handle_receiver_report(Reception::default(), now);
    run.now += FRAME * 30;
    assert_eq!(run.downstream.poll_key_frame_wanted(run.now), None);
}
