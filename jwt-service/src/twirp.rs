//! An SFU that is another process: what it is asked over Twirp.
//!
//! Owns where its API is, the token each call carries and how long a call may take. What an answer
//! leads to is decided by the caller: `routes` by the trait `Sfu`, and `delegation`.
//! (LK: jwt-service §6)
#![allow(
    clippy::disallowed_methods,
    reason = "shell: a token begins to be valid when the clock says so"
)]

use crate::bearer::Token;
use crate::dns::Dns;
use crate::fetch::{Ask, Fetch, FetchError};
use crate::matrix::Endpoint;
use crate::reach::Reach;
use crate::settled::{Settled, SetupError};
use crate::sfu::{DEPARTURE_TIMEOUT_S, EMPTY_TIMEOUT_S};
use http::Method;
use proto::token::{Claims, Keys, VideoGrant};
use proto::twirp;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::timeout;
use tracing::warn;

/// One call, from the look-up of the name to the last byte: a client waits for it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// A room or a participant with all that applications hang on them.
const MAX_ANSWER_BYTES: usize = 512 * 1024;

/// How long the token of a call is good for, as in the reference.
const TOKEN_LIFETIME: Duration = Duration::from_secs(6 * 3600);

/// Characters of the SFU's own words that are repeated.
const MOST_QUOTED: usize = 200;

/// The SFU's API; cheap to clone.
#[derive(Clone)]
pub struct Twirp {
    settled: Settled,
    keys: Arc<Keys>,
    fetch: Fetch,
}

/// Where the API is.
struct Api {
    endpoint: Endpoint,
    /// For the log.
    url: String,
}

impl Api {
    /// Of the SFU that clients are told as `url`: the same host, port and path, with `http` for `ws`.
    fn of(url: &str) -> Option<Self> {
        let base = match url.strip_prefix("ws") {
            Some(rest) => format!("http{rest}"),
            None => url.to_owned(),
        };
        Some(Self {
            endpoint: Endpoint::parse(&base)?,
            url: base.trim_end_matches('/').to_owned(),
        })
    }
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody has said where it is.
    #[error("no usable URL")]
    Url,
    /// It cannot be reached.
    #[error("{0}")]
    Unreachable(String, &'static str),
    /// It took too long.
    #[error("no answer within {} s", ANSWERED_WITHIN.as_secs())]
    Late,
    /// It says that there is no such thing.
    #[error("status 404: not_found")]
    NotFound,
    /// It says no.
    #[error("status {status}: {said}")]
    Refused {
        /// Of HTTP.
        status: u16,
        /// Its words, or that it is no Twirp server.
        said: String,
    },
    /// It says yes, and something that is not understood.
    #[error("the answer is not understood")]
    Answer,
    /// There is no key to sign with.
    #[error("no API key")]
    Key,
}

impl CallError {
    /// One word of where it failed.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Unreachable(_, label) => label,
            Self::Late => "timeout",
            Self::NotFound | Self::Refused { .. } => "status",
            Self::Answer => "not_understood",
            Self::Key => "key",
        }
    }
}

impl From<FetchError> for CallError {
    fn from(error: FetchError) -> Self {
        let label = error.label();
        Self::Unreachable(error.to_string(), label)
    }
}

impl Twirp {
    /// The API of the SFU whose URL is settled; [`Self::check`] judges that.
    #[must_use]
    pub fn new(settled: Settled, keys: Arc<Keys>) -> Self {
        Self {
            fetch: Fetch::new(Dns::of_system(), settled.clone()),
            settled,
            keys,
        }
    }

    /// Can the SFU be asked at the URL that clients are told?
    ///
    /// # Errors
    /// It is no such URL.
    pub fn check(url: Option<&str>) -> Result<(), SetupError> {
        let url = url.unwrap_or_default();
        let api = Api::of(url);
        api.map(|_| ())
            .ok_or_else(|| SetupError::Sfu(url.to_owned()))
    }

    fn api(&self) -> Option<Api> {
        Api::of(self.settled.config().url.as_deref()?)
    }

