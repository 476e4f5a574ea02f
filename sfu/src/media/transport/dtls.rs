//! One peer's DTLS association, server role, version 1.2.
//!
//! Owns what all peers share (certificate, settings), the handshake, the check of the client's
//! certificate against its session description, and the keying material for SRTP. It opens no
//! socket; inside `dimpl` handshake bytes are random. Called by the transport for every DTLS
//! datagram. The only file that names `dimpl`.
//!
//! Being the server we choose the SRTP profile, and AES-GCM costs a third of AES-CM with HMAC-SHA1:
//! our answers say `a=setup:passive`, and the version stays 1.2, where `dimpl` lets the server choose.

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// Largest datagram sent: what every path carries. (RFC 8261 §5 calls 1200 safe)
const MTU: usize = 1200;
/// First retransmission of a flight; doubles from there. Browsers begin at 50 ms.
const RETRANSMIT_AFTER: Duration = Duration::from_millis(150);
/// Retransmissions of one flight. Those asked for by a repeated flight of the client count too, and
/// browsers repeat fast; the deadline ends a handshake, not this.
const RETRANSMISSIONS: usize = 40;
/// From the first ClientHello to the end of the handshake; beyond it no user waits.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(20);
/// `dimpl` says "no timer" with one years away; anything beyond is taken for none.
const NO_TIMER: Duration = Duration::from_secs(24 * 60 * 60);
/// Room that [`Dtls::poll`] needs: a datagram, or the client's certificate. A client whose
/// certificate is larger is refused; self-signed ones on P-256 have about 400 bytes.
pub const BUFFER: usize = 4096;

/// How SRTP seals, as negotiated. (RFC 5764 §4.1.2, RFC 7714 §14.2)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// AEAD_AES_128_GCM.
    Aes128Gcm,
    /// AEAD_AES_256_GCM.
    Aes256Gcm,
    /// SRTP_AES128_CM_HMAC_SHA1_80.
    Aes128CmSha1_80,
}

impl Profile {
    /// Its number on the wire. (RFC 5764 §4.1.2, RFC 7714 §14.2)
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Aes128CmSha1_80 => 0x0001,
            Self::Aes128Gcm => 0x0007,
            Self::Aes256Gcm => 0x0008,
        }
    }

    /// Bytes of a master key.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes128CmSha1_80 => 16,
            Self::Aes256Gcm => 32,
        }
    }

    /// Bytes of a master salt.
    #[must_use]
    pub const fn salt_len(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 12,
            Self::Aes128CmSha1_80 => 14,
        }
    }
}

/// Bytes of the longest keying material: two keys of 32, two salts of 12.
const KEYING_MAX: usize = 88;

/// Master keys and salts of both directions; wiped when dropped. (RFC 5764 §4.2)
#[derive(Clone)]
pub struct Keying {
    profile: Profile,
    bytes: [u8; KEYING_MAX],
}

impl Keying {
    /// From the exported material: client key, server key, client salt, server salt. `None` if it
    /// has another length than the profile wants.
    #[must_use]
    pub fn new(profile: Profile, material: &[u8]) -> Option<Self> {
        let mut keying = Self {
            profile,
            bytes: [0; KEYING_MAX],
        };
        if material.len() != 2 * (profile.key_len() + profile.salt_len()) {
            return None;
        }
        keying
            .bytes
            .get_mut(..material.len())?
            .copy_from_slice(material);
        Some(keying)
    }

    /// The profile.
    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// Master key and salt of what the client sends.
    #[must_use]
    pub fn client(&self) -> (&[u8], &[u8]) {
        self.part(0)
    }

    /// Master key and salt of what we send.
    #[must_use]
    pub fn server(&self) -> (&[u8], &[u8]) {
        self.part(1)
    }

