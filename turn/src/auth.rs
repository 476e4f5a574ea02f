//! What comes of the seed: nonces, told to clients and known again without being kept (RFC 8489
//! §5, §9.2), and numbers that nobody can guess.
//!
//! Owns the keys they are made with; decides nothing, the server asks it. A nonce is the cookie of
//! RFC 8489 with the features we have, the second it was made in, and a signature over that and the
//! client's address, so that one client's is no good for another. What was changed of its features on
//! the way makes it another nonce, which is none of ours.

use crate::address::Client;
use aws_lc_rs::{constant_time, hmac};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The nonce cookie and the features behind it, 24 bits in base64: bit 0 is that there are password
/// algorithms, bit 1 that names may be hashed. The lowest bit is the first: §18.1 says the opposite, which
/// is an error. (RFC 8489 §9.2, erratum 6290)
const COOKIES: [&[u8; COOKIE]; 2] = [b"obMatJos2AAAB", b"obMatJos2AAAD"];
/// Characters of either.
const COOKIE: usize = 13;
/// Characters of a nonce: hexadecimal after the cookie, so that every client can quote it.
pub(crate) const NONCE: usize = COOKIE + 32;
/// Characters of its time.
const TIME: usize = 8;

/// Makes and knows nonces.
pub(crate) struct Nonces {
    key: hmac::Key,
    began: Instant,
    lifetime: Duration,
    cookie: &'static [u8; COOKIE],
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonces(..)")
    }
}

impl Nonces {
    pub(crate) fn new(seed: &[u8; 32], lifetime: Duration, now: Instant) -> Self {
        let seed = hmac::Key::new(hmac::HMAC_SHA256, seed);
        let key = hmac::sign(&seed, b"nonces");
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()),
            began: now,
            lifetime,
            cookie: COOKIES[0],
        }
    }

    /// Whether clients are told that they may hash their names. Nonces that said otherwise are old.
    pub(crate) const fn announce_anonymity(&mut self, hashed: bool) {
        self.cookie = if hashed { COOKIES[1] } else { COOKIES[0] };
    }

    /// A nonce for a client.
    pub(crate) fn issue(&self, client: &Client, now: Instant) -> [u8; NONCE] {
        let second = now.saturating_duration_since(self.began).as_secs() as u32;
        self.make(client, second)
    }

    /// Whether it was told this client, and not too long ago: it counts from the end of the second it was
    /// made in, so that none is stale before its time.
    pub(crate) fn is_fresh(&self, nonce: &[u8], client: &Client, now: Instant) -> bool {
        self.told(nonce, client).is_some_and(|second| {
            let age = now
                .saturating_duration_since(self.began)
                .saturating_sub(Duration::from_secs(u64::from(second) + 1));
            age < self.lifetime
        })
    }

    /// Whether it was told this client, however long ago: he has the address he sends from.
    pub(crate) fn is_told(&self, nonce: &[u8], client: &Client) -> bool {
        self.told(nonce, client).is_some()
    }

    /// When it was told this client.
    fn told(&self, nonce: &[u8], client: &Client) -> Option<u32> {
        let time = nonce.get(COOKIE..COOKIE + TIME)?;
        let time = std::str::from_utf8(time).ok()?;
        let second = u32::from_str_radix(time, 16).ok()?;
        let right = self.make(client, second);
        constant_time::verify_slices_are_equal(&right, nonce).ok()?;
        Some(second)
    }

    fn make(&self, client: &Client, second: u32) -> [u8; NONCE] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&second.to_be_bytes());
        match client.remote.ip() {
            IpAddr::V4(ip) => context.update(&ip.octets()),
            IpAddr::V6(ip) => context.update(&ip.octets()),
        }
        context.update(&client.remote.port().to_be_bytes());
        context.update(&[client.transport as u8]);
        let tag = context.sign();
        let mut nonce = [b'0'; NONCE];
        let (cookie, rest) = nonce.split_at_mut(COOKIE);
        cookie.copy_from_slice(self.cookie);
        let time = second.to_be_bytes();
        let bytes = time.iter().chain(tag.as_ref());
        for (pair, byte) in rest.chunks_exact_mut(2).zip(bytes) {
            pair[0] = digit(byte >> 4);
            pair[1] = digit(byte & 0xF);
        }
        nonce
    }
}

