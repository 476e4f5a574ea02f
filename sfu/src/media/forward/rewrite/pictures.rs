//! VP8 picture ids, TL0PICIDX and KEYIDX of a copy: each goes on by one, whatever the source does.
//!
//! Owns their offsets and the pictures left out. The copy always writes 15-bit picture ids: a
//! 7-bit source may wrap or change its width, the copy need not. (LK: sfu-media §2.5)

use crate::media::packet::Head;
use crate::rtp::sequence::SequenceMap;
use crate::rtp::vp8::{Descriptor, MAX_LEN, PictureId};

/// Runs of pictures left out that late packets can be placed around.
const PICTURE_RUNS: usize = 32;

/// Where unwrapped picture ids of a stream start: room below for ids that precede the first.
const BASE: u64 = 1 << 16;

/// What becomes of a fresh packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Send it with this descriptor.
    Keep(Head),
    /// Leave it out.
    Drop,
    /// Leave it out with the missing packets before it.
    DropWithGap,
}

/// Picture numbering of one copy.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    places: SequenceMap<PICTURE_RUNS>,
    /// Unwrapped id of the newest picture, and the id it was unwrapped from.
    highest: u64,
    wire: PictureId,
    /// The picture being left out.
    dropped: Option<u64>,
    /// An unwanted picture sent all the same, because the packets missing before it may be its own.
    exempt: Option<u64>,
    /// Source minus copy.
    tl0_offset: u8,
    key_offset: u8,
    /// The newest values of the copy.
    last: Last,
}

#[derive(Debug, Default)]
struct Last {
    picture: Option<u64>,
    tl0: Option<u8>,
    key: Option<u8>,
}

impl Pictures {
    /// Begins a stream at a key frame's first packet; every count goes on by one.
    pub(super) fn begin(&mut self, descriptor: &Descriptor) -> Head {
        self.dropped = None;
        self.exempt = None;
        if let Some(id) = descriptor.picture_id {
            self.wire = id;
            self.highest = BASE + u64::from(id.value);
            let copy = self.last.picture.map_or(u64::from(id.value), |p| p + 1);
            self.places.restart(self.highest, copy);
        } else {
            // Nothing of the old stream may be placed any more.
            self.places.restart(u64::MAX, 0);
        }
        self.tl0_offset = match (descriptor.tl0_index, self.last.tl0) {
            (Some(own), Some(last)) => own.wrapping_sub(last.wrapping_add(1)),
            _ => 0,
        };
        self.key_offset = match (descriptor.key_index, self.last.key) {
            (Some(own), Some(last)) => own.wrapping_sub(last.wrapping_add(1)),
            _ => 0,
        };
        let place = descriptor
            .picture_id
            .and_then(|_| self.places.place(self.highest));
        self.write_newest(descriptor, place)
    }

    /// A fresh packet. `filter` asks to leave its temporal layer out; without a picture id that
    /// cannot be told from a loss, so such streams are never thinned.
    pub(super) fn follow(&mut self, descriptor: &Descriptor, gap: bool, filter: bool) -> Verdict {
        let Some(id) = descriptor.picture_id else {
            return Verdict::Keep(self.write_newest(descriptor, None));
        };
        let picture = self.unwrap_fresh(id);
        if self.dropped == Some(picture) {
            return if gap {
                Verdict::DropWithGap
            } else {
                Verdict::Drop
            };
        }
        let new = picture > self.highest;
        if filter && gap {
            self.exempt = Some(picture);
        }
        self.highest = picture;
        self.wire = id;
        if filter && new && self.exempt != Some(picture) {
            self.dropped = Some(picture);
            self.places.exclude(picture, picture);
            return Verdict::Drop;
        }
        match self.places.place(picture) {
            Some(place) => Verdict::Keep(self.write_newest(descriptor, Some(place))),
            // Only after a picture id appeared in the middle of a stream that had none.
            None => Verdict::Drop,
        }
    }

