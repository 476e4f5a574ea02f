//! The query parameters of `/rtc`: an older spelling of the join request.
//!
//! Owns their names, defaults and forms. Any text is read: what makes no sense counts as absent, as
//! with LiveKit. (LK: signalling §1.4)

use super::join_request::BASE64;
use base64::Engine;
use livekit_protocol::client_info::{Capability, Sdk};
use livekit_protocol::{ClientInfo, ConnectionSettings, JoinRequest, ReconnectReason};
use std::collections::HashMap;

/// What the parameters ask for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parameters {
    /// All that a join request can say too.
    pub request: JoinRequest,
    /// A session beside another one of the same identity that only publishes: the suffix of its
    /// identity.
    pub publish: Option<String>,
    /// There are attributes, but they cannot be read.
    pub unreadable_attributes: bool,
}

/// Names of SDKs; one that is not listed is unknown.
const SDKS: [(&str, Sdk); 15] = [
    ("js", Sdk::Js),
    ("ios", Sdk::Swift),
    ("swift", Sdk::Swift),
    ("android", Sdk::Android),
    ("flutter", Sdk::Flutter),
    ("go", Sdk::Go),
    ("unity", Sdk::Unity),
    ("reactnative", Sdk::ReactNative),
    ("rust", Sdk::Rust),
    ("python", Sdk::Python),
    ("cpp", Sdk::Cpp),
    ("unityweb", Sdk::UnityWeb),
    ("node", Sdk::Node),
    ("unreal", Sdk::Unreal),
    ("esp32", Sdk::Esp32),
];

/// Reads parameters, percent-decoded; of several with one name the first counts.
#[must_use]
pub fn read_parameters(pairs: &[(String, String)]) -> Parameters {
    let value = |name: &str| {
        let found = pairs.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    };
    let flag = |name: &str| value(name).map(is_true);
    let reconnect = flag("reconnect").unwrap_or(false);
    let sid = value("sid").filter(|_| reconnect).unwrap_or_default();
    let attributes = value("attributes").filter(|text| !text.is_empty());
    let participant_attributes = attributes.map(read_attributes);
    let reason = value("reconnect_reason").and_then(|text| text.parse().ok());
    let publish = value("publish").filter(|suffix| !suffix.is_empty());
    Parameters {
        publish: publish.map(str::to_owned),
        unreadable_attributes: participant_attributes == Some(None),
        request: JoinRequest {
            client_info: Some(client_info(value)),
            connection_settings: Some(ConnectionSettings {
                auto_subscribe: flag("auto_subscribe").unwrap_or(true),
                adaptive_stream: flag("adaptive_stream").unwrap_or(false),
                subscriber_allow_pause: flag("subscriber_allow_pause"),
                disable_ice_lite: flag("disable_ice_lite").unwrap_or(false),
                auto_subscribe_data_track: flag("auto_subscribe_data_track"),
            }),
            participant_attributes: participant_attributes.flatten().unwrap_or_default(),
            reconnect,
            reconnect_reason: reason.unwrap_or(ReconnectReason::RrUnknown as i32),
            participant_sid: sid.to_owned(),
            ..JoinRequest::default()
        },
    }
}

fn client_info<'a>(value: impl Fn(&str) -> Option<&'a str>) -> ClientInfo {
    let text = |name: &str| value(name).unwrap_or_default().to_owned();
    let number = |name: &str| value(name).and_then(|text| text.parse().ok());
    let sdk = value("sdk").unwrap_or_default();
    let sdk = SDKS.iter().find(|(name, _)| *name == sdk);
    let capabilities = value("capabilities").unwrap_or_default().split(',');
    ClientInfo {
        sdk: sdk.map_or(Sdk::Unknown, |(_, sdk)| *sdk) as i32,
        version: text("version"),
        protocol: number("protocol").unwrap_or(0),
        os: text("os"),
        os_version: text("os_version"),
        device_model: text("device_model"),
        browser: text("browser"),
        browser_version: text("browser_version"),
        network: text("network"),
        client_protocol: number("client_protocol").unwrap_or(0),
        capabilities: capabilities
            .filter_map(|name| Some(Capability::from_str_name(name.trim())? as i32))
            .collect(),
        ..ClientInfo::default()
    }
}

/// Everything but these two is false.
fn is_true(value: &str) -> bool {
    value == "1" || value == "true"
}

