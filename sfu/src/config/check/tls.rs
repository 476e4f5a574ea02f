//! The port of TLS, and where its certificates are.

use crate::config::check::acme::{self, Acme, Challenge};
use crate::config::check::addresses;
use crate::config::check::pair::Pair;
use crate::config::complaint::Complaints;
use crate::config::raw::{Record, Value, Values};
use std::net::IpAddr;

const PORT: &str = "tls.port";
const CERT: &str = "tls.cert_file";
const KEY: &str = "tls.key_file";
const MORE: &str = "tls.certificates";

/// Pairs at most: each is read every few seconds.
const MOST_PAIRS: usize = 64;

/// The port that tells by their first bytes what connections are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// TCP port; 0: none.
    pub port: u16,
    /// Where to listen; empty: everywhere.
    pub bind_addresses: Vec<IpAddr>,
    /// The port in URLs told to clients; 0 if there is none at all.
    pub advertised_port: u16,
    /// Certificates; the first is shown to whoever asks for none of them.
    pub pairs: Vec<Pair>,
    /// TLS has ended at a proxy before.
    pub external: bool,
    /// Plain HTTP is sent to https.
    pub redirect: bool,
    /// An authority that is asked for a certificate.
    pub acme: Option<Acme>,
}

/// Where authorities look for the answer to tls-alpn-01. (RFC 8737 §3)
const HTTPS: u16 = 443;

/// Does an authority come to `tls.port`? Its own port then leads there, and clients may use it as well.
fn is_https(acme: Option<&Acme>) -> bool {
    acme.is_some_and(|acme| acme.challenge == Challenge::TlsAlpn01)
}

impl Tls {
    pub(super) fn read(values: &Values, complaints: &mut Complaints) -> Self {
        let port = values.port(PORT);
        let told = values.port("tls.advertised_port");
        let external = values.flag("tls.external_tls");
        let bind = if values.is_set("tls.bind_addresses") {
            "tls.bind_addresses"
        } else {
            "bind_addresses"
        };
        // What is wrong with the main port's addresses is told there.
        let mut told_before = Complaints::default();
        let of_bind = if bind == "bind_addresses" {
            &mut told_before
        } else {
            &mut *complaints
        };
        let bind_addresses = addresses(bind, values, of_bind);
        let acme = Acme::read(values, complaints);
        let mut pairs = pairs(values, complaints);
        pairs.extend(acme.as_ref().map(Acme::pair));
        let tls = Self {
            port,
            bind_addresses,
            advertised_port: match told {
                _ if port == 0 => 0,
                0 if is_https(acme.as_ref()) && !external => HTTPS,
                0 => port,
                told => told,
            },
            pairs,
            external,
            redirect: values.flag("tls.redirect"),
            acme,
        };
        let by_port = is_https(tls.acme.as_ref());
        if by_port && port == 0 {
            let cause = "tls-alpn-01 is answered on tls.port, and there is none";
            let fix = "set tls.port, or tls.acme.challenge: http-01";
            complaints.error(acme::CHALLENGE, values.place(acme::CHALLENGE), cause, fix);
        }
        if by_port && port != 0 && external {
            // Not an error: a proxy may pass on unread what an authority sends.
            let cause = "tls-alpn-01 is answered in TLS, which ends at the proxy (tls.external_tls): no certificate comes of it";
            let fix = "set tls.acme.challenge: http-01, or remove tls.acme if the certificate is the proxy's";
            complaints.warning(acme::CHALLENGE, values.place(acme::CHALLENGE), cause, fix);
        }
        if port != 0 && tls.pairs.is_empty() && !external {
            let cause = "a port of TLS without a certificate";
            let fix = "set tls.cert_file and tls.key_file, or tls.acme.domains, or tls.external_tls if a proxy in front ends TLS";
            complaints.error(PORT, values.place(PORT), cause, fix);
        }
        tls
    }
}

