//! What is refused, what is warned of, and what comes out.

use super::*;
use crate::config::codecs::{Codec, h264};

const SECRET: &str = "keys: {k: 0123456789abcdef0123456789abcdef}\n";

fn judge(text: &str) -> (Config, Vec<String>) {
    let mut values = Values::default();
    let mut complaints = Complaints::default();
    values.read_yaml(text, "f", true, &mut complaints);
    values.resolve_aliases(&mut complaints);
    let config = check(&mut values, &mut complaints);
    let lines = complaints.list().iter().map(ToString::to_string).collect();
    (config, lines)
}

/// The only complaint about `text` beside a good key.
fn complaint(text: &str) -> String {
    let (_, lines) = judge(&format!("{SECRET}{text}"));
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0].clone()
}

#[test]
fn the_defaults_are_livekit_s_but_for_the_media_port() {
    let (config, lines) = judge(SECRET);
    assert_eq!(lines, Vec::<String>::new());
    assert_eq!(config.http.port, 7880);
    assert!(config.http.bind_addresses.is_empty());
    assert_eq!(
        config.http.path_prefixes,
        ["/livekit/sfu", "/livekit-server"]
    );
    assert_eq!(config.http.signal_message_size_limit, 2_097_152);
    assert_eq!(config.http.max_api_request_body_size, 10_485_760);
    assert_eq!(config.rtc.udp_port.to_string(), "7882");
    assert!(!config.rtc.udp_port_configured);
    assert_eq!((config.rtc.tcp_port, config.rtc.workers), (7881, 1));
    assert_eq!(config.rtc.pli_throttle.low, Duration::from_millis(500));
    assert!(config.room.auto_create);
    assert_eq!(config.room.enabled_codecs, Codec::ALL);
    assert_eq!(config.room.empty_timeout, Duration::from_secs(300));
    assert_eq!(config.room.departure_timeout, Duration::from_secs(20));
    assert_eq!(config.room.update_batch_target_size, 131_072);
    assert_eq!(
        (config.audio.active_level, config.audio.min_percentile),
        (35, 40)
    );
    assert_eq!(
        (
            config.audio.update_interval_ms,
            config.audio.smooth_intervals
        ),
        (400, 2)
    );
    assert_eq!(config.video.dynacast_pause_delay, Duration::from_secs(5));
    assert_eq!(config.limit.max_metadata_size, 524_288);
    assert_eq!(config.logging.level, Level::Info);
    assert_eq!(
        (config.prometheus.port, config.drain_timeout.as_secs()),
        (0, 5)
    );
}

#[test]
fn no_keys_are_refused_and_development_mode_needs_none() {
    let (_, lines) = judge("port: 7880\n");
    assert!(
        lines[0].contains("one of key_file or keys must be provided"),
        "{lines:?}"
    );
    let (config, lines) = judge("development: true\n");
    assert_eq!(lines, Vec::<String>::new());
    assert!(config.keys.are_placeholders() && config.rtc.enable_loopback_candidate);
    assert!(config.http.bind_addresses.iter().all(|ip| ip.is_loopback()));
    assert_eq!(config.http.bind_addresses.len(), 2);
}

#[test]
fn placeholder_keys_on_an_open_address_are_warned_of() {
    let (config, lines) = judge("development: true\nbind_addresses: [192.0.2.7]\n");
    assert!(lines[0].contains("anyone may join"), "{lines:?}");
    assert_eq!(config.rtc.ips.includes[0].to_string(), "192.0.2.7/24");
    let (config, _) = judge("development: true\nkeys: {a: short}\n");
    assert!(
        config.http.bind_addresses.is_empty(),
        "own keys listen everywhere"
    );
}

#[test]
fn short_secrets_are_warned_of_and_never_refused_or_repeated() {
    for secret in ["0123456789abcdef", "xyz"] {
        let (_, lines) = judge(&format!("keys: {{k: {secret}}}\n"));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with("warning") && lines[0].contains(SHORT_SECRET),
            "{lines:?}"
        );
        assert!(!lines[0].contains(secret), "{lines:?}");
    }
}