const fn digit(value: u8) -> u8 {
    match value {
        0..=9 => b'0' + value,
        _ => b'a' + value - 10,
    }
}

/// Numbers from the seed: keys of maps, tokens, transactions of indications. What must not be
/// guessed is signed or drawn through a key besides.
pub(crate) struct Chance {
    key: hmac::Key,
    count: u64,
}

impl fmt::Debug for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chance(..)")
    }
}

impl Chance {
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, seed);
        Self { key, count: 0 }
    }

    /// For an indication, which nobody answers: unlike others, not unguessable.
    pub(crate) fn transaction(&mut self) -> [u8; 12] {
        self.count += 1;
        let mut out = *b"indi\0\0\0\0\0\0\0\0";
        out[4..].copy_from_slice(&self.count.to_be_bytes());
        out
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.count += 1;
        let tag = hmac::sign(&self.key, &self.count.to_be_bytes());
        let first = tag.as_ref().first_chunk::<8>();
        first.map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Transport;

    fn client(port: u16) -> Client {
        Client {
            transport: Transport::Udp,
            local: ([9, 9, 9, 9], 3479).into(),
            remote: ([1, 2, 3, 4], port).into(),
            shared: false,
            link: 0,
        }
    }

    #[test]
    fn a_nonce_that_is_made_late_in_its_second_is_good_for_all_its_time() {
        #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
        let now = Instant::now();
        let nonces = Nonces::new(&[7; 32], Duration::from_secs(1), now);
        let late = now + Duration::from_millis(5_990);
        let nonce = nonces.issue(&client(1), late);
        let after = |ms| late + Duration::from_millis(ms);
        assert!(nonces.is_fresh(&nonce, &client(1), late));
        assert!(nonces.is_fresh(&nonce, &client(1), after(990)));
        assert!(!nonces.is_fresh(&nonce, &client(1), after(1_100)));
    }

    #[test]
    fn a_nonce_is_good_for_its_client_and_its_time() {
        #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
        let now = Instant::now();
        let nonces = Nonces::new(&[7; 32], Duration::from_secs(600), now);
        let nonce = nonces.issue(&client(1), now + Duration::from_secs(5));
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!(nonces.is_fresh(&nonce, &client(1), at(6)));
        assert!(nonces.is_fresh(&nonce, &client(1), at(604)));
        assert!(!nonces.is_fresh(&nonce, &client(1), at(606)));
        assert!(!nonces.is_fresh(&nonce, &client(2), at(6)));
        let other = Nonces::new(&[8; 32], Duration::from_secs(600), now);
        assert!(!other.is_fresh(&nonce, &client(1), at(6)));
        for text in [&b""[..], b"0000", &[0xFF; NONCE], &nonce[..NONCE - 1]] {
            assert!(!nonces.is_fresh(text, &client(1), at(6)));
        }
    }

    #[test]
    fn a_nonce_says_what_we_can_and_is_none_of_ours_when_that_was_changed() {
        #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
        let now = Instant::now();
        let mut nonces = Nonces::new(&[7; 32], Duration::from_secs(600), now);
        let plain = nonces.issue(&client(1), now);
        assert!(plain.starts_with(b"obMatJos2AAAB"));
        for (at, byte) in [(12, b'A'), (12, b'D'), (0, b'x')] {
            let mut changed = plain;
            changed[at] = byte;
            assert!(!nonces.is_fresh(&changed, &client(1), now));
        }
        nonces.announce_anonymity(true);
        assert!(nonces.issue(&client(1), now).starts_with(b"obMatJos2AAAD"));
        assert!(!nonces.is_fresh(&plain, &client(1), now));
    }
}
