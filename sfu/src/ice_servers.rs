//! STUN and TURN servers as clients are told of them, with names and passwords made for each
//! participant.
//!
//! Owns the forms of time-limited credentials: those of our own TURN server and those of servers
//! that share a secret with us. It knows no socket and no time. The operator's list is made at the
//! start, a join fills it in, and our TURN server asks [`Ours::password`] back. (LK: server ops §8.6,
//! §9.1, §9.6)

use crate::config::check::turn::Access;
use crate::config::keys::Secret;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proto::livekit;
use std::time::Duration;

/// A server, or several that take the same credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceServer {
    /// `stun:`, `turn:` and `turns:` URLs. (RFC 7064, RFC 7065)
    pub urls: Vec<String>,
    /// What it wants to know.
    pub credential: Credential,
}

/// What a server wants to know of who comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// What a server of somebody else wants.
    Theirs(Access),
    /// What our own server wants.
    Ours(Ours),
}

/// Credentials of our own TURN server: the name tells whose it is and until when, the password shows
/// that we said so. Every node that has the API key takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ours {
    /// Name of an API key.
    pub key: String,
    /// Its secret.
    pub secret: Secret,
    /// How long a name is good for.
    pub ttl: Duration,
}

/// Who comes to our TURN server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The participant's sid.
    pub participant: String,
    /// Unix seconds from which nothing new may be had with it.
    pub expires_unix_s: u64,
    /// What it must be signed with.
    pub password: Secret,
}

impl IceServer {
    /// The server as a participant is told of it at `unix_s`.
    #[must_use]
    pub fn for_participant(&self, sid: &str, unix_s: u64) -> livekit::IceServer {
        let (username, credential) = match &self.credential {
            Credential::Theirs(Access::Open) => Default::default(),
            Credential::Theirs(Access::Fixed { username, password }) => {
                (username.clone(), password.reveal().to_owned())
            }
            Credential::Theirs(Access::Shared { secret, ttl }) => {
                let username = format!("{}:{sid}", unix_s + ttl.as_secs());
                let password = shared_password(secret, &username);
                (username, password)
            }
            Credential::Ours(ours) => ours.for_participant(sid, unix_s),
        };
        livekit::IceServer {
            urls: self.urls.clone(),
            username,
            credential,
        }
    }
}

/// What is left of the servers for somebody who is to come by a relay that looks the least like media:
/// over TLS, and over TCP beside it. LiveKit tells of TLS alone (LK: signalling §10.1), but WebRTC as built
/// into native clients believed until the summer of 2026 the authorities on a list of its own alone, and
/// Let's Encrypt is none of them.
#[must_use]
pub fn over_streams(servers: &[IceServer]) -> Vec<IceServer> {
    // Without a transport `turns:` is TCP, and `turn:` is UDP. (RFC 7065 §3.1)
    let is_stream = |url: &&String| {
        let over_tls = url.starts_with("turns:") && !url.ends_with("transport=udp");
        over_tls || url.starts_with("turn:") && url.ends_with("transport=tcp")
    };
    let left = servers.iter().map(|server| IceServer {
        urls: server.urls.iter().filter(is_stream).cloned().collect(),
        credential: server.credential.clone(),
    });
    left.filter(|server| !server.urls.is_empty()).collect()
}

impl Ours {
    fn for_participant(&self, sid: &str, unix_s: u64) -> (String, String) {
        let expires = unix_s + self.ttl.as_secs();
        let username = URL_SAFE_NO_PAD.encode(format!("{}|{sid}|{expires}", self.key));
        let password = self.signature(&username);
        (username, password)
    }

    /// Who comes with this name; `None` if it is not one of ours.
    #[must_use]
    pub fn ticket(&self, username: &str) -> Option<Ticket> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(username).ok()?).ok()?;
        // A key may have any name: the two others are read first, which have no such character.
        let mut parts = text.rsplitn(3, '|');
        let (expires, sid, key) = (parts.next()?, parts.next()?, parts.next()?);
        if key != self.key {
            return None;
        }
        Some(Ticket {
            participant: sid.to_owned(),
            expires_unix_s: expires.parse().ok()?,
            password: Secret::new(self.signature(username)),
        })
    }

    fn signature(&self, username: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.reveal().as_bytes());
        // The API secret signs tokens, too: what is signed here can never be one of those.
        let mut context = hmac::Context::with_key(&key);
        context.update(b"foci turn\0");
        context.update(username.as_bytes());
        URL_SAFE_NO_PAD.encode(context.sign())
    }
}

