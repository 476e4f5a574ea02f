//! Who somebody is in which LiveKit room, and the claims that say so.
//!
//! Owns the hashes and the exact text of a token's payload. Pure: time is an argument, signing is
//! for `proto::token`. Called by `routes`. (LK: jwt-service §3, §5)

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;

/// The slot of a call that takes up the whole Matrix room; what the older endpoint means.
pub const ROOM_SLOT: &str = "m.call#ROOM";

/// A participant in a room of the SFU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The participant's identity.
    pub identity: String,
    /// The SFU's name of the room.
    pub alias: String,
}

impl Grant {
    /// Of the older endpoint: the identity is plain text.
    #[must_use]
    pub fn plain(user: &str, device: &str, room: &str) -> Self {
        Self {
            identity: format!("{user}:{device}"),
            alias: hash(&[room, ROOM_SLOT]),
        }
    }

    /// Of the newer endpoint: the identity tells nobody who it is. `member` is user, device and
    /// member id.
    #[must_use]
    pub fn hashed(member: [&str; 3], room: &str, slot: &str) -> Self {
        Self {
            identity: hash(&member),
            alias: hash(&[room, slot]),
        }
    }

    /// Where the homeserver speaks for its users: a member of a call is told by user and member id.
    /// (MSC4195; LK: jwt-service §3)
    #[must_use]
    pub fn proxied(member: [&str; 2], room: &str, slot: &str) -> Self {
        Self {
            identity: hash(&member),
            alias: hash(&[room, slot]),
        }
    }

    /// The payload of a token issued by the key `issuer` at `now_unix` (seconds), good for `terms`, as
    /// JSON in which only such characters occur that a client can decode with `atob`.
    #[must_use]
    pub fn payload(&self, issuer: &str, now_unix: u64, terms: Terms) -> String {
        let claims = Claims {
            iss: issuer,
            sub: &self.identity,
            exp: now_unix.saturating_add(terms.lifetime.as_secs()),
            nbf: now_unix,
            iat: now_unix,
            identity: &self.identity,
            video: Video {
                room_join: true,
                room: &self.alias,
                can_publish: terms.publishes,
                can_subscribe: true,
                can_update_own_metadata: true,
            },
        };
        atob_safe(&json(&claims))
    }
}

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How long it may be used to connect. LiveKit renews it for those who are in.
    pub lifetime: Duration,
    /// Its owner may send media and data.
    pub publishes: bool,
}

/// The claims in the order of the reference; their text is compared by its tests.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    exp: u64,
    nbf: u64,
    iat: u64,
    identity: &'a str,
    video: Video<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Video<'a> {
    room_join: bool,
    room: &'a str,
    can_publish: bool,
    can_subscribe: bool,
    can_update_own_metadata: bool,
}

/// SHA-256 over a JSON array of strings without blanks, as 43 characters of base64. Element Call
/// hashes what `JSON.stringify` writes, and so does this.
fn hash(parts: &[&str]) -> String {
    let sum = digest::digest(&digest::SHA256, json(&parts).as_bytes());
    BASE64_STANDARD_NO_PAD.encode(sum)
}

