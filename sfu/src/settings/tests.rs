//! Which source wins, and what is said about the others.

use super::*;
use std::os::unix::fs::PermissionsExt;

const KEYS: &str = "keys: {k: 0123456789abcdef0123456789abcdef}\n";

fn flag(name: &str, text: &str) -> Flag {
    Flag {
        name: name.into(),
        text: text.into(),
    }
}

fn with(yaml: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Loaded {
    Sources {
        body: Some(format!("{KEYS}{yaml}")),
        flags: flags.iter().map(|(n, t)| flag(n, t)).collect(),
        variables: variables
            .iter()
            .map(|(n, t)| ((*n).into(), (*t).into()))
            .collect(),
        ..Sources::default()
    }
    .load()
}

fn lines(loaded: &Loaded) -> Vec<String> {
    let list = loaded.complaints.list();
    list.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_at_all_is_development_mode_on_loopback() {
    let loaded = Sources::default().load();
    assert!(loaded.unconfigured && loaded.config.development);
    assert!(!loaded.complaints.has_errors());
    assert!(
        loaded
            .config
            .http
            .bind_addresses
            .iter()
            .all(IpAddr::is_loopback)
    );
    assert_eq!(loaded.config.rtc.udp_port.to_string(), "7882");
}

#[test]
fn anything_configured_is_not_development_mode() {
    let loaded = Sources {
        flags: vec![flag("region", "here")],
        ..Sources::default()
    }
    .load();
    assert!(!loaded.unconfigured && loaded.complaints.has_errors());
    let loaded = Sources {
        body: Some("# nothing\n".into()),
        ..Sources::default()
    }
    .load();
    assert!(!loaded.unconfigured && loaded.complaints.has_errors());
}

#[test]
fn each_source_overrides_the_one_before() {
    let port = |loaded: &Loaded| loaded.config.rtc.udp_port.to_string();
    let yaml = "rtc: {udp_port: 1001}\n";
    assert_eq!(port(&with(yaml, &[], &[])), "1001");
    let generated = ("LIVEKIT_RTC_UDP_PORT", "1002");
    assert_eq!(port(&with(yaml, &[generated], &[])), "1002");
    let flag = ("rtc.udp_port", "1003");
    assert_eq!(port(&with(yaml, &[generated], &[flag])), "1003");
    let named = ("UDP_PORT", "1004");
    assert_eq!(port(&with(yaml, &[generated, named], &[flag])), "1004");
    let all = with(
        yaml,
        &[generated, named],
        &[flag, ("udp-port", "1005-1010")],
    );
    assert_eq!(port(&all), "1005-1010");
}

#[test]
fn a_wrong_variable_is_an_error_and_an_unknown_one_a_warning() {
    let loaded = with("", &[("UDP_PORT", "x"), ("LIVEKIT_RTC_UPD_PORT", "1")], &[]);
    assert!(loaded.complaints.has_errors());
    let lines = lines(&loaded);
    assert!(
        lines[0].starts_with("error: $UDP_PORT: rtc.udp_port"),
        "{lines:?}"
    );
    assert!(
        lines[1].contains("did you mean LIVEKIT_RTC_UDP_PORT"),
        "{lines:?}"
    );
    assert_eq!(lines.len(), 2);
    let jwt = [
        ("LIVEKIT_JWT_PORT", "8080"),
        ("LIVEKIT_URL", "wss://x"),
        ("PATH", "/bin"),
    ];
    assert!(self::lines(&with("", &jwt, &[])).is_empty());
}

#[test]
fn variables_of_the_companion_service_without_a_key_are_answered_by_what_to_do() {
    const METADATA: &str = "LIVEKIT_CAN_UPDATE_OWN_METADATA";
    const MEMBERSHIP: &str = "LIVEKIT_MEMBERSHIP_CHECK_INTERVAL_SECONDS";
    for (name, text, answer) in [
        ("LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS", "60", None),
        (METADATA, "true", None),
        (METADATA, "false", Some("MSC4195")),
        (MEMBERSHIP, "60", Some("membership_interval")),
        (MEMBERSHIP, "", None),
    ] {
        let told = lines(&with("", &[(name, text)], &[]));
        match answer {
            None => assert!(told.is_empty(), "{name}: {told:?}"),
            Some(answer) => {
                assert!(told[0].starts_with("warning: ") && told[0].contains(name));
                assert!(told[0].contains(answer) && told.len() == 1, "{told:?}");
            }
        }
    }
}

#[test]
fn the_bare_node_ip_variable_does_not_override_what_was_written_but_the_flag_does() {
    let yaml = "rtc: {node_ip: 192.0.2.1}\n";
    let v4 = |loaded: &Loaded| loaded.config.rtc.node_ip.v4.map(|ip| ip.to_string());
    let loaded = with(yaml, &[("NODE_IP", "192.0.2.2")], &[]);
    assert_eq!(v4(&loaded).as_deref(), Some("192.0.2.1"));
    assert!(lines(&loaded)[0].contains("--node-ip"));
    let loaded = with("", &[("NODE_IP", "192.0.2.2")], &[]);
    assert_eq!(v4(&loaded).as_deref(), Some("192.0.2.2"));
    let loaded = with(yaml, &[], &[("node-ip", "192.0.2.3,2001:db8::3")]);
    assert_eq!(v4(&loaded).as_deref(), Some("192.0.2.3"));
    assert!(loaded.config.rtc.node_ip.v6.is_some());
}

#[test]
fn parts_of_a_key_are_set_one_by_one() {
    let parts = [
        ("LIVEKIT_RTC_UDP_PORT_START", "1000"),
        ("LIVEKIT_RTC_UDP_PORT_END", "1010"),
        ("LIVEKIT_RTC_NODE_IP_IPV4", "192.0.2.1"),
        ("LIVEKIT_RTC_NODE_IP_IPV6", "2001:db8::1"),
    ];
    let loaded = with("", &parts, &[]);
    assert_eq!(loaded.config.rtc.udp_port.to_string(), "1000-1010");
    assert!(loaded.config.rtc.node_ip.v4.is_some() && loaded.config.rtc.node_ip.v6.is_some());
}

#[test]
fn binds_are_a_list_and_durations_may_be_nanoseconds() {
    let variables = [("LIVEKIT_VIDEO_DYNACAST_PAUSE_DELAY", "7000000000")];
    let loaded = with("", &variables, &[("bind", "127.0.0.1,::1")]);
    assert_eq!(loaded.config.http.bind_addresses.len(), 2);
    assert_eq!(loaded.config.video.dynacast_pause_delay.as_secs(), 7);
}

#[test]
fn a_key_file_replaces_keys_unless_others_may_read_it() {
    let path = std::env::temp_dir().join(format!("foci-keys-{}", std::process::id()));
    let load = |mode: u32| {
        std::fs::write(&path, "filekey: 0123456789abcdef0123456789abcdef\n").expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
        let name = path.display().to_string();
        with("", &[], &[("key-file", &name)])
    };
    let open = load(0o644);
    assert!(
        lines(&open)[0].contains("chmod o-rwx"),
        "{:?}",
        lines(&open)
    );
    let closed = load(0o640);
    assert_eq!(
        closed.config.keys.first().map(|(key, _)| key),
        Some("filekey")
    );
    std::fs::remove_file(&path).expect("removed");
}

#[test]
fn the_secret_of_a_turn_server_may_be_in_a_file() {
    use crate::config::check::turn::Access;
    let path = std::env::temp_dir().join(format!("foci-turn-{}", std::process::id()));
    let load = |more: &str| {
        let file = path.display();
        let server = format!("host: t, port: 1, protocol: udp, secret_file: {file}{more}");
        with(
            &format!("rtc: {{turn_servers: [{{{server}}}]}}\n"),
            &[],
            &[],
        )
    };
    let complaint = lines(&load("")).join("\n");
    assert!(complaint.contains("cannot read"), "{complaint}");
    std::fs::write(&path, " north\n").expect("written");
    let secret_of = |loaded: &Loaded| match &loaded.config.ice_servers[0].access {
        Access::Shared { secret, .. } => secret.reveal().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(secret_of(&load("")), "north");
    let both = load(", secret: south");
    assert_eq!(secret_of(&both), "south");
    assert!(lines(&both).join("\n").contains("remove one of them"));
    std::fs::write(&path, "\n").expect("written");
    let complaint = lines(&load("")).join("\n");
    assert!(complaint.contains("is empty"), "{complaint}");
    std::fs::remove_file(&path).expect("removed");
}

#[test]
fn a_registration_holds_the_tokens_of_an_application_service() {
    let path = std::env::temp_dir().join(format!("foci-registration-{}", std::process::id()));
    let load = |text: &str| {
        std::fs::write(&path, text).expect("written");
        let name = path.display().to_string();
        let variables = [
            ("LIVEKIT_AS_REGISTRATION_FILE", name.as_str()),
            ("LIVEKIT_HS_SERVER_NAME", "a.example"),
            ("LIVEKIT_URL", "wss://rtc.example"),
        ];
        with("", &variables, &[])
    };
    let loaded = load("id: x\nas_token: \"1e5\"\nhs_token: two\nnamespaces: {users: []}\n");
    assert_eq!(lines(&loaded), Vec::<String>::new());
    let section = loaded.config.matrix.app_service.expect("a section");
    assert_eq!(
        (section.as_token.reveal(), section.hs_token.reveal()),
        ("1e5", "two")
    );
    assert!(!format!("{section:?}").contains("1e5"));
    let complaint = lines(&load("id: x\nas_token: one\n")).join("\n");
    assert!(complaint.contains("has no hs_token"), "{complaint}");
    for broken in ["", "[", "as_token: [1]\nhs_token: two"] {
        assert!(load(broken).complaints.has_errors(), "{broken}");
    }
    std::fs::remove_file(&path).expect("removed");
    let gone = with("", &[("LIVEKIT_AS_REGISTRATION_FILE", "/nonexistent")], &[]);
    assert!(gone.complaints.has_errors());
}

#[test]
fn a_missing_file_is_an_error() {
    let loaded = Sources {
        file: Some("/nonexistent/foci.yaml".into()),
        ..Sources::default()
    }
    .load();
    assert!(!loaded.unconfigured);
    assert!(
        lines(&loaded)[0].contains("cannot read"),
        "{:?}",
        lines(&loaded)
    );
}

#[test]
fn the_companion_s_overrides_are_pairs() {
    const NAME: &str = "LIVEKIT_CS_API_URL_OVERRIDES";
    let read = |text: &str| with("", &[(NAME, text)], &[]);
    let loaded = read("a.example=https://a, b.example:8448=http://synapse:8008");
    assert_eq!(lines(&loaded), Vec::<String>::new());
    let expected = [
        ("a.example", "https://a"),
        ("b.example:8448", "http://synapse:8008"),
    ];
    let expected = expected.map(|(name, url)| (name.to_owned(), url.to_owned()));
    assert_eq!(loaded.config.matrix.client_apis, expected);
    let complaint = lines(&read("a.example")).join("\n");
    assert!(
        complaint.contains("expected server_name=url"),
        "{complaint}"
    );
}

#[test]
fn variables_of_the_companion_service_set_keys() {
    let variables = [
        ("LIVEKIT_URL", "wss://rtc.example/livekit/sfu"),
        (
            "LIVEKIT_FULL_ACCESS_HOMESERVERS",
            "a.example, b.example\nc.example:8448",
        ),
        ("LIVEKIT_INSECURE_SKIP_VERIFY_TLS", "true"),
        ("LIVEKIT_ROOM_AUTO_CREATE", "false"),
    ];
    let loaded = with("matrix: {url: 'wss://other'}", &variables, &[]);
    let matrix = &loaded.config.matrix;
    assert_eq!(matrix.url.as_deref(), Some("wss://rtc.example/livekit/sfu"));
    let names = ["a.example", "b.example", "c.example:8448"];
    assert_eq!(matrix.full_access_homeservers, names);
    // Only the exact words do that.
    assert!(!matrix.skip_verify_tls);
    let words = [(
        "LIVEKIT_INSECURE_SKIP_VERIFY_TLS",
        "YES_I_KNOW_WHAT_I_AM_DOING",
    )];
    assert!(with("", &words, &[]).config.matrix.skip_verify_tls);
    let none = [("LIVEKIT_FULL_ACCESS_HOMESERVERS", " , ")];
    let none = with("", &none, &[]).config.matrix.full_access_homeservers;
    assert!(none.iter().all(String::is_empty));
}
