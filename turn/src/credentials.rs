//! Who may allocate: static names, time-limited names of a shared secret, names the embedder knows.
//!
//! Owns how a username becomes a password and an end of validity; knows nothing of nonces or
//! messages. The server asks it when an allocation is made, and for that allocation again only when it is
//! spoken of under another name.

use crate::message::algorithm::Algorithm;
use crate::message::integrity::{Key, userhash};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Longest username looked at. (RFC 8489 §14.3: fewer than 509 bytes)
pub const USERNAME_MAX: usize = 508;
/// Secrets that hold at once: the present one and those that are being replaced.
pub const SECRETS_MAX: usize = 4;

/// A password or shared secret: never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret in.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// The key of this password.
    pub(crate) fn key(&self, algorithm: Algorithm, username: &str, realm: &str) -> Key {
        Key::made_with(algorithm, username, realm, &self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Which peers a user may talk with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All that the policy lets in.
    Peers,
    /// Our SFU, nobody else. Not even relays: who may open the ways between them can keep them from others.
    Ours,
}

/// What is known of a username.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// What it must be signed with.
    pub password: Secret,
    /// Whose quota it counts to: several usernames may be one user.
    pub user: String,
    /// Unix seconds from which no allocation is made with it any more. Those made live on.
    pub expires_unix_s: Option<u64>,
    /// Which peers its allocations may talk with.
    pub reach: Reach,
}

/// Usernames that the embedder knows. Called for each signed request of a client that has no allocation
/// under that name, whatever it asks for and however often: it must be quick, and must not wait.
pub type Lookup = Arc<dyn Fn(&str) -> Option<Login> + Send + Sync>;

/// All there are.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Names with a fixed password.
    pub fixed: Vec<(String, Secret)>,
    /// Secrets shared with whoever hands out names of the form `<unix expiry>[:<user>]`: a
    /// homeserver, for one. (coturn's `use-auth-secret`, draft-uberti-behave-turn-rest) At most
    /// [`SECRETS_MAX`] are tried.
    pub shared: Vec<Secret>,
    /// Names the embedder knows; asked before the shared secrets.
    pub lookup: Option<Lookup>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("fixed", &self.fixed.len())
            .field("shared", &self.shared.len())
            .field("lookup", &self.lookup.is_some())
            .finish()
    }
}

impl Credentials {
    /// All passwords a username may be signed with: one, but for secrets that are being replaced.
    #[must_use]
    pub fn logins(&self, username: &str) -> Vec<Login> {
        if username.is_empty() || username.len() > USERNAME_MAX {
            return Vec::new();
        }
        if let Some((name, password)) = self.fixed.iter().find(|(name, _)| name == username) {
            return vec![Login {
                password: password.clone(),
                user: name.clone(),
                expires_unix_s: None,
                reach: Reach::Peers,
            }];
        }
        if let Some(login) = self.lookup.as_ref().and_then(|lookup| lookup(username)) {
            return vec![login];
        }
        self.of_shared(username)
    }

    /// Whether a hash of a name tells us whose it is. Names of a shared secret and of the embedder are
    /// unknown until they are said, and no hash can be turned back.
    pub(crate) fn can_be_anonymous(&self) -> bool {
        !self.fixed.is_empty() && self.shared.is_empty() && self.lookup.is_none()
    }

    fn of_shared(&self, username: &str) -> Vec<Login> {
        let (expiry, user) = match username.split_once(':') {
            Some((expiry, user)) if !user.is_empty() => (expiry, user),
            Some((expiry, _)) => (expiry, username),
            None => (username, username),
        };
        let Ok(expires) = expiry.parse::<u64>() else {
            return Vec::new();
        };
        let logins = self.shared.iter().take(SECRETS_MAX).map(|secret| Login {
            password: password_of(secret, username),
            user: user.to_owned(),
            expires_unix_s: Some(expires),
            reach: Reach::Peers,
        });
        logins.collect()
    }
}

/// The keys of a name and its password, by each algorithm: a client chooses anew with each challenge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys {
    md5: Key,
    sha256: Key,
}

impl Keys {
    pub(crate) fn new(username: &str, realm: &str, password: &Secret) -> Self {
        Self {
            md5: password.key(Algorithm::Md5, username, realm),
            sha256: password.key(Algorithm::Sha256, username, realm),
        }
    }

    pub(crate) const fn by(&self, algorithm: Algorithm) -> &Key {
        match algorithm {
            Algorithm::Md5 => &self.md5,
            Algorithm::Sha256 => &self.sha256,
        }
    }
}

/// Names by their hash, as clients that hide them say them. (RFC 8489 §14.4)
#[derive(Debug, Default)]
pub(crate) struct Userhashes(BTreeMap<[u8; 32], Box<str>>);

impl Userhashes {
    /// Of all names that are known beforehand: time-limited ones are not.
    pub(crate) fn of(credentials: &Credentials, realm: &str) -> Self {
        let names = credentials.fixed.iter().map(|(name, _)| name.as_str());
        Self(
            names
                .map(|name| (userhash(name, realm), name.into()))
                .collect(),
        )
    }

    pub(crate) fn name(&self, hash: &[u8; 32]) -> Option<&str> {
        self.0.get(hash).map(|name| &**name)
    }
}

/// The password of a time-limited name: base64 of the HMAC-SHA1 of the name under the secret.
#[must_use]
pub fn password_of(secret: &Secret, username: &str) -> Secret {
    let key = hmac::Key::new(
        hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        secret.expose().as_bytes(),
    );
    Secret(STANDARD.encode(hmac::sign(&key, username.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        Credentials {
            fixed: vec![("alice".into(), Secret::new("wonder"))],
            shared: vec![Secret::new("north"), Secret::new("south")],
            lookup: Some(Arc::new(|name| {
                (name == "participant").then(|| Login {
                    password: Secret::new("ticket"),
                    user: "PA_1".into(),
                    expires_unix_s: Some(7),
                    reach: Reach::Ours,
                })
            })),
        }
    }

    #[test]
    fn a_shared_secret_makes_the_password_coturn_makes() {
        // `turnutils_uclient -W north -u 1700000000:bob`, taken from coturn's own arithmetic:
        // echo -n 1700000000:bob | openssl dgst -binary -sha1 -hmac north | openssl base64
        let logins = credentials().logins("1700000000:bob");
        assert_eq!(logins.len(), 2);
        assert_eq!(logins[0].password.expose(), "7tNSWpJ3gOxGfEgOjt+kaWhBC20=");
        assert_eq!(
            (logins[0].user.as_str(), logins[0].expires_unix_s),
            ("bob", Some(1_700_000_000))
        );
    }

    #[test]
    fn each_kind_of_name_is_found_and_no_other() {
        let all = credentials();
        assert_eq!(all.logins("alice")[0].password.expose(), "wonder");
        assert_eq!(all.logins("participant")[0].user, "PA_1");
        assert_eq!(all.logins("1700000000")[0].user, "1700000000");
        assert_eq!(all.logins("mallory"), []);
        assert_eq!(all.logins(""), []);
        assert_eq!(all.logins(&"1".repeat(509)), []);
        assert_eq!(all.logins("17x:bob"), []);
    }

    #[test]
    fn no_secret_is_in_any_debug_output() {
        let all = credentials();
        let text = format!("{all:?} {:?} {:?}", all.fixed, all.logins("alice"));
        assert!(
            !text.contains("wonder") && !text.contains("north"),
            "{text}"
        );
    }
}
