//! A quick keyed hash for the maps of the packet path.
//!
//! Owns the hasher only. Keyed from the server's seed, so that nobody outside can choose addresses
//! that meet in one bucket; not for anything secret.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

/// A map under [`Keyed`].
pub(crate) type Map<K, V> = HashMap<K, V, Keyed>;

/// Makes hashers of one key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keyed {
    key: [u64; 2],
}

impl Keyed {
    pub(crate) const fn new(key: [u64; 2]) -> Self {
        Self { key }
    }
}

impl BuildHasher for Keyed {
    type Hasher = Folding;

    fn build_hasher(&self) -> Folding {
        Folding {
            state: self.key[0],
            key: self.key[1] | 1,
        }
    }
}

/// Multiplies to 128 bits and folds the halves, a word at a time.
#[derive(Debug)]
pub(crate) struct Folding {
    state: u64,
    key: u64,
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

impl Hasher for Folding {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word) ^ (chunk.len() as u64) << 56);
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.state = fold(self.state ^ word, self.key ^ 0x9E37_79B9_7F4A_7C15);
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        fold(self.state, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_addresses_are_spread_and_the_key_matters() {
        let hash = |key: [u64; 2], n: u32| Keyed::new(key).hash_one(n);
        let mut low: Vec<u64> = (0..4096).map(|n| hash([1, 2], n) % 4096).collect();
        low.sort_unstable();
        low.dedup();
        assert!(low.len() > 2300, "{} of 4096 places used", low.len());
        assert_ne!(hash([1, 2], 7), hash([3, 4], 7));
        assert_eq!(hash([1, 2], 7), hash([1, 2], 7));
    }
}
