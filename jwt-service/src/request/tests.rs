use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn older() -> Value {
    json!({
        "room": "!r:example.com",
        "openid_token": {
            "access_token": "tok",
            "token_type": "Bearer",
            "matrix_server_name": "example.com",
            "expires_in": 3600,
        },
        "device_id": "DEV",
    })
}

fn newer() -> Value {
    json!({
        "room_id": "!r:example.com",
        "slot_id": "m.call#ROOM",
        "openid_token": { "access_token": "tok", "matrix_server_name": "example.com" },
        "member": { "id": "m", "claimed_user_id": "@a:example.com", "claimed_device_id": "DEV" },
    })
}

fn with(mut body: Value, pointer: &str, value: Value) -> Vec<u8> {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let parent = body.pointer_mut(parent).expect("its parent");
    parent[key] = value;
    body.to_string().into_bytes()
}

fn read_older(pointer: &str, value: Value) -> Result<Asked, Refusal> {
    Asked::older(&with(older(), pointer, value))
}

fn read_newer(pointer: &str, value: Value) -> Result<Asked, Refusal> {
    Asked::newer(&with(newer(), pointer, value))
}

fn text(read: Result<Asked, Refusal>) -> String {
    read.expect_err("refused").to_string()
}

#[test]
fn complete_bodies_are_read() {
    let asked = Asked::older(older().to_string().as_bytes()).expect("read");
    assert_eq!((asked.room.as_str(), asked.slot), ("!r:example.com", None));
    assert_eq!(asked.member.device(), "DEV");
    assert_eq!(asked.open_id.access_token, "tok");
    assert!(asked.delay.is_none());
    let asked = Asked::newer(newer().to_string().as_bytes()).expect("read");
    assert_eq!(asked.slot.as_deref(), Some("m.call#ROOM"));
    assert_eq!(asked.member.device(), "DEV");
}

#[test]
fn a_device_may_be_missing_from_the_older_endpoint() {
    for absent in [json!(null), json!("")] {
        let asked = read_older("/device_id", absent).expect("read");
        assert_eq!(asked.member.device(), "");
    }
}

#[test]
fn what_is_missing_is_told_in_the_reference_s_order() {
    assert_eq!(text(Asked::older(b"{}")), "Missing room parameter");
    for pointer in ["/openid_token", "/openid_token/access_token"] {
        let refused = read_older(pointer, json!(null));
        assert_eq!(text(refused), "Missing OpenID token parameters");
    }
    let half = "The request body is missing `delay_id` or `delay_timeout`";
    assert_eq!(text(read_older("/delay_id", json!("d"))), half);
    assert_eq!(text(read_older("/delay_timeout", json!(1))), half);

    let no_room = "The request body is missing `room_id` or `slot_id`";
    assert_eq!(text(Asked::newer(b"{}")), no_room);
    assert_eq!(text(read_newer("/slot_id", json!(""))), no_room);
    for field in ["id", "claimed_user_id", "claimed_device_id"] {
        let refused = read_newer(&format!("/member/{field}"), json!(null));
        assert_eq!(
            text(refused),
            "The request body `member` is missing a `id`, `claimed_user_id` or `claimed_device_id`"
        );
    }
    for field in ["access_token", "matrix_server_name"] {
        let refused = read_newer(&format!("/openid_token/{field}"), json!(""));
        assert_eq!(
            text(refused),
            "The request body `openid_token` is missing a `access_token` or `matrix_server_name`"
        );
    }
    assert_eq!(text(read_newer("/delay_id", json!("d"))), half);
}

#[test]
fn every_complaint_about_a_value_is_bad_json() {
    for refused in [
        read_older("/room", json!("")),
        read_newer("/delay_id", json!("d")),
    ] {
        let refused = refused.expect_err("refused");
        assert_eq!(refused.status(), 400);
        assert!(refused.body().contains("M_BAD_JSON"), "{}", refused.body());
    }
}

