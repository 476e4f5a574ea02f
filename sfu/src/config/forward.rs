//! What a router must let through, and why.
//!
//! Owns the judgement of each port: who comes to it from outside, and whether calls work without it.
//! It knows no address. Called by `foci ports`.

use crate::config::check::Config;
use crate::config::ports::{PortRange, PortUse, Protocol};
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

/// One line of the table. Outside and inside the port is the same, for clients are told one number, unless
/// the operator has said which other one they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// What listens there.
    pub name: &'static str,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The ports the router has, which clients are told.
    pub outside: PortRange,
    /// The ports here.
    pub ports: PortRange,
    /// How much depends on it.
    pub need: Need,
    /// Why.
    pub why: &'static str,
    /// The key that sets them.
    pub key: &'static str,
}

/// Every port a configuration listens on, the most needed first.
#[must_use]
pub fn table(config: &Config) -> Vec<Forward> {
    let uses = config.ports().into_iter();
    let mut table: Vec<Forward> = uses.map(|used| forward(used, config)).collect();
    table.sort_by_key(|line| line.need);
    table
}

fn forward(used: PortUse, config: &Config) -> Forward {
    // Users of a homeserver are served by the TURN server as well.
    let lends = config.turn.static_auth_secret.is_some();
    let told = match used.key {
        "tls.port" => config.tls.advertised_port,
        "turn.tls_port" => config.turn.advertised_tls_port,
        _ => 0,
    };
    let (need, why) = match used.key {
        "port" if config.tls.port != 0 => (
            Need::Optional,
            "clients come by tls.port; this is for a proxy that ends TLS",
        ),
        "port" => (
            Need::Optional,
            "only without a reverse proxy: clients then come here; else forward the proxy's 443",
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
        "turn.tls_port" => (
            Need::Recommended,
            "media of networks that let only TLS pass",
        ),
        "turn.relay_range_start" if lends => (
            Need::Needed,
            "what the homeserver's own calls are relayed by",
        ),
        "turn.relay_range_start" => (
            Need::Never,
            "calls here do not need it: what TURN relays goes to the media port in this process",
        ),
        "prometheus.port" => (Need::Never, "for your own monitoring"),
        _ => (
            Need::Needed,
            "clients come here; if a proxy passes it on, forward the proxy's port",
        ),
    };
    Forward {
        name: used.purpose,
        protocol: used.protocol,
        outside: PortRange::new(told, told).unwrap_or(used.ports),
        ports: used.ports,
        need,
        why,
        key: used.key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::check;
    use crate::config::complaint::Complaints;
    use crate::config::raw::Values;

    fn lines(text: &str) -> Vec<Forward> {
        let mut values = Values::default();
        let mut complaints = Complaints::default();
        let text = format!("keys: {{k: 0123456789abcdef0123456789abcdef}}\n{text}");
        values.read_yaml(&text, "f", true, &mut complaints);
        table(&check(&mut values, &mut complaints))
    }

    fn needs(text: &str) -> Vec<(String, Need)> {
        let line = |line: &Forward| (format!("{}/{}", line.ports, line.protocol), line.need);
        lines(text).iter().map(line).collect()
    }

    #[test]
    fn a_port_that_clients_are_told_by_another_number_is_forwarded_from_that() {
        let tls = "tls: {port: 7443, external_tls: true";
        let outside = |text: &str, key: &str| {
            let lines = lines(text);
            let line = lines.iter().find(|line| line.key == key).expect("there");
            (line.outside.to_string(), line.ports.to_string())
        };
        let told = |outside: &str, inside: &str| (outside.to_owned(), inside.to_owned());
        let text = format!("{tls}, advertised_port: 443}}\n");
        assert_eq!(outside(&text, "tls.port"), told("443", "7443"));
        assert_eq!(
            outside(&format!("{tls}}}\n"), "tls.port"),
            told("7443", "7443")
        );
        let turn = "turn: {domain: h.example, external_tls: true, tls_port: 5350, advertised_tls_port: 443}\n";
        assert_eq!(outside(turn, "turn.tls_port"), told("443", "5350"));
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