/// Strings, numbers and flags always have a JSON form.
fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Element Call decodes a payload with `atob`, which knows neither `-` nor `_`. base64url of ASCII
/// holds these only where `>`, `?`, `~` or DEL stand at every third place, and in JSON those stand
/// in strings only: there they can be escaped.
fn atob_safe(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && !matches!(c, '>' | '?' | '~' | '\x7f') {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use proptest::prelude::*;
    use proto::token::{Keys, Secret};

    #[test]
    fn hashes_are_those_of_the_clients() {
        let vectors: [(&[&str], &str); 8] = [
            (
                &["@alice:example.com", "memberABC"],
                "M3VnsLXrkbxIDINXO64u8PZzFyD9ZYFiQULR2dshWYs",
            ),
            (
                &["!roomid:example.com", "slot1234"],
                "O8437W3+jmzMVjoIP3tNwbm+XxHQk2iKpOA7aqw3qSc",
            ),
            (
                &["@alice:example.com", "DEVICE123", "memberABC"],
                "J+T45tGruxc+HrUOqJJlyQSV33m728Cme4+vt8/SWrU",
            ),
            (
                &["!room:example.com", "m.call#ROOM"],
                "krj2dgxw2K6EOm9he4GfQJ6JsSVWfJ8a7BkyjZcSmxs",
            ),
            (
                &["!room:example.com", "m.call#"],
                "hrQ0l3fv1RI0sCBUn3Nu59Bu/b3f7hWXbMLLfFMLNOY",
            ),
            (
                &["@alice:example.com", "DEVICE", "member-1"],
                "vYVt8NUMTb0rAawkFqilcAtxKgY26U3Ab7R9INviNnU",
            ),
            (
                &["@alice:example.com", "DÉV", "mémber"],
                "eQil/8Il4pXBNnW5wSv7wACfeucMjCYeXvujjt29etk",
            ),
            (
                &["@a&b:example.com", "D<1>", "m"],
                "2BzI1mmiJY/hhvfiMSMAbUNjWuqhyKcUFZ5JrBP1yeo",
            ),
        ];
        for (parts, expected) in vectors {
            assert_eq!(hash(parts), expected, "{parts:?}");
        }
    }

    const FULL: Terms = Terms {
        lifetime: Duration::from_secs(3600),
        publishes: true,
    };

    #[test]
    fn terms_are_in_the_claims() {
        let grant = Grant::plain("@alice:example.com", "DEVICE", "!room:example.com");
        let terms = Terms {
            lifetime: Duration::from_secs(60),
            publishes: false,
        };
        let payload = grant.payload("devkey", 1000, terms);
        let read: serde_json::Value = serde_json::from_str(&payload).expect("JSON");
        assert_eq!(read["exp"], 1060);
        assert_eq!(read["video"]["canPublish"], false);
        assert_eq!(read["video"]["canSubscribe"], true);
    }

    fn signed(grant: &Grant) -> String {
        let keys: Keys = [("devkey".to_owned(), Secret::new("devsecret"))]
            .into_iter()
            .collect();
        keys.sign_text(|issuer| grant.payload(issuer, 1_700_000_000, FULL))
            .expect("signed")
    }

    #[test]
    fn the_newer_token_is_the_vector() {
        let member = ["@alice:example.com", "DEVICE123", "memberABC"];
        let grant = Grant::hashed(member, "!roomid:example.com", "slot1234");
        assert_eq!(
            grant.payload("devkey", 1_700_000_000, FULL),
            r#"{"iss":"devkey","sub":"J+T45tGruxc+HrUOqJJlyQSV33m728Cme4+vt8/SWrU","exp":1700003600,"nbf":1700000000,"iat":1700000000,"identity":"J+T45tGruxc+HrUOqJJlyQSV33m728Cme4+vt8/SWrU","video":{"roomJoin":true,"room":"O8437W3+jmzMVjoIP3tNwbm+XxHQk2iKpOA7aqw3qSc","canPublish":true,"canSubscribe":true,"canUpdateOwnMetadata":true}}"#
        );
        let token = signed(&grant);
        let (_, signature) = token.rsplit_once('.').expect("three parts");
        assert_eq!(signature, "-_gPpeNryfTlNOa5Tbz6Od7RIlrADJZXFmHaswNCVp4");
    }

    #[test]
    fn the_older_token_is_the_vector() {
        let grant = Grant::plain("@alice:example.com", "DEVICE", "!room:example.com");
        assert_eq!(
            grant.payload("devkey", 1_700_000_000, FULL),
            r#"{"iss":"devkey","sub":"@alice:example.com:DEVICE","exp":1700003600,"nbf":1700000000,"iat":1700000000,"identity":"@alice:example.com:DEVICE","video":{"roomJoin":true,"room":"krj2dgxw2K6EOm9he4GfQJ6JsSVWfJ8a7BkyjZcSmxs","canPublish":true,"canSubscribe":true,"canUpdateOwnMetadata":true}}"#
        );
        let token = signed(&grant);
        let (_, signature) = token.rsplit_once('.').expect("three parts");
        assert_eq!(signature, "cmKpckMKlxN9CentvGzpSPk3b93NIIFUz2cSR2P920I");
    }

    #[test]
    fn both_endpoints_lead_into_one_room() {
        let older = Grant::plain("@a:b.example", "D", "!r");
        let newer = Grant::hashed(["@a:b.example", "D", "m"], "!r", ROOM_SLOT);
        assert_eq!(older.alias, newer.alias);
    }

    proptest! {
        #[test]
        fn any_payload_can_be_decoded_with_atob(
            user in "[\\PC>?~\u{7f}\"\\\\]{0,40}",
            device in ".{0,20}",
            issuer in ".{0,20}",
        ) {
            let grant = Grant::plain(&user, &device, "!r");
            let payload = grant.payload(&issuer, 1_700_000_000, FULL);
            let encoded = BASE64_URL_SAFE_NO_PAD.encode(&payload);
            prop_assert!(!encoded.contains(['-', '_']), "{}", payload);
            let read: serde_json::Value = serde_json::from_str(&payload).expect("JSON");
            prop_assert_eq!(&read["sub"], &format!("{user}:{device}"));
            prop_assert_eq!(&read["iss"], &issuer);
        }
    }
}
