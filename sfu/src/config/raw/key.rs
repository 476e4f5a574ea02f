//! What is known of one configuration key.

/// The type of a key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number from 0 to this.
    Uint(u64),
    /// A number with a fraction.
    Number,
    /// A port or a range of ports.
    Ports,
    /// Text.
    Text,
    /// Text that is never shown.
    Secret,
    /// A Go duration: `500ms`, `1m30s`; from flags and variables also whole nanoseconds.
    Duration,
    /// At most one IPv4 and one IPv6 address, separated by a comma.
    Addresses,
    /// A list of texts.
    Texts,
    /// Names with a text each.
    TextMap,
    /// Names with a secret each.
    SecretMap,
    /// A list of records; their fields are keys of their own, below `<path>[]`.
    Records,
    /// A subtree that is not looked into.
    Opaque,
}

impl Kind {
    /// The type in an operator's words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Bool => "true or false",
            Self::Uint(_) => "whole number",
            Self::Number => "number",
            Self::Ports => "port or range",
            Self::Text => "text",
            Self::Secret => "secret text",
            Self::Duration => "duration",
            Self::Addresses => "IP address(es)",
            Self::Texts => "list of texts",
            Self::TextMap => "map of texts",
            Self::SecretMap => "map of secrets",
            Self::Records => "list of records",
            Self::Opaque => "any",
        }
    }

    /// Has a generated flag and environment variable (LK: server ops §6.3).
    #[must_use]
    pub const fn is_scalar(self) -> bool {
        !matches!(
            self,
            Self::Texts | Self::TextMap | Self::SecretMap | Self::Records | Self::Opaque
        )
    }
}

/// What Foci makes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It does what the documentation says.
    Built,
    /// A LiveKit key that has no effect yet: a warning when set. The text says what to do instead.
    NotYet(&'static str),
    /// Accepted in silence: there is nothing to choose, for this reason.
    NoEffect(&'static str),
    /// LiveKit's older name of this key.
    AliasOf(&'static str),
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The dotted path in YAML.
    pub path: &'static str,
    /// The type.
    pub kind: Kind,
    /// The default as an operator would write it; empty for unset.
    pub default: &'static str,
    /// One line of documentation.
    pub doc: &'static str,
    /// What Foci makes of it.
    pub status: Status,
    /// SIGHUP applies a new value.
    pub reload: bool,
}

impl Key {
    /// A key that works.
    #[must_use]
    pub const fn built(
        path: &'static str,
        kind: Kind,
        default: &'static str,
        doc: &'static str,
    ) -> Self {
        Self {
            path,
            kind,
            default,
            doc,
            status: Status::Built,
            reload: false,
        }
    }

    /// A LiveKit key without effect so far.
    #[must_use]
    pub const fn not_yet(
        path: &'static str,
        kind: Kind,
        default: &'static str,
        doc: &'static str,
    ) -> Self {
        Self {
            status: Status::NotYet(""),
            ..Self::built(path, kind, default, doc)
        }
    }

    /// A LiveKit key that needs no effect, and why.
    #[must_use]
    pub const fn no_effect(path: &'static str, kind: Kind, why: &'static str) -> Self {
        Self {
            status: Status::NoEffect(why),
            ..Self::built(path, kind, "", "")
        }
    }

    /// An older name.
    #[must_use]
    pub const fn alias(path: &'static str, kind: Kind, target: &'static str) -> Self {
        Self {
            status: Status::AliasOf(target),
            ..Self::built(path, kind, "", "")
        }
    }

    /// What to do instead of setting it.
    #[must_use]
    pub const fn instead(mut self, advice: &'static str) -> Self {
        self.status = Status::NotYet(advice);
        self
    }

    /// SIGHUP applies a new value.
    #[must_use]
    pub const fn reloadable(mut self) -> Self {
        self.reload = true;
        self
    }

    /// The environment variable of a scalar key: `LIVEKIT_RTC_TCP_PORT` (LK: server ops §6.3).
    #[must_use]
    pub fn variable(&self) -> Option<String> {
        (self.kind.is_scalar() && !self.path.contains("[]")).then(|| variable_name(self.path))
    }
}

/// The variable that stands for a dotted path.
#[must_use]
pub fn variable_name(path: &str) -> String {
    format!("LIVEKIT_{}", path.replace('.', "_").to_ascii_uppercase())
}