#[test]
fn a_range_of_ports_is_taken_and_never_beside_udp_port() {
    let both = complaint("rtc: {udp_port: 7882, port_range_start: 50000, port_range_end: 60000}\n");
    assert!(
        both.starts_with("error") && both.contains("silently use the range"),
        "{both}"
    );
    let reversed = complaint("rtc: {port_range_start: 60000, port_range_end: 50000}\n");
    assert!(
        reversed.contains("60000-50000 ends below its start"),
        "{reversed}"
    );
    let text = format!("{SECRET}rtc: {{port_range_start: 50000, port_range_end: 60000}}\n");
    let (config, lines) = judge(&text);
    assert_eq!(lines, Vec::<String>::new());
    assert_eq!(config.rtc.udp_port.to_string(), "50000-60000");
    assert_eq!(config.rtc.udp_ports().to_string(), "50000-50007");
    let in_use = ports::listed(&config.ports_in_use(50_003));
    assert!(in_use.contains("50003/udp media"), "{in_use}");
}

#[test]
fn addresses_to_tell_are_refused_with_the_form_they_should_have() {
    let list = complaint("rtc: {advertise: [203.0.113.7, '203.0.113.7:40000']}\n");
    assert!(list.contains("/udp or /tcp"), "{list}");
    let server = complaint("rtc: {use_external_ip: true, stun_servers: ['stun:a.example']}\n");
    assert!(server.contains("without `stun:`"), "{server}");
    let often = complaint("rtc: {address_check_interval: 1s}\n");
    assert!(often.contains("5s"), "{often}");
    let forced = complaint("rtc: {force_tcp: true, tcp_port: 0}\n");
    assert!(forced.starts_with("error"), "{forced}");
    let (config, _) = judge(&format!("{SECRET}rtc: {{use_external_ip: true}}\n"));
    assert_eq!(config.rtc.public.stun_servers.len(), 3, "LiveKit's");
    let (config, _) = judge(&format!("{SECRET}rtc: {{stun_servers: [a.example]}}\n"));
    assert!(
        config.rtc.public.stun_servers.is_empty(),
        "nobody is asked unasked for"
    );
}

#[test]
fn one_media_thread_on_one_port_is_all_there_is() {
    assert!(complaint("rtc: {workers: 0}\n").contains("one media thread"));
    let more = complaint("rtc: {workers: 3}\n");
    assert!(
        more.starts_with("warning") && more.contains("one media thread so far"),
        "{more}"
    );
    let range = complaint("rtc: {udp_port: 7882-7892}\n");
    assert!(
        range.starts_with("warning") && range.contains("write rtc.udp_port: 7882"),
        "{range}"
    );
    let (config, _) = judge(&format!(
        "{SECRET}rtc: {{udp_port: 7882-7892, workers: 3}}\n"
    ));
    assert_eq!(config.rtc.workers, 1);
    assert_eq!(config.rtc.udp_ports().to_string(), "7882-7889");
}

#[test]
fn a_message_is_never_larger_than_the_protocol_allows() {
    let line = complaint("limit: {signal_message_size_limit: 4194304}\n");
    assert!(line.starts_with("warning"), "{line}");
    let (config, _) = judge(&format!(
        "{SECRET}limit: {{signal_message_size_limit: 1000}}\n"
    ));
    assert_eq!(config.http.signal_message_size_limit, 1000);
}

#[test]
fn one_port_is_not_given_twice() {
    let text = "prometheus: {port: 7880, bind_addresses: [127.0.0.1]}\n";
    let line = complaint(text);
    assert!(
        line.starts_with("error") && line.contains("is used by port"),
        "{line}"
    );
    assert!(complaint("port: 80\n").contains("privileged"));
}

