//! Complaints about a configuration: which key, where it was set, what is wrong, what to do.
//!
//! Owns their wording frame and their number; finding fault is for `raw` and `check`. A complaint
//! never repeats a secret.

use std::fmt;

/// Complaints kept in full; a file of another kind would otherwise drown the first in thousands.
const MOST: usize = 100;
/// Characters of a foreign text repeated in a complaint.
const MOST_QUOTED: usize = 80;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nobody set it.
    Default,
    /// Development mode's own default.
    Development,
    /// A line of a YAML text.
    Line {
        /// The file's name, or the name of the flag or variable that held the text.
        text: String,
        /// From 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Development => f.write_str("development mode"),
            Self::Line { text, line } => write!(f, "{text}:{line}"),
            Self::Variable(name) => write!(f, "${name}"),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The server does not start.
    Error,
    /// It starts, and says so.
    Warning,
}

/// One complaint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// How bad it is.
    pub severity: Severity,
    /// Where it was set.
    pub place: Place,
    /// The key, as a dotted path; empty when the whole text is meant.
    pub key: String,
    /// What is wrong.
    pub cause: String,
    /// What to do about it.
    pub fix: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.severity {
            Severity::Error => "error: ",
            Severity::Warning => "warning: ",
        })?;
        if self.place != Place::Default {
            write!(f, "{}: ", self.place)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.cause)?;
        if !self.fix.is_empty() {
            write!(f, "; {}", self.fix)?;
        }
        Ok(())
    }
}

/// All complaints about one configuration, in the order found.
#[derive(Debug, Clone, Default)]
pub struct Complaints {
    list: Vec<Complaint>,
    errors: usize,
    left_out: usize,
}

impl Complaints {
    /// Those that keep nobody from starting.
    #[must_use]
    pub fn warnings(&self) -> Self {
        let list = self.list.iter();
        let warnings = list.filter(|one| one.severity == Severity::Warning);
        Self {
            list: warnings.cloned().collect(),
            errors: 0,
            left_out: self.left_out,
        }
    }

    /// Something that keeps the server from starting.
    pub fn error(
        &mut self,
        key: &str,
        place: Place,
        cause: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.errors += 1;
        self.push(Severity::Error, key, place, cause.into(), fix.into());
    }

    /// Something the operator should know.
    pub fn warning(
        &mut self,
        key: &str,
        place: Place,
        cause: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.push(Severity::Warning, key, place, cause.into(), fix.into());
    }

    fn push(&mut self, severity: Severity, key: &str, place: Place, cause: String, fix: String) {
        if self.is_full() {
            self.left_out += 1;
            return;
        }
        self.list.push(Complaint {
            severity,
            place,
            key: quoted(key),
            cause,
            fix,
        });
    }

    /// Is another one only counted? Then the search for good advice can be spared.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.list.len() >= MOST
    }

    /// Does any of them keep the server from starting?
    #[must_use]
    pub const fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// How many errors there are, those left out included.
    #[must_use]
    pub const fn errors(&self) -> usize {
        self.errors
    }

    /// How many were only counted.
    #[must_use]
    pub const fn left_out(&self) -> usize {
        self.left_out
    }

    /// Those kept.
    #[must_use]
    pub fn list(&self) -> &[Complaint] {
        &self.list
    }
}

/// Foreign text made fit for a line of output: no control characters, not long.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out: String = text
        .chars()
        .take(MOST_QUOTED)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(MOST_QUOTED).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_names_place_key_cause_and_fix() {
        let mut complaints = Complaints::default();
        let place = Place::Line {
            text: "foci.yaml".into(),
            line: 3,
        };
        complaints.error(
            "rtc.udp_prt",
            place,
            "unknown key",
            "did you mean rtc.udp_port?",
        );
        assert_eq!(
            complaints.list()[0].to_string(),
            "error: foci.yaml:3: rtc.udp_prt: unknown key; did you mean rtc.udp_port?"
        );
    }

    #[test]
    fn complaints_beyond_the_limit_are_counted_and_still_keep_the_server_down() {
        let mut complaints = Complaints::default();
        for _ in 0..MOST {
            complaints.warning("port", Place::Default, "odd", "");
        }
        assert!(!complaints.has_errors());
        complaints.error("port", Place::Default, "bad", "");
        assert!(complaints.has_errors());
        assert_eq!((complaints.list().len(), complaints.left_out()), (MOST, 1));
    }

    #[test]
    fn foreign_text_cannot_forge_a_line() {
        assert_eq!(quoted("a\nerror: b"), "a\u{fffd}error: b");
        assert_eq!(quoted(&"x".repeat(500)).chars().count(), MOST_QUOTED + 1);
    }
}