/// URL-safe base64 of a JSON object of strings.
fn read_attributes(text: &str) -> Option<HashMap<String, String>> {
    let json = BASE64.decode(text).ok()?;
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(pairs: &[(&str, &str)]) -> Parameters {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        read_parameters(&pairs.iter().map(owned).collect::<Vec<_>>())
    }

    fn settings(pairs: &[(&str, &str)]) -> ConnectionSettings {
        let settings = read(pairs).request.connection_settings;
        settings.expect("always there")
    }

    #[test]
    fn a_client_that_says_nothing_takes_everything() {
        let settings = settings(&[]);
        assert!(settings.auto_subscribe && !settings.adaptive_stream);
        assert_eq!(settings.subscriber_allow_pause, None);
        let info = read(&[]).request.client_info.expect("always there");
        assert_eq!(info, ClientInfo::default());
    }

    #[test]
    fn only_one_and_true_are_true() {
        for (text, truth) in [
            ("1", true),
            ("true", true),
            ("0", false),
            ("True", false),
            ("", false),
        ] {
            assert_eq!(
                settings(&[("auto_subscribe", text)]).auto_subscribe,
                truth,
                "{text}"
            );
            let pause = settings(&[("subscriber_allow_pause", text)]).subscriber_allow_pause;
            assert_eq!(pause, Some(truth), "{text}");
        }
    }

    #[test]
    fn the_client_is_described_by_its_parameters() {
        let info = read(&[
            ("sdk", "ios"),
            ("version", "2.0.1"),
            ("protocol", "9"),
            ("client_protocol", "2"),
            ("os", "iOS"),
            ("browser", "Safari"),
            ("network", "wifi"),
            ("capabilities", "CAP_PACKET_TRAILER, CAP_OF_THE_FUTURE"),
        ]);
        let info = info.request.client_info.expect("always there");
        assert_eq!(info.sdk(), Sdk::Swift);
        assert_eq!((info.protocol, info.client_protocol), (9, 2));
        assert_eq!((info.version.as_str(), info.os.as_str()), ("2.0.1", "iOS"));
        assert_eq!(
            (info.browser.as_str(), info.network.as_str()),
            ("Safari", "wifi")
        );
        assert_eq!(info.capabilities, [Capability::CapPacketTrailer as i32]);
        let odd = read(&[("sdk", "JS"), ("protocol", "nine")])
            .request
            .client_info;
        assert_eq!(odd.map(|info| (info.sdk, info.protocol)), Some((0, 0)));
    }

    #[test]
    fn a_sid_counts_only_with_a_reconnect() {
        let fresh = read(&[("sid", "PA_1")]).request;
        assert_eq!(
            (fresh.reconnect, fresh.participant_sid.as_str()),
            (false, "")
        );
        let resume = [
            ("reconnect", "1"),
            ("sid", "PA_1"),
            ("reconnect_reason", "3"),
        ];
        let resume = read(&resume).request;
        assert_eq!(
            (resume.reconnect, resume.participant_sid.as_str()),
            (true, "PA_1")
        );
        assert_eq!(
            resume.reconnect_reason(),
            ReconnectReason::RrSubscriberFailed
        );
    }

    #[test]
    fn attributes_are_a_json_object_of_strings_in_base64() {
        let readable = read(&[("attributes", "eyJhIjoiYiJ9")]);
        assert!(!readable.unreadable_attributes);
        assert_eq!(readable.request.participant_attributes["a"], "b");
        for bad in ["???", "eyJhIjoxfQ", "W10"] {
            let unreadable = read(&[("attributes", bad)]);
            assert!(unreadable.unreadable_attributes, "{bad}");
            assert!(unreadable.request.participant_attributes.is_empty());
        }
        assert!(!read(&[("attributes", "")]).unreadable_attributes);
    }

    #[test]
    fn a_session_that_only_publishes_has_a_suffix() {
        assert_eq!(
            read(&[("publish", "screen")]).publish.as_deref(),
            Some("screen")
        );
        assert_eq!(read(&[("publish", "")]).publish, None);
    }

    proptest! {
        #[test]
        fn any_parameters_are_read(pairs in proptest::collection::vec((
            prop_oneof![Just("attributes"), Just("capabilities"), Just("protocol"), Just("sdk")],
            ".{0,40}",
        ), 0..8)) {
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (*k, v.as_str())).collect();
            let _ = read(&pairs);
        }
    }
}