#[test]
fn what_is_not_json_of_the_right_form_is_not_json() {
    let whole = older().to_string();
    let more = format!("{whole} x");
    let twice = format!("{whole}{whole}");
    for body in ["", "null", "[]", "1", "{", "\u{feff}{}", &more, &twice] {
        assert_eq!(
            Asked::older(body.as_bytes()),
            Err(Refusal::NotJson),
            "{body}"
        );
    }
    for (pointer, value) in [
        ("/room", json!(1)),
        ("/device_id", json!({})),
        ("/openid_token", json!("tok")),
        ("/openid_token/access_token", json!(1)),
        ("/openid_token/expires_in", json!("3600")),
        ("/openid_token/expires_in", json!(3600.5)),
        ("/delay_timeout", json!(8000.0)),
        ("/delay_timeout", json!("soon")),
        ("/delay_timeout", json!(true)),
    ] {
        let refused = read_older(pointer, value.clone());
        assert_eq!(refused, Err(Refusal::NotJson), "{pointer} {value}");
    }
    assert_eq!(Asked::older(b"{\"room\":\"\xff\"}"), Err(Refusal::NotJson));
}

#[test]
fn unknown_keys_are_ignored_wherever_they_stand() {
    assert!(read_older("/new", json!({"a": [1]})).is_ok());
    assert!(read_older("/openid_token/new", json!(1)).is_ok());
    assert!(read_newer("/member/new", json!(null)).is_ok());
    assert!(read_older("/delay_cs_api_url", json!("http://h")).is_ok());
}

#[test]
fn a_delay_is_a_number_or_a_text_and_needs_its_other_half() {
    for delay in [json!(7200), json!("7200")] {
        let mut body = older();
        body["delay_id"] = json!("d");
        let asked = Asked::older(&with(body, "/delay_timeout", delay)).expect("read");
        assert!(asked.delay.is_some());
    }
    for none in [json!(0), json!(-1), json!("0"), json!(null)] {
        assert!(
            read_older("/delay_timeout", none)
                .expect("read")
                .delay
                .is_none()
        );
    }
}

#[test]
fn a_device_that_could_be_the_port_of_another_s_server_is_refused() {
    for ambiguous in ["8448:D", "D:8448", ":D", ":"] {
        assert!(
            read_older("/device_id", json!(ambiguous)).is_err(),
            "{ambiguous}"
        );
    }
    for fine in ["8448", "D", ""] {
        assert!(read_older("/device_id", json!(fine)).is_ok(), "{fine}");
    }
}

#[test]
fn an_id_is_no_longer_than_matrix_lets_it_be() {
    let long = "The request body has an id that is longer than 255 bytes";
    let (fits, over) = (json!("x".repeat(255)), json!("x".repeat(256)));
    for pointer in ["/room", "/device_id"] {
        assert!(read_older(pointer, fits.clone()).is_ok(), "{pointer}");
        assert_eq!(text(read_older(pointer, over.clone())), long, "{pointer}");
    }
    for pointer in [
        "/room_id",
        "/slot_id",
        "/member/id",
        "/member/claimed_user_id",
        "/member/claimed_device_id",
    ] {
        assert!(read_newer(pointer, fits.clone()).is_ok(), "{pointer}");
        assert_eq!(text(read_newer(pointer, over.clone())), long, "{pointer}");
        let mut body = newer();
        (body["delay_id"], body["delay_timeout"]) = (json!("d"), json!(1));
        let refused = Asked::delegation(&with(body, pointer, over.clone()));
        assert_eq!(text(refused), long, "{pointer}");
    }
    let mut body = newer();
    body["delay_timeout"] = json!(1);
    let refused = Asked::newer(&with(body, "/delay_id", over));
    assert_eq!(text(refused), "The request body `delay_id` is no id");
}

#[test]
fn a_token_is_not_in_any_debug_output() {
    let asked = read_older("/openid_token/access_token", json!("hunter2")).expect("read");
    assert_eq!(asked.open_id.access_token, "hunter2");
    assert!(!format!("{asked:?}").contains("hunter2"));
}

proptest! {
    #[test]
    fn any_bytes_are_a_request_or_a_refusal(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Asked::older(&body);
        let _ = Asked::newer(&body);
    }
}
