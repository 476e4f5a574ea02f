//! Who the client is, as far as its program matters: what the HTTP request adds to its own
//! account, and the known faults of browsers.
//!
//! Owns the User-Agent recogniser and LiveKit's table of client configurations. Never decides what
//! a participant may do. Called by `join`. (LK: signalling §1.4, §4.3, §9.4)

use crate::config::codecs::Codec;
use proto::livekit;
use proto::livekit::client_info::Sdk;
use proto::livekit::{ClientConfiguration, ClientInfo, DisabledCodecs};
use std::net::IpAddr;

/// Protocol after which transceivers may be reused. (LK: signalling §9.3)
const TRANSCEIVER_REUSE_AFTER: i32 = 3;

/// What an HTTP request tells of the client.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hints<'a> {
    /// The `User-Agent` header.
    pub user_agent: Option<&'a str>,
    /// Where the request came from, as far as known.
    pub address: Option<IpAddr>,
}

/// Completes a client's own account: the address always, browser and system only if it named none.
#[must_use]
pub fn complete(mut info: ClientInfo, hints: Hints<'_>) -> ClientInfo {
    info.address = hints.address.map(|ip| ip.to_string()).unwrap_or_default();
    let agent = hints.user_agent.unwrap_or_default();
    if info.browser.is_empty()
        && let Some((name, version)) = browser(agent)
    {
        info.browser = name.to_owned();
        info.browser_version = version.to_owned();
    }
    if info.os.is_empty()
        && let Some((name, version)) = system(agent)
    {
        info.os = name.to_owned();
        info.os_version = version.replace('_', ".");
    }
    info
}

/// Known faults to tell the client of; `None` if there are none.
#[must_use]
pub fn configuration(info: &ClientInfo) -> Option<ClientConfiguration> {
    let mut disabled = DisabledCodecs::default();
    for rule in RULES.iter().filter(|rule| (rule.applies)(info)) {
        if rule.exclusive {
            disabled = DisabledCodecs::default();
        }
        disabled.codecs.extend(rule.both.iter().map(named));
        disabled.publish.extend(rule.publish.iter().map(named));
        if rule.exclusive {
            break;
        }
    }
    if disabled == DisabledCodecs::default() {
        return None;
    }
    Some(ClientConfiguration {
        disabled_codecs: Some(disabled),
        ..ClientConfiguration::default()
    })
}

/// The codecs of `enabled` that the client may publish.
#[must_use]
pub fn publish_codecs(enabled: &[Codec], faults: Option<&ClientConfiguration>) -> Vec<Codec> {
    let disabled = faults.and_then(|faults| faults.disabled_codecs.as_ref());
    let lists = disabled.map(|lists| (&lists.codecs, &lists.publish));
    let usable = |codec: &Codec| {
        lists.is_none_or(|(both, publish)| {
            !lists_codec(both, *codec) && !lists_codec(publish, *codec)
        })
    };
    enabled.iter().copied().filter(usable).collect()
}

/// The codecs of `enabled` that the client may receive. Firefox and Safari negotiate RED and then
/// do not play it, so they never get it.
#[must_use]
pub fn subscribe_codecs(
    info: &ClientInfo,
    enabled: &[Codec],
    faults: Option<&ClientConfiguration>,
) -> Vec<Codec> {
    let disabled = faults.and_then(|faults| faults.disabled_codecs.as_ref());
    let usable = |codec: &Codec| {
        let broken_red = *codec == Codec::Red && (is_firefox(info) || is_safari(info));
        !broken_red && disabled.is_none_or(|lists| !lists_codec(&lists.codecs, *codec))
    };
    enabled.iter().copied().filter(usable).collect()
}

/// Firefox on Linux and Android ignores the order of codecs in an answer: it gets one only.
#[must_use]
pub fn needs_one_codec_per_section(info: &ClientInfo) -> bool {
    is_firefox(info) && (is(&info.os, "linux") || is(&info.os, "android"))
}

/// Firefox drops what comes through a TURN relay from an address it was not told, as our public one
/// is when it was told a local one that answers first. (LK: server ops §8.1)
#[must_use]
pub fn needs_outside_only(info: &ClientInfo) -> bool {
    is_firefox(info)
}

/// Does a section of our offers serve one track after another? Old clients do not expect it, and
/// Safari plays nothing from the second track on.
#[must_use]
pub fn reuses_sections(info: &ClientInfo) -> bool {
    info.protocol > TRANSCEIVER_REUSE_AFTER && !is_safari(info)
}

/// Pion, which the Go SDK stands on, wants to be the DTLS server of a lite peer that lets it choose.
#[must_use]
pub fn needs_passive_offers(info: &ClientInfo) -> bool {
    info.sdk() == Sdk::Go
}

