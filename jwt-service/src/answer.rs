//! What is answered, errors in Matrix's form; the texts are the reference's. Pure.
//! (LK: jwt-service §1.2, §2)

use serde::Serialize;
use std::time::Duration;

/// Why somebody gets no token; the `Display` text is sent to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The body is no JSON of the right form.
    #[error("Error reading request")]
    NotJson,
    /// Something is missing or senseless in it.
    #[error("{0}")]
    BadJson(&'static str),
    /// The body is too long.
    #[error("Request body too large")]
    TooLarge,
    /// The body does not come.
    #[error("Request body did not arrive in time")]
    TooSlow,
    /// He asks too often: to come again after this.
    #[error("Too many requests")]
    Limited(Duration),
    /// Too many ask at a time.
    #[error("Too many requests")]
    Busy,
    /// The homeserver does not vouch for the user, for whatever reason.
    #[error("The request could not be authorised.")]
    Unauthorized,
    /// The user's homeserver is not one whose users are served.
    #[error("Users of this homeserver are not served here")]
    Restricted,
    /// Delegation was asked for.
    #[error("Delegation of delayed events is only supported for full access users")]
    Delegation,
    /// The same at the endpoint for it.
    #[error("Delegation of delayed events is only supported for full access users")]
    DelegationForbidden,
    /// Nobody knows where the homeserver takes clients.
    #[error("Unable to resolve client-server API")]
    NoClientApi,
    /// The SFU would not make the room.
    #[error("Unable to create room on SFU")]
    Room,
    /// The process goes down.
    #[error("Service is shutting down")]
    Draining,
    /// The operator's fault: no key to sign with, or no URL to tell.
    #[error("Internal Server Error")]
    Internal,
    /// No such endpoint yet.
    #[error("Unrecognized request")]
    Unrecognized,
    /// A request of the homeserver without its token.
    #[error("Missing homeserver access token")]
    MissingToken,
    /// With another.
    #[error("Unrecognised homeserver access token")]
    UnknownToken,
    /// The homeserver does not say who asks.
    #[error("{0}")]
    Nobody(&'static str),
    /// Something in it is not what it can be.
    #[error("{0}")]
    Param(&'static str),
    /// He may not.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The homeserver asks for somebody whom we do not have.
    #[error("Not found")]
    NotFound,
    /// Not by this method.
    #[error("Unrecognized request")]
    Method,
    /// The delayed event could not be looked up.
    #[error("Unable to look up the delayed event")]
    NoDelay,
    /// Another homeserver gave no token.
    #[error("Unable to reach the specified homeserver")]
    Elsewhere,
}

/// How long whoever met a busy service should wait.
pub const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The error body. (Matrix: client-server API, Standard error response)
#[derive(Serialize)]
struct Body {
    errcode: &'static str,
    error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl Refusal {
    /// The HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::NotJson
            | Self::BadJson(_)
            | Self::Delegation
            | Self::NoClientApi
            | Self::Param(_) => 400,
            Self::Unauthorized | Self::MissingToken | Self::UnknownToken | Self::Nobody(_) => 401,
            Self::Restricted | Self::DelegationForbidden | Self::Forbidden(_) => 403,
            Self::Unrecognized | Self::NotFound => 404,
            Self::Method => 405,
            Self::TooSlow => 408,
            Self::TooLarge => 413,
            Self::Busy | Self::Limited(_) => 429,
            Self::Room | Self::Internal => 500,
            Self::Elsewhere => 502,
            Self::Draining | Self::NoDelay => 503,
        }
    }

    const fn code(self) -> &'static str {
        match self {
            Self::NotJson => "M_NOT_JSON",
            Self::BadJson(_) | Self::Delegation | Self::NoClientApi => "M_BAD_JSON",
            Self::TooLarge => "M_TOO_LARGE",
            Self::Busy | Self::Limited(_) => "M_LIMIT_EXCEEDED",
            Self::Unauthorized | Self::Nobody(_) => "M_UNAUTHORIZED",
            Self::Restricted | Self::DelegationForbidden | Self::Forbidden(_) => "M_FORBIDDEN",
            Self::Unrecognized | Self::Method => "M_UNRECOGNIZED",
            Self::MissingToken => "M_MISSING_TOKEN",
            Self::UnknownToken => "M_UNKNOWN_TOKEN",
            Self::Param(_) => "M_INVALID_PARAM",
            Self::NotFound => "M_NOT_FOUND",
            Self::TooSlow
            | Self::Room
            | Self::Draining
            | Self::Internal
            | Self::NoDelay
            | Self::Elsewhere => "M_UNKNOWN",
        }
    }

    /// One word for counters.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::BadJson(_) => "bad_json",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::Busy => "busy",
            Self::Limited(_) => "limited",
            Self::Unauthorized => "unauthorized",
            Self::Restricted => "restricted",
            Self::Delegation | Self::DelegationForbidden => "delegation",
            Self::NoClientApi => "no_client_api",
            Self::Room => "room",
            Self::Draining => "draining",
            Self::Internal => "internal",
            Self::Unrecognized | Self::Method | Self::NotFound => "unrecognized",
            Self::MissingToken | Self::UnknownToken => "hs_token",
            Self::Nobody(_) => "nobody",
            Self::Param(_) => "invalid_param",
            Self::Forbidden(_) => "forbidden",
            Self::NoDelay => "no_delay",
            Self::Elsewhere => "elsewhere",
        }
    }

    /// How long to wait before asking again, if that helps.
    #[must_use]
    pub const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Busy => Some(RETRY_AFTER),
            Self::Limited(wait) => Some(wait),
            _ => None,
        }
    }

    /// The JSON body.
    #[must_use]
    pub fn body(self) -> String {
        let body = Body {
            errcode: self.code(),
            error: self.to_string(),
            retry_after_ms: self.retry_after().map(|wait| {
                let ms = wait.as_millis();
                u64::try_from(ms).unwrap_or(u64::MAX)
            }),
        };
        // Strings and a number always have a JSON form.
        serde_json::to_string(&body).unwrap_or_default()
    }
}

/// The body of a success that has nothing to say.
pub const TAKEN: &str = "{}";

/// The body of a success.
#[must_use]
pub fn issued(url: &str, jwt: &str) -> String {
    #[derive(Serialize)]
    struct Issued<'a> {
        url: &'a str,
        jwt: &'a str,
    }
    serde_json::to_string(&Issued { url, jwt }).unwrap_or_default()
}

/// The body of a success where the URL is known.
#[must_use]
pub fn token(jwt: &str) -> String {
    #[derive(Serialize)]
    struct Issued<'a> {
        jwt: &'a str,
    }
    serde_json::to_string(&Issued { jwt }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_a_code_and_a_text() {
        assert_eq!(
            Refusal::Unauthorized.body(),
            r#"{"errcode":"M_UNAUTHORIZED","error":"The request could not be authorised."}"#
        );
        assert_eq!(
            Refusal::Busy.body(),
            r#"{"errcode":"M_LIMIT_EXCEEDED","error":"Too many requests","retry_after_ms":2000}"#
        );
    }

    #[test]
    fn a_success_is_url_and_token() {
        assert_eq!(
            issued("wss://a/b", "x.y.z"),
            r#"{"url":"wss://a/b","jwt":"x.y.z"}"#
        );
    }
}