    /// A late packet's descriptor; `None` if its picture was left out. One that is `stale` may be
    /// more than half a turn of seven bits away, and would be taken for another picture.
    pub(super) fn late(&self, descriptor: &Descriptor, stale: bool) -> Option<Head> {
        let Some(id) = descriptor.picture_id else {
            return Some(self.write(descriptor, None));
        };
        if stale && !(id.wide && self.wire.wide) {
            return None;
        }
        let picture = self.highest.checked_add_signed(self.delta(id))?;
        if picture > self.highest {
            return None;
        }
        let place = self.places.place(picture)?;
        Some(self.write(descriptor, Some(place)))
    }

    /// The unwrapped id of a fresh packet. One that goes back is a source that began to count anew:
    /// it goes on by one.
    fn unwrap_fresh(&mut self, id: PictureId) -> u64 {
        match self.delta(id) {
            forward @ 0.. => self.highest + forward as u64,
            _ => self.highest + 1,
        }
    }

    /// Pictures from the newest to `id`, the short way round. A source that changed its width is
    /// compared by the seven bits both have (RFC 7741 §4.2 lets 127 be followed by 128).
    fn delta(&self, id: PictureId) -> i64 {
        let bits = if id.wide && self.wire.wide { 15 } else { 7 };
        let shift = 16 - bits;
        let difference = id.value.wrapping_sub(self.wire.value);
        // Sign-extends the difference from its `bits`.
        i64::from((difference << shift) as i16 >> shift)
    }

    /// Writes the descriptor of the newest packet and notes its values.
    fn write_newest(&mut self, descriptor: &Descriptor, place: Option<u64>) -> Head {
        self.last.picture = place.or(self.last.picture);
        let tl0 = descriptor.tl0_index.map(|i| self.tl0(i));
        self.last.tl0 = tl0.or(self.last.tl0);
        let key = descriptor.key_index.map(|i| self.key(i));
        self.last.key = key.or(self.last.key);
        self.write(descriptor, place)
    }

    fn write(&self, descriptor: &Descriptor, place: Option<u64>) -> Head {
        let copy = Descriptor {
            picture_id: place.map(|place| PictureId {
                value: (place & 0x7fff) as u16,
                wide: true,
            }),
            tl0_index: descriptor.tl0_index.map(|i| self.tl0(i)),
            key_index: descriptor.key_index.map(|i| self.key(i)),
            ..*descriptor
        };
        let mut bytes = [0; MAX_LEN];
        let len = copy.write(&mut bytes);
        let mut head = Head::EMPTY;
        head.push(bytes.get(..len).unwrap_or_default());
        head
    }

    const fn tl0(&self, index: u8) -> u8 {
        index.wrapping_sub(self.tl0_offset)
    }

