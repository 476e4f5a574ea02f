//! The certificates that may be shown, and the choice among them.
//!
//! Owns that choice: by the host that a client asks for, whatever it wants of it. What is on the shelf
//! is replaced as a whole; a handshake sees the old one or the new one.

use super::challenge::{ACME_TLS, Answers};
use super::pair::Certificate;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

/// Certificates in the order of the configuration.
#[derive(Debug, Default)]
pub struct Shelf(pub(super) Vec<Arc<Certificate>>);

impl Shelf {
    /// The one for `host`; for a host that none is for, or none at all, the first.
    #[must_use]
    pub fn choose(&self, host: Option<&str>) -> Option<&Arc<Certificate>> {
        let host = host.map(str::to_ascii_lowercase);
        let fits = |one: &&Arc<Certificate>| host.as_ref().is_some_and(|host| one.is_for(host));
        self.0.iter().find(fits).or(self.0.first())
    }

    /// All of them.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.0.iter().map(AsRef::as_ref)
    }
}

/// Chooses for the library.
#[derive(Debug)]
pub(super) struct Chooser {
    shelf: watch::Receiver<Arc<Shelf>>,
    answers: watch::Receiver<Arc<Answers>>,
}

impl Chooser {
    pub(super) const fn new(
        shelf: watch::Receiver<Arc<Shelf>>,
        answers: watch::Receiver<Arc<Answers>>,
    ) -> Self {
        Self { shelf, answers }
    }
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // RFC 8737 §3: an authority offers this alone, and is shown what was made for it or nothing.
        if let Some(mut offered) = hello.alpn()
            && offered.any(|protocol| protocol == ACME_TLS)
        {
            let answers = Arc::clone(&self.answers.borrow());
            return answers.certificate(hello.server_name()?).map(Arc::clone);
        }
        let shelf = Arc::clone(&self.shelf.borrow());
        let chosen = shelf.choose(hello.server_name())?;
        Some(Arc::clone(&chosen.key))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::made;
    use super::*;

    #[test]
    fn a_client_is_shown_the_certificate_of_the_host_it_asks_for_else_the_first() {
        let read = |hosts: &[&str]| {
            let (certificate, key) = made(hosts, 0..9);
            let pair = Certificate::read(certificate.as_bytes(), key.as_bytes());
            Arc::new(pair.expect("a pair"))
        };
        let shelf = Shelf(vec![read(&["a.example"]), read(&["*.b.example"])]);
        let chosen = |host| shelf.choose(host).map(|one| one.name().to_owned());
        assert_eq!(chosen(Some("A.example")).as_deref(), Some("a.example"));
        assert_eq!(chosen(Some("x.b.example")).as_deref(), Some("*.b.example"));
        assert_eq!(chosen(Some("other")).as_deref(), Some("a.example"));
        assert_eq!(chosen(None).as_deref(), Some("a.example"));
        assert!(Shelf::default().choose(None).is_none());
    }
}
