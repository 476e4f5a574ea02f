//! Seals and opens SRTP and SRTCP.
//!
//! Owns session keys, the nonces made of (SSRC, index), our SRTCP index and, per received SSRC, the
//! roll-over count and the replay window. It never chooses an RTP index when sealing: the caller must
//! not seal two different packets under one (SSRC, index). Called by the transport for every packet;
//! it allocates only when a new SSRC has been authenticated. The only file that names the ciphers.

use crate::units::ExtSeq;
use aes::Aes128Enc;
use aes::cipher::{
    BlockCipherEncrypt, BlockSizeUser, InnerIvInit, KeyInit, StreamCipher, consts::U16,
};
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ctr::{Ctr128BE, CtrCore};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use std::fmt;

pub use super::dtls::{Keying, Profile};

mod replay;

#[cfg(test)]
mod tests;

use replay::Streams;

/// What sealing adds at most: 16 tag and 4 SRTCP index.
pub const OVERHEAD_MAX: usize = GCM_TAG + INDEX_LEN;
/// Tag of AES-GCM. (RFC 7714 §13.2)
const GCM_TAG: usize = 16;
/// Tag of HMAC-SHA1-80. (RFC 3711 §5.2)
const CM_TAG: usize = 10;
/// The word with the E bit and the SRTCP index. (RFC 3711 §3.4)
const INDEX_LEN: usize = 4;
/// Bytes of a fixed RTP header.
const RTP_HEADER: usize = 12;
/// Bytes of an SRTCP packet that stay clear: header and sender's SSRC.
const RTCP_HEADER: usize = 8;
/// "Encrypted", beside the SRTCP index.
const E_BIT: u32 = 1 << 31;
/// SRTP indices have 48 bits. (RFC 3711 §3.3.1)
const RTP_INDICES: u64 = 1 << 48;

/// Why a packet was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Shorter than its header and tag.
    #[error("too short")]
    Short,
    /// The tag is wrong: forged, damaged, or sealed with other keys.
    #[error("not authentic")]
    Auth,
    /// Seen before, or older than the window.
    #[error("replayed")]
    Replay,
    /// An authentic packet of one SSRC more than a peer may ever use.
    #[error("too many SSRCs")]
    TooManyStreams,
}

/// Which half of the keying material seals, and which opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// We were the DTLS server: the client's keys open.
    Server,
    /// We were the DTLS client.
    Client,
}

/// Derives the session keys of both directions. `None` only if the crypto library refuses a key.
#[must_use]
pub fn keyed(keying: &Keying, side: Side) -> Option<(Opener, Sealer)> {
    let (remote, local) = match side {
        Side::Server => (keying.client(), keying.server()),
        Side::Client => (keying.server(), keying.client()),
    };
    let ciphers = |(key, salt)| Ciphers::derive(keying.profile(), key, salt);
    Some((Opener::new(ciphers(remote)?), Sealer::new(ciphers(local)?)))
}

/// A received RTP packet, opened in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Its SRTP index.
    pub seq: ExtSeq,
    /// Header and payload, without the tag.
    pub len: usize,
}

/// Seals what one peer is sent.
pub struct Sealer {
    ciphers: Ciphers,
    /// The next SRTCP index. (RFC 3711 §3.4: 31 bits)
    rtcp_index: u32,
}

impl Sealer {
    const fn new(ciphers: Ciphers) -> Self {
        Self {
            ciphers,
            rtcp_index: 0,
        }
    }

    /// Seals in place the first `plain_len` bytes of `packet`, the first `header_len` of which are
    /// the header; behind them lies room for the tag ([`OVERHEAD_MAX`]). `seq` is the index whose
    /// low bits, and `ssrc`, stand in the header. Returns the whole length; `None` when lengths do
    /// not fit or the index is used up, and the packet must not be sent then.
    pub fn seal_rtp(
        &self,
        header_len: usize,
        plain_len: usize,
        seq: ExtSeq,
        ssrc: u32,
        packet: &mut [u8],
    ) -> Option<usize> {
        if header_len < RTP_HEADER || seq.0 >= RTP_INDICES {
            return None;
        }
        self.ciphers
            .rtp
            .seal_rtp(header_len, plain_len, (ssrc, seq.0), packet)
    }