    /// Five bits: writing cuts it to them.
    const fn key(&self, index: u8) -> u8 {
        index.wrapping_sub(self.key_offset) & 0x1f
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::vp8::Temporal;

    fn frame(value: u16, wide: bool, tl0: u8, layer: u8) -> Descriptor {
        Descriptor {
            len: 6,
            frame_start: true,
            start_and_partition: 0x10,
            picture_id: Some(PictureId { value, wide }),
            tl0_index: Some(tl0),
            temporal: Some(Temporal { layer, sync: false }),
            key_index: Some(tl0 & 0x1f),
            ..Descriptor::default()
        }
    }

    /// Picture id, TL0PICIDX and KEYIDX written.
    fn read(head: Head) -> (u16, u8, u8) {
        let parsed = Descriptor::parse(head.as_slice()).expect("valid");
        let id = parsed.picture_id.expect("picture id");
        assert!(id.wide);
        (
            id.value,
            parsed.tl0_index.expect("tl0"),
            parsed.key_index.expect("key"),
        )
    }

    fn kept(verdict: Verdict) -> (u16, u8, u8) {
        match verdict {
            Verdict::Keep(head) => read(head),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn seven_bits_wrap_while_the_copy_goes_on() {
        let mut pictures = Pictures::default();
        assert_eq!(read(pictures.begin(&frame(126, false, 255, 0))).0, 126);
        for (value, copy) in [(127, 127), (0, 128), (1, 129)] {
            let got = kept(pictures.follow(&frame(value, false, 0, 0), false, false));
            assert_eq!(got.0, copy);
        }
    }

    #[test]
    fn fifteen_bits_wrap_with_the_copy() {
        let mut pictures = Pictures::default();
        assert_eq!(read(pictures.begin(&frame(0x7fff, true, 0, 0))).0, 0x7fff);
        assert_eq!(
            kept(pictures.follow(&frame(0, true, 1, 0), false, false)).0,
            0
        );
    }

    #[test]
    fn a_source_may_widen_its_ids_at_the_wrap() {
        let mut pictures = Pictures::default();
        pictures.begin(&frame(127, false, 0, 0));
        let wide = kept(pictures.follow(&frame(128, true, 1, 0), false, false));
        assert_eq!(wide.0, 128);
        let narrow = kept(pictures.follow(&frame(1, false, 2, 0), false, false));
        assert_eq!(narrow.0, 129);
    }

    #[test]
    fn a_source_that_counts_anew_goes_on_by_one() {
        let mut pictures = Pictures::default();
        pictures.begin(&frame(5000, true, 0, 0));
        let got = kept(pictures.follow(&frame(10, true, 1, 0), false, false));
        assert_eq!(got.0, 5001);
        let same = kept(pictures.follow(&frame(10, true, 1, 0), false, false));
        assert_eq!(same.0, 5001, "the next packet of that picture");
    }

    #[test]
    fn a_switch_continues_every_count_by_one_across_their_wraps() {
        let mut pictures = Pictures::default();
        pictures.begin(&frame(0x7fff, true, 255, 0));
        let (id, tl0, key) = read(pictures.begin(&frame(7, false, 100, 0)));
        assert_eq!((id, tl0, key), (0, 0, 0));
        let next = kept(pictures.follow(&frame(8, false, 101, 0), false, false));
        assert_eq!(next, (1, 1, 1));
    }

    #[test]
    fn a_picture_left_out_is_counted_once() {
        let mut pictures = Pictures::default();
        pictures.begin(&frame(10, true, 0, 0));
        for _ in 0..3 {
            assert_eq!(
                pictures.follow(&frame(11, true, 0, 1), false, true),
                Verdict::Drop
            );
        }
        assert_eq!(
            kept(pictures.follow(&frame(12, true, 1, 0), false, false)).0,
            11
        );
        assert_eq!(pictures.late(&frame(11, true, 0, 1), false), None);
        assert_eq!(
            pictures.late(&frame(10, true, 0, 0), false).map(read),
            Some((10, 0, 0))
        );
    }

    #[test]
    fn a_stale_packet_has_no_place_among_seven_bits() {
        for (wide, placed) in [(false, false), (true, true)] {
            let mut pictures = Pictures::default();
            pictures.begin(&frame(10, wide, 0, 0));
            pictures.follow(&frame(11, wide, 1, 0), false, false);
            let late = pictures.late(&frame(10, wide, 0, 0), true);
            assert_eq!(late.is_some(), placed);
        }
    }

    #[test]
    fn a_gap_inside_a_picture_left_out_goes_with_it() {
        let mut pictures = Pictures::default();
        pictures.begin(&frame(10, true, 0, 0));
        pictures.follow(&frame(11, true, 0, 1), false, true);
        let verdict = pictures.follow(&frame(11, true, 0, 1), true, true);
        assert_eq!(verdict, Verdict::DropWithGap);
    }

    #[test]
    fn an_unwanted_picture_after_a_gap_is_sent_whole() {
        let mut pictures = Pictures::default();
        pictures.begin(&frame(10, true, 0, 0));
        assert_eq!(
            kept(pictures.follow(&frame(12, true, 0, 1), true, true)).0,
            12
        );
        assert_eq!(
            kept(pictures.follow(&frame(12, true, 0, 1), false, true)).0,
            12
        );
        assert!(pictures.late(&frame(11, true, 0, 0), false).is_some());
    }

    #[test]
    fn a_stream_without_picture_ids_passes_untouched() {
        let plain = Descriptor {
            len: 1,
            start_and_partition: 0x10,
            frame_start: true,
            ..Descriptor::default()
        };
        let mut pictures = Pictures::default();
        assert_eq!(pictures.begin(&plain).as_slice(), [0x10]);
        assert!(matches!(
            pictures.follow(&plain, false, true),
            Verdict::Keep(_)
        ));
        assert!(pictures.late(&plain, false).is_some());
    }
}
