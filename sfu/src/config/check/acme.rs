//! The authority that is asked for a certificate.

use super::pair::Pair;
use super::url::{is_host, is_url};
use crate::config::complaint::{Complaints, quoted};
use crate::config::raw::Values;
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

const DOMAINS: &str = "tls.acme.domains";
const STORAGE: &str = "tls.acme.storage";
const DIRECTORY: &str = "tls.acme.directory_url";
pub(super) const CHALLENGE: &str = "tls.acme.challenge";
const EAB_KID: &str = "tls.acme.eab_kid";
const EAB_KEY: &str = "tls.acme.eab_hmac_key";

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
    /// Whose customer we are there, if it wants to know.
    pub external_account: Option<ExternalAccount>,
}

/// What an authority gives out to those who have an account with it already. (RFC 8555 §7.3.4)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// The name of the key.
    pub kid: String,
    /// The key.
    pub key: MacKey,
}

/// A secret key; formatting it shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct MacKey(Vec<u8>);

impl MacKey {
    /// From base64, of either alphabet, which is how authorities write it.
    fn read(text: &str) -> Option<Self> {
        let lenient =
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let text = text.trim().replace('+', "-").replace('/', "_");
        let bytes = GeneralPurpose::new(&URL_SAFE, lenient).decode(text).ok()?;
        (!bytes.is_empty()).then_some(Self(bytes))
    }

    /// The key itself, to sign with; never to print.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How it is shown that a host is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// By a certificate on the port of TLS. (RFC 8737)
    TlsAlpn01,
    /// By a page on the main port. (RFC 8555 §8.3)
    Http01,
}

impl Challenge {
    /// What it is called. (RFC 8555 §9.7.8)
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        }
    }
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
            external_account: external_account(values, complaints),
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

/// Both keys or neither.
fn external_account(values: &Values, complaints: &mut Complaints) -> Option<ExternalAccount> {
    let (kid, key) = (values.text(EAB_KID), values.text(EAB_KEY));
    let missing = match (kid.is_empty(), key.is_empty()) {
        (true, true) => return None,
        (false, false) => None,
        (true, false) => Some((EAB_KID, EAB_KEY)),
        (false, true) => Some((EAB_KEY, EAB_KID)),
    };
    if let Some((missing, other)) = missing {
        let cause = format!("missing beside {other}");
        let fix = "write both, as the authority gives them out, or neither";
        complaints.error(missing, values.place(other), cause, fix);
        return None;
    }
    let Some(key) = MacKey::read(&key) else {
        let fix = "write the key as the authority shows it";
        complaints.error(EAB_KEY, values.place(EAB_KEY), "no base64", fix);
        return None;
    };
    Some(ExternalAccount { kid, key })
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
    fn a_customer_s_key_is_read_and_never_shown() {
        let with = |more: &str| {
            read(&format!(
                "tls: {{acme: {{domains: [a.example], storage: /a, {more}}}}}"
            ))
        };
        for text in ["-_8aaGVsbG8", "+/8aaGVsbG8=", "-_8aaGVsbG8="] {
            let (acme, complaints) = with(&format!("eab_kid: kid-1, eab_hmac_key: '{text}'"));
            assert_eq!(complaints, Vec::<String>::new());
            let account = acme.expect("a section").external_account;
            let account = account.expect("an account");
            assert_eq!(account.kid, "kid-1");
            assert_eq!(account.key.bytes(), b"\xfb\xff\x1ahello");
            let shown = format!("{account:?}");
            assert!(shown.contains("***") && !shown.contains("251"), "{shown}");
        }
        for wrong in [
            "eab_kid: kid-1",
            "eab_hmac_key: hunter2",
            "eab_kid: kid-1, eab_hmac_key: '?hunter2'",
        ] {
            let (acme, complaints) = with(wrong);
            assert_eq!(acme.expect("a section").external_account, None);
            assert_eq!(complaints.len(), 1, "{wrong}: {complaints:?}");
            assert!(!complaints[0].contains("hunter2"), "{complaints:?}");
        }
        let (mut values, mut complaints) = (Values::default(), Complaints::default());
        let text = "tls: {acme: {eab_kid: kid-1, eab_hmac_key: hunter2}}";
        values.read_yaml(text, "f", true, &mut complaints);
        let dumped = crate::config::docs::effective(&values);
        assert!(dumped.contains("kid-1") && !dumped.contains("hunter2"));
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