    /// Seals a packet out of place: writes `header`, then `payload` encrypted, then the tag to the
    /// front of `packet`, which spares the copy that [`Sealer::seal_rtp`] needs first. Otherwise as
    /// there.
    #[inline]
    pub fn seal_rtp_from(
        &self,
        header: &[u8; RTP_HEADER],
        payload: &[u8],
        seq: ExtSeq,
        ssrc: u32,
        packet: &mut [u8],
    ) -> Option<usize> {
        if seq.0 >= RTP_INDICES {
            return None;
        }
        let (front, rest) = packet.split_first_chunk_mut()?;
        *front = *header;
        match &self.ciphers.rtp {
            Cipher::Gcm(gcm) => {
                let (body, rest) = rest.split_at_mut_checked(payload.len())?;
                let tag = rest.get_mut(..GCM_TAG)?;
                gcm.seal_from(gcm.rtp_nonce((ssrc, seq.0)), header, payload, body, tag)?;
                Some(RTP_HEADER + payload.len() + GCM_TAG)
            }
            cipher @ Cipher::Cm(_) => {
                rest.get_mut(..payload.len())?.copy_from_slice(payload);
                let plain_len = RTP_HEADER + payload.len();
                cipher.seal_rtp(RTP_HEADER, plain_len, (ssrc, seq.0), packet)
            }
        }
    }

    /// Seals in place the compound RTCP packet in the first `plain_len` bytes of `packet`. Returns
    /// the whole length; `None` when it does not fit or all indices are used up.
    pub fn seal_rtcp(&mut self, packet: &mut [u8], plain_len: usize) -> Option<usize> {
        if self.rtcp_index >= E_BIT || plain_len < RTCP_HEADER {
            return None;
        }
        let ssrc = rtcp_ssrc(packet)?;
        let len = self
            .ciphers
            .rtcp
            .seal_rtcp(plain_len, (ssrc, self.rtcp_index), packet)?;
        self.rtcp_index += 1;
        Some(len)
    }
}

/// Opens what one peer sends.
pub struct Opener {
    ciphers: Ciphers,
    rtp: Streams,
    rtcp: Streams,
}

impl Opener {
    fn new(ciphers: Ciphers) -> Self {
        Self {
            ciphers,
            rtp: Streams::default(),
            rtcp: Streams::default(),
        }
    }

    /// Opens an RTP packet in place; `header_len`, `ssrc` and `seq` are its header's. Nothing is
    /// remembered of a packet that is refused, and its payload is garbage. (RFC 3711 §3.3)
    ///
    /// # Errors
    /// [`Refused`].
    pub fn open_rtp(
        &mut self,
        header_len: usize,
        ssrc: u32,
        seq: u16,
        packet: &mut [u8],
    ) -> Result<Opened, Refused> {
        if header_len < RTP_HEADER {
            return Err(Refused::Short);
        }
        let found = self.rtp.find(ssrc);
        // The count of roll-overs starts at 0 and is guessed from the newest index seen.
        let seq = self
            .rtp
            .newest(found)
            .map_or(ExtSeq(u64::from(seq)), |newest| ExtSeq(newest).nearest(seq));
        if seq.0 >= RTP_INDICES {
            return Err(Refused::Auth);
        }
        if !self.rtp.is_fresh(found, seq.0) {
            return Err(Refused::Replay);
        }
        let len = self
            .ciphers
            .rtp
            .open_rtp(header_len, (ssrc, seq.0), packet)?;
        self.rtp.accept(found, ssrc, seq.0)?;
        Ok(Opened { seq, len })
    }

    /// Opens a compound RTCP packet in place and returns its length. Whatever its E bit says, the
    /// packet is authenticated first. (RFC 3711 §3.4)
    ///
    /// # Errors
    /// [`Refused`].
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, Refused> {
        let ssrc = rtcp_ssrc(packet).ok_or(Refused::Short)?;
        let word = self.ciphers.rtcp.rtcp_word(packet).ok_or(Refused::Short)?;
        let index = u64::from(word & !E_BIT);
        let found = self.rtcp.find(ssrc);
        if !self.rtcp.is_fresh(found, index) {
            return Err(Refused::Replay);
        }
        let len = self.ciphers.rtcp.open_rtcp((ssrc, word), packet)?;
        self.rtcp.accept(found, ssrc, index)?;
        Ok(len)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").finish_non_exhaustive()
    }
}

