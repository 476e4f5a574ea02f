//! What a router must let through, and why.
//!
//! Owns the judgement of each port: who comes to it from outside, and whether calls work without it.
//! It knows no address. Called by `foci ports`.

use crate::config::check::Config;
use crate::config::check::acme::Challenge;
use crate::config::ports::{PortRange, PortUse, Protocol};
use std::borrow::Cow;
use std::fmt;

/// How much depends on a port being reachable from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// No call works without it.
    Needed,
    /// Some networks have no call without it.
    Recommended,
    /// It serves somebody who may not be there.
    Optional,
    /// Nobody outside may reach it.
    Never,
}

impl Need {
    /// One word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Needed => "needed",
            Self::Recommended => "recommended",
            Self::Optional => "optional",
            Self::Never => "never",
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// What listens there.
    pub name: &'static str,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The ports as clients are told them: those of the router.
    pub outside: PortRange,
    /// Where they lead to on this machine: to one port, or each to the same.
    pub inside: PortRange,
    /// How much depends on it.
    pub need: Need,
    /// Why.
    pub why: Cow<'static, str>,
    /// The key that sets them.
    pub key: &'static str,
}

/// Every port a configuration listens on, the most needed first.
#[must_use]
pub fn table(config: &Config) -> Vec<Forward> {
    let mut table: Vec<Forward> = Vec::new();
    for used in config.ports() {
        let each = outside(&used, config).into_iter();
        table.extend(each.map(|outside| forward(used, outside, config)));
    }
    table.extend(challenge(config));
    table.sort_by_key(|line| line.need);
    table
}

/// For a proxy that has ended TLS: clients who came past it would find nobody who speaks it.
fn is_of_proxy(used: &PortUse, config: &Config) -> bool {
    match used.key {
        "tls.port" => config.tls.external,
        "turn.tls_port" => config.turn.external_tls,
        _ => false,
    }
}

/// The ports clients are told for these, unless they are to lead to somebody else.
fn outside(used: &PortUse, config: &Config) -> Vec<PortRange> {
    let told = match used.key {
        _ if is_of_proxy(used, config) => None,
        "tls.port" => Some(vec![config.tls.advertised_port]),
        "turn.tls_port" if config.turn.domain.is_empty() => None,
        "turn.tls_port" => Some(vec![config.turn.advertised_tls_port]),
        "rtc.udp_port" | "rtc.tcp_port" => listed(used, config),
        _ => None,
    };
    let Some(told) = told else {
        return vec![used.ports];
    };
    let mut ports: Vec<PortRange> = told
        .into_iter()
        .map(|port| PortRange::new(port, port).unwrap_or(used.ports))
        .collect();
    ports.sort_unstable_by_key(|ports| ports.first());
    ports.dedup();
    ports
}

/// Those of `rtc.advertise` that lead to this port of media, 0 for its own number, which further addresses have;
/// `None` if nothing is said of it.
fn listed(used: &PortUse, config: &Config) -> Option<Vec<u16>> {
    let listed = config.rtc.public.advertise.iter();
    let of = listed.filter(|one| one.protocol.is_none_or(|of| of == used.protocol));
    let of = of.map(|one| one.port.unwrap_or_default());
    let further = (!config.rtc.public.additional.is_empty()).then_some(0);
    let ports: Vec<u16> = of.chain(further).collect();
    // One port of the router leads to one here, and `tls.port` tells media apart itself.
    let by_tls = |port: u16| {
        used.protocol == Protocol::Tcp && port != 0 && port == config.tls.advertised_port
    };
    let own = ports.iter().copied().filter(|port| !by_tls(*port));
    (!ports.is_empty()).then(|| own.collect())
}

/// Where an authority looks whether the hosts of a certificate are ours.
fn challenge(config: &Config) -> Option<Forward> {
    const HTTP: u16 = 80;
    const HTTPS: u16 = 443;
    let (outside, inside, key) = match config.tls.acme.as_ref()?.challenge {
        Challenge::Http01 => (HTTP, config.http.port, "port"),
        // Clients come there as well, mostly.
        Challenge::TlsAlpn01 if config.tls.advertised_port == HTTPS => return None,
        // It leads to a proxy, if anywhere.
        Challenge::TlsAlpn01 if config.tls.external => return None,
        Challenge::TlsAlpn01 => (HTTPS, config.tls.port, "tls.port"),
    };
    Some(Forward {
        name: "certificates (ACME)",
        protocol: Protocol::Tcp,
        outside: PortRange::new(outside, outside).ok()?,
        inside: PortRange::new(inside, inside).ok()?,
        need: Need::Needed,
        why: "the authority looks there; without it no certificate is made or renewed".into(),
        key,
    })
}