    /// The exported material, as [`Self::new`] takes it.
    #[must_use]
    pub fn material(&self) -> Vec<u8> {
        let ((client, client_salt), (server, server_salt)) = (self.client(), self.server());
        [client, server, client_salt, server_salt].concat()
    }

    fn part(&self, index: usize) -> (&[u8], &[u8]) {
        let (key, salt) = (self.profile.key_len(), self.profile.salt_len());
        let salts = 2 * key;
        (
            &self.bytes[index * key..(index + 1) * key],
            &self.bytes[salts + index * salt..salts + (index + 1) * salt],
        )
    }
}

impl Drop for Keying {
    fn drop(&mut self) {
        self.bytes.fill(0);
        // Keeps the compiler from leaving the wiping out.
        black_box(&self.bytes);
    }
}

impl fmt::Debug for Keying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keying")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

/// Why a transport cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DtlsError {
    /// The handshake failed, or took too long; the client's fault or the network's.
    #[error("DTLS: {0}")]
    Handshake(String),
    /// The client's certificate is not the one its session description promised.
    #[error("the certificate does not match the fingerprint of the offer")]
    Fingerprint,
    /// The client and we have no SRTP profile in common.
    #[error("no SRTP profile in common")]
    NoProfile,
    /// The client's certificate is too large.
    #[error("a certificate of {0} bytes")]
    CertificateTooLarge(usize),
    /// The certificate could not be made, or the settings do not hold: ours.
    #[error("DTLS cannot be set up: {0}")]
    Setup(String),
}

impl From<dimpl::Error> for DtlsError {
    fn from(error: dimpl::Error) -> Self {
        Self::Handshake(error.to_string())
    }
}

/// Why a fingerprint line of a session description is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// Another hash than sha-256, which every client offers. Try the next line.
    #[error("not a sha-256 fingerprint")]
    Hash,
    /// Not 32 bytes of hexadecimal with colons.
    #[error("a malformed fingerprint")]
    Malformed,
    /// Another certificate than before: that needs a new transport.
    #[error("the fingerprint changed")]
    Changed,
}

/// A certificate's SHA-256.
type Digest = [u8; 32];

/// What all associations share; built once, as its self-test costs most of a millisecond.
pub struct Shared {
    config: Arc<dimpl::Config>,
    certificate: dimpl::DtlsCertificate,
    fingerprint: String,
}

impl Shared {
    /// Makes a certificate on ECDSA P-256, valid for a year.
    ///
    /// # Errors
    /// [`DtlsError::Setup`] when the system's randomness or our settings fail.
    pub fn new() -> Result<Self, DtlsError> {
        Self::with(dimpl::Config::builder())
    }

    /// The same certificate with chance that can be foretold: hello randoms and the jitter of
    /// retransmissions come from `seed`, keys still from the system. For simulations that must come out
    /// alike twice, and for nothing that strangers reach.
    ///
    /// # Errors
    /// [`DtlsError::Setup`] when our settings fail.
    pub fn predictable(&self, seed: u64) -> Result<Self, DtlsError> {
        let builder = dimpl::Config::builder().dangerously_set_rng_seed(seed);
        Self::certified(builder, self.certificate.clone())
    }

    fn with(builder: dimpl::ConfigBuilder) -> Result<Self, DtlsError> {
        let certificate = dimpl::certificate::generate_self_signed_certificate()
            .map_err(|error| DtlsError::Setup(error.to_string()))?;
        Self::certified(builder, certificate)
    }

    fn certified(
        builder: dimpl::ConfigBuilder,
        certificate: dimpl::DtlsCertificate,
    ) -> Result<Self, DtlsError> {
        // No cookie: only addresses that passed an ICE check get here.
        let config = builder
            .mtu(MTU)
            .use_server_cookie(false)
            .flight_start_rto(RETRANSMIT_AFTER)
            .flight_retries(RETRANSMISSIONS)
            .handshake_timeout(HANDSHAKE_WITHIN)
            .build()
            .map_err(|error| DtlsError::Setup(error.to_string()))?;
        Ok(Self {
            config: Arc::new(config),
            fingerprint: certificate.fingerprint_str(),
            certificate,
        })
    }

