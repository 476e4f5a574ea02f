//! Who sends a request: the long-term credential of RFC 8489 §9.2.
//!
//! A wrong password is 401, whatever the nonce; a right one with an old nonce is 438. An allocation
//! keeps its key: its later requests are known by it even when the credential has expired.
//!
//! RFC 8656 §5 wants the name that made an allocation in all requests for it, so that nobody takes it over.
//! Names that lapse are followed by others of the same user, by which a client may go on signing: what must
//! be the same is the user.

use super::Server;
use crate::address::Client;
use crate::message::attribute::{NONCE, REALM, USERNAME};
use crate::message::integrity::Key;
use crate::message::{Message, Method};
use std::time::Instant;

/// Somebody who has proved that he knows a password.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) username: Box<str>,
    /// Whose quota.
    pub(super) user: Box<str>,
    pub(super) key: Key,
    /// Unix seconds from which he makes no new allocation.
    pub(super) expires_unix_s: Option<u64>,
}

/// Why somebody has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denial {
    /// No integrity: the way every client begins.
    Unsigned,
    /// An integrity without name, realm or nonce.
    Incomplete,
    /// A name nobody knows, or a wrong password.
    Wrong,
    /// Right, but with a nonce that is too old or another's.
    Stale,
    /// Not the name of the allocation, nor a later one of its user. (RFC 8656 §5)
    OtherName,
}

impl Server {
    pub(super) fn authenticate(
        &self,
        client: &Client,
        method: Method,
        message: &Message<'_>,
        now: Instant,
    ) -> Result<Caller, Denial> {
        if !message.is_signed() {
            return Err(Denial::Unsigned);
        }
        let text = |kind| {
            let value = message.attribute(kind)?;
            std::str::from_utf8(value).ok()
        };
        let (Some(username), Some(realm), Some(nonce)) =
            (text(USERNAME), text(REALM), message.attribute(NONCE))
        else {
            return Err(Denial::Incomplete);
        };
        if *realm != *self.config.realm {
            return Err(Denial::Wrong);
        }
        let held = self.holder(client).filter(|held| {
            // Who has allocated may have got a new credential in the meantime, for a new allocation.
            method != Method::Allocate || *held.username == *username
        });
        let caller = match held {
            Some(held) if *held.username == *username => {
                Some(held).filter(|held| message.verify(&held.key))
            }
            Some(held) => {
                let renewed = self
                    .known(username, message)
                    .filter(|caller| caller.user == held.user && !self.has_expired(caller, now));
                Some(renewed.ok_or(Denial::OtherName)?)
            }
            None => self.known(username, message),
        };
        let caller = caller.ok_or(Denial::Wrong)?;
        if self.nonces.is_fresh(nonce, client, now) {
            Ok(caller)
        } else {
            Err(Denial::Stale)
        }
    }

    /// Whether he makes no new allocation any more.
    pub(super) fn has_expired(&self, caller: &Caller, now: Instant) -> bool {
        let unix_s = self.config.wall.unix_s(now);
        caller.expires_unix_s.is_some_and(|end| end <= unix_s)
    }

    /// Whoever has this client's allocation.
    fn holder(&self, client: &Client) -> Option<Caller> {
        let slot = self.allocations.of_client(client)?;
        let allocation = self.allocations.at(slot)?;
        Some(Caller {
            username: allocation.username.clone(),
            user: allocation.user.clone(),
            key: allocation.key,
            expires_unix_s: None,
        })
    }

    /// Whoever the name belongs to, if the message is signed with his password.
    fn known(&self, username: &str, message: &Message<'_>) -> Option<Caller> {
        let logins = self.config.credentials.logins(username);
        logins.into_iter().find_map(|login| {
            let key = Key::long_term(username, &self.config.realm, login.password.expose());
            message.verify(&key).then(|| Caller {
                username: username.into(),
                user: login.user.into(),
                key,
                expires_unix_s: login.expires_unix_s,
            })
        })
    }
}
