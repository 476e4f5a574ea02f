use super::*;
use crate::config::{Config, Verification};
use crate::stand_in::authority::Authority;
use crate::stand_in::homeserver::{Homeserver as Server, Reply};
use proto::token::Secret;

const ALIAS: &str = "krj2dgxw2K6EOm9he4GfQJ6JsSVWfJ8a7BkyjZcSmxs";

fn keys() -> Arc<Keys> {
    let secret = Secret::new("devsecret");
    Arc::new([("devkey".to_owned(), secret)].into_iter().collect())
}

fn at(url: &str) -> Twirp {
    under(url, Config::default())
}

fn under(url: &str, config: Config) -> Twirp {
    Twirp::check(Some(url)).expect("a URL");
    let config = Config {
        url: Some(url.to_owned()),
        ..config
    };
    Twirp::new(Settled::fixed(config).expect("good"), keys())
}

/// An SFU that answers everything so.
async fn sfu(reply: Reply) -> (Server, String) {
    let server = Server::start(None, move |_| reply.clone()).await;
    let url = format!("ws://{}/livekit/sfu/", server.address);
    (server, url)
}

fn refusal(status: u16, code: &str) -> Reply {
    let body = format!(r#"{{"code":"{code}","msg":"so it is"}}"#);
    Reply::Says(status, String::new(), body)
}

/// The claims of the token that a request carried.
fn claims(asked: &crate::stand_in::homeserver::Asked) -> Claims {
    let token = asked.header("authorization").strip_prefix("Bearer ");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs();
    let claims = keys().verify(token.expect("a token"), now);
    claims.expect("signed with our key").into_inner()
}

#[tokio::test]
async fn a_room_is_made_below_the_path_of_the_url_with_a_token_that_may_do_nothing_else() {
    let (server, url) = sfu(Reply::body("")).await;
    at(&url).create_room(ALIAS).await.expect("made");
    let asked = &server.asked()[0];
    assert!(asked.head.starts_with("POST "), "{}", asked.head);
    assert_eq!(
        asked.path,
        "/livekit/sfu/twirp/livekit.RoomService/CreateRoom"
    );
    assert_eq!(asked.header("content-type"), "application/protobuf");
    assert_eq!(asked.body, twirp::create_room(ALIAS, 300, 20));
    let claims = claims(asked);
    let only = VideoGrant {
        room_create: true,
        ..VideoGrant::NONE
    };
    assert_eq!(claims.video, Some(only));
}

#[tokio::test]
async fn a_participant_is_there_or_not_or_nobody_knows() {
    let (server, url) = sfu(Reply::body("\n\u{4}PA_1")).await;
    let found = at(&url).participant("r", "alice").await;
    assert_eq!(found.expect("an answer"), Some("PA_1".into()));
    let asked = &server.asked()[0];
    assert!(asked.path.ends_with("/GetParticipant"), "{}", asked.path);
    let claims = claims(asked);
    assert!(claims.grant().room_admin && claims.grant().room == "r");
    assert!(!claims.grant().room_create && !claims.grant().room_join);

    let (_server, url) = sfu(refusal(404, "not_found")).await;
    let found = at(&url).participant("r", "alice").await;
    assert_eq!(found.expect("an answer"), None);
    // Neither a proxy's page nor another version of the API says that he is not there.
    for reply in [
        refusal(404, "bad_route"),
        refusal(500, "not_found"),
        refusal(401, "unauthenticated"),
        Reply::Says(404, String::new(), "404 page not found".into()),
        Reply::body("<html>"),
    ] {
        let (_server, url) = sfu(reply).await;
        assert!(at(&url).participant("r", "alice").await.is_err());
    }
}

#[tokio::test]
async fn a_failure_says_where_and_why() {
    let address = "127.0.0.1:1";
    let error = at(&format!("ws://{address}")).create_room(ALIAS).await;
    let error = error.expect_err("nobody is there");
    assert_eq!(error.label(), "connect");
    assert!(error.to_string().contains(address), "{error}");

    let (_server, url) = sfu(refusal(401, "unauthenticated")).await;
    let error = at(&url).create_room(ALIAS).await.expect_err("refused");
    assert_eq!(
        error.to_string(),
        "status 401: unauthenticated: so it is",
        "{error:?}"
    );
    let (_server, url) = sfu(refusal(404, "not_found")).await;
    assert!(at(&url).create_room(ALIAS).await.is_err());
}

#[tokio::test]
async fn an_sfu_that_says_nothing_is_given_up() {
    let (server, url) = sfu(Reply::Nothing).await;
    let call = tokio::spawn(async move { at(&url).create_room(ALIAS).await });
    server.was_asked.notified().await;
    // Time runs to the next timer whenever nobody has anything to do.
    tokio::time::pause();
    let error = call.await.expect("ended").expect_err("too late");
    assert_eq!(error.label(), "timeout");
}

#[tokio::test]
async fn the_certificate_of_wss_is_checked_unless_that_is_switched_off() {
    let authority = Authority::new();
    let tls = authority.acceptor(&["localhost"]);
    let server = Server::start(Some(tls), |_| Reply::body("")).await;
    let url = format!("wss://localhost:{}", server.address.port());
    let made = |config: Config| {
        let twirp = under(&url, config);
        async move { twirp.create_room(ALIAS).await }
    };
    let error = made(Config::default()).await.expect_err("not trusted");
    assert_eq!(error.label(), "tls");
    made(Config {
        ca_file: Some(authority.file().to_owned()),
        ..Config::default()
    })
    .await
    .expect("trusted");
    made(Config {
        verify_tls: Verification::Off,
        ..Config::default()
    })
    .await
    .expect("unchecked");
}

#[test]
fn what_leads_nowhere_is_told_at_the_start() {
    for url in ["rtc.example.org", "ftp://h", "wss://", "wss://h/?a", ""] {
        let told = Twirp::check(Some(url));
        assert!(matches!(told, Err(SetupError::Sfu(_))), "{url}");
    }
}