    /// For the log.
    fn url(&self) -> String {
        self.api().map(|api| api.url).unwrap_or_default()
    }

    /// Makes the room `alias` unless it is there. A failure is logged.
    ///
    /// # Errors
    /// Why there is no room.
    pub async fn create_room(&self, alias: &str) -> Result<(), CallError> {
        let grant = VideoGrant {
            room_create: true,
            ..VideoGrant::NONE
        };
        let body = twirp::create_room(alias, EMPTY_TIMEOUT_S, DEPARTURE_TIMEOUT_S);
        let called = self.call(twirp::CREATE_ROOM, grant, body).await;
        if let Err(error) = &called {
            warn!(
                url = format!("{}{}", self.url(), twirp::CREATE_ROOM),
                phase = error.label(),
                cause = %error,
                "cannot create the room on the SFU: its URL must lead there from here too"
            );
        }
        called.map(|_| ())
    }

    /// The sid of a participant, empty if the SFU does not say; `None` if the SFU says that there is none.
    ///
    /// # Errors
    /// Why nobody knows.
    pub async fn participant(
        &self,
        room: &str,
        identity: &str,
    ) -> Result<Option<String>, CallError> {
        let grant = VideoGrant {
            room_admin: true,
            room: room.to_owned(),
            ..VideoGrant::NONE
        };
        let body = twirp::participant(room, identity);
        match self.call(twirp::GET_PARTICIPANT, grant, body).await {
            Ok(answer) => {
                let sid = twirp::participant_sid(&answer, identity);
                sid.map(Some).ok_or(CallError::Answer)
            }
            Err(CallError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes a participant out of a room; one who is not there is out.
    ///
    /// # Errors
    /// Why he may still be there.
    pub async fn remove_participant(&self, room: &str, identity: &str) -> Result<(), CallError> {
        let grant = VideoGrant {
            room_admin: true,
            room: room.to_owned(),
            ..VideoGrant::NONE
        };
        let body = twirp::participant(room, identity);
        let answer = self.call(twirp::REMOVE_PARTICIPANT, grant, body).await;
        match answer {
            Ok(_) | Err(CallError::NotFound) => Ok(()),
            Err(error) => {
                warn!(url = self.url(), room, participant = identity, %error, "cannot take a participant out");
                Err(error)
            }
        }
    }

    /// The body of a success.
    async fn call(
        &self,
        method: &str,
        grant: VideoGrant,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, CallError> {
        let endpoint = self.api().ok_or(CallError::Url)?.endpoint;
        let path = format!("{}{method}", endpoint.prefix);
        let token = self.token(grant)?;
        let ask = Ask {
            method: Method::POST,
            path: &path,
            bearer: Some(&token),
            body: body.into(),
            content_type: twirp::CONTENT_TYPE,
        };
        let asked = self
            .fetch
            .ask(&endpoint.to, Reach::Anywhere, &ask, MAX_ANSWER_BYTES);
        let answer = timeout(ANSWERED_WITHIN, asked)
            .await
            .map_err(|_| CallError::Late)??;
        if answer.status.is_success() {
            return Ok(answer.body.into());
        }
        let status = answer.status.as_u16();
        match twirp::failure(&answer.body) {
            Some(failure) if status == 404 && failure.code == twirp::NOT_FOUND => {
                Err(CallError::NotFound)
            }
            Some(failure) => Err(CallError::Refused {
                status,
                said: quoted(&format!("{}: {}", failure.code, failure.msg)),
            }),
            None => Err(CallError::Refused {
                status,
                said: "no LiveKit API is there".into(),
            }),
        }
    }

    fn token(&self, grant: VideoGrant) -> Result<Token, CallError> {
        let claims = Claims {
            video: Some(grant),
            ..Claims::default()
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        let token = self.keys.sign(&claims, TOKEN_LIFETIME, now);
        token.map(Token::new).map_err(|_| CallError::Key)
    }
}

/// A foreign text as far as it is repeated, without control characters.
fn quoted(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(MOST_QUOTED).map(plain).collect()
}

#[cfg(test)]
mod tests;