/// The sender's SSRC of a compound RTCP packet.
fn rtcp_ssrc(packet: &[u8]) -> Option<u32> {
    let bytes = packet.first_chunk::<RTCP_HEADER>()?;
    Some(u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]))
}

/// The session keys of one direction.
struct Ciphers {
    rtp: Cipher,
    rtcp: Cipher,
}

impl Ciphers {
    /// Labels of the key derivation: 0 to 2 for RTP, 3 to 5 for RTCP. (RFC 3711 §4.3.1)
    fn derive(profile: Profile, key: &[u8], salt: &[u8]) -> Option<Self> {
        Some(Self {
            rtp: Cipher::derive(profile, key, salt, 0)?,
            rtcp: Cipher::derive(profile, key, salt, 3)?,
        })
    }
}

/// SSRC and index: what a nonce is made of.
type Position<I> = (u32, I);

/// Session keys for RTP or for RTCP, scheduled once.
enum Cipher {
    Gcm(Gcm),
    Cm(Box<Cm>),
}

impl Cipher {
    fn derive(profile: Profile, key: &[u8], salt: &[u8], label: u8) -> Option<Self> {
        let mut session_key = [0; 32];
        let session_key = session_key.get_mut(..profile.key_len())?;
        let mut session_salt = [0; 14];
        let session_salt = session_salt.get_mut(..profile.salt_len())?;
        derive(key, salt, label, session_key)?;
        derive(key, salt, label + 2, session_salt)?;
        let cipher = match profile {
            Profile::Aes128Gcm | Profile::Aes256Gcm => {
                Self::Gcm(Gcm::new(session_key, session_salt)?)
            }
            Profile::Aes128CmSha1_80 => {
                let mut auth = [0; 20];
                derive(key, salt, label + 1, &mut auth)?;
                Self::Cm(Box::new(Cm::new(session_key, session_salt, &auth)?))
            }
        };
        session_key.fill(0);
        std::hint::black_box(session_key);
        Some(cipher)
    }

    fn seal_rtp(
        &self,
        header_len: usize,
        plain_len: usize,
        at: Position<u64>,
        packet: &mut [u8],
    ) -> Option<usize> {
        let (plain, rest) = packet.split_at_mut_checked(plain_len)?;
        match self {
            Self::Gcm(gcm) => {
                let (header, payload) = plain.split_at_mut_checked(header_len)?;
                let place = rest.get_mut(..GCM_TAG)?;
                place.copy_from_slice(&gcm.seal(gcm.rtp_nonce(at), header, payload)?);
                Some(plain_len + GCM_TAG)
            }
            Self::Cm(cm) => {
                let place = rest.get_mut(..CM_TAG)?;
                cm.apply(at, plain.get_mut(header_len..)?);
                let tag = cm.tag(plain, &((at.1 >> 16) as u32).to_be_bytes());
                place.copy_from_slice(tag.first_chunk::<CM_TAG>()?);
                Some(plain_len + CM_TAG)
            }
        }
    }

    fn open_rtp(
        &self,
        header_len: usize,
        at: Position<u64>,
        packet: &mut [u8],
    ) -> Result<usize, Refused> {
        let plain_len = packet
            .len()
            .checked_sub(self.tag_len())
            .ok_or(Refused::Short)?;
        if plain_len < header_len {
            return Err(Refused::Short);
        }
        let (plain, tag) = packet.split_at_mut(plain_len);
        match self {
            Self::Gcm(gcm) => {
                let (header, payload) = plain.split_at_mut(header_len);
                gcm.open(gcm.rtp_nonce(at), header, payload, tag)?;
            }
            Self::Cm(cm) => {
                cm.verify(plain, &((at.1 >> 16) as u32).to_be_bytes(), tag)?;
                cm.apply(at, &mut plain[header_len..]);
            }
        }
        Ok(plain_len)
    }

    fn seal_rtcp(
        &self,
        plain_len: usize,
        (ssrc, index): Position<u32>,
        packet: &mut [u8],
    ) -> Option<usize> {
        let word = (index | E_BIT).to_be_bytes();
        let len = plain_len.checked_add(self.tag_len() + INDEX_LEN)?;
        let (plain, rest) = packet.get_mut(..len)?.split_at_mut_checked(plain_len)?;
        match self {
            Self::Gcm(gcm) => {
                let (header, payload) = plain.split_first_chunk_mut::<RTCP_HEADER>()?;
                let aad = rtcp_aad(header, word);
                let tag = gcm.seal(gcm.rtcp_nonce(ssrc, index), &aad, payload)?;
                rest[..GCM_TAG].copy_from_slice(&tag);
                rest[GCM_TAG..].copy_from_slice(&word);
            }
            Self::Cm(cm) => {
                cm.apply((ssrc, u64::from(index)), plain.get_mut(RTCP_HEADER..)?);
                let tag = cm.tag(plain, &word);
                rest[..INDEX_LEN].copy_from_slice(&word);
                rest[INDEX_LEN..].copy_from_slice(tag.first_chunk::<CM_TAG>()?);
            }
        }
        Some(len)
    }

