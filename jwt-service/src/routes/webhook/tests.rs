use super::*;
use crate::config::{Config, Homeserver as Configured};
use crate::leave::Leave;
use crate::settled::Settled;
use crate::stand_in::homeserver::{Homeserver, Reply};
use crate::stand_in::service;
use crate::stand_in::watch::Remembered;
use crate::watch::Watch;
use aws_lc_rs::digest;
use axum::http::{HeaderMap, Method};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tower::ServiceExt as _;

fn keys() -> Arc<Keys> {
    Arc::new(service::keys())
}

fn event(event: &str) -> String {
    format!(
        r#"{{"event":"{event}","room":{{"name":"room"}},"participant":{{"sid":"PA_1","identity":"alice"}}}}"#
    )
}

fn token(body: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let expires = now.expect("after 1970").as_secs() + 300;
    let sum = BASE64_STANDARD.encode(digest::digest(&digest::SHA256, body.as_bytes()));
    let signed = keys()
        .sign_text(|issuer| format!(r#"{{"iss":"{issuer}","exp":{expires},"sha256":"{sum}"}}"#));
    signed.expect("signed")
}

/// Sends a message; the answer must be an empty 200, and nothing that a page could read.
async fn send(delegations: Option<&Delegations>, method: Method, header: Option<&str>, body: &str) {
    let mut request = Request::builder().method(method).uri(PATH);
    if let Some(header) = header {
        request = request.header("authorization", header);
    }
    let request = request
        .body(Body::from(body.to_owned()))
        .expect("a request");
    let listeners = Listeners {
        delegations: delegations.cloned(),
        monitor: None,
    };
    let answer = router(keys(), listeners)
        .oneshot(request)
        .await
        .expect("an answer");
    let (head, body) = answer.into_parts();
    assert_eq!(head.status, 200);
    let headers: HeaderMap = head.headers;
    assert!(!headers.contains_key("access-control-allow-origin"));
    let body = to_bytes(body, 100).await.expect("a body");
    assert!(body.is_empty());
}

/// Delegations with a leave of Alice, and the homeserver that has heard of it once.
async fn started() -> (Delegations, Homeserver) {
    let homeserver = Homeserver::start(None, |_| Reply::body("{}")).await;
    let config = Config {
        client_apis: vec![Configured {
            name: "example.com".into(),
            url: format!("http://{}", homeserver.address),
        }],
        ..Config::default()
    };
    let settled = Settled::fixed(config).expect("good");
    let watch: Arc<dyn Watch> = Arc::<Remembered>::default();
    let delegations = Delegations::start(&settled, watch).expect("started");
    let leave = Leave {
        delay_id: "id".into(),
        timeout: Duration::from_secs(60),
        server: "example.com".into(),
        room: "room".into(),
        identity: "alice".into(),
        owner: None,
    };
    delegations.register(leave).await.expect("taken");
    (delegations, homeserver)
}

async fn last_of(homeserver: &Homeserver, count: usize) -> String {
    homeserver.until_asked(count).await[count - 1].path.clone()
}

#[tokio::test]
async fn a_message_of_the_sfu_is_acted_on_by_whatever_method_it_comes() {
    let (delegations, homeserver) = started().await;
    for (method, what, count, end) in [
        (Method::POST, "participant_joined", 2, "/id/restart"),
        (Method::PUT, "participant_left", 3, "/id/send"),
    ] {
        let body = event(what);
        send(Some(&delegations), method, Some(&token(&body)), &body).await;
        let path = last_of(&homeserver, count).await;
        assert!(path.ends_with(end), "{path}");
    }
}

#[tokio::test]
async fn a_message_of_anybody_else_changes_nothing_and_is_answered_alike() {
    let (delegations, homeserver) = started().await;
    let joined = event("participant_joined");
    let good = token(&joined);
    let long = format!("{joined}{}", " ".repeat(MAX_BODY_BYTES));
    for (header, body) in [
        (None, joined.as_str()),
        (Some(format!("Bearer {good}")), &joined),
        (Some(token("another body")), &joined),
        (Some(token(&long)), &long),
        (Some(token("x")), "x"),
        (Some("x".into()), ""),
    ] {
        send(Some(&delegations), Method::POST, header.as_deref(), body).await;
        send(Some(&delegations), Method::OPTIONS, header.as_deref(), body).await;
    }
    // Only this one is heard: she is not in the call yet, so leaving means nothing.
    let left = event("participant_left");
    send(Some(&delegations), Method::POST, Some(&token(&left)), &left).await;
    send(Some(&delegations), Method::POST, Some(&good), &joined).await;
    assert!(last_of(&homeserver, 2).await.ends_with("/id/restart"));
}

#[tokio::test]
async fn where_the_sfu_is_the_same_process_no_message_is_read() {
    let joined = event("participant_joined");
    send(None, Method::POST, Some(&token(&joined)), &joined).await;
    send(None, Method::GET, None, "").await;
}
