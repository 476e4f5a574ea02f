//! What an authority is shown that wants to know whether a host is ours.
//!
//! Owns the answers while an order is under way: certificates for `tls-alpn-01` and pages for `http-01`.
//! Filled by `acme`, shown by `shelf` and by the main port.

use std::fmt;
use std::sync::Arc;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::sign::CertifiedKey;

/// The protocol of the handshake by which a host is shown to be ours. (RFC 8737 §4)
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// All answers there are now: one for each host of an order at most.
#[derive(Clone, Default)]
pub struct Answers {
    hosts: Vec<(String, Arc<CertifiedKey>)>,
    pages: Vec<(String, String)>,
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers")
            .field("hosts", &self.hosts.len())
            .field("pages", &self.pages.len())
            .finish()
    }
}

/// A certificate for a challenge could not be made.
#[derive(Debug, thiserror::Error)]
#[error("a certificate for the challenge: {0}")]
pub struct Unmade(String);

impl Answers {
    /// Answers for `host` by a certificate with the digest of the key's authorization.
    ///
    /// # Errors
    /// There can be none for such a host.
    pub fn add_host(&mut self, host: &str, digest: &[u8; 32]) -> Result<(), Unmade> {
        let unmade = |error: rcgen::Error| Unmade(error.to_string());
        let mut params = rcgen::CertificateParams::new(vec![host.to_owned()]).map_err(unmade)?;
        params
            .custom_extensions
            .push(rcgen::CustomExtension::new_acme_identifier(digest));
        let key = rcgen::KeyPair::generate().map_err(unmade)?;
        let certificate = params.self_signed(&key).map_err(unmade)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let chain = vec![certificate.der().clone()];
        let provider = aws_lc_rs::default_provider().key_provider;
        let key = provider.load_private_key(key);
        let key = key.map_err(|error| Unmade(error.to_string()))?;
        // The library would look whether both belong together, and does not know the extension.
        let certified = CertifiedKey::new(chain, key);
        self.hosts.push((host.to_owned(), Arc::new(certified)));
        Ok(())
    }

    /// Answers whoever asks for the page `token`.
    pub fn add_page(&mut self, token: &str, text: &str) {
        self.pages.push((token.to_owned(), text.to_owned()));
    }

    /// The certificate for a host.
    pub(super) fn certificate(&self, host: &str) -> Option<&Arc<CertifiedKey>> {
        let mut hosts = self.hosts.iter();
        let found = hosts.find(|(known, _)| known.eq_ignore_ascii_case(host));
        found.map(|(_, certificate)| certificate)
    }

    /// The page for a token.
    #[must_use]
    pub fn page(&self, token: &str) -> Option<&str> {
        let mut pages = self.pages.iter();
        let found = pages.find(|(known, _)| known == token);
        found.map(|(_, text)| text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    #[test]
    fn a_host_is_answered_for_by_the_digest_in_a_critical_extension() {
        let mut answers = Answers::default();
        answers.add_host("a.example", &[7; 32]).expect("made");
        let certificate = answers.certificate("A.example").expect("one");
        let (_, read) = X509Certificate::from_der(&certificate.cert[0]).expect("sound");
        // RFC 8737 §3: id-pe-acmeIdentifier, an octet string of the digest.
        let extension = read
            .extensions()
            .iter()
            .find(|extension| extension.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
        let extension = extension.expect("there");
        assert!(extension.critical);
        assert_eq!(extension.value, [&[4, 32][..], &[7; 32]].concat());
        assert!(answers.certificate("b.example").is_none());
    }

    #[test]
    fn a_page_is_shown_to_whoever_knows_its_token() {
        let mut answers = Answers::default();
        answers.add_page("token", "token.thumb");
        assert_eq!(answers.page("token"), Some("token.thumb"));
        assert_eq!(answers.page("other"), None);
        assert!(!format!("{answers:?}").contains("thumb"));
    }
}