    /// The E bit and index of an SRTCP packet: behind the tag under GCM, before it under CM.
    fn rtcp_word(&self, packet: &[u8]) -> Option<u32> {
        let from_end = match self {
            Self::Gcm(_) => INDEX_LEN,
            Self::Cm(_) => INDEX_LEN + CM_TAG,
        };
        if packet.len() < RTCP_HEADER + INDEX_LEN + self.tag_len() {
            return None;
        }
        let word = packet.get(packet.len() - from_end..)?.first_chunk()?;
        Some(u32::from_be_bytes(*word))
    }

    /// `packet` is long enough for its word to have been read.
    fn open_rtcp(&self, (ssrc, word): Position<u32>, packet: &mut [u8]) -> Result<usize, Refused> {
        let plain_len = packet.len() - self.tag_len() - INDEX_LEN;
        let index = word & !E_BIT;
        let (plain, rest) = packet.split_at_mut(plain_len);
        match self {
            Self::Gcm(gcm) => {
                let nonce = gcm.rtcp_nonce(ssrc, index);
                if word & E_BIT != 0 {
                    let (header, payload) = plain.split_first_chunk_mut().ok_or(Refused::Short)?;
                    let aad = rtcp_aad(header, word.to_be_bytes());
                    gcm.open(nonce, &aad, payload, &rest[..GCM_TAG])?;
                } else {
                    // All of the packet and the word are additional data: bring them together.
                    let mut tag = [0; GCM_TAG];
                    tag.copy_from_slice(&rest[..GCM_TAG]);
                    packet[plain_len..plain_len + INDEX_LEN].copy_from_slice(&word.to_be_bytes());
                    gcm.open(nonce, &packet[..plain_len + INDEX_LEN], &mut [], &tag)?;
                }
            }
            Self::Cm(cm) => {
                cm.verify(plain, &word.to_be_bytes(), &rest[INDEX_LEN..])?;
                if word & E_BIT != 0 {
                    cm.apply((ssrc, u64::from(index)), &mut plain[RTCP_HEADER..]);
                }
            }
        }
        Ok(plain_len)
    }

    const fn tag_len(&self) -> usize {
        match self {
            Self::Gcm(_) => GCM_TAG,
            Self::Cm(_) => CM_TAG,
        }
    }
}

/// Additional data of an encrypted SRTCP packet. (RFC 7714 §9.2)
fn rtcp_aad(header: &[u8; RTCP_HEADER], word: [u8; INDEX_LEN]) -> [u8; RTCP_HEADER + INDEX_LEN] {
    let mut aad = [0; RTCP_HEADER + INDEX_LEN];
    aad[..RTCP_HEADER].copy_from_slice(header);
    aad[RTCP_HEADER..].copy_from_slice(&word);
    aad
}

/// AES-GCM.
struct Gcm {
    key: LessSafeKey,
    salt: [u8; NONCE_LEN],
}

