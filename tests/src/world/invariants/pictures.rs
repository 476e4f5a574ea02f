//! What counts the pictures of a VP8 stream: picture ids and TL0PICIDX.
//!
//! Owns the newest frame seen. Called by the stream for each packet that is new.

use super::{Broken, Invariant, Sent, broken};
use sfu::rtp::vp8::Descriptor;
use std::collections::BTreeMap;

/// Picture ids have 15 bits.
const ID_MASK: u16 = 0x7FFF;

/// The frames of a stream.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    /// Timestamps by picture id.
    stamps: BTreeMap<u16, u32>,
    /// The newest frame: its picture id and TL0PICIDX.
    newest: Option<(u16, Option<u8>)>,
}

/// What end-to-end encryption covers.
pub(super) fn body(payload: &[u8], vp8: bool) -> &[u8] {
    let parsed = Descriptor::parse(payload).filter(|_| vp8);
    let len = parsed.map_or(0, |descriptor| usize::from(descriptor.len));
    payload.get(len..).unwrap_or_default()
}

/// Does a key picture begin here?
pub(super) fn is_key(payload: &[u8]) -> bool {
    Descriptor::parse(payload).is_some_and(|descriptor| descriptor.key_frame)
}

impl Pictures {
    /// Something is missing, and what came after it is no picture.
    pub(super) const fn interrupted(&mut self) {
        self.newest = None;
    }

    /// A packet; `contiguous` if it follows the newest one before.
    pub(super) fn sent(&mut self, sent: &Sent, contiguous: bool) -> Result<(), Broken> {
        let Some(descriptor) = Descriptor::parse(&sent.payload) else {
            return broken(Invariant::Payload, "no VP8 descriptor".into());
        };
        let Some(id) = descriptor.picture_id.map(|id| id.value) else {
            return Ok(());
        };
        let known = *self.stamps.entry(id).or_insert(sent.timestamp);
        let near = (sent.timestamp.wrapping_sub(known) as i32).unsigned_abs() < 90_000 * 60;
        if known != sent.timestamp && near {
            let what = format!("picture {id} has {known} and {}", sent.timestamp);
            return broken(Invariant::Timestamps, what);
        }
        self.stamps.insert(id, sent.timestamp);
        if !contiguous {
            if self.is_newer(id) {
                self.newest = Some((id, descriptor.tl0_index));
            }
            return Ok(());
        }
        let before = self.newest.replace((id, descriptor.tl0_index));
        let Some((last, tl0)) = before else {
            return Ok(());
        };
        let starts = descriptor.frame_start;
        let expected = if starts {
            last.wrapping_add(1) & ID_MASK
        } else {
            last
        };
        if id != expected {
            let what = format!("picture {id} after {last}");
            return broken(Invariant::PictureIds, what);
        }
        let base = descriptor
            .temporal
            .is_some_and(|temporal| temporal.layer == 0);
        let step = u8::from(starts && base);
        if let (Some(now), Some(then)) = (descriptor.tl0_index, tl0)
            && now != then.wrapping_add(step)
        {
            let what = format!("TL0PICIDX {now} after {then} at picture {id}");
            return broken(Invariant::BaseLayer, what);
        }
        Ok(())
    }

    fn is_newer(&self, id: u16) -> bool {
        let ahead = |last: u16| id.wrapping_sub(last) & ID_MASK;
        self.newest
            .is_none_or(|(last, _)| (1..0x4000).contains(&ahead(last)))
    }
}
