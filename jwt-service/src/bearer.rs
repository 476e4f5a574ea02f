//! Secrets that two sides know: kept out of sight, and compared without telling how far they agree.
//!
//! Owns how the token of a request is read. Pure.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use http::{HeaderMap, header};
use std::fmt;

/// A token; formatting it shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Wraps a token.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// To show it to the other side; never to print.
    #[must_use]
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a request does not show the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unshown {
    /// It shows none.
    Missing,
    /// It shows another.
    Other,
}

/// Does the request show `token`?
///
/// # Errors
/// Why not.
pub fn check(headers: &HeaderMap, token: &Token) -> Result<(), Unshown> {
    let value = headers.get(header::AUTHORIZATION);
    let shown = value.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let shown = shown.filter(|shown| !shown.is_empty());
    let shown = shown.ok_or(Unshown::Missing)?;
    // Of one length, whatever was shown.
    let [ours, shown] =
        [token.0.as_bytes(), shown].map(|text| digest::digest(&digest::SHA256, text));
    verify_slices_are_equal(ours.as_ref(), shown.as_ref()).map_err(|_| Unshown::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_as_a_bearer_s_or_not_at_all() {
        let token = Token::new("hs-secret".into());
        assert!(!format!("{token:?}").contains("hs-secret"));
        let shown = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().expect("a header"));
            check(&headers, &token)
        };
        assert_eq!(shown("Bearer hs-secret"), Ok(()));
        for other in ["hs-secre", "hs-secrets", "x", " hs-secret", "***"] {
            assert_eq!(
                shown(&format!("Bearer {other}")),
                Err(Unshown::Other),
                "{other}"
            );
        }
        for missing in [
            "",
            "Bearer",
            "Bearer ",
            "hs-secret",
            "bearer hs-secret",
            "Basic hs-secret",
        ] {
            assert_eq!(shown(missing), Err(Unshown::Missing), "{missing}");
        }
        assert_eq!(check(&HeaderMap::new(), &token), Err(Unshown::Missing));
    }
}