    /// Our certificate's SHA-256 as in `a=fingerprint:sha-256 …`: upper-case, with colons.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// What [`Dtls::poll`] hands out.
#[derive(Debug)]
pub enum Output<'a> {
    /// Send this to the peer.
    Transmit(&'a [u8]),
    /// The handshake is done and the client is who its session description says.
    Connected(Keying),
    /// Application data: SCTP.
    Data(&'a [u8]),
    /// The client closed DTLS. Media goes on. (LK: signalling §6.4)
    Closed,
}

/// What lies at the start of the caller's buffer: so many bytes.
enum Piece {
    Transmit(usize),
    Data(usize),
}

/// How far the association is.
#[derive(Debug)]
enum Phase {
    Handshake,
    /// Done, but the fingerprint to expect is not known yet.
    Unverified(Keying),
    Connected,
    Closed,
}

/// One association.
#[derive(Debug)]
pub struct Dtls {
    engine: dimpl::Dtls,
    phase: Phase,
    /// What the engine exported, until the handshake is reported done.
    keying: Option<Keying>,
    finished: bool,
    expected: Option<Digest>,
    actual: Option<Digest>,
    /// When the engine wants to be woken.
    wake: Option<Instant>,
    now: Instant,
}

impl Dtls {
    /// Waits for a ClientHello.
    #[must_use]
    pub fn new(shared: &Shared, now: Instant) -> Self {
        let config = Arc::clone(&shared.config);
        Self {
            engine: dimpl::Dtls::new_12(config, shared.certificate.clone(), now),
            phase: Phase::Handshake,
            keying: None,
            finished: false,
            expected: None,
            actual: None,
            wake: None,
            now,
        }
    }

    /// The fingerprint the client's certificate must have, from its session description: the hash's
    /// name and hexadecimal bytes with colons, either case (RFC 8122 §5). Before or after the
    /// handshake; until it is known nothing is connected.
    ///
    /// # Errors
    /// [`FingerprintError`]; what was expected before is still expected.
    pub fn expect_fingerprint(&mut self, hash: &str, hex: &str) -> Result<(), FingerprintError> {
        if !hash.eq_ignore_ascii_case("sha-256") {
            return Err(FingerprintError::Hash);
        }
        let digest = digest_from_hex(hex).ok_or(FingerprintError::Malformed)?;
        if self.expected.is_some_and(|expected| expected != digest) {
            return Err(FingerprintError::Changed);
        }
        self.expected = Some(digest);
        Ok(())
    }

    /// A datagram from the client; then poll. What is not DTLS, repeated or forged is dropped.
    ///
    /// # Errors
    /// The association is lost.
    pub fn handle(&mut self, datagram: &[u8], now: Instant) -> Result<(), DtlsError> {
        if matches!(self.phase, Phase::Closed) {
            return Ok(());
        }
        self.now = now;
        self.engine.handle_timeout(now)?;
        self.engine.handle_packet(datagram)?;
        Ok(())
    }

    /// Time has passed; then poll.
    ///
    /// # Errors
    /// The handshake took too long.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsError> {
        if matches!(self.phase, Phase::Closed) {
            return Ok(());
        }
        self.now = now;
        self.engine.handle_timeout(now)?;
        Ok(())
    }

    /// When to call [`Self::handle_timeout`]; known after polling.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.wake
    }

