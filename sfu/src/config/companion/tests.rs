use super::*;
use crate::config::check::check;
use crate::config::complaint::Complaints;
use crate::config::raw::Values;

/// What every deployment sets.
const NEEDED: [(&str, &str); 4] = [
    (URL, "wss://rtc.example/livekit/sfu"),
    ("LIVEKIT_KEY", "devkey"),
    ("LIVEKIT_SECRET", "devsecret"),
    (FULL_ACCESS, "example.com"),
];

/// Files of the tests: their name is their text, `\n` and all, but for one that is not there.
fn file(path: &str) -> Result<String, String> {
    match path.strip_prefix("/run/") {
        Some(text) => Ok(text.to_owned()),
        None => Err("No such file or directory".to_owned()),
    }
}

/// Read over `yaml`, from exactly these variables.
fn read_over(yaml: &str, variables: &[(&str, &str)]) -> Result<Companion, String> {
    let (mut values, mut complaints) = (Values::default(), Complaints::default());
    values.read_yaml(yaml, "f", true, &mut complaints);
    let config = check(&mut values, &mut complaints);
    let variable = |name: &str| {
        let found = variables.iter().rev().find(|(known, _)| *known == name);
        found.map(|(_, text)| (*text).to_owned())
    };
    let environment = Environment {
        variable: &variable,
        file: &file,
    };
    environment.companion(Below {
        config: &config,
        names_homeservers: values.is_set("matrix.full_access_homeservers"),
    })
}

/// Read from what is needed and `more`, which wins.
fn read(more: &[(&str, &str)]) -> Result<Companion, String> {
    read_over("{}", &[&NEEDED, more].concat())
}

fn good(more: &[(&str, &str)]) -> Companion {
    read(more).unwrap_or_else(|error| panic!("{more:?}: {error}"))
}

fn key_and_secret(companion: &Companion) -> (&str, &str) {
    let (key, secret) = companion.keys.first().expect("a key");
    (key, secret.reveal())
}

fn bind(host: &str, port: u16) -> Bind {
    Bind {
        host: host.to_owned(),
        port,
    }
}

#[test]
fn what_is_needed_is_enough() {
    let companion = good(&[]);
    assert_eq!(key_and_secret(&companion), ("devkey", "devsecret"));
    let matrix = &companion.matrix;
    assert_eq!(matrix.url.as_deref(), Some("wss://rtc.example/livekit/sfu"));
    assert_eq!(matrix.full_access_homeservers, ["example.com"]);
    assert!(matrix.delegates() && !matrix.skip_verify_tls);
    assert_eq!(companion.bind, bind("", 8080));
    assert_eq!((companion.sanity_check, companion.level), (None, None));
    // Leaves are forgotten, and that is said.
    assert_eq!(companion.warnings.len(), 1, "{:?}", companion.warnings);
    assert_eq!(good(&[(STORE, "/v/m.redb")]).warnings, Vec::<String>::new());
}

#[test]
fn each_mistake_has_the_text_of_the_reference() {
    let unset = "LIVEKIT_KEY* / LIVEKIT_SECRET* and LIVEKIT_URL must be set";
    let rows: [(&[(&str, &str)], &str); 18] = [
        (&[(URL, "")], unset),
        (&[("LIVEKIT_KEY", "")], unset),
        (&[("LIVEKIT_SECRET", " \r\n")], unset),
        (&[("LIVEKIT_KEY_FROM_FILE", "/run/\n")], unset),
        (
            &[("LIVEKIT_KEY_FROM_FILE", "/absent")],
            "LIVEKIT_KEY_FROM_FILE: open /absent: No such file or directory",
        ),
        (
            &[("LIVEKIT_SECRET_FROM_FILE", "/absent")],
            "LIVEKIT_SECRET_FROM_FILE: open /absent: No such file or directory",
        ),
        (
            &[("LIVEKIT_KEY_FILE", "/absent")],
            "LIVEKIT_KEY_FILE: open /absent: No such file or directory",
        ),
        (
            &[("LIVEKIT_KEY_FILE", "/run/a:b:c")],
            "invalid key secret file format!",
        ),
        (
            &[("LIVEKIT_KEY_FILE", "/run/ab\n")],
            "invalid key secret file format!",
        ),
        (
            &[(FULL_ACCESS, "")],
            "LIVEKIT_FULL_ACCESS_HOMESERVERS environment variable must be set to the homeserver(s) \
             you intend to serve — see README for guidance",
        ),
        (
            &[(BIND, ":1"), (PORT, "1")],
            "LIVEKIT_JWT_BIND and LIVEKIT_JWT_PORT must not be set together",
        ),
        (
            &[(BIND, "8080")],
            "LIVEKIT_JWT_BIND: cannot listen on \"8080\", expected host:port or :port",
        ),
        (&[(PORT, "80a")], "LIVEKIT_JWT_PORT: \"80a\" is no port"),
        (
            &[(SANITY_CHECK, "-1")],
            "LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS must be a non-negative integer, got \"-1\"",
        ),
        (
            &[(CLIENT_APIS, "a.example")],
            "failed parsing LIVEKIT_CS_API_URL_OVERRIDES: invalid entry \"a.example\", expected \
             server_name=url",
        ),
        (
            &[(CLIENT_APIS, "a.example=https://a, b=synapse:8008")],
            "failed parsing LIVEKIT_CS_API_URL_OVERRIDES: invalid entry \"b=synapse:8008\", its URL \
             must begin with http:// or https:// and name a host",
        ),
        (
            &[(REDIS, "rediss://:hunter2@redis:6379")],
            "LIVEKIT_REDIS_URL: Redis over TLS is not supported; use redis:// in a network of your own, \
             or keep leaves in a file",
        ),
        (
            &[(REDIS, "redis://redis"), (STORE, "/s")],
            "FOCI_JWT_STORE and LIVEKIT_REDIS_URL must not be set together",
        ),
    ];
    for (variables, text) in rows {
        assert_eq!(read(variables).expect_err(text), text, "{variables:?}");
    }
}

