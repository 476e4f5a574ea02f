//! Answers: success, errors, challenges. It owns how an answer looks, not who gets which.

use super::Server;
use super::authenticate::{Caller, Denial};
use crate::address::Client;
use crate::event::{Event, Reason};
use crate::limiter::Question;
use crate::message::algorithm::OFFERED;
use crate::message::attribute::{
    CHANNEL_NUMBER, DATA, DONT_FRAGMENT, EVEN_PORT, LIFETIME, NONCE, PASSWORD_ALGORITHM,
    PASSWORD_ALGORITHMS, REALM, REQUESTED_ADDRESS_FAMILY, REQUESTED_TRANSPORT, RESERVATION_TOKEN,
    SOFTWARE, USERHASH, USERNAME, XOR_MAPPED_ADDRESS, XOR_PEER_ADDRESS,
};
use crate::message::writer::Writer;
use crate::message::{Class, Message, Method, Unknown};
use std::sync::Arc;
use std::time::Instant;

/// What must be understood and is.
const KNOWN: [u16; 14] = [
    USERNAME,
    USERHASH,
    PASSWORD_ALGORITHM,
    REALM,
    NONCE,
    CHANNEL_NUMBER,
    LIFETIME,
    XOR_PEER_ADDRESS,
    DATA,
    REQUESTED_ADDRESS_FAMILY,
    EVEN_PORT,
    REQUESTED_TRANSPORT,
    DONT_FRAGMENT,
    RESERVATION_TOKEN,
];

/// Why a request of somebody we know is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) reason: Reason,
}

impl Refusal {
    pub(super) const fn new(code: u16, reason: Reason) -> Self {
        Self { code, reason }
    }

    pub(super) const BAD: Self = Self::new(400, Reason::BadRequest);
    pub(super) const MISMATCH: Self = Self::new(437, Reason::Mismatch);
}

/// The words of the RFCs. (RFC 8489 §14.8, RFC 8656 §19)
pub(super) const fn phrase(code: u16) -> &'static str {
    match code {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        420 => "Unknown Attribute",
        437 => "Allocation Mismatch",
        438 => "Stale Nonce",
        440 => "Address Family not Supported",
        441 => "Wrong Credentials",
        442 => "Unsupported Transport Protocol",
        443 => "Peer Address Family Mismatch",
        486 => "Allocation Quota Reached",
        508 => "Insufficient Capacity",
        _ => "Server Error",
    }
}

/// The unknown attributes of a message.
pub(super) fn unknown(message: &Message<'_>) -> Unknown {
    message.unknown(&KNOWN)
}

impl Server {
    /// A Binding request: which address do you see? Nobody needs to prove who he is.
    pub(super) fn answer_binding(&mut self, client: Client, message: &Message<'_>, now: Instant) {
        if !self.may_answer(&client, Question::Binding, now) {
            return;
        }
        let unknown = unknown(message);
        if unknown.as_slice().is_empty() {
            self.stats.bindings += 1;
            self.write(client, message, None, Class::Success, |writer| {
                writer.address(XOR_MAPPED_ADDRESS, client.remote);
            });
        } else {
            self.write(client, message, None, Class::Error, |writer| {
                writer.error(420, phrase(420)).unknown(&unknown);
            });
        }
    }

