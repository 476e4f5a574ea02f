use super::*;
use proptest::prelude::*;

fn seen(agent: &str) -> (String, String, String, String) {
    let hints = Hints {
        user_agent: Some(agent),
        address: None,
    };
    let info = complete(ClientInfo::default(), hints);
    (info.browser, info.browser_version, info.os, info.os_version)
}

fn client(browser: &str, version: &str, os: &str) -> ClientInfo {
    ClientInfo {
        browser: browser.into(),
        browser_version: version.into(),
        os: os.into(),
        ..ClientInfo::default()
    }
}

fn mimes(list: &[livekit::Codec]) -> Vec<&str> {
    list.iter().map(|codec| codec.mime.as_str()).collect()
}

#[test]
fn common_browsers_are_told_by_their_user_agent() {
    let cases = [
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36",
            ("Chrome", "139.0.0.0", "Linux", ""),
        ),
        (
            "Mozilla/5.0 (Android 14; Mobile; rv:142.0) Gecko/142.0 Firefox/142.0",
            ("Firefox Mobile", "142.0", "Android", "14"),
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.4 Safari/605.1.15",
            ("Safari", "18.4", "Mac OS X", "10.15.7"),
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_3 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.3 Mobile/15E148 Safari/604.1",
            ("Mobile Safari", "18.3", "iOS", "18.3"),
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36 Edg/139.0.0.0",
            ("Edge", "139.0.0.0", "Windows", "10.0"),
        ),
        ("livekit-rust/1.0", ("", "", "", "")),
    ];
    for (agent, (browser, version, os, os_version)) in cases {
        let expected = (browser.into(), version.into(), os.into(), os_version.into());
        assert_eq!(seen(agent), expected, "{agent}");
    }
}

#[test]
fn what_the_client_says_of_itself_stands() {
    let hints = Hints {
        user_agent: Some("Mozilla/5.0 (X11; Linux x86_64) Firefox/142.0"),
        address: Some(IpAddr::from([192, 0, 2, 1])),
    };
    let said = ClientInfo {
        address: "made up".into(),
        ..client("Chrome", "1", "Plan 9")
    };
    let info = complete(said, hints);
    assert_eq!(
        (info.browser.as_str(), info.os.as_str()),
        ("Chrome", "Plan 9")
    );
    assert_eq!(info.address, "192.0.2.1");
}

#[test]
fn safari_is_told_not_to_use_av1_and_from_18_4_not_to_publish_vp9() {
    let lists = |version| {
        configuration(&client("Safari", version, "Mac OS X"))
            .and_then(|config| config.disabled_codecs)
            .expect("lists")
    };
    assert_eq!(mimes(&lists("18.3").codecs), ["video/AV1"]);
    assert!(lists("18.3").publish.is_empty());
    for later in ["18.3.1", "18.4", "19", "26.0"] {
        assert_eq!(mimes(&lists(later).codecs), ["video/AV1"]);
        assert_eq!(mimes(&lists(later).publish), ["video/VP9"], "{later}");
    }
    assert!(lists("17.9").publish.is_empty());
}

#[test]
fn firefox_on_linux_and_android_publishes_no_h264_and_gets_one_codec() {
    for (browser, os) in [("Firefox", "Linux"), ("firefox mobile", "android")] {
        let info = client(browser, "142", os);
        let lists = configuration(&info).and_then(|config| config.disabled_codecs);
        assert_eq!(mimes(&lists.expect("lists").publish), ["video/H264"]);
        assert!(needs_one_codec_per_section(&info));
    }
    let on_windows = client("Firefox", "142", "Windows");
    assert_eq!(configuration(&on_windows), None);
    assert!(!needs_one_codec_per_section(&on_windows) && needs_outside_only(&on_windows));
    assert_eq!(configuration(&client("Chrome", "139", "Linux")), None);
}

#[test]
fn the_table_entry_of_one_phone_replaces_the_others() {
    let phone = ClientInfo {
        device_model: "Xiaomi 2201117TI".into(),
        ..client("Safari", "19", "Android")
    };
    let lists = configuration(&phone)
        .and_then(|config| config.disabled_codecs)
        .expect("lists");
    assert!(lists.codecs.is_empty());
    assert_eq!(mimes(&lists.publish), ["video/H264"]);
}

#[test]
fn red_goes_to_those_only_who_can_play_it() {
    let receives = |browser| subscribe_codecs(&client(browser, "1", "Linux"), &Codec::ALL, None);
    assert_eq!(receives("Chrome"), Codec::ALL);
    for browser in ["Firefox", "Safari", "Firefox Mobile"] {
        let all_but_red = Codec::ALL.into_iter().filter(|codec| *codec != Codec::Red);
        assert_eq!(receives(browser), all_but_red.collect::<Vec<_>>());
    }
    assert_eq!(publish_codecs(&Codec::ALL, None), Codec::ALL);
}

#[test]
fn disabled_codecs_are_not_negotiated() {
    let faults = ClientConfiguration {
        disabled_codecs: Some(DisabledCodecs {
            codecs: vec![named(&"audio/RED")],
            publish: vec![named(&"video/vp8")],
        }),
        ..ClientConfiguration::default()
    };
    let enabled = [Codec::Vp8, Codec::Opus, Codec::Red];
    assert_eq!(publish_codecs(&enabled, Some(&faults)), [Codec::Opus]);
    let received = subscribe_codecs(&ClientInfo::default(), &enabled, Some(&faults));
    assert_eq!(received, [Codec::Vp8, Codec::Opus]);
}

proptest! {
    #[test]
    fn any_user_agent_is_read_without_panic(agent in ".*", version in ".*") {
        let _ = seen(&agent);
        let _ = seen(&format!("Version/{agent} Safari/ Chrome/{version}"));
        let _ = is_later(&version, &agent);
    }
}