#[test]
fn the_first_mistake_in_the_order_of_the_reference_is_told() {
    // Each row takes one mistake away, and the next one is told.
    let mistakes = [
        ("LIVEKIT_KEY_FILE", "/absent"),
        (URL, ""),
        (FULL_ACCESS, ""),
        (BIND, "nowhere"),
        (SANITY_CHECK, "often"),
        (CLIENT_APIS, "x"),
        (REDIS, "x"),
    ];
    for from in 0..mistakes.len() {
        let error = read(&mistakes[from..]).expect_err("a mistake");
        assert!(error.contains(mistakes[from].0), "{from}: {error}");
    }
}

#[test]
fn leaves_are_kept_where_a_variable_says_whatever_the_file_says() {
    let kept = |variables: &[(&str, &str)]| {
        let matrix = good(variables).matrix;
        let redis = matrix.redis.map(|url| url.reveal().to_owned());
        (matrix.store, redis)
    };
    assert_eq!(kept(&[]), (None, None));
    let url = "redis://:hunter2@redis:6379/1";
    assert_eq!(kept(&[(REDIS, url)]), (None, Some(url.to_owned())));
    assert_eq!(kept(&[(STORE, "/s")]), (Some("/s".into()), None));
}

#[test]
fn files_win_over_plain_variables_each_on_its_own_and_the_key_file_over_all() {
    let from_file = good(&[("LIVEKIT_KEY_FROM_FILE", "/run/ filed\r\n")]);
    assert_eq!(key_and_secret(&from_file), ("filed", "devsecret"));
    let from_file = good(&[("LIVEKIT_SECRET_FROM_FILE", "/run/deep:er\n")]);
    assert_eq!(key_and_secret(&from_file), ("devkey", "deep:er"));
    let from_file = good(&[
        ("LIVEKIT_KEY_FROM_FILE", "/absent"),
        ("LIVEKIT_KEY_FILE", "/run/key: secret\n"),
    ]);
    assert_eq!(key_and_secret(&from_file), ("key", "secret"));
    // A tab belongs to a secret.
    let tab = good(&[("LIVEKIT_SECRET", " \ttab\t ")]);
    assert_eq!(key_and_secret(&tab), ("devkey", "\ttab\t"));
}

#[test]
fn full_access_is_a_list_between_commas_and_blanks() {
    let rows: [(&str, &[&str]); 4] = [
        ("a.example,b.example:8448", &["a.example", "b.example:8448"]),
        (" a \n b,\tc,, ", &["a", "b", "c"]),
        (",", &[]),
        ("*", &["*"]),
    ];
    for (text, names) in rows {
        let matrix = good(&[(FULL_ACCESS, text)]).matrix;
        assert_eq!(matrix.full_access_homeservers, names, "{text:?}");
    }
    for star in ["*", "*,a.example"] {
        let warnings = good(&[(FULL_ACCESS, star)]).warnings;
        assert!(warnings[0].starts_with("`*`"), "{warnings:?}");
    }
}

#[test]
fn an_address_to_listen_on_is_written_as_in_go() {
    for (text, expected) in [
        (":8080", Some(bind("", 8080))),
        ("127.0.0.1:0", Some(bind("127.0.0.1", 0))),
        ("[::1]:80", Some(bind("::1", 80))),
        ("localhost:80", Some(bind("localhost", 80))),
        ("0.0.0.0:65535", Some(bind("0.0.0.0", 65535))),
        ("::1:80", None),
        ("[::1:80", None),
        (":65536", None),
        (":+80", None),
        (":", None),
        ("", None),
        ("a b:80", None),
        ("http://h:80", None),
    ] {
        assert_eq!(Bind::parse(text), expected, "{text:?}");
    }
    let companion = good(&[(PORT, "7000")]);
    assert_eq!(companion.bind, bind("", 7000));
    assert!(companion.warnings[0].contains("deprecated"));
    assert_eq!(good(&[(BIND, "[::]:9")]).bind, bind("::", 9));
}

