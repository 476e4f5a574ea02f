//! What an operator writes, and what he is told.

use super::*;
use proptest::prelude::*;

fn read(text: &str) -> (Values, Vec<String>) {
    let mut values = Values::default();
    let mut complaints = Complaints::default();
    values.read_yaml(text, "foci.yaml", true, &mut complaints);
    values.resolve_aliases(&mut complaints);
    let lines = complaints.list().iter().map(ToString::to_string).collect();
    (values, lines)
}

#[test]
fn the_file_of_the_matrix_playbook_is_read_without_a_complaint() {
    let (values, complaints) = read(
        "port: 7880\nbind_addresses: [\"::\"]\nrtc:\n  tcp_port: 7881\n  udp_port: 7882\n  \
         use_external_ip: true\nturn:\n  enabled: true\n  domain: matrix.example.org\n  \
         cert_file: /c\n  key_file: /k\n  tls_port: 5350\n  udp_port: 3479\n  \
         external_tls: false\nprometheus:\n  port: 6789\n  username: u\n  password: p\n\
         keys:\n  abc: 0123456789\nlogging:\n  level: info\n  pion_level: error\n  \
         json: false\n  sample: false\n",
    );
    assert_eq!(complaints, Vec::<String>::new());
    assert_eq!(values.port("rtc.udp_port"), 0, "a range is not a number");
    assert_eq!(values.ports("rtc.udp_port"), "7882".parse().ok());
    assert_eq!(values.texts("bind_addresses"), ["::"]);
    assert_eq!(values.map("keys"), [("abc".into(), "0123456789".into())]);
    assert!(values.flag("turn.enabled"));
}

#[test]
fn every_fault_is_told_at_once_with_its_line_and_the_nearest_key() {
    let (_, complaints) = read(
        "prot: 7880\nrtc:\n  upd_port: 7882\n  pli_throttle:\n    low_quality: 500\n\
         room:\n  max_participants: many\nuse_external_ip: true\nkeys: devkey\n",
    );
    assert_eq!(
        complaints,
        [
            "error: foci.yaml:1: prot: unknown key; did you mean `port`?",
            "error: foci.yaml:3: rtc.upd_port: unknown key; did you mean `rtc.udp_port`?",
            "error: foci.yaml:5: rtc.pli_throttle.low_quality: expected a duration such as 500ms, \
             2s or 1m30s, found `500`",
            "error: foci.yaml:7: room.max_participants: expected a whole number from 0 to \
             4294967295, found `many`",
            "error: foci.yaml:8: use_external_ip: unknown key; did you mean `rtc.use_external_ip`?",
            "error: foci.yaml:9: keys: expected map of secrets, found a single value",
        ]
    );
}

#[test]
fn a_mistaken_belief_is_corrected() {
    let (_, complaints) = read("video:\n  codecs:\n    - mime: video/H264\n");
    assert!(
        complaints[0].contains("room.enabled_codecs"),
        "{complaints:?}"
    );
}

#[test]
fn a_fault_in_a_secret_does_not_repeat_it() {
    let (_, complaints) = read("keys:\n  abc: [hunter2]\nprometheus:\n  password: {hunter2: x}\n");
    assert_eq!(complaints.len(), 2);
    assert!(!complaints.concat().contains("hunter2"), "{complaints:?}");
}

#[test]
fn records_are_read_field_by_field() {
    let (values, complaints) = read(
        "room:\n  enabled_codecs:\n    - mime: audio/opus\n    - mime: video/VP8\n      \
         fmtp_lin: x\n",
    );
    let records = values.records("room.enabled_codecs").expect("set");
    assert_eq!(records.len(), 2);
    assert_eq!(
        records[1].get("mime"),
        Some(&Value::Text("video/VP8".into()))
    );
    assert!(complaints[0].starts_with("error: foci.yaml:5: room.enabled_codecs[].fmtp_lin"));
}

#[test]
fn an_older_name_sets_its_key_unless_that_is_set() {
    let (values, complaints) = read("prometheus_port: 6789\n");
    assert_eq!(values.port("prometheus.port"), 6789);
    assert!(complaints[0].starts_with("warning"), "{complaints:?}");
    let (values, _) = read("log_level: debug\nlogging: {level: warn}\n");
    assert_eq!(values.text("logging.level"), "warn");
}

#[test]
fn an_empty_section_or_value_leaves_the_default() {
    let (values, complaints) = read("rtc:\nport:\nlogging: {}\n");
    assert!(complaints.is_empty() && values.is_empty());
    assert_eq!(values.port("port"), 7880);
    assert_eq!(
        values.duration("video.dynacast_pause_delay"),
        Duration::from_secs(5)
    );
    assert_eq!(
        values.texts("prometheus.bind_addresses"),
        ["127.0.0.1", "::1"]
    );
}

#[test]
fn a_lenient_reading_turns_unknown_keys_into_warnings() {
    let mut values = Values::default();
    let mut complaints = Complaints::default();
    values.read_yaml("weather: fine\nport: 1\n", "x", false, &mut complaints);
    assert!(!complaints.has_errors());
    assert_eq!(complaints.list().len(), 1);
    assert_eq!(values.port("port"), 1);
}

#[test]
fn keys_from_a_variable_need_the_space_and_may_look_like_numbers() {
    let key = table::find("keys").expect("known");
    let place = Place::Variable("LIVEKIT_KEYS".into());
    let mut values = Values::default();
    let mut complaints = Complaints::default();
    set_text(
        &mut values,
        key,
        "devkey:hunter2",
        place.clone(),
        &mut complaints,
    );
    let line = complaints.list()[0].to_string();
    assert!(
        line.contains("including the space") && !line.contains("hunter2"),
        "{line}"
    );
    set_text(
        &mut values,
        key,
        "a: 12345\nb: true",
        place,
        &mut complaints,
    );
    assert_eq!(
        values.map("keys"),
        [("a".into(), "12345".into()), ("b".into(), "true".into())]
    );
}

proptest! {
    #[test]
    fn any_tree_is_read_or_refused_without_panic(
        text in "((port|rtc|keys|room|enabled_codecs|udp_port|x): ?(\\{|\\[|1|a|\n {0,4}|- )?){0,8}"
    ) {
        let _ = read(&text);
    }
}
