//! Texts for a person at a terminal, and the only place that prints.

use crate::config::check::Config;
use crate::config::complaint::Complaints;
use crate::config::forward;
use crate::config::keys::{DEVELOPMENT_KEY, DEVELOPMENT_SECRET};
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;

/// Characters of keys and secrets.
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// As LiveKit's. (LK: server ops §7.2)
const KEY_CHARS: usize = 12;
/// 256 bits and a little.
const SECRET_CHARS: usize = 43;

/// Prints to stdout; a closed pipe is the reader's choice.
pub(super) fn out(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Prints to stderr; if that is gone there is nobody to tell.
pub(super) fn err(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// All complaints, one a line, and how many there are.
pub(super) fn complaints(complaints: &Complaints) -> String {
    let mut text = String::new();
    for complaint in complaints.list() {
        let _ = writeln!(text, "{complaint}");
    }
    if complaints.left_out() > 0 {
        let _ = writeln!(text, "and {} more", complaints.left_out());
    }
    if complaints.has_errors() {
        let _ = writeln!(
            text,
            "the configuration cannot be used: {} error(s)",
            complaints.errors()
        );
    }
    text
}

/// What a router must forward to `target`, for a person.
pub(super) fn port_list(config: &Config, target: Option<IpAddr>) -> String {
    let to = target.map_or_else(|| "this machine".to_owned(), |ip| ip.to_string());
    let mut text = format!(
        "Forward each port of the router to that port of {to}.\n\n{:<16} {:<12} {:<12} {:<28} why\n",
        "port", "to", "forward", "for"
    );
    for line in forward::table(config) {
        let port = format!("{}/{}", line.outside, line.protocol);
        let inside = line.inside.to_string();
        let _ = writeln!(
            text,
            "{port:<16} {inside:<12} {:<12} {:<28} {}",
            line.need, line.name, line.why
        );
    }
    text
}

/// The same for a program.
pub(super) fn port_json(config: &Config, target: Option<IpAddr>) -> String {
    let table = forward::table(config);
    let lines: Vec<serde_json::Value> = table
        .iter()
        .map(|line| {
            serde_json::json!({
                "name": line.name,
                "protocol": line.protocol.to_string(),
                "wan_first": line.outside.first(),
                "wan_last": line.outside.last(),
                "first": line.inside.first(),
                "last": line.inside.last(),
                "target": target,
                "forward": line.need.word(),
                "why": line.why,
                "key": line.key,
            })
        })
        .collect();
    format!("{:#}\n", serde_json::Value::from(lines))
}

fn draw(count: usize) -> String {
    let mut rng = StdRng::from_os_rng();
    let letter = |_| char::from(BASE62[rng.random_range(0..BASE62.len())]);
    (0..count).map(letter).collect()
}

/// A secret nobody has.
pub(super) fn new_secret() -> String {
    draw(SECRET_CHARS)
}

/// A key and a secret nobody has.
pub(super) fn new_key() -> String {
    let (key, secret) = (draw(KEY_CHARS), new_secret());
    format!("API Key:     API{key}\nAPI Secret:  {secret}\n")
}

/// What to do with a server that has just been started for a try.
pub(super) fn next_steps(port: u16, media: u16) -> String {
    format!(
        "\n  Foci in DEVELOPMENT MODE: anyone who reaches it may join any room.\n\n  \
         Try it:   open http://localhost:{port}/try in two tabs\n  \
         Server:   ws://localhost:{port}\n  \
         Keys:     {DEVELOPMENT_KEY} / {DEVELOPMENT_SECRET}\n  \
         Token:    foci token create --room test --identity me\n  \
         Media:    {media}/udp\n  \
         For real: foci generate-keys, then foci --config foci.yaml (docs/config.md)\n\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Sources;

    #[test]
    fn a_new_key_is_accepted_by_the_checks() {
        let text = new_key();
        let word = |line: usize| text.lines().nth(line)?.split_whitespace().nth(2);
        let (key, secret) = (word(0).expect("key"), word(1).expect("secret"));
        let loaded = Sources {
            body: Some(format!("keys: {{{key}: {secret}}}")),
            ..Sources::default()
        }
        .load();
        assert_eq!(complaints(&loaded.complaints), "");
        assert_ne!(text, new_key());
    }

    #[test]
    fn ports_and_next_steps_name_the_ports_in_use() {
        let config = Sources::default().load().config;
        let home = "192.0.2.7".parse().ok();
        let text = port_list(&config, home);
        assert!(
            text.contains("of 192.0.2.7") && text.contains("7882/udp         7882         needed"),
            "{text}"
        );
        let json: serde_json::Value =
            serde_json::from_str(&port_json(&config, home)).expect("JSON");
        assert_eq!(json[0]["first"], 7882);
        assert_eq!(json[0]["wan_first"], 7882);
        assert_eq!(json[0]["forward"], "needed");
        assert_eq!(json[0]["target"], "192.0.2.7");
        let elsewhere = Sources {
            body: Some("tls: {port: 7443, advertised_port: 443, cert_file: c, key_file: k}".into()),
            ..Sources::default()
        };
        let config = elsewhere.load().config;
        let text = port_list(&config, home);
        assert!(
            text.contains("443/tcp          7443         needed"),
            "{text}"
        );
        let text = next_steps(7880, 7882);
        assert!(
            text.contains("localhost:7880/try") && text.contains("7882/udp"),
            "{text}"
        );
    }
}
