//! The authority that is asked for a certificate.

use super::pair::Pair;
use super::url::{is_host, is_url};
use crate::config::complaint::{Complaints, quoted};
use crate::config::raw::Values;
use std::net::IpAddr;
use std::path::PathBuf;

const DOMAINS: &str = "tls.acme.domains";
const STORAGE: &str = "tls.acme.storage";
const DIRECTORY: &str = "tls.acme.directory_url";
pub(super) const CHALLENGE: &str = "tls.acme.challenge";

/// Hosts of one certificate, as Let's Encrypt has it.
const MOST_DOMAINS: usize = 100;

/// What the certificate and its key are called in the folder.
const CERTIFICATE: &str = "certificate.pem";

/// How to get a certificate. (RFC 8555)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// The hosts it is for, in small letters; never empty.
    pub domains: Vec<String>,
    /// Where everything is kept.
    pub storage: PathBuf,
    /// Where the authority may write to.
    pub email: Option<String>,
    /// The authority.
    pub directory_url: String,
    /// How it is shown that the hosts are ours.
    pub challenge: Challenge,
    /// Whom to trust for the authority, besides those of the system.
    pub ca_file: Option<PathBuf>,
}

/// How it is shown that a host is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// By a certificate on the port of TLS. (RFC 8737)
    TlsAlpn01,
    /// By a page on the main port. (RFC 8555 §8.3)
    Http01,
}

impl Acme {
    /// The section, if any host is named.
    pub(super) fn read(values: &Values, complaints: &mut Complaints) -> Option<Self> {
        let domains = domains(values, complaints)?;
        let filled = |key| Some(values.text(key)).filter(|text| !text.is_empty());
        let storage = values.text(STORAGE);
        if storage.is_empty() {
            let cause = "missing beside tls.acme.domains";
            let fix = "write a folder of this user, for example /var/lib/foci/acme";
            complaints.error(STORAGE, values.place(DOMAINS), cause, fix);
        }
        let directory_url = values.text(DIRECTORY);
        if !is_url(&directory_url, &["https://"]) {
            let cause = format!("`{}` is no https:// URL", quoted(&directory_url));
            let fix = "write that of the authority's directory";
            complaints.error(DIRECTORY, values.place(DIRECTORY), cause, fix);
        }
        Some(Self {
            domains,
            storage: storage.into(),
            email: filled("tls.acme.email"),
            directory_url,
            challenge: challenge(values, complaints),
            ca_file: filled("tls.acme.ca_file").map(PathBuf::from),
        })
    }

    /// The file with certificate and key, which is made when they are there.
    #[must_use]
    pub fn pair(&self) -> Pair {
        let file = self.storage.join(CERTIFICATE);
        Pair {
            key: STORAGE,
            cert_file: file.clone(),
            key_file: file,
            awaited: true,
        }
    }
}

fn challenge(values: &Values, complaints: &mut Complaints) -> Challenge {
    let text = values.text(CHALLENGE);
    match text.as_str() {
        "tls-alpn-01" => Challenge::TlsAlpn01,
        "http-01" => Challenge::Http01,
        _ => {
            let cause = format!("there is no challenge `{}` here", quoted(&text));
            let fix = "write tls-alpn-01 or http-01";
            complaints.error(CHALLENGE, values.place(CHALLENGE), cause, fix);
            Challenge::TlsAlpn01
        }
    }
}

/// The hosts, none twice; `None` if none is named.
fn domains(values: &Values, complaints: &mut Complaints) -> Option<Vec<String>> {
    let mut domains: Vec<String> = Vec::new();
    for text in values.texts(DOMAINS).iter().filter(|text| !text.is_empty()) {
        let name = text.to_ascii_lowercase();
        let fix = "write for example rtc.example.org";
        if !is_host(&name) || name.parse::<IpAddr>().is_ok() {
            let cause = format!(
                "`{}` is no host that a certificate can be had for",
                quoted(text)
            );
            complaints.error(DOMAINS, values.place(DOMAINS), cause, fix);
        } else if domains.len() == MOST_DOMAINS {
            let cause = format!("more than {MOST_DOMAINS} hosts");
            complaints.error(DOMAINS, values.place(DOMAINS), cause, "remove some");
            break;
        } else if !domains.contains(&name) {
            domains.push(name);
        }
    }
    (!domains.is_empty()).then_some(domains)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> (Option<Acme>, Vec<String>) {
        let (mut values, mut complaints) = (Values::default(), Complaints::default());
        values.read_yaml(yaml, "f", true, &mut complaints);
        let section = Acme::read(&values, &mut complaints);
        let lines = complaints.list().iter().map(ToString::to_string);
        (section, lines.collect())
    }

    #[test]
    fn nobody_is_asked_unless_hosts_are_named() {
        assert_eq!(read("tls: {acme: {storage: /a}}"), (None, Vec::new()));
        let (acme, complaints) =
            read("tls: {acme: {domains: [A.example, a.example, b.example], storage: /a}}");
        assert_eq!(complaints, Vec::<String>::new());
        let acme = acme.expect("a section");
        assert_eq!(acme.domains, ["a.example", "b.example"]);
        assert!(acme.directory_url.contains("letsencrypt"));
        assert_eq!(acme.challenge, Challenge::TlsAlpn01);
        let pair = acme.pair();
        assert!(pair.awaited && pair.cert_file == pair.key_file);
    }

    #[test]
    fn what_cannot_be_asked_for_is_told() {
        for wrong in [
            "domains: ['*.a.example'], storage: /a",
            "domains: ['192.0.2.1', a.example], storage: /a",
            "domains: [a.example]",
            "domains: [a.example], storage: /a, challenge: dns-01",
            "domains: [a.example], storage: /a, directory_url: 'http://a.example'",
        ] {
            let (_, complaints) = read(&format!("tls: {{acme: {{{wrong}}}}}"));
            assert_eq!(complaints.len(), 1, "{wrong}: {complaints:?}");
        }
        let many: Vec<String> = (0..101).map(|n| format!("h{n}.example")).collect();
        let (acme, complaints) = read(&format!(
            "tls: {{acme: {{domains: [{}], storage: /a}}}}",
            many.join(", ")
        ));
        assert_eq!(acme.expect("a section").domains.len(), MOST_DOMAINS);
        assert_eq!(complaints.len(), 1, "{complaints:?}");
    }
}
