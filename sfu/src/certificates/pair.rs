//! One certificate with its key, from PEM to what TLS needs.
//!
//! Owns what a pair must fulfil: it can be read, key and certificate belong together, it has begun and
//! not ended. Reads no file and no clock.

use std::fmt;
use std::sync::Arc;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, InconsistentKeys};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// Certificates of one chain at most: a handshake carries all of them.
const MOST_CHAIN: usize = 16;
/// Names of one certificate that are kept.
const MOST_NAMES: usize = 1000;

/// What is wrong with a pair.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A file cannot be read.
    #[error("cannot be read: {0}")]
    File(String),
    /// There is no certificate in the first file.
    #[error("there is no certificate in the first")]
    NoCertificate,
    /// There is one, and it is none.
    #[error("the certificate is damaged: {0}")]
    Certificate(String),
    /// There is no key in the second file.
    #[error("there is no private key in the second")]
    NoKey,
    /// There is one of a kind that TLS cannot use.
    #[error("the key is of no use: {0}")]
    Key(String),
    /// They do not belong together.
    #[error("the key is not that of the certificate")]
    Mismatch,
    /// It is over.
    #[error("the certificate has expired")]
    Expired,
    /// It has not begun.
    #[error("the certificate is not valid yet")]
    TooEarly,
}

impl Fault {
    /// What an operator can do.
    #[must_use]
    pub const fn fix(&self) -> &'static str {
        match self {
            Self::File(_) => "write a path that this user may read",
            Self::NoCertificate | Self::Certificate(_) => {
                "write the certificate and then its issuers as PEM (certbot: fullchain.pem)"
            }
            Self::NoKey | Self::Key(_) => {
                "write an unencrypted RSA, ECDSA or Ed25519 key as PEM (certbot: privkey.pem)"
            }
            Self::Mismatch => "write the key that the certificate was asked for with",
            Self::Expired => "have it renewed",
            Self::TooEarly => "look at the clock of this machine",
        }
    }
}

/// A pair that can be shown.
pub struct Certificate {
    /// What the library needs.
    pub(super) key: Arc<CertifiedKey>,
    /// The hosts it is for, in small letters; `*.` may stand for one label.
    pub names: Vec<String>,
    /// From when it is good, in seconds since 1970.
    pub not_before: i64,
    /// Until when.
    pub not_after: i64,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("names", &self.names)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Certificate {
    /// Reads both files' texts.
    ///
    /// # Errors
    /// They are no pair. Whether it is good now is [`Self::timely`]'s matter.
    pub fn read(certificate: &[u8], key: &[u8]) -> Result<Self, Fault> {
        let mut chain = Vec::new();
        for one in CertificateDer::pem_slice_iter(certificate) {
            let one = one.map_err(|error| Fault::Certificate(error.to_string()))?;
            if chain.len() == MOST_CHAIN {
                let cause = format!("more than {MOST_CHAIN} in a row");
                return Err(Fault::Certificate(cause));
            }
            parsed(&one)?;
            chain.push(one);
        }
        let leaf = chain.first().ok_or(Fault::NoCertificate)?;
        let leaf = parsed(leaf)?;
        let names = names(&leaf);
        let validity = leaf.validity();
        let (not_before, not_after) = (
            validity.not_before.timestamp(),
            validity.not_after.timestamp(),
        );
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| Fault::NoKey)?;
        Ok(Self {
            key: Arc::new(certified(chain, key)?),
            names,
            not_before,
            not_after,
        })
    }

    /// It is good at `now_unix`.
    ///
    /// # Errors
    /// It is not, in which way.
    pub const fn timely(&self, now_unix: i64) -> Result<(), Fault> {
        if now_unix >= self.not_after {
            return Err(Fault::Expired);
        }
        if now_unix < self.not_before {
            return Err(Fault::TooEarly);
        }
        Ok(())
    }

    /// The name it goes by in logs and metrics.
    #[must_use]
    pub fn name(&self) -> &str {
        self.names.first().map_or("unnamed", String::as_str)
    }

    /// Does it stand for this host, which is in small letters?
    #[must_use]
    pub fn is_for(&self, host: &str) -> bool {
        self.names.iter().any(|name| match name.strip_prefix('*') {
            Some(rest) => {
                let label = host.strip_suffix(rest).unwrap_or_default();
                !label.is_empty() && !label.contains('.')
            }
            None => name == host,
        })
    }
}

fn parsed<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Fault> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(error) => Err(Fault::Certificate(error.to_string())),
    }
}

/// The subject's alternative names; browsers look at no others.
fn names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let extension = leaf.subject_alternative_name().ok().flatten();
    let general = extension
        .iter()
        .flat_map(|names| &names.value.general_names);
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.trim_end_matches('.').to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
            let v6 = <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from);
            v4.or(v6).ok().map(|ip| ip.to_string())
        }
        _ => None,
    };
    general.filter_map(name).take(MOST_NAMES).collect()
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, Fault> {
    let provider: CryptoProvider = aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Fault::Mismatch,
        Error::InvalidCertificate(_) => Fault::Certificate(error.to_string()),
        other => Fault::Key(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Files, made};
    use super::*;

    #[test]
    fn a_pair_tells_its_hosts_and_its_time() {
        let (certificate, key) = made(&["RTC.example.org", "*.example.net", "192.0.2.7"], 0..2000);
        let pair = Certificate::read(certificate.as_bytes(), key.as_bytes()).expect("a pair");
        assert_eq!(pair.name(), "rtc.example.org");
        assert!(pair.is_for("rtc.example.org") && pair.is_for("a.example.net"));
        assert!(pair.is_for("192.0.2.7"));
        for other in [
            "example.net",
            ".example.net",
            "a.b.example.net",
            "example.org",
        ] {
            assert!(!pair.is_for(other), "{other}");
        }
        assert_eq!(pair.timely(0), Ok(()));
        assert_eq!(pair.timely(-1), Err(Fault::TooEarly));
        assert_eq!(pair.timely(2000), Err(Fault::Expired));
        assert!(!format!("{pair:?}").contains("PRIVATE"));
    }

    #[test]
    fn what_is_no_pair_says_which_half_is_wrong() {
        let (certificate, key) = made(&["a.example"], 0..2000);
        let (_, other) = made(&["a.example"], 0..2000);
        let fault = |certificate: &str, key: &str| {
            Certificate::read(certificate.as_bytes(), key.as_bytes()).expect_err("no pair")
        };
        assert_eq!(fault(&certificate, &other), Fault::Mismatch);
        assert_eq!(fault("", &key), Fault::NoCertificate);
        assert_eq!(fault(&key, &key), Fault::NoCertificate);
        assert_eq!(fault(&certificate, &certificate), Fault::NoKey);
        assert_eq!(fault(&certificate, ""), Fault::NoKey);
        let cut = &certificate[..certificate.len() / 2];
        assert!(matches!(
            fault(cut, &key),
            Fault::Certificate(_) | Fault::NoCertificate
        ));
        let hollow = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(fault(hollow, &key), Fault::Certificate(_)));
        let long = certificate.repeat(MOST_CHAIN + 1);
        assert!(matches!(fault(&long, &key), Fault::Certificate(_)));
        let hollow = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(matches!(fault(&certificate, hollow), Fault::Key(_)));
    }

    #[test]
    fn both_may_stand_in_one_file() {
        let (certificate, key) = made(&["a.example"], 0..2000);
        let both = format!("{key}{certificate}");
        assert!(Certificate::read(both.as_bytes(), both.as_bytes()).is_ok());
        drop(Files::default());
    }
}
