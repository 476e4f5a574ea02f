//! Access tokens, signed without the code under test.

use crate::request::Answer;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// The API key the servers of the tests are started with.
pub const KEY: &str = "testkey";
/// Its secret.
pub const SECRET: &str = "a-secret-of-the-tests-that-is-long-enough";

/// Claims that let `identity` into `room`, valid for ten minutes.
///
/// # Panics
/// When the clock stands before 1970.
#[must_use]
#[allow(
    clippy::disallowed_methods,
    reason = "a token's lifetime is in wall-clock time"
)]
pub fn claims(identity: &str, room: &str) -> Value {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    json!({
        "iss": KEY,
        "sub": identity,
        "name": identity.to_uppercase(),
        "exp": now + 600,
        "video": { "roomJoin": true, "room": room },
    })
}

/// HS256 over claims.
#[must_use]
pub fn sign(claims: &Value, secret: &str) -> String {
    let head = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, head.as_bytes());
    format!("{head}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
}

/// The claims of a token that was signed with `secret`, whatever they say.
#[must_use]
pub fn verified(token: &str, secret: &str) -> Option<Value> {
    let (head, tag) = token.rsplit_once('.')?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
    hmac::verify(&key, head.as_bytes(), &tag).ok()?;
    let payload = URL_SAFE_NO_PAD.decode(head.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// What an endpoint of MatrixRTC has issued.
#[derive(Debug)]
pub struct Issued {
    /// Where the SFU is.
    pub url: String,
    /// The token.
    pub jwt: String,
    /// What is in it.
    pub claims: Value,
}

/// Reads an answer as Element Call does.
///
/// # Panics
/// When it is a refusal, or not as Element Call can read it.
#[must_use]
pub fn issued(answer: &Answer) -> Issued {
    assert_eq!(answer.status, 200, "{answer:?}");
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    let text = |name: &str| body[name].as_str().expect("a text").to_owned();
    let (url, jwt) = (text("url"), text("jwt"));
    let payload = jwt.split('.').nth(1).expect("three parts");
    let payload = STANDARD_NO_PAD.decode(payload).expect("as atob decodes");
    let claims = serde_json::from_slice(&payload).expect("JSON");
    Issued { url, jwt, claims }
}