/// All pairs that are complete.
fn pairs(values: &Values, complaints: &mut Complaints) -> Vec<Pair> {
    let mut pairs = Vec::new();
    let mut add = |key: &'static str, cert_file: String, key_file: String| {
        let (set, missing) = match (cert_file.is_empty(), key_file.is_empty()) {
            (true, true) => return,
            (true, false) => ("key_file", "cert_file"),
            (false, true) => ("cert_file", "key_file"),
            (false, false) => {
                pairs.push(Pair {
                    key,
                    cert_file: cert_file.into(),
                    key_file: key_file.into(),
                    awaited: false,
                });
                return;
            }
        };
        let cause = format!("{set} without {missing}");
        complaints.error(key, values.place(key), cause, "set both or neither");
    };
    let first = if values.text(CERT).is_empty() {
        KEY
    } else {
        CERT
    };
    add(first, values.text(CERT), values.text(KEY));
    let more = values.records(MORE).unwrap_or_default();
    let text = |record: &Record, name: &str| match record.get(name) {
        Some(Value::Text(text)) => text.clone(),
        _ => String::new(),
    };
    for record in more.iter().take(MOST_PAIRS) {
        add(MORE, text(record, "cert_file"), text(record, "key_file"));
    }
    if more.len() > MOST_PAIRS {
        let cause = format!("more than {MOST_PAIRS} pairs");
        let fix = "put several hosts into one certificate";
        complaints.error(MORE, values.place(MORE), cause, fix);
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn read(yaml: &str) -> (Tls, Vec<String>) {
        let (mut values, mut complaints) = (Values::default(), Complaints::default());
        values.read_yaml(yaml, "f", true, &mut complaints);
        let section = Tls::read(&values, &mut complaints);
        let lines = complaints.list().iter().map(ToString::to_string);
        (section, lines.collect())
    }

    #[test]
    fn without_a_port_nothing_is_asked_for() {
        let (tls, complaints) = read("{}");
        assert_eq!(complaints, Vec::<String>::new());
        assert_eq!((tls.port, tls.advertised_port, tls.pairs.len()), (0, 0, 0));
    }

    #[test]
    fn a_port_needs_a_pair_or_a_proxy_that_has_one() {
        let (_, complaints) = read("tls: {port: 7443}");
        assert!(complaints[0].contains("tls.port") && complaints[0].contains("tls.cert_file"));
        let (tls, complaints) = read("tls: {port: 7443, external_tls: true}");
        assert_eq!(complaints, Vec::<String>::new());
        assert!(tls.external);
        for (half, missing) in [("cert_file", "key_file"), ("key_file", "cert_file")] {
            let (_, complaints) = read(&format!("tls: {{{half}: a.pem}}"));
            let told = format!("{half} without {missing}");
            assert!(complaints[0].contains(&told), "{complaints:?}");
        }
        let (_, complaints) = read("tls: {certificates: [{cert_file: a}]}");
        assert_eq!(complaints.len(), 1, "{complaints:?}");
    }

    #[test]
    fn a_certificate_that_is_asked_for_is_waited_for_and_its_challenge_needs_the_port() {
        let acme = "acme: {domains: [a.example], storage: /a}";
        let (tls, complaints) = read(&format!("tls: {{port: 7443, {acme}}}"));
        assert_eq!(complaints, Vec::<String>::new());
        assert!(tls.pairs.len() == 1 && tls.pairs[0].awaited);
        let (_, complaints) = read(&format!("tls: {{{acme}}}"));
        assert!(complaints[0].contains("http-01"), "{complaints:?}");
    }

    #[test]
    fn no_authority_looks_in_tls_that_ends_at_a_proxy() {
        let read = |challenge: &str| {
            let acme = format!("acme: {{domains: [a.example], storage: /a, {challenge}}}");
            read(&format!("tls: {{port: 7443, external_tls: true, {acme}}}")).1
        };
        let complaints = read("");
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        let told = ["warning", "tls.acme.challenge", "http-01"];
        assert!(
            told.iter().all(|part| complaints[0].contains(part)),
            "{complaints:?}"
        );
        assert_eq!(read("challenge: http-01"), Vec::<String>::new());
    }

    #[test]
    fn pairs_stand_in_the_order_written_and_the_port_told_is_the_one_said() {
        let (tls, complaints) = read(
            "bind_addresses: [127.0.0.1]\ntls: {port: 7443, advertised_port: 443, cert_file: a, key_file: b, \
             certificates: [{cert_file: c, key_file: d}]}",
        );
        assert_eq!(complaints, Vec::<String>::new());
        let files: Vec<_> = tls
            .pairs
            .iter()
            .map(|pair| pair.cert_file.clone())
            .collect();
        assert_eq!(files, [PathBuf::from("a"), PathBuf::from("c")]);
        assert_eq!(tls.advertised_port, 443);
        assert_eq!(tls.bind_addresses, [IpAddr::from([127, 0, 0, 1])]);
        let (tls, _) = read("tls: {port: 7443, external_tls: true, bind_addresses: ['::1']}");
        assert_eq!(tls.advertised_port, 7443);
        // An authority comes by 443, and so may clients.
        let told = |rest: &str| {
            let acme = format!("acme: {{domains: [a.example], storage: /a{rest}}}");
            read(&format!("tls: {{port: 7443, {acme}}}"))
                .0
                .advertised_port
        };
        assert_eq!(told(""), 443);
        assert_eq!(told(", challenge: http-01"), 7443);
        assert!(tls.bind_addresses[0].is_ipv6());
    }
}
