use super::*;
use crate::config::check::{Config, check};

const SECRET: &str = "keys: {k: 0123456789abcdef0123456789abcdef}\n";

fn judge(text: &str) -> (Config, Vec<String>) {
    let mut values = Values::default();
    let mut complaints = Complaints::default();
    values.read_yaml(&format!("{SECRET}{text}"), "f", true, &mut complaints);
    let config = check(&mut values, &mut complaints);
    let lines = complaints.list().iter().map(ToString::to_string).collect();
    (config, lines)
}

fn good(text: &str) -> Config {
    let (config, lines) = judge(text);
    assert_eq!(lines, [""; 0], "{text}");
    config
}

fn complaint(text: &str) -> String {
    let (_, lines) = judge(text);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0].clone()
}

fn listeners_of(text: &str) -> (u16, u16, u16) {
    let turn = good(text).turn;
    (turn.udp_port, turn.tcp_port, turn.tls_port)
}

#[test]
fn it_runs_on_the_ports_of_the_house_and_without_a_certificate_not_over_tls() {
    let turn = good("").turn;
    assert!(turn.enabled && !turn.configured);
    assert_eq!(listeners_of(""), (3479, 3479, 0));
    assert_eq!(turn.relay_ports.to_string(), "30000-30020");
    assert_eq!(turn.ttl, Duration::from_secs(86_400));
    let pair = "turn: {domain: t.example, cert_file: /c, key_file: /k}\n";
    let turn = good(pair).turn;
    assert_eq!((turn.tls_port, turn.advertised_tls_port), (5350, 5350));
    let pair = turn.certificate.expect("a pair");
    assert_eq!((pair.cert_file, pair.key_file), ("/c".into(), "/k".into()));
    let tls = "tls: {port: 7443, cert_file: /c, key_file: /k}\n";
    let shared = good(&format!("{tls}turn: {{domain: t.example}}\n")).turn;
    assert_eq!((shared.tls_port, shared.certificate), (5350, None));
}

#[test]
fn who_names_a_port_gets_no_other() {
    assert_eq!(listeners_of("turn: {udp_port: 3478}\n"), (3478, 0, 0));
    let tls = "turn: {domain: t, tls_port: 5349, external_tls: true}\n";
    assert_eq!(listeners_of(tls), (0, 0, 5349));
    let told = "turn: {domain: t, tls_port: 5349, advertised_tls_port: 443, external_tls: true}\n";
    assert_eq!(good(told).turn.advertised_tls_port, 443);
}

#[test]
fn clients_are_told_the_host_that_a_certificate_of_ours_must_be_for() {
    let domain = |text: &str| good(text).turn.domain;
    let acme = "acme: {domains: [rtc.example, b.example], storage: /a";
    assert_eq!(
        domain(&format!("tls: {{port: 7443, {acme}}}}}\n")),
        "rtc.example"
    );
    let pages = format!("tls: {{{acme}, challenge: http-01}}}}\n");
    assert_eq!(domain(&pages), "rtc.example", "by turn.tls_port");
    assert_eq!(
        domain(&format!("{pages}turn: {{domain: t.example}}\n")),
        "t.example"
    );
    let tls = "tls: {port: 7443, advertised_port: 443, cert_file: /c, key_file: /k}\n";
    for url in ["wss://rtc.example/livekit/sfu", "https://rtc.example:443"] {
        assert_eq!(
            domain(&format!("{tls}matrix: {{url: '{url}'}}\n")),
            "rtc.example"
        );
    }
}

#[test]
fn where_nobody_knows_the_certificate_s_host_the_operator_hears_that_clients_are_not_told() {
    let pair = "cert_file: /c, key_file: /k";
    let tls = format!("tls: {{port: 7443, advertised_port: 443, {pair}}}\n");
    let matrix = |url: &str| format!("matrix: {{url: '{url}'}}\n");
    let public = matrix("wss://rtc.example");
    for text in [
        tls.clone(),
        // Somebody else is there.
        format!("{tls}{}", matrix("wss://rtc.example:8443")),
        format!("{tls}{}", matrix("ws://rtc.example")),
        // No certificate is for an address.
        format!("{tls}{}", matrix("wss://192.0.2.1")),
        format!("{tls}{}", matrix("wss://[2001:db8::1]")),
        // Clients come to a proxy by this host.
        format!("turn: {{{pair}}}\n{public}"),
        format!("tls: {{port: 7443, advertised_port: 443, external_tls: true}}\n{public}"),
        format!("turn: {{external_tls: true}}\n{public}"),
    ] {
        let line = complaint(&text);
        assert!(line.starts_with("warning: turn.domain"), "{line}");
        let (config, _) = judge(&text);
        assert_eq!(config.turn.domain, "", "{text}");
    }
    good(&format!("{tls}turn: {{enabled: false}}\n"));
}

#[test]
fn tls_without_a_certificate_and_half_a_pair_are_refused() {
    let line = complaint("turn: {tls_port: 5349}\n");
    assert!(line.contains("turn.cert_file and turn.key_file"), "{line}");
    let line = complaint("turn: {cert_file: /c}\n");
    assert!(
        line.contains("turn.key_file") && line.contains("both"),
        "{line}"
    );
    assert_eq!(
        listeners_of("turn: {enabled: false, tls_port: 5349}\n").2,
        0
    );
}

