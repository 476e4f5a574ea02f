//! The one table of configuration keys; YAML, flags, variables, hints and documentation follow it.
//!
//! Owns the list, section by section. (LK: server ops §6.2)

mod limits;
mod matrix;
mod ops;
mod room;
mod rtc;
mod server;
mod services;
mod tls;
mod turn;

use crate::config::raw::key::{Key, Status};

/// Every part of the table, in the order of the documentation.
const PARTS: [&[Key]; 9] = [
    server::KEYS,
    tls::KEYS,
    rtc::KEYS,
    turn::KEYS,
    room::KEYS,
    limits::KEYS,
    ops::KEYS,
    matrix::KEYS,
    services::KEYS,
];

/// Every key, older names included.
pub fn all() -> impl Iterator<Item = &'static Key> {
    PARTS.iter().flat_map(|part| part.iter())
}

/// The key at `path`.
#[must_use]
pub fn find(path: &str) -> Option<&'static Key> {
    all().find(|key| key.path == path)
}

/// Is `path` a section: the beginning of longer paths?
#[must_use]
pub fn is_section(path: &str) -> bool {
    all().any(|key| {
        key.path
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

/// Every path worth proposing to someone who mistyped one: no older names, no record fields.
pub fn proposals() -> impl Iterator<Item = &'static str> {
    all()
        .filter(|key| !matches!(key.status, Status::AliasOf(_)) && !key.path.contains("[]"))
        .map(|key| key.path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::value::{self, Syntax};
    use std::collections::BTreeSet;

    #[test]
    fn no_path_stands_twice_and_none_is_a_section_too() {
        let mut seen = BTreeSet::new();
        for key in all() {
            assert!(seen.insert(key.path), "{} stands twice", key.path);
            assert!(!is_section(key.path), "{} is a section too", key.path);
        }
    }

    #[test]
    fn every_default_is_a_value_of_its_key() {
        for key in all().filter(|key| !key.default.is_empty() && key.kind.is_scalar()) {
            let read = value::parse(key.kind, key.default, Syntax::Yaml);
            assert!(read.is_ok(), "{}: {read:?}", key.path);
        }
    }

    #[test]
    fn every_key_that_works_is_documented_and_every_older_name_leads_to_one() {
        for key in all() {
            match key.status {
                Status::AliasOf(target) => {
                    let target = find(target).unwrap_or_else(|| panic!("{}", key.path));
                    assert_eq!(target.kind, key.kind, "{}", key.path);
                }
                Status::NoEffect(why) => assert!(!why.is_empty(), "{}", key.path),
                Status::Built | Status::NotYet(_) => {
                    assert!(!key.doc.is_empty(), "{}", key.path);
                }
            }
        }
    }

    #[test]
    fn no_two_keys_share_a_variable() {
        let mut seen = BTreeSet::new();
        for name in all().filter_map(Key::variable) {
            // `prometheus_port` and `prometheus.port` do, in LiveKit too, and mean the same.
            if name != "LIVEKIT_PROMETHEUS_PORT" {
                assert!(seen.insert(name.clone()), "{name}");
            }
        }
    }
}