/// base64 of the HMAC-SHA1 of the name. (draft-uberti-behave-turn-rest-00 §2.2)
fn shared_password(secret: &Secret, username: &str) -> String {
    let key = hmac::Key::new(
        hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        secret.reveal().as_bytes(),
    );
    STANDARD.encode(hmac::sign(&key, username.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn ours() -> Ours {
        Ours {
            key: "APIkey".into(),
            secret: Secret::new("a secret".into()),
            ttl: Duration::from_secs(600),
        }
    }

    fn told(credential: Credential) -> livekit::IceServer {
        let urls = vec!["turn:turn.example:3478?transport=udp".into()];
        IceServer { urls, credential }.for_participant("PA_1", NOW)
    }

    #[test]
    fn stun_needs_no_name_and_a_fixed_one_is_told_as_it_is() {
        let stun = told(Credential::Theirs(Access::Open));
        assert_eq!((stun.username.as_str(), stun.credential.as_str()), ("", ""));
        let fixed = told(Credential::Theirs(Access::Fixed {
            username: "u".into(),
            password: Secret::new("p".into()),
        }));
        assert_eq!(
            (fixed.username.as_str(), fixed.credential.as_str()),
            ("u", "p")
        );
        assert_eq!(fixed.urls, ["turn:turn.example:3478?transport=udp"]);
    }

    #[test]
    fn tls_and_tcp_are_left() {
        let server = |urls: &[&str]| IceServer {
            urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            credential: Credential::Theirs(Access::Open),
        };
        let [stun, udp, tcp, tls] = [
            "stun:s.example:3478",
            "turn:t.example:3478?transport=udp",
            "turn:t.example:3478?transport=tcp",
            "turns:t.example:5349?transport=tcp",
        ];
        let (plain, secure, dtls) = ("turn:t.example", "turns:t.example", "turns:a?transport=udp");
        let all = [server(&[stun]), server(&[udp, tcp, tls]), server(&[secure])];
        assert_eq!(over_streams(&all), [server(&[tcp, tls]), server(&[secure])]);
        assert_eq!(over_streams(&[server(&[stun, udp, plain, dtls])]), []);
    }

    #[test]
    fn a_shared_secret_makes_the_password_coturn_computes() {
        let told = told(Credential::Theirs(Access::Shared {
            secret: Secret::new("north".into()),
            ttl: Duration::from_secs(60),
        }));
        assert_eq!(told.username, "1700000060:PA_1");
        // printf 1700000060:PA_1 | openssl dgst -binary -sha1 -hmac north | base64
        assert_eq!(told.credential, "sYSiTrqFbe75pun0BHqymjFZB5M=");
    }

    #[test]
    fn our_own_names_come_back_with_whose_they_are_until_when_and_their_password() {
        let told = told(Credential::Ours(ours()));
        let ticket = ours().ticket(&told.username).expect("ours");
        assert_eq!(ticket.participant, "PA_1");
        assert_eq!(ticket.expires_unix_s, NOW + 600);
        assert_eq!(ticket.password.reveal(), told.credential);
    }

    #[test]
    fn a_key_may_have_any_name() {
        for key in ["a|b", "|", "1|2|3"] {
            let mut ours = ours();
            key.clone_into(&mut ours.key);
            let told = told(Credential::Ours(ours.clone()));
            let ticket = ours.ticket(&told.username).expect("ours");
            assert_eq!(ticket.participant, "PA_1", "{key}");
            assert_eq!(ticket.password.reveal(), told.credential);
        }
    }

    #[test]
    fn a_name_that_is_changed_or_of_another_key_has_another_password_or_none() {
        let told = told(Credential::Ours(ours()));
        let later = URL_SAFE_NO_PAD.encode(format!("APIkey|PA_1|{}", NOW + 601));
        let changed = ours().ticket(&later).expect("well formed");
        assert_ne!(changed.password.reveal(), told.credential);
        let mut other = ours();
        other.key = "another".into();
        assert_eq!(other.ticket(&told.username), None);
        let more = URL_SAFE_NO_PAD.encode("APIkey|PA_1|1|2");
        for username in ["", "APIkey|PA_1|1", "////", &more] {
            assert_eq!(ours().ticket(username), None, "{username}");
        }
    }

    #[test]
    fn secrets_are_in_no_debug_output() {
        let shown = format!("{:?}", Credential::Ours(ours()));
        assert!(!shown.contains("a secret"), "{shown}");
    }
}