    /// A request that needs a name and password.
    pub(super) fn answer_request(
        &mut self,
        client: Client,
        method: Method,
        message: &Message<'_>,
        now: Instant,
    ) {
        // Without a nonce that was told this address it may be forged, and is denied in any case: it is
        // counted before anything is computed for it.
        let nonce = message.attribute(NONCE);
        let is_there = nonce.is_some_and(|nonce| self.nonces.is_told(nonce, &client));
        if !is_there && !self.may_answer(&client, Question::Challenge, now) {
            return;
        }
        let caller = match self.authenticate(&client, message, now) {
            Ok(caller) => caller,
            Err(denial) => {
                // Whoever knows the password and has the address is told of a new nonce at any time, or
                // a forger could end his allocation.
                let counts = is_there && denial != Denial::Stale;
                if counts && !self.may_answer(&client, Question::Challenge, now) {
                    return;
                }
                return self.deny(client, message, denial, now);
            }
        };
        let unknown = unknown(message);
        if !unknown.as_slice().is_empty() {
            self.note_refusal(client, Refusal::new(420, Reason::UnknownAttribute));
            return self.write(client, message, Some(&caller), Class::Error, |writer| {
                writer.error(420, phrase(420)).unknown(&unknown);
            });
        }
        if method != Method::Allocate && !self.is_of(&client, &caller, now) {
            let refusal = Refusal::new(441, Reason::WrongCredentials);
            return self.refuse(client, message, &caller, refusal, now);
        }
        let done = match method {
            Method::Allocate => self.allocate(client, message, &caller, now),
            Method::Refresh => self.refresh(client, message, &caller, now),
            Method::CreatePermission => self.create_permission(client, message, &caller, now),
            Method::ChannelBind => self.bind_channel(client, message, &caller, now),
            // Nobody asks for these: they are indications, or need no name.
            Method::Binding | Method::Send | Method::Data => Err(Refusal::BAD),
        };
        if let Err(refusal) = done {
            self.refuse(client, message, &caller, refusal, now);
        }
    }

    fn refuse(
        &mut self,
        client: Client,
        message: &Message<'_>,
        caller: &Caller,
        refusal: Refusal,
        now: Instant,
    ) {
        self.note_refusal(client, refusal);
        if refusal.code == 401 {
            return self.challenge(client, message, 401, now);
        }
        self.write(client, message, Some(caller), Class::Error, |writer| {
            writer.error(refusal.code, phrase(refusal.code));
        });
    }

    fn note_refusal(&mut self, client: Client, refusal: Refusal) {
        self.stats.refused += 1;
        self.stats.peer_taken += u64::from(refusal.reason == Reason::PeerTaken);
        self.tell(Event::Refused {
            client,
            code: refusal.code,
            reason: refusal.reason,
        });
    }

    /// Somebody has not proved who he is.
    fn deny(&mut self, client: Client, message: &Message<'_>, denial: Denial, now: Instant) {
        let told = match denial {
            Denial::Unsigned | Denial::Stale => None,
            Denial::Incomplete => Some((400, Reason::BadRequest)),
            Denial::Wrong => Some((401, Reason::WrongPassword)),
        };
        if let Some((code, reason)) = told {
            self.stats.denied += 1;
            self.tell(Event::Refused {
                client,
                code,
                reason,
            });
        }
        match denial {
            Denial::Unsigned | Denial::Wrong => self.challenge(client, message, 401, now),
            Denial::Stale => self.challenge(client, message, 438, now),
            Denial::Incomplete => self.write(client, message, None, Class::Error, |writer| {
                writer.error(400, phrase(400));
            }),
        }
    }

    /// An error with what is needed to ask better. (RFC 8489 §9.2.4)
    fn challenge(&mut self, client: Client, message: &Message<'_>, code: u16, now: Instant) {
        let nonce = self.nonces.issue(&client, now);
        let realm = Arc::clone(&self.config.realm);
        self.write(client, message, None, Class::Error, |writer| {
            writer
                .error(code, phrase(code))
                .bytes(REALM, realm.as_bytes())
                .bytes(NONCE, &nonce)
                .bytes(PASSWORD_ALGORITHMS, &OFFERED);
        });
    }

    /// Writes an answer, signed if we know whom we talk to.
    pub(super) fn write(
        &mut self,
        client: Client,
        message: &Message<'_>,
        caller: Option<&Caller>,
        class: Class,
        fill: impl FnOnce(&mut Writer<'_>),
    ) {
        let Some(method) = message.method else {
            return;
        };
        let software = self.config.software.as_bytes();
        let done = self.outbox.answer(client, |out| {
            let mut writer = Writer::new(out, method, class, &message.transaction);
            fill(&mut writer);
            if !software.is_empty() {
                writer.bytes(SOFTWARE, software);
            }
            if let Some(caller) = caller {
                writer.sign(caller.key(), caller.algorithm.is_some());
            }
            writer.finish(message.has_fingerprint);
        });
        if !done {
            self.stats.drops.outbox += 1;
        }
    }

    fn may_answer(&mut self, client: &Client, question: Question, now: Instant) -> bool {
        let may = self.limiters.take(client, question, now);
        if !may {
            self.stats.drops.unknown_answers += 1;
        }
        may
    }
}