/// One row of LiveKit's static configuration table.
struct Rule {
    applies: fn(&ClientInfo) -> bool,
    /// Codecs the client should not use at all.
    both: &'static [&'static str],
    /// Codecs it should not publish.
    publish: &'static [&'static str],
    /// Stands alone instead of being merged with the others.
    exclusive: bool,
}

/// LK: signalling §4.3, in its order.
const RULES: [Rule; 3] = [
    Rule {
        applies: |info| is(&info.browser, "safari"),
        both: &["video/AV1"],
        publish: &[],
        exclusive: false,
    },
    Rule {
        applies: |info| is(&info.browser, "safari") && is_later(&info.browser_version, "18.3"),
        both: &[],
        publish: &["video/VP9"],
        exclusive: false,
    },
    Rule {
        applies: |info| {
            let device = is(&info.device_model, "xiaomi 2201117ti") && is(&info.os, "android");
            needs_one_codec_per_section(info) || device
        },
        both: &[],
        publish: &["video/H264"],
        exclusive: true,
    },
];

fn named(mime: &&str) -> livekit::Codec {
    livekit::Codec {
        mime: (*mime).to_owned(),
        fmtp_line: String::new(),
    }
}

fn lists_codec(list: &[livekit::Codec], codec: Codec) -> bool {
    list.iter()
        .any(|entry| entry.mime.eq_ignore_ascii_case(codec.mime()))
}

fn is(field: &str, name: &str) -> bool {
    field.eq_ignore_ascii_case(name)
}

fn is_firefox(info: &ClientInfo) -> bool {
    is(&info.browser, "firefox") || is(&info.browser, "firefox mobile")
}

fn is_safari(info: &ClientInfo) -> bool {
    is(&info.browser, "safari") || is(&info.browser, "mobile safari")
}

/// Compares dotted versions number by number; what is no number counts as zero.
fn is_later(version: &str, than: &str) -> bool {
    let number = |part: Option<&str>| part.and_then(|part| part.parse::<u32>().ok()).unwrap_or(0);
    let (mut left, mut right) = (version.split('.'), than.split('.'));
    loop {
        let (ours, theirs) = (left.next(), right.next());
        if ours.is_none() && theirs.is_none() {
            return false;
        }
        let (ours, theirs) = (number(ours), number(theirs));
        if ours != theirs {
            return ours > theirs;
        }
    }
}

/// The browser a User-Agent tells of, with its version. Each imitates those below it, hence the order.
fn browser(agent: &str) -> Option<(&'static str, &str)> {
    let mobile = agent.contains("Mobile") || agent.contains("Android");
    let marks = [
        ("Edg/", "Edge", "Edge"),
        ("EdgA/", "Edge Mobile", "Edge Mobile"),
        ("EdgiOS/", "Edge Mobile", "Edge Mobile"),
        ("OPR/", "Opera", "Opera Mobile"),
        ("FxiOS/", "Firefox iOS", "Firefox iOS"),
        ("CriOS/", "Chrome Mobile iOS", "Chrome Mobile iOS"),
        ("Firefox/", "Firefox", "Firefox Mobile"),
        ("Chrome/", "Chrome", "Chrome Mobile"),
    ];
    for (mark, desktop, handheld) in marks {
        if let Some(version) = after(agent, mark) {
            return Some((if mobile { handheld } else { desktop }, version));
        }
    }
    let version = after(agent, "Version/")?;
    agent
        .contains("Safari/")
        .then_some((if mobile { "Mobile Safari" } else { "Safari" }, version))
}

/// The operating system a User-Agent tells of, with its version if it has one.
fn system(agent: &str) -> Option<(&'static str, &str)> {
    let marks = [
        ("Windows NT ", "Windows"),
        ("Android ", "Android"),
        ("iPhone OS ", "iOS"),
        ("CPU OS ", "iOS"),
        ("Mac OS X ", "Mac OS X"),
        ("CrOS ", "Chrome OS"),
    ];
    for (mark, name) in marks {
        if let Some(version) = after(agent, mark) {
            return Some((name, version));
        }
    }
    // Firefox on Android says only that.
    if agent.contains("Android") {
        return Some(("Android", ""));
    }
    agent.contains("Linux").then_some(("Linux", ""))
}

/// The run of digits, dots and underscores that follows `mark`.
fn after<'a>(agent: &'a str, mark: &str) -> Option<&'a str> {
    let (_, rest) = agent.split_once(mark)?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')
        .unwrap_or(rest.len());
    rest.get(..end)
}

#[cfg(test)]
mod tests;
