//! API keys and their secrets, as an operator wrote them.
//!
//! Owns the rule that a secret is never shown. Checking tokens is for `proto::token`.

use std::fmt;

/// The key of development mode (LK: server ops §7.3).
pub const DEVELOPMENT_KEY: &str = "devkey";
/// Its secret. Anyone knows it: with it the server listens on loopback only.
pub const DEVELOPMENT_SECRET: &str = "secret";

/// A secret text; formatting it shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, to sign or compare with; never to print.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// API keys in the order written, each with its secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// Key and secret.
    pub entries: Vec<(String, Secret)>,
}

impl Keys {
    /// The secret of `key`.
    #[must_use]
    pub fn secret(&self, key: &str) -> Option<&Secret> {
        self.entries
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, secret)| secret)
    }

    /// The key tokens are issued with: the first.
    #[must_use]
    pub fn first(&self) -> Option<(&str, &Secret)> {
        self.entries
            .first()
            .map(|(key, secret)| (key.as_str(), secret))
    }

    /// These are the keys everyone knows.
    #[must_use]
    pub fn are_placeholders(&self) -> bool {
        self.secret(DEVELOPMENT_KEY)
            .is_some_and(|secret| secret.reveal() == DEVELOPMENT_SECRET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_in_any_debug_output() {
        let keys = Keys {
            entries: vec![("APIabc".into(), Secret::new("hunter2hunter2".into()))],
        };
        let shown = format!("{keys:?} {keys:#?}");
        assert!(shown.contains("APIabc"));
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(
            keys.secret("APIabc").map(Secret::reveal),
            Some("hunter2hunter2")
        );
    }
}
