//! The client's side of a DTLS handshake, in memory.

use dimpl::{Dtls, Output};
use sfu::media::transport::dtls::{Keying, Profile};
use sfu::media::transport::srtp::{self, Opener, Sealer, Side};
use std::sync::Arc;
use std::time::Instant;

/// Room for one record.
const RECORD_BYTES: usize = 4096;

/// What a handshake has to say.
#[derive(Default)]
pub struct Flight {
    /// To be sent.
    pub packets: Vec<Vec<u8>>,
    /// What media is sealed with, once it is agreed.
    pub keying: Option<Keying>,
    /// When it wants to be called.
    pub at: Option<Instant>,
}

/// A handshake in the role of the client, and its certificate's fingerprint. The jitter of what it sends
/// again comes from `seed`; keys do not, and with them the length of a signature, by a few bytes.
///
/// # Panics
/// If no certificate can be made.
#[must_use]
pub fn association(seed: u64, now: Instant) -> (Dtls, String) {
    let certificate =
        dimpl::certificate::generate_self_signed_certificate().expect("a certificate");
    let fingerprint = certificate.fingerprint_str();
    let config = dimpl::Config::builder().dangerously_set_rng_seed(seed);
    let config = config.build().expect("a configuration");
    let mut dtls = Dtls::new_12(Arc::new(config), certificate, now);
    dtls.set_active(true);
    (dtls, fingerprint)
}

/// Takes what it has to say.
///
/// # Panics
/// If it agreed on keys that fit no profile.
pub fn flight(dtls: &mut Dtls) -> Flight {
    let mut flight = Flight::default();
    let mut buffer = vec![0; RECORD_BYTES];
    loop {
        match dtls.poll_output(&mut buffer) {
            Output::Packet(bytes) => flight.packets.push(bytes.to_vec()),
            Output::KeyingMaterial(material, profile) => {
                let profile = match profile {
                    dimpl::SrtpProfile::AEAD_AES_128_GCM => Profile::Aes128Gcm,
                    dimpl::SrtpProfile::AEAD_AES_256_GCM => Profile::Aes256Gcm,
                    _ => Profile::Aes128CmSha1_80,
                };
                let keying = Keying::new(profile, &material).expect("keying material");
                flight.keying = Some(keying);
            }
            Output::Timeout(at) => {
                flight.at = Some(at);
                return flight;
            }
            _ => {}
        }
    }
}

/// What the client opens and seals with.
#[must_use]
pub fn keyed(keying: &Keying) -> Option<(Opener, Sealer)> {
    srtp::keyed(keying, Side::Client)
}