#[test]
fn of_a_range_as_large_as_livekit_s_the_first_ports_are_used_and_it_is_said() {
    let text = "turn: {relay_range_start: 30000, relay_range_end: 40000}\n";
    let (config, lines) = judge(text);
    assert_eq!(config.turn.relay_ports.to_string(), "30000-30127");
    let [line] = lines.as_slice() else {
        panic!("{lines:?}");
    };
    let told = ["turn.relay_range_end", "10001 relay ports", "30000-30127"];
    assert!(told.iter().all(|part| line.contains(part)), "{line}");
    let text = "turn: {relay_range_start: 30000, relay_range_end: 30127}\n";
    assert_eq!(good(text).turn.relay_ports.count(), 128);
    let text = "turn: {relay_range_start: 65500, relay_range_end: 65535}\n";
    assert_eq!(good(text).turn.relay_ports.count(), 36);
}

#[test]
fn a_range_that_cannot_be_one_is_refused_and_half_of_one_is_the_usual_one() {
    let line = complaint("turn: {relay_range_start: 40, relay_range_end: 30}\n");
    assert!(line.contains("ends below"), "{line}");
    let half = good("turn: {relay_range_end: 0}\n").turn;
    assert_eq!(half.relay_ports.to_string(), "30000-30020");
    let own = good("turn: {relay_range_start: 31000, relay_range_end: 31009}\n").turn;
    assert_eq!(own.relay_ports.count(), 10);
}

#[test]
fn ports_of_the_relays_must_be_nobody_else_s() {
    let line = complaint("turn: {relay_range_start: 3400, relay_range_end: 3500}\n");
    assert!(
        line.contains("3400-3500/udp is used by turn.udp_port"),
        "{line}"
    );
}

#[test]
fn a_short_secret_is_warned_of_and_never_shown() {
    let line = complaint("turn: {static_auth_secret: abc-short}\n");
    assert!(
        line.contains("guessed") && !line.contains("abc-short"),
        "{line}"
    );
}

#[test]
fn bandwidths_are_read_and_one_in_other_units_is_warned_of() {
    let keys =
        "max_bps_per_allocation: 8000000, max_bps_per_user: 9000000, max_bps_total: 50000000";
    let limits = good(&format!("turn: {{{keys}}}\n")).turn.limits;
    let all = (limits.bps, limits.user_bps, limits.total_bps);
    assert_eq!(all, (8_000_000, 9_000_000, 50_000_000));
    let none = good("").turn.limits;
    assert_eq!((none.bps, none.user_bps, none.total_bps), (0, 0, 0));
    for key in [
        "max_bps_per_allocation",
        "max_bps_per_user",
        "max_bps_total",
    ] {
        let line = complaint(&format!("turn: {{{key}: 3000}}\n"));
        assert!(
            line.contains(key) && line.contains("bits a second"),
            "{line}"
        );
    }
}

#[test]
fn servers_of_others_become_urls_with_what_they_want_to_know() {
    let config = good(
        "rtc:\n  stun_servers: [stun.example:3478]\n  turn_servers:\n    \
         - {host: t.example, port: 443, protocol: tls, username: u, credential: p}\n    \
         - {host: '2001:db8::1', port: 3478, protocol: udp, secret: ' s ', ttl: 999999}\n",
    );
    let [fixed, shared, stun] = config.ice_servers.as_slice() else {
        panic!("{:?}", config.ice_servers);
    };
    assert_eq!(fixed.urls, ["turns:t.example:443?transport=tcp"]);
    let access = Access::Fixed {
        username: "u".into(),
        password: Secret::new("p".into()),
    };
    assert_eq!(fixed.access, access);
    assert_eq!(shared.urls, ["turn:[2001:db8::1]:3478?transport=udp"]);
    let access = Access::Shared {
        secret: Secret::new("s".into()),
        ttl: Duration::from_secs(86_400),
    };
    assert_eq!(shared.access, access);
    assert_eq!(
        (stun.urls.as_slice(), &stun.access),
        (&["stun:stun.example:3478".to_owned()][..], &Access::Open)
    );
}

#[test]
fn a_server_without_host_is_refused_and_an_odd_protocol_told() {
    let line = complaint("rtc: {turn_servers: [{port: 3478, protocol: udp}]}\n");
    assert!(line.contains("without host"), "{line}");
    let line = complaint("rtc: {turn_servers: [{host: t, port: 3478, protocol: quic}]}\n");
    assert!(line.contains("taken for tcp"), "{line}");
}

#[test]
fn a_challenge_that_is_stale_before_a_browser_can_answer_it_is_refused() {
    for text in ["0", "59s"] {
        let line = complaint(&format!("turn: {{nonce_lifetime: {text}}}\n"));
        assert!(line.contains("turn.nonce_lifetime"), "{line}");
        assert!(line.contains("set 1m or more"), "{line}");
    }
    let turn = good("turn: {nonce_lifetime: 1m}\n").turn;
    assert_eq!(turn.nonce_lifetime, Duration::from_secs(60));
}
