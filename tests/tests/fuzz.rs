//! Replays the committed inputs of the fuzzer, and some thousand mutations of them, on the ordinary
//! build: what was found once is not found again, without libFuzzer.

use fuzz::{TARGETS, Target};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Mutations of a target for each point of its share, which is larger the quicker it is.
const MUTATIONS: u64 = 60;
/// The least of them.
const MUTATIONS_MIN: u64 = 150;

fn corpus(target: &Target) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let entries = std::fs::read_dir(folder.join(target.name));
    let entries = entries.unwrap_or_else(|error| panic!("{}: no corpus: {error}", target.name));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    files
}

/// A small generator of its own, so that the mutations are the same everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

fn mutate(seeds: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = seeds[chance.below(seeds.len())].clone();
    for _ in 0..1 + chance.below(6) {
        let at = chance.below(bytes.len() + 1);
        match chance.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, chance.below(256) as u8),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 if at < bytes.len() => bytes[at] = [0, 1, 127, 128, 255][chance.below(5)],
            4 => {
                let other = &seeds[chance.below(seeds.len())];
                let from = chance.below(other.len());
                let len = chance.below(64).min(other.len() - from);
                bytes.splice(at..at, other[from..from + len].iter().copied());
            }
            _ if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            _ => {}
        }
    }
    bytes.truncate(1 << 16);
    bytes
}

/// What goes wrong with an input, if anything.
fn fault(target: &Target, bytes: &[u8]) -> Option<String> {
    let result = catch_unwind(AssertUnwindSafe(|| target.check(bytes)));
    let payload = result.err()?;
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| {
        payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
    });
    Some(text.unwrap_or_default())
}

#[test]
fn every_committed_input_of_the_fuzzer_and_its_mutations_do_no_harm() {
    for target in TARGETS {
        let files = corpus(target);
        assert!(!files.is_empty(), "{}: an empty corpus", target.name);
        let read = |path: &PathBuf| std::fs::read(path).expect("readable");
        let seeds: Vec<Vec<u8>> = files.iter().map(read).collect();
        for (path, seed) in files.iter().zip(&seeds) {
            if let Some(fault) = fault(target, seed) {
                panic!("{}: {}: {fault}", target.name, path.display());
            }
        }
        let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
        for number in 0..(target.share * MUTATIONS).max(MUTATIONS_MIN) {
            let bytes = mutate(&seeds, &mut chance);
            if let Some(fault) = fault(target, &bytes) {
                panic!("{}: mutation {number}: {fault}\n{bytes:?}", target.name);
            }
        }
    }
}

#[test]
fn a_target_that_holds_more_than_its_limit_fails() {
    let greedy = Target {
        name: "greedy",
        run: |bytes| drop(vec![0_u8; 1000 * bytes.len()]),
        heap: 5000,
        share: 1,
    };
    assert_eq!(fault(&greedy, b"12345"), None);
    assert!(fault(&greedy, b"123456").is_some_and(|fault| fault.contains("6000 bytes of heap")));
}