    /// Is the handshake done and the client verified?
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected | Phase::Closed)
    }

    /// Is the handshake done, whoever it was with?
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        self.finished
    }

    /// Sends application data (SCTP), once connected.
    ///
    /// # Errors
    /// The association is lost.
    pub fn send(&mut self, data: &[u8]) -> Result<(), DtlsError> {
        if matches!(self.phase, Phase::Connected) {
            self.engine.send_application_data(data)?;
        }
        Ok(())
    }

    /// The next thing to do, `None` when there is no more. `buffer` has [`BUFFER`] bytes. To be
    /// called after every input.
    ///
    /// # Errors
    /// The client is not who it should be, or cannot be spoken with.
    pub fn poll<'a>(&mut self, buffer: &'a mut [u8]) -> Result<Option<Output<'a>>, DtlsError> {
        loop {
            // Lengths only: the engine's borrow of `buffer` would otherwise outlive the loop's turn.
            let piece = match self.engine.poll_output(buffer) {
                dimpl::Output::Packet(bytes) => Piece::Transmit(bytes.len()),
                dimpl::Output::ApplicationData(bytes) => Piece::Data(bytes.len()),
                dimpl::Output::BufferTooSmall { needed } => {
                    return Err(DtlsError::CertificateTooLarge(needed));
                }
                dimpl::Output::Timeout(at) => {
                    self.wake = (at.saturating_duration_since(self.now) < NO_TIMER).then_some(at);
                    return Ok(self.progress()?.map(Output::Connected));
                }
                dimpl::Output::Connected => {
                    self.finished = true;
                    continue;
                }
                dimpl::Output::PeerCert(der) => {
                    self.actual = dimpl::certificate::calculate_fingerprint(der)
                        .try_into()
                        .ok();
                    continue;
                }
                dimpl::Output::KeyingMaterial(material, profile) => {
                    self.keying = keying(&material, profile);
                    continue;
                }
                dimpl::Output::CloseNotify => {
                    let phase = std::mem::replace(&mut self.phase, Phase::Closed);
                    // Before anyone was verified there is nothing to go on with.
                    if !matches!(phase, Phase::Connected) {
                        return Err(DtlsError::Handshake("closed by the client".to_owned()));
                    }
                    self.wake = None;
                    return Ok(Some(Output::Closed));
                }
                _ => continue,
            };
            return Ok(match piece {
                Piece::Transmit(len) => buffer.get(..len).map(Output::Transmit),
                // What comes before the client is verified is nobody's; SCTP will repeat it.
                Piece::Data(_) if !self.is_connected() => continue,
                Piece::Data(len) => buffer.get(..len).map(Output::Data),
            });
        }
    }

    /// Checks the client once the engine is done.
    fn progress(&mut self) -> Result<Option<Keying>, DtlsError> {
        if self.finished && matches!(self.phase, Phase::Handshake) {
            let keying = self.keying.take().ok_or(DtlsError::NoProfile)?;
            self.phase = Phase::Unverified(keying);
        }
        let (Phase::Unverified(_), Some(expected)) = (&self.phase, self.expected) else {
            return Ok(None);
        };
        if self.actual != Some(expected) {
            return Err(DtlsError::Fingerprint);
        }
        match std::mem::replace(&mut self.phase, Phase::Connected) {
            Phase::Unverified(keying) => Ok(Some(keying)),
            _ => Ok(None),
        }
    }
}

/// The exported material with our name of the profile.
fn keying(material: &[u8], profile: dimpl::SrtpProfile) -> Option<Keying> {
    let profile = match profile {
        dimpl::SrtpProfile::AEAD_AES_128_GCM => Profile::Aes128Gcm,
        dimpl::SrtpProfile::AEAD_AES_256_GCM => Profile::Aes256Gcm,
        dimpl::SrtpProfile::AES128_CM_SHA1_80 => Profile::Aes128CmSha1_80,
        _ => return None,
    };
    Keying::new(profile, material)
}

/// Reads `AB:CD:…`.
fn digest_from_hex(hex: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    let mut pairs = hex.trim().split(':');
    for byte in &mut digest {
        let pair = pairs.next().filter(|pair| pair.len() == 2)?;
        if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    pairs.next().is_none().then_some(digest)
}