#[test]
fn the_rest_is_read_as_in_the_reference() {
    let checked = |text| good(&[(SANITY_CHECK, text)]).sanity_check;
    assert_eq!(checked("0"), None);
    assert_eq!(checked("30"), Some(Duration::from_secs(30)));
    // Nothing adds up to more than a clock holds.
    assert!(checked("18446744073709551615") < Some(Duration::from_secs(1 << 30)));

    let apis = "a.example:8448 = https://hs.example , [::1]=http://[::1]:8008/x=y,";
    assert_eq!(
        good(&[(CLIENT_APIS, apis)]).matrix.client_apis,
        [
            ("a.example:8448".to_owned(), "https://hs.example".to_owned()),
            ("[::1]".to_owned(), "http://[::1]:8008/x=y".to_owned()),
        ]
    );

    for (text, level, noted) in [
        ("debug", Level::Debug, false),
        ("WARNING", Level::Warn, false),
        ("warn", Level::Warn, false),
        ("Error", Level::Error, false),
        ("info", Level::Info, false),
        ("loud", Level::Info, true),
        ("", Level::Info, true),
    ] {
        let companion = good(&[(LOG_LEVEL, text), (STORE, "x")]);
        assert_eq!(companion.level, Some(level), "{text}");
        assert_eq!(companion.warnings.len(), usize::from(noted), "{text}");
    }
}

#[test]
fn only_the_exact_words_switch_checking_off_and_both_ways_that_is_said() {
    for (words, off) in [
        (SKIP_WORDS, true),
        ("true", false),
        ("yes_i_know_what_i_am_doing", false),
    ] {
        let companion = good(&[(SKIP_VERIFY, words), (STORE, "x")]);
        assert_eq!(companion.matrix.skip_verify_tls, off, "{words}");
        assert_eq!(companion.warnings.len(), 1, "{words}");
    }
}

#[test]
fn a_file_gives_what_no_variable_does_and_variables_win() {
    let yaml = "
keys: {file-key: file-secret}
matrix:
  enabled: false
  url: wss://file.example
  full_access_homeservers: [file.example]
  restricted_access: publish
  store: /file.redb
  client_apis: {file.example: 'http://hs'}
";
    let of_file = read_over(yaml, &[]).expect("the file has all that is needed");
    assert_eq!(key_and_secret(&of_file), ("file-key", "file-secret"));
    assert_eq!(of_file.matrix.url.as_deref(), Some("wss://file.example"));
    assert_eq!(of_file.matrix.full_access_homeservers, ["file.example"]);
    assert_eq!(of_file.matrix.store, Some("/file.redb".into()));
    assert_eq!(of_file.matrix.client_apis[0].1, "http://hs");
    assert!(of_file.matrix.enabled, "it is all there is");

    let more = [(STORE, "/mine.redb"), (CLIENT_APIS, "b=http://b")];
    let both = read_over(yaml, &[&NEEDED[..], &more].concat()).expect("good");
    assert_eq!(key_and_secret(&both), ("devkey", "devsecret"));
    assert_eq!(
        both.matrix.url.as_deref(),
        Some("wss://rtc.example/livekit/sfu")
    );
    assert_eq!(both.matrix.full_access_homeservers, ["example.com"]);
    assert_eq!(both.matrix.store, Some("/mine.redb".into()));
    assert_eq!(both.matrix.client_apis[0].0, "b");
    let publish = crate::config::check::matrix::Restricted::Publish;
    assert_eq!(both.matrix.restricted, publish);
    // Half a pair is a mistake, not the other half of the file's.
    assert!(read_over(yaml, &[("LIVEKIT_KEY", "half")]).is_err());
    // Without names in the file a list is asked for, though it has a default.
    let short = "{keys: {k: s}, matrix: {url: 'wss://h'}}";
    let error = read_over(short, &[]).expect_err("no list");
    assert!(error.starts_with(FULL_ACCESS), "{error}");
}

#[test]
fn a_secret_is_in_no_debug_output_and_no_error() {
    let shown = format!("{:?}", good(&[("LIVEKIT_SECRET", "hunter2")]));
    assert!(!shown.contains("hunter2"), "{shown}");
    let error = read(&[("LIVEKIT_KEY_FILE", "/run/k:hunter2:x")]).expect_err("wrong");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn proxies_of_the_environment_are_told_not_to_be_used() {
    let proxy = ("HTTPS_PROXY", "http://user:hunter2@proxy:3128");
    let unused = [(STORE, "/v/m.redb"), ("http_proxy", "")];
    let told = good(&[&unused[..], &[proxy]].concat()).warnings;
    assert!(told[0].starts_with("HTTPS_PROXY: proxies are not used"));
    assert!(told.len() == 1 && !told[0].contains("hunter2"), "{told:?}");
    assert!(good(&unused).warnings.is_empty());
}