fn forward(used: PortUse, outside: PortRange, config: &Config) -> Forward {
    let (need, why) = if is_of_proxy(&used, config) {
        (Need::Never, by_proxy(&used, config).into())
    } else {
        let (need, why) = judge(&used, config);
        (need, why.into())
    };
    Forward {
        name: used.purpose,
        protocol: used.protocol,
        outside,
        inside: used.ports,
        need,
        why,
        key: used.key,
    }
}

fn by_proxy(used: &PortUse, config: &Config) -> String {
    let told = match used.key {
        "tls.port" => config.tls.advertised_port,
        _ => config.turn.advertised_tls_port,
    };
    format!("the proxy that ends TLS comes here; forward {told} to it")
}

/// How much depends on a port that nobody but the router is in front of, and why.
fn judge(used: &PortUse, config: &Config) -> (Need, &'static str) {
    // Users of a homeserver are served by the TURN server as well.
    let lends = config.turn.static_auth_secret.is_some();
    match used.key {
        "port" if config.tls.port != 0 => (
            Need::Optional,
            "clients come by tls.port; this is for a proxy that ends TLS",
        ),
        "port" => (
            Need::Optional,
            "only without a reverse proxy: clients then come here; else forward the proxy's 443",
        ),
        "rtc.udp_port" if used.ports.count() > 1 => (
            Need::Needed,
            "all media, unless a client has no UDP; by the first of these that is free at the start",
        ),
        "rtc.udp_port" => (Need::Needed, "all media, unless a client has no UDP"),
        "rtc.tcp_port" => (Need::Recommended, "media of networks without UDP"),
        "turn.udp_port" if lends => (Need::Needed, "TURN for the homeserver's own calls"),
        "turn.udp_port" => (
            Need::Optional,
            "media of networks that let only UDP to some ports pass",
        ),
        "turn.tcp_port" => (
            Need::Optional,
            "media of networks without UDP, beside rtc.tcp_port",
        ),
        "turn.tls_port" if lends => (
            Need::Recommended,
            "TURN over TLS for the homeserver's own calls, and media of networks that let only TLS pass",
        ),
        "turn.tls_port" if config.turn.domain.is_empty() => (
            Need::Never,
            "clients are not told of it: set turn.domain to the name of its certificate",
        ),
        "turn.tls_port" => (
            Need::Recommended,
            "media of networks that let only TLS pass",
        ),
        "turn.relay_range_start" if lends => (
            Need::Needed,
            "what the homeserver's own calls are relayed by",
        ),
        "turn.relay_range_start" if config.turn.participants_reach_peers => (
            Need::Optional,
            "what participants relay to others than Foci",
        ),
        "turn.relay_range_start" => (
            Need::Never,
            "calls here do not need it: what TURN relays goes to the media port in this process",
        ),
        "prometheus.port" => (Need::Never, "for your own monitoring"),
        _ => (Need::Needed, "clients come here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::check;
    use crate::config::complaint::Complaints;
    use crate::config::raw::Values;

    fn needs(text: &str) -> Vec<(String, Need)> {
        let mut values = Values::default();
        let mut complaints = Complaints::default();
        let text = format!("keys: {{k: 0123456789abcdef0123456789abcdef}}\n{text}");
        values.read_yaml(&text, "f", true, &mut complaints);
        let table = table(&check(&mut values, &mut complaints));
        let line = |line: &Forward| (format!("{}/{}", line.outside, line.protocol), line.need);
        table.iter().map(line).collect()
    }

    /// What leads elsewhere than its number says.
    fn mapped(text: &str) -> Vec<String> {
        let mut values = Values::default();
        let mut complaints = Complaints::default();
        let text = format!("keys: {{k: 0123456789abcdef0123456789abcdef}}\n{text}");
        values.read_yaml(&text, "f", true, &mut complaints);
        let table = table(&check(&mut values, &mut complaints));
        assert!(!complaints.has_errors(), "{:?}", complaints.list());
        let differs = table.iter().filter(|line| line.outside != line.inside);
        let shown = differs.map(|line| {
            let (outside, inside) = (line.outside, line.inside);
            format!("{outside}>{inside}/{} {}", line.protocol, line.key)
        });
        shown.collect()
    }

    #[test]
    fn a_port_that_clients_are_told_in_place_of_ours_is_the_router_s() {
        assert_eq!(mapped(""), Vec::<String>::new());
        let pair = "cert_file: c, key_file: k";
        let tls = format!(
            "tls: {{port: 8443, advertised_port: 443, {pair}}}\nturn: {{enabled: false}}\n"
        );
        assert_eq!(mapped(&tls), ["443>8443/tcp tls.port"]);
        let turn = format!(
            "turn: {{domain: t.example, tls_port: 5350, advertised_tls_port: 443, {pair}}}\n"
        );
        assert_eq!(mapped(&turn), ["443>5350/tcp turn.tls_port"]);
        let media =
            "rtc: {advertise: ['203.0.113.7:40000/udp', '[2001:db8::1]', '203.0.113.7:443/tcp']}\n";
        let expected = ["40000>7882/udp rtc.udp_port", "443>7881/tcp rtc.tcp_port"];
        assert_eq!(mapped(media), expected);
        let both: Vec<String> = needs(media).into_iter().map(|(port, _)| port).collect();
        assert!(
            both.contains(&"7882/udp".to_owned()),
            "IPv6 comes by our own"
        );
        // A further address has our ports, whatever those of the list are.
        let router =
            "rtc: {advertise: ['203.0.113.7:40000/udp'], additional_host_ips: [10.8.0.1]}\n";
        let has_own = |text: &str| needs(text).iter().any(|(port, _)| port == "7882/udp");
        assert!(has_own(router));
        assert!(!has_own("rtc: {advertise: ['203.0.113.7:40000/udp']}\n"));
    }

    #[test]
    fn media_over_tcp_that_comes_by_the_port_of_tls_has_no_line_of_its_own() {
        let tls = "tls: {port: 7443, advertised_port: 443, cert_file: c, key_file: k}\n";
        let both = format!("{tls}rtc: {{advertise: [203.0.113.7, '203.0.113.7:443/tcp']}}\n");
        assert_eq!(mapped(&both), ["443>7443/tcp tls.port"]);
        let has_own = |text: &str| needs(text).iter().any(|(port, _)| port == "7881/tcp");
        assert!(has_own(&both));
        let alone =
            format!("{tls}rtc: {{advertise: ['203.0.113.7:443/tcp', '203.0.113.7/udp']}}\n");
        assert_eq!(mapped(&alone), ["443>7443/tcp tls.port"]);
        assert!(!has_own(&alone));
    }

    /// What is said of the port this key sets: from where, how much it is needed, why.
    fn said(text: &str, key: &str) -> String {
        let mut values = Values::default();
        let mut complaints = Complaints::default();
        let text = format!("keys: {{k: 0123456789abcdef0123456789abcdef}}\n{text}");
        values.read_yaml(&text, "f", true, &mut complaints);
        let table = table(&check(&mut values, &mut complaints));
        let mut lines = table.iter().filter(|line| line.key == key);
        let shown = lines
            .next()
            .map(|line| format!("{} {}: {}", line.outside, line.need, line.why));
        assert_eq!(lines.next(), None, "one line");
        shown.unwrap_or_default()
    }

    #[test]
    fn past_a_proxy_that_ends_tls_nobody_is_led() {
        let tls = "tls: {port: 7443, advertised_port: 443, external_tls: true}\n";
        let to_proxy = "never: the proxy that ends TLS comes here; forward 443 to it";
        assert_eq!(said(tls, "tls.port"), format!("7443 {to_proxy}"));
        let acme =
            "tls: {port: 7443, external_tls: true, acme: {domains: [a.example], storage: /a}}\n";
        assert!(
            said(acme, "tls.port").starts_with("7443 never"),
            "no authority, either"
        );
        let turn = "turn: {domain: t.example, tls_port: 5350, advertised_tls_port: 443, external_tls: true}\n";
        assert_eq!(said(turn, "turn.tls_port"), format!("5350 {to_proxy}"));
    }

    #[test]
    fn a_port_clients_are_not_told_of_is_not_recommended() {
        let port = |domain: &str| {
            let text = format!("turn: {{tls_port: 5350, cert_file: c, key_file: k{domain}}}\n");
            said(&text, "turn.tls_port")
        };
        let untold = port("");
        assert!(
            untold.starts_with("5350 never") && untold.contains("set turn.domain"),
            "{untold}"
        );
        assert!(port(", domain: t.example").starts_with("5350 recommended"));
    }

    #[test]
    fn of_a_range_as_many_ports_are_forwarded_as_media_may_have() {
        let of = |rtc: &str| said(&format!("rtc: {{{rtc}}}\n"), "rtc.udp_port");
        let range = "port_range_start: 50000, port_range_end: 60000";
        let line = of(range);
        assert!(
            line.starts_with("50000-50007 needed") && line.contains("that is free"),
            "{line}"
        );
        assert!(
            of("port_range_start: 50000, port_range_end: 50002").starts_with("50000-50002 needed")
        );
        // The port of the router leads to one here.
        let told = of(&format!("{range}, advertise: ['203.0.113.7:40000/udp']"));
        assert_eq!(told, "40000 needed: all media, unless a client has no UDP");
    }

    #[test]
    fn an_authority_that_looks_for_a_page_comes_to_port_80() {
        let acme = |rest: &str, challenge: &str| {
            let acme = format!("{{domains: [a.example], storage: /tmp/a, challenge: {challenge}}}");
            mapped(&format!("tls: {{port: 8443, {rest}acme: {acme}}}\n"))
        };
        assert_eq!(acme("", "http-01"), ["80>7880/tcp port"]);
        assert_eq!(acme("", "tls-alpn-01"), ["443>8443/tcp tls.port"]);
        let told = acme("advertised_port: 443, ", "tls-alpn-01");
        assert_eq!(told, ["443>8443/tcp tls.port"], "once");
    }

    #[test]
    fn one_port_is_needed_and_the_relay_range_is_not() {
        let expected = [
            ("7882/udp", Need::Needed),
            ("7881/tcp", Need::Recommended),
            ("7880/tcp", Need::Optional),
            ("3479/udp", Need::Optional),
            ("3479/tcp", Need::Optional),
            ("30000-30020/udp", Need::Never),
        ];
        assert_eq!(needs(""), expected.map(|(port, need)| (port.into(), need)));
    }

    #[test]
    fn participants_that_reach_peers_may_use_the_relay_range() {
        let relays = |text: &str| {
            let mut table = needs(text).into_iter();
            table
                .find(|(port, _)| port == "30000-30020/udp")
                .map(|(_, need)| need)
        };
        assert_eq!(relays(""), Some(Need::Never));
        let text = "turn: {participants_reach_peers: true}\n";
        assert_eq!(relays(text), Some(Need::Optional));
    }

    #[test]
    fn a_homeserver_that_lends_its_turn_needs_the_relay_range() {
        let table = needs("turn: {static_auth_secret: 0123456789abcdef}\n");
        let needed: Vec<&str> = table
            .iter()
            .filter(|(_, need)| *need == Need::Needed)
            .map(|(port, _)| port.as_str())
            .collect();
        assert_eq!(needed, ["7882/udp", "3479/udp", "30000-30020/udp"]);
    }

    #[test]
    fn turn_over_tls_that_a_homeserver_lends_is_not_closed_for_clients_are_not_told_of_it() {
        let lent = "static_auth_secret: 0123456789abcdef, ";
        let of = |lent: &str| {
            let turn = format!("turn: {{{lent}cert_file: c, key_file: k}}\n");
            said(&turn, "turn.tls_port")
        };
        assert!(of(lent).starts_with("5350 recommended"), "{}", of(lent));
        assert!(of("").starts_with("5350 never"), "{}", of(""));
    }

    #[test]
    fn metrics_are_for_nobody_outside_and_what_is_off_is_not_listed() {
        let table = needs("prometheus: {port: 6789}\nturn: {enabled: false}\nrtc: {tcp_port: 0}\n");
        let expected = [
            ("7882/udp", Need::Needed),
            ("7880/tcp", Need::Optional),
            ("6789/tcp", Need::Never),
        ];
        assert_eq!(table, expected.map(|(port, need)| (port.into(), need)));
    }
}
