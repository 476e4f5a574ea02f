//! LiveKit access tokens: what they say, who may sign them, whether to believe them.
//!
//! Owns claims, keys and the proof that a token was verified. Never reads a clock (the time is an
//! argument) and never puts a token or a secret into an error or a log. Called by the server's
//! token look-up, by `foci token` and by the authorization service. (LK: signalling §2)

mod grant;

mod claims;

pub use claims::Claims;
pub use grant::VideoGrant;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD;
use claims::Wire;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, dangerous};
use serde::Deserialize;
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

/// How far clocks may differ, in seconds, for both `exp` and `nbf`. (LK: signalling §2.1)
pub const LEEWAY_S: u64 = 60;

/// A value that came out of a token whose signature and times were checked. Only [`Keys::verify`]
/// makes one, so a function that asks for it cannot be reached without a valid token.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// Gives up the proof and keeps the value.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Why a token was refused; always the client's fault. The text is LiveKit's answer body, sent
/// with status 401, and never contains any part of the token. (LK: signalling §1.3)
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The `Authorization` header does not begin with `Bearer `. The body ends in a space.
    #[error("invalid authorization header. Must start with Bearer ")]
    Scheme,
    /// Not a JWT.
    #[error("invalid authorization token")]
    Malformed,
    /// No such API key (`iss`).
    #[error("invalid API key")]
    UnknownKey,
    /// Signed with something else than HS256.
    #[error("invalid authorization token: unexpected signing algorithm")]
    Algorithm,
    /// Signed with another secret, or changed since.
    #[error("invalid authorization token: signature is invalid")]
    Signature,
    /// Rightly signed, but the claims are not LiveKit's.
    #[error("invalid authorization token: claims cannot be read")]
    Claims,
    /// No `exp`.
    #[error("invalid authorization token: token has no expiry (exp)")]
    NoExpiry,
    /// `exp` is past.
    #[error("invalid authorization token: token is expired (exp)")]
    Expired,
    /// `nbf` is to come.
    #[error("invalid authorization token: token not valid yet (nbf)")]
    NotYetValid,
}

/// Why a token could not be signed; never the client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// No API key is configured.
    #[error("no API key is configured")]
    NoKey,
    /// The claims have no JSON form.
    #[error("the claims cannot be written")]
    Claims,
}

/// An API secret. It is wiped from memory when dropped and has no readable `Debug`.
#[derive(Clone)]
pub struct Secret {
    signing: EncodingKey,
    verifying: DecodingKey,
}

impl Secret {
    /// A secret from its text, as configured; HMAC-SHA256 takes any length.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self {
            signing: EncodingKey::from_secret(text.as_bytes()),
            verifying: DecodingKey::from_secret(text.as_bytes()),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// The configured API keys with their secrets, in the operator's order: the first one signs.
#[derive(Debug, Clone, Default)]
pub struct Keys(Vec<(String, Secret)>);

impl FromIterator<(String, Secret)> for Keys {
    fn from_iter<I: IntoIterator<Item = (String, Secret)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

/// As much of the claims as must be read before the signature can be checked.
#[derive(Deserialize)]
struct Unverified {
    #[serde(default)]
    iss: String,
}

impl Keys {
    /// Is no key configured?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names of the API keys, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Checks shape, key, signature and times of `token`, in LiveKit's order. `now_unix` in seconds.
    ///
    /// # Errors
    /// What is wrong with the token.
    pub fn verify(&self, token: &str, now_unix: u64) -> Result<Verified<Claims>, TokenError> {
        let issuer = dangerous::insecure_decode::<Unverified>(token)
            .map_err(|_| TokenError::Malformed)?
            .claims
            .iss;
        let secret = self.secret(&issuer).ok_or(TokenError::UnknownKey)?;
        let wire = jsonwebtoken::decode::<Wire>(token, &secret.verifying, &signature_only())
            .map_err(|error| refusal(error.kind()))?
            .claims;
        let expires = wire.expires_at().ok_or(TokenError::NoExpiry)?;
        if expires.saturating_add(LEEWAY_S) < now_unix {
            return Err(TokenError::Expired);
        }
        if wire.not_before() > now_unix.saturating_add(LEEWAY_S) {
            return Err(TokenError::NotYetValid);
        }
        Ok(Verified(wire.into_claims()))
    }

    /// Signs `claims` with the first key, valid from `now_unix` (seconds) for `valid_for`.
    /// [`Claims::expires_at`] is not looked at.
    ///
    /// # Errors
    /// There is no key, or the claims cannot be written.
    pub fn sign(
        &self,
        claims: &Claims,
        valid_for: Duration,
        now_unix: u64,
    ) -> Result<String, SignError> {
        let (name, secret) = self.0.first().ok_or(SignError::NoKey)?;
        let expires = now_unix.saturating_add(valid_for.as_secs());
        let wire = Wire::new(claims.clone(), name.clone(), now_unix, expires);
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &wire, &secret.signing)
            .map_err(|_| SignError::Claims)
    }

    /// Signs a payload that `payload` writes for the name of the first key, as it is.
    ///
    /// # Errors
    /// There is no key, or it cannot sign.
    pub fn sign_text(&self, payload: impl FnOnce(&str) -> String) -> Result<String, SignError> {
        let (name, secret) = self.0.first().ok_or(SignError::NoKey)?;
        let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let body = URL_SAFE_NO_PAD.encode(payload(name));
        let message = format!("{head}.{body}");
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &secret.signing, Algorithm::HS256)
                .map_err(|_| SignError::Claims)?;
        Ok(format!("{message}.{signature}"))
    }

    fn secret(&self, name: &str) -> Option<&Secret> {
        let (_, secret) = self.0.iter().find(|(key, _)| key == name)?;
        Some(secret)
    }
}

/// Leaves the times to us: the crate would read a clock.
fn signature_only() -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

fn refusal(kind: &jsonwebtoken::errors::ErrorKind) -> TokenError {
    use jsonwebtoken::errors::ErrorKind;
    match kind {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::InvalidAlgorithm => TokenError::Algorithm,
        ErrorKind::Json(_) => TokenError::Claims,
        _ => TokenError::Malformed,
    }
}

#[cfg(test)]
mod tests;
