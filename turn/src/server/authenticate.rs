//! Who sends a request: the long-term credential of RFC 8489 §9.2, and of RFC 5389 for clients that
//! know no password algorithms.
//!
//! A wrong password is 401, whatever the nonce; a right one with an old nonce is 438. An allocation
//! keeps its keys: its later requests are known by them even when the credential has expired.
//!
//! RFC 8656 §5 wants the name that made an allocation in all requests for it, so that nobody takes it over.
//! Names that lapse are followed by others of the same user, by which a client may go on signing: what must
//! be the same is the user.

use super::Server;
use crate::address::Client;
use crate::credentials::{Keys, Reach};
use crate::message::Message;
use crate::message::algorithm::{Algorithm, OFFERED};
use crate::message::attribute::{
    NONCE, PASSWORD_ALGORITHM, PASSWORD_ALGORITHMS, REALM, USERHASH, USERNAME,
};
use crate::message::integrity::{Key, userhash};
use std::time::Instant;

/// Somebody who has proved that he knows a password.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) username: Box<str>,
    /// Whose quota.
    pub(super) user: Box<str>,
    pub(super) keys: Keys,
    /// What he chose. Who chose nothing is answered as RFC 5389 has it. (RFC 8489 §9.2.4)
    pub(super) algorithm: Option<Algorithm>,
    /// Unix seconds from which he makes no new allocation.
    pub(super) expires_unix_s: Option<u64>,
    /// Which peers he may talk with.
    pub(super) reach: Reach,
}

impl Caller {
    /// What he signs with, and is answered with.
    pub(super) const fn key(&self) -> &Key {
        self.keys.by(chosen(self.algorithm))
    }
}

/// Why somebody has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denial {
    /// No integrity: the way every client begins.
    Unsigned,
    /// An integrity without name, realm or nonce, or with a choice of algorithms that is none.
    Incomplete,
    /// A name nobody knows, or a wrong password.
    Wrong,
    /// Right, but with a nonce that is too old or another's.
    Stale,
}

/// What a request says of its sender; nothing of it is proved.
#[derive(Debug, Clone, Copy)]
struct Claim<'a> {
    name: Name<'a>,
    realm: &'a str,
    nonce: &'a [u8],
    algorithm: Option<Algorithm>,
}

#[derive(Debug, Clone, Copy)]
enum Name<'a> {
    Said(&'a str),
    Hashed(&'a [u8; 32]),
}

/// Reads the claim; `None` if it is not whole. (RFC 8489 §9.2.4, the checks that end with 400)
fn claim<'a>(message: &Message<'a>) -> Option<Claim<'a>> {
    let text = |kind| {
        let value = message.attribute(kind)?;
        std::str::from_utf8(value).ok()
    };
    let name = match (message.attribute(USERNAME), message.attribute(USERHASH)) {
        (Some(_), None) => Name::Said(text(USERNAME)?),
        (None, Some(hash)) => Name::Hashed(hash.try_into().ok()?),
        // Of two names nobody could say which was meant.
        _ => return None,
    };
    let offered = message.attribute(PASSWORD_ALGORITHMS);
    let algorithm = match (offered, message.attribute(PASSWORD_ALGORITHM)) {
        (None, None) => None,
        // The whole list comes back, or somebody cut it to have a weaker one chosen.
        (Some(offered), Some(value)) if offered == OFFERED => Some(Algorithm::of_value(value)?),
        _ => return None,
    };
    Some(Claim {
        name,
        realm: text(REALM)?,
        nonce: message.attribute(NONCE)?,
        algorithm,
    })
}

const fn chosen(algorithm: Option<Algorithm>) -> Algorithm {
    match algorithm {
        Some(algorithm) => algorithm,
        None => Algorithm::Md5,
    }
}

impl Server {
    pub(super) fn authenticate(
        &self,
        client: &Client,
        message: &Message<'_>,
        now: Instant,
    ) -> Result<Caller, Denial> {
        if !message.is_signed() {
            return Err(Denial::Unsigned);
        }
        let claim = claim(message).ok_or(Denial::Incomplete)?;
        if *claim.realm != *self.config.realm {
            return Err(Denial::Wrong);
        }
        let held = self.holder(client, &claim);
        let caller = match held {
            Some(held) => Some(held).filter(|held| message.verify(held.key())),
            None => self.known(&claim, message),
        };
        let caller = caller.ok_or(Denial::Wrong)?;
        if self.nonces.is_fresh(claim.nonce, client, now) {
            Ok(caller)
        } else {
            Err(Denial::Stale)
        }
    }

    /// Whether this client's allocation, if there is one, was made with the caller's name, or with an
    /// earlier one of his. (RFC 8656 §5)
    pub(super) fn is_of(&self, client: &Client, caller: &Caller, now: Instant) -> bool {
        let slot = self.allocations.of_client(client);
        let allocation = slot.and_then(|slot| self.allocations.at(slot));
        allocation.is_none_or(|allocation| {
            allocation.username == caller.username
                || allocation.user == caller.user && !self.has_expired(caller, now)
        })
    }

    /// Whether he makes no new allocation any more.
    pub(super) fn has_expired(&self, caller: &Caller, now: Instant) -> bool {
        let unix_s = self.config.wall.unix_s(now);
        let has_lapsed = caller.expires_unix_s.is_some_and(|end| end <= unix_s);
        has_lapsed || self.retired.has(&caller.user)
    }

    /// Whoever has this client's allocation, if that is who is claimed.
    fn holder(&self, client: &Client, claim: &Claim<'_>) -> Option<Caller> {
        let slot = self.allocations.of_client(client)?;
        let allocation = self.allocations.at(slot)?;
        let username = &allocation.username;
        let is_meant = match claim.name {
            Name::Said(name) => **username == *name,
            Name::Hashed(hash) => userhash(username, &self.config.realm) == *hash,
        };
        is_meant.then(|| Caller {
            username: username.clone(),
            user: allocation.user.clone(),
            keys: allocation.keys,
            algorithm: claim.algorithm,
            expires_unix_s: None,
            reach: allocation.reach,
        })
    }

    /// Whoever the name belongs to, if the message is signed with his password.
    fn known(&self, claim: &Claim<'_>, message: &Message<'_>) -> Option<Caller> {
        let username = match claim.name {
            Name::Said(name) => name,
            Name::Hashed(hash) => self.userhashes.name(hash)?,
        };
        let realm = &self.config.realm;
        let logins = self.config.credentials.logins(username);
        logins.into_iter().find_map(|login| {
            // One hash for whoever only guesses.
            let key = login.password.key(chosen(claim.algorithm), username, realm);
            message.verify(&key).then(|| Caller {
                username: username.into(),
                user: login.user.into(),
                keys: Keys::new(username, realm, &login.password),
                algorithm: claim.algorithm,
                expires_unix_s: login.expires_unix_s,
                reach: login.reach,
            })
        })
    }
}
