//! The client's one transport: what all accepted sections of an offer must agree on.
//!
//! Owns the checks of bundling, credentials, fingerprints and DTLS role. Called by `negotiation.rs`.

use super::OfferError;
use crate::media::transport::sdp::{RemoteDescription, Section, SectionKind, Setup};

/// Bounds of a user name fragment and a password, in characters (RFC 8839 §5.4).
const UFRAG_CHARS: std::ops::RangeInclusive<usize> = 4..=256;
const PWD_CHARS: std::ops::RangeInclusive<usize> = 22..=256;

/// The client's side of the association.
#[derive(Clone, PartialEq, Eq)]
pub struct Remote {
    /// ICE user name fragment.
    pub ufrag: String,
    /// ICE password.
    pub pwd: String,
    /// `sha-256 AA:BB:…`, hash in lower and hex in upper case; at least one.
    pub fingerprints: Vec<String>,
    /// The credentials are not those of the offer before: ICE starts over.
    pub ice_restart: bool,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote")
            .field("ufrag", &self.ufrag)
            .field("fingerprints", &self.fingerprints)
            .field("ice_restart", &self.ice_restart)
            .finish_non_exhaustive()
    }
}

impl Remote {
    /// Reads the transport of an offer; `before` is that of the last one.
    pub(super) fn read(
        offer: &RemoteDescription,
        before: Option<&Self>,
    ) -> Result<Self, OfferError> {
        let mut ice: Option<(&str, &str)> = None;
        let mut fingerprints: &[String] = &[];
        let ours = |s: &&Section| !s.rejected && s.kind != SectionKind::Unknown;
        for section in offer.sections.iter().filter(ours) {
            check(offer, section)?;
            let lines = &section.transport;
            if let (Some(ufrag), Some(pwd)) = (&lines.ufrag, &lines.pwd) {
                let own = (ufrag.as_str(), pwd.as_str());
                if *ice.get_or_insert(own) != own {
                    return Err(OfferError::SeveralTransports);
                }
            }
            if fingerprints.is_empty() {
                fingerprints = &lines.fingerprints;
            }
            if !lines.fingerprints.is_empty() && lines.fingerprints != fingerprints {
                return Err(OfferError::SeveralTransports);
            }
        }
        let (ufrag, pwd) = ice.ok_or(OfferError::NoTransport)?;
        if !ice_chars(ufrag, &UFRAG_CHARS) || !ice_chars(pwd, &PWD_CHARS) {
            return Err(OfferError::BadCredentials);
        }
        if fingerprints.is_empty() {
            return Err(OfferError::NoFingerprint);
        }
        Ok(Self {
            ufrag: ufrag.to_owned(),
            pwd: pwd.to_owned(),
            fingerprints: fingerprints.to_vec(),
            ice_restart: before.is_some_and(|old| old.ufrag != ufrag || old.pwd != pwd),
        })
    }
}

fn check(offer: &RemoteDescription, section: &Section) -> Result<(), OfferError> {
    if !offer.bundle.contains(&section.mid) {
        return Err(OfferError::NotBundled);
    }
    if section.transport.setup == Some(Setup::Other) {
        return Err(OfferError::NotDtlsClient);
    }
    if section.kind != SectionKind::Application && !section.flags.rtcp_mux {
        return Err(OfferError::NoRtcpMux);
    }
    Ok(())
}

fn ice_chars(text: &str, length: &std::ops::RangeInclusive<usize>) -> bool {
    let ice_char = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    length.contains(&text.len()) && text.bytes().all(ice_char)
}