#[test]
fn addresses_and_blocks_must_be_some() {
    assert!(complaint("bind_addresses: [localhost]\n").contains("not an IP address"));
    assert!(complaint("rtc: {ips: {includes: [10.0.0.1]}}\n").contains("CIDR"));
    assert!(complaint("rtc: {node_ip: 0.0.0.0}\n").contains("cannot be reached"));
}

#[test]
fn metrics_ask_for_both_name_and_password() {
    let line = complaint("prometheus: {username: u}\n");
    assert!(line.contains("without prometheus.password"), "{line}");
    assert!(complaint("prometheus: {port: 6789}\n").contains("loopback only"));
}

#[test]
fn a_codec_foci_does_not_have_is_left_out_with_a_warning() {
    let text = format!(
        "{SECRET}room:\n  enabled_codecs:\n    - mime: audio/OPUS\n    - mime: video/VP9\n    \
         - mime: video/rtx\n"
    );
    let (config, lines) = judge(&text);
    assert_eq!(config.room.enabled_codecs, [Codec::Opus, Codec::Vp8]);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("video/VP9") && lines[1].contains("video/VP8 is added"));
}

#[test]
fn h264_is_restricted_to_the_formats_listed() {
    let with = |entries: &str| {
        let text = format!("{SECRET}room: {{enabled_codecs: [{{mime: audio/opus}}, {entries}]}}\n");
        let (config, lines) = judge(&text);
        assert_eq!(lines, Vec::<String>::new());
        config.room.h264
    };
    assert_eq!(with("{mime: video/H264}"), h264::Parameters::DEFAULT);
    let main = "packetization-mode=1;profile-level-id=4d001f";
    let high = "packetization-mode=1;profile-level-id=640032";
    let both = with(&format!(
        "{{mime: video/h264, fmtp_line: {main}}}, {{mime: video/H264, fmtp_line: {high}}}"
    ));
    let parsed = [main, high].map(|fmtp| h264::Parameters::parse(Some(fmtp)).expect("usable"));
    assert_eq!(both, parsed);
    let other = with("{mime: video/VP8, fmtp_line: profile-level-id=4d001f}");
    assert_eq!(other, h264::Parameters::DEFAULT);
    let line = complaint(
        "room: {enabled_codecs: [{mime: audio/opus}, {mime: video/H264, fmtp_line: packetization-mode=2}]}\n",
    );
    assert!(line.contains("packetization-mode=2"), "{line}");
}

#[test]
fn a_key_not_built_yet_is_a_warning_unless_it_switches_something_off() {
    let line = complaint("redis: {address: localhost:6379}\n");
    assert!(
        line.starts_with("warning") && line.contains("single node"),
        "{line}"
    );
    let (_, lines) = judge(&format!(
        "{SECRET}turn: {{enabled: false}}\nrtc: {{tcp_port: 0}}\n"
    ));
    assert_eq!(lines, Vec::<String>::new());
}

#[test]
fn levels_are_read_for_foci_and_for_its_components() {
    let text = "logging: {level: DEBUG, component_levels: {transport: warn, tea: info}}\n";
    let (config, lines) = judge(&format!("{SECRET}{text}"));
    assert_eq!(config.logging.level, Level::Debug);
    assert_eq!(
        config.logging.component_levels,
        [("sfu::media::transport", Level::Warn)]
    );
    assert!(lines[0].contains("no component `tea`"), "{lines:?}");
    assert!(complaint("logging: {level: loud}\n").contains("no level"));
}

#[test]
fn no_limit_is_a_very_large_one() {
    let (config, _) = judge(&format!(
        "{SECRET}limit: {{max_metadata_size: 0, signal_message_size_limit: 0}}\n"
    ));
    assert_eq!(config.limit.max_metadata_size, usize::MAX);
    assert_eq!(config.http.signal_message_size_limit, 2 << 20);
}