impl Gcm {
    fn new(key: &[u8], salt: &[u8]) -> Option<Self> {
        let algorithm = if key.len() == 16 {
            &AES_128_GCM
        } else {
            &AES_256_GCM
        };
        Some(Self {
            key: LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?),
            salt: salt.try_into().ok()?,
        })
    }

    /// Two zero bytes, SSRC, index of 48 bits; masked by the salt. (RFC 7714 §8.1)
    fn rtp_nonce(&self, (ssrc, index): Position<u64>) -> Nonce {
        self.nonce(u128::from(ssrc) << 48 | u128::from(index))
    }

    /// Two zero bytes, SSRC, two zero bytes, index of 31 bits; masked by the salt. (RFC 7714 §9.1)
    fn rtcp_nonce(&self, ssrc: u32, index: u32) -> Nonce {
        self.nonce(u128::from(ssrc) << 48 | u128::from(index))
    }

    fn nonce(&self, value: u128) -> Nonce {
        let [_, _, _, _, low @ ..] = value.to_be_bytes();
        let mut nonce = self.salt;
        nonce
            .iter_mut()
            .zip(low)
            .for_each(|(byte, mask)| *byte ^= mask);
        Nonce::assume_unique_for_key(nonce)
    }

    #[inline]
    fn seal(&self, nonce: Nonce, aad: &[u8], payload: &mut [u8]) -> Option<[u8; GCM_TAG]> {
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(aad), payload)
            .ok()?;
        tag.as_ref().try_into().ok()
    }

    /// Seals `payload` into `body`, which is as long, and writes the tag of [`GCM_TAG`] bytes.
    #[inline]
    fn seal_from(
        &self,
        nonce: Nonce,
        aad: &[u8],
        payload: &[u8],
        body: &mut [u8],
        tag: &mut [u8],
    ) -> Option<()> {
        self.key
            .seal_out_of_place_scatter(nonce, Aad::from(aad), payload, body, &[], tag)
            .ok()
    }

    fn open(
        &self,
        nonce: Nonce,
        aad: &[u8],
        payload: &mut [u8],
        tag: &[u8],
    ) -> Result<(), Refused> {
        self.key
            .open_in_place_separate_tag(nonce, Aad::from(aad), tag, payload)
            .map(|_| ())
            .map_err(|_| Refused::Auth)
    }
}

/// AES counter mode with HMAC-SHA1, keyed once; each packet clones the state.
struct Cm {
    aes: Aes128Enc,
    mac: Hmac<Sha1>,
    salt: [u8; 14],
}

impl Cm {
    fn new(key: &[u8], salt: &[u8], auth: &[u8]) -> Option<Self> {
        Some(Self {
            aes: Aes128Enc::new_from_slice(key).ok()?,
            mac: Hmac::new_from_slice(auth).ok()?,
            salt: salt.try_into().ok()?,
        })
    }

    /// Encrypts or decrypts. (RFC 3711 §4.1.1)
    fn apply(&self, (ssrc, index): Position<u64>, payload: &mut [u8]) {
        let mut iv = [0; 16];
        iv[..14].copy_from_slice(&self.salt);
        let position = (u128::from(ssrc) << 64 | u128::from(index) << 16).to_be_bytes();
        iv.iter_mut()
            .zip(position)
            .for_each(|(byte, mask)| *byte ^= mask);
        counter_mode(&self.aes, iv, payload);
    }

    /// Of `packet` and what follows it unsent (the roll-over count) or sent (the SRTCP word).
    fn mac(&self, packet: &[u8], tail: &[u8; 4]) -> Hmac<Sha1> {
        let mut mac = self.mac.clone();
        mac.update(packet);
        mac.update(tail);
        mac
    }

    fn tag(&self, packet: &[u8], tail: &[u8; 4]) -> [u8; 20] {
        self.mac(packet, tail).finalize().into_bytes().into()
    }

    fn verify(&self, packet: &[u8], tail: &[u8; 4], tag: &[u8]) -> Result<(), Refused> {
        let mac = self.mac(packet, tail);
        mac.verify_truncated_left(tag).map_err(|_| Refused::Auth)
    }
}

/// XORs `bytes` with the key stream that begins at `iv`.
fn counter_mode<C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>>(
    cipher: &C,
    iv: [u8; 16],
    bytes: &mut [u8],
) {
    let core = CtrCore::inner_iv_init(cipher, &iv.into());
    Ctr128BE::from_core(core).apply_keystream(bytes);
}

/// Fills `out` with the session key of `label`; we never rekey by index, so r is 0. Salts shorter
/// than 14 bytes are padded at the end. (RFC 3711 §4.3, RFC 6188 §3, RFC 7714 §11)
fn derive(key: &[u8], salt: &[u8], label: u8, out: &mut [u8]) -> Option<()> {
    let mut iv = [0; 16];
    iv.get_mut(..salt.len())?.copy_from_slice(salt);
    iv[7] ^= label;
    out.fill(0);
    match key.len() {
        16 => counter_mode(&Aes128Enc::new_from_slice(key).ok()?, iv, out),
        32 => counter_mode(&aes::Aes256Enc::new_from_slice(key).ok()?, iv, out),
        _ => return None,
    }
    Some(())
}
