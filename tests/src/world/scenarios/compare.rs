//! What must be the same of two runs with one seed, whatever they differ in.
//!
//! Owns the properties and how far each may be apart. Called by the scenarios that have twins.

use super::Outcome;
use std::collections::BTreeMap;
use std::time::Duration;

/// What is compared, one name each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// The same people see the same tracks.
    Tracks,
    /// As many frames of each are decoded.
    Count,
    /// The same moments are shown, from when both see a track on.
    Frames,
    /// None of them is shown later.
    Moments,
    /// The highest layer that is seen is the same.
    Layers,
    /// Servers tell publishers of the same loss, or of none.
    Loss,
}

/// How far twins may be apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Within {
    /// Frames of a track of which one sees more than the other.
    pub count: u64,
    /// Moments that only one of them sees; `None`: what is lost is lost by chance.
    pub frames: Option<u64>,
    /// How much later a moment may be shown than by the other.
    pub later: Option<Duration>,
    /// What servers tell of loss.
    pub loss: Told,
}

/// What servers tell of loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// As much as to the twin.
    Same,
    /// None, whatever the twin is told: a stream loses nothing.
    None,
    /// What chance has it.
    Any,
}

impl Within {
    /// So many frames may be missing at the start, and nothing else is compared but what is always.
    #[must_use]
    pub const fn frames(count: u64) -> Self {
        Self {
            count,
            frames: None,
            later: None,
            loss: Told::Any,
        }
    }
}

/// What somebody saw of a track.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// Subscriber, publisher and the place of the track.
    pub of: (usize, usize, usize),
    /// Frames decoded.
    pub decoded: u64,
    /// The highest layer.
    pub layer: u8,
    /// When each moment was shown, since the world began, by when it was captured.
    pub shown: BTreeMap<u32, Duration>,
}

/// Everything the twin may not be different in.
#[must_use]
pub fn differences(one: &Outcome, two: &Outcome, within: &Within) -> Vec<(Property, String)> {
    let mut found = Vec::new();
    let tracks =
        |outcome: &Outcome| -> Vec<_> { outcome.sights.iter().map(|sight| sight.of).collect() };
    if tracks(one) != tracks(two) {
        let what = format!("{:?}, of the other {:?}", tracks(one), tracks(two));
        return vec![(Property::Tracks, what)];
    }
    for (one, two) in one.sights.iter().zip(&two.sights) {
        let (who, publisher, track) = one.of;
        let name = format!("p{who} of p{publisher} track {track}");
        let told = compare(one, two, within);
        found.extend(told.map(|(property, what)| (property, format!("{name}: {what}"))));
    }
    let wrong = match within.loss {
        Told::Same => one.told_lost != two.told_lost,
        Told::None => two.told_lost != 0,
        Told::Any => false,
    };
    if wrong {
        let what = format!("{} told, of the other {}", one.told_lost, two.told_lost);
        found.push((Property::Loss, what));
    }
    found
}

fn compare(
    one: &Sight,
    two: &Sight,
    within: &Within,
) -> impl Iterator<Item = (Property, String)> + use<> {
    let mut found = Vec::new();
    if one.decoded.abs_diff(two.decoded) > within.count {
        let what = format!("{} frames, of the other {}", one.decoded, two.decoded);
        found.push((Property::Count, what));
    }
    if one.layer != two.layer {
        let what = format!("layer {}, of the other {}", one.layer, two.layer);
        found.push((Property::Layers, what));
    }
    let begin = one.shown.keys().next().max(two.shown.keys().next());
    let end = one.shown.keys().last().min(two.shown.keys().last());
    if let (Some(most), Some(begin), Some(end)) = (within.frames, begin, end) {
        let lacks = |one: &Sight, two: &Sight| {
            let both = one.shown.range(begin..=end);
            both.filter(|(moment, _)| !two.shown.contains_key(moment))
                .count() as u64
        };
        let (more, fewer) = (lacks(one, two), lacks(two, one));
        if more + fewer > most {
            let what = format!("{more} moments only here, {fewer} only there");
            found.push((Property::Frames, what));
        }
    }
    let later = one.shown.iter().filter_map(|(moment, at)| {
        let there = two.shown.get(moment)?;
        Some(at.abs_diff(*there))
    });
    if let (Some(most), Some(later)) = (within.later, later.max())
        && later > most
    {
        found.push((Property::Moments, format!("{} ms apart", later.as_millis())));
    }
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn outcome(change: impl FnOnce(&mut Sight)) -> Outcome {
        let mut sight = Sight {
            of: (1, 0, 1),
            decoded: 100,
            layer: 2,
            shown: (0..100).map(|n| (n * 33_000, n * 33 * MS)).collect(),
        };
        change(&mut sight);
        Outcome {
            sights: vec![sight],
            ..Outcome::default()
        }
    }

    const WITHIN: Within = Within {
        count: 10,
        frames: Some(3),
        later: Some(Duration::from_millis(20)),
        loss: Told::Same,
    };

    /// What is told of a twin that was changed so.
    fn told(change: impl FnOnce(&mut Sight)) -> Vec<Property> {
        let found = differences(&outcome(|_| ()), &outcome(change), &WITHIN);
        found.into_iter().map(|(property, _)| property).collect()
    }

    #[test]
    fn twins_that_see_the_same_are_the_same() {
        assert_eq!(told(|_| ()), []);
        assert_eq!(told(|sight| sight.decoded += 10), []);
    }

    #[test]
    fn each_property_is_told_when_it_differs() {
        assert_eq!(told(|sight| sight.of.0 = 2), [Property::Tracks]);
        assert_eq!(told(|sight| sight.decoded += 11), [Property::Count]);
        assert_eq!(told(|sight| sight.layer = 1), [Property::Layers]);
        let lacking = told(|sight| sight.shown.retain(|moment, _| moment % 330_000 != 0));
        assert_eq!(lacking, [Property::Frames]);
        let late = told(|sight| {
            sight.shown.insert(33_000 * 50, 50 * 33 * MS + 21 * MS);
        });
        assert_eq!(late, [Property::Moments]);
    }

    #[test]
    fn what_only_one_saw_at_the_start_or_the_end_is_no_difference() {
        let begins_later = |sight: &mut Sight| sight.shown = sight.shown.split_off(&660_000);
        assert_eq!(told(begins_later), []);
        let ends_sooner = |sight: &mut Sight| {
            sight.shown.split_off(&(33_000 * 90));
        };
        assert_eq!(told(ends_sooner), []);
    }

    #[test]
    fn a_loss_that_servers_tell_one_twin_only_is_told() {
        let lossy = |lost| Outcome {
            told_lost: lost,
            ..outcome(|_| ())
        };
        let found = |one, two, loss| {
            let within = Within { loss, ..WITHIN };
            let found = differences(&lossy(one), &lossy(two), &within);
            found.iter().any(|(told, _)| *told == Property::Loss)
        };
        assert!(!found(3, 3, Told::Same) && found(3, 2, Told::Same));
        assert!(!found(3, 0, Told::None) && found(0, 1, Told::None));
        assert!(!found(3, 9, Told::Any));
    }
}
