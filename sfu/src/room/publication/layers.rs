//! The announced layers of a video track: which one serves a wish. (LK: signalling §5.4, §6.6)
//!
//! Owns the arithmetic between LiveKit's qualities, sizes in pixels and spatial layers. Called when
//! a subscriber's settings are applied and when dynacast is reckoned.

use proto::livekit;

/// Announced layers kept; there are three spatial layers.
pub(super) const MAX_LAYERS: usize = 3;
/// Heights of layers announced without sizes; the third is the source's.
const DEFAULT_HEIGHTS: [u32; 2] = [180, 360];

/// The layers of one track, lowest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::room) struct Layers {
    /// Quality and height of each spatial layer; never empty.
    entries: Vec<(u8, u32)>,
    /// Width and height of the source; zero if not announced.
    source: (u32, u32),
}

impl Layers {
    /// Reads a track's announcement, whose layers are sorted by quality.
    pub(in crate::room) fn new(info: &livekit::TrackInfo) -> Self {
        let mut entries: Vec<(u8, u32)> = info
            .layers
            .iter()
            .filter_map(|layer| Some((quality(layer.quality)?, layer.height)))
            .take(MAX_LAYERS)
            .collect();
        if entries.is_empty() {
            entries = vec![(0, 0), (1, 0), (2, 0)];
        }
        Self {
            entries,
            source: (info.width, info.height),
        }
    }

    /// The highest spatial layer.
    pub(in crate::room) fn top(&self) -> u8 {
        u8::try_from(self.entries.len().saturating_sub(1)).unwrap_or(0)
    }

    /// The spatial layer for a quality: the lowest that reaches it, else the highest there is.
    pub(in crate::room) fn for_quality(&self, wanted: u8) -> u8 {
        let index = self
            .entries
            .iter()
            .position(|(quality, _)| *quality >= wanted);
        index
            .and_then(|index| u8::try_from(index).ok())
            .unwrap_or_else(|| self.top())
    }

    /// The spatial layer for a picture of this size: the first whose height reaches nine tenths of
    /// it and whose follower is larger.
    pub(in crate::room) fn for_size(&self, width: u32, height: u32) -> u8 {
        let (source_width, source_height) = self.source;
        if source_height == 0 {
            return self.top();
        }
        let portrait = source_width < source_height;
        let sized = self.entries.iter().all(|(_, height)| *height > 0);
        let (heights, wanted) = if sized {
            let mut heights: Vec<u32> = self.entries.iter().map(|(_, height)| *height).collect();
            heights.sort_unstable();
            (heights, height)
        } else {
            let (source, wanted) = if portrait {
                (source_width, width)
            } else {
                (source_height, height)
            };
            ([&DEFAULT_HEIGHTS[..], &[source]].concat(), wanted)
        };
        let enough = u64::from(wanted) * 9 / 10;
        let fits = |pair: &[u32]| matches!(pair, [this, next] if u64::from(*this) >= enough && this != next);
        let index = heights.windows(2).position(fits);
        let index = index.and_then(|index| u8::try_from(index).ok());
        index.unwrap_or(u8::MAX).min(self.top())
    }

    /// The quality to ask a publisher for so that it sends this spatial layer. The highest layer is
    /// always asked for as HIGH, whatever it was announced as: then all that exists is on.
    pub(in crate::room) fn quality_of(&self, spatial: u8) -> u8 {
        if spatial >= self.top() {
            return 2;
        }
        self.entries
            .get(usize::from(spatial))
            .map_or(2, |(quality, _)| *quality)
    }
}

/// A quality a layer can have; OFF and unknown values are none.
pub(super) fn quality(value: i32) -> Option<u8> {
    u8::try_from(value).ok().filter(|quality| *quality <= 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(entries: &[(i32, u32)], source: (u32, u32)) -> Layers {
        let layer = |&(quality, height): &(i32, u32)| livekit::VideoLayer {
            quality,
            height,
            ..Default::default()
        };
        Layers::new(&livekit::TrackInfo {
            layers: entries.iter().map(layer).collect(),
            width: source.0,
            height: source.1,
            ..Default::default()
        })
    }

    #[test]
    fn a_size_gets_the_lowest_layer_that_reaches_nine_tenths_of_it() {
        let layers = layers(&[(0, 180), (1, 360), (2, 720)], (1280, 720));
        assert_eq!(layers.for_size(320, 180), 0);
        assert_eq!(layers.for_size(356, 200), 0);
        assert_eq!(layers.for_size(358, 202), 1);
        assert_eq!(layers.for_size(1280, 720), 2);
        assert_eq!(layers.for_size(9000, 9000), 2);
    }

    #[test]
    fn of_two_equal_layers_the_higher_is_taken() {
        assert_eq!(
            layers(&[(0, 360), (1, 360), (2, 720)], (1280, 720)).for_size(100, 100),
            1
        );
    }

    #[test]
    fn layers_without_sizes_are_taken_as_180_360_and_the_source() {
        let landscape = layers(&[(0, 0), (1, 0), (2, 0)], (1280, 720));
        assert_eq!(landscape.for_size(640, 360), 1);
        let portrait = layers(&[], (720, 1280));
        assert_eq!(portrait.for_size(180, 320), 0);
        assert_eq!(portrait.for_size(720, 1280), 2);
    }

    #[test]
    fn a_source_without_size_gives_the_highest_layer() {
        assert_eq!(layers(&[(0, 180), (2, 720)], (0, 0)).for_size(10, 10), 1);
    }

    #[test]
    fn a_quality_that_was_not_announced_maps_to_the_next_higher_or_the_highest() {
        let low_high = layers(&[(0, 180), (2, 720)], (1280, 720));
        assert_eq!(low_high.for_quality(1), 1);
        let low_medium = layers(&[(0, 180), (1, 360)], (640, 360));
        assert_eq!(low_medium.for_quality(2), 1);
    }

    #[test]
    fn the_highest_layer_is_asked_for_as_high() {
        let low_medium = layers(&[(0, 180), (1, 360)], (640, 360));
        assert_eq!(low_medium.quality_of(1), 2);
        assert_eq!(low_medium.quality_of(0), 0);
        assert_eq!(layers(&[(2, 720)], (1280, 720)).quality_of(0), 2);
    }

    #[test]
    fn absurd_sizes_do_not_overflow() {
        let layers = layers(&[(0, u32::MAX), (1, u32::MAX)], (u32::MAX, u32::MAX));
        assert!(layers.for_size(u32::MAX, u32::MAX) <= 1);
    }
}
