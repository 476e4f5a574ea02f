//! Damaged offers of real clients never panic, and those still answered are answered well.

use super::*;
use proptest::prelude::*;

const FIXTURES: [&str; 8] = [
    CHROMIUM_JOIN,
    CHROMIUM_MICROPHONE,
    CHROMIUM_FOURTH_VIDEO,
    CHROMIUM_STOPPED,
    CHROMIUM_RESTART,
    FIREFOX_JOIN,
    FIREFOX_CAMERA,
    RUST_JOIN,
];

#[derive(Debug, Clone)]
enum Damage {
    Cut(usize),
    Repeat(usize, usize),
    Truncate(usize, usize),
    Replace(usize, usize, char),
    Append(usize, String),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<usize>;
    prop_oneof![
        at().prop_map(Damage::Cut),
        (at(), at()).prop_map(|(a, b)| Damage::Repeat(a, b)),
        (at(), at()).prop_map(|(a, b)| Damage::Truncate(a, b)),
        (at(), at(), any::<char>()).prop_map(|(a, b, c)| Damage::Replace(a, b, c)),
        (at(), "[ -~]{0,12}").prop_map(|(a, text)| Damage::Append(a, text)),
    ]
}

fn apply(text: &str, damages: Vec<Damage>) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for damage in damages {
        let count = lines.len().max(1);
        let place = |text: &str, at: usize| {
            let places: Vec<usize> = text.char_indices().map(|(index, _)| index).collect();
            places.get(at % places.len().max(1)).copied()
        };
        match damage {
            Damage::Cut(line) => drop((!lines.is_empty()).then(|| lines.remove(line % count))),
            Damage::Repeat(from, to) => {
                if let Some(line) = lines.get(from % count).cloned() {
                    lines.insert(to % count, line);
                }
            }
            Damage::Truncate(line, at) => {
                if let Some(text) = lines.get_mut(line % count) {
                    let at = place(text, at).unwrap_or(0);
                    text.truncate(at);
                }
            }
            Damage::Replace(line, at, with) => {
                if let Some(text) = lines.get_mut(line % count)
                    && let Some(at) = place(text, at)
                {
                    text.remove(at);
                    text.insert(at, with);
                }
            }
            Damage::Append(line, more) => {
                if let Some(text) = lines.get_mut(line % count) {
                    text.push_str(&more);
                }
            }
        }
    }
    lines.join("\r\n") + "\r\n"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_damaged_offer_is_answered_or_refused(
        offers in proptest::collection::vec(
            (0..FIXTURES.len(), proptest::collection::vec(damage(), 0..4)),
            1..4,
        ),
        subscribed in 0u32..6,
    ) {
        let mut world = world();
        for index in 0..subscribed {
            let codec = if index % 2 == 0 { Codec::Vp8 } else { Codec::Red };
            let _ = world.subscribe(index, codec);
            world.publish(index, spec(codec.kind(), MICROPHONE));
        }
        for (fixture, damages) in offers {
            let sdp = apply(FIXTURES[fixture], damages);
            if let Ok(answered) = world.try_offer(&sdp) {
                let read = sections(&answered.sdp);
                prop_assert_eq!(read.len(), sections(&sdp).len());
                prop_assert_eq!(answered.mids.len(), answered.sending.len());
            }
            let _ = world.needed();
            world.unsubscribe(0);
        }
    }
}
